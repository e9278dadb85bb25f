"""Examples -> packed rows of an encoder, and the labels that occur; several texts lie side by side in one row.

    [CLS] text [SEP]                   label, number, start and end of a span: at [CLS]
    [CLS] text [SEP] pair [SEP]        (of spans: question first, as BERT has it)
    [CLS] w1 w1' w2 ... [SEP]          label of a word: at its first token

Too long texts are cut (the longer of a pair first), and counted. Invariant: each example is in one row and segment, and
`places` says where its answers are to be read; the same examples give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.errors import DataError
from groundup.stage import write_json
from groundup.tokens.arrays import StoredArrays, write_array
from groundup.tokens.conversation_rows import best_fit_decreasing
from groundup.tokens.examples import Example, TaskKind
from groundup.tokens.packing import IGNORE, Row, segments_and_positions
from groundup.tokens.shards import INDEX_FILE, read_index
from groundup.tokens.tokenizer import EncoderIds, Tokenizer

ROWS_FILE, EXAMPLES_FILE = "rows.bin", "examples.jsonl"
TOKENS, SEGMENTS, PARTS, FIRST_TARGETS = range(4)
"""Planes of a stored row; behind them the numbers of examples (at [CLS], else -1)."""


@dataclass
class _Encoded:
    tokens: list[int]
    parts: list[int]
    targets: list[dict[int, int]]
    """Position -> target, of each head."""
    was_cut: bool = False


def labels_of(examples: Iterable[Example], kind: TaskKind) -> list[str]:
    """The labels that occur, sorted (whole numbers by size). Raises DataError when there are fewer than two."""
    found = {label for each in examples for label in ((each.label,) if kind == "sequence" else each.labels)}
    if len(found) < 2:
        raise DataError(
            f"only one label ({', '.join(found) or 'none'}) occurs, so nothing is to be told apart; add data"
        )
    numeric = all(label.lstrip("-").isdigit() for label in found)
    return sorted(found, key=lambda label: (int(label), "") if numeric else (0, label))


def heads_of(kind: TaskKind) -> tuple[str, ...]:
    """Names of the losses of a task, of which the first needs none."""
    return ("", "end") if kind == "span" else ("",)


def outputs_of(kind: TaskKind, labels: Sequence[str]) -> int:
    """Scores that a head gives at each position."""
    return {"number": 1, "span": 2}.get(kind, len(labels))


def write_examples(
    examples: Sequence[Example],
    kind: TaskKind,
    labels: Sequence[str],
    tokenizer: Tokenizer,
    folder: Path,
    context_length: int,
) -> dict[str, Any]:
    """Encode and pack `examples` into `folder`. Returns {examples, cut, rows, tokens, targets, padding_share}.

    Raises DataError for a label that is not among `labels`.
    """
    numbers = {label: index for index, label in enumerate(labels)}
    ids = tokenizer.need_encoder_ids()
    encoded = [_encode(each, kind, numbers, tokenizer, ids, context_length) for each in examples]
    rows = best_fit_decreasing([len(each.tokens) for each in encoded], context_length)
    heads = len(heads_of(kind))
    block = np.zeros((len(rows), FIRST_TARGETS + heads + 1, context_length), dtype="<i4")
    block[:, TOKENS] = ids.pad
    block[:, FIRST_TARGETS : FIRST_TARGETS + heads] = IGNORE
    block[:, -1] = -1
    for planes, members in zip(block, rows):
        start = 0
        for segment, number in enumerate(members):
            each = encoded[number]
            stop = start + len(each.tokens)
            planes[TOKENS, start:stop], planes[PARTS, start:stop] = each.tokens, each.parts
            planes[SEGMENTS, start:stop] = segment
            planes[-1, start] = number
            for head, targets in enumerate(each.targets):
                for place, target in targets.items():
                    # Places of spans are those of the row; labels and numbers are what they are.
                    planes[FIRST_TARGETS + head, start + place] = target + (start if kind == "span" else 0)
            start = stop
        planes[SEGMENTS, start:] = len(members)
    folder.mkdir(parents=True, exist_ok=True)
    write_array(folder / ROWS_FILE, block)
    with (folder / EXAMPLES_FILE).open("w", encoding="utf-8") as handle:
        for example in examples:
            handle.write(json.dumps(_kept(example, kind), ensure_ascii=False) + "\n")
    tokens = sum(len(each.tokens) for each in encoded)
    summary = {
        "examples": len(examples),
        "cut": sum(each.was_cut for each in encoded),
        "rows": len(rows),
        "tokens": tokens,
        "targets": int((block[:, FIRST_TARGETS] != IGNORE).sum()),
        "padding_share": round(1.0 - tokens / (len(rows) * context_length), 6),
    }
    shape = {"planes": block.shape[1], "context_length": context_length, "vocab_size": tokenizer.vocab_size}
    write_json(folder / INDEX_FILE, {**shape, "kind": kind, "labels": list(labels), "summary": summary})
    return summary


def _kept(example: Example, kind: TaskKind) -> dict[str, Any]:
    """What evaluation asks of an example."""
    said: dict[str, Any] = {
        "sequence": example.label,
        "number": example.number,
        "token": list(example.labels),
        "span": [answer for answer, _ in example.answers],
    }
    return {"id": example.id, "expected": said[kind]}


def _encode(
    example: Example,
    kind: TaskKind,
    numbers: Mapping[str, int],
    tokenizer: Tokenizer,
    ids: EncoderIds,
    context_length: int,
) -> _Encoded:
    if kind == "token":
        return _encode_words(example, numbers, tokenizer, ids, context_length)
    if kind == "span":
        return _encode_span(example, tokenizer, ids, context_length)
    first = tokenizer.encode(example.text)
    second = [] if example.pair is None else tokenizer.encode(example.pair)
    frames = 2 if example.pair is None else 3
    excess = len(first) + len(second) + frames - context_length
    was_cut = excess > 0
    while excess > 0:
        longer = first if len(first) >= len(second) else second
        longer.pop()
        excess -= 1
    tokens = [ids.cls, *first, ids.sep]
    parts = [0] * len(tokens)
    if example.pair is not None:
        tokens += [*second, ids.sep]
        parts += [1] * (len(second) + 1)
    if kind == "number":
        target = int(np.float32(example.number).view(np.int32))
    else:
        target = _number_of(example.label, numbers, example)
    return _Encoded(tokens, parts, [{0: target}], was_cut)


def _encode_words(
    example: Example, numbers: Mapping[str, int], tokenizer: Tokenizer, ids: EncoderIds, context_length: int
) -> _Encoded:
    """Each word behind a space, as in running text, but the first."""
    tokens, targets = [ids.cls], dict[int, int]()
    texts = [word if index == 0 else f" {word}" for index, word in enumerate(example.words)]
    was_cut = False
    for pieces, label in zip(tokenizer.encode_batch(texts), example.labels):
        if len(tokens) + len(pieces) + 1 > context_length:
            was_cut = True
            break
        targets[len(tokens)] = _number_of(label, numbers, example)
        tokens += pieces
    tokens.append(ids.sep)
    return _Encoded(tokens, [0] * len(tokens), [targets], was_cut)


def _encode_span(example: Example, tokenizer: Tokenizer, ids: EncoderIds, context_length: int) -> _Encoded:
    """Question, then as much of the text as fits; an answer beyond it, or none, is a span at [CLS]."""
    assert example.pair is not None, "examples of spans are checked to have a question"
    question = tokenizer.encode(example.pair)[: context_length // 2]
    text = tokenizer.encode(example.text)
    room = context_length - len(question) - 3
    was_cut, text = len(text) > room, text[:room]
    offset = len(question) + 2
    tokens = [ids.cls, *question, ids.sep, *text, ids.sep]
    parts = [0] * offset + [1] * (len(text) + 1)
    start, end = 0, 0
    if example.answers:
        answer, at = example.answers[0]
        first_byte = len(example.text[:at].encode())
        ends = np.cumsum([len(tokenizer.token_bytes(token)) for token in text])
        first = int(np.searchsorted(ends, first_byte, side="right"))
        last = int(np.searchsorted(ends, first_byte + len(answer.encode()) - 1, side="right"))
        if last < len(text):
            start, end = offset + first, offset + last
    return _Encoded(tokens, parts, [{0: start}, {0: end}], was_cut)


def _number_of(label: str, numbers: Mapping[str, int], example: Example) -> int:
    if label not in numbers:
        raise DataError(
            f"{example.id[-60:]}: label {label[:30]!r} is none of those of training ({', '.join(numbers)[:50]}); "
            "add it there, or take the record out"
        )
    return numbers[label]


class PackedExamples:
    """The rows that `write_examples` left in a folder.

    Raises DataError when the folder is not finished, or was made for another context or vocabulary.
    """

    def __init__(self, folder: Path, name: str, context_length: int, vocab_size: int) -> None:
        index = read_index(folder)
        self.folder, self.name, self.context_length = folder, name, context_length
        if (index.get("context_length"), index.get("vocab_size")) != (context_length, vocab_size):
            raise DataError(f"{folder}: made for another context or vocabulary; remove the folder and run again")
        self.kind: TaskKind = index["kind"]
        self.labels: list[str] = list(index["labels"])
        self.num_rows, self._planes = int(index["summary"]["rows"]), int(index["planes"])
        count = self.num_rows * self._planes * context_length
        self._file = StoredArrays([folder / ROWS_FILE], [count], "<i4")

    def row(self, index: int) -> Row:
        """Row `index`; positions start from 0 in each text and in the padding."""
        planes = self._read(index)
        is_start = np.ones(self.context_length, dtype=bool)
        np.not_equal(planes[SEGMENTS, 1:], planes[SEGMENTS, :-1], out=is_start[1:])
        targets = planes[FIRST_TARGETS:-1].astype(np.int64)
        targets = targets if len(targets) > 1 else targets[0]
        tokens, parts = planes[TOKENS].astype(np.int64), planes[PARTS].copy()
        return Row(tokens, targets, *segments_and_positions(is_start), parts)

    def places(self, index: int) -> list[tuple[int, int]]:
        """(position of [CLS], number of the example) of each example in row `index`."""
        numbers = self._read(index)[-1]
        return [(int(place), int(numbers[place])) for place in np.flatnonzero(numbers >= 0)]

    def expected(self) -> list[Any]:
        """What is right, by number of the example."""
        with (self.folder / EXAMPLES_FILE).open(encoding="utf-8") as handle:
            return [json.loads(line)["expected"] for line in handle]

    def _read(self, index: int) -> NDArray[np.int32]:
        if not 0 <= index < self.num_rows:
            raise IndexError(f"{self.name}: row {index} of {self.num_rows}")
        numbers = self._planes * self.context_length
        return self._file.read(0, index * numbers, numbers).reshape(self._planes, self.context_length)
