"""Near-deduplication side by side: MB/s on one core, recall and precision against exact Jaccard similarity.

    texts --pieces--> documents + edited copies --> one file of JSON lines --a process a tool--> clusters, seconds
    all pairs by exact similarity (prefix filter) ---------------------------> recall and precision of the clusters

Every tool gets the same file, bands and rows, and shingles of the same number of words; each cuts words in its own way.
The judge takes words in lower case without punctuation, as Groundup and datasketch do. Recall: of all pairs at or above
the threshold the share that ends in one cluster. Precision: of the pairs in one cluster the share that exact similarity
joins too, directly or through others. Seconds are processor seconds of one process, from the file to the clusters.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from benchmarks.corpus import corpus_files, strings

from benchmarks import harness

TOOLS = ("groundup", "datatrove: default", "datatrove: split", "datasketch")
"""Rows: a runner, and how datatrove cuts words."""
PEERS = harness.HERE / ".venv-deduplication"
INSTALLS = (
    ("datatrove==0.10.1", "orjson", "nltk", "xxhash<4", "regex", "ftfy", "tokenizers", "fasteners", "spacy>=3.8"),
    ("datasketch>=2,<3",),
)
WORD = re.compile(r"\w+")
EDITS = (0.0, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.1)
"""Shares of words that are edited in the copies."""


def pieces(words: Sequence[str], characters: int) -> Iterator[str]:
    """Documents of about so many characters, of whole paragraphs or lines."""
    for path in corpus_files(words):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = data.decode("utf-8", errors="replace").replace("\r\n", "\n")
        if ".jsonl" in path.name:
            text = "\n".join("\n".join(strings(json.loads(line))) for line in text.splitlines() if line.strip())
        held: list[str] = []
        for line in text.split("\n"):
            held.append(line)
            if sum(map(len, held)) >= characters:
                yield "\n".join(held)
                held = []


def edited(text: str, share: float, rng: random.Random, words: Sequence[str]) -> str:
    """A copy in which a share of the words was replaced, left out or followed by another."""

    def edit(found: re.Match[str]) -> str:
        if rng.random() >= share:
            return found[0]
        return rng.choice((rng.choice(words), "", f"{found[0]} {rng.choice(words)}"))

    return WORD.sub(edit, text)


def write_input(options: argparse.Namespace, folder: Path) -> list[str]:
    """Documents and edited copies in a random order, as JSON lines; returns their texts."""
    rng = random.Random(options.seed)
    originals = list(pieces(options.corpus, options.characters))
    words = sorted({word for text in originals[:200] for word in WORD.findall(text)})
    copied = [text for text in originals if rng.random() < options.copies]
    texts = [*originals, *(edited(text, rng.choice(EDITS), rng, words) for text in copied)]
    rng.shuffle(texts)
    with (folder / "input.jsonl").open("w", encoding="utf-8") as file:
        for number, text in enumerate(texts):
            file.write(json.dumps({"text": text, "id": str(number)}, ensure_ascii=False) + "\n")
    return texts


def similar_pairs(texts: Sequence[str], size: int, threshold: float) -> set[tuple[int, int]]:
    """All pairs whose exact Jaccard similarity reaches the threshold.

    A pair that does shares one of the rarest |A| - ceil(t |A|) + 1 shingles of each (Chaudhuri et al. 2006).
    """
    sets = []
    for text in texts:
        words = WORD.findall(text.lower())
        sets.append({tuple(words[i : i + size]) for i in range(max(1, len(words) - size + 1))})
    counts = Counter(shingle for shingles in sets for shingle in shingles)
    holders: dict[Any, list[int]] = defaultdict(list)
    for number, shingles in enumerate(sets):
        rarest = sorted(shingles, key=lambda shingle: (counts[shingle], shingle))
        for shingle in rarest[: len(shingles) - math.ceil(threshold * len(shingles)) + 1]:
            holders[shingle].append(number)
    candidates = {pair for numbers in holders.values() for pair in combinations(numbers, 2)}
    return {(a, b) for a, b in candidates if len(sets[a] & sets[b]) >= threshold * len(sets[a] | sets[b])}


def components(count: int, pairs: set[tuple[int, int]]) -> list[int]:
    """Cluster of each document."""
    parent = list(range(count))

    def find(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for one, other in pairs:
        parent[find(one)] = find(other)
    return [find(number) for number in range(count)]


def pairs_within(clusters: Sequence[int]) -> set[tuple[int, int]]:
    """All pairs of documents of one cluster."""
    members: dict[int, list[int]] = defaultdict(list)
    for number, cluster in enumerate(clusters):
        members[cluster].append(number)
    return {pair for numbers in members.values() for pair in combinations(numbers, 2)}


def run(tool: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The runner's JSON line, with foreign load."""
    tool, _, words = tool.partition(": ")
    python = sys.executable if tool == "groundup" else harness.peers_python(PEERS, INSTALLS)
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    source = str(harness.HERE.parent / "src")
    environment = {**os.environ, "PYTHONPATH": f"{source}:{harness.HERE.parent}", "OMP_NUM_THREADS": "1"}
    environment |= {"NLTK_DATA": str(folder), "RAYON_NUM_THREADS": "1"}
    command = [
        python,
        "-m",
        f"benchmarks.runners.deduplication_{tool}",
        json.dumps({**job, "words": words, "work": str(work)}),
    ]
    busy, own = harness.busy_seconds(), harness.own_seconds()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=harness.HERE.parent)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    seconds = result["signature_seconds"] + result["clustering_seconds"]
    foreign = max(0.0, harness.busy_seconds() - busy - (harness.own_seconds() - own))
    return {**result, "foreign_cores": round(foreign / seconds, 3)}


