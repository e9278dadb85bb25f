"""Bytes of a text file -> the encoding of its characters and how that is known, or the candidates where it is not.

    byte order mark -> asked for -> declared -> UTF-16/32 without a mark -> 7-bit escapes -> valid UTF-8
    -> two detectors that agree

A declaration (of XML) yields to UTF-8 beyond ASCII: text is that by chance only when it is very short.
Detectors are wrong on short texts, and each is wrong on other ones. So a legacy encoding is believed only when two
unlike detectors (Firefox's chardetng and Mozilla's older universal detector) decode the text to the same characters, or
when only one of their answers spells a language (`alphabets.py`).

Invariant: nothing is guessed silently: what is not sure is refused with the candidates, and a byte that an encoding
does not have never becomes U+FFFD unless the source asks for it, counted.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import BinaryIO

import cchardet
from chardetng_py import EncodingDetector

from groundup.corpus.reading.alphabets import is_spelled, is_western, is_written
from groundup.corpus.reading.compressed import DamagedFile
from groundup.corpus.reading.encoding_names import UTF_8, Encoding, as_in_browsers, byte_order_mark, codec_of, named

BLOCK_BYTES = 1 << 20
SURVEY_LIMIT_BYTES = 64 << 20
"""How far a file is searched for its first byte that is not UTF-8; beyond it lines are rejected one by one."""
SAMPLE_BYTES = 1 << 18
_MOSTLY_UTF8 = 0.8
"""Share of the non-ASCII bytes that form UTF-8, above which a file is damaged UTF-8. Chinese in GBK has up to 0.5."""
MULTI_BYTE = ("GB18030", "Big5", "Shift-JIS", "EUC-JP", "EUC-KR")
"""Encodings of more than one byte a character that a detector tells by their patterns."""
_ENOUGH_FOR_ONE = 32
"""Bytes beyond ASCII after which other text no longer decodes in a multi-byte encoding by chance."""
_ENOUGH_TO_SPELL = 8
_FAULT_SHARE = 0.02
_CEDILLAS = str.maketrans("\u0219\u021b\u0218\u021a", "\u015f\u0163\u015e\u0162")
"""Romanian with commas below and with cedillas has the same bytes in two encodings."""
_FOREIGN_BYTES = bytes(range(128, 256))
_ESCAPES: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\x1b\$\)C"), "ISO-2022-KR"),
    (re.compile(rb"\x1b\$[@B]|\x1b\([JI]"), "ISO-2022-JP"),
    (re.compile(rb"~\{(?:[!-w][!-~])+~\}"), "HZ"),
)
_XML_DECLARATION = re.compile(rb"\s*+<\?xml[^>]*?\sencoding\s*=\s*[\"']([A-Za-z0-9._:-]{1,40})[\"']")
_XML_DECLARATION_BYTES = 400
_CONTROL_BYTES = bytes(set(range(32)) - set(b"\t\n\f\r\x1b"))
_STRAY_CONTROLS = 0.005
"""Share of control characters up to which text in a legacy encoding may have some, as the Ctrl-Z at the end of DOS."""
_ASCII_TEXT = bytes(range(32, 127)) + b"\t\n\r"
_MOSTLY_ASCII = 0.9
"""Share of ASCII above which a text with NULs is damaged and no UTF-16. Kana in UTF-16 have at most 0.86."""
_ODD = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f\ue000-\uf8ff\ufffd-\uffff\u2500-\u259f]")
"""Controls, private characters and box drawings: signs of a wrong encoding in running text."""
_EVERYDAY = re.compile("[ \n.,\u3001\u3002\uff0c\uff0e]")


def declared_in_xml(head: bytes) -> str:
    """Label of the encoding in the XML declaration that the bytes begin with; "" without one."""
    found = _XML_DECLARATION.match(head[:_XML_DECLARATION_BYTES])
    return found[1].decode("ascii") if found else ""


def find_encoding(handle: BinaryIO, asked: str = "", declared: str = "") -> tuple[Encoding, int]:
    """Encoding of the text that `handle` stands before, and the length of its byte order mark.

    `asked`: a name that the user gives, "" to find it. `declared`: the label that the text gives itself.
    Damaged UTF-8 counts as UTF-8: its readers say where.
    Raises DamagedFile, with the candidates, when the encoding cannot be told, or when the declared one is unknown.
    """
    start = handle.tell()
    head = handle.read(BLOCK_BYTES)
    marked, mark_bytes = byte_order_mark(head)
    if marked:
        return Encoding(marked, "mark"), mark_bytes
    if asked:
        return Encoding(asked, "given"), 0
    label = _believable(declared)
    if label == "UTF-8":
        return UTF_8, 0
    unmarked = "" if label else _wide(head) or _escaped(head)
    if unmarked:
        return Encoding(unmarked, "detected"), 0
    handle.seek(start)
    sample, fault, is_utf8 = _sample_of_foreign_bytes(handle)
    if label and not (sample and is_utf8):
        return Encoding(label, "declared"), 0
    if is_utf8:
        return UTF_8, 0
    if len(head) - len(head.translate(None, _CONTROL_BYTES)) > _STRAY_CONTROLS * len(head):
        raise DamagedFile("binary data", f"control characters, and no UTF-8 at byte {start + fault}")
    return Encoding(detect(sample.translate(None, _CONTROL_BYTES), start + fault), "detected"), 0


def _believable(declared: str) -> str:
    """The name of a declared encoding; "" for ASCII, which says little, and for UTF-16, where no label can be read."""
    if not declared or declared.lower().replace("-", "").startswith(("utf16", "utf32")):
        return ""
    name = named(declared)
    if not name:
        raise DamagedFile("unknown encoding", f"it declares '{declared}'; set `encoding:` or save it as UTF-8")
    return "" if name == "ASCII" else as_in_browsers(name)


def detect(sample: bytes, fault: int = 0) -> str:
    """Name of the legacy encoding of text that is not UTF-8, `fault` the first byte that shows it.

    Raises DamagedFile with the candidates when unsure.
    """
    detector = EncodingDetector()
    detector.feed(sample, last=True)
    labels = (detector.guess(tld=None, allow_utf8=False), cchardet.detect(sample)["encoding"] or "")
    guesses = [as_in_browsers(named(label)) for label in labels]
    texts: dict[str, str] = {}
    for name in guesses:
        text = _decoded(sample, name) if name and not name.startswith("UTF") else None
        if text is not None and not _ODD.search(text):
            texts[name] = text.translate(_CEDILLAS)
    first = next(iter(texts), "")
    foreign = len(sample) - len(sample.translate(None, _FOREIGN_BYTES))
    if first and len(set(texts.values())) == 1:
        by_both = len(texts) == 2 or guesses[0] == guesses[1]
        signs = (by_both, foreign >= _ENOUGH_FOR_ONE, first in MULTI_BYTE)
        written = first in MULTI_BYTE or is_written(texts[first])
        if written and (sum(signs) >= 2 or (by_both and is_spelled(texts[first]))):
            return first
        if first == "Windows-1252" and foreign >= _ENOUGH_FOR_ONE and is_western(texts[first]):
            return first
    spelled = [name for name, text in texts.items() if is_spelled(text)]
    if len(spelled) == 1 and foreign >= _ENOUGH_TO_SPELL:
        return spelled[0]
    damaged = [
        name
        for name in dict.fromkeys(guesses)
        if name in MULTI_BYTE and name not in texts and _is_damaged(sample, name)
    ]
    shown = " or ".join([f"{name} with faults" for name in damaged] or texts) or "none fits"
    remedy = "set `encoding:`" + (" and `invalid_bytes: replace`," if damaged else "")
    raise DamagedFile("encoding not certain", f"no UTF-8 at byte {fault}; {shown}? {remedy} or save it as UTF-8")


def _is_damaged(sample: bytes, name: str) -> bool:
    """Whether all but a few characters fit."""
    text = sample.decode(codec_of(name), "replace")
    return text.count("\ufffd") <= _FAULT_SHARE * len(text)


def _decoded(sample: bytes, name: str, final: bool = False) -> str | None:
    """The sample's text, which may end inside a character unless it is `final`; None when a byte does not fit."""
    try:
        return codecs.getincrementaldecoder(codec_of(name))().decode(sample, final)
    except UnicodeError:
        return None


