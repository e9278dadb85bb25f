"""Time to quality: seconds from the start of the process to a given bits per byte of held-out text, tool by tool.

    python -m benchmarks.quality --minutes 3,10,30 --seeds 1,2,3 --corpus FILES... --peer nanochat=FOLDER
    python -m benchmarks.quality --sweep transformers --sweep-minutes 1          (make bench-quality)

One tokenizer, one token file, one order of rows, one validation rule (session.bits_per_byte), one clock: it starts
with the process, imports and compiling included, and stands still during validations. Every run compiles from nothing.
The learning rate follows the part of the time that is gone since the first step, for every tool. `--sweep` tries a grid
for one tool and keeps the best in results/quality-sweep.json, which later runs read. Writes results/quality.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.sizes import Size, parse_size

from benchmarks import corpus, harness

OURS = "groundup: recipe"
WSD = {"kind": "wsd", "decay_fraction": 0.3, "warmup_steps": 20}
COSINE = {"kind": "cosine", "final_fraction": 0.0, "warmup_steps": 20}
LINEAR = {"kind": "linear", "warmup_steps": 20}
ADAMW = {"learning_rate": 4e-3, "weight_decay": 0.1, "beta2": 0.95, "schedule": LINEAR, "batch_tokens": 4096}
TRAINER = {"bf16": True, "tied": False, **ADAMW}
SETTINGS: dict[str, dict[str, Any]] = {
    OURS: {"recipe": str(harness.HERE / "quality.yaml")},
    "transformers: bf16": TRAINER,
    "transformers: bf16 compile": {**TRAINER, "compile": True},
    "nanochat: recipe": {"batch_tokens": 8192},
}
GRIDS: dict[str, dict[str, list[Any]]] = {
    "transformers": {
        "learning_rate": [1e-3, 2e-3, 4e-3, 8e-3],
        "batch_tokens": [2048, 4096, 8192],
        "schedule": [COSINE, LINEAR, WSD],
    },
    "nanochat": {"batch_tokens": [2048, 4096, 8192, 16384], "rate_multiplier": [1.0, 2.0, 4.0, 8.0]},
    "groundup": {"overrides.batch_tokens": [2048, 4096, 8192]},
}
SWEPT_ROW = {"transformers": "transformers: bf16", "nanochat": "nanochat: recipe", "groundup": OURS}
POINT_RATIO = 1.25
Runs = dict[str, list[dict[str, Any]]]


def points(seconds: float, count: int) -> list[float]:
    """Times of validation: each 1.25 times the last, the final one at the end of the budget."""
    return [seconds / POINT_RATIO**back for back in reversed(range(count))]


def seconds_to_reach(curve: Sequence[Mapping[str, float]], target: float, clock: str) -> float | None:
    """When a curve first is at `target` bits per byte or below: between two points by the logarithm of time.

    A first point already below gives its own time (a bound from above); None when the curve never comes there.
    """
    for before, at in zip([None, *curve], curve):
        if at["bits_per_byte"] > target:
            continue
        if before is None or before[clock] <= 0:
            return at[clock]
        part = (before["bits_per_byte"] - target) / (before["bits_per_byte"] - at["bits_per_byte"])
        return math.exp(math.log(before[clock]) + part * math.log(at[clock] / before[clock]))
    return None


def run(label: str, settings: Mapping[str, Any], seconds: float, seed: int, context: Context) -> dict[str, Any]:
    """One run from cold caches."""
    options = context.options
    job = {
        "task": "quality",
        "size": context.size.as_dict(),
        "batch_tokens": 4096,
        "seed": seed,
        "settings": settings,
        "data": str(context.data),
        "seconds": seconds,
        "points": points(seconds, options.points),
        "validation_rows": options.validation_rows,
        "warmup": 1,
    }
    tool = label.partition(":")[0]
    with tempfile.TemporaryDirectory() as cache:
        found = harness.run_job(tool, job, Path(cache), options, context.folders)
    value = found.get("failed") or f"{found['bits_per_byte']:.4f} bits per byte, {found['steps']} steps"
    print(f"{label}, {seconds:.0f} s, seed {seed}: {value}", file=sys.stderr)
    return {"seed": seed, "budget_seconds": seconds, "settings": dict(settings), **found}


class Context:
    """What all runs of one command share."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.folders = harness.peer_folders(options)
        self.size: Size = parse_size(options.size)
        self.data = corpus.prepare(options.corpus, self.size.vocab_size, options.heldout, harness.RESULTS)
        self.facts = json.loads((self.data / "facts.json").read_text())
        self.key = f"{self.size.word}/{self.facts['fingerprint']}"

    @property
    def sweeps(self) -> Path:
        """The file of all sweeps."""
        return Path(self.options.sweep_file)

    def settings(self, label: str) -> tuple[dict[str, Any], str]:
        """The settings of a row with the best of its tool's sweep on top, and where they come from."""
        tool = label.partition(":")[0]
        swept = json.loads(self.sweeps.read_text()) if self.sweeps.exists() else {}
        best = swept.get(self.key, {}).get(tool)
        return merged(SETTINGS[label], best["best"] if best else {}), "sweep" if best else "defaults, not swept"


def merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with changes; a key `overrides.x` goes into the inner dictionary `overrides`."""
    made = dict(settings)
    for key, value in changes.items():
        outer, _, inner = key.partition(".")
        made[outer] = {**made.get(outer, {}), inner: value} if inner else value
    return made


def grid(axes: Mapping[str, Iterable[Any]]) -> list[dict[str, Any]]:
    """Every combination of the axes' values."""
    return [dict(zip(axes, values)) for values in itertools.product(*axes.values())]


def sweep(tool: str, context: Context) -> None:
    """Try the tool's grid at a short budget and keep all results, best first, in the sweep file."""
    options = context.options
    axes = json.loads(options.grid) if options.grid else GRIDS[tool]
    label, tried = SWEPT_ROW[tool], []
    for changes in grid(axes):
        settings = merged(SETTINGS[label], changes)
        runs = [run(f"{label} {changes}", settings, 60 * options.sweep_minutes, s, context) for s in options.seeds]
        values = harness.spread(found.get("bits_per_byte") for found in runs)
        tried.append(
            {"changes": changes, "bits_per_byte": values, "failed": [r["failed"] for r in runs if "failed" in r]}
        )
    ranked = sorted(tried, key=lambda row: row["bits_per_byte"]["median"] if row["bits_per_byte"] else math.inf)
    kept = json.loads(context.sweeps.read_text()) if context.sweeps.exists() else {}
    entry = {"best": ranked[0]["changes"], "minutes": options.sweep_minutes, "seeds": options.seeds, "tried": ranked}
    kept.setdefault(context.key, {})[tool] = entry
    context.sweeps.parent.mkdir(exist_ok=True)
    context.sweeps.write_text(json.dumps(kept, indent=1))
    rows = [[json.dumps(row["changes"]), harness.shown(row["bits_per_byte"], ".4f")] for row in ranked]
    print(harness.table(["changes", "bits per byte"], rows), f"\nwritten: {context.sweeps}")


def compare(runs: Runs, budgets: Sequence[float]) -> dict[str, Any]:
    """For each budget and peer: Groundup's seconds to the peer's last value, seed by seed, and the speed-up.

    Groundup's seconds are the least over its runs of all budgets with that seed: who wants that quality only would
    give it a short budget.
    """
    made: dict[str, Any] = {}
    for label, found in runs.items():
        for seconds in budgets:
            ends = [r for r in found if r["budget_seconds"] == seconds and "failed" not in r]
            if label == OURS or not ends:
                continue
            pairs = [(end, fastest(runs.get(OURS, []), end["bits_per_byte"], end["seed"])) for end in ends]
            peer = [end["curve"][-1] for end, _ in pairs]
            made.setdefault(f"{seconds / 60:g} min", {})[label] = {
                "target_bits_per_byte": harness.spread(point["bits_per_byte"] for point in peer),
                "peer_seconds": harness.spread(point["wall_seconds"] for point in peer),
                "groundup_seconds": harness.spread(ours["wall_seconds"] for _, ours in pairs),
                "speed_up": harness.ratios(
                    [point["wall_seconds"] for point in peer], [ours["wall_seconds"] for _, ours in pairs]
                ),
                "speed_up_without_start": harness.ratios(
                    [point["train_seconds"] for point in peer], [ours["train_seconds"] for _, ours in pairs]
                ),
            }
    return made


def fastest(runs: Iterable[Mapping[str, Any]], target: float, seed: int) -> dict[str, float | None]:
    """The least seconds to `target` over the runs of one seed, by either clock."""
    curves = [run["curve"] for run in runs if run["seed"] == seed and "failed" not in run]
    found = {}
    for clock in ("wall_seconds", "train_seconds"):
        reached = [seconds_to_reach(curve, target, clock) for curve in curves]
        found[clock] = min((seconds for seconds in reached if seconds is not None), default=None)
    return found


def measure(context: Context, budgets: Sequence[float], keep: Callable[[Runs], object]) -> Runs:
    """Every row at every budget, interleaved over the seeds; Groundup at its extra budgets as well.

    `keep` is called after each run, so that what took hours is not lost.
    """
    options = context.options
    labels = [label for label in SETTINGS if harness.wanted(label, options, context.folders)]
    extra = [60 * minutes for minutes in options.groundup_minutes]
    runs: Runs = {label: [] for label in labels}
    if options.reuse:
        runs.update((label, found) for label, found in earlier(context).items() if label not in runs)
    for seed, label in itertools.product(options.seeds, labels):
        settings, origin = context.settings(label)
        for seconds in sorted({*budgets, *extra}) if label == OURS else budgets:
            runs[label].append({**run(label, settings, seconds, seed, context), "settings_from": origin})
            keep(runs)
    return runs


