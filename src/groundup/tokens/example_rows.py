"""Examples -> packed rows of an encoder, and the labels that occur; several windows lie side by side in one row.

    tokens  segments  parts  targets of each head  number of the example  number of the first word or token

Invariant: each window (`example_encoding`) is in one row and segment, and `places` says where its answers are to be
read; the same examples give the same bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from groundup.errors import DataError
from groundup.stage import write_json
from groundup.tokens.arrays import StoredArrays, write_array
from groundup.tokens.conversation_rows import best_fit_decreasing
from groundup.tokens.example_encoding import SET_BITS, Window, encode_example, sets_of
from groundup.tokens.example_values import is_whole
from groundup.tokens.examples import Example, TaskKind
from groundup.tokens.packing import IGNORE, Row, segments_and_positions
from groundup.tokens.shards import INDEX_FILE, read_index
from groundup.tokens.tokenizer import Tokenizer

ROWS_FILE, EXAMPLES_FILE = "rows.bin", "examples.jsonl"
TOKENS, SEGMENTS, PARTS, FIRST_TARGETS = range(4)
NUMBERS, FIRSTS = -2, -1
"""Planes of a stored row; the last two have a number at each [CLS], else -1."""


class Place(NamedTuple):
    """A window in a row: position of its [CLS], number of its example, and of its first word or token of the text."""

    position: int
    example: int
    first: int


def labels_of(examples: Iterable[Example], kind: TaskKind) -> Counter[str]:
    """The labels that occur and how often, sorted (whole numbers by size).

    Raises DataError when nothing is to be told apart: one label only, or the same labels everywhere.
    """
    said = [(each.label,) if kind == "sequence" else each.labels for each in examples]
    found = Counter(label for labels in said for label in labels)
    if kind == "multilabel":
        if len(set(map(frozenset, said))) < 2:
            raise DataError(
                f"all texts have the same labels ({', '.join(found) or 'none'}), so nothing is to be told apart"
            )
    elif len(found) < 2:
        raise DataError(
            f"only one label ({', '.join(found) or 'none'}) occurs, so nothing is to be told apart; add data"
        )
    numeric = all(map(is_whole, found))
    ordered = sorted(found, key=lambda label: (int(label), label) if numeric else (0, label))
    return Counter({label: found[label] for label in ordered})


def heads_of(kind: TaskKind, num_labels: int = 0) -> tuple[str, ...]:
    """Names of the losses of a task, of which the first needs none; of many labels at a time those of each part."""
    if kind == "multilabel":
        return ("", *(f"labels_from_{part * SET_BITS}" for part in range(1, sets_of(num_labels))))
    return ("", "end") if kind == "span" else ("",)


def write_examples(
    examples: Sequence[Example],
    kind: TaskKind,
    labels: Sequence[str],
    tokenizer: Tokenizer,
    folder: Path,
    context_length: int,
) -> dict[str, Any]:
    """Encode and pack `examples` into `folder`.

    Returns {examples, windows, cut, rows, windows_per_row and answer_tokens (at most), tokens, targets, padding_share}.

    Raises DataError for a label that is not among `labels`.
    """
    numbers = {label: index for index, label in enumerate(labels)}
    encoded = [encode_example(each, kind, numbers, tokenizer, context_length) for each in examples]
    windows = [(number, window) for number, group in enumerate(encoded) for window in group]
    rows = best_fit_decreasing([len(window.tokens) for _, window in windows], context_length)
    heads = len(heads_of(kind, len(labels)))
    block = np.zeros((len(rows), FIRST_TARGETS + heads + 2, context_length), dtype="<i4")
    block[:, TOKENS] = tokenizer.need_encoder_ids().pad
    block[:, FIRST_TARGETS:NUMBERS] = IGNORE
    block[:, NUMBERS:] = -1
    for planes, members in zip(block, rows):
        _fill(planes, [windows[member] for member in members], kind)
    folder.mkdir(parents=True, exist_ok=True)
    write_array(folder / ROWS_FILE, block)
    with (folder / EXAMPLES_FILE).open("w", encoding="utf-8") as handle:
        for example, group in zip(examples, encoded):
            kept = {**_kept(example, kind), "windows": len(group)}
            handle.write(json.dumps(kept, ensure_ascii=False) + "\n")
    tokens = sum(len(window.tokens) for _, window in windows)
    summary = {
        "examples": len(examples),
        "windows": len(windows),
        "cut": sum(any(window.was_cut for window in group) for group in encoded),
        "rows": len(rows),
        "windows_per_row": max(map(len, rows), default=0),
        **({"answer_tokens": _longest_answer(window for _, window in windows)} if kind == "span" else {}),
        "tokens": tokens,
        "targets": int((block[:, FIRST_TARGETS] != IGNORE).sum()),
        "padding_share": round(1.0 - tokens / (len(rows) * context_length), 6),
    }
    shape = {"planes": block.shape[1], "context_length": context_length, "vocab_size": tokenizer.vocab_size}
    write_json(folder / INDEX_FILE, {**shape, "kind": kind, "labels": list(labels), "summary": summary})
    return summary


def _longest_answer(windows: Iterable[Window]) -> int:
    """Tokens of the longest span that is a target; a window without one counts as one token, its [CLS]."""
    return max((end[0] - start[0] + 1 for start, end in (window.targets for window in windows)), default=0)


def _fill(planes: NDArray[np.int32], members: Sequence[tuple[int, Window]], kind: TaskKind) -> None:
    start = 0
    for segment, (number, window) in enumerate(members):
        stop = start + len(window.tokens)
        planes[TOKENS, start:stop], planes[PARTS, start:stop] = window.tokens, window.parts
        planes[SEGMENTS, start:stop] = segment
        planes[NUMBERS, start], planes[FIRSTS, start] = number, window.first
        for head, targets in enumerate(window.targets):
            for place, target in targets.items():
                # Places of spans are those of the row; labels and numbers are what they are.
                planes[FIRST_TARGETS + head, start + place] = target + (start if kind == "span" else 0)
        start = stop
    planes[SEGMENTS, start:] = len(members)


def _kept(example: Example, kind: TaskKind) -> dict[str, Any]:
    """What evaluation asks of an example."""
    said: dict[str, Any] = {
        "sequence": example.label,
        "multilabel": list(example.labels),
        "number": example.number,
        "token": list(example.labels),
        "span": [answer for answer, _ in example.answers],
    }
    text = {"text": example.text} if kind == "span" else {}
    return {"id": example.id, "expected": said[kind], **text}


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
        """Row `index`; positions start from 0 in each window and in the padding."""
        planes = self._read(index)
        is_start = np.ones(self.context_length, dtype=bool)
        np.not_equal(planes[SEGMENTS, 1:], planes[SEGMENTS, :-1], out=is_start[1:])
        targets = planes[FIRST_TARGETS:NUMBERS].astype(np.int64)
        targets = targets if len(targets) > 1 else targets[0]
        tokens, parts = planes[TOKENS].astype(np.int64), planes[PARTS].copy()
        return Row(tokens, targets, *segments_and_positions(is_start), parts)

    def places(self, index: int) -> list[Place]:
        """The windows in row `index`."""
        numbers, firsts = self._read(index)[NUMBERS:]
        return [Place(at, int(numbers[at]), int(firsts[at])) for at in np.flatnonzero(numbers >= 0).tolist()]

    def examples(self) -> Iterator[dict[str, Any]]:
        """What is right, by number of the example: {id, expected, windows}, of spans the text too."""
        with (self.folder / EXAMPLES_FILE).open(encoding="utf-8") as handle:
            for line in handle:
                yield json.loads(line)

    def _read(self, index: int) -> NDArray[np.int32]:
        if not 0 <= index < self.num_rows:
            raise IndexError(f"{self.name}: row {index} of {self.num_rows}")
        numbers = self._planes * self.context_length
        return self._file.read(0, index * numbers, numbers).reshape(self._planes, self.context_length)
