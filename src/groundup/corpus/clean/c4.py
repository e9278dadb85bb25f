"""C4's heuristics: Raffel et al. 2020, section 2.2 (JMLR 21:140), with the line rules of its published code.

Lines without terminal punctuation, with too few words, with a word too long, that speak of JavaScript or of cookies
and terms go; so do documents with a curly bracket, "lorem ipsum" or fewer than five sentences, and citation marks. A
line of Chinese or Japanese counts 1.6 characters as a word and ends in its own marks, closing quotes and brackets too.
"""

from __future__ import annotations

import re

from pydantic import Field

from groundup.config import Config
from groundup.corpus.accounts.account import EXCERPT_CHARACTERS
from groundup.corpus.clean import scripts
from groundup.corpus.clean.text import Dropped, Edited, Outcome, Text
from groundup.corpus.sentences import count_sentences

_CITATION = re.compile(r"\[\d{0,9}\]|\[edit\]|\[citation needed\]", re.IGNORECASE)
_ENDS = (".", "?", "!", '"', "'", "”", "’", "。", "？", "！", "．", "｡", "؟", "۔", "।", *scripts.UNSPACED_ENDS)
_UNSPACED = re.compile(f"[{scripts.UNSPACED_CLASS}]")
_POLICY = re.compile(
    "terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies"
    "|隐私政策|隐私权政策|隱私權政策|隱私政策|使用条款|使用條款|服务条款|服務條款|使用\\s?cookie"
    "|プライバシーポリシー|利用規約|cookieを使用|クッキーを使用|개인정보처리방침|개인정보 처리방침|이용약관"
)


class C4Config(Config):
    """C4's heuristics (Raffel et al. 2020)."""

    terminal_punctuation: bool = True
    """Remove lines that do not end in a mark (FineWeb leaves this out)."""
    min_words_per_line: int = Field(default=3, ge=0)
    """Remove lines with fewer words."""
    max_word_length: int = Field(default=1000, ge=0)
    """Remove lines with a longer word; 0: none."""
    min_sentences: int = Field(default=5, ge=0)
    """Drop documents of fewer sentences, counted in the lines that stay."""
    citations: bool = True
    """Remove `[1]`, `[edit]` and `[citation needed]`."""
    javascript: bool = True
    """Remove lines that mention JavaScript."""
    policy_lines: bool = True
    """Remove lines about cookies, terms of use and privacy policies."""
    curly_bracket: bool = True
    """Drop documents with `{`."""
    lorem_ipsum: bool = True
    """Drop documents with `lorem ipsum`."""


def c4(config: C4Config, text: Text) -> Outcome:
    """All of C4's heuristics: line by line, then the number of sentences."""
    lowered = text.string.lower()
    suspects = {
        "JavaScript": config.javascript and "javascript" in lowered,
        "policy": config.policy_lines and _POLICY.search(lowered) is not None,
        "lorem ipsum": config.lorem_ipsum and "lorem ipsum" in lowered,
        "curly bracket": config.curly_bracket and "{" in lowered,
    }
    suspects = {name: True for name, present in suspects.items() if present}
    cites = config.citations and "[" in text.string
    counts: dict[str, int] = {}
    kept: list[str] = []
    sentences = 0
    for original in text.lines:
        line = original.strip()
        words = line.split()
        if len(line) > config.max_word_length > 0 and _has_long_word(words, config.max_word_length):
            _count(counts, "c4: lines with a long word")
            continue
        if cites and (shorter := _CITATION.sub("", line)) != line:
            _count(counts, "c4: citations")
            line = shorter
        reason = _bad_end(config, line, words) or (_bad_content(line, suspects) if suspects else "")
        if reason in ("c4: lorem ipsum", "c4: curly bracket"):
            return Dropped(reason, excerpt=line[: EXCERPT_CHARACTERS + 1])
        if reason:
            if line:
                _count(counts, reason)
            continue
        if sentences < config.min_sentences:
            sentences += count_sentences(line, config.min_sentences)
        kept.append(line)
    if sentences < config.min_sentences:
        return Dropped("c4: too few sentences", sentences, config.min_sentences)
    string = "\n".join(kept)
    return Edited(string, counts) if string != text.string else None


def _has_long_word(words: list[str], limit: int) -> bool:
    if max(map(len, words)) <= limit:
        return False
    return any(len(word) > limit and not _UNSPACED.search(word) for word in words)


def _bad_end(config: C4Config, line: str, words: list[str]) -> str:
    if config.terminal_punctuation and (not line.endswith(_ENDS) or line.endswith("...")):
        return "c4: lines without terminal punctuation"
    if len(words) < config.min_words_per_line:
        unspaced = len(_UNSPACED.findall(line)) / scripts.UNSPACED_CHARACTERS_PER_WORD
        if max(len(words), unspaced) < config.min_words_per_line:
            return "c4: lines of few words"
    return ""


def _bad_content(line: str, suspects: dict[str, bool]) -> str:
    lowered = line.lower()
    if "lorem ipsum" in suspects and "lorem ipsum" in lowered:
        return "c4: lorem ipsum"
    if "JavaScript" in suspects and "javascript" in lowered:
        return "c4: lines about JavaScript"
    if "curly bracket" in suspects and "{" in line:
        return "c4: curly bracket"
    if "policy" in suspects and _POLICY.search(lowered):
        return "c4: lines about cookies and terms"
    return ""


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1
