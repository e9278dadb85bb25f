"""Evaluation sets -> an index of their n-grams -> which documents hold which of their texts, per set.

    sets --build_index--> evaluation-<key>/   index files, labels, sets.json (last)
    document's token hashes --Checker.check--> the sets it is contaminated by, counted with samples

Invariant: counts of parts add up to those of the whole, whatever the parts; a set's counts depend on no other set.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.corpus.accounts.account import SAMPLE_LIMIT, escaped
from groundup.corpus.closing import finish, finished
from groundup.corpus.contamination.evaluation_sets import EvaluationSetConfig, Example, read_examples
from groundup.corpus.contamination.ngrams import NGRAM_LIMIT, NGRAMS, OWNERS, TEXTS, Hit, Index, IndexWriter, Lengths
from groundup.corpus.duplicates.shingles import excerpt
from groundup.errors import DataError

SETS = "sets.json"
_LABELS, _LABEL_ENDS = "labels.bin", "labels.npy"
_SHARES = ("under 25%", "25% to 50%", "50% to 75%", "75% or more")


@dataclass(frozen=True)
class EvaluationSet:
    """A set to be looked for: its name in the report, its examples, and what counts as the same text."""

    name: str
    examples: Iterable[Example]
    lengths: Lengths
    whole: bool = True
    """Raise an error when it does not fit into the index; otherwise leave out the rest of it, and say so."""


def evaluation_set(config: EvaluationSetConfig, base: Path, spool_folder: Path) -> EvaluationSet:
    """The set that a config names; its files are read when it is gone through."""
    lengths = Lengths(config.ngram_words, config.ngram_characters, config.min_overlap)
    return EvaluationSet(config.name, read_examples(config, base, spool_folder), lengths)


def build_index(sets: Sequence[EvaluationSet], folder: Path) -> dict[str, Any]:
    """Write the index of all sets into `folder`, unless that is done; returns its closing file.

    Key `sets`: for each its name, `examples`, `examples_too_short`, `examples_left_out` and `ngrams`. Raises DataError
    when a set that must be whole is larger than NGRAM_LIMIT leaves room for.
    """
    done = finished(folder, SETS)
    if done:
        return done
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    writer, ends, facts, number = IndexWriter(folder), [0], [], 0
    with (folder / _LABELS).open("wb") as labels:
        for set_number, each in enumerate(sets):
            counts = {"examples": 0, "examples_too_short": 0, "examples_left_out": 0, "ngrams": -writer.ngrams}
            for example in each.examples:
                counts["examples"] += 1
                if writer.ngrams >= NGRAM_LIMIT:
                    counts["examples_left_out"] += 1
                    continue
                added = [writer.add(text, set_number, number, each.lengths) for text in example.texts]
                counts["examples_too_short"] += not any(added)
                labels.write(example.label.encode())
                ends.append(labels.tell())
                number += 1
            counts["ngrams"] += writer.ngrams
            if counts["examples_left_out"] and each.whole:
                raise DataError(
                    f"decontaminate '{each.name}': more than {NGRAM_LIMIT} n-grams in all sets; "
                    "leave out large sets or name fewer fields"
                )
            facts.append({"name": each.name, **counts})
    np.save(folder / _LABEL_ENDS, np.array(ends, dtype=np.int64))
    writer.close()
    return finish(folder, SETS, {"sets": facts}, (NGRAMS, OWNERS, TEXTS, _LABELS, _LABEL_ENDS))


@dataclass
class SetTally:
    """What was found of one set."""

    documents: int = 0
    examples: set[int] = field(default_factory=set)
    """Numbers of the examples that some document holds."""
    shares: list[int] = field(default_factory=lambda: [0] * len(_SHARES))
    """Documents by the largest share of a text's n-grams that they hold, in quarters."""
    samples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, other: SetTally, sample_limit: int = SAMPLE_LIMIT) -> None:
        """Count what was found later."""
        self.documents += other.documents
        self.examples |= other.examples
        self.shares = [one + more for one, more in zip(self.shares, other.shares)]
        self.samples += other.samples[: sample_limit - len(self.samples)]

    def to_json(self) -> dict[str, Any]:
        """JSON-like values that `from_json` reads back."""
        examples = sorted(self.examples)
        return {"documents": self.documents, "examples": examples, "shares": self.shares, "samples": self.samples}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SetTally:
        """The tally that `to_json` wrote."""
        return cls(values["documents"], set(values["examples"]), list(values["shares"]), list(values["samples"]))


