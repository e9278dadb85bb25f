"""What happened to one record, told by reading and cleaning it again and by looking it up in the finished corpus.

    id --locate--> raw file --read_record--> rejected?
                            --Cleaner.follow--> filtered?  --Checker--> contaminated?
    finished corpus --find_duplicate--> exact or near duplicate of what?  --find_kept--> in which split, what was added

Invariant: reading and cleaning are those of the corpus, so what is told is what happened; what only the finished corpus
knows is told as unknown before. Values that the recipe masks as personal data are masked here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.corpus.accounts.account import escaped
from groundup.corpus.accounts.scripts import SCRIPTS, scripts_of
from groundup.corpus.clean import Cleaner, Dropped, Resources, load_resources
from groundup.corpus.clean.cleaner import RuleEdit, utf8_bytes
from groundup.corpus.clean.frequent import FrequentLines
from groundup.corpus.clean.personal import PersonalDataConfig, personal_data
from groundup.corpus.clean.text import Edited, Text
from groundup.corpus.contamination.decontaminate import Checker, build_index, evaluation_set, set_reports
from groundup.corpus.contamination.evaluation_sets import EvaluationSetConfig
from groundup.corpus.documents import Document
from groundup.corpus.duplicates.shingles import jaccard, normal_hash, shingle_set, token_hashes
from groundup.corpus.explanation.differences import differences
from groundup.corpus.explanation.listing import LISTING, find_duplicate
from groundup.corpus.explanation.locate import Place, Record, locate, read_record
from groundup.corpus.explanation.lookup import find_kept
from groundup.corpus.part_reader import license_of, measured
from groundup.corpus.prepare import FREQUENT_LINES, CorpusConfig, places_of
from groundup.corpus.reading.readers import Rejected
from groundup.errors import DataError

REJECTED, FILTERED, CONTAMINATED, KEPT, UNDECIDED = "rejected", "filtered", "contaminated", "kept", "undecided"
DUPLICATES = {"exact": "exact duplicate", "near": "near duplicate"}
"""Outcomes of duplicates, by kind."""

_NOT_PREPARED = "whether it is a duplicate, its split and what augmentation makes of it: the corpus is not prepared yet"
_NO_LINES = "which of its lines are frequent in the corpus: these are counted when the corpus is prepared"
_NO_LISTING = (
    "of what it is a duplicate: this corpus was made before that was kept; remove its stage and prepare it anew"
)
_MISMATCH = "what became of it: another version of Groundup made this corpus; remove its stage and prepare it anew"


@dataclass(frozen=True)
class Explainer:
    """What is needed to explain the records of one corpus."""

    config: CorpusConfig
    base: Path
    """Folder that relative paths are tried in after the current one."""
    corpus: Path | None
    """Folder of the finished corpus; None while it is not."""
    scratch: Path
    """Folder for temporary files."""
    heldout: Sequence[EvaluationSetConfig] = ()
    """The recipe's own evaluation sets."""

    def explain(self, document_id: str) -> dict[str, Any]:
        """What happened to the record, in plain values; `outcome` is one of the constants of this module.

        Raises DataError when no source has such a record.
        """
        place = locate(self.config.sources, self.base, document_id)
        record = read_record(place, self.scratch)
        told = _found(place, record)
        if isinstance(record.read, Rejected):
            told |= _rejected(place, record.read)
        else:
            told |= self._of_document(place, record.read)
        if place.added and self.corpus and f"{place.id}{place.added}" not in [one["id"] for one in told["added"]]:
            raise DataError(
                f"{document_id[-80:]}: augmentation made no such document; its original {place.id[-40:]} is "
                f"{told['outcome']}",
                details=[f"made of it: {one['id']}" for one in told["added"]],
            )
        return told

    def _of_document(self, place: Place, document: Document) -> dict[str, Any]:
        cleaned, edits = Cleaner(self.config.clean, self._resources()).follow(document)
        last = edits[-1].after if edits else document.text
        told: dict[str, Any] = {
            "raw": _sizes(document.text),
            "changes": [_change(edit) for edit in edits],
            "differences": differences(self._masked(document.text), self._masked(last)),
            "unknown": [_NO_LINES] if self._lacks_lines() else [],
        }
        if isinstance(cleaned, Dropped):
            excerpt = cleaned.excerpt or self._masked(document.text)
            dropped = {"rule": cleaned.rule, "reason": cleaned.reason, **measured(cleaned), "excerpt": escaped(excerpt)}
            return {**told, "outcome": FILTERED, **dropped}
        told |= {
            "cleaned": _sizes(cleaned.text),
            "excerpt": escaped(cleaned.text),
            "metadata": dict(cleaned.metadata),
            "license": license_of(cleaned.metadata, place.source),
            "script": SCRIPTS[scripts_of([cleaned.text])[0]],
            "contaminated_by": self._contaminated_by(place, cleaned),
        }
        if any(each["action"] == "drop" for each in told["contaminated_by"]):
            return {**told, "outcome": CONTAMINATED}
        if self.corpus is None:
            forced = {} if place.source.split == "auto" else {"split_if_kept": place.source.split}
            return {**told, "outcome": UNDECIDED, **forced, "unknown": [*told["unknown"], _NOT_PREPARED]}
        return {**told, **self._settled(self.corpus, place, cleaned)}

    def _resources(self) -> Resources:
        """What rules need, with the lines that the finished corpus found to be frequent."""
        found = load_resources(self.config.clean, places_of(self.base))
        settings = self.config.clean.repeated_lines
        if not settings or not settings.across_documents or self._lacks_lines():
            return found
        assert self.corpus is not None, "checked by _lacks_lines"
        lines = FrequentLines(self.corpus / FREQUENT_LINES, settings.keep_one)
        return Resources(found.word_lists, lines)

    def _lacks_lines(self) -> bool:
        """Whether the lines that are frequent in the corpus matter and are not known."""
        settings = self.config.clean.repeated_lines
        known = self.corpus is not None and (self.corpus / FREQUENT_LINES).is_file()
        return settings is not None and settings.across_documents > 0 and not known

    def _masked(self, text: str) -> str:
        """The text as it may be shown."""
        wanted = self.config.clean.personal_data
        if wanted is None:
            return text
        masks = {name: "mask" for name in PersonalDataConfig.model_fields if getattr(wanted, name) == "drop"}
        outcome = personal_data(wanted.model_copy(update=masks), Text(text))
        return outcome.string if isinstance(outcome, Edited) else text

    def _contaminated_by(self, place: Place, document: Document) -> list[dict[str, Any]]:
        """The evaluation sets of which the document holds a text."""
        sets = (*self.config.decontaminate, *self.heldout)
        if not sets or place.source.split not in ("auto", "train"):
            return []
        index = self.scratch / "evaluation"
        build_index([evaluation_set(each, self.base, self.scratch) for each in sets], index)
        checker = Checker(index, 1)
        checker.check(document.text, token_hashes(document.text), place.id)
        reports = set_reports(index, [(place.source.name, checker.to_json())], 1)
        return [
            {"set": each.name, "action": each.action, **_without_document(report["samples"][0])}
            for each, report in zip(sets, reports)
            if report["documents"]
        ]

    def _settled(self, corpus: Path, place: Place, document: Document) -> dict[str, Any]:
        """What deduplication, split and augmentation made of a clean document."""
        duplicate = find_duplicate(corpus, place.source.name, place.id)
        if duplicate:
            return {"outcome": DUPLICATES[duplicate[0]], "duplicate_of": self._original(corpus, *duplicate, document)}
        kept = find_kept(corpus, place.source.name, place.name)
        if kept is None:
            return {"outcome": UNDECIDED, "unknown": [_MISMATCH if (corpus / LISTING).is_dir() else _NO_LISTING]}
        added = [
            {"id": f"{place.source.name}/{one.id}", "method": one.metadata["augmented"], "excerpt": escaped(one.text)}
            for one in kept.added
        ]
        return {"outcome": KEPT, "split": kept.split, "added": added}

    def _original(self, corpus: Path, kind: str, kept_id: str, document: Document) -> dict[str, Any]:
        """The document that is kept in place of a duplicate."""
        told: dict[str, Any] = {"id": kept_id, "kind": kind}
        names = [source.name for source in self.config.sources if kept_id.startswith(f"{source.name}/")]
        source = max(names, key=len)
        kept = find_kept(corpus, source, kept_id.removeprefix(f"{source}/"))
        if kept is None:
            return told
        size = self.config.deduplicate.shingle_tokens
        sets = [shingle_set(token_hashes(text), size) for text in (document.text, kept.document.text)]
        same = normal_hash(document.text) == normal_hash(kept.document.text)
        return {
            **told,
            "same_text": document.text == kept.document.text,
            "jaccard": 1.0 if same else round(jaccard(*sets), 4),
            "threshold": self.config.deduplicate.threshold,
            "split": kept.split,
            "excerpt": escaped(kept.document.text),
            "differences": differences(document.text, kept.document.text),
        }


