"""Quality filters against datatrove's: MB/s per core on the same documents, and how many of them both keep.

    python -m benchmarks.cleaning [--corpus FILES] [--megabytes 20] [--rounds 3]              (make bench-cleaning)

    texts --cut into documents of web-like lengths, some spoilt in known ways--> documents.jsonl
          --a process for each tool and round, one thread, interleaved--> seconds of the filters alone, what was kept

The rules are FineWeb's: Gopher's repetition and quality, C4 without terminal punctuation, FineWeb's own; no language
and no deduplication. datatrove runs in its own environment (`.venv-cleaning`, made once): with its English word
tokenizer, which FineWeb used, and with the fastest one it assigns to a language. Reading, loading and the first call
are not counted. Writes benchmarks/results/cleaning.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.corpus import corpus_files, documents

from benchmarks import harness

HERE = Path(__file__).resolve().parent
PEERS = HERE / ".venv-cleaning"
INSTALLS = (("datatrove[processing]==0.10.1", "spacy>=3.8,<3.9", "numpy>=2,<3"),)
ROWS = {
    "groundup": ("groundup", ""),
    "datatrove: English words": ("datatrove", "en"),
    "datatrove: fastest words": ("datatrove", "ang"),
}
"""label -> (runner, language whose word tokenizer datatrove takes)."""
REFERENCE = "datatrove: English words"
SPAM = ("buy", "cheap", "best price", "online now", "#deal", "click here", "free")


def spoilt(text: str, rng: random.Random) -> str:
    """A document as the web has it: most as they are, some as lists, with repeated lines, cut short, of keywords."""
    ways: tuple[tuple[float, Callable[[str], str]], ...] = (
        (0.10, lambda text: "\n".join(f"- {line}" for line in text.split("\n"))),
        (0.06, lambda text: text + f"\n{text[:80].strip()}" * rng.randrange(1, 12)),
        (0.06, lambda text: " ".join(text.split()[: rng.randrange(5, 90)])),
        (0.06, lambda text: " ".join(rng.choices(SPAM, k=max(len(text) // 8, 5)))),
        (
            0.06,
            lambda text: f"{text}\nThis website uses cookies, see our privacy policy.\nfunction f() {{ return 0; }}",
        ),
        (0.06, lambda text: "\n".join(word for word in text.split()[:300])),
    )
    draw = rng.random()
    for share, change in ways:
        draw -= share
        if draw < 0:
            return change(text)
    return text


def generate(files: Sequence[Path], target: Path, wanted_bytes: int, seed: int) -> dict[str, int]:
    """Fill `target` with documents made from the files; the same seed gives the same bytes."""
    rng = random.Random(seed)
    texts = [text for file in files for text in documents(file)]
    count = size_bytes = 0
    with target.open("w", encoding="utf-8") as out:
        while size_bytes < wanted_bytes:
            pieces: list[str] = []
            length = int(rng.lognormvariate(7.9, 0.9))  # median 2,700 characters, mean 4,000: what the web has
            while sum(map(len, pieces)) < length:
                text = rng.choice(texts)
                start = rng.randrange(max(len(text) - length, 1))
                pieces.append("\n".join(" ".join(part.split()) for part in text[start : start + length].split("\n\n")))
            text = spoilt("\n".join(pieces), rng)
            out.write(json.dumps({"id": str(count), "text": text}) + "\n")
            count, size_bytes = count + 1, size_bytes + len(text.encode())
    return {"documents": count, "bytes": size_bytes}


def run(label: str, source: Path, outcomes: Path) -> dict[str, Any]:
    """One tool once: its JSON line, with what other programs took of the machine meanwhile."""
    runner, language = ROWS[label]
    python = sys.executable if runner == "groundup" else harness.peers_python(PEERS, INSTALLS)
    command = [python, "-m", f"benchmarks.runners.cleaning_{runner}", str(source), str(outcomes), language]
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}:{HERE.parent / 'src'}", "OMP_NUM_THREADS": "1"}
    busy, own = harness.busy_seconds(), harness.own_seconds()
    done = subprocess.run(command, env=environment, cwd=HERE.parent, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    foreign = harness.busy_seconds() - busy - (harness.own_seconds() - own)
    return {**result, "foreign_cores": round(max(0.0, foreign) / result["wall_seconds"], 3)}


def outcomes_of(path: Path) -> Iterator[tuple[str, str]]:
    """(reason or "", text) of each document."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            reason, text = json.loads(line)
            yield reason, text


def agreement(ours: Path, theirs: Path) -> dict[str, Any]:
    """How many documents both keep or both drop, how many kept ones have the same text, and why the others differ."""
    pairs = [(one, other) for one, other in zip(outcomes_of(ours), outcomes_of(theirs), strict=True)]
    kept = [(one, other) for one, other in pairs if not one[0] and not other[0]]
    differ = Counter((one[0] or "kept", other[0] or "kept") for one, other in pairs if bool(one[0]) != bool(other[0]))
    return {
        "same_decision": sum(bool(one[0]) == bool(other[0]) for one, other in pairs) / len(pairs),
        "both_keep": len(kept),
        "same_text": sum(one[1] == other[1] for one, other in kept) / max(len(kept), 1),
        "differences": [{"ours": a, "theirs": b, "documents": n} for (a, b), n in differ.most_common(10)],
    }


def measure(source: Path, folder: Path, rounds: int) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Path]]:
    """All rows, `rounds` times in turn, and where the outcomes of each lie."""
    runs: dict[str, list[dict[str, Any]]] = {label: [] for label in ROWS}
    outcomes = {label: folder / f"{number}.jsonl" for number, label in enumerate(ROWS)}
    for _ in range(rounds):
        for label in ROWS:
            runs[label].append(run(label, source, outcomes[label]))
            print(f"{label}: {runs[label][-1]}", file=sys.stderr)
    return runs, outcomes


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Label, speed, how much faster Groundup is, kept documents, agreement."""
    head = ("tool", "MB/s per core", "Groundup is faster by", "documents kept", "same decisions as Groundup")
    lines = []
    for label, row in rows.items():
        same = row.get("agreement")
        lines.append(
            (
                label,
                harness.shown(row["megabytes_per_second"], ".2f"),
                harness.shown(row.get("ratio"), ".1f"),
                harness.shown(row["kept"]),
                f"{same['same_decision']:.2%}" if same else "-",
            )
        )
    return harness.table(head, lines)


def main() -> None:
    """Generate, run, compare, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", nargs="+", default=[str(HERE.parent / "data" / "atlas" / "raw")])
    parser.add_argument("--megabytes", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        source = Path(made) / "documents.jsonl"
        files = corpus_files(options.corpus)
        setting = generate(files, source, int(options.megabytes * 1e6), options.seed)
        runs, outcomes = measure(source, Path(made), options.rounds)
        ours = [run.get("megabytes_per_second") for run in runs["groundup"]]
        rows: dict[str, Any] = {}
        for label, made_runs in runs.items():
            rows[label] = harness.figures(made_runs, ("megabytes_per_second", "kept"))
            if label != "groundup" and "failed" not in rows[label]:
                theirs = [run.get("megabytes_per_second") for run in made_runs]
                rows[label]["ratio"] = harness.ratios(ours, theirs)
                rows[label]["agreement"] = agreement(outcomes["groundup"], outcomes[label])
    machine = {"cores": os.cpu_count(), "load_before": os.getloadavg()[0]}
    setting = {**setting, "seed": options.seed, "rounds": options.rounds}
    harness.save("cleaning", {"machine": machine, "setting": setting, "rows": rows}, table(rows))


if __name__ == "__main__":
    main()