def earlier(context: Context) -> Runs:
    """The runs of a results file, marked as reused. Raises SystemExit when it is of another corpus or size."""
    kept = json.loads(Path(context.options.reuse).read_text())
    if kept.get("key") != context.key:
        raise SystemExit(f"--reuse {context.options.reuse}: it is of {kept.get('key')}, this is {context.key}")
    tools = {"groundup": kept["groundup"], **kept["peers"]}
    return {
        f"{tool}: {setting}": [{**one, "reused": True} for one in found]
        for tool, settings in tools.items()
        for setting, found in settings.items()
    }


def show(runs: Runs, compared: Mapping[str, Any]) -> str:
    """Two tables: what each tool came to, and Groundup's speed-ups."""
    ends, leads = [], []
    for label, found in runs.items():
        for seconds in sorted({one["budget_seconds"] for one in found}):
            here = [one for one in found if one["budget_seconds"] == seconds]
            facts = harness.figures(here, ("bits_per_byte", "start_seconds", "tokens_per_second", "parameters"))
            cells = [
                ("bits_per_byte", ".4f"),
                ("start_seconds", ".1f"),
                ("tokens_per_second", ",.0f"),
                ("parameters", ",.0f"),
            ]
            failed = str(facts.get("failed", [""])[0])[:60] or str(facts["disturbed_runs"] or "")
            row = [f"{seconds / 60:g}", label, *(harness.shown(facts[name], form) for name, form in cells), failed]
            ends.append((seconds, row))
    for budget, peers in compared.items():
        for label, lead in peers.items():
            names = ("target_bits_per_byte", "peer_seconds", "groundup_seconds", "speed_up", "speed_up_without_start")
            forms = (".4f", ".0f", ".1f", ".1f", ".1f")
            leads.append([budget, label, *(harness.shown(lead[n], form) for n, form in zip(names, forms))])
    head = ["minutes", "row", "bits per byte", "start s", "tokens/s", "parameters", "disturbed or failed"]
    text = harness.table(head, [row for _, row in sorted(ends, key=lambda end: (end[0], end[1]))])
    lead_head = ["budget", "peer", "its bits per byte", "its seconds", "Groundup's seconds", "speed-up", "start apart"]
    return f"{text}\n\n{harness.table(lead_head, leads)}"


def minutes(text: str) -> list[float]:
    """`3,10,30` -> numbers."""
    return [float(word) for word in text.split(",") if word]


def seeds(text: str) -> list[int]:
    """`1,2,3` -> numbers."""
    return [int(word) for word in text.split(",")]


def add_data_options(parser: argparse.ArgumentParser, size: str) -> None:
    """The model's size and the text, as `Context` reads them."""
    parser.add_argument("--size", default=size, help="shape; tables are untied for all")
    parser.add_argument("--corpus", nargs="+", default=[str(harness.HERE.parent / "data" / "atlas" / "raw")])
    parser.add_argument("--heldout", type=float, default=0.03, help="part of the documents that is held out")
    parser.add_argument("--validation-rows", type=int, default=256, help="held-out rows of a validation")


def arguments() -> argparse.Namespace:
    """The command's options."""
    parser = harness.parser(__doc__)
    add_data_options(parser, size="5M-T256")
    parser.add_argument("--minutes", type=minutes, default=[3.0, 10.0, 30.0])
    parser.add_argument("--groundup-minutes", type=minutes, default=[], help="further budgets for Groundup alone")
    parser.add_argument("--seeds", type=seeds, default=[1, 2, 3])
    parser.add_argument("--points", type=int, default=16, help="validations of a run")
    parser.add_argument("--reuse", metavar="JSON", help="take the rows that are not run now from this results file")
    parser.add_argument("--sweep", choices=sorted(GRIDS), help="try this tool's grid instead")
    parser.add_argument("--sweep-minutes", type=float, default=1.0)
    parser.add_argument("--sweep-file", default=str(harness.RESULTS / "quality-sweep.json"))
    parser.add_argument("--grid", help="the grid as JSON, {setting: [values]}")
    return parser.parse_args()


def main() -> None:
    """Sweep, or run and compare."""
    options = arguments()
    context = Context(options)
    if options.sweep:
        sweep(options.sweep, context)
        return
    facts, budgets = harness.machine(options), [60 * minute for minute in options.minutes]
    name = options.name or "quality"

    def result(runs: Runs) -> dict[str, Any]:
        return {"machine": facts, "options": vars(options), **summary(runs, budgets, context)}

    runs = measure(context, budgets, lambda runs: harness.write(name, result(runs)))
    harness.save(name, result(runs), show(runs, compare(runs, budgets)))


def summary(runs: Runs, budgets: Sequence[float], context: Context) -> dict[str, Any]:
    """The contract of results/NAME.json; `ratio_to_best_peer` is the smallest median speed-up of all."""
    compared = compare(runs, budgets)
    leads = [lead["speed_up"]["median"] for rows in compared.values() for lead in rows.values() if lead["speed_up"]]
    rows = harness.by_tool(runs)
    return {
        "key": context.key,
        "corpus": context.facts,
        "groundup": rows.pop("groundup", {}),
        "peers": rows,
        "ratio_to_best_peer": min(leads, default=None),
        "speed_ups": compared,
    }


if __name__ == "__main__":
    main()
