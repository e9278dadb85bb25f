"""The raw files -> parts, the shares that workers read: files of one source, about 32 MB, with all that decides them.

Invariant: parts, their order and their keys depend on the files and the config only, never on the number of workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from groundup.config import digest, to_dict
from groundup.corpus.clean import CleanConfig, Resources
from groundup.corpus.documents import SPLITS
from groundup.corpus.duplicates.signatures import DeduplicateConfig
from groundup.corpus.engines.engine import Engine
from groundup.corpus.reading.files import RawFile
from groundup.corpus.reading.line_sections import count_lines, in_line_sections, numbered
from groundup.corpus.reading.sources import SourceConfig
from groundup.corpus.reading.wiki.sections import in_sections
from groundup.corpus.segments import Segment, document_number, rows_by_segment

PART_BYTES = 32 << 20
"""Of raw files in a part; more in a corpus that would have more than MANY_PARTS parts."""
MANY_PARTS = 1 << 16
PART_FILES = 2000
_FORMAT = 4


@dataclass(frozen=True)
class Part:
    """A task for a worker: files of one source that are read together."""

    number: int
    source: SourceConfig
    files: tuple[RawFile, ...]
    raw_bytes: int
    clean: CleanConfig
    deduplicate: DeduplicateConfig
    parts_folder: Path
    evaluation: Path | None = None
    """Index of the evaluation sets whose texts must not be trained on, where the source may be."""
    resources: Resources = field(default_factory=Resources)
    """Files that cleaning needs, read once."""
    key: str = ""
    """Hash of all that the part's content depends on."""
    source_number: int = 0
    """Position of its source among the recipe's."""

    @property
    def folder(self) -> Path:
        """Where the finished part lies."""
        return self.parts_folder / f"{self.number:05d}-{self.key}"

    @property
    def forced(self) -> int:
        """Split code of its source: 1 + position in SPLITS, 0 for `auto`."""
        return ("auto", *SPLITS).index(self.source.split)

    @property
    def priority(self) -> int:
        """Which of two equal texts is kept, lowest first: a fixed side wins, and the one furthest from training."""
        return (3, 2, 1, 0)[self.forced]

    def segments(self, documents: int) -> list[Segment]:
        """The segments of the finished part, which has so many documents."""
        return [
            Segment(
                self.folder / name,
                self.number,
                document_number(self.number, first),
                rows,
                self.priority,
                self.source_number,
            )
            for name, first, rows in rows_by_segment(documents)
        ]


def _part_key(part: Part) -> str:
    """Hash of all that the content of a part depends on."""
    options = to_dict(part.source)
    del options["path"]
    files = [[file.name, *file.state(), *_section_key(file)] for file in part.files]
    evaluation = part.evaluation.name if part.evaluation else ""
    settings = {
        "source": options,
        "clean": [part.clean, part.resources.digest()],
        "deduplicate": part.deduplicate,
        "evaluation": evaluation,
    }
    return digest({"format": _FORMAT, "files": files, **settings})


def _section_key(file: RawFile) -> list[int]:
    return [file.lines.start, file.lines.stop] if file.lines else []


def plan_parts(
    source: SourceConfig,
    files: Sequence[RawFile],
    clean: CleanConfig,
    deduplicate: DeduplicateConfig,
    parts_folder: Path,
    evaluation: Path | None,
    resources: Resources,
    first_number: int,
    part_bytes: int,
    source_number: int = 0,
) -> list[Part]:
    """Files of a source, in order, in groups of about `part_bytes`; larger ones alone, or in their sections."""
    checked = evaluation if source.split in ("auto", "train") else None
    parts: list[Part] = []
    members: list[RawFile] = []
    total = 0
    files = [piece for file in files for piece in _pieces(file, source)]
    sizes = [file.state()[1] for file in files]
    for file, size, following in zip(files, sizes, [*sizes[1:], part_bytes + 1]):
        members.append(file)
        total += size
        if total + following > part_bytes or len(members) == PART_FILES:
            settings = (clean, deduplicate, parts_folder, checked)
            number = first_number + len(parts)
            part = Part(number, source, tuple(members), total, *settings, source_number=source_number)
            parts.append(with_resources(part, resources))
            members, total = [], 0
    return parts


def part_bytes(total_bytes: int) -> int:
    """How large the parts of a corpus are: few enough that lists of them are small, whatever its size."""
    return max(PART_BYTES, total_bytes // MANY_PARTS)


def _pieces(file: RawFile, source: SourceConfig) -> list[RawFile]:
    """The sections of a large dump or of a large file of lines, or the file itself."""
    sections = in_sections(file, source)
    return sections if len(sections) > 1 else in_line_sections(file, source)


def with_resources(part: Part, resources: Resources) -> Part:
    """The part with these resources and the key that follows from them."""
    part = replace(part, resources=resources)
    return replace(part, key=_part_key(part))


def with_line_numbers(parts: Sequence[Part], engine: Engine) -> list[Part]:
    """The parts with what their sections must know of those before them in the same file: how many lines these have."""
    sections = [(part.source.name, file) for part in parts for file in part.files if file.lines]
    counts = engine.run_all(count_lines, [file for _, file in sections])
    known: dict[RawFile, RawFile] = {}
    for _, found in groupby(zip(sections, counts), key=lambda pair: (pair[0][0], pair[0][1].path)):
        pieces, lines = zip(*found)
        files = [file for _, file in pieces]
        known.update(zip(files, numbered(files, lines)))
    return [replace(part, files=tuple(known.get(file, file) for file in part.files)) for part in parts]
