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
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from groundup.config import Config, Name
from groundup.corpus.detect import ARCHIVE_SUFFIXES, COMPRESSED_SUFFIXES, FORMAT_SUFFIXES, REFUSED_SUFFIXES, suffix_of
from groundup.corpus.encodings import named
from groundup.corpus.wiki.options import WikiConfig
from groundup.corpus.wiki.streams import Section
from groundup.errors import DataError, printable


class SourceConfig(Config):
    """Where one kind of text lies and how to read it."""

    name: Name
    """Name of the source in reports, mixtures and shard files."""
    path: str | tuple[str, ...] = ()
    """A file, a folder (with its subfolders) or a glob, or a list of them; absolute, or relative to the current or the
    recipe's folder."""
    hub: str = ""
    """Instead of a path a dataset of the Hugging Face hub, `owner/name`; each file is fetched when it is read."""
    hub_revision: str = "main"
    """Branch, tag or commit. The commit it stands for when the run starts is kept in the stage's identity."""
    dataset_config: str = ""
    """Configuration of a Hugging Face dataset (hub or folder) with several."""
    dataset_split: str = "train"
    """Split of a Hugging Face dataset (hub or folder) that has splits; `all` for every one."""
    include: tuple[str, ...] = ()
    """Of folders and archives only files whose name matches one of these patterns (`*.txt`, `news/*`), whatever their
    ending; empty: all of known types."""
    exclude: tuple[str, ...] = ()
    """Of folders and archives no file whose name matches one of these patterns."""
    split: Literal["auto", "train", "validation", "test"] = "auto"
    """`auto`: by hash; otherwise all of this source goes there."""
    format: Literal["auto", "text", "jsonl", "json", "csv", "parquet", "arrow", "html", "warc", "mediawiki"] = "auto"
    """`auto`: found by content, and said in log and report."""
    encoding: str = "auto"
    """Of text, JSON, CSV, HTML and MediaWiki: `auto` is found file by file (page by page), refused where it is not
    certain; otherwise a name such as `gb18030`, `big5`, `shift_jis`, `windows-1252`. A byte order mark wins."""
    invalid_bytes: Literal["reject", "replace"] = "reject"
    """What the encoding does not have: reject the file (in UTF-8 the JSON line, CSV row or page of a dump), or U+FFFD,
    counted."""
    text_field: str = "text"
    """Field or column that holds the text (jsonl, json, csv, parquet, arrow)."""
    text_template: str = ""
    """Text of several fields instead, such as `"{title}\\n\\n{body}"`; `{meta.title}` is a field inside a field."""
    extractor: Literal["trafilatura", "resiliparse"] = "trafilatura"
    """What finds the main text of HTML pages: trafilatura is better, resiliparse six times as fast."""
    comments: bool = False
    """Whether readers' comments under an HTML page belong to its text."""
    metadata_fields: tuple[str, ...] = ()
    """Fields kept beside the text (strings, numbers, booleans); `id` always is."""
    license: str = ""
    """Licence of the text, for the report; a record's own (`license` in its metadata) goes before it, that of a dataset
    card is taken where this is empty."""
    max_document_bytes: int = Field(default=16 << 20, ge=1 << 10, le=1 << 28)
    """Longer text files are split at paragraphs; longer records are rejected (a JSON line may be twice as long)."""
    max_expanded_bytes: int = Field(default=1 << 36, ge=1 << 10)
    """A compressed file or archive that expands further is rejected; meanwhile the work folder needs that much disk."""
    wiki: WikiConfig = WikiConfig()
    """What is taken of MediaWiki dumps."""

    @field_validator("path")
    @classmethod
    def _local(cls, path: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for one in (path,) if isinstance(path, str) else path:
            if not one or "\0" in one:
                raise ValueError("must name a file, a folder or a glob")
            if "://" in one:
                raise ValueError("must be local: URLs are not fetched; download the file first")
        return path

    @field_validator("hub")
    @classmethod
    def _repository(cls, hub: str) -> str:
        if hub and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}", hub):
            raise ValueError("must be owner/name of a dataset on the Hugging Face hub")
        return hub

    @field_validator("hub_revision")
    @classmethod
    def _revision(cls, revision: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}", revision) or ".." in revision:
            raise ValueError("must be a branch, a tag or a commit")
        return revision

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str) -> str:
        if encoding != "auto" and not named(encoding):
            raise ValueError(
                "must be auto or an encoding such as utf-8, gb18030, big5, shift_jis, windows-1252, koi8-r"
            )
        return encoding

    @field_validator("text_template")
    @classmethod
    def _plain(cls, template: str) -> str:
        template_fields(template)
        return template

    @model_validator(mode="after")
    def _has_place(self) -> Self:
        if bool(self.paths) == bool(self.hub):
            raise ValueError("must have either a path or a hub name")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """`path` as a list."""
        return (self.path,) if isinstance(self.path, str) else self.path

    @property
    def encoding_name(self) -> str:
        """The encoding by its one name; "" for auto."""
        return "" if self.encoding == "auto" else named(self.encoding)

    @property
    def replaces(self) -> bool:
        """Whether bytes that the encoding does not have are replaced."""
        return self.invalid_bytes == "replace"

    def choose(self, name: str) -> str:
        """Why a file of a folder or archive is not read; "" when it is."""
        return reason_by_name(name, self.include, self.exclude)


