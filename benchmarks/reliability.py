"""The battery of faults, with numbers: kills, stops, damaged files, a killed run's time; docs/reliability.md from it.

    python -m benchmarks.reliability [--tier quick|nightly] [--only kills,stops] [--folder DISK]      (make soak)

    kills         SIGKILL at random moments of one run -> state hash as of a run never killed (G1)
    corruption    newest checkpoint truncated, flipped, deleted, swapped, zeroed -> found, the one before used (G3)
    data          a bit of a shard flipped -> found before it trains (G4)
    stops         SIGTERM -> seconds to exit with its code and a saved state (G6)
    recovery      SIGKILL -> seconds to the first new step, interpreter start included (G7)
    effective     a kill a minute -> share of the time that was steps which stayed (G8; nightly)
    cost          a checkpoint's time on the training's thread and its work on others, per minute (G9)
    locks         eight commands on one run at once -> one of them works (G14)

Runs `recipes/smoke.yaml` with more steps. Each figure is written as soon as it is measured, to
benchmarks/results/reliability.json and the table of docs/reliability.md; figures of other parts stay with their date.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from groundup import load_recipe, stage
from groundup.log import read_lines
from groundup.models import DecoderConfig
from groundup.optim import AdamWConfig
from groundup.pipeline import status
from groundup.train import checkpoint
from groundup.train.saving import Saver
from groundup.train.state import ExecutionConfig, TrainingConfig, TrainState, build_state

HERE = Path(__file__).resolve().parent
RECIPE, RESULTS = HERE.parent / "recipes" / "smoke.yaml", HERE / "results" / "reliability.json"
PAGE = HERE.parent / "docs" / "reliability.md"
BEGIN, END = "<!-- last results -->", "<!-- end of last results -->"
STEPS, STEP_MILLISECONDS = 300, 40
RUN_SECONDS_LIMIT = 600


@dataclass(frozen=True)
class Tier:
    """How often each fault is tried."""

    kills: int
    corruptions: int
    stops: int
    recoveries: int
    minutes: float
    locks: int


TIERS = {"quick": Tier(5, 50, 2, 2, 0.0, 1), "nightly": Tier(60, 500, 10, 10, 20.0, 20)}


class Run:
    """One run of the recipe in a work folder of its own, by the command."""

    def __init__(self, workdir: Path, *overrides: str) -> None:
        self.workdir = workdir
        self.overrides = [
            f"runtime.workdir={workdir}",
            f"pretrain.tokens={STEPS * 2048}",
            "pretrain.global_batch_tokens=2048",
            "runtime.threads=1",
            "runtime.compile=off",
            "runtime.test_faults=true",
            "runtime.checkpoint_every_seconds=2",
            *overrides,
        ]
        self.metrics = workdir / "runs" / "smoke" / "metrics.jsonl"

    def start(self, faults: str = f"slow_step={STEP_MILLISECONDS}") -> subprocess.Popen[bytes]:
        """The command, in a group of its own. Each step sleeps a little, so that moments are spread over them."""
        command = [sys.executable, "-m", "groundup", "pretrain", str(RECIPE), "-q", *self.overrides]
        environment = {**os.environ, "FAULT": faults, "OMP_NUM_THREADS": "1", "GROUNDUP_ALLOCATOR": "none"}
        return subprocess.Popen(
            command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def finish(self) -> int:
        """Run it to its end."""
        return self.start().wait(timeout=RUN_SECONDS_LIMIT)

    def step(self) -> int:
        """The last step that has a line."""
        return max((int(line["step"]) for line in read_lines(self.metrics) if "loss" in line), default=0)

    def wait_for_step(self, process: subprocess.Popen[bytes], step: int) -> None:
        """Return once a line of `step` is there, or the process is over."""
        while self.step() < step and process.poll() is None:
            time.sleep(0.02)

    def folder(self) -> Path:
        """The finished stage of pretraining."""
        entries = status(load_recipe(RECIPE, self.overrides))
        return next(Path(entry["folder"]) for entry in entries if entry["name"] == "pretrain")

    def summary(self) -> dict[str, Any]:
        """What that stage says of itself."""
        return dict(stage.read_manifest(self.folder())["summary"])


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the command and all it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kills(tier: Tier, folder: Path) -> dict[str, Any]:
    """Random kills: half of them anywhere from the start of the process on, half some time after its first new step."""
    whole, killed, moments = Run(folder / "whole"), Run(folder / "killed"), random.Random(1)
    assert whole.finish() == 0, "the run that is not killed ends well"
    done = 0
    while done < tier.kills:
        process = killed.start()
        if moments.random() < 0.5:
            killed.wait_for_step(process, killed.step() + 1)
            time.sleep(moments.uniform(0, 1.5))
        else:
            time.sleep(moments.uniform(0, 6))
        if process.poll() is not None:
            # It ended before its time: begin another one, so that every kill is one of a run at work.
            shutil.rmtree(killed.workdir)
            continue
        kill(process)
        done += 1
    equal = killed.finish() == 0 and stage.verify(killed.folder()) == stage.verify(whole.folder())
    steps = [int(line["step"]) for line in read_lines(killed.metrics) if "loss" in line]
    return {"kills": done, "bit_identical": equal, "lines_without_gap": steps == list(range(1, STEPS + 1))}


def toy_state(hidden_size: int = 64, num_layers: int = 2) -> TrainState:
    """A small model with a state of AdamW."""
    model = DecoderConfig(
        context_length=64,
        num_layers=num_layers,
        hidden_size=hidden_size,
        num_heads=2,
        num_kv_heads=2,
        ffn_size=2 * hidden_size,
    )
    config = TrainingConfig(tokens=640, global_batch_tokens=64, optimizer=AdamWConfig())
    state = build_state(model, 512, config, ExecutionConfig(compile="off"), 1, device=torch.device("cpu"))
    for parameter in state.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    state.optimizer.zero_grad()
    return state


def damage(path: Path, kind: str, chance: random.Random) -> None:
    """Spoil one file of a checkpoint."""
    content = bytearray(path.read_bytes())
    at = chance.randrange(len(content))
    if kind == "truncate":
        path.write_bytes(content[:at])
    elif kind == "flip":
        content[at] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
    elif kind == "delete":
        path.unlink()
    elif kind == "zero":
        path.write_bytes(content[:at] + b"\0" * len(content[at : at + 512]) + content[at + 512 :])
    else:
        other = path.with_name("optimizer.safetensors" if path.name == "model.safetensors" else "model.safetensors")
        path.write_bytes(other.read_bytes())


def corruption(tier: Tier, folder: Path) -> dict[str, Any]:
    """Damage to any file of the newest of two checkpoints, the manifest too."""
    state, chance = toy_state(), random.Random(2)
    for step in (1, 2):
        state.step = step
        checkpoint.save(folder / "clean", state, {"validation": {}, "skipped": 0}, keep=2)
    found = tried = untouched = 0
    while tried < tier.corruptions:
        shutil.rmtree(folder / "spoilt", ignore_errors=True)
        shutil.copytree(folder / "clean", folder / "spoilt")
        newest = folder / "spoilt" / "step-00000002"
        victim = chance.choice(sorted(newest.iterdir()))
        before = victim.read_bytes()
        damage(victim, chance.choice(("truncate", "flip", "delete", "swap", "zero")), chance)
        if victim.exists() and victim.read_bytes() == before:
            continue  # zeros over zeros
        tried += 1
        named: list[str] = []
        checkpoint.resume(folder / "spoilt", state, True, lambda path, fault: named.append(fault))  # noqa: B023
        # A manifest that is gone makes the folder none of a checkpoint, which is warned of, not fallen back from.
        gone = victim.name == stage.MANIFEST and not victim.exists()
        # What a manifest tells beside its hashes may change without changing what is loaded.
        untouched += victim.name == stage.MANIFEST and state.step == 2 and not named
        found += state.step == 1 and (gone or bool(named))
    return {"tried": tried, "found": found, "in_words_of_the_manifest_only": untouched}


def data(tier: Tier, folder: Path) -> dict[str, Any]:
    """A bit of a shard."""
    run, chance = Run(folder / "data"), random.Random(3)
    assert run.finish() == 0, "the run ends well"
    shards = next((run.workdir / "stages" / "shards").glob("*[0-9a-f]"))
    files = [path for path in sorted(shards.rglob("*.bin")) if path.stat().st_size]
    found = 0
    for _ in range(tier.corruptions):
        victim = chance.choice(files)
        content = victim.read_bytes()
        damage(victim, "flip", chance)
        found += any(victim.name in fault for fault in stage.verify(shards)[1])
        victim.write_bytes(content)
    return {"tried": tier.corruptions, "found": found}


def stops(tier: Tier, folder: Path) -> dict[str, Any]:
    """SIGTERM at a random moment of training."""
    run, chance, seconds, codes = Run(folder / "stops"), random.Random(4), [], []
    for _ in range(tier.stops):
        process = run.start()
        run.wait_for_step(process, run.step() + 1)
        time.sleep(chance.uniform(0, 0.5))
        began = time.monotonic()
        process.terminate()
        codes.append(process.wait(timeout=60))
        seconds.append(time.monotonic() - began)
    return {"stops": tier.stops, "exit_codes": sorted(set(codes)), "longest_seconds": round(max(seconds), 2)}


def recovery(tier: Tier, folder: Path) -> dict[str, Any]:
    """From a kill to the first step beyond what the killed attempt had reached... or the first after its checkpoint."""
    run, seconds = Run(folder / "recovery"), []
    process = run.start()
    for _ in range(tier.recoveries):
        run.wait_for_step(process, run.step() + 1)
        time.sleep(2.5)
        kill(process)
        attempts = len(resumed(run))
        began = time.monotonic()
        process = run.start()
        while len(resumed(run)) == attempts and process.poll() is None:
            time.sleep(0.02)
        run.wait_for_step(process, resumed(run)[-1] + 1)
        seconds.append(time.monotonic() - began)
    kill(process)
    return {
        "kills": tier.recoveries,
        "median_seconds": round(statistics.median(seconds), 2),
        "longest_seconds": round(max(seconds), 2),
    }


def resumed(run: Run) -> list[int]:
    """The steps at which attempts went on."""
    events = read_lines(run.metrics.with_name("events.jsonl"))
    return [int(event["step"]) for event in events if event.get("event") == "resumed"]


def effective(tier: Tier, folder: Path) -> dict[str, Any]:
    """A kill each 60 seconds; the share of use of all seconds, and of those after the interpreter's start."""
    steps = int(tier.minutes * 60 * 1000 / STEP_MILLISECONDS * 0.7)
    run = Run(folder / "effective", f"pretrain.tokens={steps * 2048}", "runtime.checkpoint_every_seconds=10")
    began, count = time.monotonic(), 0
    while True:
        process = run.start()
        try:
            code = process.wait(timeout=60)
            break
        except subprocess.TimeoutExpired:
            kill(process)
            count += 1
    wall, summary = time.monotonic() - began, run.summary()["effective_training"]
    productive = summary["productive_seconds"]
    return {
        "kills": count,
        "exit_code": code,
        "wall_seconds": round(wall, 1),
        "productive_seconds": round(productive, 1),
        "share_of_wall": round(productive / wall, 4),
        "share_without_starts": round(productive / summary["attempt_seconds"], 4),
    }


