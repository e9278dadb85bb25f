"""Two ranks as torchrun starts them, forked: one lost (G10), one that hangs (G11), other numbers of them (G12)."""

from __future__ import annotations

import random
import signal
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.reliability.runs import STEPS, Run, write_recipe
from benchmarks.reliability.tiers import Tier

TIMEOUT_SECONDS = 6.0
STOP_SECONDS = 30.0


def lost(tier: Tier, folder: Path) -> dict[str, Any]:
    """SIGKILL of one of two ranks at a random moment: seconds until the other has ended; the same command goes on."""
    recipe, chance = write_recipe(folder), random.Random(10)
    whole = Run(recipe, folder / "whole")
    whole.finish_ranks(2)
    run = Run(recipe, folder / "killed")
    seconds, codes = [], set()
    while len(seconds) < tier.lost:
        if "pretrain" in run.stages():
            run = Run(recipe, folder / f"killed-{len(seconds)}")
        ranks = run.ranks(2, "slow_step=20")
        run.wait_for(ranks[0], run.step() + 1)
        time.sleep(chance.uniform(0, 0.3))
        victim = chance.randrange(2)
        ranks[victim].kill()
        began = time.monotonic()
        codes.add(ranks[1 - victim].wait(STOP_SECONDS))
        seconds.append(time.monotonic() - began)
    run.finish_ranks(2)
    equal = run.hashes() == whole.hashes()
    found = {"lost": len(seconds), "codes_of_the_other": sorted(codes), "longest_seconds": round(max(seconds), 2)}
    return {**found, "bit_identical": equal, "ok": equal and codes <= {0, 6} and max(seconds) <= STOP_SECONDS}


def hang(tier: Tier, folder: Path) -> dict[str, Any]:
    """A rank that stops in a step: seconds until all have ended, who is named, with stacks; and one that is paused."""
    timeouts = {f"{name}_timeout_seconds": TIMEOUT_SECONDS for name in ("step", "checkpoint", "validation")}
    recipe = write_recipe(folder, runtime=timeouts)
    seconds, named, stacks = [], 0, 0
    whole = Run(recipe, folder / "whole")
    whole.finish_ranks(2)
    run = Run(recipe, folder / "hung")
    for number in range(tier.hangs):
        step = max(run.step(), 1) + 2
        if step >= STEPS:
            run = Run(recipe, folder / f"hung-{number}")
            step = 3
        who = number % 2
        ranks = run.ranks(2, f"hang@{step}:rank{who}")
        run.wait_for(ranks[0], step - 1)
        began = time.monotonic()
        codes = {child.wait(TIMEOUT_SECONDS + STOP_SECONDS) for child in ranks}
        seconds.append(time.monotonic() - began)
        said = "".join(child.errors() for child in ranks)
        named += f"rank {who} on" in said and f"step of step {step} hangs" in said
        stacks += "before_step" in said and (run.folder / f"stacks-rank-{who}.txt").exists()
        assert codes <= {6}, codes
    run.finish_ranks(2)
    longest, equal = max(seconds), run.hashes() == whole.hashes()
    found = {"hangs": len(seconds), "named": named, "with_stacks": stacks, "longest_seconds": round(longest, 2)}
    good = equal and named == stacks == len(seconds) and longest <= TIMEOUT_SECONDS + 10
    return {**found, "bit_identical": equal, "paused": _paused(recipe, folder), "ok": good}


def _paused(recipe: Path, folder: Path) -> dict[str, Any]:
    """A rank under SIGSTOP: nothing in it can say so; the other must end, and what does it name?"""
    run = Run(recipe, folder / "paused")
    ranks = run.ranks(2, "slow_step=20")
    run.wait_for(ranks[0], 5)
    ranks[1].kill(signal.SIGSTOP)
    began = time.monotonic()
    code = ranks[0].wait(TIMEOUT_SECONDS + STOP_SECONDS)
    seconds = time.monotonic() - began
    ranks[1].kill()
    return {"code": code, "seconds": round(seconds, 2), "names_the_paused_one": "rank 1" in ranks[0].errors()}


LAYOUTS = (
    ((1, 0), (2, 0), (1, 0)),
    ((2, 0), (1, 0), (2, 0)),
    ((1, 0), (2, 1), (1, 0)),
    ((2, 0), (2, 1), (1, 0)),
    ((1, 0), (4, 2), (2, 0)),
)
"""(ranks, of which so many share a copy) from one third of the steps to the next."""


def layouts(tier: Tier, folder: Path) -> dict[str, Any]:
    """Other ranks between attempts: the same samples in the same order, losses within 1e-4."""
    recipe = write_recipe(folder, pretrain={"optimizer": {"kind": "adamw", "learning_rate": 0.01}})
    whole = Run(recipe, folder / "whole")
    whole.finish()
    expected = whole.lines()
    worst, same = [], True
    for number, layout in enumerate(LAYOUTS[: tier.layouts]):
        run = Run(recipe, folder / f"layout-{number}")
        for part, (ranks, shard) in enumerate(layout):
            words = (f"runtime.parallel.shard={shard}",)
            if part < 2:
                run.stopped_at((part + 1) * STEPS // 3, "pretrain", ranks, *words)
            else:
                run.finish_ranks(ranks, None, *words)
        lines = run.lines()
        same = same and [line["sample_ids_hash"] for line in lines] == [line["sample_ids_hash"] for line in expected]
        worst.append(max(abs(line["loss"] / other["loss"] - 1) for line, other in zip(lines, expected)))
    figures = {"layouts": len(worst), "same_samples": same, "largest_relative_difference": float(f"{max(worst):.2g}")}
    return {**figures, "median": float(f"{statistics.median(worst):.2g}"), "ok": same and max(worst) <= 1e-4}
