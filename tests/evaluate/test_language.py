"""Bits per byte, perplexity and accuracy against a slow count, document by document."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from groundup.errors import DataError
from groundup.evaluate import EvaluateConfig, Subject, measure_text
from groundup.evaluate.language import MIN_DOCUMENTS, measure_language
from groundup.models import Decoder, LSTMConfig, build_model
from groundup.tokens import IGNORE, PackedText, Tokenizer

Pack = Callable[..., PackedText]
DOCUMENTS = ("Paris, 北京 café", "the cat sat on the mat. " * 7, "x", "Zürich 1815: naïve Emma <|end|>")


@torch.no_grad()
def slow_sums(model: Decoder, tokenizer: Tokenizer, documents: tuple[str, ...]) -> tuple[float, int, int, int]:
    """Nats, tokens, right tokens and bytes: windows cut the stream, each piece of a document is a pass of its own."""
    stream: list[tuple[int, int]] = []
    for number, text in enumerate(documents):
        stream += [(number, token) for token in (tokenizer.end_of_text_id, *tokenizer.encode(text))]
    nats, tokens, right, n_bytes = 0.0, 0, 0, 0
    time = model.config.context_length
    for start in range(0, len(stream), time):
        window = stream[start : start + time + 1]
        for number in {document for document, _ in window[:time]}:
            piece = [(at, token) for at, (document, token) in enumerate(window[:time]) if document == number]
            scores = model(torch.tensor([[token for _, token in piece]]))[0]
            for (at, _), logits in zip(piece, scores):
                if at + 1 == len(window) or window[at + 1][0] != number:
                    continue
                target = window[at + 1][1]
                nats += functional.cross_entropy(logits, torch.tensor(target)).item()
                tokens += 1
                right += int(logits.argmax() == target)
                n_bytes += len(tokenizer.decode_bytes([target]))
    return nats, tokens, right, n_bytes


def test_figures_are_those_of_a_slow_count(model: Decoder, tokenizer: Tokenizer, packed: Pack) -> None:
    nats, tokens, right, n_bytes = slow_sums(model, tokenizer, DOCUMENTS)
    assert n_bytes == sum(len(text.encode()) for text in DOCUMENTS)
    found = measure_text(model, packed(*DOCUMENTS), tokenizer).metrics()
    assert found["bits_per_byte"].value == pytest.approx(nats / math.log(2) / n_bytes, rel=1e-4)
    assert found["perplexity"].value == pytest.approx(math.exp(nats / tokens), rel=1e-3)
    assert found["token_accuracy"].value == pytest.approx(right / tokens)
    assert (found["bits_per_byte"].n, found["perplexity"].n) == (n_bytes, tokens)


def test_the_size_of_micro_batches_changes_nothing(
    model: Decoder, tokenizer: Tokenizer, packed: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = packed(*DOCUMENTS * 12)
    whole = measure_text(model, rows, tokenizer)
    monkeypatch.setattr("groundup.evaluate.language.BATCH_TOKENS", 2 * rows.context_length)
    parts = measure_text(model, rows, tokenizer)
    assert whole.clusters == parts.clusters == "documents"
    assert whole.nats_per_token["documents"].clusters == len(DOCUMENTS) * 12
    for name, metric in whole.metrics().items():
        assert parts.metrics()[name].value == pytest.approx(metric.value, rel=1e-5)
        assert parts.metrics()[name].stderr == pytest.approx(metric.stderr, rel=1e-3)


def test_few_long_documents_are_counted_by_row(model: Decoder, tokenizer: Tokenizer, packed: Pack) -> None:
    measure = measure_text(model, packed("the cat sat on the mat. " * 60), tokenizer)
    assert measure.nats_per_token["documents"].clusters == 1 < MIN_DOCUMENTS
    assert measure.clusters == "rows"
    assert measure.metrics()["bits_per_byte"].stderr is not None


def test_perplexity_has_the_error_of_the_loss_carried_over(model: Decoder, tokenizer: Tokenizer, packed: Pack) -> None:
    measure = measure_text(model, packed(*DOCUMENTS * 12), tokenizer)
    loss, perplexity = measure.nats_per_token["documents"], measure.metrics()["perplexity"]
    assert loss.stderr is not None
    assert perplexity.stderr == pytest.approx(math.exp(loss.value) * loss.stderr)


def test_only_the_first_rows_when_asked(model: Decoder, tokenizer: Tokenizer, packed: Pack) -> None:
    rows = packed(*DOCUMENTS * 5)
    counted: list[int] = []
    summary = measure_text(model, rows, tokenizer, max_rows=2, advance=counted.append).summary()
    assert sum(counted) == 2
    assert summary["n_tokens"] <= 2 * rows.context_length
    assert math.isclose(summary["loss"], measure_text(model, rows, tokenizer, max_rows=2).summary()["loss"])


def test_a_text_without_text_is_refused(model: Decoder, tokenizer: Tokenizer, packed: Pack) -> None:
    with pytest.raises(DataError, match="give a longer text"):
        measure_text(model, packed("", ""), tokenizer)


def test_the_first_text_is_the_headline(model: Decoder, tokenizer: Tokenizer, packed: Pack) -> None:
    texts = {"validation": packed(*DOCUMENTS), "test/emma": packed("Emma 1815", name="emma")}
    result = measure_language(Subject(model, tokenizer, texts), EvaluateConfig())
    for metric in ("bits_per_byte", "perplexity", "token_accuracy"):
        assert result.metrics[metric] == result.metrics[f"{metric}/validation"]
        assert result.metrics[f"{metric}/test/emma"] != result.metrics[metric]
    texts_found: dict[str, Any] = result.samples["texts"]
    assert texts_found["test/emma"]["n_bytes"] == len("Emma 1815")


def test_a_text_can_be_read_as_one_stream(tokenizer: Tokenizer, packed: Pack) -> None:
    lstm = build_model(LSTMConfig(context_length=48, num_layers=2, hidden_size=24), tokenizer.vocab_size)
    lstm.initialise(3)
    with torch.no_grad():
        lstm.head.weight.mul_(50.0)  # type: ignore[operator, union-attr]
    rows = packed(*DOCUMENTS * 6)
    stream = [rows.row(index) for index in range(rows.num_rows)]
    tokens, targets = (torch.cat([torch.from_numpy(row[plane]) for row in stream]) for plane in (0, 1))
    with torch.no_grad():
        nats = functional.cross_entropy(lstm(tokens[None])[0], targets, ignore_index=IGNORE, reduction="none")
    is_text = (targets != IGNORE) & (targets != tokenizer.end_of_text_id)
    carried = measure_text(lstm, rows, tokenizer, carry_states=True).summary()["loss"]
    assert carried == pytest.approx(float(nats[is_text].mean()), rel=1e-4)
    assert carried != pytest.approx(measure_text(lstm, rows, tokenizer).summary()["loss"], rel=1e-4)


def test_a_decoder_carries_nothing(model: Decoder, tokenizer: Tokenizer, packed: Pack) -> None:
    rows = packed(*DOCUMENTS * 6)
    carried = measure_text(model, rows, tokenizer, carry_states=True).summary()
    assert carried == measure_text(model, rows, tokenizer).summary()
