"""Kills, stops and clocks: G1, G6, G7, G8, Ctrl-C once and twice, a clock that jumps by a year."""

from __future__ import annotations

import os
import random
import shutil
import signal
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.reliability.runs import KINDS, PHASES, STEPS, Run, write_recipe
from benchmarks.reliability.tiers import Tier

from groundup.log import read_lines

YEAR = 365 * 86400.0
SLOW_STEPS, SLOW_MILLISECONDS = 300, 40


def kills(tier: Tier, folder: Path) -> dict[str, Any]:
    """SIGKILL at random moments, from the empty work folder on, of every kind of model through all its phases."""
    found: dict[str, Any] = {"kills": 0}
    for kind, last in KINDS.items():
        count = tier.kills.get(kind, 0)
        if not count:
            continue
        recipe = write_recipe(folder / kind, kind, search=kind == "decoder")
        whole = Run(recipe, folder / kind / "whole", last)
        began = time.monotonic()
        whole.finish(f"slow_step={10}")
        seconds = time.monotonic() - began
        killed = Run(recipe, folder / kind / "killed", last)
        done, where = _kill_at_random(killed, count, seconds, random.Random(kind))
        equal = killed.finish().code == 0 and killed.hashes() == whole.hashes()
        gaps = [phase for phase in PHASES if not _steps_are_whole(killed, phase)]
        found["kills"] += done
        print(kind, done, where, "bit identical" if equal else killed.differences(whole), gaps, flush=True)
        found[kind] = {"kills": done, "bit_identical": equal, "phases_hit": where, "gaps": gaps}
    found["ok"] = all(each["bit_identical"] and not each["gaps"] for each in found.values() if isinstance(each, dict))
    return found


def _kill_at_random(run: Run, count: int, seconds: float, moments: random.Random) -> tuple[int, dict[str, int]]:
    """Kill so many attempts, each at a random moment of what a whole run takes; what ends before begins anew."""
    where: dict[str, int] = {}
    done = 0
    while done < count:
        child = run.start()
        until = time.monotonic() + moments.uniform(0, 0.7 * seconds)
        while time.monotonic() < until and child.poll() is None:
            time.sleep(0.005)
        if child.poll() is not None:
            assert child.code == 0, child.errors()
            shutil.rmtree(run.workdir)
            continue
        child.kill()
        done += 1
        under_way = [name for name in PHASES if list((run.workdir / "stages" / name).glob("*.partial"))]
        phase = under_way[-1] if under_way else "other stages"
        where[phase] = where.get(phase, 0) + 1
    return done, where


def _steps_are_whole(run: Run, phase: str) -> bool:
    steps = [int(line["step"]) for line in run.lines(phase)]
    return steps == list(range(1, len(steps) + 1))


def _slow_run(folder: Path, steps: int = SLOW_STEPS, *words: str) -> Run:
    """A run of slow steps, by the command as people start it."""
    recipe = write_recipe(folder, pretrain={"tokens": steps * 512}, runtime={"checkpoint_every_seconds": 2.0})
    return Run(recipe, folder / "work", "pretrain", *words)


def stops(tier: Tier, folder: Path) -> dict[str, Any]:
    """SIGTERM or SIGUSR1 at a random moment of training, while a checkpoint is written, in a validation."""
    run, chance = _slow_run(folder), random.Random(4)
    seconds: list[float] = []
    codes: set[int] = set()
    faults = ("slow_step=40", "slow_step=40,slow_io=1500", "slow_step=40")
    for number in range(tier.stops):
        process = run.start_program(faults[number % 3])
        run.wait_for(process, run.step() + 1)
        time.sleep(chance.uniform(0, 3.0))
        if process.poll() is not None:
            shutil.rmtree(run.workdir)
            continue
        began = time.monotonic()
        process.send_signal(signal.SIGUSR1 if number % 2 else signal.SIGTERM)
        codes.add(process.wait(timeout=60))
        seconds.append(time.monotonic() - began)
    longest = max(seconds)
    found = {"stops": len(seconds), "exit_codes": sorted(codes), "longest_seconds": round(longest, 2)}
    return {**found, "ok": codes == {75} and longest <= 15}


def ctrl_c(tier: Tier, folder: Path) -> dict[str, Any]:
    """Ctrl-C to the whole group, as a terminal sends it: once, twice, and while text is prepared by workers."""
    run = _slow_run(folder)
    cases: dict[str, tuple[str, int, int]] = {
        "once": ("slow_step=40", 1, 1),
        "twice": ("slow_step=40,slow_io=20000", 2, 1),
        "preparing": ("slow_step=40", 1, 0),
    }
    found: dict[str, Any] = {}
    for name, (faults, times, steps) in cases.items():
        shutil.rmtree(run.workdir, ignore_errors=True)
        words = ("runtime.workers=2",) if name == "preparing" else ("runtime.checkpoint_every_seconds=0.5",)
        process = Run(run.recipe, run.workdir, "pretrain", *words).start_program(faults)
        if steps:
            run.wait_for(process, 5)
        else:
            time.sleep(5.0)
        began = time.monotonic()
        for _ in range(times):
            signal_group(process)
            time.sleep(0.3)
        code = process.wait(timeout=60)
        seconds = time.monotonic() - began
        time.sleep(1)
        found[name] = {"code": code, "seconds": round(seconds, 2), "orphans": group(process.pid)}
    return {**found, "ok": all(each["code"] == 130 and not each["orphans"] for each in found.values())}


