"""MB/s per core of every step of `prepare` on one corpus in one process -> what 1 TB and 15 TB cost (docs/scale.md).

    real sentences --documents, copies, near-copies--> JSON lines
                   --build_corpus, write_file_shards--> seconds and disk of each step

The steps are timed where the product hands them out, by an engine that runs them here. Runs are always merged, which
only large corpora need. MB are bytes of the raw files, seconds are processor seconds. The table for 1 TB and 15 TB is
computed: time and disk of a step grow with the documents; looking into files grows with tasks times files (both known).
"""

from __future__ import annotations

import argparse
import json
import pickle
import random
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import corpus as texts_of_files
from benchmarks import harness
from groundup import stage
from groundup.config import build
from groundup.corpus import CorpusConfig, build_corpus, segments, shard_paths
from groundup.corpus.clean import CleanConfig, Cleaner
from groundup.corpus.documents import Document
from groundup.corpus.duplicates import shingle_store, steps
from groundup.corpus.duplicates.runs import RUN_RECORDS, KeyRange, RunWriter
from groundup.corpus.duplicates.shingles import token_hashes_of
from groundup.corpus.duplicates.signatures import Signer
from groundup.corpus.parts import MANY_PARTS, PART_BYTES, Part
from groundup.corpus.reading.readers import Reading
from groundup.tokens import Tokenizer, TokenizerConfig, train_tokenizer, write_file_shards

ROOT = harness.HERE.parent
TERABYTE = 1_000_000_000_000
SENTENCES, RECENT, BATCH = 16, 1000, 256
READ = "read, clean, sign (one pass)"
PART_OF_READ, STRICT = "  of it: ", "preset fineweb"


def documents(files: Sequence[Path], seed: int) -> Iterator[str]:
    """Endless documents of real sentences; a tenth are copies and a fifth near-copies of recent ones."""
    rng = random.Random(seed)
    whole = "\n".join(text for file in files for text in texts_of_files.documents(file))
    sentences = [each for each in re.split(r"(?<=[.!?])\s+", whole) if len(each) > 20]
    recent: list[list[str]] = []
    while True:
        draw = rng.random()
        if draw < 0.1 and len(recent) == RECENT:
            made = rng.choice(recent)
        elif draw < 0.3 and len(recent) == RECENT:
            made = list(rng.choice(recent))
            made[rng.randrange(len(made))] = rng.choice(sentences)
        else:
            made = rng.choices(sentences, k=SENTENCES)
            if len(recent) == RECENT:
                recent.pop(rng.randrange(RECENT))
            recent.append(made)
        yield " ".join(made)


def write_corpus(files: Sequence[Path], target: Path, size_bytes: int, seed: int) -> None:
    """JSON lines of about so many bytes."""
    written, made = 0, documents(files, seed)
    with target.open("wb") as file:
        while written < size_bytes:
            written += file.write(json.dumps({"text": next(made)}, ensure_ascii=False).encode() + b"\n")


class Timing:
    """An engine that runs tasks here, and keeps what each function took and how much disk there is after it."""

    apart = True

    def __init__(self, work: Path) -> None:
        self.seconds: Counter[str] = Counter()
        self.tasks: Counter[str] = Counter()
        self.disk: dict[str, int] = {}
        self.parts: list[Part] = []
        self.driver_bytes: Counter[str] = Counter()
        self._work = work

    def run_all(self, function: Callable[[Any], Any], tasks: Sequence[Any], done: Any = None) -> list[Any]:
        """One after another."""
        name = step_name(function, tasks)
        started = time.process_time()
        results = [function(task) for task in tasks]
        self.seconds[name] += time.process_time() - started
        self.tasks[name] += len(tasks)
        self.disk[name] = disk_bytes(self._work)
        shown = [len(pickle.dumps(each)) for each in (*tasks[:64], *results[:64])]
        self.driver_bytes[name] += sum(shown) * len(tasks) // max(1, len(tasks[:64]))
        if tasks and isinstance(tasks[0], Part):
            self.parts = list(tasks)
        return results

    def where_worth(self, amount: int, least: int) -> Timing:
        """Itself."""
        return self


