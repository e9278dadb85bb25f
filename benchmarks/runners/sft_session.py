"""What the runners of the comparison of instruction tuning share: examples, schedule, clock, memory, one loss.

Needs torch and numpy only, since it runs in the peers' environment. Invariant: examples, schedule and figures depend on
the job alone, never on the tool.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

IGNORE = -100
HELDOUT_ROWS = 16
Scores = Callable[[torch.Tensor], torch.Tensor]
"""tokens [rows, time] -> scores of the next token [rows, time, vocab]."""


class Session:
    """One job: what to train on, how fast the learning rate falls, and when each step ended."""

    def __init__(self) -> None:
        self.job: dict[str, Any] = json.loads(sys.argv[1])
        self.settings: dict[str, Any] = self.job["settings"]
        self.folder = Path(self.job["data"])
        self.facts = json.loads((self.folder / "facts.json").read_text())
        self.length: int = self.facts["length"]
        self.total_steps = 0
        self.ends: list[float] = []
        self.peak_bytes = 0
        torch.set_num_threads(self.job["threads"])
        torch.manual_seed(self.job["seed"])

    def examples(self, side: str) -> list[dict[str, list[int]]]:
        """Conversations as {input_ids, labels}."""
        found: list[dict[str, list[int]]] = json.loads((self.folder / f"{side}.json").read_text())
        return found

    def planned_steps(self, steps_of_epoch: float) -> int:
        """Steps of the job: its epochs, or as many as it asks for."""
        self.total_steps = int(self.job["max_steps"] or max(1, round(self.job["epochs"] * steps_of_epoch)))
        return self.total_steps

    def factor(self, step: int) -> float:
        """Learning-rate factor: linear up over a twentieth of the steps, then linear to zero."""
        warmup = max(1, self.total_steps // 20)
        return min((step + 1) / warmup, (self.total_steps - step) / max(1, self.total_steps - warmup))

    def begin(self) -> None:
        """The first step starts now."""
        self.ends = [time.monotonic()]

    def after_step(self) -> None:
        """A step has just ended."""
        self.ends.append(time.monotonic())
        self.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def report(self, steps_of_epoch: float, scores: Scores, figures: dict[str, Any]) -> None:
        """Judge the model and print the answer. The first steps, which compile, are apart."""
        seconds = np.diff(self.ends)
        steady = seconds[min(len(seconds) - 1, self.job["warmup"]) :]
        tokens = self.facts["train"]["tokens"] / steps_of_epoch
        made = {
            "tokens_per_second": tokens / float(np.mean(steady)),
            "train_seconds": self.ends[-1] - self.ends[0],
            "first_step_seconds": float(seconds[0]),
            "peak_bytes": self.peak_bytes,
            "steps": len(seconds),
        }
        loss = answer_loss(scores, self.examples("heldout"), self.facts["pad_id"]) if self.job["judge"] else None
        print(json.dumps({**made, "answer_loss": loss, **figures}), flush=True)


@torch.no_grad()
def answer_loss(scores: Scores, examples: list[dict[str, list[int]]], pad_id: int) -> float:
    """Nats per token of what the assistant says, each conversation alone, padded behind, in float32."""
    nats, count = 0.0, 0
    ordered = sorted(examples, key=lambda each: len(each["input_ids"]))
    for start in range(0, len(ordered), HELDOUT_ROWS):
        part = ordered[start : start + HELDOUT_ROWS]
        longest = max(len(each["input_ids"]) for each in part)
        tokens = torch.tensor([each["input_ids"] + [pad_id] * (longest - len(each["input_ids"])) for each in part])
        labels = torch.tensor([each["labels"] + [IGNORE] * (longest - len(each["labels"])) for each in part])
        found = scores(tokens)[:, :-1].float().flatten(0, 1)
        wanted = labels[:, 1:].flatten()
        nats += float(functional.cross_entropy(found, wanted, ignore_index=IGNORE, reduction="sum"))
        count += int((wanted != IGNORE).sum())
    return nats / count
