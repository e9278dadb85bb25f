"""LitGPT's model, loss and optimizer as its `pretrain` sets them up, in a minimal loop; through Lightning Fabric.

Its own data modules and checkpoints are left out. Same order as litgpt.pretrain: compile, Fabric, AdamW, clip at 1.
"""

from __future__ import annotations

from typing import Any

import lightning
import torch
from benchmarks.runners.session import Session, run
from litgpt.config import Config
from litgpt.model import GPT
from litgpt.pretrain import initialize_weights
from litgpt.utils import chunked_cross_entropy, instantiate_torch_optimizer


class LitGPT:
    """A Llama-shaped LitGPT model with a tied table."""

    def __init__(self, session: Session) -> None:
        size, settings = session.size, session.settings
        precision = "bf16-mixed" if settings["bf16"] else "32-true"
        self.fabric = lightning.Fabric(accelerator="cpu", devices=1, precision=precision)
        self.fabric.seed_everything(session.job["seed"], verbose=False)
        config = Config(
            block_size=size.context_length,
            n_layer=size.num_layers,
            n_embd=size.hidden_size,
            n_head=size.num_heads,
            padded_vocab_size=size.vocab_size,
            vocab_size=size.vocab_size,
            intermediate_size=size.ffn_size,
            rotary_percentage=1.0,
            parallel_residual=False,
            bias=False,
            norm_class_name="RMSNorm",
            mlp_class_name="LLaMAMLP",
        )
        with self.fabric.init_module(empty_init=False):
            model = GPT(config)
        initialize_weights(self.fabric, model, n_layer=size.num_layers, n_embd=size.hidden_size)
        model.transformer.wte.weight = model.lm_head.weight
        model.max_seq_length = size.context_length
        self.original = model
        self.model = self.fabric.setup(torch.compile(model) if settings["compile"] else model)
        optimizer = instantiate_torch_optimizer("AdamW", self.model.parameters(), fused=settings["fused"])
        self.optimizer = self.fabric.setup_optimizers(optimizer)
        self.matmul_parameters = size.matmul_parameters()

    def step(self, tokens: torch.Tensor, factor: float, progress: float) -> object:
        """One update at the optimizer's default rate."""
        logits = self.model(tokens[:, :-1].contiguous())
        loss = chunked_cross_entropy(logits, tokens[:, 1:].contiguous())
        self.fabric.backward(loss)
        self.fabric.clip_gradients(self.model, self.optimizer, max_norm=1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """Uncompiled, in the training precision."""
        with self.fabric.autocast():
            return self.original(tokens)

    def facts(self) -> dict[str, Any]:
        """Sizes."""
        parameters = sum(p.numel() for p in self.original.parameters())
        return {"parameters": parameters, "matmul_parameters": self.matmul_parameters}


if __name__ == "__main__":
    run(LitGPT)
