"""One job (a JSON argument) -> one JSON line: what all runners share, so that every tool is measured by the same rule.

    job --> Session: rows of tokens, learning-rate factor, clock --> the tool's own step --> after_step --> report
                                                                                             |
                                                      quality only: validation, with the clock stopped

A runner gives a `Learner`; `train` drives it, or, where the tool has a loop of its own (the Trainer), that loop calls
`after_step`. Needs torch and numpy only, since it runs in the peers' environment. Invariant: rows, schedule, clock and
bits per byte depend on the job alone, never on the tool.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from benchmarks.sizes import Size
from torch.nn import functional

VALIDATION_BATCH_TOKENS = 4096
Logits = Callable[[torch.Tensor], torch.Tensor]


class Learner(Protocol):
    """A tool's model with its optimizer."""

    def step(self, tokens: torch.Tensor, factor: float, progress: float) -> object:
        """One update from [rows, time + 1] tokens, with all base learning rates times `factor`."""

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """[rows, time] -> scores [rows, time, vocab] of the next token."""

    def facts(self) -> dict[str, Any]:
        """`parameters`, `matmul_parameters`, and whatever else tells what was run."""


class Clock:
    """Seconds since this process was started, imports included; time spent in `stopped()` does not count."""

    def __init__(self) -> None:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        self._started = ticks / os.sysconf("SC_CLK_TCK")

    def seconds(self) -> float:
        """Seconds on the clock."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self._started

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Take what happens inside off the clock."""
        before = self.seconds()
        try:
            yield
        finally:
            self._started += self.seconds() - before


class RandomRows:
    """Random tokens, for throughput: the speed does not depend on what is said."""

    def __init__(self, size: Size, seed: int) -> None:
        self.size, self.seed = size, seed

    def row(self, index: int) -> np.ndarray:
        """time + 1 tokens, Int64."""
        random = np.random.default_rng((self.seed, index))
        return random.integers(0, self.size.vocab_size, self.size.context_length + 1)


