"""One part of the raw files -> its cleaned documents in segments, and an account of each file.

    part --read_part--> parts/<number>-<key>/  <segment>/...  copies.jsonl.zst  part.json (last, with hashes)

Invariant: a part with its intact closing file is finished and used again after a kill; its bytes depend only on its
files and the config, so the number of workers never shows.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.corpus.accounts.account import Account, Samples, escaped
from groundup.corpus.accounts.labels import Labels
from groundup.corpus.accounts.scripts import scripts_of
from groundup.corpus.clean import Cleaner, Dropped
from groundup.corpus.closing import finish, finished
from groundup.corpus.contamination.decontaminate import Checker
from groundup.corpus.documents import Document, LineWriter, hash_text, record_number
from groundup.corpus.duplicates.shingles import token_hashes_of
from groundup.corpus.parts import Part
from groundup.corpus.reading.files import RawFile
from groundup.corpus.reading.readers import Reading, Rejected
from groundup.corpus.reading.sources import SourceConfig
from groundup.corpus.segment_writer import Origin, SegmentWriter
from groundup.corpus.segments import SEGMENT_FILES, Segment, document_number

READ, COPIES = "part.json", "copies.jsonl.zst"
SAME_AS = "same_as"
"""Key, in a part's examples of duplicates, of the document in this part that has the same text."""
_SEEN_LIMIT = 1 << 18
_BATCH_DOCUMENTS, _BATCH_CHARACTERS = 256, 1 << 16


def read_part(part: Part) -> dict[str, Any]:
    """Read, clean, hash and sign all documents of a part, unless that is done; returns its closing file.

    Keys: `accounts` (one a file, `kept` still open), `samples`, `changes`, `documents`, `contaminated` (tallies),
    `rules` (reason -> the rule that gives it), `languages` and `licenses` (names by the numbers in the rows).
    """
    done = finished(part.folder, READ)
    if done:
        return done
    shutil.rmtree(part.folder, ignore_errors=True)
    part.folder.mkdir(parents=True)
    with _PartReader(part) as reader:
        accounts = [reader.read(index, file) for index, file in enumerate(part.files)]
    segments = part.segments(reader.segments.rows_written)
    for segment in segments:
        segment.count_copies(reader.copies_in(segment))
    content = {
        "accounts": accounts,
        "samples": reader.samples.values,
        "changes": reader.cleaner.changes.to_json(),
        "documents": reader.segments.rows_written,
        "contaminated": reader.checker.to_json() if reader.checker else {},
        "rules": reader.rules,
        "languages": reader.languages.names,
        "licenses": reader.licenses.names,
    }
    files = [f"{segment.folder.name}/{file}" for segment in segments for file in SEGMENT_FILES]
    return finish(part.folder, READ, content, [COPIES, *files])


