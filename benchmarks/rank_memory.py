"""Memory of a rank by the allocator's own events: what ranks share, and what recomputation spares, with its cost.

    python -m benchmarks.rank_memory [--ranks 1,2,4] [--optimizer muon|adamw] [--rows 8]      (make bench-rank-memory)

    ranks      parameters, gradients and optimizer state of one of 1, 2, 4 ranks (gloo, one thread each), sharded: FSDP
               promises that they fall as 1 over the ranks; and the most that a step holds at once
    recompute  the most that one process holds beyond parameters and optimizer state, and its core's seconds of a step,
               for each choice of runtime.recompute, by each way to compute

Marks: after `build_state` (parameters), before the optimizer's update and at the end of the second step. Every setting
runs in processes of its own; seconds are the median of steps that nobody watches, interleaved over the rounds. Writes
benchmarks/results/rank_memory.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing
from benchmarks.allocations import Allocations
from benchmarks.guard import MODEL, VOCAB_SIZE
from benchmarks.rank_processes import run_apart, run_setting
from benchmarks.ranks import RULES
from torch.optim.optimizer import register_optimizer_step_pre_hook

from groundup.parallel import ParallelConfig, Rank, join, leave
from groundup.tokens import Batch
from groundup.train.settings import ExecutionConfig, TrainingConfig
from groundup.train.state import TrainState, build_state
from groundup.train.step import Objectives, train_step

RESULT = Path(__file__).resolve().parent / "results" / "rank_memory.json"
OBJECTIVES = Objectives(("text",), (0,), ("pretrain",), (1.0,))
WARM_UP = 2
RECOMPUTED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "full": {"recompute": "full"},
    "selective": {"recompute": "selective"},
    "full, every 2nd block": {"recompute": "full", "recompute_every": 2},
    "selective, every 2nd block": {"recompute": "selective", "recompute_every": 2},
}
BUDGETS: dict[str, dict[str, Any]] = {f"budget {share}": {"recompute_budget": share} for share in (0.5, 0.0)}
WAYS: dict[str, dict[str, Any]] = {
    "kernels": {"kernels": "on"},
    "eager": {"kernels": "off", "compile": "off"},
    "compiled": {"kernels": "off", "compile": "on"},
}


def state_of(setting: dict[str, Any], mesh: Any) -> TrainState:
    """The benchmark's model with this setting."""
    training = TrainingConfig(
        tokens=10**9,
        global_batch_tokens=setting["rows"] * MODEL.context_length,
        precision=setting["precision"],
        optimizer=RULES[setting["optimizer"]],
    )
    execution = ExecutionConfig(device="cpu", **setting["runtime"])
    return build_state(MODEL, VOCAB_SIZE, training, execution, 1, device=torch.device("cpu"), mesh=mesh)


def batch_of(rows: int, number: int, ranks: int) -> Batch:
    """This rank's rows of random tokens."""
    context, mine = MODEL.context_length, rows // ranks
    tokens = torch.randint(0, VOCAB_SIZE, (rows, context), generator=torch.Generator().manual_seed(1))
    tokens = tokens[number * mine : (number + 1) * mine]
    positions = torch.arange(context, dtype=torch.int32).expand(mine, context).contiguous()
    segments, sources = torch.zeros(mine, context, dtype=torch.int32), torch.zeros(mine, dtype=torch.int64)
    return Batch(tokens, tokens.roll(-1, 1), segments, positions, sources)


def step(state: TrainState, batch: Batch) -> float:
    """One step; the seconds of its core, which other programs disturb less than those of the clock."""
    started = time.process_time()
    float(train_step(state, [batch], OBJECTIVES, learning_rate_factor=0.1, max_grad_norm=1.0).loss)
    return time.process_time() - started


