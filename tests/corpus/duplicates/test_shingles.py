"""Normal forms, tokens and shingles: what counts as the same, in every script, and never by where a slice ends."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus.duplicates import shingles
from groundup.corpus.duplicates.shingles import (
    TOKEN,
    composed,
    excerpt,
    jaccard,
    normal_hash,
    shingle_set,
    token_hashes,
    token_hashes_of,
    windows,
    windows_of_texts,
)

SETS = st.sets(st.integers(0, 60), max_size=40)


def window_hashes(text, size):
    return windows(token_hashes(text), size).tolist()


@given(st.lists(st.text(alphabet="aB é\t\n\u3000", max_size=30)), st.integers(1, 7))
def test_normal_form_ignores_case_space_and_slices(pieces, slice_characters):
    text = " ".join(pieces)
    expected = normal_hash(text)
    assert normal_hash("\n" + text.upper().replace(" ", " \t ") + " ") == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shingles, "_SLICE_CHARACTERS", slice_characters)
        assert normal_hash(text) == expected


def test_normal_form_keeps_word_borders_and_composes():
    assert normal_hash("now here") != normal_hash("nowhere")
    assert normal_hash("e\u0301") == normal_hash("\u00e9")
    assert window_hashes("un caf\u0065\u0301 noir", 3) == window_hashes("un caf\u00e9 noir", 3)


def test_ascii_and_unicode_tokens_agree():
    plain = window_hashes("It's  Word_1, and\x1cmore", 2)
    assert window_hashes("It's  Word_1, and more é", 2)[: len(plain)] == plain
    assert len(window_hashes("床前明月光", 5)) == 1
    assert len(window_hashes("床前明月光疑是地上霜", 5)) == 6
    assert len(window_hashes("人々は〇と言う", 1)) == 7
    assert len(window_hashes("one two", 5)) == 1
    assert len(window_hashes("... !!!", 5)) == 0


@given(SETS, SETS)
def test_jaccard_is_that_of_sets(one, other):
    arrays = (np.array(sorted(values), dtype=np.uint64) for values in (one, other))
    expected = len(one & other) / len(one | other) if one | other else 0.0
    assert jaccard(*arrays) == expected


def test_a_shingle_set_has_no_repeats():
    tokens = token_hashes("a b a b a b")
    assert len(windows(tokens, 2)) == 5
    assert len(shingle_set(tokens, 2)) == 2


TEXTS = st.text(alphabet="aZ9_ é\u0301İß.\n\u3000床前กาあ\U00020000\u00a0-", max_size=40)


@given(st.lists(TEXTS | st.text(alphabet="ab_9 .\n", max_size=40), max_size=8))
def test_tokens_are_those_of_the_expression_and_batches_do_not_show(texts):
    found = token_hashes_of(texts)
    known = {}
    for text, hashes in zip(texts, found, strict=True):
        assert hashes.tolist() == token_hashes(text).tolist()
        tokens = TOKEN.findall(composed(text).lower())
        assert len(tokens) == len(hashes)
        for token, value in zip(tokens, hashes.tolist()):
            assert known.setdefault(token, value) == value
    assert len(set(known.values())) == len(known)


@given(TEXTS, st.integers(1, 12))
def test_slices_show_only_where_there_is_no_space(text, size):
    spaced = " ".join(text)  # a space at every second place
    expected = token_hashes(spaced).tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shingles, "_SLICE_CHARACTERS", size + 1)
        assert token_hashes(spaced).tolist() == expected
        assert len(token_hashes(text)) >= len(TOKEN.findall(composed(text).lower()))


@given(st.lists(st.lists(st.integers(0, 5), max_size=9), min_size=1, max_size=9), st.integers(1, 6))
def test_windows_of_texts_are_those_of_each(texts, size):
    tokens = [np.array(text, dtype=np.uint64) for text in texts]
    found, offsets = windows_of_texts(tokens, size)
    parts = [found[start:stop].tolist() for start, stop in pairwise(offsets)]
    assert parts == [windows(each, size).tolist() for each in tokens]


def test_an_excerpt_is_the_text_as_it_stands():
    assert excerpt("One, two -- THREE 床前 four", 1, 3) == "two -- THREE 床"
    assert excerpt("one", 5, 2) == ""
