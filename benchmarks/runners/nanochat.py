"""nanochat's model, optimizer and schedules, from a folder that the reader names, in a minimal loop.

From its scripts/base_train.py: the compiled model, MuonAdamW by `setup_optimizer`, rates by the square root of the
batch, weight decay by batch and size, warm-up of 40 steps, linear decay over the last 65 % to 5 %, momentum and weight
decay by step. On a CPU it would take fp32; bf16 is its best setting found. Full attention in every layer, as its
runs/runcpu.sh has it. Its own data loader and CUDA parts are left out.
"""

from __future__ import annotations

import math
import os
import sys
from contextlib import redirect_stdout
from typing import Any

import torch
from benchmarks.runners.session import Session, run

BATCH_REFERENCE = 2**19
RATES = {"unembedding_lr": 0.008, "embedding_lr": 0.3, "scalar_lr": 0.5, "matrix_lr": 0.02}
WEIGHT_DECAY = 0.28
SCHEDULE = {"kind": "wsd", "decay_fraction": 0.65, "final_fraction": 0.05, "warmup_steps": 40}
MOMENTUM_WARMUP_STEPS = 400
REFERENCE = {"n_layer": 12, "n_embd": 768, "n_head": 6, "n_kv_head": 6, "window_pattern": "L"}
"""The model that its rates were tuned on (d12, with its default vocabulary)."""


class Nanochat:
    """GPT from the folder's `nanochat.gpt`, with untied tables and value embeddings on top of the job's size."""

    def __init__(self, session: Session) -> None:
        size, settings = session.size, session.settings
        os.environ["NANOCHAT_DTYPE"] = "bfloat16"
        sys.path.insert(0, session.job["folder"])
        # It reads the variable when it is imported, and lies where the job says.
        from nanochat.gpt import GPT, GPTConfig

        self.session = session
        fields = {
            "sequence_len": size.context_length,
            "vocab_size": size.vocab_size,
            "window_pattern": "L",
        }
        heads = {"n_head": size.num_heads, "n_kv_head": size.num_heads}
        with redirect_stdout(sys.stderr):
            layers = settings.get("num_layers", size.num_layers)
            self.original = _build(GPT, GPTConfig(n_layer=layers, n_embd=size.hidden_size, **heads, **fields))
            with torch.device("meta"):
                reference = GPT(
                    GPTConfig(n_layer=12, n_embd=768, n_head=6, n_kv_head=6, **{**fields, "vocab_size": 32768})
                )
            self.optimizer, self.weight_decay = self._optimizer(reference)
        session.schedule = SCHEDULE
        self.model = torch.compile(self.original, dynamic=False)

    def _optimizer(self, reference: Any) -> tuple[torch.optim.Optimizer, float]:
        if self.session.settings.get("optimizer") == "adamw":
            optimizer = torch.optim.AdamW(self.original.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True)
            for group in optimizer.param_groups:
                group["initial_lr"], group["kind"] = group["lr"], "adamw"
            return optimizer, 0.0
        batch = self.session.rows * self.session.size.context_length / BATCH_REFERENCE
        scale = math.sqrt(batch) * self.session.settings.get("rate_multiplier", 1.0)
        decay = WEIGHT_DECAY * math.sqrt(batch) * _scaling_parameters(reference) / _scaling_parameters(self.original)
        rates = {name: rate * scale for name, rate in RATES.items()}
        return self.original.setup_optimizer(weight_decay=decay, **rates), decay

    def step(self, tokens: torch.Tensor, factor: float, progress: float) -> object:
        """One update as in base_train.py."""
        loss = self.model(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
        loss.backward()
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
            if group["kind"] == "muon":
                group["momentum"] = _momentum(self.session.step, progress)
                group["weight_decay"] = self.weight_decay * 0.5 * (1 + math.cos(math.pi * progress))
        self.optimizer.step()
        self.original.zero_grad(set_to_none=True)
        return loss.item()

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """Uncompiled."""
        return self.original(tokens)

    def facts(self) -> dict[str, Any]:
        """Sizes; value embeddings are parameters but no matrix products."""
        parameters = sum(p.numel() for p in self.original.parameters())
        return {"parameters": parameters, "matmul_parameters": self.original.num_matmul_params()}


def _build(kind: Any, config: Any) -> Any:
    with torch.device("meta"):
        model = kind(config)
    model.to_empty(device="cpu")
    model.init_weights()
    return model


def _scaling_parameters(model: Any) -> int:
    counts = model.num_scaling_params()
    return int(counts["transformer_matrices"] + counts["lm_head"])


def _momentum(step: int, progress: float) -> float:
    """Up from 0.85 to 0.97 over 400 steps, down to 0.90 while the rate decays (by the part of the budget gone)."""
    if step < MOMENTUM_WARMUP_STEPS:
        part = step / MOMENTUM_WARMUP_STEPS
        return (1 - part) * 0.85 + part * 0.97
    gone = max(0.0, progress - (1 - SCHEDULE["decay_fraction"])) / SCHEDULE["decay_fraction"]
    return 0.97 * (1 - gone) + 0.90 * gone


if __name__ == "__main__":
    run(Nanochat)
