"""The third phase of an encoder's recipe: labelled records -> packed rows -> the pretrained body under a task's head.

    examples   records of `task.sources` and `task.heldout` -> rows, labels found and named, an account of both
    task       starts from the pretrained weights; the same loop and step as every phase

Invariant: the phase differs from the others in its rows, its head and which layers learn, never in how it trains.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from groundup import config, evaluate, export, stage, tokens
from groundup.errors import DataError
from groundup.log import logger
from groundup.models import NAMING, EncoderConfig, Labeller, LabellerConfig, WeightedLossConfig
from groundup.parallel.compile import uncompiled
from groundup.pipeline.context import Context
from groundup.pipeline.mixtures import rows_per_step
from groundup.pipeline.phases import run_phase
from groundup.pipeline.task_config import TaskConfig
from groundup.pipeline.trained import trained_weights
from groundup.tokens import Mixture, MixtureSource, PackedExamples
from groundup.train.loading import load_weights
from groundup.train.start import start_from_pretrained
from groundup.train.state import TrainState
from groundup.train.step import Objectives
from groundup.train.way import configure_threads, pick_device

TRAIN, HELDOUT = "train", "heldout"


def _task(context: Context) -> TaskConfig:
    assert context.recipe.task is not None, "stages of a task are listed only with its section"
    return context.recipe.task


def examples_identity(context: Context) -> Mapping[str, Any]:
    """What decides the packed examples, beside the tokenizer."""
    task = _task(context)
    sources = {TRAIN: task.sources, HELDOUT: task.heldout}
    return {
        "kind": task.kind,
        "labels": list(task.labels),
        "context_length": context.recipe.model.context_length,
        **{name: [tokens.task_source_identity(each, Path.cwd()) for each in group] for name, group in sources.items()},
    }


def build_examples(context: Context, work: Path) -> Mapping[str, Any]:
    """Read, encode and pack all labelled records; labels are those that occur in training, or those that are named."""
    task, tokenizer = _task(context), context.tokenizer()
    found: dict[str, dict[str, list[tokens.Example]]] = {TRAIN: {}, HELDOUT: {}}
    report: dict[str, Any] = {}
    for split, sources in ((TRAIN, task.sources), (HELDOUT, task.heldout)):
        for source in sources:
            reading = tokens.ExampleReading(source, task.kind, Path.cwd(), task.labels)
            found[split][source.name] = list(reading)
            report.setdefault(split, {})[source.name] = {"records": reading.account()}
    labels = list(task.labels)
    counts: dict[str, int] = {}
    if task.kind in NAMING:
        counted = tokens.labels_of((each for group in found[TRAIN].values() for each in group), task.kind)
        labels = labels or list(counted)
        counts = {label: counted[label] for label in labels}
        shown = ", ".join(f"{label} ({count:,})" for label, count in counts.items())
        logger.info(f"task: {len(labels)} labels: {shown[:150]}")
    for split, groups in found.items():
        for name, examples in groups.items():
            length = context.recipe.model.context_length
            written = tokens.write_examples(examples, task.kind, labels, tokenizer, work / split / name, length)
            report[split][name] |= written
            if written["cut"]:
                logger.warning(f"{name}: {written['cut']} examples longer than {length} tokens were cut")
    stage.write_json(work / "report.json", {**report, "label_counts": counts})
    return {"kind": task.kind, "labels": labels, "label_counts": counts, **report}


def task_identity(context: Context) -> Mapping[str, Any]:
    """What decides the weights of the task, beside the stages they come from."""
    task = {key: value for key, value in config.to_dict(_task(context)).items() if key not in ("sources", "heldout")}
    return {"model": config.to_dict(context.recipe.model), "task": task, "seed": context.recipe.seed}


def packed(context: Context, split: str) -> dict[str, PackedExamples]:
    """Rows of each source of a split."""
    done, length = context.done["examples"], context.recipe.model.context_length
    return {
        name: PackedExamples(done.path / split / name, name, length, context.vocab_size)
        for name in done.summary.get(split, {})
    }


def labeller_config(context: Context) -> LabellerConfig:
    """The encoder's body under a head for this task."""
    body = context.recipe.model
    assert isinstance(body, EncoderConfig), "a recipe with a task is checked to have an encoder"
    found = context.done["examples"].summary
    texts = max(
        (each.get("windows_per_row", 0) for split in (TRAIN, HELDOUT) for each in found[split].values()), default=0
    )
    answer_tokens = max((each.get("answer_tokens", 0) for each in found[TRAIN].values()), default=0)
    return LabellerConfig.on(body, _task(context).kind, found["labels"], texts, answer_tokens)


