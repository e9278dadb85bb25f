"""A .tiktoken file (a token in base64 and its rank a line) -> Draft: byte-level BPE, words cut by a named pattern.

The file holds neither the pattern nor the control tokens; the recipe names the pattern, ours are added.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path

from groundup.errors import ModelFileError
from groundup.log import logger
from groundup.tokens.draft import TOKEN_LIMIT_CHARACTERS, Draft, placed
from groundup.tokens.patterns import split_steps
from groundup.tokens.tokenizer_file import BYTE_ALPHABET, FILE_LIMIT_BYTES, VOCAB_LIMIT

_LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d{1,10}\r?\n?")
PATTERN_OF_SIZE: Mapping[int, str] = {
    50_256: "gpt2",
    50_280: "gpt2",
    50_281: "gpt2",
    100_256: "llama3",
    128_000: "llama3",
    151_643: "qwen2",
    199_998: "o200k",
}
"""Patterns of the well-known files (r50k, p50k, cl100k, Llama 3, Qwen, o200k) by their number of tokens."""


def is_tiktoken(path: Path) -> bool:
    """Whether a file begins with a line of this format (Llama 3 names such a file tokenizer.model)."""
    with path.open("rb") as file:
        return _LINE.fullmatch(file.readline(4 * TOKEN_LIMIT_CHARACTERS)) is not None


def read_tiktoken(path: Path, pattern: str) -> Draft:
    """Read ranks; `pattern` cuts the words, unless the file has the size of one whose pattern is known.

    Raises ModelFileError on a line that is none, or ids that cannot be.
    """
    if path.stat().st_size > FILE_LIMIT_BYTES:
        raise ModelFileError(f"{path}: {path.stat().st_size} bytes is too large (limit {FILE_LIMIT_BYTES})")
    ranks: dict[str, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        text, rank = _parsed(line, number, path)
        if text in ranks or len(ranks) >= VOCAB_LIMIT:
            what = "a token that was there before" if text in ranks else f"more than {VOCAB_LIMIT} tokens"
            raise ModelFileError(f"{path}: line {number}: {what}; copy the file again")
        ranks[text] = rank
    texts, control = placed(ranks.items(), path)
    own = PATTERN_OF_SIZE.get(len(ranks), pattern)
    if own != pattern:
        logger.info(
            f"{path.name}: {len(ranks)} tokens as in a well-known file with pattern {own}, so words are cut by it"
        )
    ordered = sorted(ranks, key=ranks.__getitem__)
    splits = ((text[:at], text[at:]) for text in ordered for at in range(1, len(text)))
    merges = [[first, second] for first, second in splits if first in ranks and second in ranks]
    return Draft("BPE", "bytes", texts, control, merges=merges, steps=split_steps(own), ignore_merges=True)


def _parsed(line: bytes, number: int, path: Path) -> tuple[str, int]:
    try:
        if not _LINE.fullmatch(line):
            raise binascii.Error
        token, rank = line.split()
        data = base64.b64decode(token, validate=True)
    except binascii.Error:
        raise ModelFileError(f"{path}: line {number} is no token in base64 with a rank; copy the file again") from None
    if not data or len(data) > TOKEN_LIMIT_CHARACTERS:
        raise ModelFileError(f"{path}: line {number}: a token of {len(data)} bytes; copy the file again")
    return "".join(BYTE_ALPHABET[byte] for byte in data), int(rank)