class _PartReader:
    """Takes records in order and gives the documents among them to the segments."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.samples = Samples(limit=part.clean.samples)
        self.cleaner = Cleaner(part.clean, part.resources)
        self.segments = SegmentWriter(part.folder, part.number, part.priority, part.deduplicate)
        self.checker = Checker(part.evaluation, part.clean.samples) if part.evaluation else None
        self.rules: dict[str, str] = {}
        self.languages, self.licenses = Labels(), Labels()
        self._copies = LineWriter(part.folder / COPIES, level=1)
        self._seen: dict[bytes, Dropped | int] = {}
        """Hash of a raw text -> why it was dropped, or the number of its document."""
        self._copies_of: Counter[int] = Counter()
        """Documents (at most _SEEN_LIMIT) -> further records with the same raw text."""
        self._pending: dict[bytes, _Waiting] = {}
        """Documents that wait to be written by the hash of their raw text."""
        self._pending_characters = 0
        self._texts = 0
        self._last_text = self._row_of_text = 0

    def __enter__(self) -> _PartReader:
        self._copies.__enter__()
        self.segments.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._copies.__exit__(kind, value, trace)
        self.segments.__exit__(kind, value, trace)

    def read(self, index: int, file: RawFile) -> dict[str, Any]:
        """All records of one file; returns its account with what the file was found to be."""
        account, problem, first_fault = Account(), "", ""
        reading = Reading(file, self.part.source, self.part.folder)
        for record in reading:
            if isinstance(record, Rejected):
                account.reject(record.reason, record.records)
                self._sample("rejected", record.reason, index, record.member, record.number, record.sample)
                fault = escaped(f"{record.reason}: {record.sample}".removesuffix(": "))
                first_fault = first_fault or fault
                problem = problem if record.number else fault
            else:
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
        data = document.text.encode()
        account.load(len(data))
        raw_hash = hash_text(data)
        if raw_hash in self._pending:
            self._keep_pending()
        outcome = self._seen.get(raw_hash)
        if outcome is None:
            cleaned = self.cleaner.clean(document)
            if isinstance(cleaned, Document):
                self._pending[raw_hash] = _Waiting(cleaned, index, self._texts, account, len(data))
                self._pending_characters += len(cleaned.text)
                if len(self._pending) >= _BATCH_DOCUMENTS or self._pending_characters >= _BATCH_CHARACTERS:
                    self._keep_pending()
                return
            outcome = cleaned
            self.rules[outcome.reason] = outcome.rule
            self._remember(raw_hash, outcome)
        if isinstance(outcome, int):
            account.drop_duplicates("exact", 1, len(data))
            self._copies_of[outcome] += 1
            self._copies.write(f"[{encode_basestring(document.id)},{outcome}]\n".encode())
            kind, reason, excerpt, more = "duplicates", "exact", "", {SAME_AS: outcome}
        else:
            account.filter(outcome.reason, len(data))
            kind, reason = "filtered", outcome.reason
            excerpt, more = outcome.excerpt or document.text, measured(outcome)
        if self.samples.wanted(kind, reason):
            member, number = self._member_of(document, index), record_number(document)
            self._sample(kind, reason, index, member, number, excerpt, more)

    def copies_in(self, segment: Segment) -> NDArray[np.int64]:
        """Rows of a segment, one for each further record with the same raw text."""
        inside = {number - segment.first: count for number, count in self._copies_of.items()}
        rows = [row for row in inside if 0 <= row < segment.rows]
        return np.repeat(np.array(rows, dtype=np.int64), [inside[row] for row in rows])

    def _member_of(self, document: Document, index: int) -> str:
        """Name of the archive member that a document of a file is of."""
        name = self.part.files[index].name
        return "" if document.id.startswith(f"{name}:") else document.id.rpartition(":")[0][len(name) + 1 :]

    def _remember(self, raw_hash: bytes, outcome: Dropped | int) -> None:
        if len(self._seen) < _SEEN_LIMIT:
            self._seen[raw_hash] = outcome

    def _keep_pending(self) -> None:
        """Write the documents that wait but for those that are contaminated; hashing words of many at once is cheap."""
        texts = [waiting.document.text for waiting in self._pending.values()]
        found = zip(self._pending.items(), token_hashes_of(texts), scripts_of(texts))
        for (raw_hash, waiting), hashes, script in found:
            document = waiting.document
            if waiting.text != self._last_text:
                self._last_text, self._row_of_text = waiting.text, self.segments.rows_written
            name = f"{self.part.source.name}/{document.id}"
            if self.checker and self.checker.check(document.text, hashes, name):
                waiting.account.contaminate(waiting.raw_bytes)  # not remembered: each is checked, so that counts add up
            else:
                self.segments.write(document, hashes, self._origin(waiting, script))
                self._remember(raw_hash, document_number(self.part.number, self.segments.rows_written - 1))
        self._pending, self._pending_characters = {}, 0

    def _origin(self, waiting: _Waiting, script: int) -> Origin:
        metadata = waiting.document.metadata
        return Origin(
            waiting.file,
            self._row_of_text,
            self._member_of(waiting.document, waiting.file),
            waiting.raw_bytes,
            self.languages.number(metadata.get("language")),
            self.licenses.number(license_of(metadata, self.part.source)),
            script,
        )

    def _sample(
        self,
        kind: str,
        reason: str,
        index: int,
        member: str,
        number: int,
        excerpt: str,
        measured: Mapping[str, Any] | None = None,
    ) -> None:
        file = f"{self.part.source.name}/{self.part.files[index].name}"
        self.samples.add(kind, reason, f"{file}/{member}" if member else file, number, excerpt, measured)


@dataclass(slots=True)
class _Waiting:
    """A cleaned document that waits to be written."""

    document: Document
    file: int
    text: int
    """Number of the text that it is a piece of."""
    account: Account
    raw_bytes: int


def license_of(metadata: Mapping[str, Any], source: SourceConfig) -> str:
    """The licence that a document's metadata gives, else that of its source; "" for none."""
    found = metadata.get("license") or metadata.get("licence")
    return found if isinstance(found, str) else source.license


def measured(outcome: Dropped) -> dict[str, Any]:
    """What a rule measured and what it demands, where it compared numbers."""
    if outcome.bound is None:
        return {}
    value = round(outcome.value, 4) if isinstance(outcome.value, float) else outcome.value
    return {"value": value, "bound": outcome.bound}
