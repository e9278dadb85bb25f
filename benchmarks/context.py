"""Context parallel on one machine: a step on one long row by one rank, and by ranks that share its positions.

    python -m benchmarks.context [--length 8192] [--ranks 2] [--steps 3] [--precision bf16|fp32]   (make bench-context)

Every setting runs in processes of its own with one thread each. Told are seconds a step (median), the seconds of all
cores together that a step takes, which other programs of the machine disturb less, and the highest memory that a rank
held resident while it trained, less what it held before its first step (weights, torch itself).
Writes benchmarks/results/context.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing
from benchmarks.rank_processes import run_apart, run_setting

from groundup.models import DecoderConfig
from groundup.optim import AdamWConfig
from groundup.parallel import ParallelConfig, Rank, join, leave
from groundup.tokens import Batch
from groundup.train.settings import ExecutionConfig, TrainingConfig
from groundup.train.state import build_state
from groundup.train.step import Objectives, train_step

RESULT = Path(__file__).resolve().parent / "results" / "context.json"
VOCAB_SIZE = 4096
SHAPE = {"num_layers": 4, "hidden_size": 256, "num_heads": 4, "num_kv_heads": 2, "ffn_size": 704}


def rank(number: int, world_size: int, port: int, setting: dict[str, Any], path: str) -> None:
    """Time the steps of one rank; the first writes the figures of all to `path`."""
    torch.set_num_threads(1)
    length = setting["length"]
    parallel = ParallelConfig(context=world_size, context_attention=setting["way"])
    mesh = join(parallel, Rank(number, world_size, number, "127.0.0.1", port), "cpu") if world_size > 1 else None
    training = TrainingConfig(
        tokens=10**9, global_batch_tokens=length, precision=setting["precision"], optimizer=AdamWConfig()
    )
    execution = ExecutionConfig(device="cpu", compile="off", kernels=setting["kernels"], parallel=parallel)
    model = DecoderConfig(context_length=length, **SHAPE)
    state = build_state(model, VOCAB_SIZE, training, execution, 1, device=torch.device("cpu"), mesh=mesh)
    tokens = torch.randint(0, VOCAB_SIZE, (1, length), generator=torch.Generator().manual_seed(1))
    documents = torch.arange(length, dtype=torch.int32) // (length // 4)
    places = torch.arange(length, dtype=torch.int32) % (length // 4)
    batch = Batch(tokens, tokens.roll(-1, 1), documents[None], places[None], torch.zeros(1, dtype=torch.int64))
    objectives, seconds, losses = Objectives(("text",), (0,), ("pretrain",), (1.0,)), [], []
    before, core_seconds = peak_bytes(), 0.0
    for step in range(1 + setting["steps"]):
        if step == 1:
            core_seconds = -time.process_time()
        started = time.perf_counter()
        losses.append(float(train_step(state, [batch], objectives, learning_rate_factor=0.1, max_grad_norm=1.0).loss))
        seconds.append(time.perf_counter() - started)
    grown = torch.tensor(float(peak_bytes() - before), dtype=torch.float64)
    of_all = torch.tensor(core_seconds + time.process_time(), dtype=torch.float64)
    if world_size > 1:
        torch.distributed.all_reduce(of_all)
        torch.distributed.all_reduce(grown, op=torch.distributed.ReduceOp.MAX)
    if number == 0:
        found = {
            "seconds": statistics.median(seconds[1:]),
            "core_seconds": float(of_all) / setting["steps"],
            "grown_megabytes": round(float(grown) / 1e6),
            "loss": losses,
        }
        Path(path).write_text(json.dumps(found), encoding="utf-8")
    leave()


def peak_bytes() -> int:
    """Highest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Run all settings in turn, print the figures and write them down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=8192)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="fp32")
    parser.add_argument("--kernels", choices=("auto", "off"), default="off")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_setting(rank, json.loads(options.child[0]), options.child[1])
        return
    shared = {key: getattr(options, key) for key in ("length", "steps", "precision", "kernels")}
    settings = {
        "1 rank": {"ranks": 1, "way": "auto"},
        f"{options.ranks} ranks, gather": {"ranks": options.ranks, "way": "gather"},
        f"{options.ranks} ranks, ring": {"ranks": options.ranks, "way": "ring"},
    }
    RESULT.parent.mkdir(exist_ok=True)
    found: dict[str, Any] = {}
    for name, setting in settings.items():
        told = found[name] = run_apart("benchmarks.context", {**shared, **setting})
        print(f"{name:<18} {told['seconds']:7.2f} s a step  {told['grown_megabytes']:6,} MB a rank", end="")
        print(f"  {told['core_seconds']:.2f} core seconds a step  loss {told['loss'][-1]:.5f}")
    report = {"machine": platform.processor() or platform.machine(), "model": SHAPE, **shared, "groundup": found}
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
