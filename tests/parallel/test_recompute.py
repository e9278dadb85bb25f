from __future__ import annotations

import torch

from groundup.models import DecoderConfig, build_model
from groundup.parallel.recompute import recompute_blocks

CONFIG = DecoderConfig(context_length=16, num_layers=3, hidden_size=16, num_heads=2, num_kv_heads=1, ffn_size=24)


def losses_and_gradients(recompute: bool) -> tuple[list[torch.Tensor], list[str], int]:
    model = build_model(CONFIG, 31)
    model.initialise(0)
    if recompute:
        recompute_blocks(model.blocks())
    saved: list[int] = []
    tokens = torch.randint(0, 31, (2, 16), generator=torch.Generator().manual_seed(0))

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        sums, _ = model(tokens, targets=tokens)
    sums.sum().backward()
    names = [name for name, _ in model.named_parameters()]
    return [sums.detach(), *(p.grad for p in model.parameters() if p.grad is not None)], names, sum(saved)


def test_recomputation_changes_memory_only() -> None:
    plain, names, saved = losses_and_gradients(recompute=False)
    again, same_names, saved_less = losses_and_gradients(recompute=True)
    assert names == same_names
    assert all((mine == other).all() for mine, other in zip(plain, again))
    assert saved_less < saved / 2