def _found(place: Place, record: Record) -> dict[str, Any]:
    section, lines = place.file.section, place.file.lines
    remote = place.file.remote
    where = f"{remote.repository}@{remote.commit}/{remote.name}" if remote else str(place.file.path)
    assert lines is None, "a file is read whole here"
    return {
        "id": place.id,
        "source": place.source.name,
        "file": place.file.name,
        "member": place.where[len(place.file.name) + 1 :],
        "record": place.number,
        "path": where,
        "format": record.format,
        "offset_bytes": record.offset,
        "section_bytes": [section.start, section.end] if section else None,
        "added": [],
    }


def _rejected(place: Place, said: Rejected) -> dict[str, Any]:
    """`reached`: whether the reader came to the record, or gave up the file before."""
    told = {"outcome": REJECTED, "reason": said.reason, "excerpt": escaped(said.sample)}
    return {**told, "reached": said.number == place.number}


def _sizes(text: str) -> dict[str, int]:
    return {"characters": len(text), "bytes": utf8_bytes(text)}


def _change(edit: RuleEdit) -> dict[str, Any]:
    return {
        "rule": edit.rule,
        "characters_removed": len(edit.before) - len(edit.after),
        "bytes_removed": utf8_bytes(edit.before) - utf8_bytes(edit.after),
        "edits": dict(edit.counts),
    }


def _without_document(sample: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in sample.items() if key != "document"}
