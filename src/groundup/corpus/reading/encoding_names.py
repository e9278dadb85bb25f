"""Encodings by name: what a label of a page, a recipe or a detector means, and Python's codec for it.

Invariant: each encoding has one name here; labels that run code or compress (Python's `hex`, `idna`) mean none.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Literal

_CODECS = {
    "UTF-8": "utf-8",
    "UTF-16-LE": "utf-16-le",
    "UTF-16-BE": "utf-16-be",
    "UTF-32-LE": "utf-32-le",
    "UTF-32-BE": "utf-32-be",
    "GB18030": "gb18030",
    "Big5": "big5hkscs",
    "Shift-JIS": "cp932",
    "EUC-JP": "euc_jp",
    "EUC-KR": "cp949",
    "Johab": "johab",
    "HZ": "hz",
    "ISO-2022-JP": "iso2022_jp_2",
    "ISO-2022-KR": "iso2022_kr",
    "ASCII": "ascii",
    "KOI8-R": "koi8_r",
    "KOI8-U": "koi8_u",
    "TIS-620": "cp874",
    "Mac-Roman": "mac_roman",
    "Mac-Cyrillic": "mac_cyrillic",
    **{f"ISO-8859-{n}": f"iso8859_{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16)},
    **{f"Windows-125{n}": f"cp125{n}" for n in range(9)},
    **{f"IBM{n}": f"cp{n}" for n in (437, 737, 775, 850, 852, 855, 857, 860, 861, 862, 863, 864, 865, 866, 869)},
}
"""Name -> Python's codec. Where browsers read a name as a larger set (GB2312 as GB18030) so does the codec."""
_LARGER = {
    "gb2312": "GB18030",
    "gbk": "GB18030",
    "cp936": "GB18030",
    "big5": "Big5",
    "cp950": "Big5",
    "shift_jis": "Shift-JIS",
    "shift_jisx0213": "Shift-JIS",
    "shift_jis_2004": "Shift-JIS",
    "euc_kr": "EUC-KR",
    "iso2022_jp": "ISO-2022-JP",
    "iso8859-11": "TIS-620",
    "tis-620": "TIS-620",
    "utf-8-sig": "UTF-8",
}
_LABELS = {
    "x-sjis": "Shift-JIS",
    "x-gbk": "GB18030",
    "x-euc-jp": "EUC-JP",
    "iso-8859-8-i": "ISO-8859-8",
    "windows-874": "TIS-620",
    "windows-949": "EUC-KR",
    "ks_c_5601-1987": "EUC-KR",
    "uhc": "EUC-KR",
    "x-mac-cyrillic": "Mac-Cyrillic",
    "x-user-defined": "",
    "unicode": "",
}
"""Labels of web pages and detectors that Python does not know."""
_AS_IN_BROWSERS = {"ISO-8859-1": "Windows-1252", "ASCII": "Windows-1252", "ISO-8859-9": "Windows-1254"}
_BY_CODEC = {codecs.lookup(codec).name: name for name, codec in reversed(_CODECS.items())}
_MARKS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "UTF-8"),
    (codecs.BOM_UTF32_LE, "UTF-32-LE"),  # before UTF-16: it begins with the same two bytes
    (codecs.BOM_UTF32_BE, "UTF-32-BE"),
    (codecs.BOM_UTF16_LE, "UTF-16-LE"),
    (codecs.BOM_UTF16_BE, "UTF-16-BE"),
)


@dataclass(frozen=True)
class Encoding:
    """An encoding by its name in `_CODECS`, and how it is known."""

    name: str = "UTF-8"
    how: Literal["", "mark", "given", "declared", "detected"] = ""

    def __str__(self) -> str:
        return f"{self.name}, {self.how}" if self.how in ("declared", "detected") else self.name

    @property
    def codec(self) -> str:
        """Name of Python's codec."""
        return _CODECS[self.name]


UTF_8 = Encoding()


def codec_of(name: str) -> str:
    """Python's codec of an encoding by its one name."""
    return _CODECS[name]


def named(label: str) -> str:
    """The name of the encoding that a label means ("gb2312" -> "GB18030"); "" when it is none that is read."""
    label = label.strip().strip("\"'").lower()
    if label in _LABELS:
        return _LABELS[label]
    try:
        codec = codecs.lookup(label).name
    except (LookupError, ValueError, UnicodeError):
        return ""
    return _LARGER.get(codec) or _BY_CODEC.get(codec, "")


def as_in_browsers(name: str) -> str:
    """The larger encoding that browsers read under the name of a smaller one."""
    return _AS_IN_BROWSERS.get(name, name)


def byte_order_mark(head: bytes) -> tuple[str, int]:
    """(encoding, length of the mark); ("", 0) without one."""
    return next(((name, len(mark)) for mark, name in _MARKS if head.startswith(mark)), ("", 0))