class TextRows:
    """Rows of time + 1 tokens of a flat token file: each epoch a new offset and a new order, by (seed, epoch)."""

    def __init__(self, tokens: np.ndarray, context_length: int, seed: int) -> None:
        self.tokens, self.context_length, self.seed = tokens, context_length, seed
        self.rows_per_epoch = (len(tokens) - context_length - 1) // context_length
        if self.rows_per_epoch < 1:
            raise ValueError(f"{len(tokens)} tokens of text make no row of {context_length}; give more text")
        self._epoch: tuple[int, int, np.ndarray] | None = None

    def row(self, index: int) -> np.ndarray:
        """time + 1 tokens, Int64."""
        epoch, place = divmod(index, self.rows_per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            random = np.random.default_rng((self.seed, epoch))
            self._epoch = (epoch, int(random.integers(self.context_length)), random.permutation(self.rows_per_epoch))
        _, offset, order = self._epoch
        start = offset + int(order[place]) * self.context_length
        return self.tokens[start : start + self.context_length + 1].astype(np.int64)


def heldout_rows(tokens: np.ndarray, context_length: int, count: int) -> np.ndarray:
    """At most `count` rows of time + 1 tokens, spread evenly over the held-out text: the same for every tool."""
    available = (len(tokens) - 1) // context_length
    if available < 1:
        raise ValueError(f"{len(tokens)} held-out tokens make no row of {context_length}; hold out more text")
    chosen = np.linspace(0, available - 1, min(count, available)).round().astype(int)
    return np.stack([tokens[i * context_length : (i + 1) * context_length + 1].astype(np.int64) for i in chosen])


@torch.no_grad()
def bits_per_byte(logits: Logits, rows: np.ndarray, token_bytes: np.ndarray) -> float:
    """Nats of the targets that stand for text / (ln 2 * their bytes). `token_bytes` [vocab]: 0 for control tokens."""
    nats, n_bytes = 0.0, 0
    lengths = torch.from_numpy(token_bytes.astype(np.int64))
    size = max(1, VALIDATION_BATCH_TOKENS // (rows.shape[1] - 1))
    for start in range(0, len(rows), size):
        tokens = torch.from_numpy(rows[start : start + size])
        targets = tokens[:, 1:].flatten()
        scores = logits(tokens[:, :-1].contiguous()).float().flatten(0, 1)
        losses = functional.cross_entropy(scores, targets, reduction="none").double()
        nats += float(losses[lengths[targets] > 0].sum())
        n_bytes += int(lengths[targets].sum())
    return nats / (math.log(2) * n_bytes)


def decay(schedule: dict[str, Any], progress: float) -> float:
    """Learning-rate factor at `progress` (0 to 1) of the budget, warm-up apart: cosine, linear, wsd or constant."""
    kind, final = schedule["kind"], schedule.get("final_fraction", 0.0)
    if kind == "constant":
        return 1.0
    start = 1.0 - schedule.get("decay_fraction", 0.3) if kind == "wsd" else 0.0
    gone = min(max(0.0, (progress - start) / max(1e-9, 1.0 - start)), 1.0)
    left = (1 + math.cos(math.pi * gone)) / 2 if kind == "cosine" else 1 - gone
    return final + (1 - final) * left


class Session:
    """The state of one measured run: which step it is, how long it took, when it ends."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.clock = Clock()
        self.job = job
        self.size = Size(**job["size"])
        self.settings: dict[str, Any] = job["settings"]
        self.quality = job["task"] == "quality"
        self.rows = self.settings.get("batch_tokens", job["batch_tokens"]) // self.size.context_length
        if self.rows < 1:
            raise ValueError("a batch is smaller than one row; raise the batch or lower the context length")
        self.schedule: dict[str, Any] = {"kind": "constant"}
        self.step = self.rows_seen = 0
        self.budget_tokens: int | None = None
        self.step_seconds: list[float] = []
        self.curve: list[dict[str, float]] = []
        self.first_step_end = 0.0
        self.peak_before_reset = 0
        torch.set_num_threads(job["threads"])
        torch.manual_seed(job["seed"])
        self._open_data()

    def _open_data(self) -> None:
        self.data: RandomRows | TextRows = RandomRows(self.size, self.job["seed"])
        if self.quality:
            folder = Path(self.job["data"])
            self.facts = json.loads((folder / "facts.json").read_text())
            train, heldout = (np.memmap(folder / f"{n}.bin", self.facts["dtype"], "r") for n in ("train", "heldout"))
            self.token_bytes = np.load(folder / "token_bytes.npy")
            self.data = TextRows(train, self.size.context_length, self.job["seed"])
            self.heldout = heldout_rows(heldout, self.size.context_length, self.job["validation_rows"])
        self._lap = self.clock.seconds()

    def begin(self, logits: Logits) -> None:
        """The model is there: `logits` is what validations use; the first step starts now."""
        self.logits = logits
        self._lap = self.clock.seconds()

    def batch(self) -> torch.Tensor:
        """[rows, time + 1] tokens of this step."""
        first = self.rows_seen
        return torch.from_numpy(np.stack([self.data.row(first + i) for i in range(self.rows)]))

    @property
    def tokens_seen(self) -> int:
        """Tokens of all steps so far."""
        return self.rows_seen * self.size.context_length

    def progress(self) -> float:
        """Part of the budget that is gone, counted from the end of the first step (which compiles)."""
        if not self.quality or self.step == 0:
            return 0.0
        if self.budget_tokens:
            return min(1.0, self.tokens_seen / self.budget_tokens)
        left = self.job["seconds"] - self.first_step_end
        return min(1.0, max(0.0, (self.clock.seconds() - self.first_step_end) / max(1e-9, left)))

    def factor(self) -> float:
        """Learning-rate factor of this step: linear warm-up by steps, then the schedule by time."""
        warmup = self.schedule.get("warmup_steps", 0)
        return min(1.0, (self.step + 1) / (warmup + 1)) * decay(self.schedule, self.progress())

    def after_step(self) -> None:
        """Count the step that has just ended; validate where a point of the curve is due."""
        now = self.clock.seconds()
        self.step_seconds.append(now - self._lap)
        self.step += 1
        self.rows_seen += self.rows
        if self.step == 1:
            self.first_step_end = now
        if self.quality and (self.finished if self.budget_tokens else now >= self._next_point()):
            self._validate(now)
        if not self.quality and self.step == self.job["warmup"]:
            self.peak_before_reset = peak_memory_bytes()
            reset_peak_memory()
        self._lap = self.clock.seconds()

    def _next_point(self) -> float:
        last = self.curve[-1]["wall_seconds"] if self.curve else 0.0
        return next((point for point in self.job["points"] if point > last), self.job["seconds"])

    def _validate(self, now: float) -> None:
        with self.clock.stopped():
            value = bits_per_byte(self.logits, self.heldout, self.token_bytes)
        self.curve.append(
            {
                "wall_seconds": now,
                "train_seconds": now - self.first_step_end,
                "tokens": self.tokens_seen,
                "bits_per_byte": value,
            }
        )

    @property
    def finished(self) -> bool:
        """Whether the budget of time, tokens or steps is used up; by time only after the last validation."""
        if not self.quality:
            return self.step >= self.job["warmup"] + self.job["steps"]
        if self.budget_tokens:
            return self.tokens_seen >= self.budget_tokens
        return bool(self.curve) and self.curve[-1]["wall_seconds"] >= self.job["seconds"]

    def report(self, facts: dict[str, Any]) -> dict[str, Any]:
        """What the runner prints."""
        tokens = self.rows * self.size.context_length
        steady = sorted(self.step_seconds[self.job["warmup"] :] or self.step_seconds)
        peak = peak_memory_bytes()
        return {
            **facts,
            "tokens_per_second": tokens / steady[len(steady) // 2],
            "batch_tokens": tokens,
            "steps": self.step,
            "start_seconds": self.first_step_end,
            "first_step_seconds": self.step_seconds[0],
            "peak_memory_bytes": max(peak, self.peak_before_reset),
            "steady_memory_bytes": peak if self.peak_before_reset else None,
            "versions": {"python": sys.version.split()[0], "torch": torch.__version__},
            **({"curve": self.curve, "bits_per_byte": self.curve[-1]["bits_per_byte"]} if self.quality else {}),
        }


def peak_memory_bytes() -> int:
    """Highest resident set of this process since its start or the last reset (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = next((line for line in lines if line.startswith("VmHWM:")), None)
    return int(found.split()[1]) * 1024 if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset_peak_memory() -> None:
    """Start the peak anew, where the system lets a process do so."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def train(session: Session, learner: Learner) -> None:
    """The minimal loop, for tools whose own loop cannot run on this data or without a GPU."""
    session.begin(learner.logits)
    while not session.finished:
        learner.step(session.batch(), session.factor(), session.progress())
        session.after_step()


def run(build: Callable[[Session], Learner]) -> None:
    """Read the job from the first argument, measure, print one JSON line."""
    session = Session(json.loads(sys.argv[1]))
    learner = build(session)
    train(session, learner)
    print(json.dumps(session.report(learner.facts())), flush=True)
