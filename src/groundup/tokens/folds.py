"""Packed conversations -> the same conversations in k parts, each packed anew: what cross-validation holds out.

    row --examples_of--> ids, targets --prompt up to the first answer--> hash --> fold 0 ... k-1 --> rows-NNNNN.bin

A conversation's fold is a hash of the letters and digits of its prompt, so conversations that begin alike (another
answer, another case or punctuation, another source) are in one fold and none is trained on in the guise of another.
Where a template needs several examples for a conversation, one for each answer that it renders otherwise later on, the
first answer's prompt is what all of them begin with, and it decides for all.
The rows are taken as the stage of the conversations left them: whatever template made them, the targets are the same.
Invariant: every conversation is in exactly one fold; the same rows give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from groundup.stage import write_json
from groundup.tokens.arrays import write_array
from groundup.tokens.conversation_rows import EXTRA, Counts, Item, Packing, item_of, pack_items, write_index
from groundup.tokens.packing import PackedConversations, examples_of
from groundup.tokens.template import Encoded
from groundup.tokens.tokenizer import Tokenizer

FOLD_LOOK_AHEAD_TOKENS = 1 << 20
FOLDS_FILE = "folds.json"


def fold_of(prompt: str, folds: int) -> int:
    """Fold 0 ... folds-1 of a conversation that begins with `prompt`; only its letters and digits count."""
    plain = "".join(filter(str.isalnum, unicodedata.normalize("NFKC", prompt).casefold()))
    digest = hashlib.sha256((plain or prompt).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % folds


def prompt_of(example: Encoded, tokenizer: Tokenizer, prompts: Prompts | None = None) -> str:
    """What stands before the first answer of a conversation that is learnt, without control tokens.

    `prompts`: of all examples, where one conversation may have become several.
    """
    asked = example.ids[: example.is_target.index(True)]
    return tokenizer.decode(asked[: prompts.first_length(asked)] if prompts else asked)


class Prompts:
    """The prompts of all examples, to find the shortest that another one begins with."""

    def __init__(self, rows: PackedConversations) -> None:
        self._digests: set[bytes] = set()
        self._ends: set[int] = set()
        for index in range(rows.num_rows):
            for example in examples_of(rows.row(index)):
                asked = example.ids[: example.is_target.index(True)]
                self._digests.add(_digest(asked))
                self._ends.add(asked[-1])

    def first_length(self, asked: Sequence[int]) -> int:
        """How many of the ids of a prompt are the shortest prompt that it begins with."""
        ends = (place for place, token in enumerate(asked, start=1) if token in self._ends)
        return next((end for end in ends if _digest(asked[:end]) in self._digests), len(asked))


def _digest(ids: Sequence[int]) -> bytes:
    return hashlib.blake2b(np.array(ids, dtype="<u4").tobytes(), digest_size=16).digest()


def write_folds(rows: PackedConversations, tokenizer: Tokenizer, folder: Path, folds: int) -> list[int]:
    """Pack the conversations of `rows` into `folder/<fold>`; returns how many each fold has.

    A fold without any has no folder. What is finished already is kept.
    """
    done = folder / FOLDS_FILE
    writers = [_FoldWriter(folder / str(fold), rows.context_length, tokenizer) for fold in range(folds)]
    if not done.is_file():
        prompts = Prompts(rows) if rows.summary.get(EXTRA) else None
        for index in range(rows.num_rows):
            for example in examples_of(rows.row(index)):
                writers[fold_of(prompt_of(example, tokenizer, prompts), folds)].add(example)
        for writer in writers:
            writer.close()
        folder.mkdir(parents=True, exist_ok=True)
        write_json(done, [writer.conversations for writer in writers])
    return [int(count) for count in json.loads(done.read_text(encoding="utf-8"))]


class _FoldWriter:
    """Collects conversations of one fold and writes a file of rows each time there are enough to pack well."""

    def __init__(self, folder: Path, context_length: int, tokenizer: Tokenizer) -> None:
        self._packing = Packing(tokenizer, folder, context_length, "drop", FOLD_LOOK_AHEAD_TOKENS)
        self._items: list[Item] = []
        self._counts: Counts = Counter()
        self._marks: list[Counts] = []
        self.conversations = 0

    def add(self, example: Encoded) -> None:
        """One conversation, up to its last target."""
        self.conversations += 1
        self._items.append(item_of(example, self._packing, self._counts))
        if self._counts["tokens"] >= self._packing.look_ahead_tokens:
            self._write()

    def _write(self) -> None:
        folder = self._packing.folder
        folder.mkdir(parents=True, exist_ok=True)
        block = pack_items(self._items, self._packing, self._counts)
        write_array(folder / f"rows-{len(self._marks):05d}.bin", block)
        self._marks.append(self._counts)
        self._items, self._counts = [], Counter()

    def close(self) -> None:
        """Write what is left, and the index."""
        if self._items:
            self._write()
        if self._marks:
            write_index(self._marks, self._packing)
