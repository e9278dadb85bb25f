"""Mending of characters: line ends, control characters, Unicode normalisation, text decoded in the wrong encoding.

Invariant: mending mended text changes nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

from groundup.corpus.clean.text import Edited, Outcome, Text
from groundup.corpus.optional import load

NormalForm = Literal["keep", "nfc", "nfkc"]

_LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c]")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]+")
_ASCII_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r")) + b"\x7f"

_GB_AS_LATIN = re.compile(r"[\xa1-\xf7\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192][\xa1-\xfe]{7,}")
_UTF8_AS_GB = re.compile(r"[^\x00-\x7f]{3,}")
_TELLTALE = re.compile(r"[浠浜涓鍥鏄鐨鎴璇鍦鍙鍚鎵鏈绗缁涔浣鐢瀛杩鏃鏂鎬锛銆鈥鍏鍒澶鏋鐩鑳鐞鎻鍔]")
"""Common results of reading the first two bytes of a Chinese character in UTF-8 as GB 18030: rare in real text."""
_COMMON_CHINESE = re.compile(r"[\u4e00-\u9fff，。、；：？！“”‘’（）《》…—0-9A-Za-z\s]*")


def newlines(text: Text) -> Outcome:
    """CRLF, CR, vertical tab and form feed become line feeds."""
    string = text.string
    if "\r" in string or "\f" in string or "\v" in string:
        return Edited(_LINE_ENDS.sub("\n", string))
    return None


def control_characters(text: Text) -> Outcome:
    """NUL, escape and other C0 and C1 controls, byte order marks and non-characters go; tab, line feed, NEL stay."""
    if _has_controls(text.string):
        return Edited(_CONTROLS.sub("", text.string))
    return None


def _has_controls(string: str) -> bool:
    data = string.encode()  # deleting bytes is ten times faster than a regular expression over all characters
    if len(data.translate(None, _ASCII_CONTROLS)) != len(data):
        return True
    return not string.isascii() and _CONTROLS.search(string) is not None


def normal_form(form: NormalForm, text: Text) -> Outcome:
    """Unicode NFC or NFKC."""
    if form == "keep" or text.string.isascii():
        return None
    wanted: Literal["NFC", "NFKC"] = "NFC" if form == "nfc" else "NFKC"
    if unicodedata.is_normalized(wanted, text.string):
        return None
    return Edited(unicodedata.normalize(wanted, text.string))


def mojibake(text: Text) -> Outcome:
    """Lines that were decoded in the wrong encoding, mended where it can be told for sure.

    UTF-8 read as Latin-1, Windows-1252 and others: ftfy. GB 18030 read as Latin-1, and UTF-8 read as GB 18030, which
    ftfy does not know: runs that give common Chinese, or valid UTF-8, when they are decoded again.
    """
    if text.string.isascii():
        return None
    mended, changed = [], 0
    for line in text.string.split("\n"):
        better = line if line.isascii() else _mended(line)
        changed += better != line
        mended.append(better)
    return Edited("\n".join(mended), {"mojibake: lines": changed}) if changed else None


def _mended(line: str) -> str:
    looks_bad, fix = _ftfy()
    for _ in range(3):  # text may have been decoded wrongly more than once
        before = line
        if _GB_AS_LATIN.search(line):
            line = _GB_AS_LATIN.sub(lambda match: _decoded_again(match[0], "latin-1", "gb18030", _is_common), line)
        if _TELLTALE.search(line):
            line = _UTF8_AS_GB.sub(lambda match: _decoded_again(match[0], "gb18030", "utf-8", _is_longer_script), line)
        if looks_bad(line):
            line = fix(line)
        if line == before:
            return line
    return line


@cache
def _ftfy() -> tuple[Callable[[str], bool], Callable[[str], str]]:
    ftfy: Any = load("ftfy", "corpus.clean.mojibake")
    badness: Any = load("ftfy.badness", "corpus.clean.mojibake")
    settings = ftfy.TextFixerConfig(unescape_html=False, normalization=None, explain=False)
    return badness.is_bad, lambda line: _CONTROLS.sub("", str(ftfy.fix_encoding(line, settings)))


def _decoded_again(run: str, read_as: str, written_as: str, is_right: Callable[[str], bool]) -> str:
    """`run` in its true encoding, or as it is when that is no text or not surely right."""
    try:
        decoded = run.encode(read_as).decode(written_as)
    except UnicodeError:
        return run
    return decoded if is_right(decoded) else run


def _is_common(decoded: str) -> bool:
    """Chinese characters of GB 2312's first level (the 3,755 most frequent) and punctuation only."""
    if not _COMMON_CHINESE.fullmatch(decoded):
        return False
    return all(
        0xB0 <= character.encode("gb18030")[0] <= 0xD7
        for character in decoded
        if character >= "\u4e00" and character <= "\u9fff"
    )


def _is_longer_script(decoded: str) -> bool:
    """UTF-8 of at least two characters, none of them ASCII: chance does not give that."""
    return len(decoded) >= 2 and not any(character.isascii() for character in decoded) and decoded.isprintable()
