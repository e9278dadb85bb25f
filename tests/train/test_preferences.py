"""Preferences in the one step: the losses of answers run by themselves, whatever the packing or the micro-batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from groundup.kernels import ops
from groundup.models import IGNORE, DPOConfig, KTOConfig, PreferenceLossConfig, PreferenceRule
from groundup.tokens import Batch, collate
from groundup.train.settings import ExecutionConfig
from groundup.train.state import TrainState, build_state
from groundup.train.step import Objectives, train_step
from tests.models.test_preferences import Answer, by_formula
from tests.train import toys
from tests.train.preference_toys import RULES, ToyPreferences, training

ONE = Objectives(("pairs",), (0,), ("preferences",), (1.0,))
BOTH = Objectives(("pairs", "text"), (0, 1), ("preferences", "pretrain"), (1.0, 0.5))


def is_kto(rule: PreferenceRule) -> bool:
    return isinstance(rule, KTOConfig)


def whole(rows: ToyPreferences) -> Batch:
    return collate([rows.row(index) for index in range(rows.num_rows)], [0] * rows.num_rows)


def one_by_one(state: TrainState, batch: Batch, rule: PreferenceRule) -> float:
    """The mean loss with each answer run by itself through the model's logits, and the papers' formulas."""
    assert batch.answers is not None and batch.groups is not None and batch.references is not None
    total, count = 0.0, 0
    for row in range(len(batch.tokens)):
        known = []
        for segment in range(batch.tokens.shape[1]):
            if batch.groups[row, segment] < 0:
                continue
            places = batch.segments[row] == segment
            tokens, answers = batch.tokens[row][places], batch.answers[row][places]
            logits = state.model(tokens[None])
            assert isinstance(logits, Tensor)
            scored = answers != IGNORE
            found = torch.log_softmax(logits[0][scored].double(), dim=-1).gather(1, answers[scored][:, None])
            target, group = int(batch.targets[row, segment]), int(batch.groups[row, segment])
            reference = float(batch.references[row, segment])
            known.append(Answer(float(found.sum()), int(scored.sum()), reference, group, target))
        total += by_formula(rule, known)
        count += sum(each.target != IGNORE for each in known)
    return total / count


def step(state: TrainState, batches: list[Batch], objectives: Objectives = ONE) -> float:
    done = train_step(state, batches, objectives, learning_rate_factor=1.0, max_grad_norm=1e9)
    return float(done.loss)


@pytest.mark.parametrize("name", RULES)
def test_the_step_s_loss_is_that_of_answers_run_one_by_one(name: str) -> None:
    rule = RULES[name]
    batch = whole(ToyPreferences("pairs", is_kto(rule)))
    state = toys.state(training(rule))
    with torch.no_grad():
        wanted = one_by_one(state, batch, rule)
    assert step(state, [batch]) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("name", RULES)
def test_packing_and_micro_batches_change_neither_loss_nor_gradient(name: str) -> None:
    rule = RULES[name]
    rows = ToyPreferences("pairs", is_kto(rule))
    apart = [whole(ToyPreferences("pairs", wanted=[item])) for item in rows.items]
    assert len(apart) > rows.num_rows or is_kto(rule)
    batch = whole(rows)
    ways = [[batch], [_row(batch, index) for index in range(rows.num_rows)], apart]
    found = []
    for batches in ways:
        state = toys.state(training(rule, optimizer="sgd"))
        found.append((step(state, batches), [p.detach().clone() for p in state.model.parameters()]))
    for loss, parameters in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-5)
        for one, other in zip(parameters, found[0][1]):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def _row(batch: Batch, index: int) -> Batch:
    assert batch.answers is not None and batch.groups is not None and batch.references is not None
    chosen = slice(index, index + 1)
    return Batch(
        batch.tokens[chosen],
        batch.targets[chosen],
        batch.segments[chosen],
        batch.positions[chosen],
        batch.sources[chosen],
        answers=batch.answers[chosen],
        groups=batch.groups[chosen],
        references=batch.references[chosen],
    )


@pytest.mark.parametrize("together", [True, False], ids=["one micro-batch", "a micro-batch each"])
def test_text_beside_them_counts_as_ever(together: bool) -> None:
    rows, text = ToyPreferences("pairs"), toys.ToyRows("text")
    compared = [rows.row(index) for index in range(rows.num_rows)]
    read = [text.row(index) for index in range(3)]
    if together:
        batches = [collate([*compared, *read], [0] * len(compared) + [1] * len(read))]
    else:
        batches = [collate(compared, [0] * len(compared)), collate(read, [1] * len(read))]
    plain = toys.state(toys.training())
    of_text = train_step(
        plain, [collate(read, [0] * 3)], ONE, learning_rate_factor=1.0, max_grad_norm=1e9
    ).source_losses
    state = toys.state(training(DPOConfig(beta=0.5)))
    with torch.no_grad():
        of_pairs = one_by_one(state, whole(rows), DPOConfig(beta=0.5))
    done = train_step(state, batches, BOTH, learning_rate_factor=1.0, max_grad_norm=1e9)
    assert done.source_losses.tolist() == pytest.approx([of_pairs, float(of_text)], rel=1e-5)
    assert float(done.loss) == pytest.approx(of_pairs + 0.5 * float(of_text), rel=1e-5)


def test_a_padded_batch_without_text_gradients_is_finite() -> None:
    rows = ToyPreferences("pairs", wanted=ToyPreferences("pairs").items[:1])
    state = toys.state(training(DPOConfig()))
    done = train_step(state, [whole(rows)], ONE, learning_rate_factor=1.0, max_grad_norm=1.0)
    assert torch.isfinite(done.loss) and torch.isfinite(done.grad_norm) and done.grad_norm > 0


def test_rows_of_preferences_without_a_rule_are_refused() -> None:
    state = toys.state(toys.training())
    with pytest.raises(ValueError, match="need a rule"):
        step(state, [whole(ToyPreferences("pairs"))])


@pytest.mark.skipif(not ops.usable(), reason="the kernels do not run here")
def test_kernels_in_bf16_agree_with_eager() -> None:
    config = training(DPOConfig(beta=0.5)).model_copy(update={"precision": "bf16"})
    model = toys.MODEL.model_copy(update={"hidden_size": 32, "num_heads": 2, "num_kv_heads": 1})
    losses = []
    for kernels in ("on", "off"):
        execution = ExecutionConfig(device="cpu", threads=1, compile="off", kernels=kernels)
        state = build_state(model, toys.VOCAB_SIZE, config, execution, 3, device=torch.device("cpu"))
        batch = whole(ToyPreferences("pairs"))
        losses.append([step(state, [batch]) for _ in range(4)])
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0][-1] < losses[0][0]


def test_the_rule_is_plain_cross_entropy_for_text() -> None:
    config = PreferenceLossConfig(rule=DPOConfig(label_smoothing=0.3))
    assert (config.label_smoothing, config.z_loss) == (0.0, 0.0), "the rule's smoothing is of pairs"
