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
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from groundup import stage
from groundup.config import Config, digest, to_dict
from groundup.corpus import deduplicate, split
from groundup.corpus.augment import Augmentation, AugmentConfig, Complete, RewriteConfig, load_augmentation
from groundup.corpus.clean import CleanConfig, Resources, load_resources
from groundup.corpus.deduplicate import DeduplicateConfig, Duplicates, find_duplicates
from groundup.corpus.documents import DOCUMENTS, shard_name
from groundup.corpus.frequent_lines import LINES, count_lines, find_frequent_lines
from groundup.corpus.parts import (
    CODES,
    REWRITES,
    SIGNATURES,
    Part,
    finish,
    finished,
    plan_parts,
    read_part,
    read_rows,
    with_resources,
    write_shards,
)
from groundup.corpus.processes import run_all
from groundup.corpus.report import log_report, make_report, refuse_nothing, report_text, summary_of, with_added
from groundup.corpus.sources import Found, SourceConfig, find_files
from groundup.corpus.split import SplitConfig
from groundup.corpus.table import Table
from groundup.errors import RecipeError
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
    split: SplitConfig = SplitConfig()
    """Fractions for validation and test."""
    augment: tuple[AugmentConfig, ...] = ()
    """Ways to make further documents of those of the train split, each a `kind` with its options."""

    @model_validator(mode="after")
    def _distinct_names(self) -> Self:
        names = [source.name.lower() for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two sources are named '{twice[0]}' (letter case aside); give each its own name")
        methods = [method.name.lower() for method in self.augment]
        twice = sorted({name for name in methods if methods.count(name) > 1})
        if twice:
            raise ValueError(f"two ways to augment are named '{twice[0]}' (letter case aside); give each its own name")
        unknown = sorted({name for method in self.augment for name in method.sources if name.lower() not in names})
        if unknown:
            raise ValueError(f"augment names the source '{unknown[0]}', which is not among corpus.sources")
        return self


def raw_identity(config: CorpusConfig, base: Path) -> dict[str, Any]:
    """What decides the prepared documents: every option but the paths, and name and SHA-256 of each file.

    Raises DataError when a source has no files, or a word list cannot be read.
    """
    identity = to_dict(config)
    for words, values in zip(load_resources(config.clean, _places(base)).word_lists, identity["clean"]["word_lists"]):
        del values["path"]
        values["content"] = words.digest()
    identity["augment"] = load_augmentation(config.augment, config.split.seed, _places(base)).identity()
    for source, values in zip(config.sources, identity["sources"]):
        files = find_files(source.path, base).files
        with ThreadPoolExecutor(_HASH_THREADS) as threads:
            hashes = list(threads.map(_hash_or_reason, (file.path for file in files)))
        del values["path"]
        values["files"] = [[file.name, content] for file, content in zip(files, hashes)]
    return identity


def _places(base: Path) -> tuple[Path, ...]:
    """Where relative paths are tried, in order."""
    return (Path.cwd(), base)


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
    complete: Callable[[RewriteConfig], Complete] | None = None,
) -> dict[str, Any]:
    """Fill `work` with `documents/` and `report.json`; returns the report's totals. Goes on from what lies in `work`.

    `base`: folder that relative paths are tried in after the current one. `workers`: processes, used from 8 MB on;
    0: none. The same bytes come out whatever the number. `complete`: makes the function that asks a model folder, for
    augmentation by one. Raises DataError when there are no files or nothing is kept.
    """
    found = [find_files(source.path, base) for source in config.sources]
    resources = load_resources(config.clean, _places(base))
    augmentation = load_augmentation(config.augment, config.split.seed, _places(base))
    if augmentation.needs_model and complete is None:
        raise RecipeError("corpus.augment: nothing here can run a model_folder; use `groundup prepare`, or an endpoint")
    parts = _plan(config, found, work / _PARTS, resources, augmentation)
    key = digest([config.deduplicate, config.split, [part.key for part in parts]])
    (work / stage.LOGS).mkdir(parents=True, exist_ok=True)
    done = finished(work, f"{stage.LOGS}/corpus.json")
    if not done or done["key"] != key:
        report = _build(config, found, parts, work, workers, complete)
        stage.write_text(work / REPORT, report_text(report))
        shards = [f"{DOCUMENTS}/{shard['file']}" for shard in report["shards"]]
        done = finish(work, f"{stage.LOGS}/corpus.json", {"key": key, "summary": summary_of(report)}, (REPORT, *shards))
    shutil.rmtree(work / _PARTS, ignore_errors=True)
    summary: dict[str, Any] = done["summary"]
    return summary


