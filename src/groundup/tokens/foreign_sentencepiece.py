"""A SentencePiece model file -> Draft. Only pieces, scores, kinds and the type of model are read.

The file is a protocol buffer; its few fields are read here, within bounds, because the library itself had memory faults
on files made to cause them. Invariant: reading takes memory and time in proportion to the file, whatever it says.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from groundup.errors import ModelFileError
from groundup.tokens.draft import TOKEN_LIMIT_CHARACTERS, Draft, placed
from groundup.tokens.respelling import over_bytes, over_characters
from groundup.tokens.tokenizer_file import BYTE_TOKEN, FILE_LIMIT_BYTES, VOCAB_LIMIT

SPACE = "▁"
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_UNIGRAM, _BPE, _WORD, _CHARACTER = range(1, 5)
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
Value = int | bytes


class _Piece(NamedTuple):
    text: str
    score: float
    kind: int


class _Damaged(Exception):
    """The file departs from the format."""


def read_sentencepiece(path: Path) -> Draft:
    """Read a .model file of SentencePiece (unigram, BPE or characters). Raises ModelFileError."""
    if path.stat().st_size > FILE_LIMIT_BYTES:
        raise ModelFileError(f"{path}: {path.stat().st_size} bytes is too large (limit {FILE_LIMIT_BYTES})")
    try:
        pieces, kind, normalization = _read(path.read_bytes())
    except _Damaged as error:
        raise ModelFileError(f"{path}: no SentencePiece model ({error}); copy it again") from None
    if kind not in (_UNIGRAM, _BPE, _CHARACTER):
        raise ModelFileError(f"{path}: a SentencePiece model of words; take one of unigram or BPE")
    texts, control = placed(_distinct(pieces), path)
    control |= {texts[i]: i for i, piece in enumerate(pieces) if piece.kind in (_UNKNOWN, _CONTROL, _UNUSED)}
    literal = {texts[i]: i for i, piece in enumerate(pieces) if piece.kind == _USER_DEFINED}
    draft = Draft("Unigram" if kind == _UNIGRAM else "BPE", "characters", texts, control, literal)
    if normalization != "identity":
        draft.left_out.append(f"normalizer {normalization[:30] or 'nmt_nfkc'}")
    draft.left_out.append("a space before the text")
    if kind == _UNIGRAM:
        draft.scores = [piece.score for piece in pieces]
        over_bytes(draft, SPACE, [], split_at_spaces=False)
    else:
        draft.merges = _merges(pieces) if kind == _BPE else []
        over_characters(draft, SPACE, [], split_at_spaces=False)
    return draft


def _distinct(pieces: list[_Piece]) -> Iterator[tuple[str, int]]:
    """Ids by text; a text that comes again (the library refuses such a file) gets a name of its own."""
    seen: set[str] = set()
    for index, piece in enumerate(pieces):
        name = piece.text if piece.text not in seen and piece.text else f"<|unused_{index}|>"
        seen.add(name)
        yield name, index


def _merges(pieces: list[_Piece]) -> list[list[str]]:
    """Every pair of pieces that makes a piece: sentencepiece merges by the score of what comes out, the best first.

    A piece's place in the file decides between equal scores.
    """
    kinds = (_NORMAL, _USER_DEFINED, _UNUSED)
    known = {piece.text for piece in pieces if piece.kind in kinds}
    ranked = sorted((-piece.score, index, piece.text) for index, piece in enumerate(pieces) if piece.kind in kinds)
    splits = ((text[:at], text[at:]) for _, _, text in ranked for at in range(1, len(text)))
    return [[first, second] for first, second in splits if first in known and second in known]


def _read(data: bytes) -> tuple[list[_Piece], int, str]:
    """(pieces, type of model, name of the normalization)."""
    pieces: list[_Piece] = []
    kind, normalization = _UNIGRAM, ""
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            pieces.append(_piece(value))
            if len(pieces) > VOCAB_LIMIT:
                raise _Damaged(f"more than {VOCAB_LIMIT} pieces")
        elif number == 2 and isinstance(value, bytes):
            kind = next((v for n, v in _fields(value) if n == 3 and isinstance(v, int)), _UNIGRAM)
        elif number == 3 and isinstance(value, bytes):
            named = (v for n, v in _fields(value) if n == 1 and isinstance(v, bytes))
            normalization = next(named, b"").decode(errors="replace")
    if not pieces:
        raise _Damaged("no pieces")
    return pieces, kind, normalization


def _piece(data: bytes) -> _Piece:
    text, score, kind = "", 0.0, _NORMAL
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            if len(value) > 4 * TOKEN_LIMIT_CHARACTERS:
                raise _Damaged(f"a piece of {len(value)} bytes")
            text = value.decode(errors="replace")
        elif number == 2 and isinstance(value, bytes) and len(value) == 4:
            (score,) = struct.unpack("<f", value)
        elif number == 3 and isinstance(value, int):
            kind = value
    if score != score or abs(score) > 1e9:
        raise _Damaged("a score that is no number")
    if kind == _BYTE and not BYTE_TOKEN.fullmatch(text):
        raise _Damaged("a byte that is none")
    return _Piece(text, score, kind)


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """(number, value) of each field of one message."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        wire = key & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield key >> 3, value
            continue
        if wire == _LENGTH:
            length, position = _varint(data, position)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise _Damaged(f"an unknown field at byte {position}")
        if length > len(data) - position:
            raise _Damaged(f"cut off at byte {position}")
        yield key >> 3, data[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise _Damaged("cut off")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _Damaged(f"no number at byte {position}")
