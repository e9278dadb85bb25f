"""The texts of tests/data/languages, and the encodings that such texts are found in."""

import unicodedata
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "data" / "languages"
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.txt"))}
ENCODINGS = {
    "ar": ("windows-1256",),
    "bg": ("windows-1251",),
    "cs": ("windows-1250", "iso8859-2"),
    "de": ("latin-1",),
    "el": ("windows-1253", "iso8859-7"),
    "es": ("latin-1",),
    "fr": ("windows-1252",),
    "he": ("windows-1255",),
    "hu": ("windows-1250", "iso8859-2"),
    "it": ("windows-1252",),
    "ja": ("shift_jis", "euc-jp", "iso2022_jp"),
    "ko": ("euc-kr",),
    "pl": ("windows-1250", "iso8859-2"),
    "pt": ("latin-1",),
    "ru": ("koi8-r", "windows-1251", "iso8859-5", "cp866"),
    "th": ("tis-620",),
    "tr": ("windows-1254",),
    "uk": ("koi8-u", "windows-1251"),
    "vi": ("windows-1258",),
    "zh": ("gb18030", "hz"),
    "zh-hant": ("big5", "gb18030"),
}
WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
PAIRS = [(language, encoding) for language, names in ENCODINGS.items() for encoding in names]
"""(language, encoding) of everything that a detector has to find."""


def encoded(language: str, encoding: str) -> tuple[bytes, str]:
    """A text in a legacy encoding, and what of it the encoding has. Windows' Vietnamese has the tones apart."""
    text = "".join(map(_with_tones_apart, TEXTS[language])) if encoding == "windows-1258" else TEXTS[language]
    data = text.encode(encoding, "ignore")
    return data, data.decode(encoding)


def _with_tones_apart(character: str) -> str:
    """`ế` as `ê` and an acute accent."""
    base, *marks = unicodedata.normalize("NFD", character)
    tones = [mark for mark in marks if mark in "\u0300\u0301\u0303\u0309\u0323"]
    letter = base + "".join(mark for mark in marks if mark not in tones)
    return unicodedata.normalize("NFC", letter) + "".join(tones)