def _plan(
    config: CorpusConfig,
    found: Sequence[Found],
    parts_folder: Path,
    resources: Resources,
    augmentation: Augmentation,
) -> list[Part]:
    parts: list[Part] = []
    settings = (config.clean, config.deduplicate, parts_folder)
    for source, files in zip(config.sources, found):
        parts += plan_parts(source, files.files, *settings, len(parts), resources, augmentation)
    return parts


def _with_frequent_lines(parts: Sequence[Part], workers: int) -> list[Part]:
    """The parts with the lines that are frequent in the whole corpus, where the config asks for these."""
    settings = parts[0].clean.repeated_lines
    if not settings or not settings.across_documents:
        return list(parts)
    with progress("frequent lines", sum(part.raw_bytes for part in parts), "B") as bar:
        counted = run_all(count_lines, parts, workers, lambda part: bar.advance(part.raw_bytes))
    frequent, content = find_frequent_lines(parts, counted)
    resources = replace(parts[0].resources, frequent_lines=frequent, frequent_digest=content)
    return [with_resources(part, resources) for part in parts]


def _build(
    config: CorpusConfig,
    found: Sequence[Found],
    parts: Sequence[Part],
    work: Path,
    workers: int,
    complete: Callable[[RewriteConfig], Complete] | None,
) -> dict[str, Any]:
    """Parts, duplicates, splits, shards; returns the report."""
    (work / _PARTS).mkdir(parents=True, exist_ok=True)
    raw_bytes = sum(part.raw_bytes for part in parts)
    workers = workers if raw_bytes >= _WORTH_PROCESSES_BYTES else 0
    parts = _with_frequent_lines(parts, workers)
    _remove_all_but(work / _PARTS, {LINES, REWRITES, *(part.folder.name for part in parts)})
    with progress("corpus", raw_bytes, "B") as bar:
        read = run_all(read_part, parts, workers, lambda part: bar.advance(part.raw_bytes))
    table = Table.of(parts, [read_rows(part) for part in parts])
    duplicates = _find_duplicates(table, parts, work / _PARTS, config.deduplicate)
    codes = _assign_splits(table, duplicates, config.split)
    report = make_report(config.deduplicate, config.sources, found, parts, read, table, duplicates, codes)
    log_report(report)
    refuse_nothing(report)
    for part, first, last in zip(parts, table.first_row, table.first_row[1:]):
        codes[first:last].tofile(part.folder / CODES)
    kept = np.bincount(table.part[codes > 0], minlength=len(parts))
    with progress("shards", report["kept"], "documents") as bar:
        here = parts[0].augmentation.needs_model  # a model is loaded once, in this process
        write = partial(write_shards, complete=complete) if here else write_shards
        written = run_all(write, parts, 0 if here else workers, lambda part: bar.advance(int(kept[part.number])))
    return {**with_added(report, parts, written), "shards": _publish(parts, written, work / DOCUMENTS)}


def _remove_all_but(folder: Path, names: set[str]) -> None:
    for path in folder.iterdir():
        if path.name not in names:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _find_duplicates(table: Table, parts: Sequence[Part], folder: Path, config: DeduplicateConfig) -> Duplicates:
    """Duplicates over all parts. A forced side wins, and of several the one furthest from training."""
    priority = np.array([3, 2, 1, 0], dtype=np.uint8)[table.forced]
    signatures = None
    if config.near and len(table.rows):
        together = folder / SIGNATURES
        with together.open("wb") as target:
            for part in parts:
                with (part.folder / SIGNATURES).open("rb") as origin:
                    shutil.copyfileobj(origin, target, 1 << 20)
        signatures = np.memmap(together, dtype="<u4", mode="r", shape=(len(table.rows), config.num_perm))
    rows = table.rows
    return find_duplicates(rows["exact"], rows["content"], priority, signatures, rows["shingles"] > 0, config)


def _assign_splits(table: Table, duplicates: Duplicates, config: SplitConfig) -> NDArray[np.uint8]:
    """Split code of each row, 0 for dropped ones. Pieces of one text stay together, by the smallest of their hashes."""
    is_kept = duplicates.outcome == deduplicate.KEPT
    codes = np.where(is_kept, table.forced, 0).astype(np.uint8)
    free = np.flatnonzero(is_kept & (table.forced == 0))
    groups, member = np.unique(table.group[free], return_inverse=True)
    keys = np.full(len(groups), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(keys, member, table.rows["content"][free, 0])
    codes[free] = split.assign(keys, config)[member]
    return codes


def _publish(parts: Sequence[Part], written: Sequence[Mapping[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Link the parts' shards into `folder` under their final names, numbered per source and split."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    numbers: dict[tuple[str, str], int] = {}
    shards = []
    for part, result in zip(parts, written):
        for shard in result["shards"]:
            place = (shard["split"], part.source.name)
            numbers[place] = numbers.get(place, -1) + 1
            name = shard_name(*place, numbers[place])
            _link(part.folder / shard["name"], folder / name)
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