def cost(tier: Tier, folder: Path) -> dict[str, Any]:
    """Seconds that one checkpoint keeps the training's thread, and processor seconds of the one that writes it."""
    state, blocked, written = toy_state(512, 8), [], []
    size = sum(parameter.numel() for parameter in state.model.parameters())
    clock: list[float] = []

    def on_saved(path: Path) -> None:
        clock.append(time.thread_time())

    saver = Saver(folder / "cost", 2, True, on_saved, lambda step, fault: None)
    for step in range(1, 6):
        state.step = step
        began = time.monotonic()
        saver.save(state, {}, {})
        blocked.append(time.monotonic() - began)
        saver.wait()
        written.append(clock[-1])  # a thread of its own each time, whose clock begins at 0
    seconds = statistics.median(blocked), statistics.median(written)
    return {
        "parameters": size,
        "blocked_seconds": round(seconds[0], 4),
        "writer_processor_seconds": round(seconds[1], 4),
        "share_at_one_a_minute": round(sum(seconds) / 60, 5),
    }


def locks(tier: Tier, folder: Path) -> dict[str, Any]:
    """Eight commands on one run at the same time."""
    rounds = []
    for number in range(tier.locks):
        run = Run(folder / f"locks-{number}", "pretrain.tokens=40960")
        codes = sorted(process.wait(timeout=RUN_SECONDS_LIMIT) for process in [run.start() for _ in range(8)])
        # Who comes when the winner is done finds everything done; nobody else may have worked.
        rounds.append(set(codes) <= {0, 5} and 0 in codes)
    return {"rounds": tier.locks, "one_winner": sum(rounds)}


