"""Numbers that are none (G13), eight at once (G14), changed values (G15), a checkpoint's cost (G9)."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from benchmarks.reliability import children
from benchmarks.reliability.crash_points import toy_state
from benchmarks.reliability.runs import STEPS, Run, write_recipe
from benchmarks.reliability.tiers import Tier
from safetensors.torch import load_file

from groundup import load_recipe, pipeline, stage
from groundup.errors import GroundupError, first_line
from groundup.train.saving import Saver

SPIKES = "pretrain.spikes={window_steps: 8, threshold: 6, batches_before: 2, batches_after: 1, action: %s}"
NUMBERS: dict[str, tuple[str, tuple[str, ...], int]] = {
    "loss NaN": ("nan_loss@7,nan_loss@20", (), 0),
    "gradient NaN": ("nan_grad@7", (), 0),
    "gradient infinite": ("inf_grad@9", (), 0),
    "spike, skipped": ("spike@30", (SPIKES % "skip",), 0),
    "spike, rolled back": ("spike@30", (SPIKES % "rollback",), 0),
    "no memory": ("oom@5", (), 0),
    "too many": (",".join(f"nan_loss@{step}" for step in range(5, 25)), ("pretrain.max_skipped_steps=3",), 7),
    "learning rate 1e6": ("", ("pretrain.optimizer.learning_rate=1e6", "pretrain.max_skipped_steps=3"), 7),
}
"""What goes wrong, what the recipe says beside it, the expected exit code."""
ON_RANKS = ("loss NaN", "gradient infinite", "spike, skipped", "spike, rolled back", "too many")


def numbers(tier: Tier, folder: Path) -> dict[str, Any]:
    """Losses and gradients that are no numbers, or jump: left out or gone back from, counted, a finite end."""
    recipe = write_recipe(folder, pretrain={"optimizer": {"kind": "sgd", "learning_rate": 0.1}})
    prepared = Run(recipe, folder / "prepared", "prepare")
    prepared.finish()
    found: dict[str, Any] = {}
    for ranks in (1, 2):
        for name, (faults, words, code) in NUMBERS.items():
            if ranks > 1 and name not in ON_RANKS:
                continue
            work = prepared.copy(folder / f"{name}-{ranks}".replace(" ", "-").replace(",", "")).workdir
            run = Run(recipe, work, "pretrain", *words)
            given = faults if ranks == 1 else faults.replace("@7", "@7:rank1").replace("@9", "@9:rank1")
            started = run.ranks(ranks, given) if ranks > 1 else [run.start(given)]
            codes = {child.wait() for child in started}
            found[f"{name}, {ranks} ranks"] = codes == {code} and _is_counted(run, name, code)
    return {"kinds": len(found), "bad": [name for name, good in found.items() if not good], "ok": all(found.values())}


def _is_counted(run: Run, name: str, code: int) -> bool:
    if code:
        return True
    folder = run.stages()["pretrain"]
    summary = stage.read_manifest(folder)["summary"]
    weights = load_file(folder / summary["weights"]).values()
    finite = all(bool(torch.isfinite(value).all()) for value in weights)
    losses = all(math.isfinite(line["loss"]) for line in run.lines()[-3:] if line["loss"] is not None)
    told = {
        "spike, rolled back": len(run.events("rollback")) == 1 and summary["skipped_steps"] == 0,
        "no memory": len(run.events("micro_batch_halved")) == 1,
        "loss NaN": summary["skipped_steps"] == len(run.events("step_skipped")) == 2,
    }.get(name, summary["skipped_steps"] == len(run.events("step_skipped")) == 1)
    return finite and losses and bool(told)


def locks(tier: Tier, folder: Path) -> dict[str, Any]:
    """Eight commands on one run at the same moment: one works, seven are told who does."""
    recipe = write_recipe(folder)
    prepared = Run(recipe, folder / "prepared", "prepare")
    prepared.finish()
    bad = []
    for number in range(tier.locks):
        run = Run(recipe, prepared.copy(folder / f"round-{number}").workdir, "pretrain")
        begun = [run.start("slow_step=100", wait_at_gate=True) for _ in range(8)]
        for child in begun:
            child.open_gate()
        ends = sorted(child.wait() for child in begun)
        winner = next((child for child in begun if child.code == 0), None)
        others = [child.said() for child in begun if child.code == 5]
        named = winner is not None and all(f"process {winner.pid} on" in said for said in others)
        if ends != [0] + [5] * 7 or not named or len(run.lines()) != STEPS:
            bad.append(f"round {number}: codes {ends}, {len(run.lines())} steps, {others}")
    return {"rounds": tier.locks, "one_winner": tier.locks - len(bad), "bad": bad, "ok": not bad}


MUTATIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("pretrain.optimizer.learning_rate=0.5", ("optimizer.learning_rate",)),
    ("pretrain.optimizer.weight_decay=0.5", ("optimizer.weight_decay",)),
    ("pretrain.optimizer.kind=adamw", ("optimizer.kind",)),
    ("pretrain.global_batch_tokens=1024", ("global_batch_tokens",)),
    ("pretrain.tokens=61440", ("training.tokens",)),
    ("pretrain.precision=bf16", ("precision",)),
    ("pretrain.max_grad_norm=0.5", ("max_grad_norm",)),
    ("pretrain.max_skipped_steps=3", ("max_skipped_steps",)),
    ("pretrain.schedule.kind=linear", ("schedule.kind",)),
    ("pretrain.schedule.warmup_steps=3", ("schedule.warmup_steps",)),
    ("pretrain.loss.label_smoothing=0.1", ("label_smoothing",)),
    ("pretrain.loss.z_loss=0.001", ("z_loss",)),
    ("pretrain.average={decay: 0.9}", ("average",)),
    ("pretrain.spikes={window_steps: 8}", ("spikes",)),
    ("seed=9", ("seed",)),
    ("model.num_layers=3", ("num_layers",)),
    ("model.hidden_size=64", ("hidden_size",)),
    ("model.ffn_size=96", ("ffn_size",)),
    ("model.num_heads=4", ("num_heads",)),
    ("model.context_length=32", ("context_length",)),
    ("model.residual_dropout=0.1", ("residual_dropout",)),
    ("tokenizer.vocab_size=400", ("tokenizer.vocab_size",)),
    ("corpus.split.validation=0.3", ("split.validation",)),
    ("corpus.split.test=0.2", ("split.test",)),
    ("corpus.deduplicate.near=false", ("deduplicate.near",)),
    ("pretrain.optimizer.learning_rate=0.5; seed=9; model.num_layers=3", ("learning_rate", "seed", "num_layers")),
    ("tokenizer.vocab_size=400; pretrain.tokens=61440", ("tokenizer.vocab_size", "training.tokens")),
    ("corpus.split.validation=0.3; model.ffn_size=96", ("split.validation", "ffn_size")),
    ("data: a byte", ("corpus.",)),
    ("data: a document more", ("corpus.",)),
)
"""Overrides, or what is done to the text; and what the refusal must name."""


def changes(tier: Tier, folder: Path) -> dict[str, Any]:
    """A half-done run is gone on with under other values: refused, with every field; then under its own."""
    text = folder / "text.jsonl"
    folder.mkdir(exist_ok=True)
    words = ["river", "stone", "winter", "garden", "letter", "morning", "silver", "window"]
    records = [{"id": str(n), "text": " ".join(words[(n * k) % 8] for k in range(1, 80))} for n in range(300)]
    text.write_text("".join(f"{json.dumps(each)}\n" for each in records), encoding="utf-8")
    recipe = write_recipe(folder)
    values = yaml.safe_load(recipe.read_text())
    values["corpus"] = {"sources": [{"name": "text", "path": str(text)}], "split": {"validation": 0.2}}
    values["instruct"] = None
    values["pretrain"] |= {"optimizer": {"kind": "muon"}, "schedule": {"kind": "cosine", "warmup_steps": 5}}
    recipe.write_text(yaml.safe_dump(values))
    run = Run(recipe, folder / "work")
    run.stopped_at(STEPS // 3)
    before = {path.name: path.stat().st_mtime_ns for path in run.checkpoints()}
    chosen = MUTATIONS if tier.mutations >= len(MUTATIONS) else MUTATIONS[:: len(MUTATIONS) // tier.mutations]
    child = children.start(_trying(run, text, chosen, folder / "refused.json"), folder / "said")
    assert child.wait(600) == 0, child.errors()
    missed = json.loads((folder / "refused.json").read_text())
    kept = before == {path.name: path.stat().st_mtime_ns for path in run.checkpoints()}
    run.finish()
    found = {"mutations": len(chosen), "refused_with_every_field": len(chosen) - len(missed), "missed": missed}
    return {**found, "ok": not missed and kept}


def _trying(run: Run, text: Path, chosen: tuple[tuple[str, tuple[str, ...]], ...], path: Path) -> Callable[[], int]:
    def act() -> int:
        missed = {}
        for words, fields in chosen:
            content = text.read_bytes()
            overrides = [] if words.startswith("data") else words.split("; ")
            if words == "data: a byte":
                text.write_bytes(content.replace(b"river", b"delta", 1))
            elif overrides == []:
                text.write_bytes(content + b'{"id": "new", "text": "one more document about rivers"}\n')
            said = _refusal(run, words, overrides, fields)
            text.write_bytes(content)
            if said:
                missed[words] = said
        path.write_text(json.dumps(missed))
        return 0

    return act


def _refusal(run: Run, words: str, overrides: list[str], fields: tuple[str, ...]) -> str:
    """What is missing from the refusal; empty where it is as it should be."""
    given = [f"runtime.workdir={run.workdir}", *overrides]
    try:
        pipeline.run(load_recipe(run.recipe, given), "pretrain")
    except GroundupError as error:
        named = [detail.split(":")[0] for detail in error.details]
        missing = [field for field in fields if not any(field in name for name in named)]
        if error.exit_code != 2 or missing or len(first_line(error)) > 200:
            return f"code {error.exit_code}, not named {missing}: {first_line(error)}"
        return ""
    return "not refused"


def cost(tier: Tier, folder: Path) -> dict[str, Any]:
    """Seconds that one checkpoint keeps the training's thread, and processor seconds of the one that writes it."""
    state, blocked, written = toy_state(512, 8), [], []
    size = sum(parameter.numel() for parameter in state.model.parameters())
    times: list[float] = []
    saver = Saver(folder / "cost", 2, True, lambda path: times.append(time.thread_time()), lambda step, fault: None)
    for step in range(1, 6):
        state.step = step
        began = time.monotonic()
        saver.save(state, {}, {})
        blocked.append(time.monotonic() - began)
        saver.wait()
        written.append(times[-1])  # a thread of its own each time, whose clock begins at 0
    seconds = statistics.median(blocked), statistics.median(written)
    share = round(sum(seconds) / 60, 5)
    return {
        "parameters": size,
        "blocked_seconds": round(seconds[0], 4),
        "writer_processor_seconds": round(seconds[1], 4),
        "share_at_one_a_minute": share,
        "ok": share <= 0.02,
    }
