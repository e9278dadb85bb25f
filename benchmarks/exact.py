"""What `runtime.exact` costs: the same step in its fixed order of sums and as usual, by one rank and by several.

    python -m benchmarks.exact [--ranks 2] [--rounds 3] [--rows 16] [--precision bf16|fp32] [--optimizer muon|adamw]

Every rank has one thread; every setting runs in processes of its own, interleaved over the rounds. Usual is once what
a run takes by itself (own kernels where they serve, micro-batches of 8,192 tokens), and once operator by operator with
the micro-batches of `exact`, so that what is left is the price of the order alone. The figures are ratios of exact's
seconds a step to those of each way, by the clock and by the cores' own time, which other programs disturb less. `bits`
are of the weights at the end: exact has the same whatever the ranks. Writes benchmarks/results/exact.json.
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
from benchmarks.guard import MODEL, VOCAB_SIZE
from benchmarks.rank_processes import run_apart, run_setting
from benchmarks.ranks import RULES

from groundup.parallel import ParallelConfig, Rank, join, leave, shard
from groundup.parallel.digest import digest
from groundup.tokens import Batch
from groundup.train.layout import rows_per_micro_batch
from groundup.train.settings import ExecutionConfig, TrainingConfig
from groundup.train.state import build_state
from groundup.train.step import Objectives, train_step
from groundup.train.way import configure_threads

RESULT = Path(__file__).resolve().parent / "results" / "exact.json"
WARM_UP = 1
COPIES = ParallelConfig(shard=1)


def rank(number: int, world_size: int, port: int, setting: dict[str, Any], path: str) -> None:
    """Time the steps of one rank; the first writes them to `path`."""
    execution = ExecutionConfig(device="cpu", compile="off", threads=1, parallel=COPIES, **setting["execution"])
    configure_threads(execution)
    mesh = join(COPIES, Rank(number, world_size, number, "127.0.0.1", port), "cpu") if world_size > 1 else None
    context, rows = MODEL.context_length, setting["rows"]
    training = TrainingConfig(
        tokens=10**9,
        global_batch_tokens=rows * context,
        precision=setting["precision"],
        optimizer=RULES[setting["optimizer"]],
    )
    state = build_state(MODEL, VOCAB_SIZE, training, execution, 1, device=torch.device("cpu"), mesh=mesh)
    batches = micro_batches(number, world_size, rows, execution)
    objectives = Objectives(("text",), (0,), ("pretrain",), (1.0,))
    seconds, core_seconds = [], 0.0
    for step in range(WARM_UP + setting["steps"]):
        if step == WARM_UP:
            core_seconds = -time.process_time()
        started = time.perf_counter()
        float(train_step(state, batches, objectives, learning_rate_factor=0.1, max_grad_norm=1.0).loss)
        seconds.append(time.perf_counter() - started)
    of_all = torch.tensor(core_seconds + time.process_time(), dtype=torch.float64)
    if world_size > 1:
        torch.distributed.all_reduce(of_all)
    started = time.perf_counter()
    digests = [int(digest(shard.local_tensor(p))) for p in state.model.parameters()]
    found = {
        "seconds_per_step": statistics.median(seconds[WARM_UP:]),
        "core_seconds_per_step": float(of_all) / setting["steps"],
        "digest_seconds": time.perf_counter() - started,
        "digest": f"{sum(digests) % 2**64:016x}",
        "micro_batches": len(batches),
    }
    if number == 0:
        Path(path).write_text(json.dumps(found), encoding="utf-8")
    leave()


def micro_batches(number: int, world_size: int, rows: int, execution: ExecutionConfig) -> list[Batch]:
    """This rank's rows of random tokens."""
    context, mine = MODEL.context_length, rows // world_size
    size = rows_per_micro_batch(execution, context, mine, world_size)
    tokens = torch.randint(0, VOCAB_SIZE, (rows, context), generator=torch.Generator().manual_seed(1))
    positions = torch.arange(context, dtype=torch.int32).expand(size, context).contiguous()
    segments, sources = torch.zeros(size, context, dtype=torch.int32), torch.zeros(size, dtype=torch.int64)
    parts = tokens[number * mine : (number + 1) * mine].split(size)
    return [Batch(part, part.roll(-1, 1), segments, positions, sources) for part in parts]


def main() -> None:
    """Run all settings in turn, print the ratios and write them down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--optimizer", choices=tuple(RULES), default="muon")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_setting(rank, json.loads(options.child[0]), options.child[1])
        return
    shared = {key: getattr(options, key) for key in ("steps", "rows", "precision", "optimizer")}
    exact = ExecutionConfig(exact=True, parallel=COPIES)
    same_rows = rows_per_micro_batch(exact, MODEL.context_length, options.rows)
    ways: dict[str, dict[str, Any]] = {
        "exact": {"exact": True},
        "eager, same micro-batches": {"kernels": "off", "micro_batch_rows": same_rows},
        "usual": {},
    }
    settings = {
        f"{ranks} rank{'s' if ranks > 1 else ''}, {way}": {"ranks": ranks, "execution": changes}
        for ranks in (1, options.ranks)
        for way, changes in ways.items()
    }
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in settings}
    RESULT.parent.mkdir(exist_ok=True)
    for _ in range(options.rounds):
        for name, setting in settings.items():
            found[name].append(run_apart("benchmarks.exact", {**shared, **setting}))
    report: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "model": "10M", **shared}
    report["groundup"] = {
        name: _summary(runs, found[f"{name.partition(',')[0]}, exact"]) for name, runs in found.items()
    }
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for name, figures in report["groundup"].items():
        spread = f"{min(figures['ratios']):.2f}-{max(figures['ratios']):.2f}"
        print(f"{name:<36} {figures['seconds_per_step']:7.3f} s a step, exact takes {figures['ratio']:.2f}", end=" ")
        print(f"({spread}) of it, of core seconds {figures['core_ratio']:.2f};", end=" ")
        print(f"{figures['micro_batches']} micro-batches, bits {', '.join(figures['digests'])}")


def _summary(runs: list[dict[str, Any]], exact: list[dict[str, Any]]) -> dict[str, Any]:
    ratios, core_ratios = (
        [round(base[key] / run[key], 3) for run, base in zip(runs, exact)]
        for key in ("seconds_per_step", "core_seconds_per_step")
    )
    return {
        "seconds_per_step": round(statistics.median(run["seconds_per_step"] for run in runs), 4),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "core_seconds_per_step": round(statistics.median(run["core_seconds_per_step"] for run in runs), 4),
        "core_ratio": statistics.median(core_ratios),
        "core_ratios": core_ratios,
        "digest_seconds": round(statistics.median(run["digest_seconds"] for run in runs), 4),
        "digests": sorted({run["digest"] for run in runs}),
        "micro_batches": runs[0]["micro_batches"],
    }


if __name__ == "__main__":
    main()
