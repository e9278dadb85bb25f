"""Tuning a part of the weights: what a checkpoint holds, what moves, and the same result however it is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from groundup.errors import RecipeError
from groundup.models import DoRAConfig, FullTuning, LoRAConfig, TuneConfig, build_model
from groundup.models.adapters import MARK
from groundup.optim import LayersConfig, MuonConfig
from groundup.parallel.fake import fake_world
from groundup.train import checkpoint
from groundup.train.state import TrainState
from groundup.train.step import train_step
from tests.train import toys

WAYS: dict[str, dict[str, Any]] = {
    "lora": {"tune": LoRAConfig(rank=2, alpha=8)},
    "dora": {"tune": DoRAConfig(rank=2, alpha=8)},
    "nf4": {"tune": LoRAConfig(rank=2, alpha=8, base="nf4")},
    "upper layer": {"layers": LayersConfig(trained_layers=1)},
    "adapters of the upper layer": {"tune": LoRAConfig(rank=2), "layers": LayersConfig(trained_layers=1)},
}


def start() -> dict[str, torch.Tensor]:
    """Weights of a phase before."""
    model = build_model(toys.MODEL, toys.VOCAB_SIZE)
    model.initialise(8)
    return {name: p.detach() for name, p in model.named_parameters()}


def stepped(state: TrainState, first: int, end: int) -> None:
    data = toys.mixture()
    for number in range(first, end):
        batch = data.batch(number, 0, 8)
        train_step(state, [batch], toys.objectives(), learning_rate_factor=1.0, max_grad_norm=1.0)


@pytest.mark.parametrize("way", WAYS)
def test_a_checkpoint_holds_what_learns_and_resumes_to_the_bit(tmp_path: Path, way: str) -> None:
    whole = toys.state(toys.training(), start=start(), **WAYS[way])
    stepped(whole, 0, 3)
    path = checkpoint.save(tmp_path, whole, {}, keep=1)
    held = load_file(path / checkpoint.WEIGHTS)
    assert held.keys() == {name for name, p in whole.model.named_parameters() if p.requires_grad}
    stepped(whole, 3, 6)
    parts = toys.state(toys.training(), start=start(), **WAYS[way])
    assert checkpoint.resume(tmp_path, parts, False, lambda path, fault: None) is not None
    stepped(parts, 3, 6)
    assert toys.equal_states(whole, parts)


@pytest.mark.parametrize("way", WAYS)
def test_only_what_learns_moves(way: str) -> None:
    state = toys.state(toys.training(), start=start(), **WAYS[way])
    before = {name: p.detach().clone() for name, p in state.model.named_parameters()}
    stepped(state, 0, 3)
    moved = {name for name, p in state.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == set(state.kept)


def test_a_run_with_every_weight_has_whole_checkpoints() -> None:
    state = toys.state(toys.training(), start=start(), tune=FullTuning())
    assert state.kept.keys() == start().keys()


@pytest.mark.parametrize("tune", [LoRAConfig(rank=2), DoRAConfig(rank=2)])
def test_muon_takes_both_matrices_and_adamw_the_magnitudes(tune: TuneConfig) -> None:
    state = toys.state(toys.training(optimizer="muon"), start=start(), tune=tune)
    assert isinstance(toys.RULES["muon"], MuonConfig)
    roles = {name: group["role"] for group in state.optimizer.param_groups for name in group["names"]}
    assert roles.keys() == {name for name, _ in state.model.named_parameters() if MARK in name}
    assert all((role == "vector") == name.endswith("magnitude") for name, role in roles.items())


@pytest.mark.parametrize("way", ["lora", "dora"])
def test_frozen_matrices_are_kept_as_they_are_computed_with(way: str) -> None:
    state = toys.state(toys.training(precision="bf16"), start=start(), **WAYS[way])
    for name, parameter in state.model.named_parameters():
        narrow = not parameter.requires_grad and parameter.ndim > 1
        assert parameter.dtype == (torch.bfloat16 if narrow else torch.float32), name


def test_frozen_matrices_kept_narrow_change_no_bit() -> None:
    """What bfloat16 computes with float32 masters is what it computes with their bfloat16 copies."""
    found = []
    for narrow in (False, True):
        state = toys.state(toys.training(precision="bf16"), start=start(), tune=LoRAConfig(rank=2))
        if not narrow:
            for name, tensor in start().items():
                outer, _, inner = name.rpartition(".")
                setattr(state.model.get_submodule(outer), inner, torch.nn.Parameter(tensor, requires_grad=False))
        stepped(state, 0, 3)
        found.append({name: p for name, p in state.model.named_parameters() if p.requires_grad})
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_base_in_few_bits_is_refused_on_several_ranks() -> None:
    with fake_world(2) as mesh, pytest.raises(RecipeError, match=r"tune\.base: nf4 is for one rank"):
        toys.state(toys.training(), mesh=mesh, **WAYS["nf4"])


@pytest.mark.filterwarnings("ignore")  # of torch among its own parts
def test_a_compiled_block_computes_what_an_eager_one_does() -> None:
    losses = []
    for way in ("off", "on"):
        execution = toys.EAGER.model_copy(update={"compile": way, "kernels": "off"})
        from groundup.train.state import build_state

        state = build_state(
            toys.MODEL, toys.VOCAB_SIZE, toys.training(), execution, 3, device=torch.device("cpu"),
            start=start(), tune=DoRAConfig(rank=2, base="int8", dropout=0.1),
        )  # fmt: skip
        for number in range(2):
            batch = toys.mixture().batch(number, 0, 8)
            done = train_step(state, [batch], toys.objectives(), learning_rate_factor=1.0, max_grad_norm=1.0)
        losses.append(float(done.loss))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