TEMPLATE_PARTS = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
"""Doubled braces, which stand for one, and fields."""


def template_fields(template: str) -> list[str]:
    """Fields of a template in order. Raises ValueError when it has none or braces without a meaning."""
    names = [part[1] for part in TEMPLATE_PARTS.finditer(template) if part[1] is not None]
    rest = TEMPLATE_PARTS.sub("", template)
    if template and (not names or "" in names or "{" in rest or "}" in rest):
        raise ValueError("must hold fields in braces, such as '{title}\\n\\n{body}'; write {{ and }} for braces")
    return names


def reason_by_name(name: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> str:
    """Why a file is not read by its name below the source's path (or in its archive); "" when it is."""
    last = name.rpartition("/")[2]
    if any(part.startswith(".") or part == "__MACOSX" for part in name.split("/")):  # macOS adds this to its archives
        return "hidden"
    if _matches(name, last, exclude):
        return "left out by exclude"
    if include:
        return "" if _matches(name, last, include) else "not named by include"
    suffix = suffix_of(last)
    known = FORMAT_SUFFIXES.keys() | ARCHIVE_SUFFIXES | REFUSED_SUFFIXES
    return "" if suffix in known else f"not a known file type ({suffix[:12] or 'no ending'})"


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
    labels = _labels(paths)
    files = [RawFile(f"{label}{file.name}", file.path) for label, one in zip(labels, found) for file in one.files]
    skipped = [Skipped(f"{label}{one.name}", one.reason) for label, part in zip(labels, found) for one in part.skipped]
    return Found(tuple(sorted(files)), tuple(sorted(skipped)))


def _labels(paths: Sequence[str]) -> list[str]:
    """A distinct prefix for the names of each path of a list: its last part, numbered where two are the same."""
    names = [printable(Path(path).name).replace("\n", "\\n") or "root" for path in paths]
    return [
        f"{name}/" if names.count(name) == 1 else f"{name}~{names[: i + 1].count(name)}/"
        for i, name in enumerate(names)
    ]


def _find(path: str, base: Path, include: tuple[str, ...], exclude: tuple[str, ...]) -> Found:
    root, entries, is_folder = _entries(path, base)
    files: list[RawFile] = []
    skipped: list[Skipped] = []
    for entry in entries:
        name = escaped_name(entry, root)
        reason = _reason_to_skip(entry) or (reason_by_name(name, include, exclude) if is_folder else "")
        if reason:
            skipped.append(Skipped(name, reason))
        else:
            files.append(RawFile(name, entry))
    if not files:
        raise DataError(_nothing_to_read(path, sorted(skipped)), details=_known_types())
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


def _reason_to_skip(path: Path) -> str:
    """Why something is no file that may be opened."""
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
    return next((reason for is_kind, reason in kinds if is_kind(mode)), "")


def _nothing_to_read(path: str, skipped: list[Skipped]) -> str:
    wanted = "give .txt, .jsonl, .parquet, .html or other known files"
    if not skipped:
        return f"{_shown(path)}: the folder is empty; {wanted}"
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
