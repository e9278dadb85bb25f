"""Groundup's instruction tuning: `build_state` and `train_step` as the product calls them, `runtime:` by default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.runners.sft_session import IGNORE, Session

from groundup.config import build
from groundup.export import open_source
from groundup.parallel.compile import uncompiled
from groundup.pipeline.instruct_config import InstructConfig
from groundup.tokens import Batch
from groundup.tokens.conversation_rows import best_fit_decreasing
from groundup.train.layout import rows_per_micro_batch
from groundup.train.settings import ExecutionConfig
from groundup.train.state import build_state
from groundup.train.step import Objectives, train_step
from groundup.train.way import configure_threads, pick_device

OBJECTIVES = Objectives(("answers",), (0,), ("instruct",), (1.0,))


def main() -> None:
    """Do the job, print one JSON line."""
    session = Session()
    execution = build(ExecutionConfig, {"threads": session.job["threads"], **session.settings.get("runtime", {})}, "r")
    configure_threads(execution)
    source = open_source(Path(session.job["base"]))
    config = source.config.model_copy(update={"context_length": session.length})
    rows = packed(session.examples("train"), session.length, whole=session.settings.get("whole", False))
    per_step = session.job["batch_tokens"] // session.length
    steps = session.planned_steps(-(-len(rows) // per_step))
    values = {
        "tokens": steps * per_step * session.length,
        "global_batch_tokens": per_step * session.length,
        "optimizer": session.settings["optimizer"],
        "sources": [{"name": "answers", "path": "-"}],
        **session.settings.get("instruct", {}),
    }
    instruct = build(InstructConfig, values, "instruct")
    state = build_state(
        config,
        source.vocab_size,
        instruct,
        execution,
        session.job["seed"],
        device=pick_device(execution),
        start={name: source[name] for name in source},
        tune=instruct.tune,
    )
    micro_rows = rows_per_micro_batch(execution, session.length, per_step)
    order = row_numbers(len(rows), per_step, steps, session.job["seed"])
    session.begin()
    for step, numbers in enumerate(order):
        batches = [batch(rows[numbers[at : at + micro_rows]]) for at in range(0, len(numbers), micro_rows)]
        result = train_step(
            state,
            batches,
            OBJECTIVES,
            learning_rate_factor=session.factor(step),
            max_grad_norm=session.settings.get("max_grad_norm", 1.0),
        )
        float(result.loss), float(result.grad_norm)
        session.after_step()
    state.model.eval()
    state.model.set_compute_dtype(torch.float32)

    def scores(tokens: torch.Tensor) -> torch.Tensor:
        with uncompiled():
            found: torch.Tensor = state.model(tokens)
        return found

    learning = sum(p.numel() for p in state.model.parameters() if p.requires_grad)
    figures: dict[str, Any] = {"trained_parameters": learning, "padding": float(1 - (rows[:, 2] >= 0).mean())}
    session.report(len(rows) / per_step, scores, figures)


def row_numbers(rows: int, per_step: int, steps: int, seed: int) -> list[np.ndarray]:
    """Numbers of the rows of each step. As trl's loader: each epoch ends with a step of the rows that are left."""
    found: list[np.ndarray] = []
    for epoch in range(-(-steps * per_step // rows)):
        numbers = np.random.default_rng([seed, epoch]).permutation(rows)
        found += [numbers[at : at + per_step] for at in range(0, rows, per_step)]
    return found[:steps]


def packed(examples: list[dict[str, list[int]]], length: int, *, whole: bool) -> np.ndarray:
    """Rows of whole conversations [rows, 3, length]: tokens, targets, number of the conversation in its row (-1: none).

    As `tokens.conversation_rows` packs them: the last token of a conversation is never an input. `whole`: room is kept
    for it all the same, as trl does, which makes as many rows and so as many steps as trl has.
    """
    found = best_fit_decreasing([len(each["input_ids"]) - (not whole) for each in examples], length)
    rows = np.zeros((len(found), 3, length), dtype=np.int64)
    rows[:, 1], rows[:, 2] = IGNORE, -1
    for row, members in zip(rows, found):
        start = 0
        for number, index in enumerate(members):
            ids, labels = examples[index]["input_ids"], examples[index]["labels"]
            end = start + len(ids) - 1
            row[0, start:end], row[1, start:end], row[2, start:end] = ids[:-1], labels[1:], number
            start = end
    return rows


def batch(rows: np.ndarray) -> Batch:
    """Rows as the step takes them; positions begin again with each conversation."""
    segments = np.where(rows[:, 2] < 0, rows[:, 2].max(1, keepdims=True) + 1, rows[:, 2])
    places = np.arange(rows.shape[2])
    starts = np.concatenate([np.ones((len(rows), 1), bool), segments[:, 1:] != segments[:, :-1]], 1)
    positions = places - np.maximum.accumulate(np.where(starts, places, 0), axis=1)
    tensors = (torch.from_numpy(each.astype(np.int32)) for each in (segments, positions))
    sources = torch.zeros(len(rows), dtype=torch.int64)
    return Batch(torch.from_numpy(rows[:, 0]), torch.from_numpy(rows[:, 1]), *tensors, sources)


if __name__ == "__main__":
    main()
