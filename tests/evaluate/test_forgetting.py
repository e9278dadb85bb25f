"""What a later phase changed: differences are those of the figures, errors those of pairs."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from groundup.evaluate import Metric, changes, lost_share, mean, measure_text, text_sums
from groundup.evaluate.forgetting import TextSums, lost_bits_per_byte
from groundup.models import Decoder, build_model
from groundup.tokens import PackedText, Tokenizer

Pack = Callable[..., PackedText]
DOCUMENTS = ("Paris, 北京 café", "the cat sat on the mat. " * 7, "x", "Zürich 1815: naïve Emma <|end|>")


@pytest.fixture(scope="module")
def other(model: Decoder, tokenizer: Tokenizer) -> Decoder:
    """The model after a little noise."""
    changed = build_model(model.config, tokenizer.vocab_size)
    changed.load_state_dict(model.state_dict())
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return changed.eval()


@pytest.mark.parametrize(("copies", "clusters"), [(12, "documents"), (2, "rows")])
def test_the_difference_is_that_of_the_two_measures(
    model: Decoder, other: Decoder, tokenizer: Tokenizer, packed: Pack, copies: int, clusters: str
) -> None:
    rows = packed(*DOCUMENTS * copies)
    measured = [measure_text(each, rows, tokenizer) for each in (model, other)]
    assert measured[0].clusters == clusters
    before, after = (each.metrics()["bits_per_byte"] for each in measured)
    sums = [text_sums(each, rows, tokenizer) for each in (model, other)]
    found, share = lost_bits_per_byte(*sums), lost_share(*sums)
    assert found.value == pytest.approx(after.value - before.value, abs=1e-6)
    assert share.value == pytest.approx(after.value / before.value - 1, abs=1e-6)
    assert found.n == share.n == before.n
    assert found.stderr is not None and before.stderr is not None and after.stderr is not None
    assert 0 < found.stderr < math.hypot(before.stderr, after.stderr), "pairs know more"


def test_micro_batches_and_a_limit_of_rows(
    model: Decoder, tokenizer: Tokenizer, packed: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = packed(*DOCUMENTS * 12)
    whole = text_sums(model, rows, tokenizer)
    monkeypatch.setattr("groundup.evaluate.forgetting.BATCH_TOKENS", 2 * rows.context_length)
    parts = text_sums(model, rows, tokenizer)
    np.testing.assert_allclose(parts.documents, whole.documents, rtol=1e-5)
    np.testing.assert_allclose(parts.rows, whole.rows, rtol=1e-5)
    np.testing.assert_allclose(whole.documents.sum(axis=1), whole.rows.sum(axis=1), rtol=1e-9)
    assert text_sums(model, rows, tokenizer, max_rows=3).rows.shape == (2, 3)


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=30), st.floats(0.5, 2))
def test_a_text_that_is_worse_everywhere_by_one_part_has_no_error(nats: list[float], factor: float) -> None:
    before = np.array([nats, [2.0] * len(nats)])
    after = before * np.array([[factor], [1.0]])
    found = lost_share(TextSums(before, before[:, :0]), TextSums(after, after[:, :0]))
    assert found.value == pytest.approx(factor - 1, abs=1e-9)
    assert found.stderr == pytest.approx(0.0, abs=1e-6)


def answers(right: list[int]) -> list[dict[str, object]]:
    return [{"prompt": f"q{i}", "exact_match": float(each), "f1": each / 2} for i, each in enumerate(right)]


def test_every_metric_that_both_have_is_compared() -> None:
    sums = TextSums(np.array([[1.0, 2.0], [4.0, 4.0]]), np.zeros((2, 0)))
    worse = TextSums(np.array([[1.5, 2.5], [4.0, 4.0]]), np.zeros((2, 0)))
    old, new = [0, 0, 1, 0], [1, 1, 1, 0]
    before = {"bits_per_byte": Metric(0.54, 0.1, 8), "perplexity": Metric(9.0, 3.0, 8), "exact_match": mean(old)}
    after = {
        "bits_per_byte": Metric(0.72, 0.1, 8),
        "perplexity": Metric(5.0, 4.0, 8),
        "exact_match": mean(new),
        "f1": mean(new),
    }
    found = changes(before, after, (sums, worse), (answers(old), answers(new)))
    assert set(found) == {f"forgetting:{name}" for name in (*before, "bits_per_byte_share")}
    assert found["forgetting:perplexity"] == Metric(-4.0, 5.0, 8)
    assert found["forgetting:bits_per_byte"].value == pytest.approx(1 / 8 / math.log(2))
    assert found["forgetting:bits_per_byte_share"].value == pytest.approx(1 / 3)
    match = found["forgetting:exact_match"]
    assert match.value == 0.5 and match.stderr == pytest.approx(math.sqrt(1 / 12))
    without = changes(before, after, (sums, worse))["forgetting:exact_match"]
    assert without.value == 0.5 and without.stderr == pytest.approx(math.sqrt(1 / 16 + 1 / 16))


def test_answers_to_other_questions_are_not_paired() -> None:
    sums = TextSums(np.ones((2, 2)), np.zeros((2, 0)))
    before, after = {"exact_match": mean([0, 1])}, {"exact_match": mean([1, 1])}
    other = [{**each, "prompt": "another"} for each in answers([1, 1])]
    paired = changes(before, after, (sums, sums), (answers([0, 1]), answers([1, 1])))
    apart = changes(before, after, (sums, sums), (answers([0, 1]), other))
    fewer = changes(before, {"exact_match": Metric(1.0, 0.0, 5)}, (sums, sums), (answers([0, 1]), answers([1, 1])))
    name = "forgetting:exact_match"
    assert paired[name].stderr == apart[name].stderr == 0.5, "here they happen to agree"
    assert fewer[name].n == 5