def _wide(head: bytes) -> str:
    """UTF-16 or UTF-32 without a mark: bytes with NULs that decode to ordinary text; "" when it is none."""
    if b"\0" not in head and len(head) - len(head.translate(None, _CONTROL_BYTES)) < len(head) / 10:
        return ""
    if len(head) - len(head.translate(None, _ASCII_TEXT)) > _MOSTLY_ASCII * len(head):
        return ""
    blocks: dict[str, int] = {}
    for name in ("UTF-32-LE", "UTF-32-BE", "UTF-16-LE", "UTF-16-BE"):
        text = _decoded(head, name, final=len(head) < BLOCK_BYTES) or ""
        ordinary = len(text) >= _ENOUGH_TO_SPELL and not _ODD.search(text) and _printable_share(text) > 0.99
        if ordinary and _EVERYDAY.search(text):
            blocks[name] = len({ord(character) >> 8 for character in text})
    return min(blocks, key=lambda name: blocks[name], default="")  # the wrong order of bytes scatters the characters


def _printable_share(text: str) -> float:
    return sum(character.isprintable() or character.isspace() for character in text) / len(text)


def _escaped(head: bytes) -> str:
    """ISO-2022 or HZ: ASCII bytes with shifts that decode to something else than ASCII; "" when it is none."""
    if not head.isascii():
        return ""
    for pattern, name in _ESCAPES:
        if pattern.search(head):
            text = _decoded(head, name)
            if text is not None and not text.isascii():
                return name
    return ""


