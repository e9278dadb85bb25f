"""Raw sources -> clean, deduplicated, split documents and an account of every record.

    sources -> files -> parts               lines frequent in the corpus, if the recipe asks   parts/lines-<key>/
                     -> read_part           read, clean, decontaminate, hash, sign             parts/<number>-<key>/
                     -> find_duplicates     exact, then near                                   parts/duplicates-<key>/
                     -> tally, assign_codes counts and splits                                  codes.bin of each segment
                     -> write_shards        the kept documents, and those augmentation adds    documents/*.jsonl.zst
                     -> list_duplicates     which record was dropped for which                 duplicates/*.jsonl.zst
                     -> report.json

Each arrow runs in all workers, over parts, ranges of keys or segments; between them only counts come together here.
Invariant: the account adds up, per file, per source and in all; the same files and config give the same bytes
whatever the engine, the number of workers, kills and restarts.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from groundup import stage
from groundup.config import Config, digest, to_dict
from groundup.corpus.accounts.additions import with_added
from groundup.corpus.augment import Augmentation, AugmentConfig, Complete, RewriteConfig, load_augmentation
from groundup.corpus.clean import CleanConfig, load_resources
from groundup.corpus.closing import finish, finished
from groundup.corpus.contamination.decontaminate import build_index, evaluation_set
from groundup.corpus.contamination.evaluation_sets import EvaluationSetConfig
from groundup.corpus.documents import DOCUMENTS
from groundup.corpus.duplicates.deduplicate import find_duplicates
from groundup.corpus.duplicates.signatures import DeduplicateConfig
from groundup.corpus.engines.engine import Engine
from groundup.corpus.engines.processes import HERE
from groundup.corpus.explanation.listing import LISTING, list_duplicates, publish_listing
from groundup.corpus.frequent_lines import lines_folder, with_frequent_lines
from groundup.corpus.part_reader import read_part
from groundup.corpus.parts import Part, part_bytes, plan_parts, with_line_numbers
from groundup.corpus.reading.compressed import is_of_machine
from groundup.corpus.reading.files import Found, RawFile, find_files, named_fault
from groundup.corpus.reading.hub import find_source, with_license
from groundup.corpus.reading.sources import SourceConfig
from groundup.corpus.report import log_report, make_report, refuse_nothing, report_text, summary_of
from groundup.corpus.segments import Segment
from groundup.corpus.settle import Settling, assign_codes, tally, with_draws
from groundup.corpus.shards import Sharding, link_file, publish, write_shards
from groundup.corpus.split import SplitConfig
from groundup.errors import RecipeError
from groundup.log import progress

REPORT, FREQUENT_LINES = "report.json", "frequent_lines.bin"
_OUTPUTS = (REPORT, f"{DOCUMENTS}/*", f"{LISTING}/*", FREQUENT_LINES)
_PARTS = "parts"
_ANSWERS = "answers"
"""Folder, beside the parts, of the answers of models."""
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
    augment: tuple[AugmentConfig, ...] = ()
    """Ways to make further documents of those of the train split, each a `kind` with its options."""

    @model_validator(mode="after")
    def _distinct_names(self) -> Self:
        for what, named in (
            ("sources", self.sources),
            ("evaluation sets", self.decontaminate),
            ("ways to augment", self.augment),
        ):
            names = [each.name.lower() for each in named]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"two {what} are named '{twice[0]}' (letter case aside); give each its own name")
        known = {source.name.lower() for source in self.sources}
        unknown = sorted({name for method in self.augment for name in method.sources if name.lower() not in known})
        if unknown:
            raise ValueError(f"augment names the source '{unknown[0]}', which is not among corpus.sources")
        return self


def raw_identity(config: CorpusConfig, base: Path, heldout: Sequence[EvaluationSetConfig] = ()) -> dict[str, Any]:
    """What decides the prepared documents: every option but the paths, and name and SHA-256 of each file.

    Evaluation sets count where documents are dropped for them. Raises DataError when a source or set has no files, or
    a word list or dictionary cannot be read.
    """
    identity = to_dict(config)
    for words, values in zip(load_resources(config.clean, places_of(base)).word_lists, identity["clean"]["word_lists"]):
        del values["path"]
        values["content"] = words.digest()
    identity["augment"] = load_augmentation(config.augment, config.split.seed, places_of(base)).identity()
    del identity["decontaminate_heldout"]
    identity["sources"] = [file_identity(source, base) for source in config.sources]
    identity["decontaminate"] = [file_identity(each, base) for each in (*config.decontaminate, *heldout) if drops(each)]
    return identity


def file_identity(config: SourceConfig | EvaluationSetConfig, base: Path) -> dict[str, Any]:
    """A source or set by what decides its content: its options without the path, and its files by name and SHA-256.

    Files of a hub dataset go by the hub's own hash. Raises DataError when there are none.
    """
    found = find_source(config, base) if isinstance(config, SourceConfig) else find_files(config.path, base)
    values = to_dict(with_license(config, found) if isinstance(config, SourceConfig) else config)
    with ThreadPoolExecutor(_HASH_THREADS) as threads:
        hashes = list(threads.map(_hash_or_reason, found.files))
    del values["path"]
    values["files"] = [[file.name, content] for file, content in zip(found.files, hashes)]
    return values


def places_of(base: Path) -> tuple[Path, ...]:
    """Where relative paths are tried, in order."""
    return (Path.cwd(), base)


def drops(config: EvaluationSetConfig) -> bool:
    """Whether documents are dropped for a set."""
    return config.action == "drop"


def _hash_or_reason(file: RawFile) -> str:
    if file.remote is not None:
        return file.remote.digest
    try:
        return stage.hash_file(file.path)
    except OSError as error:
        if is_of_machine(error):
            raise named_fault(error, file.path) from error
        return f"unreadable: {os.strerror(error.errno or 0)}"


def build_corpus(
    config: CorpusConfig,
    base: Path,
    work: Path,
    engine: Engine = HERE,
    heldout: Sequence[EvaluationSetConfig] = (),
    complete: Callable[[RewriteConfig], Complete] | None = None,
) -> dict[str, Any]:
    """Fill `work` with `documents/`, `duplicates/` and `report.json`; returns the report's totals.

    Goes on from what lies in `work`. `base`: folder that relative paths are tried in after the current one. `engine`:
    where the work is done, processes from 8 MB on; the same bytes come out whatever it is. `heldout`: the recipe's own
    evaluation sets. `complete`: makes the function that asks a model folder, for augmentation by one. Raises DataError
    when there are no files or nothing is kept.
    """
    found = [find_source(source, base) for source in config.sources]
    sets = [each for each in (*config.decontaminate, *heldout) if drops(each)]
    index = work / _PARTS / f"evaluation-{_sets_key(sets, base)}" if sets else None
    augmentation = load_augmentation(config.augment, config.split.seed, places_of(base))
    if augmentation.needs_model and complete is None:
        raise RecipeError("corpus.augment: nothing here can run a model_folder; use `groundup prepare`, or an endpoint")
    augmentation_key = digest(augmentation.identity())
    parts = _plan(config, found, work / _PARTS, index, base)
    key = digest([config.deduplicate, config.split, augmentation_key, [part.key for part in parts]])
    (work / stage.LOGS).mkdir(parents=True, exist_ok=True)
    done = finished(work, f"{stage.LOGS}/corpus.json")
    if not done or done["key"] != key:
        if index:
            build_index([evaluation_set(each, base, work / stage.LOGS) for each in sets], index)
        built = _build(config, found, parts, work, engine)
        report, hashes = _written(built, work, augmentation, augmentation_key, complete)
        stage.write_text(work / REPORT, report_text(report))
        content = {"key": key, "summary": summary_of(report)}
        names = [path.relative_to(work).as_posix() for name in _OUTPUTS for path in sorted(work.glob(name))]
        done = finish(work, f"{stage.LOGS}/corpus.json", content, set(names) - set(hashes), hashes)
    shutil.rmtree(work / _PARTS, ignore_errors=True)
    summary: dict[str, Any] = done["summary"]
    return summary


def _sets_key(sets: Sequence[EvaluationSetConfig], base: Path) -> str:
    """Stand-in for the sets' content while the stage is worked on."""
    return digest([[to_dict(each), [file.state() for file in find_files(each.path, base).files]] for each in sets])


