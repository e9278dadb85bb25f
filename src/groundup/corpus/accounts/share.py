"""The share of the corpus that one source has, or all of it: what parts and segments told, put together.

Invariant: what is put together follows the order of files and records, wherever parts and segments begin and end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from groundup.corpus.accounts.account import Samples
from groundup.corpus.accounts.histograms import Named
from groundup.corpus.documents import SPLITS
from groundup.corpus.duplicates.deduplicate import Duplicates
from groundup.corpus.part_reader import SAME_AS
from groundup.corpus.parts import Part
from groundup.corpus.segments import Segment, Store, part_number
from groundup.corpus.settle import Tally

_Order = tuple[int, int, int]
"""Where a record stands among all: its part, its file within it, its number."""


@dataclass(frozen=True)
class Share:
    """What is known of some parts and of their segments."""

    parts: Sequence[Part]
    read: Sequence[Mapping[str, Any]]
    """What reading told of each part."""
    segments: Sequence[Segment]
    tallies: Sequence[Tally]
    sizes: Sequence[Mapping[str, Mapping[str, int]]]
    """Of each segment, what is in each split."""
    store: Store
    """The segments of the whole corpus."""
    duplicates: Duplicates
    every_part: Sequence[Part] = ()
    """The parts of the whole corpus, by number; empty: `parts`."""

    def of_source(self, number: int) -> Share:
        """The share of the source at that position, from the whole."""
        own = [i for i, part in enumerate(self.parts) if part.source_number == number]
        inner = [i for i, segment in enumerate(self.segments) if segment.source == number]
        return replace(
            self,
            parts=[self.parts[i] for i in own],
            read=[self.read[i] for i in own],
            segments=[self.segments[i] for i in inner],
            tallies=[self.tallies[i] for i in inner],
            sizes=[self.sizes[i] for i in inner],
            every_part=self.parts,
        )

    def told(self) -> dict[str, Any]:
        """Splits, changes and examples for the report."""
        changed, edits = self._changes()
        return {"splits": self.splits(), "changed": changed, "edits": edits, "samples": self._samples()}

    def splits(self) -> dict[str, dict[str, int]]:
        """Documents, characters and UTF-8 bytes of text in each split."""
        return {
            split: {
                unit: sum(size[split][unit] for size in self.sizes) for unit in ("documents", "characters", "bytes")
            }
            for split in SPLITS
        }

    def histograms(self) -> Named:
        """Of the kept documents."""
        named, labels = Named(), {part.number: result for part, result in zip(self.parts, self.read)}
        for segment, tally in zip(self.segments, self.tallies):
            named.add(tally.histograms, labels[segment.part])
        return named

    @property
    def _limit(self) -> int:
        """Examples wanted of each kind."""
        return (self.every_part or self.parts)[0].clean.samples

    def _changes(self) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
        """rule -> documents it changed, what they became shorter by, examples; and kind of edit -> how many."""
        totals: dict[str, Counter[str]] = {unit: Counter() for unit in ("documents", "characters", "bytes", "edits")}
        samples: dict[str, list[dict[str, Any]]] = {}
        for result in self.read:
            for unit, counter in totals.items():
                counter.update(result["changes"][unit])
            for name, examples in result["changes"]["samples"].items():
                known = samples.setdefault(name, [])
                known.extend(examples[: self._limit - len(known)])
        changed = {
            name: {
                "documents": documents,
                "characters_removed": totals["characters"][name],
                "bytes_removed": totals["bytes"][name],
                "samples": samples.get(name, []),
            }
            for name, documents in sorted(totals["documents"].items())
        }
        return changed, dict(sorted(totals["edits"].items()))

    def _samples(self) -> dict[str, Any]:
        """The first examples of each reason in order of files and records, wherever parts begin and end."""
        samples = Samples(limit=self._limit)
        for result in self.read:
            samples.add_all({kind: reasons for kind, reasons in result["samples"].items() if kind != "duplicates"})
        for kind in ("exact", "near"):
            for _, name, number, same in self._first_duplicates(kind):
                segment = self.store.segment_with(same)
                kept = int(self.duplicates.of(segment)[1][same - segment.first])
                _, original, original_number = self._place(kept)
                what = "the same as" if kind == "exact" else "nearly the same as"
                samples.add("duplicates", kind, name, number, f"{what} {original}:{original_number}")
        return samples.values

    def _first_duplicates(self, kind: str) -> list[tuple[_Order, str, int, int]]:
        """Of the first: order, source and file, record number, a document of the same text or what is kept for it."""
        found = []
        for document, kept in [pair for tally in self.tallies for pair in tally.samples[kind]][: self._limit]:
            order, name, number = self._place(document)
            found.append((order, name, number, kept))
        for part, result in zip(self.parts, self.read):
            for example in result["samples"]["duplicates"].get(kind, ()):
                name, number = example["file"], example["record"]
                found.append(((part.number, _file_of(part, name), number), name, number, example[SAME_AS]))
        return sorted(found)[: self._limit]

    def _place(self, document: int) -> tuple[_Order, str, int]:
        """Where a document stands, its source and file (and archive member), and its record's number."""
        numbers = np.array([document], dtype=np.uint64)
        rows = self.store.rows(numbers)
        part = (self.every_part or self.parts)[part_number(document)]
        file, number, member = int(rows[0]["file"]), int(rows[0]["number"]), self.store.member_names(numbers, rows)[0]
        name = f"{part.source.name}/{part.files[file].name}"
        return (part.number, file, number), f"{name}/{member}" if member else name, number


def _file_of(part: Part, name: str) -> int:
    """Position in a part of the file that a name (with its source, perhaps with an archive member) is of."""
    names = [f"{part.source.name}/{file.name}" for file in part.files]
    return names.index(name) if name in names else next(i for i, own in enumerate(names) if name.startswith(f"{own}/"))
