"""A finished corpus and evaluation sets -> which of their texts are in what is trained on: the contamination matrix.

    train shards --Checker, a task a shard--> per set and source: documents, examples found, samples

Looked for are the sets that a recipe names, its held-out questions, and the corpus's own validation and test splits.
Invariant: nothing is changed; the figures depend on the corpus and the sets only.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup import stage
from groundup.corpus.contamination.decontaminate import (
    Checker,
    EvaluationSet,
    build_index,
    evaluation_set,
    found_labels,
    set_reports,
)
from groundup.corpus.contamination.evaluation_sets import EvaluationSetConfig, Example
from groundup.corpus.contamination.ngrams import Lengths
from groundup.corpus.documents import from_line, read_documents, read_lines, shard_paths
from groundup.corpus.duplicates.shingles import token_hashes
from groundup.corpus.engines.engine import Engine
from groundup.corpus.engines.processes import HERE
from groundup.log import logger, progress

CONTAMINATION = "contamination.json"
_INDEX, _FOUND = "index", "found"
_WORTH_PROCESSES_BYTES = 4 << 20
"""Of packed text; starting worker processes takes longer than checking less than this here."""
_DEFAULTS = EvaluationSetConfig(name="split", path="documents")


def measure_contamination(
    corpus: Path,
    sets: Sequence[EvaluationSetConfig],
    base: Path,
    work: Path,
    engine: Engine = HERE,
    kept: Collection[str] = (),
) -> dict[str, Any]:
    """Write contamination.json into `work`; returns what it holds, without samples.

    Of the sets named in `kept` the labels of all examples found are written as well (see `read_found`).

    Key `sets`: a report of each set, of `split-validation` and of `split-test`. Of splits too large for the index the
    rest is left out and counted. Raises DataError when a set cannot be read or is too large.
    """
    named = [evaluation_set(each, base, work) for each in sets]
    splits = [_split_set(corpus, split) for split in ("validation", "test") if shard_paths(corpus, split)]
    build_index([*named, *splits], work / _INDEX)
    shards = [_Shard(path, work / _INDEX) for path in shard_paths(corpus, "train")]
    engine = engine.where_worth(sum(shard.path.stat().st_size for shard in shards), _WORTH_PROCESSES_BYTES)
    with progress("contamination", len(shards), "shards") as bar:
        found = engine.run_all(_check_shard, shards, lambda shard: bar.advance(1))
    reports = set_reports(work / _INDEX, found)
    for name in kept:
        (work / _FOUND).mkdir(exist_ok=True)
        labels = found_labels(work / _INDEX, found, name)
        stage.write_text(work / _FOUND / f"{name}.json", json.dumps(labels))
    shutil.rmtree(work / _INDEX)
    stage.write_json(work / CONTAMINATION, {"sets": reports})
    for report in reports:
        if report["documents"]:
            logger.info(
                f"contamination: {report['documents']} training documents share a text with {report['name']} "
                f"({report['examples_found']} of {report['examples']} examples found)"
            )
    return {"sets": [{key: value for key, value in report.items() if key != "samples"} for report in reports]}


def read_found(folder: Path, name: str) -> frozenset[str]:
    """Labels (`<file>:<record>`) of the examples of a set that are in the training text, of a set that was `kept`."""
    return frozenset(json.loads((folder / _FOUND / f"{name}.json").read_text(encoding="utf-8")))


def _split_set(corpus: Path, split: str) -> EvaluationSet:
    lengths = Lengths(_DEFAULTS.ngram_words, _DEFAULTS.ngram_characters, _DEFAULTS.min_overlap)
    return EvaluationSet(f"split-{split}", _split_examples(corpus, split), lengths, whole=False)


def _split_examples(corpus: Path, split: str) -> Iterator[Example]:
    for document in read_documents(corpus, split):
        yield Example(f"{document.source}/{document.id}", (document.text,))


@dataclass(frozen=True)
class _Shard:
    path: Path
    index: Path


def _check_shard(shard: _Shard) -> tuple[str, Mapping[str, Any]]:
    """(source, tallies) of one shard."""
    checker, source = Checker(shard.index), ""
    for document in map(from_line, read_lines(shard.path)):
        source = document.source
        checker.check(document.text, token_hashes(document.text), f"{source}/{document.id}")
    return source, checker.to_json()
