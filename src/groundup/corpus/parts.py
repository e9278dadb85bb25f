"""One part of the raw files -> its cleaned documents in segments, and an account of each file.

    files of one source, about 32 MB --read_part--> parts/<number>-<key>/  <segment>/...   part.json (last, with hashes)

Invariant: a part with its intact closing file is finished and used again after a kill; its bytes depend only on its
files and the config, so the number of workers never shows.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any

from groundup.config import digest, to_dict
from groundup.corpus.account import Account, Samples, escaped
from groundup.corpus.clean import CleanConfig, Cleaner, Dropped, Resources
from groundup.corpus.closing import finish, finished
from groundup.corpus.decontaminate import Checker
from groundup.corpus.documents import SPLITS, Document, hash_text, record_number
from groundup.corpus.engines import Engine
from groundup.corpus.line_sections import count_lines, in_line_sections, numbered
from groundup.corpus.readers import Reading, Rejected
from groundup.corpus.segment_writer import SegmentWriter
from groundup.corpus.segments import SEGMENT_FILES, Segment, document_number, rows_by_segment
from groundup.corpus.shingles import token_hashes_of
from groundup.corpus.signatures import DeduplicateConfig
from groundup.corpus.sources import RawFile, SourceConfig
from groundup.corpus.wiki.sections import in_sections

PART_BYTES = 32 << 20
"""Of raw files in a part; more in a corpus that would have more than MANY_PARTS parts."""
MANY_PARTS = 1 << 16
PART_FILES = 2000
READ = "part.json"
SAME_AS = "same_as"
"""Key, in a part's examples of duplicates, of the document in this part that has the same text."""
_FORMAT = 3
_SEEN_LIMIT = 1 << 18
_BATCH_DOCUMENTS, _BATCH_CHARACTERS = 256, 1 << 16


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
            Segment(self.folder / name, self.number, document_number(self.number, first), rows, self.priority)
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
            part = Part(first_number + len(parts), source, tuple(members), total, *settings)
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


def read_part(part: Part) -> dict[str, Any]:
    """Read, clean, hash and sign all documents of a part, unless that is done; returns its closing file.

    Keys: `accounts` (one a file, `kept` still open), `samples`, `changes`, `documents`, `contaminated` (tallies).
    """
    done = finished(part.folder, READ)
    if done:
        return done
    shutil.rmtree(part.folder, ignore_errors=True)
    part.folder.mkdir(parents=True)
    with _PartReader(part) as reader:
        accounts = [reader.read(index, file) for index, file in enumerate(part.files)]
    content = {
        "accounts": accounts,
        "samples": reader.samples.values,
        "changes": reader.cleaner.changes.to_json(),
        "documents": reader.segments.rows_written,
        "contaminated": reader.checker.to_json() if reader.checker else {},
    }
    names = [segment.folder.name for segment in part.segments(reader.segments.rows_written)]
    return finish(part.folder, READ, content, [f"{name}/{file}" for name in names for file in SEGMENT_FILES])


class _PartReader:
    """Takes records in order and gives the documents among them to the segments."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.samples = Samples(limit=part.clean.samples)
        self.cleaner = Cleaner(part.clean, part.resources)
        self.segments = SegmentWriter(part.folder, part.number, part.priority, part.deduplicate)
        self.checker = Checker(part.evaluation, part.clean.samples) if part.evaluation else None
        self._seen: dict[bytes, Dropped | int] = {}
        """Hash of a raw text -> why it was dropped, or the number of its document."""
        self._pending: dict[bytes, tuple[Document, int, int, Account]] = {}
        """Documents that wait to be written by the hash of their raw text, with file, text number and account."""
        self._pending_characters = 0
        self._texts = 0
        self._last_text = self._row_of_text = 0

    def __enter__(self) -> _PartReader:
        self.segments.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.segments.__exit__(kind, value, trace)

    def read(self, index: int, file: RawFile) -> dict[str, Any]:
        """All records of one file; returns its account with what the file was found to be."""
        account, problem, first_fault = Account(), "", ""
        reading = Reading(file, self.part.source, self.part.folder)
        for record in reading:
            if isinstance(record, Rejected):
                account.reject(record.reason, record.records)
                self._sample("rejected", record.reason, index, record.number, record.sample)
                fault = escaped(f"{record.reason}: {record.sample}".removesuffix(": "))
                first_fault = first_fault or fault
                problem = problem if record.number else fault
            else:
                account.load()
                self._texts += not reading.continues
                self._take(record, index, account)
        self._keep_pending()
        in_sections = file.section is not None or file.lines is not None
        return {
            "name": file.name,
            "detected": str(reading.detected or "not read"),
            "problem": problem or ("" if account.loaded or in_sections else first_fault or "no records"),
            **account.to_json(),
        }

    def _take(self, document: Document, index: int, account: Account) -> None:
        raw_hash = hash_text(document.text.encode())
        if raw_hash in self._pending:
            self._keep_pending()
        outcome = self._seen.get(raw_hash)
        if outcome is None:
            cleaned = self.cleaner.clean(document)
            if isinstance(cleaned, Document):
                self._pending[raw_hash] = (cleaned, index, self._texts, account)
                self._pending_characters += len(cleaned.text)
                if len(self._pending) >= _BATCH_DOCUMENTS or self._pending_characters >= _BATCH_CHARACTERS:
                    self._keep_pending()
                return
            outcome = cleaned
            self._remember(raw_hash, outcome)
        if isinstance(outcome, int):
            account.duplicates["exact"] += 1
            self._sample("duplicates", "exact", index, record_number(document), "", {SAME_AS: outcome})
        else:
            account.filter(outcome.reason)
            excerpt = outcome.excerpt or document.text
            self._sample("filtered", outcome.reason, index, record_number(document), excerpt, _measured(outcome))

    def _remember(self, raw_hash: bytes, outcome: Dropped | int) -> None:
        if len(self._seen) < _SEEN_LIMIT:
            self._seen[raw_hash] = outcome

    def _keep_pending(self) -> None:
        """Write the documents that wait but for those that are contaminated; hashing words of many at once is cheap."""
        tokens = token_hashes_of([document.text for document, *_ in self._pending.values()])
        for (raw_hash, (document, index, text, account)), hashes in zip(self._pending.items(), tokens):
            if text != self._last_text:
                self._last_text, self._row_of_text = text, self.segments.rows_written
            name = f"{self.part.source.name}/{document.id}"
            if self.checker and self.checker.check(document.text, hashes, name):
                account.contaminated += 1  # not remembered: each is checked, so that the sets' own counts add up too
            else:
                self.segments.write(document, hashes, index, self._row_of_text)
                self._remember(raw_hash, document_number(self.part.number, self.segments.rows_written - 1))
        self._pending, self._pending_characters = {}, 0

    def _sample(
        self, kind: str, reason: str, index: int, number: int, excerpt: str, measured: Mapping[str, Any] | None = None
    ) -> None:
        file = f"{self.part.source.name}/{self.part.files[index].name}"
        self.samples.add(kind, reason, file, number, excerpt, measured)


def _measured(outcome: Dropped) -> dict[str, Any]:
    """What a rule measured and what it demands, where it compared numbers."""
    if outcome.bound is None:
        return {}
    value = round(outcome.value, 4) if isinstance(outcome.value, float) else outcome.value
    return {"value": value, "bound": outcome.bound}
