"""Preferences -> files of packed rows: the answers that a loss compares lie side by side in one row, each a segment.

    pair (DPO, IPO, ORPO)    | prompt better | prompt worse |
    group (KTO)              | prompt1 answer1 | ... | promptN answerN | prompt1 answerN | prompt2 answer1 | ...
                               judged answers, good or bad             mismatched: the answer of the record before

    planes of a row   tokens, answers (the token of an answer to score at a place), segments            by place
                      targets (1 better or good, 0 bad, IGNORE: worse or mismatched), groups            by segment

Groups are made of neighbours in the data before rows are, so neither the packing nor ranks nor micro-batches change a
loss. Invariant: the same preferences give the same bytes; what is compared is in one row, or counted as dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from groundup.errors import DataError
from groundup.log import logger, progress
from groundup.stage import write_json
from groundup.tokens.arrays import StoredArrays, write_array
from groundup.tokens.conversation_rows import best_fit_decreasing
from groundup.tokens.packing import IGNORE, Row, segments_and_positions
from groundup.tokens.preference_formats import Preference
from groundup.tokens.shards import INDEX_FILE, read_index
from groundup.tokens.template import Turn, Unfit, encode_examples
from groundup.tokens.tokenizer import Tokenizer

LOOK_AHEAD_TOKENS = 1 << 22
BATCH_PREFERENCES = 1024
TOKENS, ANSWERS, SEGMENTS, TARGETS, GROUPS = range(5)
REFERENCES_FILE = "references.bin"
BETTER, BAD = 1, 0
DROPPED = ("dropped_too_long", "dropped_same_when_cut", "dropped_left_over", "dropped_refused_by_template")


class Answered(NamedTuple):
    """A prompt with an answer, as ids, and what is to be said of the answer: BETTER (or good), BAD or IGNORE."""

    prompt: list[int]
    answer: list[int]
    target: int

    @property
    def length(self) -> int:
        """Places that it takes: the last id is never an input."""
        return len(self.prompt) + len(self.answer) - 1


Item = list[Answered]
"""Sequences that a loss compares; they go into one row."""


@dataclass(frozen=True)
class PreferencePacking:
    """How preferences become rows."""

    context_length: int
    overlong: Literal["drop", "truncate"] = "drop"
    group_size: int = 0
    """Answers that share an estimate (KTO); 0: pairs are compared."""


def write_preferences(
    preferences: Iterable[Preference], tokenizer: Tokenizer, folder: Path, packing: PreferencePacking
) -> dict[str, Any]:
    """Encode and pack `preferences` into `folder`.

    Returns {preferences, compared, rows, tokens, targets, truncated, dropped_..., padding_share}: `compared` are the
    pairs or judged answers that are left, `targets` their tokens. Raises DataError when none is left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    rows_of_files: list[int] = []
    with progress(f"preferences {folder.name}", None, "preferences") as bar:
        for items in _look_aheads(_items(_units(preferences, tokenizer, packing, counts), packing, counts)):
            block = packed(items, packing.context_length, tokenizer.end_of_text_id)
            write_array(_rows_file(folder, len(rows_of_files)), block)
            rows_of_files.append(len(block))
            for sequence in (each for item in items for each in item):
                counts["compared"] += sequence.target != IGNORE
                counts["tokens"] += sequence.length
                counts["targets"] += len(sequence.answer)
            bar.advance(len(items))
    context, rows = packing.context_length, sum(rows_of_files)
    if not rows:
        raise DataError(
            f"{folder.name}: no preference fits a row ({counts['preferences']} read, context {context}; a pair takes"
            " one row, KTO four times as much); raise model.context_length, or set overlong: truncate"
        )
    keys = ("preferences", "compared", "tokens", "targets", "truncated", *DROPPED)
    padding = round(1.0 - counts["tokens"] / (rows * context), 6)
    summary: dict[str, Any] = {**{key: counts[key] for key in keys}, "rows": rows, "padding_share": padding}
    shape = {"context_length": context, "vocab_size": tokenizer.vocab_size, "rows_of_files": rows_of_files}
    write_json(folder / INDEX_FILE, {**shape, "summary": summary})
    lost = ", ".join(f"{key}: {summary[key]}" for key in (*DROPPED, "truncated") if summary[key])
    if lost:
        logger.warning(f"{folder.name}: of {counts['preferences']} preferences at a context of {context}: {lost}")
    return summary


