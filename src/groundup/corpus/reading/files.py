"""A source's path (file, folder or glob) -> the regular files it means, in an order that every machine agrees on.

Invariant: only regular files are ever opened; pipes, devices, sockets, loops and hidden or foreign files are skipped
and named, so that `files + skipped` is everything that was found.
"""

from __future__ import annotations

import errno
import glob
import itertools
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from groundup.corpus.reading.compressed import is_of_machine
from groundup.corpus.reading.detect import (
    ARCHIVE_SUFFIXES,
    COMPRESSED_SUFFIXES,
    FORMAT_SUFFIXES,
    INDEX_OF_DUMP,
    REFUSED_SUFFIXES,
    suffix_of,
)
from groundup.corpus.reading.wiki.streams import Section
from groundup.errors import DataError, printable

_BESIDE_DATA = (
    (re.compile(r"-multistream-index\d*\.txt"), INDEX_OF_DUMP),
    (re.compile(r"(?:^|[-_.])(?:md5|sha\d{1,3}|b2)sums?\.txt$"), "list of checksums"),
)
"""Parts of names in small letters -> reason. Wikimedia has these in the folder of every dump."""


def reason_by_name(name: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> str:
    """Why a file is not read by its name below the source's path (or in its archive); "" when it is."""
    last = name.rpartition("/")[2]
    if any(part.startswith(".") or part == "__MACOSX" for part in name.split("/")):  # macOS adds this to its archives
        return "hidden"
    if _matches(name, last, exclude):
        return "left out by exclude"
    if include:
        return "" if _matches(name, last, include) else "not named by include"
    beside = _reason_beside_data(last)
    if beside:
        return beside
    suffix = suffix_of(last)
    known = FORMAT_SUFFIXES.keys() | ARCHIVE_SUFFIXES | REFUSED_SUFFIXES
    return "" if suffix in known else f"not a known file type ({suffix[:12] or 'no ending'})"


def _reason_beside_data(name: str) -> str:
    """Why a file that many sites put beside their data is no text, by its name; "" for all others."""
    return next((reason for pattern, reason in _BESIDE_DATA if pattern.search(name.lower())), "")


def _matches(name: str, last: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name if "/" in pattern else last, pattern) for pattern in patterns)


@dataclass(frozen=True)
class Remote:
    """A file of a hub dataset at one commit; `digest` is the hub's hash of its content."""

    repository: str
    commit: str
    name: str
    size_bytes: int
    digest: str


@dataclass(frozen=True, order=True)
class LineSection:
    """Bytes [start, stop) of a file of lines, which begin and end with whole lines."""

    start: int
    stop: int
    lines_before: int = 0


@dataclass(frozen=True, order=True)
class RawFile:
    """A regular file or a section of one: its printable name relative to the source's root (a section's ends in `#` and
    its number), and where it lies (or is fetched from)."""

    name: str
    path: Path
    remote: Remote | None = field(default=None, compare=False)
    section: Section | None = None
    """Only these bytes of the dump at `path`."""
    lines: LineSection | None = None
    """Only these lines of the file at `path`."""

    def state(self) -> tuple[str, int, int]:
        """Cheap stand-in for the content (which is hashed once for the stage): place, size in bytes, time."""
        if self.remote is not None:
            return f"{self.remote.commit}:{self.remote.digest}", self.remote.size_bytes, 0
        try:
            status = self.path.stat()
        except OSError:
            return ascii(str(self.path)), 0, 0
        return ascii(str(self.path)), self._size_bytes(status.st_size), status.st_mtime_ns

    def _size_bytes(self, whole: int) -> int:
        if self.section:
            return self.section.size_bytes
        return self.lines.stop - self.lines.start if self.lines else whole


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
    license: str = ""
    """What the dataset's card says, where there is one."""


def resolve_path(path: str | tuple[str, ...], base: Path) -> list[Path]:
    """Regular files that `path` means, sorted by name: tried in the current folder first, then in `base`.

    Raises DataError when nothing is there, or nothing that can be read.
    """
    return [file.path for file in find_files(path, base).files]


def find_files(
    path: str | Sequence[str], base: Path, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()
) -> Found:
    """Files and skipped things of files, folders and globs. Raises DataError when one of them has no regular file."""
    paths = (path,) if isinstance(path, str) else tuple(path)
    found = [_find(one, base, include, exclude) for one in paths]
    if len(found) == 1:
        return found[0]
    files: list[RawFile] = []
    skipped: list[Skipped] = []
    places: set[Path] = set()
    for label, one in zip(_labels(paths), found):
        skipped += [Skipped(f"{label}{each.name}", each.reason) for each in one.skipped]
        for file in one.files:
            if file.path.resolve() in places:
                skipped.append(Skipped(f"{label}{file.name}", "named by another path of the source"))
            else:
                files.append(RawFile(f"{label}{file.name}", file.path))
                places.add(file.path.resolve())
    return Found(tuple(sorted(files)), tuple(sorted(skipped)))


