"""Strong scaling on one machine: the same step by one process with all threads, and by as many ranks with one each.

    python -m benchmarks.ranks [--ranks 2] [--rounds 3] [--rows 16] [--optimizer muon|adamw]      (make bench-ranks)

Every setting runs in processes of its own, interleaved over the rounds. The figure is the ratio of the ranks' tokens
per second to those of the one process; 1 would be no loss by ranks. Beside it the seconds of all cores together that a
step takes, which other programs of the machine disturb less, and the bytes of weights, gradients and optimizer state
that one rank holds, counted from the tensors. Writes benchmarks/results/ranks.json.
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

from groundup.optim import AdamWConfig, MuonConfig, flat_state
from groundup.parallel import ParallelConfig, Rank, join, leave, shard
from groundup.tokens import Batch
from groundup.train.settings import ExecutionConfig, TrainingConfig
from groundup.train.state import build_state
from groundup.train.step import Objectives, train_step

RESULT = Path(__file__).resolve().parent / "results" / "ranks.json"
WARM_UP = 3
RULES = {"muon": MuonConfig(), "adamw": AdamWConfig()}


def rank(number: int, world_size: int, port: int, setting: dict[str, Any], folder: str) -> None:
    """Time the steps of one rank; the first writes them to `folder`."""
    torch.set_num_threads(setting["threads"])
    place = Rank(number, world_size, number, "127.0.0.1", port)
    mesh = join(ParallelConfig(shard=setting["shard"]), place, "cpu") if world_size > 1 else None
    context, rows = MODEL.context_length, setting["rows"]
    training = TrainingConfig(
        tokens=10**9,
        global_batch_tokens=rows * context,
        precision=setting["precision"],
        optimizer=RULES[setting["optimizer"]],
    )
    execution = ExecutionConfig(device="cpu", compile="off")
    state = build_state(MODEL, VOCAB_SIZE, training, execution, 1, device=torch.device("cpu"), mesh=mesh)
    objectives = Objectives(("text",), (0,), ("pretrain",), (1.0,))
    mine = rows // world_size
    tokens = torch.randint(0, VOCAB_SIZE, (rows, context), generator=torch.Generator().manual_seed(1))
    tokens = tokens[number * mine : (number + 1) * mine]
    positions = torch.arange(context, dtype=torch.int32).expand(mine, context).contiguous()
    segments, sources = torch.zeros(mine, context, dtype=torch.int32), torch.zeros(mine, dtype=torch.int64)
    batch = Batch(tokens, tokens.roll(-1, 1), segments, positions, sources)
    seconds, core_seconds = [], 0.0
    for step in range(WARM_UP + setting["steps"]):
        if step == WARM_UP:
            core_seconds = -time.process_time()
        started = time.perf_counter()
        float(train_step(state, [batch], objectives, learning_rate_factor=0.1, max_grad_norm=1.0).loss)
        seconds.append(time.perf_counter() - started)
    of_all = torch.tensor(core_seconds + time.process_time(), dtype=torch.float64)
    if world_size > 1:
        torch.distributed.all_reduce(of_all)
    held = [shard.local_tensor(p.detach()) for p in state.model.parameters()]
    moved = [shard.local_tensor(value) for value in flat_state(state.optimizer).values()]
    found = {
        "tokens_per_second": rows * context / statistics.median(seconds[WARM_UP:]),
        "core_seconds_per_step": float(of_all) / setting["steps"],
        "state_bytes_per_rank": sum(2 * t.numel() * t.element_size() for t in held) + sum(t.nbytes for t in moved),
    }
    if number == 0:
        Path(folder).write_text(json.dumps(found), encoding="utf-8")
    leave()


def main() -> None:
    """Run all settings in turn, print the ratios and write them down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--optimizer", choices=tuple(RULES), default="muon")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_setting(rank, json.loads(options.child[0]), options.child[1])
        return
    shared = {key: getattr(options, key) for key in ("steps", "rows", "precision", "optimizer")}
    one = f"1 process x {options.ranks} threads"
    settings = {
        one: {"ranks": 1, "threads": options.ranks, "shard": 0},
        f"{options.ranks} ranks x 1 thread, sharded": {"ranks": options.ranks, "threads": 1, "shard": 0},
        f"{options.ranks} ranks x 1 thread, copies": {"ranks": options.ranks, "threads": 1, "shard": 1},
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in settings}
    RESULT.parent.mkdir(exist_ok=True)
    for _ in range(options.rounds):
        for name, setting in settings.items():
            found[name].append(run_apart("benchmarks.ranks", {**shared, **setting}))
    report: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "model": "10M", **shared}
    report["groundup"] = {name: _summary(runs, found[one]) for name, runs in found.items()}
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for name, figures in report["groundup"].items():
        spread = f"{min(figures['ratios']):.2f}-{max(figures['ratios']):.2f}"
        speed, held = figures["tokens_per_second"], figures["state_bytes_per_rank"] / 1e6
        print(f"{name:<34} {speed:9,.0f} tokens/s  ratio {figures['ratio']:.2f} ({spread})", end="")
        print(f"  {figures['core_seconds_per_step']:.3f} core seconds a step  {held:.1f} MB of state a rank")


def _summary(runs: list[dict[str, float]], one: list[dict[str, float]]) -> dict[str, Any]:
    speeds = [run["tokens_per_second"] for run in runs]
    ratios = [round(speed / base["tokens_per_second"], 3) for speed, base in zip(speeds, one)]
    return {
        "tokens_per_second": round(statistics.median(speeds)),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "core_seconds_per_step": round(statistics.median(run["core_seconds_per_step"] for run in runs), 4),
        "state_bytes_per_rank": runs[0]["state_bytes_per_rank"],
    }


if __name__ == "__main__":
    main()