def rank(number: int, world_size: int, port: int, setting: dict[str, Any], folder: str) -> None:
    """Watch the building of one rank's state and two steps of it; the first rank writes what it held."""
    torch.set_num_threads(setting["threads"])
    place = Rank(number, world_size, number, "127.0.0.1", port)
    mesh = join(ParallelConfig(), place, "cpu") if world_size > 1 else None
    batch = batch_of(setting["rows"], number, world_size)
    with Allocations() as seen:
        state = state_of(setting, mesh)
        seen.mark("built")
        step(state, batch)  # the optimizer makes its state
        seen.mark("begins")
        marked = register_optimizer_step_pre_hook(lambda *_: seen.mark("update"))
        step(state, batch)
        marked.remove()
        seen.mark("done")
    seconds = [step(state, batch) for _ in range(setting["timed"] and WARM_UP + setting["timed"])][WARM_UP:]
    parameters, kept = seen.held("built"), seen.held("done")
    found = {
        "parameters": parameters,
        "optimizer_state": kept - parameters,
        "gradients": seen.held("update") - kept,
        "together": seen.held("update"),
        "unclaimed": seen.unclaimed("update"),
        "most_at_once": seen.peak("begins"),
        "beyond_state": seen.peak("begins") - kept,
    }
    if seconds:
        found["core_seconds_per_step"] = statistics.median(seconds)
    if number == 0:
        Path(folder).write_text(json.dumps(found), encoding="utf-8")
    leave()


def measured(setting: dict[str, Any]) -> dict[str, float]:
    """What one setting's first rank held."""
    RESULT.parent.mkdir(exist_ok=True)
    return run_apart("benchmarks.rank_memory", setting)


def main() -> None:
    """Measure both tables, print them and write them down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", default="1,2,4")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5, help="steps that are timed, for recomputation")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--optimizer", choices=tuple(RULES), default="adamw")
    parser.add_argument("--ways", default="kernels,eager,compiled", help="for recomputation; empty: none")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_setting(rank, json.loads(options.child[0]), options.child[1])
        return
    shared = {key: getattr(options, key) for key in ("rows", "precision", "optimizer")}
    counts = [int(word) for word in options.ranks.split(",") if word]
    report: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "model": "10M", **shared}
    plain = {**shared, "threads": 1, "timed": 0, "runtime": {"compile": "off"}}
    by_ranks = {str(count): measured({**plain, "ranks": count}) for count in counts}
    by_way = {}
    for way in filter(None, options.ways.split(",")):
        choices = {**RECOMPUTED, **(BUDGETS if way == "compiled" else {})}
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in choices}
        for _ in range(options.rounds):
            for name, runtime in choices.items():
                found = {"ranks": 1, "threads": 1, "timed": options.steps, "runtime": {**WAYS[way], **runtime}}
                runs[name].append(measured({**shared, **found}))
        by_way[way] = {name: _median(found) for name, found in runs.items()}
    report["groundup"] = {"ranks": by_ranks, "recompute": by_way}
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print("\n".join(_table_of_ranks(by_ranks) + _table_of_choices(by_way)))


def _median(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def _table_of_ranks(by_ranks: dict[str, dict[str, float]]) -> list[str]:
    names = ("parameters", "gradients", "optimizer_state", "together", "most_at_once")
    lines = [f"| ranks | {' | '.join(names)} | together x ranks / one |", "| --- " * (len(names) + 2) + "|"]
    for count, found in by_ranks.items():
        cells = " | ".join(f"{found[name] / 1e6:.2f} MB" for name in names)
        share = found["together"] * int(count) / by_ranks["1"]["together"] if "1" in by_ranks else float("nan")
        lines.append(f"| {count} | {cells} | {share:.3f} |")
    return lines


def _table_of_choices(by_way: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    lines = [
        "",
        "| way | recomputed | beyond state | of nothing's | core seconds a step | of nothing's |",
        "| --- " * 6 + "|",
    ]
    for way, choices in by_way.items():
        base = choices["nothing"]
        for name, found in choices.items():
            memory, seconds = found["beyond_state"], found["core_seconds_per_step"]
            shares = (
                f"{memory / base['beyond_state']:.2f} | {seconds:.2f} | {seconds / base['core_seconds_per_step']:.2f}"
            )
            lines.append(f"| {way} | {name} | {memory / 1e6:.1f} MB | {shares} |")
    return lines


if __name__ == "__main__":
    main()
