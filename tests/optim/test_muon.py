from __future__ import annotations

import pytest
import torch

from groundup.optim.muon import MuonConfig, muon


def test_the_config_reaches_the_optimizer() -> None:
    config = MuonConfig(learning_rate=0.05, momentum=0.8, nesterov=False, newton_schulz_steps=3, weight_decay=0.2)
    (group,) = muon(config, [("w", torch.nn.Parameter(torch.ones(2, 3)))]).param_groups
    wanted = {"lr": 0.05, "base_learning_rate": 0.05, "momentum": 0.8, "nesterov": False, "ns_steps": 3}
    assert wanted.items() <= group.items() and group["weight_decay"] == 0.2 and group["adjust_lr_fn"] == "original"


@pytest.mark.parametrize("shape", [(24, 24), (48, 24), (24, 48)])
def test_the_update_is_nearly_orthogonal_and_of_the_stated_size(shape: tuple[int, int]) -> None:
    matrix = torch.nn.Parameter(torch.zeros(shape))
    matrix.grad = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 100
    muon(MuonConfig(learning_rate=0.1, weight_decay=0.0), [("w", matrix)]).step()
    values = torch.linalg.svdvals(matrix.detach()) / (0.1 * max(1, shape[0] / shape[1]) ** 0.5)
    assert values.min() > 0.5 and values.max() < 1.35


def test_only_matrices_are_taken() -> None:
    with pytest.raises(ValueError, match="2D"):
        muon(MuonConfig(), [("gain", torch.nn.Parameter(torch.ones(3)))])
