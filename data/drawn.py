"""What the scripts that make data by grammar share: which split a thing falls into, files that are always the same."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def number_of(text: str) -> int:
    """A number that looks random and belongs to the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def is_held_out(*key: str, every: int = 10) -> bool:
    """Whether a combination, such as who does what, is kept out of all training text: one in `every` is."""
    return number_of("|".join(key)) % every == 0


def lines_of(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """JSON lines, without those that are there already."""
    return list(dict.fromkeys(json.dumps(record, ensure_ascii=False) for record in records))


def write(folder: Path, files: Mapping[str, list[str]]) -> None:
    """Compressed files of lines, equal to the byte on every run."""
    for name, lines in files.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0))


def read(folder: Path, name: str) -> list[str]:
    """The lines of a file that `write` left."""
    with gzip.open(folder / f"{name}.gz", "rt", encoding="utf-8") as handle:
        return handle.read().splitlines()
