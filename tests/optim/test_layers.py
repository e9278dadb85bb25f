"""Layers: frozen ones have no state, others their rate and the step from which they learn."""

from __future__ import annotations

import re

import pytest
import torch

from groundup.errors import RecipeError
from groundup.models import EncoderConfig, LabellerConfig
from groundup.optim import AdamWConfig, LayersConfig, flat_state
from groundup.tokens import IGNORE, Batch
from groundup.train.settings import ExecutionConfig, TrainingConfig
from groundup.train.state import TrainState, build_state
from groundup.train.step import Objectives, train_step
from tests.train import toys

MODEL = EncoderConfig(
    kind="encoder", context_length=16, num_layers=2, hidden_size=8, num_heads=2, ffn_size=16, predicted_share=0.2
)
OBJECTIVES = Objectives(("task",), (0,), ("task",), (1.0,))


def state(layers: LayersConfig) -> TrainState:
    training = TrainingConfig(
        tokens=64, global_batch_tokens=32, optimizer=AdamWConfig(learning_rate=0.1, weight_decay=0.0), precision="fp32"
    )
    execution = ExecutionConfig(device="cpu", compile="off")
    model = LabellerConfig.on(MODEL, "sequence", ["a", "b"])
    return build_state(model, 20, training, execution, 1, device=torch.device("cpu"), layers=layers)


def moved(made: TrainState, steps: int) -> dict[str, float]:
    """How far each parameter went in some steps."""
    before = {name: p.detach().clone() for name, p in made.model.named_parameters()}
    targets = torch.full((2, 16), IGNORE)
    targets[:, 0] = torch.tensor([0, 1])
    tokens = torch.arange(32).view(2, 16) % 20
    zeros = torch.zeros(2, 16, dtype=torch.int32)
    batch = Batch(
        tokens, targets, zeros, torch.arange(16, dtype=torch.int32).expand(2, -1), torch.zeros(2).long(), zeros
    )
    for _ in range(steps):
        train_step(made, [batch], OBJECTIVES, learning_rate_factor=1.0, max_grad_norm=1.0)
    return {name: float((p.detach() - before[name]).abs().max()) for name, p in made.model.named_parameters()}


def test_a_frozen_body_stays_as_it_is() -> None:
    made = state(LayersConfig(trained_layers=0))
    distances = moved(made, 2)
    assert {name for name, distance in distances.items() if distance} == {
        n for n in distances if n.startswith("label.")
    }
    kept = [name for name in flat_state(made.optimizer) if any(learnt in name for learnt in distances)]
    assert kept
    assert all("label." in name for name in kept), "no memory for what does not learn"


def test_part_of_the_body_learns() -> None:
    distances = moved(state(LayersConfig(trained_layers=1)), 2)
    assert distances["layers.1.ffn.up.weight"] > 0
    assert distances["layers.0.ffn.up.weight"] == distances["embedding.weight"] == 0


def test_rates_fall_with_depth() -> None:
    groups = state(LayersConfig(layer_decay=0.5)).optimizer.param_groups
    rates = {name: group["base_learning_rate"] for group in groups for name in group["names"]}
    assert rates["label.output.bias"] == pytest.approx(0.1)
    assert rates["layers.1.ffn.up.weight"] == pytest.approx(0.05)
    assert rates["layers.0.ffn.up.weight"] == pytest.approx(0.025)
    assert rates["embedding.weight"] == pytest.approx(0.0125)
    assert len(rates) == len(list(state(LayersConfig()).model.parameters()))


def test_layers_join_one_after_the_other() -> None:
    made = state(LayersConfig(unfreeze_every_steps=2))
    first = moved(made, 2)
    assert first["label.output.weight"] > 0
    assert first["layers.1.ffn.up.weight"] == 0
    second = moved(made, 2)
    assert second["layers.1.ffn.up.weight"] > 0
    assert second["layers.0.ffn.up.weight"] == 0
    assert moved(made, 4)["embedding.weight"] > 0


def test_a_decoder_has_layers_too() -> None:
    made = toys.state(layers=LayersConfig(trained_layers=1))
    learning = {name for name, parameter in made.model.named_parameters() if parameter.requires_grad}
    assert {name.partition(".")[0] for name in learning} == {"layers", "norm", "head"}
    assert not any(name.startswith("layers.0.") for name in learning)


@pytest.mark.parametrize(
    ("fields", "steps", "words"),
    [
        ({"trained_layers": 3}, None, r"layers.trained_layers: 3 is more than the model's 2 layers; lower it"),
        ({"trained_layers": 2}, 1, None),
        (
            {"unfreeze_every_steps": 4},
            12,
            r"lets the embeddings learn from step 12 on, and the phase has 12; .* most 3",
        ),
        ({"unfreeze_every_steps": 3}, 12, None),
        (
            {"unfreeze_every_steps": 4, "trained_layers": 2},
            8,
            r"lets layer 1 learn from step 8 on, .* at most 3, or few",
        ),
        ({"unfreeze_every_steps": 4, "trained_layers": 1}, 8, None),
        ({"unfreeze_every_steps": 4, "trained_layers": 0}, 2, None),
        ({"unfreeze_every_steps": 99}, None, None),
    ],
)
def test_layers_that_are_not_there_or_never_join_are_named(
    fields: dict[str, int], steps: int | None, words: str | None
) -> None:
    found = LayersConfig(**fields).obstacle(2, steps)
    assert found is None if words is None else re.search(words, found or "")
    if steps is not None:
        # The same from the groups themselves: whatever learns must have its turn.
        groups = state(LayersConfig(**fields)).optimizer.param_groups
        assert (found is None) == all(group["first_step"] < steps for group in groups)


def test_adapters_have_no_embeddings_to_wait_for() -> None:
    layers = LayersConfig(unfreeze_every_steps=4)
    assert layers.obstacle(2, 9, embeddings=False) is None
    assert "layer 1" in (layers.obstacle(2, 8, embeddings=False) or "")


def test_more_layers_than_there_are_train_nothing() -> None:
    with pytest.raises(RecipeError, match="trained_layers: 5 is more than the model's 2"):
        state(LayersConfig(trained_layers=5))
