"""Normal forms, tokens and shingles: what counts as the same, in every script, and never by where a slice ends."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus import shingles
from groundup.corpus.shingles import TokenHashes, jaccard, normal_hash, shingle_set, windows

SETS = st.sets(st.integers(0, 60), max_size=40)


def window_hashes(text, size):
    return windows(TokenHashes().of(text), size).tolist()


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
    tokens = TokenHashes().of("a b a b a b")
    assert len(windows(tokens, 2)) == 5
    assert len(shingle_set(tokens, 2)) == 2


def test_memory_of_words_is_bounded(monkeypatch):
    expected = window_hashes(" ".join(f"w{i}" for i in range(50)), 3)
    monkeypatch.setattr(shingles, "_WORDS_LIMIT", 7)
    hashes = TokenHashes()
    assert windows(hashes.of(" ".join(f"w{i}" for i in range(50))), 3).tolist() == expected
    assert len(hashes) <= 7
