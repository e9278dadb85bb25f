"""A source's path (file, folder or glob) -> the regular files it means, in an order that every machine agrees on.

Invariant: only regular files are ever opened; pipes, devices, sockets, loops and hidden or foreign files are skipped
and named, so that `files + skipped` is everything that was found.
"""

from __future__ import annotations

import errno
import glob
import itertools
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from groundup.config import Config, Name
from groundup.corpus.detect import FORMAT_SUFFIXES, REFUSED_SUFFIXES, suffix_of
from groundup.errors import DataError, printable


class SourceConfig(Config):
    """Where one kind of text lies and how to read it."""

    name: Name
    """Name of the source in reports, mixtures and shard files."""
    path: str
    """A file, a folder (with its subfolders) or a glob; absolute, or relative to the current or the recipe's folder."""
    split: Literal["auto", "train", "validation", "test"] = "auto"
    """`auto`: by hash; otherwise all of this source goes there."""
    format: Literal["auto", "text", "jsonl", "json", "csv", "parquet"] = "auto"
    """`auto`: found by content, and said in log and report."""
    text_field: str = "text"
    """Field or column that holds the text (jsonl, json, csv, parquet)."""
    metadata_fields: tuple[str, ...] = ()
    """Fields kept beside the text (strings, numbers, booleans); `id` always is."""
    max_document_bytes: int = Field(default=16 << 20, ge=1 << 10, le=1 << 28)
    """Longer text files are split at paragraphs; longer records are rejected (a JSON line may be twice as long)."""
    max_expanded_bytes: int = Field(default=1 << 36, ge=1 << 10)
    """A compressed file that expands beyond this is rejected; that much disk is needed in the work folder meanwhile."""

    @field_validator("path")
    @classmethod
    def _local(cls, path: str) -> str:
        if not path or "\0" in path:
            raise ValueError("must name a file, a folder or a glob")
        if "://" in path:
            raise ValueError("must be local: URLs are not fetched; download the file first")
        return path


@dataclass(frozen=True, order=True)
class LineSection:
    """Bytes [start, stop) of a file of lines, which begin and end with whole lines."""

    start: int
    stop: int
    lines_before: int = 0


@dataclass(frozen=True, order=True)
class RawFile:
    """A regular file: its printable name relative to the source's root, and where it lies."""

    name: str
    path: Path
    lines: LineSection | None = None
    """Only these lines of it."""


@dataclass(frozen=True, order=True)
class Skipped:
    """Something found that is not read, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Found:
    """Everything a source's path means, sorted by name."""

    files: tuple[RawFile, ...]
    skipped: tuple[Skipped, ...]


def resolve_path(path: str, base: Path) -> list[Path]:
    """Regular files that `path` means, sorted by name: tried in the current folder first, then in `base`.

    Raises DataError when nothing is there, or nothing that can be read.
    """
    return [file.path for file in find_files(path, base).files]


def find_files(path: str, base: Path) -> Found:
    """Files and skipped things of a file, folder or glob. Raises DataError when no regular file is among them."""
    root, entries, is_folder = _entries(path, base)
    files: list[RawFile] = []
    skipped: list[Skipped] = []
    for entry in entries:
        name = escaped_name(entry, root)
        reason = _reason_to_skip(entry, by_name=is_folder)
        if reason:
            skipped.append(Skipped(name, reason))
        else:
            files.append(RawFile(name, entry))
    if not files:
        raise DataError(_nothing_to_read(path, sorted(skipped)))
    return Found(tuple(sorted(files)), tuple(sorted(skipped)))


def escaped_name(path: Path, root: Path) -> str:
    """Name of `path` below `root` with `/`, in which control characters and undecodable bytes are escaped."""
    return printable(path.relative_to(root).as_posix()).replace("\n", "\\n")


def _entries(path: str, base: Path) -> tuple[Path, Iterable[Path], bool]:
    """(root for relative names, candidates, whether they come from a folder) of the first place that has `path`."""
    wanted = Path(path).expanduser()
    for place in dict.fromkeys((Path.cwd(), base.absolute())):
        full = place / wanted
        if full.is_dir():
            return full, _walk(full), True
        if os.path.lexists(full):
            return full.parent, [full], False
        matches = [Path(found) for found in glob.iglob(str(full), recursive=True)] if glob.has_magic(path) else []
        if matches:
            fixed = itertools.takewhile(lambda part: not glob.has_magic(part), full.parts[:-1])
            return Path(*fixed), [match for match in matches if not match.is_dir()], False
    raise DataError(
        f"{_shown(path)}: no such file or folder; correct the source's path",
        details=[f"looked in {place}" for place in dict.fromkeys((Path.cwd(), base.absolute()))],
    )


def _walk(folder: Path) -> Iterator[Path]:
    """Everything below a folder but folders, and of these the ones that cannot be listed or were listed before."""
    seen: set[tuple[int, int]] = set()
    pending = [folder]
    while pending:
        current = pending.pop()
        try:
            status = os.stat(current)
            entries = list(os.scandir(current))
        except OSError:
            yield current
            continue
        if (status.st_dev, status.st_ino) in seen:
            yield current
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in sorted(entries, key=lambda entry: os.fsencode(entry.name)):
            below = Path(entry.path)
            if below.is_dir() and not entry.name.startswith("."):
                pending.append(below)
            else:
                yield below


def _reason_to_skip(path: Path, by_name: bool) -> str:
    if by_name and path.name.startswith("."):
        return "hidden"
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        reasons = {errno.ELOOP: "symlink loop", errno.ENOENT: "broken symlink"}
        return reasons.get(error.errno or 0, os.strerror(error.errno or 0).lower())
    kinds = (
        (stat.S_ISDIR, "folder that cannot be listed, or that a link leads to again"),
        (stat.S_ISFIFO, "pipe, not a regular file"),
        (stat.S_ISSOCK, "socket, not a regular file"),
        (lambda mode: not stat.S_ISREG(mode), "device, not a regular file"),
    )
    for is_kind, reason in kinds:
        if is_kind(mode):
            return reason
    known = FORMAT_SUFFIXES.keys() | REFUSED_SUFFIXES
    return (
        f"not a known file type ({suffix_of(path.name)[:12]})" if by_name and suffix_of(path.name) not in known else ""
    )


def _nothing_to_read(path: str, skipped: list[Skipped]) -> str:
    wanted = "give .txt, .md, .jsonl, .json, .csv or .parquet files"
    if not skipped:
        return f"{_shown(path)}: the folder is empty; {wanted}"
    return f"{_shown(path)}: no file here can be read ({skipped[0].name[:30]}: {skipped[0].reason}); {wanted}"


def _shown(path: str) -> str:
    return path if len(path) <= 60 else path[:57] + "..."