class Checker:
    """Checks documents against an index and counts what is found, set by set."""

    def __init__(self, folder: Path, sample_limit: int = SAMPLE_LIMIT) -> None:
        self._index, self._label_ends = _opened(folder)
        self._sample_limit = sample_limit
        self._labels = folder / _LABELS
        self.tallies: dict[int, SetTally] = {}

    def check(self, text: str, tokens: NDArray[np.uint64], name: str) -> bool:
        """Whether a document, called `name` in samples, holds a text of some set; counts it for each such set."""
        hits = self._index.hits(tokens)
        for number in sorted({hit.set for hit in hits}):
            self._count(text, name, self.tallies.setdefault(number, SetTally()), [h for h in hits if h.set == number])
        return bool(hits)

    def _count(self, text: str, name: str, tally: SetTally, hits: Sequence[Hit]) -> None:
        most = max(hits, key=lambda hit: hit.overlap)
        tally.documents += 1
        tally.examples.update(hit.example for hit in hits)
        tally.shares[min(int(most.overlap * len(_SHARES)), len(_SHARES) - 1)] += 1
        if len(tally.samples) < self._sample_limit:
            words = escaped(excerpt(text, most.token, most.size))
            example = {"example": self._label(most.example), "share": round(most.overlap, 4), "excerpt": words}
            tally.samples.append({"document": name, **example})

    def _label(self, example: int) -> str:
        start, end = self._label_ends[example : example + 2].tolist()
        with self._labels.open("rb") as file:
            return os.pread(file.fileno(), end - start, start).decode()

    def to_json(self) -> dict[str, Any]:
        """Set number -> its tally."""
        return {str(number): tally.to_json() for number, tally in sorted(self.tallies.items())}


@lru_cache(maxsize=2)
def _opened(folder: Path) -> tuple[Index, NDArray[np.int64]]:
    return Index(folder), np.load(folder / _LABEL_ENDS)


def found_labels(folder: Path, found: Iterable[tuple[str, Mapping[str, Any]]], name: str) -> list[str]:
    """Labels of the examples of one set, in its order, that `found` (as for `set_reports`) holds a text of."""
    names = [fact["name"] for fact in json.loads((folder / SETS).read_text(encoding="utf-8"))["sets"]]
    tallies = (tally.get(str(names.index(name))) for _, tally in found)
    numbers = sorted({example for tally in tallies if tally for example in tally["examples"]})
    ends = np.load(folder / _LABEL_ENDS)
    with (folder / _LABELS).open("rb") as file:
        return [os.pread(file.fileno(), int(ends[n + 1] - ends[n]), int(ends[n])).decode() for n in numbers]


def set_reports(
    folder: Path, found: Iterable[tuple[str, Mapping[str, Any]]], sample_limit: int = SAMPLE_LIMIT
) -> list[dict[str, Any]]:
    """A report for each set of an index: what it holds, and what was found in `found`: (source, tallies) of parts."""
    facts = json.loads((folder / SETS).read_text(encoding="utf-8"))["sets"]
    totals = [SetTally() for _ in facts]
    per_source: list[dict[str, int]] = [{} for _ in facts]
    for source, tallies in found:
        for number, values in tallies.items():
            tally = SetTally.from_json(values)
            totals[int(number)].add(tally, sample_limit)
            sources = per_source[int(number)]
            sources[source] = sources.get(source, 0) + tally.documents
    return [
        {
            **fact,
            "documents": total.documents,
            "documents_per_source": sources,
            "documents_by_share": dict(zip(_SHARES, total.shares)),
            "examples_found": len(total.examples),
            "examples_found_fraction": round(len(total.examples) / max(1, fact["examples"]), 6),
            "samples": total.samples,
        }
        for fact, total, sources in zip(facts, totals, per_source)
    ]