def judged(result: dict[str, Any], truth: set[tuple[int, int]], joined: set[tuple[int, int]], megabytes: float) -> None:
    """Add figures to a result, in place of its clusters."""
    found = pairs_within(result.pop("clusters"))
    result["recall"] = len(truth & found) / max(1, len(truth))
    result["precision"] = len(found & joined) / max(1, len(found))
    result["signature_megabytes_per_second"] = megabytes / result["signature_seconds"]
    result["clustering_megabytes_per_second"] = megabytes / max(1e-9, result["clustering_seconds"])
    result["megabytes_per_second"] = megabytes / (result["signature_seconds"] + result["clustering_seconds"])


def main() -> None:
    """Write results/deduplication.json and print the table."""
    parser = harness.parser(__doc__)
    parser.add_argument("--corpus", nargs="+", default=[str(harness.HERE.parent / "data" / "atlas" / "raw")])
    parser.add_argument("--characters", type=int, default=2000)
    parser.add_argument("--copies", type=float, default=0.5, help="share of documents that get an edited copy")
    parser.add_argument("--bands", type=int, default=14, help="datatrove's default, with 8 rows")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--shingle-words", type=int, default=5)
    parser.add_argument("--threshold", type=float, default=0.8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    folder = harness.RESULTS / "deduplication-work"
    folder.mkdir(parents=True, exist_ok=True)
    texts = write_input(options, folder)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    truth = similar_pairs(texts, options.shingle_words, options.threshold)
    joined = pairs_within(components(len(texts), truth))
    print(f"{len(texts):,} documents, {megabytes:.1f} MB, {len(truth):,} pairs at {options.threshold} or above")
    job = {
        "input": str(folder / "input.jsonl"),
        **{name: getattr(options, name) for name in ("bands", "rows", "threshold", "shingle_words")},
    }
    tools = [tool for tool in TOOLS if harness.wanted(tool, options, {})]
    runs: dict[str, list[dict[str, Any]]] = {tool: [] for tool in tools}
    for _ in range(options.rounds):
        for tool in tools:
            result = run(tool, job, folder)
            if "failed" not in result:
                judged(result, truth, joined, megabytes)
            runs[tool].append(result)
    report(options, runs, {"documents": len(texts), "megabytes": megabytes, "true_pairs": len(truth), **job})


FIGURES = (
    "megabytes_per_second",
    "signature_megabytes_per_second",
    "clustering_megabytes_per_second",
    "recall",
    "precision",
)


def report(options: argparse.Namespace, runs: dict[str, list[dict[str, Any]]], facts: dict[str, Any]) -> None:
    """Write and print what was measured; `ratio_to_best_peer` is of MB/s from file to clusters."""
    rows = {tool: harness.figures(results, FIGURES) for tool, results in runs.items()}
    speeds = {tool: [run.get("megabytes_per_second") for run in results] for tool, results in runs.items()}
    ratios = {tool: harness.ratios(speeds["groundup"], speeds[tool]) for tool in speeds if tool != "groundup"}
    found = [ratio["median"] for ratio in ratios.values() if ratio]
    table = [
        [
            tool,
            *(harness.shown(row[name], ".2f") for name in FIGURES[:3]),
            *(harness.shown(row[name], ".4f") for name in FIGURES[3:]),
        ]
        for tool, row in rows.items()
    ]
    head = ("tool", "MB/s per core", "signatures", "clustering", "recall", "precision")
    result = {
        "machine": harness.machine(options),
        "input": facts,
        "groundup": rows.get("groundup"),
        "peers": {tool: row for tool, row in rows.items() if tool != "groundup"},
        "ratios": ratios,
        "ratio_to_best_peer": min(found, default=None),
    }
    harness.save(options.name or "deduplication", result, harness.table(head, table))


if __name__ == "__main__":
    main()
