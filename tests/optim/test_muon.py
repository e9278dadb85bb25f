from __future__ import annotations

import pytest
import torch
from torch.optim._muon import _zeropower_via_newtonschulz

from groundup.optim import muon as muon_file
from groundup.optim.muon import GroupedMuon, MuonConfig, muon, newton_schulz

SHAPES = [(16, 16), (40, 16), (16, 40), (16, 16), (40, 16), (8, 24)]
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def parameters() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def train(optimizer: torch.optim.Optimizer, members: list[torch.nn.Parameter], steps: int = 3) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for member in members:
            member.grad = torch.randn(member.shape, generator=generator)
        optimizer.step()


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("stack_elements", [2**24, 700])
def test_grouped_muon_is_torchs_muon(
    monkeypatch: pytest.MonkeyPatch, nesterov: bool, adjust: str, stack_elements: int
) -> None:
    monkeypatch.setattr(muon_file, "STACK_ELEMENTS", stack_elements)
    settings = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.9, "nesterov": nesterov, "adjust_lr_fn": adjust}
    ours, theirs = parameters(), parameters()
    train(GroupedMuon(ours, **settings), ours)
    train(torch.optim.Muon(theirs, **settings), theirs)
    for mine, other, start in zip(ours, theirs, parameters()):
        moved = (other - start).norm()
        assert (mine - other).norm() < 0.02 * moved  # both round to bfloat16, in another order


def test_updates_are_nearly_orthogonal() -> None:
    stack = torch.randn(3, 16, 40, generator=torch.Generator().manual_seed(0)).bfloat16()
    values = torch.linalg.svdvals(newton_schulz(stack, COEFFICIENTS, 5).float())
    assert values.min() > 0.5 and values.max() < 1.35
    alone = _zeropower_via_newtonschulz(stack[1].float(), COEFFICIENTS, 5, 1e-7)
    torch.testing.assert_close(newton_schulz(stack, COEFFICIENTS, 5)[1], alone, atol=0.02, rtol=0.05)


def test_parameters_without_a_gradient_stay() -> None:
    members = parameters()
    optimizer = GroupedMuon(members, lr=0.1, weight_decay=0.5)
    members[0].grad = torch.randn(SHAPES[0])
    before = [member.detach().clone() for member in members]
    optimizer.step()
    assert (members[0] != before[0]).any()
    assert all((member == other).all() for member, other in zip(members[1:], before[1:]))
    GroupedMuon(parameters(), lr=0.1).step()


def test_a_zero_gradient_gives_no_nan() -> None:
    members = parameters()
    optimizer = GroupedMuon(members, lr=0.1, weight_decay=0.0)
    for member in members:
        member.grad = torch.zeros_like(member)
    optimizer.step()
    assert all((member == start).all() for member, start in zip(members, parameters()))


def test_the_config_reaches_the_optimizer() -> None:
    config = MuonConfig(learning_rate=0.05, momentum=0.8, nesterov=False, newton_schulz_steps=3, weight_decay=0.2)
    (group,) = muon(config, [("w", torch.nn.Parameter(torch.ones(2, 3)))]).param_groups
    wanted = {"lr": 0.05, "base_learning_rate": 0.05, "momentum": 0.8, "nesterov": False, "ns_steps": 3}
    assert wanted.items() <= group.items() and group["weight_decay"] == 0.2 and group["adjust_lr_fn"] == "original"
