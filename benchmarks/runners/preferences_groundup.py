"""Groundup's preferences: rows as the stage writes them, `build_state` and `train_step` as the product calls them."""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from benchmarks.runners.preferences_session import judged_answers, one_length

from groundup.config import build
from groundup.export import load_model
from groundup.models import DPOConfig, IPOConfig, KTOConfig, ORPOConfig, PreferenceLossConfig, PreferenceRule
from groundup.tokens import (
    IGNORE,
    Batch,
    PackedPreferences,
    Preference,
    PreferencePacking,
    Turn,
    collate,
    write_preferences,
)
from groundup.tokens.preference_rows import Answered, packed, row_of
from groundup.tokens.tokenizer import Tokenizer
from groundup.train.settings import ExecutionConfig, TrainingConfig
from groundup.train.state import build_state
from groundup.train.step import Objectives, train_step
from groundup.train.way import configure_threads


def main() -> None:
    """Do the job, print one JSON line."""
    job: dict[str, Any] = json.loads(sys.argv[1])
    rule, place, context = rule_of(job), Path(job["place"]), int(job["context_length"])
    loaded = load_model(place / "model")
    exact = {} if job.get("defaults") else {"compile": "off", "kernels": "off", "device": "cpu"}
    execution = build(ExecutionConfig, {"threads": job["threads"], **exact}, "runtime")
    configure_threads(execution)
    optimizer = {"kind": "adamw", "learning_rate": job["learning_rate"], "weight_decay": 0.0, "beta2": 0.999}
    values = {"tokens": context, "global_batch_tokens": context, "optimizer": optimizer}
    training = build(TrainingConfig, {**values, "precision": "bf16" if job.get("defaults") else "fp32"}, "preferences")
    training = training.model_copy(update={"loss": PreferenceLossConfig(rule=rule)})
    start = {name: each.detach().clone() for name, each in loaded.model.named_parameters()}
    device = torch.device("cpu")
    state = build_state(
        loaded.model.config, loaded.model.vocab_size, training, execution, 1, device=device, start=start
    )
    batches = [without_padding(each) for each in batches_of(job, rule, loaded.tokenizer)]
    began = time.monotonic()
    if not isinstance(rule, ORPOConfig):
        batches = [replace(each, references=references(state.model, each)) for each in batches]
    reference_seconds = time.monotonic() - began
    objectives = Objectives(("pairs",), (0,), ("preferences",), (1.0,))
    losses, seconds = [], []
    for batch in batches:
        began = time.monotonic()
        done = train_step(state, [batch], objectives, learning_rate_factor=1.0, max_grad_norm=1.0)
        losses.append(float(done.loss))
        seconds.append(time.monotonic() - began)
    timed = sum(seconds[2:])
    figures = {
        "losses": losses,
        "seconds": sum(seconds),
        "reference_seconds": reference_seconds,
        "per_second": job["batch"] * len(seconds[2:]) / timed,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(figures))


def rule_of(job: dict[str, Any]) -> PreferenceRule:
    """The rule of a job; a step's answers are one group of KTO."""
    if job["rule"] == "kto":
        return KTOConfig(beta=job["beta"], group_size=job["batch"])
    kinds = {"dpo": DPOConfig, "ipo": IPOConfig, "orpo": ORPOConfig}
    return kinds[job["rule"]](beta=job["beta"])


def batches_of(job: dict[str, Any], rule: PreferenceRule, tokenizer: Tokenizer) -> list[Batch]:
    """The rows of each step."""
    place, context, size = Path(job["place"]), int(job["context_length"]), int(job["batch"])
    pairs = json.loads((place / "pairs.json").read_text(encoding="utf-8"))
    found = []
    for step in range(job["steps"]):
        chosen = pairs[step * size : (step + 1) * size]
        if isinstance(rule, ORPOConfig):
            found.append(_of_ids(one_length(step, size, tokenizer.vocab_size), context, tokenizer.end_of_text_id))
            continue
        folder = place / f"rows-{rule.kind}-{bool(job.get('defaults'))}-{step}"
        packing = PreferencePacking(context, group_size=size if isinstance(rule, KTOConfig) else 0)
        write_preferences(_preferences(chosen, rule), tokenizer, folder, packing)
        rows = PackedPreferences(folder, "pairs", context, tokenizer.vocab_size)
        found.append(collate([rows.row(index) for index in range(rows.num_rows)], [0] * rows.num_rows))
    return found


def _preferences(pairs: list[dict[str, str]], rule: PreferenceRule) -> list[Preference]:
    if isinstance(rule, KTOConfig):
        said = judged_answers(pairs)
        return [
            Preference(
                (Turn("user", each["prompt"]),),
                Turn("assistant", each["completion"]) if each["label"] else None,
                None if each["label"] else Turn("assistant", each["completion"]),
            )
            for each in said
        ]
    return [
        Preference(
            (Turn("user", each["prompt"]),), Turn("assistant", each["chosen"]), Turn("assistant", each["rejected"])
        )
        for each in pairs
    ]


def _of_ids(pairs: list[dict[str, list[int]]], context: int, padding: int) -> Batch:
    items = [
        [Answered(each["prompt"], each["chosen"], 1), Answered(each["prompt"], each["rejected"], IGNORE)]
        for each in pairs
    ]
    block = packed(items, context, padding)
    return collate([row_of(planes) for planes in block], [0] * len(block))


def without_padding(batch: Batch) -> Batch:
    """The batch up to the last place that any row uses: a whole set, packed by the stage, has next to no padding."""
    assert batch.answers is not None and batch.groups is not None and batch.references is not None
    used = int((batch.answers != IGNORE).any(0).nonzero().max()) + 1
    stop = min(-(-used // 32) * 32, batch.tokens.shape[1])
    planes = ("tokens", "targets", "segments", "positions", "answers", "groups", "references")
    return replace(batch, **{name: getattr(batch, name)[:, :stop].contiguous() for name in planes})


def references(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Log-probabilities of a batch's answers."""
    with torch.inference_mode():
        found: torch.Tensor = model(**batch.inputs())[0]
    return found.clone()


if __name__ == "__main__":
    main()
