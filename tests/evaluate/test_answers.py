"""Exact match, F1, groups, and questions that do not fit."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.evaluate import EvaluateConfig, Subject
from groundup.evaluate.answers import Answer, Scores, exact_match, f1, kept, measure_answers, spread
from groundup.models import Decoder
from groundup.tokens import Conversation, Tokenizer, Turn


def question(text: str, answer: str, **metadata: str) -> Conversation:
    return Conversation(text, (Turn("user", text), Turn("assistant", answer)), "questions", metadata)


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("Paris", "Paris", 1.0),
        (" paris.\n", "Paris", 1.0),
        ("constitutional  monarchy", "Constitutional monarchy.", 1.0),
        ("Zu\u0308rich", "Zürich", 1.0),
        (".fr", ".fr", 1.0),
        ("fr", ".fr", 0.0),
        ("Hague", "The Hague", 0.0),
        ("Port-au-Prince", "Port au Prince", 0.0),
        ("Washington, D.C.", "Washington, D.C", 1.0),
        ("Paris, France", "Paris", 0.0),
        ("", "Paris", 0.0),
    ],
)
def test_exact_match(prediction: str, reference: str, expected: float) -> None:
    assert exact_match(prediction, reference) == expected


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("the tropical climate", "Tropical climate.", 1.0),
        ("hot and humid", "hot and dry", 2 / 3),
        ("hot hot hot", "hot", 0.5),
        (".fr", "fr", 1.0),
        ("北京", "北京市", 0.8),
        ("", "Paris", 0.0),
        ("the", "Paris", 0.0),
        ("...", "Paris", 0.0),
    ],
)
def test_f1(prediction: str, reference: str, expected: float) -> None:
    assert f1(prediction, reference) == pytest.approx(expected)


@given(st.text(max_size=30), st.text(max_size=30))
def test_both_scores_are_fair(one: str, other: str) -> None:
    assert exact_match(one, one) == f1(one, one) == 1.0
    assert f1(one, other) == f1(other, one)
    assert 0.0 <= f1(one, other) <= 1.0


def test_scores_per_group_with_errors() -> None:
    answers = [
        Answer("q", "Paris", "Paris", {"kind": "phrasing", "task": "capital", "country": "France"}),
        Answer("q", "Rome", "Milan", {"kind": "phrasing", "task": "capital"}),
        Answer("q", ".it", ".it", {"kind": "phrasing", "task": "internet_code"}),
        Answer("q", "hot and dry", "hot", {"kind": "long"}),
        Answer("q", "yes", "yes", {}),
    ]
    scores = Scores()
    scores.add(answers[:2])
    scores.add(answers[2:])
    found = scores.metrics()
    values = {name: metric.value for name, metric in found.items() if name.startswith("exact_match")}
    assert values == {
        "exact_match": pytest.approx(0.6),
        "exact_match/long": 0.0,
        "exact_match/phrasing": pytest.approx(2 / 3),
        "exact_match/phrasing/capital": 0.5,
        "exact_match/phrasing/internet_code": 1.0,
    }
    assert found["f1/long"].value == pytest.approx(0.5)
    assert found["exact_match/phrasing/capital"].n == 2
    assert found["exact_match/phrasing/capital"].stderr == pytest.approx(0.5)
    assert found["exact_match/long"].stderr is None


def test_a_model_is_asked_and_its_answers_are_kept(model: Decoder, tokenizer: Tokenizer) -> None:
    questions = [
        question("cat?", "mat", kind="short"),
        question("Zürich?", "北京", kind="short"),
        question("1815?", "Emma"),
    ]
    result = measure_answers(Subject(model, tokenizer, questions=questions), EvaluateConfig(max_new_tokens=4))
    answers = result.samples["answers"]
    assert [answer["prompt"] for answer in answers] == ["cat?", "Zürich?", "1815?"]
    assert [answer["reference"] for answer in answers] == ["mat", "北京", "Emma"]
    assert result.metrics["exact_match"].n == result.metrics["f1"].n == 3
    assert result.metrics["exact_match/short"].n == 2
    again = measure_answers(Subject(model, tokenizer, questions=questions[::-1]), EvaluateConfig(max_new_tokens=4))
    assert [answer["prediction"] for answer in again.samples["answers"]] == [a["prediction"] for a in answers][::-1]


def test_a_question_that_fills_the_context_counts_as_not_answered(
    model: Decoder, tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    questions = [question("word " * 300, "mat"), question("cat?", "mat")]
    with caplog.at_level("WARNING", "groundup"):
        result = measure_answers(Subject(model, tokenizer, questions=questions), EvaluateConfig(max_new_tokens=2))
    assert result.samples["answers"][0]["prediction"] == ""
    assert result.metrics["exact_match"].n == 2
    assert "1 questions fill the context" in caplog.text


def test_no_questions_no_metrics(model: Decoder, tokenizer: Tokenizer) -> None:
    assert measure_answers(Subject(model, tokenizer), EvaluateConfig()).metrics == {}


@given(st.integers(0, 30), st.integers(0, 40))
def test_a_limit_takes_questions_evenly(count: int, limit: int) -> None:
    questions = [question(str(i), "a") for i in range(count)]
    chosen = [int(found.id) for found in spread(questions, limit)]
    assert len(chosen) == (min(limit, count) if limit else count)
    assert chosen == sorted(set(chosen))
    gaps = [later - earlier for earlier, later in itertools.pairwise(chosen)]
    assert not gaps or max(gaps) - min(gaps) <= 1


@given(st.integers(1, 3000), st.integers(1, 500), st.integers(1, 700))
def test_kept_answers_are_evenly_spaced_however_they_are_asked(count: int, limit: int, at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("groundup.evaluate.answers.MAX_SAMPLES", limit)
        whole = kept(0, count, count)
        parts = [at for start in range(0, count, at_once) for at in kept(start, min(start + at_once, count), count)]
    assert whole == parts
    assert len(whole) == min(count, limit)
    gaps = [later - earlier for earlier, later in itertools.pairwise(whole)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_asking_some_at_a_time_changes_nothing(
    model: Decoder, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [question(f"cat {'and ' * (i % 5)}{i}?", "mat", kind=str(i % 2)) for i in range(13)]
    asked.append(question("word " * 300, "mat"))
    config = EvaluateConfig(max_new_tokens=3)
    whole = measure_answers(Subject(model, tokenizer, questions=asked), config)
    monkeypatch.setattr("groundup.evaluate.answers.QUESTIONS_AT_ONCE", 4)
    parts = measure_answers(Subject(model, tokenizer, questions=asked), config)
    assert parts.samples == whole.samples
    assert parts.metrics.keys() == whole.metrics.keys()
    for name, metric in whole.metrics.items():
        assert parts.metrics[name].value == pytest.approx(metric.value)
        assert parts.metrics[name].n == metric.n
