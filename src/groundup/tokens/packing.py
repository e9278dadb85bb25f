"""Token files -> datasets of rows of context_length tokens, each made by arithmetic and a few array operations.

    PackedText            row i = tokens [i*T, (i+1)*T) of the stream; targets reach one token over the border
    PackedConversations   row i = whole conversations side by side, packed when they were written (`conversation_rows`)

       tokens     <eot> a   b   c  <eot> d   e        a row of two documents; documents do not see each other
       targets     a    b   c <eot>  d   e   ?        the token that follows in the stream; IGNORE where none is learnt
       segments    0    0   0   0    1   1   1
       positions   0    1   2   3    0   1   2

Invariant: every token of the stream is the target of exactly one position (the first of all apart), and every
conversation lies in exactly one row. Padding is <|endoftext|> in a segment of its own and has no target.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from groundup.errors import DataError
from groundup.tokens.arrays import StoredArrays
from groundup.tokens.shards import TokenShards, read_index
from groundup.tokens.template import Encoded

IGNORE = -100
TOKENS, TARGETS, SEGMENTS = 0, 1, 2
"""Planes of a stored row of conversations: file `rows-NNNNN.bin` is [rows, 3, context_length]."""


class Row(NamedTuple):
    """One row: tokens Int64 [time], targets Int64 [time] or [heads, time], segments, positions and parts Int32 [time].

    `parts`: which text of a pair a token belongs to, for models that have such an embedding.
    """

    tokens: NDArray[np.int64]
    targets: NDArray[np.int64]
    segments: NDArray[np.int32]
    positions: NDArray[np.int32]
    parts: NDArray[np.int32] | None = None
    answers: NDArray[np.int64] | None = None
    """Of rows of preferences (`preference_rows`), whose targets and groups stand at the number of a segment."""
    groups: NDArray[np.int32] | None = None
    references: NDArray[np.float32] | None = None


class Rows(Protocol):
    """A dataset of fixed-length rows."""

    name: str
    num_rows: int
    context_length: int

    def row(self, index: int) -> Row:
        """Row `index`, 0 <= index < num_rows. Raises DataError when its tokens are damaged."""


@runtime_checkable
class DrawnRows(Rows, Protocol):
    """Rows of which something is drawn at random anew at every use, such as which tokens are masked."""

    def drawn(self, index: int, draw: int) -> Row:
        """Row `index` as it is at use number `draw` of the run (its number among all rows trained on)."""


def segments_and_positions(is_start: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Number of the segment, and position within it from 0, given where segments start (the first at 0); all [time]."""
    segments = is_start.cumsum(dtype=np.int32)
    segments -= 1
    starts = is_start.nonzero()[0].astype(np.int32)
    positions = np.arange(len(is_start), dtype=np.int32)
    positions -= starts[segments]
    return segments, positions


