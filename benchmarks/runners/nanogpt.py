"""nanoGPT's model and `configure_optimizers`, from a folder that the reader names, in a minimal loop.

Its train.py wants its own data layout, and on a CPU it trains in fp32; here bf16 autocast is used as well, its best
setting found. The model is GPT-2's (GELU of 4 * hidden_size, learned positions), at the same layers and width.
"""

from __future__ import annotations

import importlib.util
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from benchmarks.runners.session import Session, run

FUSED = "cuda"
"""The device that nanoGPT is told so that it takes torch's fused AdamW, which works on a CPU as well."""


class NanoGPT:
    """GPT from `model.py` in the folder."""

    def __init__(self, session: Session) -> None:
        size, settings = session.size, session.settings
        source = _load(Path(session.job["folder"]) / "model.py")
        config = source.GPTConfig(
            block_size=size.context_length,
            vocab_size=size.vocab_size,
            n_layer=size.num_layers,
            n_head=size.num_heads,
            n_embd=size.hidden_size,
            dropout=0.0,
            bias=False,
        )
        self.bf16 = settings["bf16"]
        with redirect_stdout(sys.stderr):
            self.original = source.GPT(config)
            self.optimizer = self.original.configure_optimizers(0.1, 6e-4, (0.9, 0.95), FUSED)
        self.model = torch.compile(self.original) if settings["compile"] else self.original

    def _autocast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bf16)

    def step(self, tokens: torch.Tensor, factor: float, progress: float) -> object:
        """One update as in train.py: autocast, backward, clip at 1, AdamW."""
        with self._autocast():
            _, loss = self.model(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.original.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """All positions (the model gives them only when it has targets)."""
        with self._autocast():
            return self.original(tokens, tokens)[0]

    def facts(self) -> dict[str, Any]:
        """Sizes; the table of positions is in no matrix product."""
        parameters = sum(p.numel() for p in self.original.parameters())
        matrices = sum(p.numel() for p in self.original.parameters() if p.ndim == 2)
        return {
            "parameters": parameters,
            "matmul_parameters": matrices - self.original.transformer.wpe.weight.numel(),
        }


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("nanogpt_model", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    run(NanoGPT)
