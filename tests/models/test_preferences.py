"""Losses of preferences against the papers' formulas, written out one pair at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from groundup.models import IGNORE, DPOConfig, IPOConfig, KTOConfig, ORPOConfig, PreferenceRule
from groundup.models.preferences import answer_sums, outcome, sums_at

TIME = 16
RULES: dict[str, PreferenceRule] = {
    "dpo": DPOConfig(beta=0.3),
    "dpo, smoothed": DPOConfig(beta=0.3, label_smoothing=0.2),
    "ipo": IPOConfig(beta=0.4),
    "orpo": ORPOConfig(beta=0.5),
    "kto": KTOConfig(beta=0.3, desirable_weight=1.5, undesirable_weight=0.5),
}


@dataclass
class Answer:
    """What is known of one answer, in plain numbers."""

    log_probability: float
    length: int
    reference: float
    group: int
    target: int


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def by_formula(rule: PreferenceRule, answers: list[Answer]) -> float:
    """Sum of the losses of one row, as the papers write them."""
    groups = {each.group for each in answers}
    total = 0.0
    for group in groups:
        members = [each for each in answers if each.group == group]
        if isinstance(rule, KTOConfig):  # arXiv 2402.01306, equation 8, with z over mismatched answers
            others = [each.log_probability - each.reference for each in members if each.target == IGNORE]
            z = max(0.0, sum(others) / len(others))
            for each in members:
                r = each.log_probability - each.reference
                if each.target == 1:
                    total += rule.desirable_weight * (1 - sigmoid(rule.beta * (r - z)))
                elif each.target == 0:
                    total += rule.undesirable_weight * (1 - sigmoid(rule.beta * (z - r)))
            continue
        (w,) = [each for each in members if each.target == 1]
        (l,) = [each for each in members if each.target == IGNORE]  # noqa: E741
        if isinstance(rule, DPOConfig):  # arXiv 2305.18290, equation 7
            h = rule.beta * ((w.log_probability - w.reference) - (l.log_probability - l.reference))
            e = rule.label_smoothing
            total += -(1 - e) * math.log(sigmoid(h)) - e * math.log(sigmoid(-h))
        elif isinstance(rule, IPOConfig):  # arXiv 2310.12036, equation 17, per token
            h = (w.log_probability - w.reference) / w.length - (l.log_probability - l.reference) / l.length
            total += (h - 1 / (2 * rule.beta)) ** 2
        else:  # arXiv 2403.07691, equations 4 to 7
            p, q = math.exp(w.log_probability / w.length), math.exp(l.log_probability / l.length)
            ratio = math.log((p / (1 - p)) / (q / (1 - q)))
            total += -math.log(p) - rule.beta * math.log(sigmoid(ratio))
    return total


def planes(rows: list[list[Answer]]) -> dict[str, Tensor]:
    """Answers by number of the segment, as a batch holds them."""
    filled = {
        "log_probabilities": torch.zeros(len(rows), TIME),
        "lengths": torch.zeros(len(rows), TIME),
        "references": torch.zeros(len(rows), TIME),
        "targets": torch.full((len(rows), TIME), IGNORE),
        "groups": torch.full((len(rows), TIME), -1, dtype=torch.int32),
    }
    for number, row in enumerate(rows):
        for segment, each in enumerate(row):
            values = (each.log_probability, each.length, each.reference, each.target, each.group)
            for plane, value in zip(filled.values(), values):
                plane[number, segment] = value
    return filled


numbers = st.floats(-20.0, -0.5)
lengths = st.integers(1, 12)


@st.composite
def row(draw: st.DrawFn, kto: bool) -> list[Answer]:
    """One to three pairs (KTO: groups of two judged and two mismatched answers)."""
    targets = (1, 0, IGNORE, IGNORE) if kto else (1, IGNORE)
    groups = draw(st.integers(1, 3))
    return [
        Answer(draw(numbers), draw(lengths), draw(numbers), group, target)
        for group in range(groups)
        for target in targets
    ]


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_row_s_losses_are_those_of_the_papers(name: str, data: st.DataObject) -> None:
    rule = RULES[name]
    rows = data.draw(st.lists(row(kto=name == "kto"), min_size=1, max_size=3))
    found = outcome(rule, **planes(rows))
    for number, answers in enumerate(rows):
        assert float(found.losses[number].sum()) == pytest.approx(by_formula(rule, answers), rel=2e-4, abs=1e-5)
        judged = [each for each in answers if each.target != IGNORE]
        assert int(found.exists[number].sum()) == len(judged)
    assert not found.losses[~found.exists].any() and not found.margins[~found.exists].any()


@pytest.mark.parametrize("name", RULES)
def test_margins_say_which_answer_gained(name: str) -> None:
    kto = name == "kto"
    good = [Answer(-2.0, 4, -6.0, 0, 1), Answer(-9.0, 4, -5.0, 0, 0 if kto else IGNORE)]
    others = [Answer(-5.0, 4, -5.0, 0, IGNORE)] * 2 if kto else []
    bad = [Answer(-9.0, 4, -5.0, 0, 1), Answer(-2.0, 4, -6.0, 0, 0 if kto else IGNORE)]
    found = outcome(RULES[name], **planes([good + others, bad + others]))
    assert (found.margins[0][found.exists[0]] > 0).all()
    assert (found.margins[1][found.exists[1]] < 0).all()


@pytest.mark.parametrize("name", RULES)
def test_rows_of_text_beside_them_have_no_loss_and_no_gradient(name: str) -> None:
    values = planes([[Answer(-2.0, 4, -6.0, 0, 1), Answer(-3.0, 2, -5.0, 0, IGNORE)], []])
    values["targets"][1] = 7  # tokens to predict
    values["log_probabilities"].requires_grad_()
    found = outcome(RULES[name], **values)
    found.losses.sum().backward()
    gradient = values["log_probabilities"].grad
    assert gradient is not None and torch.isfinite(gradient).all()
    assert not found.losses[1].any() and not gradient[1].any()
    assert gradient[0, 0] < 0, "the better answer is to become more likely"


def test_the_baseline_of_kto_is_no_part_of_the_gradient() -> None:
    values = planes([[Answer(-2.0, 4, -6.0, 0, 1), Answer(-1.0, 2, -5.0, 0, IGNORE)]])
    values["log_probabilities"].requires_grad_()
    outcome(KTOConfig(), **values).losses.sum().backward()
    gradient = values["log_probabilities"].grad
    assert gradient is not None and gradient[0, 0] != 0 and gradient[0, 1] == 0


def test_an_answer_that_is_certain_has_finite_odds() -> None:
    values = planes([[Answer(0.0, 4, 0.0, 0, 1), Answer(-60.0, 1, 0.0, 0, IGNORE)]])
    values["log_probabilities"].requires_grad_()
    found = outcome(ORPOConfig(), **values).losses.sum()
    found.backward()
    assert torch.isfinite(found) and torch.isfinite(values["log_probabilities"].grad).all()


def test_sums_are_by_segment_and_of_answers_only() -> None:
    losses = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    answers = torch.tensor([[5, IGNORE, 6, 7]])
    segments = torch.tensor([[0, 0, 1, 1]], dtype=torch.int32)
    log_probabilities, tokens = answer_sums(losses, answers, segments)
    assert log_probabilities.tolist() == [[-1.0, -7.0, 0.0, 0.0]]
    assert tokens.tolist() == [[1.0, 2.0, 0.0, 0.0]]
    assert sums_at(segments, torch.ones(1, 4)).tolist() == [[2.0, 2.0, 0.0, 0.0]]
