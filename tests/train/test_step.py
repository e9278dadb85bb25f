"""The step: what its loss is, and what must not change it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from groundup.errors import RecipeError
from groundup.models import LossConfig, ModelConfig
from groundup.parallel.fake import fake_world
from groundup.tokens import IGNORE
from groundup.train.state import build_state
from groundup.train.step import row_contexts, train_step
from tests.train import toys


def gradients(
    rows_per_micro_batch: int, weight: float = 2.0, model: ModelConfig = toys.MODEL
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients of the first step, read off before the update by an optimizer that does nothing."""
    state = toys.state(model=model)
    state.optimizer.step = lambda: None  # type: ignore[method-assign]
    state.optimizer.zero_grad = lambda: None  # type: ignore[method-assign,assignment]
    batches = [toys.mixture().batch(0, at, rows_per_micro_batch) for at in range(0, 8, rows_per_micro_batch)]
    result = train_step(state, batches, toys.objectives(weight), learning_rate_factor=1.0, max_grad_norm=1e9)
    return result.loss, {name: p.grad.clone() for name, p in state.model.named_parameters() if p.grad is not None}


NOISE = {"embedding_dropout": 0.1, "attention_dropout": 0.1, "residual_dropout": 0.2, "stochastic_depth": 0.3}
MODELS = {"decoder": toys.MODEL, "lstm": toys.LSTM}
NOISY = [toys.MODEL, toys.MODEL.model_copy(update=NOISE), toys.LSTM.model_copy(update={"dropout": 0.3})]


@pytest.mark.parametrize("model", NOISY, ids=["decoder", "noisy decoder", "noisy lstm"])
@pytest.mark.parametrize("rows_per_micro_batch", [1, 2, 4])
def test_micro_batches_do_not_change_loss_and_gradient(rows_per_micro_batch: int, model: ModelConfig) -> None:
    whole_loss, whole = gradients(8, model=model)
    loss, parts = gradients(rows_per_micro_batch, model=model)
    torch.testing.assert_close(loss, whole_loss, rtol=1e-6, atol=1e-6)
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-5, atol=1e-6)


def test_loss_is_the_weighted_sum_of_each_objectives_mean_over_its_targets() -> None:
    state, batch = toys.state(), toys.mixture().batch(0, 0, 8)
    logits = state.model(batch.tokens, segments=batch.segments, positions=batch.positions)
    means = [
        functional.cross_entropy(
            logits[batch.sources == source].flatten(0, 1), batch.targets[batch.sources == source].flatten(),
            ignore_index=IGNORE,
        )
        for source in (0, 1)
    ]  # fmt: skip
    result = train_step(state, [batch], toys.objectives(2.0), learning_rate_factor=1.0, max_grad_norm=1.0)
    torch.testing.assert_close(result.loss, means[0] + 2.0 * means[1])
    torch.testing.assert_close(result.source_losses, torch.stack(means))


def test_gradient_of_the_mixture_is_the_sum_of_the_gradients_apart() -> None:
    _, none = gradients(8, weight=1e-9)
    _, one = gradients(8, weight=1.0)
    _, three = gradients(8, weight=3.0)
    for name in one:
        torch.testing.assert_close(three[name] - none[name], 3 * (one[name] - none[name]), rtol=1e-4, atol=1e-6)


