"""G2: SIGKILL at every system call of one save that changes the disk, by strace; with one rank and with two.

    child --builds its state--> gate --strace attached--> save --killed at call k--> resume in this process

Whatever k, the checkpoint before or the new one is found whole, without a fall-back; the next save is whole and alone.
"""

from __future__ import annotations

import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmarks.reliability import children
from benchmarks.reliability.children import Child
from benchmarks.reliability.tiers import Tier
from torch.distributed.device_mesh import DeviceMesh

from groundup.models import DecoderConfig
from groundup.optim import AdamWConfig
from groundup.parallel import ParallelConfig, Rank, join
from groundup.train import checkpoint
from groundup.train.settings import ExecutionConfig, TrainingConfig
from groundup.train.state import TrainState, build_state

CALLS = (
    "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "chmod",
    "ftruncate",
)  # fmt: skip


def toy_state(hidden_size: int = 32, num_layers: int = 2, mesh: DeviceMesh | None = None) -> TrainState:
    """A small model with a state of AdamW."""
    model = DecoderConfig(
        context_length=64,
        num_layers=num_layers,
        hidden_size=hidden_size,
        num_heads=2,
        num_kv_heads=2,
        ffn_size=2 * hidden_size,
    )
    config = TrainingConfig(tokens=640, global_batch_tokens=128, optimizer=AdamWConfig())
    state = build_state(model, 512, config, ExecutionConfig(compile="off"), 1, device=torch.device("cpu"), mesh=mesh)
    for parameter in state.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    state.optimizer.zero_grad()
    return state


def crash_points(tier: Tier, folder: Path) -> dict[str, Any]:
    """Every point, or some of them, for one rank and for two."""
    if why := children.why_not("strace"):
        return {"skipped": why, "ok": True}
    found: dict[str, Any] = {}
    for ranks in (1, 2):
        state = toy_state()
        state.step = 1
        checkpoint.save(folder / f"before-{ranks}", state, {}, keep=1)
        points = _points(folder, ranks)
        chosen = random.Random(ranks).sample(points, min(tier.points, len(points))) if tier.points else points
        bad = [f"{call} {k}" for call, k in chosen if not _survives(folder, ranks, call, k)]
        found[f"ranks_{ranks}"] = {"calls": len(points), "killed_at": len(chosen), "not_survived": bad}
    return {**found, "ok": not any(each["not_survived"] for each in found.values())}


def _points(folder: Path, ranks: int) -> list[tuple[str, int]]:
    """(call, how often it has come) of a save that nobody kills."""
    log = folder / f"trace-{ranks}"
    target = _fresh(folder, ranks)
    saved = _saving(target, ranks, ("-o", str(log), "-e", f"trace={','.join(CALLS)}"))
    assert [child.wait() for child in saved] == [0] * ranks, saved[0].errors()
    counts: dict[str, int] = {}
    points = []
    for line in log.read_text(errors="replace").split("\n"):
        call = re.match(r"\d+\s+(\w+)\(", line)
        if call and call[1] in CALLS:
            counts[call[1]] = counts.get(call[1], 0) + 1
            points.append((call[1], counts[call[1]]))
    return points


def _fresh(folder: Path, ranks: int) -> Path:
    target = folder / f"save-{ranks}"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder / f"before-{ranks}", target)
    return target


def _saving(target: Path, ranks: int, options: tuple[str, ...]) -> list[Child]:
    """A save of step 2 into `target`; the first rank of it under strace."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ready = target.parent / f"ready-{ranks}"
    ready.unlink(missing_ok=True)
    begun = [
        children.start(_save(target, rank, ranks, port, ready), target.parent / "said", wait_at_gate=True)
        for rank in range(ranks)
    ]
    for child in begun:
        child.open_gate()
    while not ready.exists():
        assert begun[0].poll() is None, begun[0].errors()
    tracer = subprocess.Popen(["strace", "-f", "-p", str(begun[0].pid), *options], stderr=subprocess.PIPE, text=True)
    begun[0].tracer = tracer
    assert tracer.stderr is not None and "attached" in tracer.stderr.readline()
    ready.unlink()
    return begun


def _save(target: Path, rank: int, ranks: int, port: int, ready: Path) -> Callable[[], int]:
    """What a rank does: its state is built, then it waits until it is watched, then all save."""

    def act() -> int:
        torch.set_num_threads(1)
        mesh = join(ParallelConfig(), Rank(rank, ranks, rank, "127.0.0.1", port), "cpu") if ranks > 1 else None
        state = toy_state(mesh=mesh)
        state.step = 2
        if rank == 0:
            ready.touch()
            while ready.exists():
                time.sleep(0.01)
        checkpoint.save(target, state, {}, keep=1)
        return 0

    return act


def _survives(folder: Path, ranks: int, call: str, k: int) -> bool:
    target = _fresh(folder, ranks)
    options = ("-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={k}")
    saved = _saving(target, ranks, options)
    died = saved[0].wait() == -9
    for child in saved[1:]:
        child.kill()
    if not died or resumed_at(target) not in (1, 2):
        return False
    again = toy_state()
    again.step = 2
    checkpoint.save(target, again, {}, keep=1)
    return [path.name for path in target.iterdir()] == ["step-00000002"] and resumed_at(target) == 2


def resumed_at(folder: Path) -> int:
    """The step that a resume finds; -1 where it has to fall back."""
    state, fallbacks = toy_state(), list[str]()
    checkpoint.resume(folder, state, True, lambda path, fault: fallbacks.append(fault))
    return -1 if fallbacks else state.step
