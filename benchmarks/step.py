"""Tokens per second of a recipe's training step: eager and compiled, with libgomp's way of waiting and with ours.

    python benchmarks/step.py [RECIPE] [--steps 20] [--rounds 3]      (make bench-step)

Every setting runs in a process of its own, interleaved over the rounds; random tokens in documents of random length
stand for text, since the speed does not depend on what is said. Writes benchmarks/results/step.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SETTINGS = {
    "eager, libgomp's waiting": ("off", {}),
    "eager": ("off", {"GOMP_SPINCOUNT": "10000"}),
    "compiled, libgomp's waiting": ("on", {}),
    "compiled": ("on", {"GOMP_SPINCOUNT": "10000"}),
}


def measure(recipe_path: str, compile_blocks: str, steps: int) -> dict[str, float]:
    """Median seconds a step (after three to warm up) and the seconds of the first, in this process."""
    import numpy as np
    import torch

    import groundup
    from groundup.tokens import Batch
    from groundup.train.state import build_state
    from groundup.train.step import Objectives, train_step
    from groundup.train.way import configure_threads

    recipe = groundup.load_recipe(recipe_path, [f"runtime.compile={compile_blocks}"])
    configure_threads(recipe.runtime)
    vocab_size, time_ = recipe.tokenizer.vocab_size, recipe.model.context_length
    rows = recipe.pretrain.global_batch_tokens // time_
    state = build_state(
        recipe.model, vocab_size, recipe.pretrain, recipe.runtime, recipe.seed, device=torch.device("cpu")
    )
    random = np.random.default_rng(1)
    tokens = torch.from_numpy(random.integers(0, vocab_size, (rows, time_)))
    starts = random.random((rows, time_)) < 0.01
    segments = torch.from_numpy(starts.cumsum(axis=1).astype(np.int32))
    positions = torch.arange(time_, dtype=torch.int32).expand(rows, time_).contiguous()
    batch = Batch(tokens, tokens.roll(-1, 1), segments, positions, torch.zeros(rows, dtype=torch.int64))
    objectives = Objectives(("text",), (0,), ("pretrain",), (1.0,))
    seconds = []
    for _ in range(steps + 3):
        started = time.perf_counter()
        train_step(state, [batch], objectives, learning_rate_factor=1.0, max_grad_norm=1.0)
        seconds.append(time.perf_counter() - started)
    step = statistics.median(seconds[3:])
    return {"step_seconds": step, "tokens_per_second": rows * time_ / step, "first_step_seconds": seconds[0]}


def main() -> None:
    """Run all settings in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default=str(HERE.parent / "recipes" / "atlas.yaml"))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", choices=("on", "off"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.recipe, options.child, options.steps)))
        return
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SETTINGS}
    for _ in range(options.rounds):
        for name, (compile_blocks, environment) in SETTINGS.items():
            command = [
                sys.executable,
                __file__,
                options.recipe,
                "--steps",
                str(options.steps),
                "--child",
                compile_blocks,
            ]
            done = subprocess.run(
                command, env={**os.environ, **environment}, check=True, capture_output=True, text=True
            )
            found[name].append(json.loads(done.stdout))
    results = {name: summary(runs) for name, runs in found.items()}
    target = HERE / "results" / "step.json"
    target.parent.mkdir(exist_ok=True)
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    target.write_text(
        json.dumps({"machine": machine, "recipe": Path(options.recipe).name, "groundup": results}, indent=1)
    )
    for name, result in results.items():
        spread = f"{result['slowest']:,.0f} to {result['fastest']:,.0f}"
        print(
            f"{name:<30} {result['median']:8,.0f} tokens/s ({spread}), first step {result['first_step_seconds']:.1f} s"
        )


def summary(runs: list[dict[str, float]]) -> dict[str, float]:
    """Median, slowest and fastest tokens per second of the rounds."""
    rates = [run["tokens_per_second"] for run in runs]
    first = statistics.median(run["first_step_seconds"] for run in runs)
    return {
        "median": statistics.median(rates),
        "slowest": min(rates),
        "fastest": max(rates),
        "first_step_seconds": first,
    }


if __name__ == "__main__":
    main()
