"""The search for a better recipe: variants of it, each over several seeds, against the recipe as it is.

    python -m benchmarks.search --corpus FILES... --tokens 500000 --seeds 1,2,3        (make bench-search)

Variants are in search.yaml; runs are judged in tokens, so several go side by side on one thread each, and what else the
machine does makes no difference. A difference is taken seed by seed (same rows in the same order, same start), and its
standard error tells whether it means anything. Cost in time is not judged here: a variant that wins goes to quality.py.
Writes results/search.json after every run, and goes on from there when started anew (`--anew` forgets it).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from benchmarks.quality import Context, add_data_options, merged, seeds

from benchmarks import harness
from groundup.config import read_yaml

BASE = "base"
RECIPE_KEYS = ("model.", "pretrain.", "schedule.", "start", "start_steps", "batch_tokens")
VARIANT_KEYS = ("trick", "values")
Found = dict[str, dict[int, dict[str, Any]]]


def variants(path: Path, pattern: str) -> dict[str, dict[str, Any]]:
    """Name -> settings of a run, the base first. Raises SystemExit for a key that is no recipe field."""
    written = read_yaml(path)
    made = {BASE: settings(written[BASE], {})}
    for name, changes in written["variants"].items():
        unknown = [key for key in changes if not key.startswith(RECIPE_KEYS) and key not in VARIANT_KEYS]
        if unknown:
            raise SystemExit(f"{path}: variant '{name}': {unknown[0]} is neither a recipe field nor {VARIANT_KEYS}")
        if any(fnmatch(name, word.strip()) for word in pattern.split(",")):
            made[name] = settings(written[BASE], changes)
    return made


def settings(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """What the runner gets: recipe fields as overrides, the trick as it stands."""
    fields = {**base, **{key: value for key, value in changes.items() if key not in VARIANT_KEYS}}
    trick = {key: value for key, value in changes.items() if key in VARIANT_KEYS}
    return merged({"recipe": str(harness.HERE / "quality.yaml"), "overrides": fields}, trick)


def measure(wanted: Mapping[str, Mapping[str, Any]], context: Context, result: Path) -> Found:
    """Every variant with every seed, seeds outermost, so that a search that is stopped compares all with some seeds."""
    options = context.options
    found = kept(result, wanted, context)
    todo = [(s, name) for s, name in itertools.product(options.seeds, wanted) if s not in found.get(name, {})]

    def one(task: tuple[int, str]) -> None:
        seed, name = task
        job = {
            "task": "quality",
            "size": context.size.as_dict(),
            "batch_tokens": 4096,
            "seed": seed,
            "settings": wanted[name],
            "data": str(context.data),
            "seconds": 0.0,
            "tokens": options.tokens,
            "points": [],
            "validation_rows": options.validation_rows,
            "warmup": 1,
        }
        run = harness.run_job("variant", job, result.parent / "cache", options, {})
        found.setdefault(name, {})[seed] = {"settings": wanted[name], **run}
        print(f"{name}, seed {seed}: {run.get('failed') or round(run['bits_per_byte'], 4)}", file=sys.stderr)
        harness.write(result.stem, summary(found, context))

    with ThreadPoolExecutor(options.at_once) as pool:
        list(pool.map(one, todo))
    return found


def kept(result: Path, wanted: Mapping[str, Any], context: Context) -> Found:
    """Runs of an earlier search over the same corpus, size and budget, whose settings are still the same."""
    options = context.options
    if options.anew or not result.exists():
        return {}
    earlier = json.loads(result.read_text())
    if [earlier["key"], earlier["tokens"]] != [context.key, options.tokens]:
        return {}
    good = {
        name: {int(seed): run for seed, run in runs.items() if "failed" not in run and run["settings"] == wanted[name]}
        for name, runs in earlier["runs"].items()
        if name in wanted
    }
    return {name: runs for name, runs in good.items() if runs}


def difference(runs: Mapping[int, Mapping[str, Any]], base: Mapping[int, Mapping[str, Any]]) -> dict[str, Any] | None:
    """Bits per byte minus the base's of the same seed: mean, standard error, number of seeds."""
    pairs = [
        runs[seed]["bits_per_byte"] - base[seed]["bits_per_byte"]
        for seed in runs
        if seed in base and "failed" not in runs[seed] and "failed" not in base[seed]
    ]
    return {"mean": statistics.fmean(pairs), "error": standard_error(pairs), "n": len(pairs)} if pairs else None


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean; None for fewer than two values."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def summary(found: Found, context: Context) -> dict[str, Any]:
    """The contract of results/search.json."""
    base = found.get(BASE, {})
    return {
        "key": context.key,
        "tokens": context.options.tokens,
        "options": vars(context.options),
        "differences": {name: difference(runs, base) for name, runs in found.items()},
        "runs": found,
    }


def show(found: Found) -> str:
    """Best first."""
    rows = []
    for name, runs in found.items():
        ends = [run["bits_per_byte"] for run in runs.values() if "failed" not in run]
        gap = difference(runs, found.get(BASE, {}))
        if not ends:
            rows.append((math.inf, [name, "failed: " + next(iter(runs.values()))["failed"][:60], "", ""]))
            continue
        error = "" if gap is None or gap["error"] is None else f"{gap['error']:.4f}"
        shift = "" if gap is None or name == BASE else f"{gap['mean']:+.4f}"
        rows.append((statistics.fmean(ends), [name, f"{statistics.fmean(ends):.4f}", shift, error, str(len(ends))]))
    head = ["variant", "bits per byte", "against base", "standard error", "seeds"]
    return harness.table(head, [row for _, row in sorted(rows, key=lambda entry: entry[0])])


def arguments() -> argparse.Namespace:
    """The command's options."""
    parser = harness.parser(__doc__)
    add_data_options(parser, size="V4096-d192-L4-H3-ff512-T256")
    parser.add_argument("--tokens", type=int, default=500_000, help="budget of a run")
    parser.add_argument("--seeds", type=seeds, default=[1, 2, 3])
    parser.add_argument("--variants", default=str(harness.HERE / "search.yaml"))
    parser.add_argument("--at-once", type=int, help="runs side by side, one thread each (default: as many as cores)")
    parser.add_argument("--anew", action="store_true", help="run again what an earlier search has run")
    made = parser.parse_args()
    made.at_once = made.at_once or made.threads
    made.threads = 1
    return made


def main() -> None:
    """Search and tell."""
    options = arguments()
    context = Context(options)
    name = options.name or "search"
    found = measure(variants(Path(options.variants), options.only), context, harness.RESULTS / f"{name}.json")
    harness.save(name, summary(found, context), show(found))


if __name__ == "__main__":
    main()
