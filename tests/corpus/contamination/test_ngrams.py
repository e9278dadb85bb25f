"""An index finds exactly the runs of tokens that a document shares with a text, and nothing by chance."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.corpus.contamination import ngrams
from groundup.corpus.contamination.ngrams import Index, IndexWriter, Lengths, windows_of
from groundup.corpus.duplicates.shingles import token_hashes

LENGTHS = Lengths(words=13, characters=20, min_overlap=0.0)
TOKENS = st.lists(st.integers(0, 3), max_size=60)


def words(start, count):
    return " ".join(f"w{i}" for i in range(start, start + count))


def index_of(folder, texts, lengths=LENGTHS):
    folder.mkdir(exist_ok=True)
    writer = IndexWriter(folder)
    added = [writer.add(text, 0, number, lengths) for number, text in enumerate(texts)]
    writer.close()
    return Index(folder), added


def found(index, text):
    return [(hit.example, hit.overlap) for hit in index.hits(token_hashes(text))]


def window_hashes(tokens, size):
    return [value for _, _, found in windows_of(tokens, [size]) for value in found.tolist()]


@given(TOKENS, st.integers(1, 15), st.integers(1, 9))
def test_windows_are_equal_exactly_where_their_tokens_are(tokens, size, slice_tokens):
    values = token_hashes(" ".join(map(str, tokens)))
    hashes = window_hashes(values, size)
    runs = [tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1)]
    assert len(hashes) == len(runs)
    assert len(set(hashes)) == len(set(runs))
    assert len(set(zip(hashes, runs, strict=True))) == len(set(runs))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngrams, "_SLICE_TOKENS", slice_tokens)
        assert window_hashes(values, size) == hashes


def test_a_window_is_the_same_anywhere_and_of_its_length_only():
    one, other = (token_hashes(text) for text in (words(0, 40), words(7, 40)))
    assert window_hashes(one, 13)[7:] == window_hashes(other, 13)[: 40 - 12 - 7]
    assert not set(window_hashes(one, 13)) & set(window_hashes(one, 8))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_a_shared_run_of_thirteen_words_is_found_and_one_of_twelve_is_not(tmp_path_factory, seed):
    rng = random.Random(seed)
    text = words(0, rng.randrange(13, 60))
    index, _ = index_of(tmp_path_factory.mktemp("index"), [text, words(500, 30)])
    tokens = text.split()
    start = rng.randrange(len(tokens) - 12)
    for length, expected in ((12, []), (13, [0])):
        document = f"{words(1000, rng.randrange(30))} {' '.join(tokens[start : start + length])}! {words(2000, 5)}"
        assert [example for example, _ in found(index, document.upper())] == expected


def test_overlap_is_the_share_of_the_texts_ngrams(tmp_path):
    index, _ = index_of(tmp_path / "any", [words(0, 32)])  # 20 n-grams
    assert found(index, words(0, 17) + " other " + words(0, 13)) == [(0, 0.25)]
    index, _ = index_of(tmp_path / "half", [words(0, 32)], Lengths(13, 20, 0.5))
    assert found(index, words(0, 21)) == []
    assert found(index, words(0, 22)) == [(0, 0.5)]
    assert found(index, words(0, 32)) == [(0, 1.0)]


def test_short_texts_are_looked_for_whole(tmp_path):
    index, added = index_of(tmp_path, [words(0, 12), words(50, 8), words(90, 7), "...", ""])
    assert added == [True, True, False, False, False]
    assert found(index, "x " + words(0, 11)) == []
    assert found(index, "x " + words(0, 12)) == [(0, 1.0)]
    assert found(index, words(50, 8)) == [(1, 1.0)]
    assert found(index, words(90, 7)) == []


def test_scripts_without_spaces_are_compared_by_characters(tmp_path):
    text = "".join(chr(0x4E00 + 7 * i) for i in range(40))
    index, added = index_of(tmp_path, [text, text[:11], text[20:33]])
    assert added == [True, False, True]
    assert found(index, f"前{text[5:24]}后") == []
    assert [example for example, _ in found(index, f"前{text[5:25]}后")] == [0]
    assert [example for example, _ in found(index, f"abc {text[20:33]} def")] == [2]


def test_texts_that_share_ngrams_are_all_found(tmp_path):
    index, _ = index_of(tmp_path, [words(0, 20), words(5, 20), words(0, 20)])
    assert [example for example, _ in found(index, words(6, 13))] == [0, 1, 2]


def test_an_empty_index_finds_nothing(tmp_path):
    index, _ = index_of(tmp_path, ["short"])
    assert found(index, words(0, 100)) == []