PARTS: dict[str, tuple[Callable[[Tier, Path], dict[str, Any]], str, str]] = {
    "kills": (kills, "G1", "random SIGKILLs, final state to the bit"),
    "corruption": (corruption, "G3", "damaged checkpoints found, the one before used"),
    "data": (data, "G4", "flipped bits of shards found before training"),
    "stops": (stops, "G6", "SIGTERM to saved and gone, at most 15 s"),
    "recovery": (recovery, "G7", "SIGKILL to the first new step, at most 15 s"),
    "effective": (effective, "G8", "effective training time at a kill a minute, at least 85% (70% with starts)"),
    "cost": (cost, "G9", "a checkpoint a minute, at most 2% of the time"),
    "locks": (locks, "G14", "eight commands at once, one works"),
}


def table(results: dict[str, Any]) -> str:
    """The last results as Markdown."""
    lines = ["| figure | what | result | tier, date |", "| --- | --- | --- | --- |"]
    for name, (_, figure, what) in PARTS.items():
        found = results.get(name)
        if found is None:
            lines.append(f"| {figure} | {what} | not run yet | |")
            continue
        shown = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in found["figures"].items())
        lines.append(f"| {figure} | {what} | {shown} | {found['tier']}, {found['date']}, {found['seconds']:.0f} s |")
    return "\n".join(lines)


def main() -> None:
    """Run the parts asked for and write what they gave."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", choices=sorted(TIERS), default="quick")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    for name in options.only.split(","):
        if name == "effective" and not TIERS[options.tier].minutes:
            continue
        with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
            began = time.monotonic()
            figures = PARTS[name][0](TIERS[options.tier], Path(scratch))
        results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
        about = {"tier": options.tier, "date": time.strftime("%Y-%m-%d"), "seconds": round(time.monotonic() - began, 1)}
        results[name] = {"figures": figures, **about}
        RESULTS.parent.mkdir(exist_ok=True)
        stage.write_json(RESULTS, results)
        page = PAGE.read_text(encoding="utf-8")
        shown = f"{BEGIN}\n{table(results)}\n{END}"
        stage.write_text(PAGE, re.sub(f"{BEGIN}.*{END}", lambda _: shown, page, flags=re.DOTALL))  # noqa: B023
        print(name, json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
