"""The id of a document -> the record that it names, read again from its raw file.

    source/file:number             as ids stand in samples, listings and reports
    source/file/member:number      in an archive
    file:number                    without the source, where only one has such a file

Invariant: the record is read as the corpus reads it; what is not there is an error that names what is.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from groundup.corpus.documents import Document
from groundup.corpus.reading.files import RawFile
from groundup.corpus.reading.hub import find_source, with_license
from groundup.corpus.reading.readers import Reading, Rejected
from groundup.corpus.reading.sources import SourceConfig
from groundup.corpus.reading.wiki.sections import in_sections
from groundup.errors import DataError

_ID = re.compile(r"(?P<where>.+):(?P<number>\d{1,18})(?P<added>#.+-\d+)?", re.DOTALL)
_NEAREST = 5
_NAMES_COMPARED = 20_000
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Place:
    """Where a record is."""

    source: SourceConfig
    """With the licence of its dataset's card, where it names none."""
    file: RawFile
    where: str
    """Name of the file, with that of the archive member."""
    number: int
    added: str = ""
    """What augmentation appends to the id of a document that it makes of this one."""

    @property
    def name(self) -> str:
        """The id within the source."""
        return f"{self.where}:{self.number}"

    @property
    def id(self) -> str:
        """The id with the source."""
        return f"{self.source.name}/{self.name}"


@dataclass(frozen=True)
class Record:
    """A record as it was read."""

    read: Document | Rejected
    format: str
    """What its file was found to be."""
    offset: int | None
    """Where its line begins in the file, in bytes, for plain JSON lines."""


def locate(sources: Sequence[SourceConfig], base: Path, document_id: str) -> Place:
    """The place that an id names. Raises DataError when there is none, or more than one."""
    parsed = _ID.fullmatch(document_id)
    if not parsed:
        raise DataError(f"{document_id[:80]!r} is no id of a document; write source/file:number, as in the report")
    number, added = int(parsed["number"]), parsed["added"] or ""
    files: list[tuple[SourceConfig, RawFile]] = []
    for source in sources:
        found = find_source(source, base)
        files += [(with_license(source, found), file) for file in found.files]
    with_source: list[Place] = []
    without: list[Place] = []
    for source, file in files:
        own = parsed["where"].removeprefix(f"{source.name}/")
        if own != parsed["where"]:
            with_source += _places(source, file, own, number, added)
        without += _places(source, file, parsed["where"], number, added)
    places = with_source or without
    longest = max((len(place.file.name) for place in places), default=0)
    places = [place for place in places if len(place.file.name) == longest]
    if not places:
        raise _nothing_called(parsed["where"], [f"{source.name}/{file.name}" for source, file in files])
    if len(places) > 1:
        raise DataError(
            f"{document_id[:80]}: {len(places)} sources have such a file; write the source before it",
            details=[place.id for place in places[:_NEAREST]],
        )
    _refuse_without_section(places[0])
    return places[0]


def _refuse_without_section(place: Place) -> None:
    """Records of a large dump are numbered within its sections."""
    sections = [] if place.file.section else in_sections(place.file, place.source)
    if len(sections) > 1:
        names = [f"{place.source.name}/{section.name}:{place.number}" for section in (sections[0], sections[-1])]
        raise DataError(f"{place.id[-80:]}: this dump is read in sections; write {names[0][-40:]} to {names[1][-40:]}")


def _places(source: SourceConfig, file: RawFile, where: str, number: int, added: str) -> Iterator[Place]:
    if where == file.name or where.startswith(f"{file.name}/"):
        yield Place(source, file, where, number, added)
    elif where.startswith(f"{file.name}#"):
        for section in in_sections(file, source):
            if section.name == where:
                yield Place(source, section, where, number, added)


def _nothing_called(where: str, names: Sequence[str]) -> DataError:
    compared = names[:_NAMES_COMPARED]
    nearest = difflib.get_close_matches(where, compared, _NEAREST, 0.3) or list(compared[:_NEAREST])
    return DataError(
        f"{where[-80:]}: no source of the recipe has such a file; nearest: {nearest[0][-60:]}",
        details=[f"there is {name}" for name in nearest],
    )


def read_record(place: Place, scratch: Path) -> Record:
    """Read the file of a place up to its record. `scratch`: folder for temporary files.

    A record behind the point from which a file could not be read is what its reader said of the rest. Raises DataError
    when the file has no such record.
    """
    reading = Reading(place.file, place.source, scratch)
    below = above = 0
    rest: Rejected | None = None
    found: Document | Rejected | None = None
    with closing(iter(reading)) as records:
        for record in records:
            where, number = _where(record, place)
            if where == place.where and number == place.number:
                found = record
                break
            if isinstance(record, Rejected) and not number and where in (place.where, place.file.name):
                rest = record
            elif where == place.where and number < place.number:
                below, rest = max(below, number), None
            elif where == place.where:
                above = number
                break
    found = found or (rest if not above else None)
    if found is None:
        raise _no_record(place, below, above)
    detected = reading.detected
    plain_lines = detected is not None and str(detected) == "JSON lines" and place.where == place.file.name
    offset = _line_offset(place.file.path, place.number) if plain_lines and place.file.remote is None else None
    return Record(found, str(detected or "not read"), offset)


def _where(record: Document | Rejected, place: Place) -> tuple[str, int]:
    if isinstance(record, Document):
        where, _, number = record.id.rpartition(":")
        return where, int(number)
    name = place.file.name
    return f"{name}/{record.member}" if record.member else name, record.number


def _no_record(place: Place, below: int, above: int) -> DataError:
    near = [f"{place.source.name}/{place.where}:{number}" for number in (below, above) if number]
    if not near:
        said = "none of its records has that name"
    else:
        said = f"nearest: {' and '.join(near)}" if above else f"the last one is {near[0]}"
    return DataError(f"{place.id[-90:]}: the file has no such record; {said[-100:]}", details=near)


def _line_offset(path: Path, number: int) -> int | None:
    """Where the line of that number begins; None when it cannot be read any more."""
    left, offset = number - 1, 0
    try:
        with path.open("rb") as handle:
            while left and (block := handle.read(_BLOCK_BYTES)):
                lines = block.count(b"\n")
                if lines < left:
                    left, offset = left - lines, offset + len(block)
                    continue
                position = -1
                for _ in range(left):
                    position = block.index(b"\n", position + 1)
                return offset + position + 1
    except OSError:
        return None
    return offset