def _units(
    preferences: Iterable[Preference], tokenizer: Tokenizer, packing: PreferencePacking, counts: Counter[str]
) -> Iterator[Item]:
    """Sequences of each preference that fits: the better and the worse answer, or the judged one."""
    for batch in _batches(preferences):
        asked = [
            ([*each.prompt, answer], BETTER if answer is each.chosen else BAD)
            for each in batch
            for answer in (each.chosen, each.rejected)
            if answer is not None
        ]
        encoded = iter(_sequences(tokenizer, [turns for turns, _ in asked], [target for _, target in asked]))
        for each in batch:
            counts["preferences"] += 1
            number = (each.chosen is not None) + (each.rejected is not None)
            sequences = [each for each in islice(encoded, number) if each is not None]
            if len(sequences) < number:
                counts["dropped_refused_by_template"] += 1
            elif unit := _fitting(sequences, packing, counts):
                yield unit


def _batches(preferences: Iterable[Preference]) -> Iterator[list[Preference]]:
    remaining = iter(preferences)
    while batch := list(islice(remaining, BATCH_PREFERENCES)):
        yield batch


def _sequences(
    tokenizer: Tokenizer, conversations: Sequence[Sequence[Turn]], targets: Sequence[int]
) -> Iterator[Answered | None]:
    """Each conversation cut where its last answer begins; earlier answers are part of the prompt.

    None: the chat template cannot say it.
    """
    for examples, target in zip(encode_examples(tokenizer, conversations), targets):
        if isinstance(examples, Unfit):
            yield None
            continue
        encoded = examples[0]
        stop = len(encoded.ids) - encoded.is_target[::-1].index(True)  # templates may end with what is not learnt
        start = stop - encoded.is_target[:stop][::-1].index(False)
        yield Answered(encoded.ids[:start], encoded.ids[start:stop], target)


