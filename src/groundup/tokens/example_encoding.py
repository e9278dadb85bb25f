"""An example -> the tokens that a model reads, one window or several, and where its answers stand in them.

    sequence, number   [CLS] text [SEP]  or  [CLS] text [SEP] pair [SEP]        label, number: at [CLS]
    multilabel         the same                                                 set of labels, as bits: at [CLS]
    span               [CLS] question [SEP] part of the text [SEP]              start and end: places, at [CLS]
    token              [CLS] w1 w1' w2 ... [SEP]                                label of a word: at its first token

A text that is labelled as a whole is cut where it is too long (the longer of a pair first). The text of a span is read
through windows that overlap, the words of a long text through windows that do not, so nothing of them is lost.
Invariant: training and prediction encode alike; without labels every target is 0.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from groundup.errors import DataError
from groundup.tokens.examples import Example, TaskKind
from groundup.tokens.tokenizer import Tokenizer
from groundup.tokens.word_starts import without_spaces

WINDOW_OVERLAP = 0.5
"""Share of a window's text that the next one shows again, so that an answer at a border is whole in one of them."""
SET_BITS = 31
"""Labels that one target says of a set of labels, a bit each: what is stored has 32 bits, and a sign."""
_WIDE_MARKS = ((0x3000, 0x303F), (0xFF00, 0xFF65))
"""Punctuation of East Asia, which has no spaces around it."""


@dataclass
class Window:
    """What a model sees at once of an example."""

    tokens: list[int]
    parts: list[int]
    targets: list[dict[int, int]]
    """Position -> target, of each head."""
    first: int = 0
    """Number of its first word (token) or of its first token of the text (span)."""
    was_cut: bool = False


def encode_example(
    example: Example, kind: TaskKind, numbers: Mapping[str, int] | None, tokenizer: Tokenizer, context_length: int
) -> list[Window]:
    """The windows of an example, at least one. `numbers`: of the labels; None where they are to be predicted.

    Raises DataError for a label that has no number.
    """
    if kind == "token":
        return _word_windows(example, numbers, tokenizer, context_length)
    if kind == "span":
        return _span_windows(example, tokenizer, context_length)
    return [_whole(example, kind, numbers, tokenizer, context_length)]


def _whole(
    example: Example, kind: TaskKind, numbers: Mapping[str, int] | None, tokenizer: Tokenizer, context_length: int
) -> Window:
    ids = tokenizer.need_encoder_ids()
    first = tokenizer.encode(example.text)
    second = [] if example.pair is None else tokenizer.encode(example.pair)
    room = context_length - (2 if example.pair is None else 3)
    was_cut = len(first) + len(second) > room
    first, second = _fitted(first, second, room)
    tokens = [ids.cls, *first, ids.sep]
    parts = [0] * len(tokens)
    if example.pair is not None:
        tokens += [*second, ids.sep]
        parts += [1] * (len(second) + 1)
    if kind == "number":
        targets = [int(np.float32(example.number).view(np.int32))]
    elif kind == "multilabel":
        targets = _label_sets(example, numbers)
    else:
        targets = [_number_of(example.label, numbers, example)]
    return Window(tokens, parts, [{0: target} for target in targets], was_cut=was_cut)


def _label_sets(example: Example, numbers: Mapping[str, int] | None) -> list[int]:
    """The labels of a text as bits, `SET_BITS` in each number (`models.encoder_heads.multilabel_losses` reads them)."""
    found = [0] * sets_of(len(numbers or ()))
    for label in example.labels:
        which, bit = divmod(_number_of(label, numbers, example), SET_BITS)
        found[which] |= 1 << bit
    return found


