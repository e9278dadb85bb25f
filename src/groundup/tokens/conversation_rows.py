"""Conversations -> files of packed rows: whole conversations side by side, as little padding as can be had in one pass.

    conversations --template--> ids, targets --look-ahead of 4 million tokens--> best-fit decreasing --> rows-NNNNN.bin

A conversation that is too long is dropped, cut at its end, or loses its last turns, as its source says; one that
the chat template cannot say is refused. All are counted: read = conversations + dropped + refused.

What lies behind a conversation's last target is never read by anything that is learnt, and the last target itself is
never an input, so a conversation takes as many places as it has ids up to its last target, less one.

One look-ahead is one file, and each finished file has a `rows-NNNNN.json`, so a killed attempt goes on behind the last
whole file. Invariant: the same conversations give the same bytes; every row has a target; a conversation is in one row,
or counted in the summary as too long or refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from groundup.corpus.closing import finish, finished
from groundup.errors import DataError
from groundup.log import logger, progress
from groundup.stage import write_json
from groundup.tokens.arrays import token_dtype, write_array
from groundup.tokens.conversation_length import Overlong, bounded_turns, count_answers, trim
from groundup.tokens.packing import SEGMENTS, TARGETS, TOKENS
from groundup.tokens.shards import INDEX_FILE, read_index
from groundup.tokens.template import Encoded, Turn, Unfit, encode_examples
from groundup.tokens.tokenizer import Tokenizer

LOOK_AHEAD_TOKENS = 1 << 22
BATCH_CONVERSATIONS = 2048
BATCH_CHARACTERS = 2_000_000

Counts = Counter[str]
REFUSED = "refused: "
"""Before the reasons of conversations that the chat template cannot say, among the counts."""
ANSWERS_CUT, EXTRA = "answers_cut", "extra_examples"
"""Counts that are only written where they are not 0: answers that too long conversations lost, and examples of answers
that the template renders otherwise later on."""


class HasTurns(Protocol):
    """What is written of a conversation."""

    @property
    def turns(self) -> Sequence[Turn]:
        """Its turns, in order."""


def best_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Put items of `lengths` (1 to `capacity`) into rows of `capacity`: longest first, each where least room is left.

    Returns the item numbers of each row. Ties go to the earlier item and the younger row, so the result depends on
    the lengths only. O(items * capacity / 64): open rows are kept by the room they have left, and a bit set says which
    amounts occur.
    """
    rows: list[list[int]] = []
    by_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    rooms = 0
    for item in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[item]
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = by_room[room].pop()
            if not by_room[room]:
                rooms ^= 1 << room
        else:
            room, row = capacity, len(rows)
            rows.append([])
        rows[row].append(item)
        by_room[room - length].append(row)
        rooms |= 1 << (room - length)
    return rows


@dataclass(frozen=True)
class Packing:
    """What `write_conversations` was asked for."""

    tokenizer: Tokenizer
    folder: Path
    context_length: int
    overlong: Overlong
    look_ahead_tokens: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """Storage of tokens and targets."""
        return np.dtype(row_dtype(self.tokenizer.vocab_size))


class Item(NamedTuple):
    """Inputs and targets of one conversation, in the rows' storage."""

    inputs: NDArray[np.unsignedinteger[Any]]
    targets: NDArray[np.unsignedinteger[Any]]