def step_name(function: Callable[[Any], Any], tasks: Sequence[Any]) -> str:
    """What a step is called in the table."""
    if function.__name__ == "_run_task" and tasks:
        inner = str(tasks[0].step.function.__name__).strip("_")
        return "near: merge of runs" if inner == "merge" else f"near: {inner.replace('_', '-')}"
    names = {"read_part": READ, "tally": "settle", "assign_codes": "settle", "write_shards": "write documents"}
    return {**names, "_encode_file": "tokenize", "_pack_shard": "pack tokens"}.get(function.__name__, function.__name__)


def disk_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; a file with two names once."""
    found = {(s.st_dev, s.st_ino): s.st_size for path in folder.rglob("*") if path.is_file() for s in [path.stat()]}
    return sum(found.values())


@contextmanager
def clocked(seconds: Counter[str], name: str) -> Iterator[None]:
    """Add the processor seconds of the block to those of `name`."""
    started = time.process_time()
    yield
    seconds[name] += time.process_time() - started


def inside_read(parts: Sequence[Part], scratch: Path) -> dict[str, float]:
    """Seconds of what `read_part` does, each thing by itself; and of cleaning by the strictest preset."""
    seconds: Counter[str] = Counter()
    strict = Cleaner(build(CleanConfig, {"preset": "fineweb"}, "scale"), parts[0].resources)
    for part in parts:
        with clocked(seconds, "reading"):
            records = [record for file in part.files for record in Reading(file, part.source, scratch)]
        found = [record for record in records if isinstance(record, Document)]
        cleaner = Cleaner(part.clean, part.resources)
        with clocked(seconds, "cleaning"):
            for each in found:
                cleaner.clean(each)
        with clocked(seconds, STRICT):
            for each in found:
                strict.clean(each)
        for start in range(0, len(found), BATCH):
            with clocked(seconds, "hashing words"):
                hashes = token_hashes_of([each.text for each in found[start : start + BATCH]])
            with clocked(seconds, "signing"):
                signer = Signer(part.deduplicate)
                for tokens in hashes:
                    signer.add(tokens)
                signer.take()
    return dict(seconds)


def look_seconds(folder: Path) -> float:
    """Of looking into one file of sorted records for a range of keys."""
    dtype, rng = np.dtype([("key", "<u8"), ("other", "<u8")]), np.random.default_rng(1)
    paths = [folder / f"{i}.sorted" for i in range(steps.MERGED_FILES)]
    for path in paths:
        with RunWriter(path, dtype) as writer:
            keys = np.sort(rng.integers(0, 1 << 64, 1 << 12, dtype=np.uint64))
            writer.write_columns(key=keys, other=keys)
    seconds: Counter[str] = Counter()
    with clocked(seconds, "looking"):
        KeyRange.of(paths, dtype, 1 << 60, (1 << 60) + (1 << 50))
    return seconds["looking"] / len(paths)


def counted_reads() -> Counter[str]:
    """From now on: records that deduplication asks for by document, which in a large corpus lie far from each other."""
    reads: Counter[str] = Counter()
    real = segments.read_items

    def counting(path: Path, dtype: Any, positions: Any) -> Any:
        reads["records"] += len(positions)
        return real(path, dtype, positions)

    segments.read_items = shingle_store.read_items = counting
    return reads


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything that is measured."""
    files = texts_of_files.corpus_files(options.corpus)
    raw, work, scratch = folder / "raw.jsonl", folder / "work", folder / "scratch"
    scratch.mkdir()
    look = look_seconds(scratch)
    write_corpus(files, raw, options.megabytes * 1_000_000, options.seed)
    steps.MERGED_FILES, steps._MERGED_AT_ONCE = 1, 2
    reads, engine = counted_reads(), Timing(work)
    config = build(CorpusConfig, {"sources": [{"name": "text", "path": str(raw)}]}, "scale")
    work.mkdir()
    summary = build_corpus(config, folder, work, engine)
    inside = inside_read(engine.parts, scratch)
    shards = shard_paths(work, "train", "text")
    sample = [each for _, each in zip(range(2000), documents(files, options.seed))]
    (folder / "tokenizer").mkdir()
    train_tokenizer(TokenizerConfig(vocab_size=options.vocab_size), sample, folder / "tokenizer")
    tokenizer = Tokenizer.load(folder / "tokenizer")
    tokens = write_file_shards(shards, tokenizer, folder / "tokens", folder / "ids", engine)
    hashing: Counter[str] = Counter()
    with clocked(hashing, "raw"):
        stage.hash_file(raw)
    size = raw.stat().st_size
    return {
        "raw_bytes": size,
        "documents": summary["total"],
        "kept": summary["kept"],
        "parts": len(engine.parts),
        "seconds": dict(engine.seconds),
        "inside_read": inside,
        "tasks": dict(engine.tasks),
        "driver_bytes": dict(engine.driver_bytes),
        "peak_disk_bytes": max(engine.disk.values()),
        "documents_bytes": disk_bytes(work / "documents"),
        "token_bytes": disk_bytes(folder / "tokens"),
        "tokens": tokens["tokens"],
        "random_reads": reads["records"],
        "look_seconds": look,
        "hash_megabytes_per_second": size / 1e6 / hashing["raw"],
    }


