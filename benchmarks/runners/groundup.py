"""Groundup's own step: `build_state` and `train_step` as its loop calls them, with the defaults of `runtime:`.

Throughput: Llama layout. Quality: the layout and the hyper-parameters of a YAML file (benchmarks/quality.yaml).
Invariant: nothing of the step is written anew here; only the rows come from the benchmark instead of from shards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.runners.session import Session, run
from benchmarks.sizes import Size

from groundup.config import build, merge, read_yaml, to_dict
from groundup.models import DecoderConfig
from groundup.models.bigrams import affordable_steps
from groundup.optim import AdamWConfig, MuonConfig
from groundup.parallel.compile import uncompiled
from groundup.tokens import Batch, count_bigrams
from groundup.train.layout import rows_per_micro_batch
from groundup.train.meter import measured_peak_flops
from groundup.train.settings import ExecutionConfig, TrainingConfig
from groundup.train.start import start_from_bigrams
from groundup.train.state import build_state
from groundup.train.step import Objectives, train_step
from groundup.train.way import configure_threads, pick_device

OBJECTIVES = Objectives(("text",), (0,), ("pretrain",), (1.0,))
LONG_JOB_TOKENS = 10**10
ROWS_AT_ONCE = 64
COUNTED_STARTS = ("bigrams", "induction")
MACHINE_SHARE = 0.5
"""Part of the machine's peak that is assumed when a budget of seconds is said in tokens (for `compile: auto`)."""


