"""Words found for all characters at once are those that a plain walk over the text finds."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus.clean import scripts, words
from groundup.corpus.clean.scripts import LETTER, NUMBER, SYMBOL, UNSPACED
from groundup.corpus.clean.words import find_words, word_hash

TEXT = st.text(st.sampled_from("abZé1_ '’.,:/-\n\t你好の한…。--!ก😀"), max_size=60)


def lengths(string):
    return find_words(string).lengths.tolist()


def test_what_a_word_is():
    assert lengths("The cat's 3.14 U.S. well-known a_b 2x... 1999-2000") == [3, 3, 2, 4, 3, 1, 4, 1, 5, 3, 2, 3, 9]
    assert lengths("今天天气 good。") == [1, 1, 1, 1, 4, 1]
    assert find_words("今2x 12 ... a").kinds.tolist() == [UNSPACED, LETTER, NUMBER, SYMBOL, LETTER]
    assert lengths("हिन्दी भाषा") == [6, 4]  # marks belong to their letters


@given(TEXT)
def test_words_cover_everything_but_white_space(string):
    assert sum(lengths(string)) == sum(not character.isspace() for character in string)


@given(TEXT, TEXT)
def test_equal_words_have_equal_hashes_wherever_they_stand(before, after):
    if not (before[-1:].strip() or after[:1].strip()):
        for word in ("hash", "你", "...", "3.14"):
            assert word_hash(word) in find_words(f"{before} {word} {after}").hashes.tolist()


@given(st.lists(st.text("abc", min_size=1, max_size=6), max_size=30))
def test_hashes_differ_as_words_do(texts):
    found = find_words(" ".join(texts)).hashes.tolist()
    assert len(set(found)) == len(set(texts))


def test_ascii_and_wide_text_agree():
    string = "It's 12:30, isn't it? a.b,c -- x_1 (no)"
    plain, wide = find_words(string), find_words(string + " é")
    assert plain.hashes.tolist() == wide.hashes.tolist()[:-1]
    assert (scripts.ascii_kinds()[:128] == scripts.kinds()[:128]).all()


def test_long_text_is_cut_at_white_space(monkeypatch):
    string = "one two three " * 50 + "x" * 80
    whole = find_words(string)
    monkeypatch.setattr(words, "SLICE_CHARACTERS", 64)
    assert np.array_equal(find_words("one two three " * 50).hashes, whole.hashes[:-1])
    assert sum(lengths(string)) == sum(whole.lengths.tolist())


def test_chinese_forms():
    simplified, traditional = scripts.chinese_forms()
    assert set("国门书东车") <= simplified
    assert set("國門書東車") <= traditional
    assert not simplified & traditional
    assert "人" not in simplified | traditional