def _plan(
    config: CorpusConfig, found: Sequence[Found], parts_folder: Path, index: Path | None, base: Path
) -> list[Part]:
    parts: list[Part] = []
    settings = (config.clean, config.deduplicate, parts_folder, index, load_resources(config.clean, places_of(base)))
    size = part_bytes(sum(file.state()[1] for files in found for file in files.files))
    for number, (source, files) in enumerate(zip(config.sources, found)):
        parts += plan_parts(with_license(source, files), files.files, *settings, len(parts), size, number)
    return parts


@dataclass(frozen=True)
class _Built:
    """Everything but the shards."""

    parts: Sequence[Part]
    segments: Sequence[Segment]
    report: dict[str, Any]
    listings: Sequence[Path]
    """Of the duplicates in each segment."""
    engine: Engine

    @property
    def owners(self) -> list[str]:
        """Name of the source of each segment."""
        return [self.parts[segment.part].source.name for segment in self.segments]


def _build(config: CorpusConfig, found: Sequence[Found], parts: Sequence[Part], work: Path, engine: Engine) -> _Built:
    """Parts, duplicates, splits and the report. Raises DataError when nothing is kept."""
    (work / _PARTS).mkdir(parents=True, exist_ok=True)
    raw_bytes = sum(part.raw_bytes for part in parts)
    engine = engine.where_worth(raw_bytes, _WORTH_PROCESSES_BYTES)
    lines = lines_folder(parts)
    parts = with_line_numbers(with_frequent_lines(parts, engine), engine)
    duplicates_folder = f"duplicates-{digest([config.deduplicate, [part.key for part in parts]])}"
    indices = {part.evaluation.name for part in parts if part.evaluation}
    wanted = {lines.name, _ANSWERS, duplicates_folder, *indices, *(part.folder.name for part in parts)}
    _remove_all_but(work / _PARTS, wanted)
    with progress("corpus", raw_bytes, "B") as bar:
        read = engine.run_all(read_part, parts, lambda part: bar.advance(part.raw_bytes))
    segments = [segment for part, result in zip(parts, read) for segment in part.segments(result["documents"])]
    duplicates = find_duplicates(segments, config.deduplicate, work / _PARTS / duplicates_folder, engine)
    settled = (parts, segments, config.deduplicate, duplicates)
    listings = list_duplicates(*settled, work / _PARTS / duplicates_folder, engine)
    tasks = [
        Settling(segment, duplicates, config.split, parts[segment.part].forced, config.clean.samples)
        for segment in segments
    ]
    tallies = engine.run_all(tally, tasks)
    sizes = engine.run_all(assign_codes, with_draws(tasks, tallies))
    report = make_report(config.deduplicate, config.sources, found, parts, read, segments, duplicates, tallies, sizes)
    log_report(report)
    refuse_nothing(report)
    return _Built(parts, segments, report, listings, engine)


def _written(
    built: _Built,
    work: Path,
    augmentation: Augmentation,
    augmentation_key: str,
    complete: Callable[[RewriteConfig], Complete] | None,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Write `documents/`; returns the report with its shards and what was added, and the shards' hashes."""
    tasks = [Sharding(segment, work / _PARTS / _ANSWERS, augmentation, augmentation_key) for segment in built.segments]
    here = augmentation.needs_model  # a model is loaded once, in this process
    write, engine = (partial(write_shards, complete=complete), HERE) if here else (write_shards, built.engine)
    with progress("shards", len(tasks), "segments") as bar:
        written = engine.run_all(write, tasks, lambda task: bar.advance(1))
    shards, hashes = publish(built.segments, built.owners, written, work / DOCUMENTS)
    publish_listing(built.segments, built.owners, built.listings, work / LISTING)
    frequent = built.parts[0].resources.frequent_lines
    if frequent:
        link_file(frequent.path, work / FREQUENT_LINES)
    report = {**with_added(built.report, built.owners, written), "shards": shards}
    return report, {f"{DOCUMENTS}/{name}": value for name, value in hashes.items()}


def _remove_all_but(folder: Path, names: set[str]) -> None:
    for path in folder.iterdir():
        if path.name not in names:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
