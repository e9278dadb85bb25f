"""Evaluation streams: ten times the documents or questions need the memory of one."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from groundup.evaluate import EvaluateConfig, Subject, language
from groundup.evaluate.answers import measure_answers
from groundup.evaluate.language import measure_language, measure_text
from groundup.models import Decoder
from groundup.tokens import Batch, Conversation, PackedText, Tokenizer, Turn, write_shards
from tests.evaluate.conftest import CONTEXT_LENGTH, Text

SENTENCE = "the cat sat on the mat in Zürich, 1815. "
ALLOWANCE = 1.2
GARBAGE_BYTES = 50_000
"""What the collector has not got to yet; ten times as much if a document left what it is measured by."""


class Documents:
    """So many documents, made while they are read."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[Text]:
        return (Text(f"{i} {SENTENCE * (i % 8)}") for i in range(self.count))


class Questions(Sequence[Conversation]):
    """So many questions, made when they are asked for."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        turns = (Turn("user", f"cat {index % 7}? " * 4), Turn("assistant", "mat"))
        return Conversation(str(index), turns, "questions", {"kind": "short", "note": f"{index:5}" * 800})


class Alive:
    """Counts how many of the things it was shown are there at the same time."""

    def __init__(self) -> None:
        self.now = self.most = self.shown = 0

    def show(self, thing: Any) -> None:
        """Count a thing until it is gone."""
        self.now, self.shown = self.now + 1, self.shown + 1
        self.most = max(self.most, self.now)
        weakref.finalize(thing, self._gone)

    def _gone(self) -> None:
        self.now -= 1


class LargestTensor(TorchDispatchMode):
    """Remembers the most numbers that any operation gave."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.largest = max(self.largest, result.numel())
        return result


def peak_bytes(action: Callable[[], object]) -> int:
    """Peak of Python's and numpy's memory; the first call warms caches up."""
    action()
    gc.collect()
    tracemalloc.start()
    action()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that one batch is far less than what is measured, as it is where there is much."""
    monkeypatch.setattr("groundup.evaluate.language.BATCH_TOKENS", 16 * CONTEXT_LENGTH)
    monkeypatch.setattr("groundup.evaluate.answers.QUESTIONS_AT_ONCE", 32)
    monkeypatch.setattr("groundup.evaluate.answers.MAX_SAMPLES", 8)


@pytest.mark.usefixtures("small_batches")
def test_ten_times_the_documents_need_the_same_memory(model: Decoder, tokenizer: Tokenizer, tmp_path: Path) -> None:
    def measured(count: int) -> int:
        folder = tmp_path / str(count)
        write_shards(Documents(count), tokenizer, folder, shard_tokens=1 << 12)

        def evaluate() -> None:
            rows = PackedText(folder, "validation", CONTEXT_LENGTH)
            found = measure_language(Subject(model, tokenizer, {"validation": rows}), EvaluateConfig())
            assert found.samples["texts"]["validation"]["n_documents"] == count

        return peak_bytes(evaluate)

    few, many = measured(60), measured(600)
    assert many <= ALLOWANCE * few + GARBAGE_BYTES


@pytest.mark.usefixtures("small_batches")
def test_of_all_batches_and_their_sums_only_the_last_are_there(
    model: Decoder, tokenizer: Tokenizer, packed: Callable[..., PackedText], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What torch holds is not seen by tracemalloc, so it is counted."""
    batches, sums = Alive(), Alive()
    real_batches, real_add = language.ordered_batches, language.TextMeasure.add

    def shown_batches(*given: Any) -> Iterator[Batch]:
        for batch in real_batches(*given):
            batches.show(batch.tokens)
            yield batch

    def shown_add(measure: language.TextMeasure, found: Any, starts: Any) -> None:
        sums.show(found)
        real_add(measure, found, starts)

    monkeypatch.setattr(language, "ordered_batches", shown_batches)
    monkeypatch.setattr(language.TextMeasure, "add", shown_add)
    measure_text(model, packed(*(document.text for document in Documents(200))), tokenizer)
    assert batches.shown == sums.shown > 10
    assert max(batches.most, sums.most) <= 2


@pytest.mark.usefixtures("small_batches")
def test_ten_times_the_questions_need_the_same_memory(model: Decoder, tokenizer: Tokenizer) -> None:
    def measured(count: int) -> int:
        def evaluate() -> None:
            found = measure_answers(
                Subject(model, tokenizer, questions=Questions(count)), EvaluateConfig(max_new_tokens=1)
            )
            assert found.metrics["exact_match/short"].n == count
            assert len(found.samples["answers"]) == 8

        return peak_bytes(evaluate)

    few, many = measured(96), measured(960)
    assert many <= ALLOWANCE * few + GARBAGE_BYTES


def test_a_large_vocabulary_is_measured_in_smaller_batches(
    model: Decoder, tokenizer: Tokenizer, packed: Callable[..., PackedText], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = packed(*[SENTENCE] * 30)
    wanted = measure_text(model, rows, tokenizer).metrics()
    limit = 2 * CONTEXT_LENGTH * tokenizer.vocab_size
    monkeypatch.setattr("groundup.evaluate.language.BATCH_LOGITS", limit)
    with LargestTensor() as tensors:
        found = measure_text(model, rows, tokenizer).metrics()
    assert tensors.largest <= limit
    assert found["bits_per_byte"].value == pytest.approx(wanted["bits_per_byte"].value, rel=1e-5)
