"""Raw sources -> clean, deduplicated, split documents and an account of every record.

    sources -> files -> parts   (workers)  read, clean, hash, sign          parts/<number>-<key>/
                     -> rows of all parts: exact and near-duplicates, split (here: hashes and signatures only)
                     -> shards  (workers)  each part's kept documents       documents/*.jsonl.zst
                     -> report.json

Invariant: the account adds up, per file, per source and in all; the same files and config give the same bytes
whatever the number of workers, kills and restarts.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from groundup import stage
from groundup.config import Config, digest, to_dict
from groundup.corpus.clean import CleanConfig
from groundup.corpus.closing import finish, finished
from groundup.corpus.decontaminate import build_index, evaluation_set
from groundup.corpus.deduplicate import find_duplicates
from groundup.corpus.documents import DOCUMENTS, shard_name
from groundup.corpus.evaluation_sets import EvaluationSetConfig
from groundup.corpus.parts import Part, file_state, plan_parts, read_part, with_line_numbers
from groundup.corpus.processes import run_all
from groundup.corpus.report import log_report, make_report, refuse_nothing, report_text, summary_of
from groundup.corpus.segments import Segment
from groundup.corpus.settle import Settling, assign_codes, tally, with_draws
from groundup.corpus.shards import write_shards
from groundup.corpus.signatures import DeduplicateConfig
from groundup.corpus.sources import Found, SourceConfig, find_files
from groundup.corpus.split import SplitConfig
from groundup.log import progress

REPORT = "report.json"
_PARTS = "parts"
_HASH_THREADS = 4
_WORTH_PROCESSES_BYTES = 8 << 20
"""Starting worker processes takes longer than reading less than this here."""


class CorpusConfig(Config):
    """Raw text and what is done to it before tokenization."""

    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    """Where the text lies; order matters only for which of two equal texts is called the original."""
    clean: CleanConfig = CleanConfig()
    """Mending and filtering of single documents."""
    deduplicate: DeduplicateConfig = DeduplicateConfig()
    """What counts as the same text."""
    decontaminate: tuple[EvaluationSetConfig, ...] = ()
    """Evaluation sets that must not be trained on, beside the recipe's own."""
    decontaminate_heldout: Literal["report", "drop"] = "report"
    """Documents that share a text with `instruct.heldout`: only counted, or not trained on (then other questions make
    another corpus)."""
    split: SplitConfig = SplitConfig()
    """Fractions for validation and test."""

    @model_validator(mode="after")
    def _distinct_names(self) -> Self:
        for what, named in (("sources", self.sources), ("evaluation sets", self.decontaminate)):
            names = [each.name.lower() for each in named]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"two {what} are named '{twice[0]}' (letter case aside); give each its own name")
        return self


def raw_identity(config: CorpusConfig, base: Path, heldout: Sequence[EvaluationSetConfig] = ()) -> dict[str, Any]:
    """What decides the prepared documents: every option but the paths, and name and SHA-256 of each file.

    Evaluation sets count where documents are dropped for them. Raises DataError when a source or set has no files.
    """
    identity = to_dict(config)
    del identity["decontaminate_heldout"]
    identity["sources"] = [file_identity(source, base) for source in config.sources]
    identity["decontaminate"] = [file_identity(each, base) for each in (*config.decontaminate, *heldout) if drops(each)]
    return identity


def file_identity(config: SourceConfig | EvaluationSetConfig, base: Path) -> dict[str, Any]:
    """A source or set by what decides its content: its options without the path, and its files by name and SHA-256."""
    values = to_dict(config)
    files = find_files(config.path, base).files
    with ThreadPoolExecutor(_HASH_THREADS) as threads:
        hashes = list(threads.map(_hash_or_reason, (file.path for file in files)))
    del values["path"]
    values["files"] = [[file.name, content] for file, content in zip(files, hashes)]
    return values


def drops(config: EvaluationSetConfig) -> bool:
    """Whether documents are dropped for a set."""
    return config.action == "drop"


def _hash_or_reason(path: Path) -> str:
    try:
        return stage.hash_file(path)
    except OSError as error:
        return f"unreadable: {os.strerror(error.errno or 0)}"