def _labels(paths: Sequence[str]) -> list[str]:
    """A distinct prefix for the names of each path of a list: its last part, numbered where two are the same."""
    names = [printable(Path(path).name).replace("\n", "\\n") or "root" for path in paths]
    return [
        f"{name}/" if names.count(name) == 1 else f"{name}~{names[: i + 1].count(name)}/"
        for i, name in enumerate(names)
    ]


def _find(path: str, base: Path, include: tuple[str, ...], exclude: tuple[str, ...]) -> Found:
    root, entries, kind = _entries(path, base)
    files: list[RawFile] = []
    skipped: list[Skipped] = []
    for entry in entries:
        name = escaped_name(entry, root)
        reason = _reason_to_skip(entry)
        if kind == "folder":
            reason = reason or reason_by_name(name, include, exclude)
        elif kind == "glob":
            reason = "folder: end the pattern with ** for what is in it" if entry.is_dir() else reason
            reason = reason or _reason_beside_data(entry.name)
        if reason:
            skipped.append(Skipped(name, reason))
        else:
            files.append(RawFile(name, entry))
    if not files:
        raise DataError(_nothing_to_read(path, sorted(skipped)), details=_known_types())
    return Found(tuple(sorted(files)), tuple(sorted(skipped)))


def named_fault(error: OSError, path: Path) -> Exception:
    """What to raise of a fault of the machine that was met in a file: a DataError where its disk does not give it."""
    if error.errno != errno.EIO:
        return error
    return DataError(f"{path}: cannot be read ({error.strerror}); mend the disk, or take the file from elsewhere")


def escaped_name(path: Path, root: Path) -> str:
    """Name of `path` below `root` with `/`, in which control characters and undecodable bytes are escaped."""
    return printable(path.relative_to(root).as_posix()).replace("\n", "\\n")


def _entries(path: str, base: Path) -> tuple[Path, Iterable[Path], Literal["folder", "file", "glob"]]:
    """(root for relative names, candidates, what the path is) of the first place that has `path`."""
    wanted = Path(path).expanduser()
    for place in dict.fromkeys((Path.cwd(), base.absolute())):
        full = place / wanted
        if full.is_dir():
            return full, _walk(full), "folder"
        if os.path.lexists(full):
            return full.parent, [full], "file"
        matches = [Path(found) for found in glob.iglob(str(full), recursive=True)] if glob.has_magic(path) else []
        if matches:
            fixed = itertools.takewhile(lambda part: not glob.has_magic(part), full.parts[:-1])
            with_folders = "**" not in full.parts
            return Path(*fixed), [match for match in matches if with_folders or not match.is_dir()], "glob"
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
        except OSError as error:
            if is_of_machine(error):
                raise
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


def _reason_to_skip(path: Path) -> str:
    """Why something is no file that may be opened."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if is_of_machine(error):
            raise
        reasons = {errno.ELOOP: "symlink loop", errno.ENOENT: "broken symlink"}
        return reasons.get(error.errno or 0, os.strerror(error.errno or 0).lower())
    kinds = (
        (stat.S_ISDIR, "folder that cannot be listed, or that a link leads to again"),
        (stat.S_ISFIFO, "pipe, not a regular file"),
        (stat.S_ISSOCK, "socket, not a regular file"),
        (lambda mode: not stat.S_ISREG(mode), "device, not a regular file"),
    )
    return next((reason for is_kind, reason in kinds if is_kind(mode)), "")


def _nothing_to_read(path: str, skipped: list[Skipped]) -> str:
    wanted = "give .txt, .jsonl, .parquet, .html or other known files"
    if not skipped:
        return f"{_shown(path)}: nothing lies there; {wanted}"
    return f"{_shown(path)}: no file here can be read ({skipped[0].name[:30]}: {skipped[0].reason}); {wanted}"


def _known_types() -> list[str]:
    kinds: tuple[tuple[str, Iterable[str]], ...] = (
        ("files", FORMAT_SUFFIXES),
        ("archives of them", ARCHIVE_SUFFIXES),
        ("either compressed", COMPRESSED_SUFFIXES),
    )
    return [f"{what}: {' '.join(sorted(suffixes))}" for what, suffixes in kinds] + [".xml: dumps of MediaWiki only"]


def _shown(path: str) -> str:
    return path if len(path) <= 60 else path[:57] + "..."
