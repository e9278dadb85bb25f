"""Training speed and memory of Groundup and its peers on the same shapes, side by side.

    python -m benchmarks.throughput [--sizes 10M,30M] [--rounds 3] [--peer nanogpt=FOLDER] [--peer nanochat=FOLDER]
    python -m benchmarks.throughput --memory ...         (make bench-throughput, make bench-memory)

Each (tool, setting) runs once a round in a process of its own. The first round compiles from nothing, later ones find
the compile cache. AdamW for all; Groundup's and nanochat's Muon are rows of their own and not in the ratios.
Writes benchmarks/results/throughput.json or memory.json.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.sizes import FORM, Size, parse_size

from benchmarks import harness

OURS, MUON, RECOMPUTE = "groundup: adamw", "groundup: muon", "groundup: adamw, recompute"
RECOMPUTED: dict[str, dict[str, Any]] = {
    RECOMPUTE: {"recompute": True},
    f"{RECOMPUTE} selective": {"recompute": "selective"},
    f"{RECOMPUTE} every 2nd block": {"recompute": "full", "recompute_every": 2},
}
"""Rows of --memory only."""
TRAINER_DEFAULT = "transformers: fp32 eager"
MUON_PEER = "nanochat: bf16 compile, muon"
FUSED_BF16 = {"bf16": True, "compile": True, "fused": True}
SETTINGS: dict[str, dict[str, Any]] = {
    OURS: {"optimizer": "adamw"},
    MUON: {"optimizer": "muon"},
    TRAINER_DEFAULT: {},
    "transformers: bf16 eager": {"bf16": True},
    "transformers: bf16 compile": {"bf16": True, "compile": True},
    "litgpt: bf16 compile": FUSED_BF16,
    "nanogpt: bf16 compile": FUSED_BF16,
    "nanochat: bf16 compile": {"optimizer": "adamw"},
    MUON_PEER: {},
    **{label: {"optimizer": "adamw", "runtime": runtime} for label, runtime in RECOMPUTED.items()},
}
FIGURES = (
    "tokens_per_second",
    "mfu",
    "start_seconds",
    "first_step_seconds",
    "peak_memory_bytes",
    "steady_memory_bytes",
)
Runs = dict[str, list[dict[str, Any]]]


def measure(size: Size, labels: Sequence[str], options: argparse.Namespace, folders: Mapping[str, str]) -> Runs:
    """All runs of one size: rounds of every row, each with the machine's peak measured beside it."""
    runs: Runs = {label: [] for label in ["gemm", *labels]}
    job = {
        "task": "throughput",
        "size": size.as_dict(),
        "batch_tokens": options.batch_tokens,
        "steps": options.steps,
        "warmup": options.warmup,
    }
    with tempfile.TemporaryDirectory() as caches:
        for round_, label in itertools.product(range(options.rounds), runs):
            tool = label.partition(":")[0]
            full = {**job, "seed": options.seed + round_, "settings": SETTINGS.get(label, {})}
            cache = Path(caches) / label.replace(":", "").replace(" ", "-")
            found = harness.run_job(tool, full, cache, options, folders)
            runs[label].append({**found, "cold": round_ == 0})
            rate = found.get("tokens_per_second", found.get("peak_flops"))
            print(f"{size.word} round {round_ + 1} {label}: {found.get('failed') or f'{rate:,.4g}'}", file=sys.stderr)
    return runs


def add_utilisation(runs: Runs, size: Size) -> None:
    """MFU of every run: its FLOPs per second over the best peak of all rounds."""
    peak = max(run["peak_flops"] for run in runs["gemm"])
    for run in itertools.chain(*(found for label, found in runs.items() if label != "gemm")):
        if "failed" not in run:
            flops = 6 * run["matmul_parameters"] + size.attention_flops_per_token()
            run["mfu"] = run["tokens_per_second"] * flops / peak


def column(runs: Runs, label: str, name: str) -> list[float | None]:
    """One figure of one row, round by round; None where a run failed."""
    return [run.get(name) for run in runs.get(label, [])]