def build_corpus(
    config: CorpusConfig,
    base: Path,
    work: Path,
    workers: int = 0,
    heldout: Sequence[EvaluationSetConfig] = (),
) -> dict[str, Any]:
    """Fill `work` with `documents/` and `report.json`; returns the report's totals. Goes on from what lies in `work`.

    `base`: folder that relative paths are tried in after the current one. `workers`: processes, used from 8 MB on;
    0: none. The same bytes come out whatever the number. `heldout`: the recipe's own evaluation sets. Raises DataError
    when there are no files or nothing is kept.
    """
    found = [find_files(source.path, base) for source in config.sources]
    sets = [each for each in (*config.decontaminate, *heldout) if drops(each)]
    index = work / _PARTS / f"evaluation-{_sets_key(sets, base)}" if sets else None
    parts = _plan(config, found, work / _PARTS, index)
    key = digest([config.deduplicate, config.split, [part.key for part in parts]])
    (work / stage.LOGS).mkdir(parents=True, exist_ok=True)
    done = finished(work, f"{stage.LOGS}/corpus.json")
    if not done or done["key"] != key:
        if index:
            build_index([evaluation_set(each, base, work / stage.LOGS) for each in sets], index)
        report = _build(config, found, parts, work, workers)
        stage.write_text(work / REPORT, report_text(report))
        shards = [f"{DOCUMENTS}/{shard['file']}" for shard in report["shards"]]
        done = finish(work, f"{stage.LOGS}/corpus.json", {"key": key, "summary": summary_of(report)}, (REPORT, *shards))
    shutil.rmtree(work / _PARTS, ignore_errors=True)
    summary: dict[str, Any] = done["summary"]
    return summary


def _sets_key(sets: Sequence[EvaluationSetConfig], base: Path) -> str:
    """Stand-in for the sets' content while the stage is worked on."""
    return digest(
        [[to_dict(each), [list(file_state(f.path)) for f in find_files(each.path, base).files]] for each in sets]
    )


def _plan(config: CorpusConfig, found: Sequence[Found], parts_folder: Path, index: Path | None) -> list[Part]:
    parts: list[Part] = []
    for source, files in zip(config.sources, found):
        parts += plan_parts(source, files.files, config.clean, config.deduplicate, parts_folder, index, len(parts))
    return parts


def _build(
    config: CorpusConfig, found: Sequence[Found], parts: Sequence[Part], work: Path, workers: int
) -> dict[str, Any]:
    """Parts, duplicates, splits, shards; returns the report."""
    (work / _PARTS).mkdir(parents=True, exist_ok=True)
    raw_bytes = sum(part.raw_bytes for part in parts)
    workers = workers if raw_bytes >= _WORTH_PROCESSES_BYTES else 0
    duplicates_folder = f"duplicates-{digest([config.deduplicate, [part.key for part in parts]])}"
    indices = {part.evaluation.name for part in parts if part.evaluation}
    _remove_all_but(work / _PARTS, {duplicates_folder, *indices, *(part.folder.name for part in parts)})
    parts = with_line_numbers(parts, workers)
    with progress("corpus", raw_bytes, "B") as bar:
        read = run_all(read_part, parts, workers, lambda part: bar.advance(part.raw_bytes))
    segments = [segment for part, result in zip(parts, read) for segment in part.segments(result["documents"])]
    duplicates = find_duplicates(segments, config.deduplicate, work / _PARTS / duplicates_folder, workers)
    tasks = [Settling(segment, duplicates, config.split, parts[segment.part].forced) for segment in segments]
    tallies = run_all(tally, tasks, workers, lambda task: None)
    sizes = run_all(assign_codes, with_draws(tasks, tallies), workers, lambda task: None)
    report = make_report(config.deduplicate, config.sources, found, parts, read, segments, duplicates, tallies, sizes)
    log_report(report)
    refuse_nothing(report)
    with progress("shards", len(segments), "segments") as bar:
        written = run_all(write_shards, segments, workers, lambda segment: bar.advance(1))
    return {**report, "shards": _publish(parts, segments, written, work / DOCUMENTS)}


def _remove_all_but(folder: Path, names: set[str]) -> None:
    for path in folder.iterdir():
        if path.name not in names:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _publish(
    parts: Sequence[Part], segments: Sequence[Segment], written: Sequence[Mapping[str, Any]], folder: Path
) -> list[dict[str, Any]]:
    """Link the segments' shards into `folder` under their final names, numbered per source and split."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    numbers: dict[tuple[str, str], int] = {}
    shards = []
    for segment, result in zip(segments, written):
        for shard in result["shards"]:
            place = (shard["split"], parts[segment.part].source.name)
            numbers[place] = numbers.get(place, -1) + 1
            name = shard_name(*place, numbers[place])
            _link(segment.folder / shard["name"], folder / name)
            counts = {"documents": shard["documents"], "bytes": shard["bytes"]}
            shards.append({"file": name, "split": place[0], "source": place[1], **counts})
    return shards


def _link(origin: Path, target: Path) -> None:
    """A second name for a file; a copy where the file system has no links."""
    try:
        os.link(origin, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS, errno.EXDEV):
            raise
        shutil.copyfile(origin, target)
