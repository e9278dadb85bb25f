"""Groundup's encoder: `build_state` and `train_step` as the product calls them, with the defaults of `runtime:`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from benchmarks.runners.encoder_session import Session, judged, masked_loss
from safetensors.torch import load_file, save_file

from groundup.config import build
from groundup.evaluate import measure_labels
from groundup.models import (
    EncoderConfig,
    Labeller,
    LabellerConfig,
    from_huggingface,
    huggingface_config,
    to_huggingface,
)
from groundup.parallel.compile import uncompiled
from groundup.tokens import Batch, Mixture, MixtureSource, PackedExamples, Tokenizer
from groundup.tokens.shards import read_index
from groundup.train.layout import rows_per_micro_batch
from groundup.train.settings import ExecutionConfig, TrainingConfig
from groundup.train.start import start_from_pretrained
from groundup.train.state import TrainState, build_state
from groundup.train.step import Objectives, train_step
from groundup.train.way import configure_threads, pick_device


def main() -> None:
    """Do the job, print one JSON line."""
    session = Session()
    size = dict(session.job["size"])
    vocab_size = size.pop("vocab_size")
    values = {"kind": "encoder", "next_sentence": True, **size, **session.settings.get("model", {})}
    config = build(EncoderConfig, values, "model")
    execution = build(ExecutionConfig, {"threads": session.job["threads"]}, "runtime")
    configure_threads(execution)
    (pretrain if session.job["task"] == "pretrain" else classify)(session, config, vocab_size, execution)


def training_config(session: Session, step_tokens: int) -> TrainingConfig:
    """The phase in the recipe's words; the rate factor comes from the session."""
    optimizer = {"kind": "adamw", "weight_decay": 0.01, **session.settings.get("optimizer", {})}
    if optimizer["kind"] == "adamw":
        optimizer["learning_rate"] = session.settings["learning_rate"]
    values = {"tokens": session.total_steps * step_tokens, "global_batch_tokens": step_tokens, "optimizer": optimizer}
    return build(TrainingConfig, values, "pretrain")


def pretrain(session: Session, config: EncoderConfig, vocab_size: int, execution: ExecutionConfig) -> None:
    """Masked tokens and next sentences from the session's rows."""
    time, per_step = config.context_length, session.job["batch_tokens"] // config.context_length
    training = training_config(session, per_step * time)
    state = build_state(config, vocab_size, training, execution, session.job["seed"], device=pick_device(execution))
    objectives = Objectives(("text",), (0,), ("pretrain",), (1.0,), ("", "next_sentence"))
    rows, micro_rows = session.rows("train"), rows_per_micro_batch(execution, time, per_step)
    session.begin()
    for step in range(session.total_steps):
        starts = range(step * per_step, (step + 1) * per_step, micro_rows)
        batches = [_batch({name: plane[at : at + micro_rows] for name, plane in rows.items()}) for at in starts]
        _step(state, batches, objectives, session.factor(step), training)
        session.after_step()
    state.model.eval()

    def scores(tokens: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
        with uncompiled():
            found: torch.Tensor = state.model(tokens, parts=parts)
        return found

    loss = masked_loss(scores, session.rows("heldout"))
    if folder := session.job.get("save"):
        _save(state, config, vocab_size, Path(folder))
    parameters = sum(each.numel() for each in state.model.parameters())
    session.report(per_step * time, {"masked_loss": loss, "parameters": parameters})


def _batch(rows: dict[str, torch.Tensor]) -> Batch:
    tokens, parts = rows["tokens"], rows["parts"].to(torch.int32)
    follows = torch.full_like(tokens, -100)
    follows[:, 0] = rows["follows"]
    positions = torch.arange(tokens.shape[1], dtype=torch.int32).expand_as(tokens).contiguous()
    targets = torch.stack([rows["targets"], follows], 1)
    sources = torch.zeros(len(tokens), dtype=torch.int64)
    return Batch(tokens, targets, torch.zeros_like(parts), positions, sources, parts)


def _step(
    state: TrainState, batches: list[Batch], objectives: Objectives, factor: float, training: TrainingConfig
) -> None:
    """As `train.loop` does it, losses read included."""
    result = train_step(state, batches, objectives, learning_rate_factor=factor, max_grad_norm=training.max_grad_norm)
    float(result.loss), float(result.grad_norm)


def _save(state: TrainState, config: EncoderConfig, vocab_size: int, folder: Path) -> None:
    """A folder that transformers opens."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: each.detach().float() for name, each in state.model.state_dict().items()}
    tensors = {name: each.contiguous() for name, each in to_huggingface(config, weights).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(huggingface_config(config, vocab_size)))


def classify(session: Session, config: EncoderConfig, vocab_size: int, execution: ExecutionConfig) -> None:
    """Labels of texts, packed side by side in rows, from the pretrained weights."""
    tokenizer = Tokenizer.load(session.folder / "tokenizer")
    sides = {
        side: PackedExamples(session.folder / "task" / side, side, config.context_length, vocab_size)
        for side in ("train", "heldout")
    }
    labels, examples = sides["train"].labels, session.facts["examples"]["train"]
    per_step = max(1, round(session.job["batch_examples"] * sides["train"].num_rows / examples))
    epochs = session.job["epochs"] * session.settings.get("share", 1.0)
    session.total_steps = max(1, round(epochs * sides["train"].num_rows / per_step))
    training = training_config(session, per_step * config.context_length)
    texts = max(int(read_index(session.folder / "task" / side)["summary"]["windows_per_row"]) for side in sides)
    model = LabellerConfig.on(config, "sequence", labels, texts)
    state = build_state(model, vocab_size, training, execution, session.job["seed"], device=pick_device(execution))
    assert isinstance(state.model, Labeller), "built so"
    tensors = load_file(Path(session.job["start"]) / "model.safetensors")
    start_from_pretrained(state.model, from_huggingface(config, vocab_size, tensors))
    mixture = Mixture([MixtureSource(sides["train"], 1.0)], per_step, session.job["seed"])
    objectives = Objectives(("train",), (0,), ("task",), (1.0,))
    micro_rows = rows_per_micro_batch(execution, config.context_length, per_step)
    session.begin()
    for step in range(session.total_steps):
        batches = [mixture.batch(step, at, micro_rows) for at in range(0, per_step, micro_rows)]
        _step(state, batches, objectives, session.factor(step), training)
        session.after_step()
    found = measure_labels(state.model.eval(), sides["heldout"], tokenizer)
    predicted = [labels.index(label) for label in found.predictions]
    expected = [labels.index(each["expected"]) for each in sides["heldout"].examples()]
    figures: dict[str, Any] = judged(predicted, expected, len(labels))
    seen = per_step * examples / sides["train"].num_rows
    session.report(seen, figures)


if __name__ == "__main__":
    main()
