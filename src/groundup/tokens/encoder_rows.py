"""Token files -> rows for encoders: framed text, pairs in it for next-sentence prediction, and masks over both.

    stream     ... c d [SEP] [CLS] e f g h ...
    framed     [CLS] c  d [SEP] [CLS] e f  g  h [SEP]       a window of time - 2 tokens; [PAD] where frames were there
    pairs      [CLS] c [SEP] .. [CLS] e [SEP] x y [SEP]     one token of a piece makes way for the [SEP] between texts
    parts        0   0   0   ..   0   0   0   1 1   1       half of the second texts come from another document
    heads      masked tokens ; at each [CLS] 0: the second text follows, 1: it does not

Everything is arithmetic on (row, use of it): where a piece is cut, whether its second text is another's, and which.
Invariant: every token of the stream is in one row (but those that a [SEP] replaces), and no state is kept.
"""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundup.errors import DataError
from groundup.tokens.draws import draws
from groundup.tokens.masking import Masking
from groundup.tokens.packing import IGNORE, Row, segments_and_positions
from groundup.tokens.shards import TokenShards
from groundup.tokens.tokenizer import EncoderIds

FOLLOWS, STRANGE = 0, 1
"""Labels of the second text of a pair, as BERT numbers them."""
NEXT_SENTENCE = "next_sentence"
SHORTEST_PAIR = 16
"""Tokens of a piece that is made a pair, [CLS] a [SEP] b [SEP]; the model has room for as many in a row."""
_CUT, _KIND, _PLACE = 10, 11, 12
_TRIES = 8
_LONGEST_WORD = 8
"""So many tokens further on a word's beginning is looked for."""


class EncoderText:
    """Masked rows of a document stream, in pairs if asked for.

    Raises DataError when the folder is no finished token data, was made for a decoder, or the vocabulary differs.
    """

    def __init__(
        self, folder: Path, name: str, context_length: int, ids: EncoderIds, masking: Masking, *, pairs: bool
    ) -> None:
        self.shards = TokenShards(folder, len(masking.words.ordinary))
        if self.shards.end_of_text_id != ids.cls:
            raise DataError(f"{folder}: made with another tokenizer, without [CLS]; run `groundup prepare` again")
        self.name, self.context_length = name, context_length
        self.ids, self.masking, self.pairs = ids, masking, pairs
        self.num_tokens, self.text_bytes = self.shards.num_tokens, self.shards.text_bytes
        self.num_rows = -(-self.num_tokens // (context_length - 2))
        self.padding_share = 1.0 - self.num_tokens / (self.num_rows * context_length)
        self._starts: list[int] | None = None

    def row(self, index: int) -> Row:
        """Row `index` as it is in validation: drawn by its number."""
        return self.drawn(index, index)

    def drawn(self, index: int, draw: int) -> Row:
        """Row `index` with the pairs and masks of use number `draw`."""
        tokens, length = self._framed(index)
        parts = np.zeros(self.context_length, dtype=np.int32)
        follows = np.full(self.context_length, IGNORE, dtype=np.int64)
        is_start = tokens == self.ids.cls
        is_start[0] = True
        if self.pairs:
            ends = [*np.flatnonzero(is_start)[1:].tolist(), length]
            for start, end in zip(np.flatnonzero(is_start).tolist(), ends):
                if end - start >= SHORTEST_PAIR:
                    follows[start] = self._pair(tokens, parts, (index, start, end), draw)
        is_padding = tokens == self.ids.pad
        is_start[1:] |= is_padding[1:] & ~is_padding[:-1]
        masked, targets = self.masking.apply(tokens, draw)
        targets = np.stack([targets, follows]) if self.pairs else targets
        return Row(masked, targets, *segments_and_positions(is_start), parts)

    def _framed(self, index: int) -> tuple[NDArray[np.int64], int]:
        """A window of the stream between [CLS] and [SEP], filled up with [PAD]; and its length without that."""
        if not 0 <= index < self.num_rows:
            raise IndexError(f"{self.name}: row {index} of {self.num_rows}")
        room = self.context_length - 2
        window = self.shards.window(index * room, min((index + 1) * room, self.num_tokens))
        frame = [] if window[0] == self.ids.cls else [self.ids.cls]
        close = [] if window[-1] == self.ids.sep else [self.ids.sep]
        framed = np.concatenate([np.array(frame, np.int64), window, np.array(close, np.int64)])
        tokens = np.full(self.context_length, self.ids.pad, dtype=np.int64)
        tokens[: len(framed)] = framed
        return tokens, len(framed)

    def _pair(self, tokens: NDArray[np.int64], parts: NDArray[np.int32], where: tuple[int, int, int], draw: int) -> int:
        """Make the piece at `where` (row, start, end) a pair, in place; returns whether its second text follows."""
        index, start, end = where
        seed = self.masking.seed
        cut, kind = (int(draws(1, seed, draw, start, purpose)[0]) for purpose in (_CUT, _KIND))
        between = self._between(tokens, start, end, cut)
        tokens[between] = self.ids.sep
        parts[between + 1 : end] = 1
        if kind % 2 == 0:
            return FOLLOWS
        other = self._elsewhere(index, start, end - between - 2, draw)
        if other is None:
            return FOLLOWS
        stop = between + 1 + len(other)
        tokens[between + 1 : stop] = other
        tokens[stop] = self.ids.sep
        tokens[stop + 1 : end] = self.ids.pad
        return STRANGE

    def _between(self, tokens: NDArray[np.int64], start: int, end: int, number: int) -> int:
        """The place that makes way for the [SEP] between two texts: a word of one token if there is one, so that no
        text begins or ends within a word; else the first token of a word, else any.
        """
        begins = self.masking.words.of(tokens)
        inner = slice(start + 2, end - 2)
        whole = begins[inner] & begins[start + 3 : end - 1]
        for places in (whole, begins[inner], np.ones(end - start - 4, dtype=bool)):
            found = np.flatnonzero(places) + start + 2
            if len(found):
                return int(found[number % len(found)])
        raise AssertionError("a piece of this length has a place between its texts")

    def _elsewhere(self, index: int, start: int, length: int, draw: int) -> NDArray[np.int64] | None:
        """At most `length` tokens of another document; None when there is none to be found."""
        own = self._document_of(min(index * (self.context_length - 2) + start, self.num_tokens - 1))
        for number in draws(_TRIES, self.masking.seed, draw, start, _PLACE).tolist():
            place = number % self.num_tokens
            document = self._document_of(place)
            first, last = self._span(document)
            if document != own and last > first:
                place = max(first, min(place, last - length))
                window = self.shards.window(place, min(place + length + _LONGEST_WORD, last))
                # From a word's beginning, as the second text that follows: else its first token would tell.
                begins = np.flatnonzero(self.masking.words.of(window)[: _LONGEST_WORD + 1])
                skipped = 0 if place == first or len(begins) < 2 else int(begins[1])
                return window[skipped : skipped + length]
        return None

    def _document_starts(self) -> list[int]:
        if self._starts is None:
            self._starts = self.shards.documents()[:, 0].tolist()
        return self._starts

    def _document_of(self, place: int) -> int:
        return bisect_right(self._document_starts(), place) - 1

    def _span(self, document: int) -> tuple[int, int]:
        """First token of a document's text, and the one behind its last; without [CLS] and [SEP]."""
        starts = self._document_starts()
        end = starts[document + 1] if document + 1 < len(starts) else self.num_tokens
        return starts[document] + 1, end - 1
