"""Classes of transformers through the one step: as the other models, with no word about them in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from groundup.errors import Interrupted
from groundup.models import TransformersConfig
from groundup.optim import LayersConfig
from groundup.parallel.fake import fake_world
from groundup.train import checkpoint, loop
from groundup.train.guards import StopRequest
from groundup.train.state import TrainState, build_state
from groundup.train.step import train_step
from tests.models.transformers_classes import values_of
from tests.train import toys
from tests.train.test_loop import StopAfter
from tests.train.test_step import gradients

os.environ["HF_HUB_OFFLINE"] = "1"
pytest.importorskip("transformers", reason="transformers is not installed (extra 'hf')")
TYPES = ("gpt_neox", "gemma2", "phi", "mixtral", "deepseek_v3")
"""Plain scores, capped scores of a tied table, scores with a bias, experts, experts chosen by what never learns."""


def config_of(model_type: str) -> TransformersConfig:
    return TransformersConfig(context_length=toys.CONTEXT_LENGTH, values=values_of(model_type))


@pytest.mark.parametrize("model_type", TYPES)
def test_micro_batches_do_not_change_loss_and_gradient(model_type: str) -> None:
    whole_loss, whole = gradients(8, model=config_of(model_type))
    loss, parts = gradients(2, model=config_of(model_type))
    torch.testing.assert_close(loss, whole_loss, rtol=1e-6, atol=1e-6)
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("recompute", ["full", "selective"])
@pytest.mark.parametrize("model_type", TYPES)
def test_loss_falls(model_type: str, recompute: str) -> None:
    execution = toys.EAGER.model_copy(update={"recompute": recompute})
    state = build_state(
        config_of(model_type), toys.VOCAB_SIZE, toys.training(), execution, seed=3, device=torch.device("cpu")
    )
    losses = []
    for step in range(25):
        batch = toys.mixture().batch(step, 0, 8)
        result = train_step(state, [batch], toys.objectives(1.0), learning_rate_factor=1.0, max_grad_norm=1.0)
        losses.append(float(result.loss))
    assert losses[-1] < 0.75 * losses[0]


@pytest.mark.parametrize("optimizer", ["muon", "schedule_free_adamw"])
@pytest.mark.parametrize("model_type", TYPES)
def test_a_stopped_run_resumes_to_the_same_bits(
    tmp_path: Path, model_type: str, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "measured_peak_flops", lambda device, dtype: 1e12)
    config = toys.training(steps=4, optimizer=optimizer)

    def run(folder: Path, stop: StopRequest) -> TrainState:
        state = toys.state(config, config_of(model_type))
        loop.train(toys.phase(config), state, toys.EAGER, folder, toys.journal(folder), stop)
        return state

    whole = run(tmp_path / "whole", StopRequest())
    with pytest.raises(Interrupted):
        run(tmp_path / "parts", StopAfter(1))
    assert toys.equal_states(whole, run(tmp_path / "parts", StopRequest()))


@pytest.mark.parametrize("layers", [None, LayersConfig(), LayersConfig(trained_layers=1)])
def test_what_chooses_experts_never_learns_and_is_kept(layers: LayersConfig | None, tmp_path: Path) -> None:
    name = "body.model.layers.1.mlp.gate.e_score_correction_bias"

    def fresh() -> TrainState:
        changes = {"seed": 3, "device": torch.device("cpu"), "layers": layers}
        return build_state(config_of("deepseek_v3"), toys.VOCAB_SIZE, toys.training(), toys.EAGER, **changes)

    state = fresh()
    given = torch.tensor([0.5, -1.0, 0.25, 2.0])
    state.model.get_parameter(name).data.copy_(given)
    for step in range(2):
        batch = toys.mixture().batch(step, 0, 8)
        train_step(state, [batch], toys.objectives(1.0), learning_rate_factor=1.0, max_grad_norm=1.0)
    assert torch.equal(state.model.get_parameter(name), given)
    assert not any(name in group["names"] for group in state.optimizer.param_groups)
    checkpoint.save(tmp_path, state, {}, keep=1)
    again = fresh()
    assert checkpoint.resume(tmp_path, again, False, lambda path, fault: None) is not None
    assert torch.equal(again.model.get_parameter(name), given)


FAKE = [(model_type, precision) for model_type in TYPES for precision in ("fp32", "bf16")]
FAKE.remove(("mixtral", "fp32"))  # torch's fake grouped product knows bfloat16 only
FAKE.remove(("deepseek_v3", "fp32"))


@pytest.mark.parametrize(("model_type", "precision"), FAKE)
def test_step_runs_under_fake_tensors_on_eight_fake_ranks(model_type: str, precision: str) -> None:
    config = toys.training(precision=precision)
    with fake_world(8) as mesh:
        state = build_state(
            config_of(model_type), toys.VOCAB_SIZE, config, toys.EAGER, seed=3, device=torch.device("cpu"), mesh=mesh
        )
        batch = toys.mixture().batch(0, 0, 1)
        result = train_step(state, [batch], toys.objectives(), learning_rate_factor=1.0, max_grad_norm=1.0)
        assert result.loss.shape == () and state.step == 1
