from __future__ import annotations

import pytest
import torch

from groundup.kernels import ops
from groundup.optim import muon as module
from groundup.optim.groups import Named
from groundup.optim.muon import MuonConfig, block_shape, muon, orthogonal


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def moved(config: MuonConfig, gradients: list[torch.Tensor], start: torch.Tensor) -> torch.Tensor:
    matrix = torch.nn.Parameter(start.clone())
    optimizer = muon(config, [Named("w", matrix, "matrix")])
    for gradient in gradients:
        matrix.grad = gradient.clone()
        optimizer.step()
    return matrix.detach()


@pytest.mark.parametrize("shape", [(24, 24), (48, 24), (24, 48), (64, 32), (32, 96)])
def test_the_update_is_nearly_orthogonal_and_of_the_stated_size(shape: tuple[int, int]) -> None:
    update = moved(MuonConfig(learning_rate=0.1, weight_decay=0.0), [random(*shape) * 100], torch.zeros(shape))
    values = torch.linalg.svdvals(update) / (0.1 * max(1, shape[0] / shape[1]) ** 0.5)
    # A square matrix of random numbers has one direction that is nearly lost; five iterations do not bring it back.
    assert values[:-1].min() > 0.5 and values.max() < 1.35


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_weight_decay_and_rate_follow_the_formula(nesterov: bool) -> None:
    config = MuonConfig(learning_rate=0.05, momentum=0.8, nesterov=nesterov, newton_schulz_steps=3, weight_decay=0.2)
    gradients = [random(6, 4), random(6, 4) * 0.3 + 1]
    wanted, momentum = random(6, 4), torch.zeros(6, 4)
    start = wanted.clone()
    for gradient in gradients:
        momentum = 0.8 * momentum + 0.2 * gradient
        direction = 0.2 * gradient + 0.8 * momentum if nesterov else momentum
        wanted = wanted * (1 - 0.05 * 0.2) - 0.05 * (6 / 4) ** 0.5 * orthogonal(direction[None], 3)[0]
    assert torch.allclose(moved(config, gradients, start), wanted, atol=1e-3)


def test_update_sizes_of_both_rules() -> None:
    gradient, zeros = random(16, 64), torch.zeros(16, 64)
    original = moved(MuonConfig(learning_rate=0.1, weight_decay=0.0), [gradient], zeros)
    matched = moved(MuonConfig(learning_rate=0.1, weight_decay=0.0, adjust_rate="match_rms_adamw"), [gradient], zeros)
    assert torch.allclose(matched, original * 0.2 * 8, atol=1e-6)


def test_blocks_are_orthogonalised_by_themselves() -> None:
    gradient = random(48, 32)
    whole = moved(MuonConfig(learning_rate=1.0, weight_decay=0.0, block_rows=16), [gradient], torch.zeros(48, 32))
    parts = [
        moved(MuonConfig(learning_rate=1.0, weight_decay=0.0), [part], torch.zeros(16, 32))
        for part in gradient.split(16)
    ]
    assert torch.equal(whole, torch.cat(parts))


def test_block_rows_divide_the_matrix() -> None:
    assert block_shape(torch.Size((384, 100)), 0) == (384, 100)
    assert block_shape(torch.Size((384, 100)), 64) == (64, 100)
    assert block_shape(torch.Size((100, 8)), 64) == (50, 8)
    assert block_shape(torch.Size((7, 8)), 64) == (7, 8)


@pytest.mark.parametrize("shape", [(3, 64, 96), (1, 16, 32), (2, 112, 160), (2, 160, 64)])
def test_kernel_and_products_agree(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    if not ops.usable():
        pytest.skip(f"kernels: {ops.why_not()}")
    found = orthogonal(random(*shape), 5)
    monkeypatch.setattr(module.ops, "can_orthogonalise", lambda *shape: False)
    wanted = orthogonal(random(*shape), 5)
    assert found.shape == wanted.shape and found.dtype == wanted.dtype == torch.float32
    assert float((found - wanted).norm() / wanted.norm()) < 0.06


def test_a_gradient_of_zeros_moves_nothing() -> None:
    assert torch.equal(moved(MuonConfig(weight_decay=0.0), [torch.zeros(16, 32)], random(16, 32)), random(16, 32))


def test_only_matrices_are_taken() -> None:
    with pytest.raises(ValueError, match="2D"):
        muon(MuonConfig(), [Named("gain", torch.nn.Parameter(torch.ones(3)), "matrix")])
