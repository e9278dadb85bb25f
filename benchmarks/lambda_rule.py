"""The rule of thumb "a larger lambda for a smaller instruction set", tested: `lambda: auto` at several sizes.

    python -m benchmarks.lambda_rule --sizes 300,1500,7500 --tokens 120000          (make bench-lambda)

The quickstart's model is tuned on so many of its questions, drawn by a hash, with every value of the grid and every
fold (nothing is stopped), so each size gives a whole curve. `--tokens` is the budget of every trial; with `--epochs` it
is so many passes instead, so that a smaller set also means fewer steps. The stages before are taken from `--workdir`,
or made. Writes results/lambda_rule.json after every size.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

from benchmarks import harness
from groundup.pipeline import Recipe, load_recipe, run

ROOT = harness.HERE.parent
DATA = ROOT / "data" / "atlas" / "questions"
FILES = ("short.jsonl.gz", "long.jsonl.gz")


def questions(count: int, folder: Path) -> Path:
    """A file of `count` of the training questions, always the same ones."""
    lines = [line for name in FILES for line in gzip.decompress((DATA / name).read_bytes()).decode().splitlines(True)]
    chosen = sorted(lines, key=lambda line: hashlib.sha256(line.encode()).digest())[:count]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"questions-{count}.jsonl"
    path.write_text("".join(chosen), encoding="utf-8")
    return path


def recipe(count: int, options: argparse.Namespace) -> Recipe:
    """The quickstart's recipe with a search over these questions and one trial per value and fold."""
    path = questions(count, Path(options.workdir))
    grid = ", ".join(f"{float(value)}" for value in options.grid.split(","))
    trials = "share: 1.0, keep: 1.0"
    budget = f"epochs={float(options.epochs)}" if options.epochs else f"tokens={options.tokens}"
    changes = [
        f"name=lambda-rule-{count}",
        f"runtime.workdir={options.workdir}",
        f"instruct.sources=[{{name: questions, path: {path}}}]",
        "instruct.mixture={}",
        f"instruct.{budget}",
        f"instruct.lambda={{kind: auto, grid: [{grid}], folds: {options.folds}, {trials}, bound: {options.bound}}}",
        f"instruct.replay_fraction={options.replay}",
    ]
    if options.epochs:
        changes.append("instruct.tokens=0")
    return load_recipe(ROOT / "recipes" / "atlas.yaml", [*changes, *options.set])


def searched(count: int, options: argparse.Namespace) -> dict[str, Any]:
    """What the search found for one size."""
    done = run(recipe(count, options), until="lambda")
    return dict(json.loads((done.folder / "stages" / "lambda" / "lambda.json").read_text(encoding="utf-8")))


def best(found: dict[str, Any]) -> float:
    """The value with the best answers, whatever it costs."""
    points = [point for point in found["points"] if point["quality"]]
    return float(min(points, key=lambda point: point["quality"]["value"])["lambda"]) if points else math.nan


def shown(results: dict[int, dict[str, Any]]) -> str:
    """A row per size and value."""
    rows = []
    for count, found in results.items():
        for point in found["points"]:
            quality, lost = point["quality"], point["forgetting"]
            marks = ("best answers " if point["lambda"] == best(found) else "") + (
                "chosen" if point["lambda"] == found["lambda"] else ""
            )
            rows.append(
                [
                    f"{count:,}",
                    f"{found['trial_tokens']:,}",
                    f"{point['lambda']:g}",
                    f"{quality['value']:.4f} ± {quality['stderr'] or 0:.4f}",
                    f"{100 * lost['value']:+.2f}% ± {100 * (lost['stderr'] or 0):.2f}",
                    marks,
                ]
            )
    return harness.table(["questions", "tokens a trial", "lambda", "bits per answer byte", "forgetting", ""], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="300,1500,7500", help="numbers of questions")
    parser.add_argument("--grid", default="0.25,1,4,16")
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=120_000, help="budget of a trial")
    parser.add_argument("--epochs", type=float, default=0.0, help="budget of a trial in passes, in place of --tokens")
    parser.add_argument("--replay", type=float, default=0.5, help="share of replayed rows")
    parser.add_argument("--bound", type=float, default=0.02)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any other change of the recipe"
    )
    parser.add_argument("--workdir", default=str(harness.RESULTS / "lambda-work"))
    parser.add_argument("--name", default="lambda_rule")
    options = parser.parse_args()
    results: dict[int, dict[str, Any]] = {}
    for count in [int(size) for size in options.sizes.split(",")]:
        results[count] = searched(count, options)
        harness.write(options.name, {"options": vars(options), "sizes": {str(n): f for n, f in results.items()}})
        print(f"{count} questions: {results[count]['why']}", file=sys.stderr)
    print(shown(results))


if __name__ == "__main__":
    main()