def write_conversations(
    conversations: Iterable[HasTurns],
    tokenizer: Tokenizer,
    folder: Path,
    context_length: int,
    overlong: Overlong = "drop",
    look_ahead_tokens: int = LOOK_AHEAD_TOKENS,
) -> dict[str, Any]:
    """Encode, check (`template.check_targets`) and pack conversations into rows of `context_length` in `folder`.

    Conversations with more than `context_length` inputs are dropped or shortened as `overlong` says, and counted.
    Returns {conversations, dropped_too_long, truncated, rows, tokens, targets, target_bytes, padding_share}, and where
    there are any {answers_cut, extra_examples, refused{reason: n}}; tokens are inputs without padding.
    Goes on from finished files of a killed attempt; the order of `conversations` must be the same at every attempt, and
    they are always read to the end, so that counts made while reading are whole. Raises DataError when none is left.
    """
    packing = Packing(tokenizer, folder, context_length, overlong, look_ahead_tokens)
    remaining = iter(conversations)
    if not (folder / INDEX_FILE).is_file():
        _write_files(remaining, packing)
    for _ in remaining:
        pass
    summary: dict[str, Any] = read_index(folder)["summary"]
    for mark in folder.glob("rows-*.json"):
        mark.unlink()
    for key, what in (("dropped_too_long", "dropped"), ("truncated", "truncated")):
        if summary[key]:
            logger.warning(f"{folder.name}: {summary[key]} conversations longer than {context_length} tokens {what}")
    for reason, count in summary.get("refused", {}).items():
        logger.warning(f"{folder.name}: {count} conversations refused: {reason}")
    return summary


def _write_files(conversations: Iterator[HasTurns], packing: Packing) -> None:
    packing.folder.mkdir(parents=True, exist_ok=True)
    marks = _finished_marks(packing.folder)
    read = sum(mark["read"] for mark in marks)
    for _ in islice(conversations, read):
        pass
    with progress(f"conversations {packing.folder.name}", None, "conversations") as bar:
        bar.start_at(read)
        while True:
            counts: Counts = Counter()
            items = _look_ahead(conversations, packing, counts)
            if not counts["read"]:
                break
            name = f"rows-{len(marks):05d}"
            write_array(packing.folder / f"{name}.bin", pack_items(items, packing, counts))
            finish(packing.folder, f"{name}.json", {"counts": counts}, [f"{name}.bin"])
            marks.append(counts)
            bar.advance(counts["read"])
    write_index(marks, packing)


def _finished_marks(folder: Path) -> list[Counts]:
    marks: list[Counts] = []
    while mark := finished(folder, f"rows-{len(marks):05d}.json"):
        marks.append(Counter(mark["counts"]))
    return marks


def _look_ahead(conversations: Iterator[HasTurns], packing: Packing, counts: Counts) -> list[Item]:
    """Conversations for one file: at least `look_ahead_tokens` inputs, if that many are left."""
    items: list[Item] = []
    while counts["tokens"] < packing.look_ahead_tokens and (batch := _take(conversations)):
        counts["read"] += len(batch)
        bounded = [bounded_turns(turns, packing.context_length) for turns in batch]
        for turns, examples in zip(batch, encode_examples(packing.tokenizer, bounded)):
            if isinstance(examples, Unfit):
                if REFUSED + examples.reason not in counts:
                    logger.info(
                        f"{packing.folder.name}: a conversation is refused: {examples.reason} {examples.detail}"
                    )
                counts[REFUSED + examples.reason] += 1
            else:
                items += _parts(turns, examples, packing, counts)
    return items


def _parts(turns: Sequence[Turn], examples: Sequence[Encoded], packing: Packing, counts: Counts) -> list[Item]:
    """What is trained on of one conversation, and its place in the counts: kept, shortened or dropped."""
    trimmed = [(example, trim(example, packing.context_length, packing.overlong)) for example in examples]
    parts = [(example, part) for example, part in trimmed if part is not None]
    if not parts or (packing.overlong == "drop" and len(parts) < len(trimmed)):
        counts["dropped_too_long"] += 1
        return []
    shortened = len(parts) < len(trimmed) or any(sum(p.is_target) < sum(e.is_target) for e, p in parts)
    counts["truncated"] += shortened
    if shortened:
        learnt = sum(count_answers(part.is_target) for _, part in parts)
        counts[ANSWERS_CUT] += sum(turn.role == "assistant" for turn in turns) - learnt
    counts[EXTRA] += len(parts) - 1
    counts["conversations"] -= len(parts) - 1  # every part is counted as one
    return [item_of(part, packing, counts) for _, part in parts]