def rows_of(found: Mapping[str, Any]) -> dict[str, float]:
    """Step -> processor seconds, the parts of reading below it."""
    rows = {}
    for name, seconds in found["seconds"].items():
        rows[name] = seconds
        if name == READ:
            inside = dict(found["inside_read"])
            strict = inside.pop(STRICT)
            rows |= {PART_OF_READ + each: value for each, value in inside.items()}
            rows[PART_OF_READ + "hashing texts, packing, writing"] = max(0.0, seconds - sum(inside.values()))
            rows["  instead: cleaning by preset fineweb"] = strict
    return rows


def at(found: Mapping[str, Any], size_bytes: int) -> dict[str, float]:
    """What a corpus of so many bytes costs, computed from what was measured."""
    times = size_bytes / found["raw_bytes"]
    parts = -(-size_bytes // max(PART_BYTES, size_bytes // MANY_PARTS))
    ranges = 2 * 20 * found["documents"] * times / RUN_RECORDS
    total = sum(found["seconds"].values()) * times
    return {
        "documents": found["documents"] * times,
        "parts": parts,
        "ranges of band keys": ranges,
        "core hours": total / 3600,
        "core hours, looking into files": 3 * ranges * min(parts, 512) * found["look_seconds"] / 3600,
        "peak disk TB": found["peak_disk_bytes"] * times / TERABYTE,
        "documents TB": found["documents_bytes"] * times / TERABYTE,
        "token shards TB": found["token_bytes"] * times / TERABYTE,
        "random reads": found["random_reads"] * times,
        "hours of hashing raw files (4 threads)": size_bytes / 1e6 / found["hash_megabytes_per_second"] / 4 / 3600,
        "driver GB for parts": found["driver_bytes"][READ] / found["parts"] * parts / 1e9,
    }


def shown(found: Mapping[str, Any]) -> str:
    """Both tables."""
    megabytes = found["raw_bytes"] / 1e6
    table = [
        [
            name,
            f"{megabytes / max(seconds, 1e-9):,.1f}",
            *(f"{seconds / megabytes * each / 3.6e9:,.1f}" for each in SIZES),
        ]
        for name, seconds in rows_of(found).items()
    ]
    whole = sum(found["seconds"].values())
    table.append(["all", f"{megabytes / whole:,.1f}", *(f"{whole / megabytes * each / 3.6e9:,.1f}" for each in SIZES)])
    costs = [at(found, size) for size in SIZES]
    head = ["step (measured)", "MB/s per core", "core hours at 1 TB (computed)", "at 15 TB (computed)"]
    computed = [[name, *(f"{cost[name]:,.3g}" for cost in costs)] for name in costs[0]]
    return f"{harness.table(head, table)}\n\n{harness.table(['computed', '1 TB', '15 TB'], computed)}"


SIZES = (TERABYTE, 15 * TERABYTE)


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = [str(ROOT / "data" / "atlas" / "text"), str(ROOT / "data" / "smoke" / "text")]
    parser.add_argument("--corpus", nargs="+", default=default, help="files or folders whose sentences are taken")
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--vocab-size", type=int, default=32768)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="for about 5 times the size (default: a temporary one)")
    parser.add_argument("--name", default="scale")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        found = measure(options, folder)
    finally:
        shutil.rmtree(folder)
    computed = {"1 TB": at(found, SIZES[0]), "15 TB": at(found, SIZES[1])}
    harness.save(options.name, {"measured": found, "computed": computed}, shown(found))


if __name__ == "__main__":
    main()