class PackedText:
    """Windows of a document stream, without padding but in the last row; documents are cut where a window ends.

    Raises DataError when the folder is no finished token data, a shard's size is wrong, or the vocabulary differs.
    """

    def __init__(self, folder: Path, name: str, context_length: int, vocab_size: int | None = None) -> None:
        self.shards = TokenShards(folder, vocab_size)
        self.name = name
        self.context_length = context_length
        self.num_tokens = self.shards.num_tokens
        self.num_rows = -(-self.num_tokens // context_length)
        self.text_bytes = self.shards.text_bytes
        self.padding_share = 1.0 - self.num_tokens / (self.num_rows * context_length)

    def row(self, index: int) -> Row:
        """Window `index`. The stream's very last token has <|endoftext|> as target, like the last of every document."""
        _check_index(self, index)
        time, end_of_text = self.context_length, self.shards.end_of_text_id
        first = index * time
        window = self.shards.window(first, min(first + time + 1, self.num_tokens))
        length = min(time, self.num_tokens - first)
        tokens, targets = window[:time], window[1:]
        if len(targets) < time:
            tokens = np.full(time, end_of_text, dtype=np.int64)
            tokens[:length] = window
            targets = np.full(time, IGNORE, dtype=np.int64)
            targets[: length - 1] = window[1:]
            targets[length - 1] = end_of_text
        is_start = tokens == end_of_text
        is_start[length + 1 :] = False
        is_start[0] = True
        return Row(tokens, targets, *segments_and_positions(is_start))


class PackedConversations:
    """Rows of whole conversations as `write_conversations` left them.

    Raises DataError when the folder is no finished row data, a file's size is wrong, or vocabulary or context differ.
    """

    def __init__(self, folder: Path, name: str, context_length: int, vocab_size: int | None = None) -> None:
        index = read_index(folder)
        try:
            stored, self.vocab_size = int(index["context_length"]), int(index["vocab_size"])
            self._dtype = {"<u2": "<u2", "<u4": "<u4"}[index["dtype"]]
            rows = [int(count) for count in index["rows_of_files"]]
            self.summary: dict[str, Any] = dict(index["summary"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{folder}: no usable index of packed rows ({error}); remove the folder, run again"
            ) from None
        if context_length != stored or vocab_size not in (None, self.vocab_size):
            raise DataError(
                f"{folder}: packed for context {stored} and {self.vocab_size} tokens, asked for {context_length} and "
                f"{vocab_size}; run `groundup prepare` again"
            )
        self.folder, self.name, self.context_length = folder, name, context_length
        row_numbers = 3 * context_length
        paths, counts = [self.row_path(i) for i in range(len(rows))], [count * row_numbers for count in rows]
        self._files = StoredArrays(paths, counts, self._dtype)
        self._ends = list(accumulate(rows))
        self.num_rows = self._ends[-1] if rows else 0
        self._none = int(np.iinfo(self._dtype).max)

    def row_path(self, file: int) -> Path:
        """File of rows number `file`."""
        return self.folder / f"rows-{file:05d}.bin"

    def row(self, index: int) -> Row:
        """Row `index`; positions start from 0 in each conversation and in the padding."""
        _check_index(self, index)
        file = bisect_right(self._ends, index)
        place = index - (self._ends[file - 1] if file else 0)
        row_numbers = 3 * self.context_length
        planes = self._files.read(file, place * row_numbers, row_numbers).reshape(3, self.context_length)
        tokens, targets = planes[TOKENS].astype(np.int64), planes[TARGETS].astype(np.int64)
        targets[targets == self._none] = IGNORE
        if tokens.max() >= self.vocab_size or targets.max() >= self.vocab_size:
            raise DataError(
                f"{self.row_path(file)}: row {place} holds a token id outside the vocabulary of {self.vocab_size}; "
                "the file is damaged, remove the stage's folder and run again"
            )
        is_start = np.ones(self.context_length, dtype=bool)
        np.not_equal(planes[SEGMENTS, 1:], planes[SEGMENTS, :-1], out=is_start[1:])
        return Row(tokens, targets, *segments_and_positions(is_start))


def _check_index(rows: Rows, index: int) -> None:
    if not 0 <= index < rows.num_rows:
        raise IndexError(f"{rows.name}: row {index} of {rows.num_rows}")


def examples_of(row: Row) -> list[Encoded]:
    """The documents or conversations of a row as (ids, is_target): inputs and, at the end, the last target."""
    examples = []
    for _, group in groupby(range(len(row.tokens)), key=lambda i: int(row.segments[i])):
        places = list(group)
        targets = [int(row.targets[i]) for i in places]
        if all(target == IGNORE for target in targets):
            continue
        ids = [int(row.tokens[i]) for i in places]
        is_target = [False, *(target != IGNORE for target in targets)]
        last = [targets[-1]] if targets[-1] != IGNORE else []
        examples.append(Encoded([*ids, *last], is_target[: len(ids) + len(last)]))
    return examples