class Place:
    """One rank's place on a mesh of data ranks."""

    mesh_dim_names = ("data",)

    def __init__(self, rank: int, size: int) -> None:
        self.get_local_rank, self.size = lambda: rank, lambda: size

    def __getitem__(self, name: str) -> Place:
        return self


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_row_has_the_same_key_on_any_rank_and_in_any_micro_batch(size: int) -> None:
    state = toys.state()
    (whole,) = row_contexts(state, [toys.mixture().batch(0, 0, 8)])
    keys = []
    for rank in range(size):
        state.mesh = Place(rank, size)  # type: ignore[assignment]
        starts = range(rank * 8 // size, (rank + 1) * 8 // size, 2)
        contexts = row_contexts(state, [toys.mixture().batch(0, at, 2) for at in starts])
        keys += [context.keys for context in contexts if context.keys is not None]
    assert whole.keys is not None and torch.equal(torch.cat(keys), whole.keys)


def test_states_are_carried_between_steps_row_by_row() -> None:
    state, mixture = toys.state(model=toys.LSTM), toys.mixture(order="continuous")
    for step, rows in ((0, 8), (1, 2)):
        batches = [mixture.batch(step, at, rows) for at in range(0, 8, rows)]
        train_step(state, batches, toys.objectives(), learning_rate_factor=1.0, max_grad_norm=1.0)
    assert state.memory["hidden"].shape == (8, 2, 32) and state.memory["hidden"].abs().min() > 0


def test_label_smoothing_and_z_loss_are_in_the_loss_that_is_trained() -> None:
    losses = []
    for loss in (LossConfig(), LossConfig(label_smoothing=0.1), LossConfig(z_loss=0.1)):
        state = toys.state(toys.training(loss=loss))
        batch = toys.mixture().batch(0, 0, 8)
        result = train_step(state, [batch], toys.objectives(), learning_rate_factor=1.0, max_grad_norm=1.0)
        losses.append(float(result.loss))
    assert len(set(losses)) == 3 and losses[2] > losses[0]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optimizer", toys.RULES)
def test_loss_falls(optimizer: str, model: str) -> None:
    config = toys.training(optimizer=optimizer)
    state, mixture, losses = toys.state(config, MODELS[model]), toys.mixture(), []
    for step in range(40):
        batch = mixture.batch(step, 0, 8)
        with torch.compiler.set_stance("force_eager"):  # torchao compiles its step, seconds for each shape
            result = train_step(state, [batch], toys.objectives(1.0), learning_rate_factor=1.0, max_grad_norm=1.0)
        losses.append(float(result.loss))
    assert losses[-1] < 0.75 * losses[0]


def test_non_finite_gradients_are_shown_and_leave_the_weights_finite() -> None:
    state = toys.state()
    with torch.no_grad():
        state.model.norm.weight.fill_(float("inf"))
    before = state.model.layers[0].ffn.gate.weight.clone()
    result = train_step(
        state, [toys.mixture().batch(0, 0, 8)], toys.objectives(), learning_rate_factor=1.0, max_grad_norm=1.0
    )
    assert not torch.isfinite(result.grad_norm)
    after = state.model.layers[0].ffn.gate.weight
    assert torch.isfinite(after).all()
    torch.testing.assert_close(after, before, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optimizer", toys.RULES)
def test_step_runs_under_fake_tensors_on_eight_fake_ranks(optimizer: str, model: str) -> None:
    config = toys.training(optimizer=optimizer, precision="bf16" if optimizer == "muon" else "fp32")
    world_size = 1 if optimizer == "adamw_8bit" else 8
    with fake_world(world_size) as mesh:
        state = build_state(
            MODELS[model], toys.VOCAB_SIZE, config, toys.EAGER, seed=3, device=torch.device("cpu"), mesh=mesh
        )
        batch = toys.mixture().batch(0, 0, 1)
        with torch.compiler.set_stance("force_eager"):
            result = train_step(state, [batch], toys.objectives(), learning_rate_factor=1.0, max_grad_norm=1.0)
        assert result.loss.shape == () and state.step == 1
        assert state.world_size == world_size


def test_moments_that_no_checkpoint_can_hold_are_refused() -> None:
    config = toys.training(optimizer="adamw_8bit")
    with fake_world(2) as mesh, pytest.raises(RecipeError, match="adamw_8bit"):
        build_state(toys.MODEL, toys.VOCAB_SIZE, config, toys.EAGER, seed=3, device=torch.device("cpu"), mesh=mesh)
