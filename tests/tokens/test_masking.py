"""Masks: how many, of what, reproducible, whole words, and where words begin in any script."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.tokens.draws import draws, shares
from groundup.tokens.masking import Masking, MaskingConfig
from groundup.tokens.packing import IGNORE
from groundup.tokens.word_starts import WordStarts

TEXTS = [
    b"", b"", b" the", b" riv", b"er", b"bank", b"'s", b" ", b"1", b"23", b".",
    "北京".encode(), "大".encode(), b"\xe6\x98", b"\xaf", "é".encode(),
]  # fmt: skip
MASK = 1


class Vocabulary:
    """Tokens 0 ([CLS]) and 1 ([MASK]) are control tokens."""

    vocab_size = len(TEXTS)
    control_ids = frozenset({0, 1})

    def token_bytes(self, token: int) -> bytes:
        return TEXTS[token]


WORDS = WordStarts(Vocabulary())
rows = st.lists(st.integers(0, len(TEXTS) - 1).filter(lambda token: token != MASK), min_size=8, max_size=120)


def masking(**changes: object) -> Masking:
    return Masking(MaskingConfig(**changes), WORDS, MASK, seed=3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tokens", "starts"),
    [
        ([0, 2, 3, 4, 6, 2], [0, 1, 1, 0, 1, 1]),  # [CLS] the riv|er 's the
        ([5, 8, 9, 10, 5], [1, 1, 0, 1, 1]),  # bank 1|23 . bank
        ([3, 11, 12, 13, 14, 3], [1, 1, 1, 1, 0, 1]),  # riv 北京 大 one character in two tokens, riv
        ([3, 15, 4], [1, 0, 0]),  # letters with accents are letters
    ],
)
def test_where_words_begin(tokens: list[int], starts: list[int]) -> None:
    assert WORDS.of(np.array(tokens)).astype(int).tolist() == starts


@given(rows, st.integers(0, 2**40), st.booleans())
def test_masks_keep_their_promises(row: list[int], draw: int, whole_words: bool) -> None:
    tokens = np.array(row)
    tool = masking(whole_words=whole_words)
    hidden, targets = tool.apply(tokens, draw)
    chosen = targets != IGNORE
    text = WORDS.ordinary[tokens]
    assert chosen.sum() <= max(1, int(0.15 * len(row)))
    assert not chosen[~text].any(), "a control token is never predicted"
    assert (hidden[~chosen] == tokens[~chosen]).all()
    assert (targets[chosen] == tokens[chosen]).all()
    again = tool.apply(tokens, draw)
    assert (again[0] == hidden).all()
    assert (again[1] == targets).all()
    if whole_words:
        word = np.cumsum(WORDS.of(tokens))
        assert all(chosen[text & (word == number)].all() for number in set(word[chosen].tolist()))
    elif text.any():
        assert chosen.any()


def test_shares_are_those_asked_for() -> None:
    tokens = np.tile(np.arange(2, len(TEXTS)), 40)
    tool = masking(share=0.2, masked=0.5, replaced=0.3)
    fates = np.zeros(3)
    for draw in range(60):
        hidden, targets = tool.apply(tokens, draw)
        chosen = targets != IGNORE
        assert chosen.sum() == int(0.2 * len(tokens))
        fates += [(hidden[chosen] == MASK).sum(), 0, (hidden[chosen] == tokens[chosen]).sum()]
    total = 60 * int(0.2 * len(tokens))
    assert fates[0] / total == pytest.approx(0.5, abs=0.03)
    # Of the replaced ones, one in fourteen happens to be what it was.
    assert fates[2] / total == pytest.approx(0.2 + 0.3 / 14, abs=0.03)


def test_other_uses_and_seeds_draw_other_masks() -> None:
    tokens = np.tile(np.arange(2, len(TEXTS)), 4)
    one, other = (masking().apply(tokens, draw)[1] for draw in (0, 1))
    assert (one != other).any()
    seeded = Masking(MaskingConfig(), WORDS, MASK, seed=4).apply(tokens, 0)[1]
    assert (one != seeded).any()


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=4), st.integers(1, 50))
def test_draws_are_those_of_the_key(key: list[int], count: int) -> None:
    found = draws(count, *key)
    assert (draws(count + 5, *key)[:count] == found).all(), "a number does not depend on how many are drawn"
    assert ((shares(found) >= 0) & (shares(found) < 1)).all()
    assert (draws(count, *key, 0) != found).any()
    assert abs(shares(draws(4000, *key)).mean() - 0.5) < 0.05
