from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from groundup.tokens import OWN, Tokenizer, TokenizerConfig, measure_fertility, train_tokenizer
from tests.tokens.conftest import AUSTEN


@dataclass
class Doc:
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


def test_figures_are_those_of_the_text(tokenizer: Tokenizer) -> None:
    report = measure_fertility({"en": [Doc(AUSTEN), Doc("don't, 12")], "zh": [Doc("北京。上海")]}, {OWN: tokenizer})
    zh, en = report["sources"]["zh"], report["sources"]["en"]
    assert (zh["documents"], zh["bytes"], zh["characters"], zh["words"]) == (1, 15, 5, 4)
    tokens = len(tokenizer.encode("北京。上海"))
    assert zh["tokenizers"][OWN] == {
        "tokens": tokens,
        "tokens_per_word": round(tokens / 4, 4),
        "tokens_per_character": round(tokens / 5, 4),
        "bytes_per_token": round(15 / tokens, 4),
        "to_own": 1.0,
    }
    assert en["words"] == len(AUSTEN.replace(",", "").replace(".", "").split()) + 3
    for key in ("documents", "bytes", "characters", "words"):
        assert report["all"][key] == zh[key] + en[key] == sum(each[key] for each in report["languages"].values())


def test_languages_are_what_metadata_says_or_the_script(tokenizer: Tokenizer) -> None:
    texts = {
        "Latin script": "Größe, naïve",
        "Han script": "天地玄黄 a",
        "Kana script": "これは日本語の文章です",
        "Hangul script": "한국어 문장",
        "Cyrillic script": "Привет",
        "no letters": "12 + 12 = 24",
    }
    documents = [Doc(text) for text in texts.values()] + [Doc("bonjour", {"language": "fr"}), Doc("x", {"language": 3})]
    report = measure_fertility({"mixed": documents}, {OWN: tokenizer})
    assert report["languages"].keys() == {*texts, "fr"}
    assert report["languages"]["Latin script"]["documents"] == 2


def test_others_are_set_against_ours(tokenizer: Tokenizer, tmp_path: Path) -> None:
    train_tokenizer(TokenizerConfig(vocab_size=261), [AUSTEN], tmp_path)
    report = measure_fertility({"a": [Doc(AUSTEN)]}, {OWN: tokenizer, "bytes": Tokenizer.load(tmp_path)})
    figures = report["all"]["tokenizers"]
    assert report["vocab_size"] == {OWN: 400, "bytes": 261}
    assert figures["bytes"]["tokens"] == len(AUSTEN.encode())
    assert figures["bytes"]["to_own"] == pytest.approx(len(AUSTEN.encode()) / figures[OWN]["tokens"], abs=1e-4)


def test_only_so_much_of_a_source_is_read(tokenizer: Tokenizer) -> None:
    def endless() -> Any:
        while True:
            yield Doc("word " * 100)

    report = measure_fertility({"endless": endless()}, {OWN: tokenizer}, limit_bytes=5000)
    assert report["all"]["bytes"] == 5000


def test_nothing_has_no_figures(tokenizer: Tokenizer) -> None:
    report = measure_fertility({"none": []}, {OWN: tokenizer})
    assert report["all"]["tokenizers"] == {}
    assert report["sources"] == report["languages"] == {}
    empty = measure_fertility({"empty": [Doc("")]}, {OWN: tokenizer})["all"]["tokenizers"][OWN]
    assert empty == {
        "tokens": 0,
        "tokens_per_word": None,
        "tokens_per_character": None,
        "bytes_per_token": None,
        "to_own": None,
    }
