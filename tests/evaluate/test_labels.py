"""Evaluation of tasks over packed rows says what `predict` says of each text by itself."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from groundup.evaluate import measure_labels
from groundup.evaluate.labels import _metrics
from groundup.inference import LabelPrediction, LabelsPrediction, NumberPrediction, WordsPrediction, predict
from groundup.models import EncoderConfig, LabelKind, LabellerConfig, LossConfig, WeightedLossConfig
from groundup.tokens import (
    CONTROL_TOKENS,
    ENCODER_TOKENS,
    Example,
    PackedExamples,
    Tokenizer,
    TokenizerConfig,
    collate,
    train_tokenizer,
    write_examples,
)

LABELS: dict[str, list[str]] = {
    "sequence": ["dry", "wet"],
    "token": ["O", "B-LOC", "I-LOC"],
    "multilabel": [f"label {number}" for number in range(40)],
}
WORDS = ["the", "river", "bank", "of", "北京", "and", "the", "sea", "is", "long"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    texts = ["the river bank of 北京 and the sea"] * 9
    train_tokenizer(TokenizerConfig(vocab_size=300), texts, folder, (*CONTROL_TOKENS, *ENCODER_TOKENS))
    return Tokenizer.load(folder)


def made(kind: LabelKind) -> list[Example]:
    draw = random.Random(3)
    examples = []
    for number in range(12):
        words = tuple(draw.choice(WORDS) for _ in range(draw.choice([1, 4, 40])))
        text, more = " ".join(words), dict[str, Any]()
        if kind == "sequence":
            more = {"pair": "the sea", "label": draw.choice(LABELS[kind])}
        elif kind == "multilabel":
            more = {"labels": tuple(draw.sample(LABELS[kind], draw.choice([0, 1, 5])))}
        elif kind == "number":
            more = {"number": draw.random()}
        elif kind == "token":
            more = {"words": words, "labels": tuple(draw.choice(LABELS[kind]) for _ in words)}
        else:
            answers = (("river", text.index("river")),) if "river" in text else ()
            more = {"pair": "where is it?", "answers": answers}
        examples.append(Example(f"x:{number}", text, **more))
    return examples


@pytest.mark.parametrize("kind", ["sequence", "multilabel", "number", "token", "span"])
def test_evaluation_and_prediction_agree(kind: LabelKind, tokenizer: Tokenizer, tmp_path: Path) -> None:
    body = EncoderConfig(kind="encoder", context_length=48, num_layers=2, hidden_size=16, num_heads=2, ffn_size=32)
    model = LabellerConfig.on(body, kind, LABELS.get(kind, ())).build(tokenizer.vocab_size)
    model.initialise(2)
    with torch.no_grad():
        model.label.output.weight.mul_(30)
        model.label.output.bias.zero_()
    examples = made(kind)
    summary = write_examples(examples, kind, LABELS.get(kind, []), tokenizer, tmp_path, 48)
    assert (summary["windows"] > len(examples)) == (kind in ("token", "span"))
    rows = PackedExamples(tmp_path, "x", 48, tokenizer.vocab_size)
    measured = measure_labels(model.eval(), rows, tokenizer)
    alone = predict(model, tokenizer, examples)
    for evaluated, found in zip(measured.predictions, alone, strict=True):
        if isinstance(found, LabelPrediction):
            assert evaluated == found.label
        elif isinstance(found, LabelsPrediction):
            assert evaluated == list(found.labels)
            assert all((found.probabilities[label] >= 0.5) == (label in evaluated) for label in LABELS[kind])
        elif isinstance(found, NumberPrediction):
            assert evaluated == pytest.approx(found.number, abs=1e-5)
        elif isinstance(found, WordsPrediction):
            assert evaluated == list(found.labels)
        else:
            assert evaluated == found.answer
    batch = collate([rows.row(index) for index in range(rows.num_rows)], [0] * rows.num_rows)
    with torch.inference_mode():
        sums, counts = model(**batch.inputs(), targets=batch.targets)
    first = counts if counts.ndim == 1 else counts[:, 0]
    assert measured.metrics["loss"].value == pytest.approx(float(sums.sum() / first.sum()), rel=1e-4)
    if kind == "multilabel":
        assert any(measured.predictions), "the test is of labels that are had"
        assert {"exact_match", "micro_f1", "macro_f1", "f1/label 39"} <= measured.metrics.keys()
    if kind == "token":
        right = [label for example in examples for label in example.labels]
        said = [label for labels in measured.predictions for label in labels]
        accuracy = sum(a == b for a, b in zip(said, right)) / len(right)
        assert measured.metrics["accuracy"].value == pytest.approx(accuracy)
        assert {"entity_f1", "entity_macro_f1", "entity_f1/LOC"} <= measured.metrics.keys()
    part = measure_labels(model, rows, tokenizer, max_rows=1)
    assert len(part.predictions) < len(examples), "of long texts only those whose windows are all seen"
    assert part.metrics["loss"].n > 0


def test_spans_are_judged_by_the_best_of_their_answers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    def metrics(predicted: list[str], answers: list[list[str]]) -> dict[str, float]:
        text = "the river bank of 北京 and the sea"
        found = [tuple((answer, text.index(answer)) for answer in each) for each in answers]
        examples = [Example(f"x:{i}", text, "where?", answers=each) for i, each in enumerate(found)]
        write_examples(examples, "span", [], tokenizer, tmp_path, 48)
        rows = PackedExamples(tmp_path, "x", 48, tokenizer.vocab_size)
        expected = [each["expected"] for each in rows.examples()]
        return {name: metric.value for name, metric in _metrics(rows, predicted, expected).items()}

    found = metrics(["The sea!", "", "river", "sea"], [["sea", "river bank"], [], [], ["river bank"]])
    assert found == {"exact_match": 0.5, "f1": 0.5}
    found = metrics(["river", "北"], [["sea", "river bank"], ["北京"]])
    assert found == pytest.approx({"exact_match": 0, "f1": 1 / 3, "cmrc_exact_match": 0, "cmrc_f1": 2 / 3})


def test_several_labels_are_judged_as_sklearn_judges_them(tokenizer: Tokenizer, tmp_path: Path) -> None:
    names = ["a", "b", "c", "never"]
    right = [["a"], ["a", "b"], [], ["b", "c"], ["c"]]
    said = [["a"], ["b"], ["c"], ["c", "b"], ["c", "a"]]
    write_examples(
        [Example(f"x:{i}", "sea", labels=tuple(each)) for i, each in enumerate(right)],
        "multilabel", names, tokenizer, tmp_path, 48,
    )  # fmt: skip
    rows = PackedExamples(tmp_path, "x", 48, tokenizer.vocab_size)
    assert [each["expected"] for each in rows.examples()] == right
    found = {name: metric.value for name, metric in _metrics(rows, said, right).items()}
    # Of a: 1 hit, 2 expected, 2 said; of b: 2, 2, 2; of c: 2, 2, 3. Nobody asks for "never".
    assert found["exact_match"] == pytest.approx(2 / 5)
    assert found["micro_f1"] == pytest.approx(2 * 5 / (6 + 7))
    assert [found[f"f1/{name}"] for name in names] == pytest.approx([1 / 2, 1.0, 4 / 5, 0.0])
    assert found["macro_f1"] == pytest.approx((1 / 2 + 1 + 4 / 5) / 3)
    nothing = _metrics(rows, [[]], [[]])
    assert nothing["exact_match"].value == 1.0 and nothing["micro_f1"].value == 0.0


def test_losses_of_classes_are_weighted_as_torch_weights_them() -> None:
    body = EncoderConfig(kind="encoder", context_length=16, num_layers=1, hidden_size=16, num_heads=2, ffn_size=32)
    model = LabellerConfig.on(body, "sequence", ["a", "b", "c"]).build(20)
    scores = torch.randn(4, 1, 3, generator=torch.Generator().manual_seed(1))
    targets, weights = torch.tensor([[0], [1], [2], [-100]]), (0.5, 2.0, 0.0)
    sums, counts = model.losses(scores, targets, None, WeightedLossConfig(class_weights=weights, label_smoothing=0.1))
    wanted = torch.nn.functional.cross_entropy(
        scores[:, 0], targets[:, 0], torch.tensor(weights), reduction="none", label_smoothing=0.1
    )
    torch.testing.assert_close(sums, wanted)
    assert counts.tolist() == [1, 1, 1, 0]
    plain, _ = model.losses(scores, targets, None, LossConfig())
    assert not torch.allclose(plain, sums)
