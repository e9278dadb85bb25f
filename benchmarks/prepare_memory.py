"""Synthetic JSON lines of any size -> `prepare` in a process of its own -> its peak memory and speed, against a limit.

    seed --documents--> one file (or several) --build_corpus--> peak of all its processes together, MB/s, the account

The shapes: `mixed` (2,000 bytes a document, a tenth exact and a fifth near-duplicates), `short` (200 bytes, so ten
times the documents), `template` (all near-duplicates of one text: one cluster of everything). Invariant: the same
options give the same file.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import harness

WORDS, PHRASES, PHRASE_WORDS = 20_000, 50_000, 8
RECENT = 1000
PHRASES_OF = {"mixed": 37, "short": 4, "template": 37}
INTERVAL_SECONDS = 0.2
CHILD = """
import json, sys, time
from pathlib import Path
from groundup import config
from groundup.corpus import CorpusConfig, LocalEngine, build_corpus
job = json.loads(sys.argv[1])
work = Path(job["work"])
recipe = config.build(CorpusConfig, {"sources": [{"name": "synthetic", "path": job["path"]}]}, "benchmark")
if __name__ == "__main__":
    started = time.monotonic()
    summary = build_corpus(recipe, Path("."), work, LocalEngine(job["workers"]))
    print(json.dumps({"seconds": time.monotonic() - started, "summary": summary}))
"""


def documents(shape: str, seed: int) -> Iterator[str]:
    """Endless documents of a shape."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randrange(3, 10))) for _ in range(WORDS)]
    phrases = [" ".join(rng.choices(words, k=PHRASE_WORDS)) for _ in range(PHRASES)]
    template = rng.choices(phrases, k=PHRASES_OF[shape])
    recent: list[list[str]] = []
    for number in range(1 << 62):
        draw = rng.random()
        if shape == "template":
            made = [*template, f"number {number}"]
        elif draw < 0.1 and len(recent) == RECENT:
            made = rng.choice(recent)
        elif draw < 0.3 and len(recent) == RECENT:
            made = list(rng.choice(recent))
            made[rng.randrange(len(made))] = rng.choice(phrases)
        else:
            made = rng.choices(phrases, k=PHRASES_OF[shape])
            if len(recent) == RECENT:
                recent.pop(rng.randrange(RECENT))
            recent.append(made)
        yield ". ".join(made)


def write_files(folder: Path, shape: str, size_bytes: int, files: int, seed: int) -> list[Path]:
    """The documents as JSON lines in `files` files of about equal size, made once."""
    paths = [folder / f"{shape}-{size_bytes}-{seed}-{i}-of-{files}.jsonl" for i in range(files)]
    if all(path.exists() for path in paths):
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    made = documents(shape, seed)
    for path in paths:
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb", buffering=1 << 20) as file:
            written = 0
            while written < size_bytes // files:
                written += file.write(json.dumps({"text": next(made)}).encode() + b"\n")
        os.replace(temporary, path)
    return paths


def children(pid: int) -> list[int]:
    """A process and all below it that live now."""
    found = [pid]
    for known in found:
        try:
            below = Path(f"/proc/{known}/task/{known}/children").read_text().split()
        except OSError:
            continue
        found += map(int, below)
    return found


def resident_bytes(pid: int) -> int:
    """What a process holds of memory of its own: its resident set without pages of files, which the system can drop."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    sizes = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines if line.startswith("Rss")}
    return sizes.get("RssAnon", 0) + sizes.get("RssShmem", 0)


def total_bytes(pid: int) -> int:
    """The whole resident set of a process, file pages included."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS")), 0)


def measure(path: str, work: Path, workers: int, limit_bytes: int) -> dict[str, Any]:
    """Run `build_corpus` and watch its processes. Raises SystemExit when it fails."""
    job = json.dumps({"path": path, "work": str(work), "workers": workers})
    script = work.parent / "child.py"
    script.write_text(CHILD)
    environment = {**os.environ, "PYTHONPATH": str(harness.HERE.parent / "src"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, str(script), job], env=environment, stdout=subprocess.PIPE, text=True)
    own = whole = largest = 0
    while process.poll() is None:
        pids = children(process.pid)
        own = max(own, sum(map(resident_bytes, pids)))
        sizes = list(map(total_bytes, pids))
        whole, largest = max(whole, sum(sizes)), max(largest, *sizes)
        time.sleep(INTERVAL_SECONDS)
    if process.returncode:
        raise SystemExit(f"prepare ended with {process.returncode}")
    assert process.stdout is not None
    result = json.loads(process.stdout.read().splitlines()[-1])
    return {
        "peak_bytes": whole,
        "peak_without_file_pages_bytes": own,
        "largest_process_bytes": largest,
        "limit_bytes": limit_bytes,
        "within_limit": whole <= limit_bytes,
        "seconds": result["seconds"],
        "account": {key: result["summary"][key] for key in ("total", "kept", "duplicates")},
    }


def main() -> None:
    """Write results/prepare-memory.json and print the figures; exit 1 above the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--shape", choices=tuple(PHRASES_OF), default="mixed")
    parser.add_argument("--files", type=int, default=1)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--limit-gigabytes", type=float, default=1.5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=harness.RESULTS / "memory", help="for 3 times the size")
    parser.add_argument("--name", default="prepare-memory")
    options = parser.parse_args()
    size_bytes = int(options.gigabytes * 1e9)
    started = time.monotonic()
    paths = write_files(options.folder / "raw", options.shape, size_bytes, options.files, options.seed)
    print(f"{sum(path.stat().st_size for path in paths):,} bytes of text, made in {time.monotonic() - started:.0f} s")
    work = options.folder / "work"
    subprocess.run(["rm", "-rf", str(work)], check=True)
    work.mkdir(parents=True)
    pattern = str(paths[0]).replace("-0-of-", "-*-of-")
    result = measure(pattern, work, options.workers, int(options.limit_gigabytes * 1e9))
    megabytes = sum(path.stat().st_size for path in paths) / 1e6
    result |= {"megabytes": megabytes, "megabytes_per_second": megabytes / result["seconds"]}
    facts = {"shape": options.shape, "files": options.files, "workers": options.workers, "seed": options.seed}
    head = ("shape", "MB", "workers", "peak MB", "without file pages", "largest process", "MB/s", "kept of")
    row = (
        options.shape,
        f"{megabytes:,.0f}",
        str(options.workers),
        *(
            f"{result[name] / 1e6:,.0f}"
            for name in ("peak_bytes", "peak_without_file_pages_bytes", "largest_process_bytes")
        ),
        f"{result['megabytes_per_second']:.1f}",
        f"{result['account']['kept']:,} of {result['account']['total']:,}",
    )
    harness.save(options.name, {"groundup": {**facts, **result}, "peers": {}}, harness.table(head, [row]))
    sys.exit(0 if result["within_limit"] else 1)


if __name__ == "__main__":
    main()