class Groundup:
    """The state that `build_state` makes, stepped by `train_step`."""

    def __init__(self, session: Session) -> None:
        size = session.size
        recipe = quality_recipe(session) if session.quality else throughput_recipe(session)
        model = {**shape(session), **recipe["model"]}
        if base := recipe.get("base"):
            model["scaling"] = base_of(session.size, **base)
        self.model_config = build(DecoderConfig, model, "model")
        runtime = {"threads": session.job["threads"], **recipe.get("runtime", {})}
        self.execution = build(ExecutionConfig, runtime, "runtime")
        self.isolate = recipe.get("isolate_documents", False)
        self.end_of_text_id = session.facts["end_of_text_id"] if session.quality else -1
        session.schedule = recipe.get("schedule", session.schedule)
        configure_threads(self.execution)
        tokens = LONG_JOB_TOKENS
        if session.quality:
            peak = measured_peak_flops(pick_device(self.execution), torch.bfloat16)
            rate = MACHINE_SHARE * peak / self.model_config.flops_per_token(size.vocab_size)
            tokens = int(rate * session.job["seconds"]) + 1
        batch = {"tokens": tokens, "global_batch_tokens": session.rows * size.context_length}
        self.training = build(TrainingConfig, {**recipe["pretrain"], **batch}, "pretrain")
        self.state = build_state(
            self.model_config,
            size.vocab_size,
            self.training,
            self.execution,
            session.job["seed"],
            device=pick_device(self.execution),
        )
        if recipe.get("start") in COUNTED_STARTS:
            steps = recipe["start_steps"]
            if session.job["seconds"]:  # a search's budget is in tokens, and all its variants have the same start
                flops = tokens * self.model_config.flops_per_token(size.vocab_size)
                steps = affordable_steps(steps, flops, size.vocab_size, size.hidden_size)
            self._start_from_bigrams(session, steps, induction=recipe["start"] == "induction")

    def _start_from_bigrams(self, session: Session, steps: int, *, induction: bool) -> None:
        """As `pipeline.pretraining` does it: the pairs of one pass through the text, at most 2^24."""
        rows = min(session.data.rows_per_epoch, 2**24 // session.size.context_length)
        parts = (range(at, min(at + ROWS_AT_ONCE, rows)) for at in range(0, rows, ROWS_AT_ONCE))
        batches = (self._batch(torch.from_numpy(np.stack([session.data.row(i) for i in part]))) for part in parts)
        counted = count_bigrams(batches, session.size.vocab_size)
        start_from_bigrams(self.state, counted, steps, session.job["seed"], self.training, induction=induction)

    def step(self, tokens: torch.Tensor, factor: float, progress: float) -> object:
        """As `train.loop` does it, losses read included."""
        rows = rows_per_micro_batch(self.execution, tokens.shape[1] - 1, tokens.shape[0])
        batches = [self._batch(part) for part in tokens.split(rows)]
        result = train_step(
            self.state,
            batches,
            OBJECTIVES,
            learning_rate_factor=factor,
            max_grad_norm=self.training.max_grad_norm,
        )
        return float(result.loss), float(result.grad_norm)

    def _batch(self, tokens: torch.Tensor) -> Batch:
        inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
        segments, positions = self._documents(inputs)
        return Batch(inputs, targets, segments, positions, torch.zeros(len(tokens), dtype=torch.int64))

    def _documents(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Segments and positions [rows, time]: a row is one document, or (isolated) cut at each <|endoftext|>."""
        place = torch.arange(tokens.shape[1]).expand_as(tokens)
        if not self.isolate:
            return torch.zeros_like(tokens, dtype=torch.int32), place.to(torch.int32).contiguous()
        starts = tokens == self.end_of_text_id
        since = torch.where(starts, place, torch.zeros_like(place)).cummax(dim=1).values
        return starts.cumsum(1).to(torch.int32), (place - since).to(torch.int32)

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """Under the same isolation of documents as in training."""
        segments, positions = self._documents(tokens)
        with uncompiled():
            return self.state.model(tokens, segments=segments, positions=positions)

    def facts(self) -> dict[str, Any]:
        """Sizes and the resolved configuration."""
        model = self.state.model
        table = 0 if self.model_config.tied else model.embedding.weight.numel()
        matrices = sum(p.numel() for p in model.parameters() if p.ndim == 2) - table
        used = {
            "model": to_dict(self.model_config),
            "pretrain": to_dict(self.training),
            "runtime": to_dict(self.execution),
        }
        parameters = sum(p.numel() for p in model.parameters())
        return {"parameters": parameters, "matmul_parameters": matrices, "configuration": used}


def shape(session: Session) -> dict[str, Any]:
    """The model's size in Groundup's names."""
    size = session.size.as_dict()
    del size["vocab_size"]
    return {"kind": "decoder", "num_kv_heads": session.size.num_heads, **size}


def base_of(size: Size, hidden_size: int, num_layers: int) -> dict[str, int]:
    """The model that the recipe's rates were found on, in heads of this size's width: `model.scaling` asks for that."""
    width = size.hidden_size // size.num_heads
    heads = max(1, round(hidden_size / width))
    return {"base_hidden_size": heads * width, "base_num_layers": num_layers, "base_num_heads": heads}


def throughput_recipe(session: Session) -> dict[str, Any]:
    """Llama layout, optimizer and runtime as the settings say, all else at its default."""
    optimizer = AdamWConfig() if session.settings["optimizer"] == "adamw" else MuonConfig()
    return {
        "model": {"qk_norm": False, "tied": True},
        "pretrain": {"optimizer": to_dict(optimizer)},
        "runtime": session.settings.get("runtime", {}),
    }


def quality_recipe(session: Session) -> dict[str, Any]:
    """The YAML file with what it says for this width and this budget, then the overrides of the settings, on top."""
    recipe = read_yaml(Path(session.settings["recipe"]))
    for width, wide in recipe.pop("wider_than", {}).items():
        if session.size.hidden_size > int(width):
            recipe = merge(recipe, wide)
    budgets = recipe.pop("budgets", {})
    for minutes in sorted(budgets, key=float):
        if session.job["seconds"] <= 60 * float(minutes) * 1.001:
            recipe = merge(recipe, budgets[minutes] or {})
            break
    for key, value in session.settings.get("overrides", {}).items():
        recipe = merge(recipe, nested(key.split("."), value))
    session.rows = recipe.pop("batch_tokens", session.job["batch_tokens"]) // session.size.context_length
    return recipe


def nested(keys: list[str], value: Any) -> dict[str, Any]:
    """["a", "b"], 1 -> {"a": {"b": 1}}."""
    return {keys[0]: nested(keys[1:], value) if keys[1:] else value}


if __name__ == "__main__":
    run(Groundup)
