from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from groundup.errors import DataError
from groundup.tokens import Tokenizer
from groundup.tokens.patterns import PATTERNS
from groundup.tokens.words import parts_of, splitter

RELAXED = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SPECIAL = st.sampled_from(
    ["'s", "'Ll", "'ſ", "\r\n", "  ", "\n\n", "/", "!\n", "　", "\x1c", "\x85", "１２", "Ⅷ", "😀", "𝒜", "𐐀"]
)
TEXT = st.lists(st.text() | SPECIAL | st.text("aA1 \n中é")).map("".join)
BMP = [chr(code) for code in (*range(0xD800), *range(0xE000, 0x10000))]


def library(pattern: str) -> Callable[[str], list[str]]:
    """The words as the tokenizers library cuts them."""
    splits = [pre_tokenizers.Split(Regex(expression), "isolated") for expression in PATTERNS[pattern].expressions]
    cut = pre_tokenizers.Sequence(splits)
    return lambda text: [word for word, _ in cut.pre_tokenize_str(text)]


def words(pattern: str, text: str) -> list[str]:
    split, expected = splitter(pattern), library(pattern)
    return [w for beyond, part in parts_of(text, pattern) for w in (expected(part) if beyond else split(part))]


@pytest.mark.parametrize("pattern", PATTERNS)
@RELAXED
@given(text=TEXT)
@example(text="x 😀y  z😀\n\n 'S\n/a")
def test_words_are_those_of_the_library(pattern: str, text: str) -> None:
    assert words(pattern, text) == library(pattern)(text)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_character_is_of_the_same_kind_for_both_engines(pattern: str) -> None:
    """Each character of the plane in a few surroundings: a set that differs anywhere shows."""
    split, expected = splitter(pattern), library(pattern)
    for first in range(0, len(BMP), 4096):
        text = "".join(f"a{c}{c}b {c} 1{c}'{c} x'{c}e\n{c}!{c}\n" for c in BMP[first : first + 4096])
        assert split(text) == expected(text), f"characters from U+{ord(BMP[first]):04X}"


@RELAXED
@given(st.lists(TEXT, max_size=4))
def test_word_by_word_gives_the_ids_of_the_library(tokenizer_folder: Path, texts: list[str]) -> None:
    plain, quick = Tokenizer.load(tokenizer_folder), Tokenizer.load(tokenizer_folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("groundup.tokens.tokenizer.WORD_BY_WORD_FROM_CHARACTERS", 0)
        found = [ids.tolist() for ids in quick.encode_arrays(texts)]
    assert found == plain.encode_batch(texts) == [ids.tolist() for ids in plain.encode_arrays(texts)]
    assert found == quick.encode_batch(texts)


def test_what_was_met_is_forgotten_when_it_is_too_much(tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, quick = Tokenizer.load(tokenizer_folder), Tokenizer.load(tokenizer_folder)
    monkeypatch.setattr("groundup.tokens.tokenizer.WORD_BY_WORD_FROM_CHARACTERS", 0)
    monkeypatch.setattr("groundup.tokens.words.KNOWN_WORDS", 5)
    texts = [f"a truth number {i} of many, {'x' * i}!" for i in range(40)]
    found = [quick.encode_arrays([text])[0].tolist() for text in texts]
    monkeypatch.setattr("groundup.tokens.tokenizer.WORD_BY_WORD_FROM_CHARACTERS", 10**9)
    assert found == plain.encode_batch(texts)


@pytest.mark.parametrize("run", ["a", " ", "\n", "'", "中", "1", " \n", "😀"])
def test_long_runs_are_cut_alike(tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch, run: str) -> None:
    text = f"start {run * 140_000} end"
    plain = Tokenizer.load(tokenizer_folder).encode(text)
    monkeypatch.setattr("groundup.tokens.tokenizer.WORD_BY_WORD_FROM_CHARACTERS", 0)
    assert Tokenizer.load(tokenizer_folder).encode(text) == plain


def test_lone_surrogates_are_refused_word_by_word(tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundup.tokens.tokenizer.WORD_BY_WORD_FROM_CHARACTERS", 0)
    with pytest.raises(DataError, match="lone surrogate at character 2"):
        Tokenizer.load(tokenizer_folder).encode_arrays(["ab\ud800c"])
