"""Held-out conversations -> a file of them, of which each can be read by itself.

    questions.jsonl    one conversation a line
    questions.bin      raw int64 [questions + 1]: where each line starts; and the end

Invariant: what is read is what was written, in order, and memory does not grow with the number of questions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from groundup.errors import DataError
from groundup.tokens.arrays import StoredArrays
from groundup.tokens.conversations import Conversation

QUESTIONS_FILE, STARTS_FILE = "questions.jsonl", "questions.bin"
_START_BYTES = 8


def write_questions(conversations: Iterable[Conversation], folder: Path) -> int:
    """Write conversations one by one into `folder`, which the caller seals; returns how many there were."""
    count, start = 0, 0
    with (folder / QUESTIONS_FILE).open("wb") as lines, (folder / STARTS_FILE).open("wb") as starts:
        starts.write(np.int64(0).astype("<i8").tobytes())
        for conversation in conversations:
            line = json.dumps(conversation.as_dict()).encode() + b"\n"
            lines.write(line)
            count, start = count + 1, start + len(line)
            starts.write(np.int64(start).astype("<i8").tobytes())
    return count


class Questions(Sequence[Conversation]):
    """The conversations that `write_questions` left in a folder, read when they are asked for.

    Raises DataError when a file is missing, of a wrong size, or a line in it is no conversation.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / QUESTIONS_FILE
        starts = folder / STARTS_FILE
        self._count = max(starts.stat().st_size // _START_BYTES - 1, 0) if starts.is_file() else 0
        self._starts = StoredArrays([starts], [self._count + 1], "<i8")
        size = int(self._starts.read(0, self._count, 1)[0])
        self._lines = StoredArrays([self._path], [size], "u1")

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Conversation: ...
    @overload
    def __getitem__(self, index: slice) -> list[Conversation]: ...
    def __getitem__(self, index: int | slice) -> Conversation | list[Conversation]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(f"question {index} of {self._count}")
        start, stop = self._starts.read(0, index % self._count, 2).tolist()
        try:
            values: Any = json.loads(self._lines.read(0, start, stop - start).tobytes())
            return Conversation.from_dict(values)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self._path}: question {index} is damaged ({str(error)[:40]}); remove the stage's folder, run again"
            ) from None