def _fitting(unit: Item, packing: PreferencePacking, counts: Counter[str]) -> Item:
    """The unit, cut if need be and allowed; nothing when it does not fit."""
    # Of KTO, two units at least are in a group, each answer once as it is and once with another prompt.
    room = packing.context_length // 4 if packing.group_size else packing.context_length
    if sum(each.length for each in unit) <= room:
        return unit
    if packing.overlong == "drop":
        counts["dropped_too_long"] += 1
        return []
    lengths = [each.length for each in unit]
    limits = [max(room // len(unit), room - (sum(lengths) - length)) for length in lengths]
    cut = [
        each._replace(answer=each.answer[: max(0, limit + 1 - len(each.prompt))]) for each, limit in zip(unit, limits)
    ]
    if not all(each.answer for each in cut):
        counts["dropped_too_long"] += 1
        return []
    if len(cut) == 2 and cut[0].answer == cut[1].answer:
        counts["dropped_same_when_cut"] += 1
        return []
    counts["truncated"] += 1
    return cut


def _items(units: Iterable[Item], packing: PreferencePacking, counts: Counter[str]) -> Iterator[Item]:
    """What is compared: each pair, or groups of judged answers with mismatched ones."""
    if not packing.group_size:
        for better, worse in units:
            yield [better, worse._replace(target=IGNORE)]
        return
    group: list[Item] = []
    for unit in units:
        most = max(2, packing.group_size // len(unit))
        length = 2 * sum(each.length for members in [*group, unit] for each in members)
        if len(group) >= most or length > packing.context_length:
            yield _with_mismatched(group)
            group = []
        group.append(unit)
    if len(group) > 1:
        yield _with_mismatched(group)
    else:
        counts["dropped_left_over"] += len(group)


def _with_mismatched(group: Sequence[Item]) -> Item:
    """Good answers of pairs before bad ones, so that no answer is mismatched with its own prompt; then the others."""
    judged = [unit[place] for place in range(len(group[0])) for unit in group]
    others = [Answered(each.prompt, judged[i - 1].answer, IGNORE) for i, each in enumerate(judged)]
    return [*judged, *others]


def _look_aheads(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Items for one file: at least `LOOK_AHEAD_TOKENS` places, if that many are left."""
    chosen: list[Item] = []
    tokens = 0
    for item in items:
        chosen.append(item)
        tokens += sum(each.length for each in item)
        if tokens >= LOOK_AHEAD_TOKENS:
            yield chosen
            chosen, tokens = [], 0
    if chosen:
        yield chosen


def packed(items: Sequence[Item], context_length: int, padding_id: int) -> NDArray[np.int32]:
    """Rows [rows, 5, context_length] with every item in one of them."""
    rows = best_fit_decreasing([sum(each.length for each in item) for item in items], context_length)
    block = np.zeros((len(rows), 5, context_length), dtype="<i4")
    block[:, TOKENS] = padding_id
    block[:, (ANSWERS, TARGETS)] = IGNORE
    block[:, GROUPS] = -1
    for planes, numbers in zip(block, rows):
        start = segment = 0
        for group, number in enumerate(numbers):
            for each in items[number]:
                stop = start + each.length
                planes[TOKENS, start:stop] = [*each.prompt, *each.answer][:-1]
                planes[ANSWERS, stop - len(each.answer) : stop] = each.answer
                planes[SEGMENTS, start:stop] = segment
                planes[TARGETS, segment], planes[GROUPS, segment] = each.target, group
                start, segment = stop, segment + 1
        planes[SEGMENTS, start:] = segment
    return block


def row_of(planes: NDArray[np.int32], references: NDArray[np.float32] | None = None) -> Row:
    """A stored row [5, time] with what the reference says of its answers; without it zeros."""
    time = planes.shape[1]
    is_start = np.ones(time, dtype=bool)
    np.not_equal(planes[SEGMENTS, 1:], planes[SEGMENTS, :-1], out=is_start[1:])
    return Row(
        planes[TOKENS].astype(np.int64),
        planes[TARGETS].astype(np.int64),
        *segments_and_positions(is_start),
        answers=planes[ANSWERS].astype(np.int64),
        groups=planes[GROUPS].astype(np.int32),
        references=np.zeros(time, np.float32) if references is None else references.astype(np.float32),
    )


def _rows_file(folder: Path, number: int) -> Path:
    return folder / f"rows-{number:05d}.bin"


class PackedPreferences:
    """The rows that `write_preferences` left in a folder, with the reference's log-probabilities from another.

    Raises DataError when a folder is not finished, or was made for another context or vocabulary.
    """

    def __init__(
        self, folder: Path, name: str, context_length: int, vocab_size: int, references: Path | None = None
    ) -> None:
        index = read_index(folder)
        if (index.get("context_length"), index.get("vocab_size")) != (context_length, vocab_size):
            raise DataError(f"{folder}: made for another context or vocabulary; remove the folder and run again")
        self.folder, self.name, self.context_length, self.vocab_size = folder, name, context_length, vocab_size
        rows: list[int] = [int(count) for count in index["rows_of_files"]]
        self.summary: dict[str, Any] = dict(index["summary"])
        self._ends = list(accumulate(rows))
        self.num_rows = self._ends[-1]
        paths, counts = [_rows_file(folder, n) for n in range(len(rows))], [5 * context_length * n for n in rows]
        self._files = StoredArrays(paths, counts, "<i4")
        self._references = None
        if references is not None:
            self._references = StoredArrays([references / REFERENCES_FILE], [self.num_rows * context_length], "<f4")

    def row(self, index: int) -> Row:
        """Row `index`; without a reference its log-probabilities are 0."""
        if not 0 <= index < self.num_rows:
            raise IndexError(f"{self.name}: row {index} of {self.num_rows}")
        time = self.context_length
        file = next(number for number, end in enumerate(self._ends) if index < end)
        place = index - (self._ends[file - 1] if file else 0)
        planes = self._files.read(file, place * 5 * time, 5 * time).reshape(5, time)
        if not 0 <= planes[TOKENS].min() <= planes[TOKENS].max() < self.vocab_size > planes[ANSWERS].max():
            raise DataError(
                f"{_rows_file(self.folder, file)}: row {place} holds a token id outside the vocabulary of "
                f"{self.vocab_size}; the file is damaged, remove the stage's folder and run again"
            )
        return row_of(planes, self._references.read(0, index * time, time) if self._references else None)