def _sample_of_foreign_bytes(handle: BinaryIO) -> tuple[bytes, int, bool]:
    """(lines with bytes beyond ASCII, offset of the first that is not UTF-8 or -1, whether nearly all of them are)."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    sample = bytearray()
    seen = foreign = good = 0
    fault = -1
    while seen < SURVEY_LIMIT_BYTES and len(sample) < SAMPLE_BYTES:
        block = handle.read(BLOCK_BYTES)
        block += handle.readline(BLOCK_BYTES)  # whole lines: a cut character would fit no encoding
        held = len(decoder.getstate()[0])
        if fault < 0 and (held or not block.isascii()):
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                fault = seen - held + error.start
        if not block:
            break
        seen += len(block)
        if not block.isascii():
            some, well = _count_utf8(block)
            foreign, good = foreign + some, good + well
            _add_foreign_lines(sample, block)
    return bytes(sample), fault, fault < 0 or good >= _MOSTLY_UTF8 * foreign


def _count_utf8(block: bytes) -> tuple[int, int]:
    """(bytes beyond ASCII, those of them that form UTF-8)."""
    foreign = len(block) - len(block.translate(None, _FOREIGN_BYTES))
    text = block.decode("utf-8", "ignore").encode()
    return foreign, len(text) - len(text.translate(None, _FOREIGN_BYTES))


def _add_foreign_lines(sample: bytearray, block: bytes) -> None:
    for line in block.split(b"\n"):
        if not line.isascii():
            room = SAMPLE_BYTES - len(sample)
            sample += line[:room] if len(line) >= room else line + b"\n"
            if len(sample) >= SAMPLE_BYTES:
                return


class Transcoder:
    """UTF-8 blocks of a file in another encoding; `replaced` counts the faults that became U+FFFD."""

    def __init__(self, handle: BinaryIO, encoding: Encoding, replace: bool) -> None:
        self._handle, self._encoding, self._replace = handle, encoding, replace
        self.replaced = 0

    def blocks(self) -> Iterator[bytes]:
        """All of the file from where it stands. Raises DamagedFile at the first fault, unless they are replaced."""
        decoder = codecs.getincrementaldecoder(self._encoding.codec)("replace" if self._replace else "strict")
        offset = self._handle.tell()
        while True:
            block = self._handle.read(BLOCK_BYTES)
            held = len(decoder.getstate()[0])
            try:
                text = decoder.decode(block, final=not block)
                data = text.encode()
            except UnicodeError as error:
                fault = offset - held + error.start if isinstance(error, UnicodeDecodeError) else offset
                how = f"{self._encoding.how} encoding" if self._encoding.how else "encoding"
                remedy = f"invalid at byte {fault} ({how}); correct `encoding:` or the file"
                raise DamagedFile(f"not {self._encoding.name} text", remedy) from None
            self.replaced += text.count("\ufffd") if self._replace else 0
            yield data
            offset += len(block)
            if not block:
                return