def _take(conversations: Iterator[HasTurns]) -> list[Sequence[Turn]]:
    """Turns of the next conversations, a bounded number of characters and conversations at a time."""
    batch: list[Sequence[Turn]] = []
    characters = 0
    for conversation in conversations:
        batch.append(conversation.turns)
        characters += sum(len(turn.text) for turn in conversation.turns)
        if len(batch) >= BATCH_CONVERSATIONS or characters >= BATCH_CHARACTERS:
            break
    return batch


def item_of(part: Encoded, packing: Packing, counts: Counts) -> Item:
    """Inputs and targets of a trimmed conversation, counted in `counts`."""
    ids, is_target = np.array(part.ids, dtype=packing.dtype), np.array(part.is_target)
    learnt = ids[is_target]
    counts["conversations"] += 1
    counts["tokens"] += len(ids) - 1
    counts["targets"] += len(learnt)
    counts["target_bytes"] += len(packing.tokenizer.decode_bytes(learnt.tolist()))
    return Item(ids[:-1], np.where(is_target, ids, np.iinfo(packing.dtype).max)[1:])


def pack_items(items: Sequence[Item], packing: Packing, counts: Counts) -> NDArray[np.unsignedinteger[Any]]:
    """Rows [rows, 3, context_length] of tokens, targets (largest number: none) and segments."""
    rows = best_fit_decreasing([len(item.inputs) for item in items], packing.context_length)
    block = np.empty((len(rows), 3, packing.context_length), dtype=packing.dtype)
    block[:, TOKENS] = packing.tokenizer.end_of_text_id
    block[:, TARGETS] = np.iinfo(packing.dtype).max
    for planes, numbers in zip(block, rows):
        start = 0
        for segment, number in enumerate(numbers):
            stop = start + len(items[number].inputs)
            planes[TOKENS, start:stop] = items[number].inputs
            planes[TARGETS, start:stop] = items[number].targets
            planes[SEGMENTS, start:stop] = segment
            start = stop
        planes[SEGMENTS, start:] = len(numbers)
    counts["rows"] = len(rows)
    return block


def row_dtype(vocab_size: int) -> str:
    """Storage of rows: the largest number stands for "no target", so it cannot be an id."""
    return token_dtype(vocab_size + 1)


def write_index(marks: Sequence[Counts], packing: Packing) -> None:
    """Write the index of the files of rows that `marks` count. Raises DataError when they hold no row."""
    context_length = packing.context_length
    total: Counts = Counter()
    for mark in marks:
        total.update(mark)
    refused = {key.removeprefix(REFUSED): total[key] for key in sorted(total) if key.startswith(REFUSED)}
    if not total["rows"]:
        dropped = total["dropped_too_long"]
        if sum(refused.values()) > dropped:
            reason = max(refused, key=lambda reason: refused[reason])
            raise DataError(
                f"{packing.folder.name}: the chat template cannot say any of {total['read']} conversations "
                f"({reason[:70]}); set tokenizer.chat_template: own"
            )
        raise DataError(
            f"{packing.folder.name}: no conversation fits ({total['read']} read, {dropped} longer than context "
            f"{context_length}); add conversations or raise model.context_length"
        )
    keys = ("conversations", "dropped_too_long", "truncated", "rows", "tokens", "targets", "target_bytes")
    summary: dict[str, Any] = {key: total[key] for key in keys}
    summary |= {key: total[key] for key in (ANSWERS_CUT, EXTRA) if total[key]}
    if refused:
        summary["refused"] = refused
    summary["padding_share"] = round(1.0 - total["tokens"] / (total["rows"] * context_length), 6)
    write_json(
        packing.folder / INDEX_FILE,
        {
            "context_length": context_length,
            "vocab_size": packing.tokenizer.vocab_size,
            "dtype": packing.dtype.str,
            "rows_of_files": [mark["rows"] for mark in marks],
            "summary": summary,
        },
    )