def class_weights(
    asked: Literal["balanced"] | dict[str, float], counts: Mapping[str, int], texts: int | None = None
) -> tuple[float, ...]:
    """A weight of each label, in their order; `balanced`: one over its share, so that they are 1 on average.

    `texts`: how many there are, where each may have several labels; a label weighs then what it counts where a text has
    it, and `balanced` makes that as much as where none has. Raises DataError for a weight of a label that there is not,
    or a label without one.
    """
    if asked == "balanced" and texts is not None:
        return tuple((texts - count) / count if 0 < count < texts else 1.0 for count in counts.values())
    if asked == "balanced":
        total, present = sum(counts.values()), sum(count > 0 for count in counts.values())
        return tuple(total / (present * count) if count else 0.0 for count in counts.values())
    odd = sorted(asked.keys() ^ counts.keys())
    if odd:
        what = "is no label" if odd[0] in asked else "has no weight"
        raise DataError(f"task.class_weights: {odd[0]!r} {what}; labels are {', '.join(counts)[:90]}")
    return tuple(asked[label] for label in counts)


def _training(context: Context) -> TaskConfig:
    """The recipe's section, with the weights of the classes in its loss."""
    task = _task(context)
    if task.class_weights is None:
        return task
    found = context.done["examples"].summary
    texts = sum(each["examples"] for each in found[TRAIN].values()) if task.kind == "multilabel" else None
    weights = class_weights(task.class_weights, found["label_counts"], texts)
    return task.model_copy(update={"loss": WeightedLossConfig(**task.loss.model_dump(), class_weights=weights)})


def build_task(context: Context, work: Path) -> Mapping[str, Any]:
    """Train the head, and as much of the body as the recipe says, on the labelled records."""
    recipe, task = context.recipe, _task(context)
    rows = packed(context, TRAIN)
    total = sum(each.num_rows for each in rows.values())
    sources = [MixtureSource(each, each.num_rows / total) for each in rows.values()]
    mixture = Mixture(sources, rows_per_step(task, recipe), recipe.seed)
    names = tuple(mixture.names)
    model = labeller_config(context)
    objectives = Objectives(names, (0,) * len(names), ("task",), (1.0,), tokens.heads_of(task.kind, len(model.labels)))
    pretrained = trained_weights(context, "pretrain")

    def start(state: TrainState) -> None:
        assert isinstance(state.model, Labeller), "the body of a task has a label head"
        fresh = start_from_pretrained(state.model, pretrained)
        logger.info(f"task: starts from the pretrained weights; new are {', '.join(fresh)}")

    def validate(model: Labeller) -> Mapping[str, Any]:
        with uncompiled():
            found = [_measured(context, model, each, recipe.runtime.validation_rows) for each in heldout.values()]
        return {name: metric.value for name, metric in found[0].metrics.items()} if found else {}

    heldout, training = packed(context, HELDOUT), _training(context)
    return run_phase(context, work, "task", training, (mixture, objectives), start, validate, model, task.layers)


def _measured(context: Context, model: Labeller, rows: PackedExamples, max_rows: int = 0) -> evaluate.Labelled:
    training = model.training
    model.eval()
    try:
        return evaluate.measure_labels(model, rows, context.tokenizer(), max_rows)
    finally:
        model.train(training)


def trained_labeller(context: Context, compute_dtype: torch.dtype = torch.float32) -> Labeller:
    """The model as the task's phase left it: float32 weights, computing in `compute_dtype`."""
    recipe = context.recipe
    configure_threads(recipe.runtime)
    with torch.device("meta"):
        model = Labeller(labeller_config(context), context.vocab_size)
    model.to_empty(device=pick_device(recipe.runtime))
    load_weights(model, trained_weights(context, "task"))
    model.set_compute_dtype(compute_dtype)
    return model.eval()


def export_task(context: Context, folder: Path) -> dict[str, Any]:
    """Write the model of the task for transformers; what `save_model` returns."""
    return export.save_model(trained_labeller(context), context.tokenizer(), folder, context.recipe.export)


def measure_task(context: Context, dtype: torch.dtype) -> tuple[dict[str, evaluate.Metric], dict[str, Any]]:
    """Metrics of all held-out sources (the first's also under plain names), and predictions as samples."""
    model = trained_labeller(context, dtype)
    metrics: dict[str, evaluate.Metric] = {}
    samples: dict[str, Any] = {}
    for name, rows in packed(context, HELDOUT).items():
        found = _measured(context, model, rows)
        metrics = {**found.metrics, **metrics}
        metrics |= {f"{metric}/{name}": value for metric, value in found.metrics.items()}
        samples[name] = found.predictions[:100]
    if not metrics:
        raise DataError("a task without held-out records cannot be judged; give task.heldout")
    return metrics, samples