def compare(runs: Runs, figure: str) -> dict[str, Any]:
    """Ratios of one figure, each above 1 where Groundup is ahead: to the best peer and to every peer's row.

    The best peer is that of all settings with AdamW: the fastest, or for memory the leanest.
    """
    memory = figure != "tokens_per_second"
    peers = [label for label in runs if label not in (OURS, MUON, *RECOMPUTED, MUON_PEER, "gemm")]
    medians = {label: found["median"] for label in peers if (found := harness.spread(column(runs, label, figure)))}
    pick = min if memory else max

    def ratio(ours: str, theirs: str) -> dict[str, Any] | None:
        pair = column(runs, ours, figure), column(runs, theirs, figure)
        return harness.ratios(*(reversed(pair) if memory else pair))

    best = pick(medians, key=lambda label: medians[label]) if medians else None
    return {
        "best_peer": best,
        "to_best_peer": ratio(OURS, best) if best else None,
        "to_each_peer": {label: ratio(OURS, label) for label in peers},
        "muon_to_nanochat_muon": ratio(MUON, MUON_PEER),
        "recompute_to_plain": {label: ratio(label, OURS) for label in RECOMPUTED},
    }


def show(size: Size, runs: Runs, figure: str) -> str:
    """The table of one size."""
    compared = compare(runs, figure)
    rows = []
    for label in [label for label in runs if label != "gemm"]:
        found = harness.figures(runs[label], FIGURES)
        cold = [run for run in runs[label] if run["cold"]]
        ratio = compared["to_each_peer"].get(label)
        rows.append(
            [
                label + (" (failed: " + found["failed"][0][:60] + ")" if "failed" in found else ""),
                harness.shown(found["tokens_per_second"]),
                harness.shown(found["mfu"], ".2f"),
                harness.shown(found["peak_memory_bytes"], ",.0f", 1e-6),
                harness.shown(harness.spread(run.get("start_seconds") for run in cold), ".1f"),
                harness.shown(ratio, ".2f"),
                str(found["disturbed_runs"] or ""),
            ]
        )
    head = ["row", "tokens/s", "MFU", "peak MB", "cold start s", f"Groundup's lead ({figure})", "disturbed"]
    peak = max(run["peak_flops"] for run in runs["gemm"]) / 1e9
    lead = f"best peer: {compared['best_peer']}, lead {harness.shown(compared['to_best_peer'], '.2f')}"
    return f"## {size.word}: peak {peak:,.0f} GFLOPS\n\n{harness.table(head, rows)}\n\n{lead}"


def main() -> None:
    """Run all sizes, write the JSON, print the tables."""
    parser = harness.parser(__doc__)
    parser.add_argument("--sizes", default="10M,30M", help=f"presets, changed presets (10M-V32768-T1024), {FORM}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="steps that are timed, after --warmup ones")
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--batch-tokens", type=int, default=8192)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--memory", action="store_true", help="compare peak memory, with recomputation as well")
    options = parser.parse_args()
    folders = harness.peer_folders(options)
    rows = [label for label in SETTINGS if label not in RECOMPUTED or options.memory]
    labels = [label for label in rows if harness.wanted(label, options, folders)]
    sizes = [parse_size(word) for word in options.sizes.split(",")]
    facts = harness.machine(options)
    figure = "peak_memory_bytes" if options.memory else "tokens_per_second"
    name = options.name or ("memory" if options.memory else "throughput")
    runs: dict[str, Runs] = {}
    for size in sizes:
        runs[size.word] = measure(size, labels, options, folders)
        add_utilisation(runs[size.word], size)
        made = {"machine": facts, "options": vars(options), **result(runs, figure)}
        harness.write(name, made)
    harness.save(name, made, "\n\n".join(show(size, runs[size.word], figure) for size in sizes))


def result(runs: Mapping[str, Runs], figure: str) -> dict[str, Any]:
    """The contract of results/NAME.json; `ratio_to_best_peer` is the smallest of all sizes' medians."""
    compared = {word: compare(of_size, figure) for word, of_size in runs.items()}
    leads = [found["to_best_peer"]["median"] for found in compared.values() if found["to_best_peer"]]
    rows: dict[str, dict[str, Any]] = {}
    for word, of_size in runs.items():
        labels = [label for label in of_size if label != "gemm"]
        tools = harness.by_tool({label: harness.figures(of_size[label], FIGURES) for label in labels})
        for tool, settings in tools.items():
            rows.setdefault(tool, {})[word] = settings
    return {
        "groundup": rows.pop("groundup", {}),
        "peers": rows,
        "ratio_to_best_peer": min(leads, default=None),
        "ratios": compared,
        "peak_flops": {word: harness.spread(column(of_size, "gemm", "peak_flops")) for word, of_size in runs.items()},
        "runs": runs,
    }


if __name__ == "__main__":
    main()
