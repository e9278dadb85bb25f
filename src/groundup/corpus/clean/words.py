"""A string -> its words as arrays: hash, length and kind of each, found for all characters at once.

    code points -> kinds -> where words start and end -> hashes by differences of one running sum

A word is a run of letters, digits and marks (with `.` or `,` between two of them, and `:`, `/` or `-` between two
digits), a single character of a script that is written without spaces, or a run of one and the same symbol. An
apostrophe between letters begins the next word: `don` `'t`.

Invariant: equal words have equal hashes in every process; memory is about 40 bytes for each character of a slice of
SLICE_CHARACTERS, and 20 bytes for each word.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from groundup.corpus.clean import scripts
from groundup.corpus.clean.scripts import APOSTROPHE, JOINER, LETTER, NUMBER, NUMBER_JOINER, SPACE, SYMBOL, UNSPACED

SLICE_CHARACTERS = 1 << 18
_BASE = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Words:
    """The words of a text in order. `kinds`: LETTER (holds a letter), NUMBER, UNSPACED or SYMBOL."""

    hashes: NDArray[np.uint64]
    lengths: NDArray[np.int32]
    kinds: NDArray[np.uint8]

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """How many words there are of each kind."""
        return tuple(np.bincount(self.kinds, minlength=SYMBOL + 1).tolist())

    @property
    def mostly_unspaced(self) -> bool:
        """Whether most of the words proper are single characters of unspaced scripts."""
        return self.counts[UNSPACED] > self.counts[LETTER] + self.counts[NUMBER]

    def equivalent(self, kinds: tuple[int, ...]) -> float:
        """Number of words of these kinds, UNSPACED_CHARACTERS_PER_WORD unspaced characters counting as one."""
        return sum(
            self.counts[kind] / (scripts.UNSPACED_CHARACTERS_PER_WORD if kind == UNSPACED else 1) for kind in kinds
        )


def find_words(string: str) -> Words:
    """The words of `string`."""
    if len(string) <= SLICE_CHARACTERS:
        return _words_of(string)
    found = [_words_of(part) for part in _slices(string)]
    return Words(
        np.concatenate([words.hashes for words in found]),
        np.concatenate([words.lengths for words in found]),
        np.concatenate([words.kinds for words in found]),
    )


def word_hash(word: str) -> int:
    """The hash that `find_words` gives to a word."""
    return int(_words_of(word).hashes[0])


def _slices(string: str) -> list[str]:
    """Pieces of at most SLICE_CHARACTERS, cut at white space where there is any."""
    pieces, start = [], 0
    while len(string) - start > SLICE_CHARACTERS:
        end = start + SLICE_CHARACTERS
        cut = max(string.rfind(" ", start, end), string.rfind("\n", start, end)) + 1
        cut = cut if cut > start else end
        pieces.append(string[start:cut])
        start = cut
    return [*pieces, string[start:]]


def _words_of(string: str) -> Words:
    if string.isascii():
        codes: NDArray[np.uint8] | NDArray[np.uint32] = np.frombuffer(string.encode(), dtype=np.uint8)
        kinds = scripts.ascii_kinds()[codes]
    else:
        codes = np.frombuffer(string.encode("utf-32-le"), dtype="<u4")
        kinds = scripts.kinds()[np.minimum(codes, scripts.TABLE_SIZE - 1)]
    starts, ends, is_word = _boundaries(codes, kinds)
    return Words(_hashes(codes, starts, ends), (ends - starts).astype(np.int32), _word_kinds(kinds, starts, is_word))


def _boundaries(
    codes: NDArray[np.uint8] | NDArray[np.uint32], kinds: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """First position of each word, the position behind its last, and which characters are inside words proper."""
    is_number = kinds == NUMBER
    is_word = (kinds == LETTER) | is_number
    joins = np.flatnonzero(kinds[1:-1] >= JOINER) + 1
    inside = np.where(
        kinds[joins] == NUMBER_JOINER,
        is_number[joins - 1] & is_number[joins + 1],
        is_word[joins - 1] & is_word[joins + 1],
    )
    joins = joins[inside]
    is_word[joins] = True
    continues = np.zeros(len(kinds) + 1, dtype=bool)  # whether a character belongs to the word before it
    same = continues[1:-1]
    np.equal(codes[1:], codes[:-1], out=same)
    same &= ~is_word[1:]
    same |= is_word[1:] & is_word[:-1]
    same &= kinds[1:] != UNSPACED
    continues[joins[kinds[joins] == APOSTROPHE]] = False
    filled = kinds != SPACE
    starts = np.flatnonzero(filled & ~continues[:-1])
    ends = np.flatnonzero(filled & ~continues[1:]) + 1
    return starts, ends, is_word


def _word_kinds(kinds: NDArray[np.uint8], starts: NDArray[np.int64], is_word: NDArray[np.bool_]) -> NDArray[np.uint8]:
    found = kinds[starts]
    found[found == APOSTROPHE] = np.where(is_word[starts[found == APOSTROPHE]], LETTER, SYMBOL)
    np.minimum(found, SYMBOL, out=found)
    numbers = np.flatnonzero(found == NUMBER)
    if len(numbers):  # a word that begins with a digit may hold a letter further on
        letters = np.concatenate(([0], np.cumsum(kinds == LETTER)))
        ends = np.append(starts[1:], len(kinds))
        found[numbers[letters[ends[numbers]] > letters[starts[numbers]]]] = LETTER
    return found


def _hashes(
    codes: NDArray[np.uint8] | NDArray[np.uint32], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """sum(code * BASE^position) over each word, moved to position 0 by the inverse of BASE, then mixed."""
    powers, inverses = _powers()
    sums = np.zeros(len(codes) + 1, dtype=np.uint64)
    np.cumsum(codes * powers[: len(codes)], out=sums[1:])
    values = (sums[ends] - sums[starts]) * inverses[starts]
    return mix(values)


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection that spreads every bit over all others (the multiply and shift of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return values ^ (values >> np.uint64(27))


@cache
def _powers() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """BASE^i and BASE^-i modulo 2^64 for each position of a slice (BASE is odd, so it has an inverse)."""
    return _geometric(_BASE), _geometric(pow(_BASE, -1, 1 << 64))


def _geometric(base: int) -> NDArray[np.uint64]:
    values = np.ones(SLICE_CHARACTERS, dtype=np.uint64)
    filled = 1
    while filled < SLICE_CHARACTERS:
        values[filled : 2 * filled] = values[:filled] * np.uint64(pow(base, filled, 1 << 64) & _MASK)
        filled *= 2
    return values