def signal_group(process: subprocess.Popen[str]) -> None:
    """What a terminal does at Ctrl-C."""

    os.killpg(process.pid, signal.SIGINT)


def group(number: int) -> int:
    """Processes of this group that are still there."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found += int(fields[2]) == number and fields[0] != "Z"
    return found


def recovery(tier: Tier, folder: Path) -> dict[str, Any]:
    """From a kill to the first new step of the same command, interpreter start included."""
    run, seconds = _slow_run(folder), []
    process = run.start_program()
    for _ in range(tier.recoveries):
        run.wait_for(process, run.step() + 1)
        time.sleep(2.5)
        _kill_program(process)
        attempts = len(run.events("resumed"))
        began = time.monotonic()
        process = run.start_program()
        while len(run.events("resumed")) == attempts and process.poll() is None:
            time.sleep(0.02)
        run.wait_for(process, int(run.events("resumed")[-1]["step"]) + 1)
        seconds.append(time.monotonic() - began)
    _kill_program(process)
    longest = round(max(seconds), 2)
    found = {"kills": len(seconds), "median_seconds": round(statistics.median(seconds), 2), "longest_seconds": longest}
    return {**found, "ok": longest <= 15}


def _kill_program(process: subprocess.Popen[str]) -> None:

    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def effective(tier: Tier, folder: Path) -> dict[str, Any]:
    """A kill each 60 seconds at a checkpoint each 10; the share of use of all seconds, and of those without starts."""
    steps = int(tier.minutes * 60 * 1000 / SLOW_MILLISECONDS * 0.7)
    run = _slow_run(folder, steps, "runtime.checkpoint_every_seconds=10")
    began, count, code = time.monotonic(), 0, None
    while code is None:
        process = run.start_program()
        try:
            code = process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            _kill_program(process)
            count += 1
    wall = time.monotonic() - began
    (folder_of,) = [path for name, path in run.stages().items() if name == "pretrain"]
    summary = _summary(folder_of)["effective_training"]
    productive = float(summary["productive_seconds"])
    at_work = float(summary["attempt_seconds"])
    shares = {"of_wall": round(productive / wall, 4), "without_starts": round(productive / at_work, 4)}
    figures = {"kills": count, "exit_code": code, "wall_seconds": round(wall, 1), "productive_seconds": productive}
    return {**figures, **shares, "ok": code == 0 and shares["of_wall"] >= 0.70 and shares["without_starts"] >= 0.85}


def _summary(folder: Path) -> dict[str, Any]:
    from groundup import stage

    return dict(stage.read_manifest(folder)["summary"])


def clock(tier: Tier, folder: Path) -> dict[str, Any]:
    """The wall clock jumps by a year in mid-run, forwards and back: no time-out, nothing lost, the same durations."""
    recipe = write_recipe(folder)
    whole = Run(recipe, folder / "whole")
    whole.finish()
    found: dict[str, Any] = {}
    for name, jump in (("forwards", YEAR), ("backwards", -YEAR)):
        run = Run(recipe, folder / name)
        child = run.start(before=lambda jump=jump: jumping_clock(jump))
        run.wait_for(child, STEPS // 2)
        child.kill()  # and the next attempt is on the right clock again
        run.finish()
        about = _summary(run.stages()["pretrain"])["effective_training"]
        events = read_lines(run.folder / "events.jsonl")
        said = {event["event"] for event in events}
        found[name] = {
            "jumped": len({event["time"][:4] for event in events}) > 1,
            "bit_identical": run.hashes() == whole.hashes(),
            "wall_seconds": about["wall_seconds"],
            "watchdog": "watchdog" in said,
        }
    plausible = all(each["wall_seconds"] < 600 and not each["watchdog"] for each in found.values())
    return {**found, "ok": plausible and all(each["bit_identical"] and each["jumped"] for each in found.values())}


def jumping_clock(jump: float) -> None:
    """In a child: the wall clock is set when the run has done some steps; the others go on."""
    real, gmtime, strftime = time.time, time.gmtime, time.strftime
    began = time.monotonic()

    def now() -> float:
        return real() + (jump if time.monotonic() - began > 1.5 else 0.0)

    time.time = now
    time.gmtime = lambda seconds=None: gmtime(now() if seconds is None else seconds)  # type: ignore[assignment]
    time.strftime = lambda form, moment=None: strftime(form, time.gmtime() if moment is None else moment)  # type: ignore[assignment]