def sets_of(num_labels: int) -> int:
    """Targets that a set of so many labels needs."""
    return max(1, -(-num_labels // SET_BITS))


def _fitted(first: list[int], second: list[int], room: int) -> tuple[list[int], list[int]]:
    """Both cut to `room` together, the longer one first."""
    shorter = min(len(first), len(second))
    if shorter > room // 2:
        return first[: room - room // 2], second[: room // 2]
    return first[: room - min(len(second), shorter)], second[: room - min(len(first), shorter)]


def _word_windows(
    example: Example, numbers: Mapping[str, int] | None, tokenizer: Tokenizer, context_length: int
) -> list[Window]:
    """As many words in each window as fit; a word that is longer than a window is cut."""
    ids, room = tokenizer.need_encoder_ids(), context_length - 2
    windows: list[Window] = []
    labels = example.labels or [""] * len(example.words)
    for number, (pieces, label) in enumerate(zip(tokenizer.encode_batch(spaced(example.words)), labels)):
        # A tokenizer that leaves characters out may leave nothing of a word.
        pieces = pieces or [ids.mask if tokenizer.unknown_id is None else tokenizer.unknown_id]
        if not windows or len(windows[-1].tokens) - 1 + min(len(pieces), room) > room:
            windows.append(Window([ids.cls], [], [{}], number))
        window = windows[-1]
        window.targets[0][len(window.tokens)] = _number_of(label, numbers, example)
        window.was_cut |= len(pieces) > room
        window.tokens += pieces[:room]
    for window in windows:
        window.tokens.append(ids.sep)
        window.parts = [0] * len(window.tokens)
    return windows


def _span_windows(example: Example, tokenizer: Tokenizer, context_length: int) -> list[Window]:
    """An answer that is not whole in a window, or none, is a span at [CLS] there."""
    assert example.pair is not None, "examples of spans are checked to have a question"
    ids = tokenizer.need_encoder_ids()
    asked = tokenizer.encode(example.pair)
    question = asked[: context_length // 2 - 2]
    text, places = tokenizer.encode_with_places(example.text)
    room = context_length - len(question) - 3
    head = [ids.cls, *question, ids.sep]
    first, last = _answer_tokens(example, places)
    windows = []
    for start in _window_starts(len(text), room):
        shown = text[start : start + room]
        inside = start <= first <= last < start + len(shown)
        at = len(head) - start
        targets = [{0: first + at if inside else 0}, {0: last + at if inside else 0}]
        parts = [0] * len(head) + [1] * (len(shown) + 1)
        windows.append(Window([*head, *shown, ids.sep], parts, targets, start, was_cut=len(asked) > len(question)))
    return windows


def _window_starts(length: int, room: int) -> list[int]:
    """Where windows of `room` tokens begin so that each token is in one; the last ends with the text."""
    step = max(1, room - int(WINDOW_OVERLAP * room))
    inner = range(0, max(0, length - room), step)
    return [*inner, max(0, length - room)]


def _answer_tokens(example: Example, places: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Numbers of the first and last token of the first answer; (-1, -1) where there is none."""
    if not example.answers:
        return -1, -1
    answer, at = example.answers[0]
    touched = [i for i, (start, end) in enumerate(places) if start < at + len(answer) and end > at and end > start]
    return (touched[0], touched[-1]) if touched else (-1, -1)


def _number_of(label: str, numbers: Mapping[str, int] | None, example: Example) -> int:
    if numbers is None:
        return 0
    if label not in numbers:
        raise DataError(
            f"{example.id[-50:]}: label {label[:30]!r} is none of those of training ({', '.join(numbers)[:50]}); "
            "add it there or to task.labels, or take the record out"
        )
    return numbers[label]


def spaced(words: Sequence[str]) -> list[str]:
    """Words as they stand in running text: each behind a space, but for the first and in scripts without spaces."""
    return [
        word if before is None or (_stands_close(before[-1]) and _stands_close(word[0])) else f" {word}"
        for before, word in zip([None, *words], words)
    ]


def cut_words(text: str) -> tuple[str, ...]:
    """Running text as words: cut at white space, marks around a word and characters of East Asia by themselves."""
    found: list[str] = []
    for chunk in text.split():
        start, stop = 0, len(chunk)
        while start < stop and _is_mark(chunk[start]):
            start += 1
        while stop > start and _is_mark(chunk[stop - 1]):
            stop -= 1
        found += [*chunk[:start], *_inner_words(chunk[start:stop]), *chunk[stop:]]
    return tuple(found)


def _inner_words(text: str) -> list[str]:
    found = [""]
    for character in text:
        if ord(character) >= 0x2E80 and _stands_close(character):
            found += [character, ""]
        else:
            found[-1] += character
    return [word for word in found if word]


def _stands_close(character: str) -> bool:
    return without_spaces(character) or any(low <= ord(character) <= high for low, high in _WIDE_MARKS)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"
