"""What the runners of the encoder comparison share: rows, schedule, clock, and one rule for every figure.

Needs torch and numpy only, since it runs in the peers' environment. Invariant: rows, schedule and figures depend on the
job alone, never on the tool.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

IGNORE = -100
VALIDATION_ROWS = 32
Scores = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(tokens, parts) [rows, time] -> scores [rows, time, vocab]."""


class Session:
    """One job: what to train on, how fast the learning rate falls, and when each step ended."""

    def __init__(self) -> None:
        self.job: dict[str, Any] = json.loads(sys.argv[1])
        self.settings: dict[str, Any] = self.job["settings"]
        self.folder = Path(self.job["data"])
        self.facts = json.loads((self.folder / "facts.json").read_text())
        self.total_steps = int(self.job.get("steps", 0))
        self.ends: list[float] = []
        self.processor_start = self.processor_seconds = 0.0
        torch.set_num_threads(self.job["threads"])
        torch.manual_seed(self.job["seed"])

    def rows(self, side: str) -> dict[str, torch.Tensor]:
        """Planes of the pretraining rows of a side: tokens, parts, targets [rows, time], follows [rows]."""
        names = ("tokens", "parts", "targets", "follows")
        return {name: torch.from_numpy(np.load(self.folder / f"{side}-{name}.npy")) for name in names}

    def examples(self, side: str) -> list[dict[str, Any]]:
        """Labelled texts as {input_ids, labels}."""
        found: list[dict[str, Any]] = json.loads((self.folder / "task" / f"{side}.json").read_text())
        return found

    def factor(self, step: int) -> float:
        """Learning-rate factor: linear up over a twentieth of the steps, then linear to zero."""
        warmup = max(1, self.total_steps // 20)
        return min((step + 1) / warmup, (self.total_steps - step) / max(1, self.total_steps - warmup))

    def begin(self) -> None:
        """The first step starts now."""
        self.ends, self.processor_start = [time.monotonic()], time.process_time()

    def after_step(self) -> None:
        """A step has just ended."""
        self.ends.append(time.monotonic())
        self.processor_seconds = time.process_time() - self.processor_start

    def report(self, per_step: float, figures: dict[str, Any]) -> None:
        """Print the answer; `per_step` tokens (or examples) make a step. The first steps, which compile, are apart."""
        seconds = np.diff(self.ends)
        steady = seconds[min(len(seconds) - 1, self.job["warmup"]) :]
        rates = {
            "per_second": per_step / float(np.mean(steady)),
            "per_second_median": per_step / float(np.median(steady)),
        }
        times = {
            "train_seconds": self.ends[-1] - self.ends[0],
            "processor_seconds": self.processor_seconds,
            "first_step_seconds": float(seconds[0]),
        }
        print(json.dumps({**rates, **times, "steps": len(seconds), **figures}), flush=True)


@torch.no_grad()
def masked_loss(scores: Scores, rows: dict[str, torch.Tensor]) -> float:
    """Nats per masked token of all rows."""
    nats, count = 0.0, 0
    for start in range(0, len(rows["tokens"]), VALIDATION_ROWS):
        part = slice(start, start + VALIDATION_ROWS)
        targets = rows["targets"][part].flatten()
        found = scores(rows["tokens"][part], rows["parts"][part]).float().flatten(0, 1)
        nats += float(functional.cross_entropy(found, targets, ignore_index=IGNORE, reduction="sum"))
        count += int((targets != IGNORE).sum())
    return nats / count


def judged(predicted: Sequence[int], expected: Sequence[int], classes: int) -> dict[str, float]:
    """Accuracy and the mean of the F1 of all classes."""
    said, right = np.asarray(predicted), np.asarray(expected)
    scores = []
    for label in range(classes):
        hits = int(((said == label) & (right == label)).sum())
        scores.append(2 * hits / max(1, int((said == label).sum() + (right == label).sum())))
    return {"accuracy": float((said == right).mean()), "macro_f1": float(np.mean(scores))}
