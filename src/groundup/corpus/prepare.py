"""Raw sources -> clean, deduplicated, split documents and an account of every record.

    sources -> files -> parts   (workers)  read, clean, hash, sign          parts/<number>-<key>/
                     -> rows of all parts: exact and near-duplicates, split (here: hashes and signatures only)
                     -> shards  (workers)  each part's kept documents       documents/*.jsonl.zst
                     -> report.json

Invariant: the account adds up, per file, per source and in all; the same files and config give the same bytes
whatever the number of workers, kills and restarts.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from groundup import stage
from groundup.config import Config, digest, to_dict
from groundup.corpus import deduplicate, split
from groundup.corpus.account import Account, Samples, summed
from groundup.corpus.clean import CleanConfig
from groundup.corpus.deduplicate import DeduplicateConfig, Duplicates, find_duplicates
from groundup.corpus.documents import DOCUMENTS, SPLITS, shard_name
from groundup.corpus.parts import CODES, SIGNATURES, Part, finish, finished, plan_parts, read_part, read_rows, write_shards
from groundup.corpus.processes import run_all
from groundup.corpus.sources import Found, SourceConfig, find_files
from groundup.corpus.split import SplitConfig
from groundup.errors import DataError
from groundup.log import logger, progress

REPORT = "report.json"
_PARTS = "parts"
_LOG_LIMIT = 20
_HASH_THREADS = 4


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

    @model_validator(mode="after")
    def _distinct_names(self) -> Self:
        names = [source.name.lower() for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two sources are named '{twice[0]}' (letter case aside); give each its own name")
        return self


def raw_identity(config: CorpusConfig, base: Path) -> dict[str, Any]:
    """What decides the prepared documents, for a fingerprint: every option but the paths, and names and SHA-256 of the files.

    Raises DataError when a source has no files.
    """
    identity = to_dict(config)
    for source, values in zip(config.sources, identity["sources"]):
        files = find_files(source.path, base).files
        with ThreadPoolExecutor(_HASH_THREADS) as threads:
            hashes = list(threads.map(_hash_or_reason, (file.path for file in files)))
        del values["path"]
        values["files"] = [[file.name, content] for file, content in zip(files, hashes)]
    return identity


def _hash_or_reason(path: Path) -> str:
    try:
        return stage.hash_file(path)
    except OSError as error:
        return f"unreadable: {os.strerror(error.errno or 0)}"


def build_corpus(config: CorpusConfig, base: Path, work: Path, workers: int = 0) -> dict[str, Any]:
    """Fill `work` with `documents/` and `report.json`; returns the report's totals. Goes on from what lies in `work`.

    `base`: folder that relative paths are tried in after the current one. `workers`: processes; 0: none. The same
    bytes come out whatever the number. Raises DataError when a source has no files or no document is kept.
    """
    found = [find_files(source.path, base) for source in config.sources]
    parts = _plan(config, found, work / _PARTS)
    key = digest([config.deduplicate, config.split, [part.key for part in parts]])
    (work / stage.LOGS).mkdir(parents=True, exist_ok=True)
    done = finished(work, f"{stage.LOGS}/corpus.json")
    if not done or done["key"] != key:
        report = _build(config, found, parts, work, workers)
        stage.write_json(work / REPORT, report)
        shards = [f"{DOCUMENTS}/{shard['file']}" for shard in report["shards"]]
        done = finish(work, f"{stage.LOGS}/corpus.json", {"key": key, "summary": _summary(report)}, (REPORT, *shards))
    shutil.rmtree(work / _PARTS, ignore_errors=True)
    summary: dict[str, Any] = done["summary"]
    return summary
