"""A model and a file of tasks -> figures, without a run: `groundup evaluate MODEL --tasks TASKS`.

    recipe, run, model folder --load_target--> model        tasks.yaml --EvaluateConfig--> tasks
    files of text --encoded as for training--> rows         both --the same measures as a run's--> evaluation.json

Invariant: nothing is trained, and the figures are those that a run of this model would have on the same items. Nothing
is known of the text it was trained on, so contamination is not looked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from groundup import config, evaluate, stage, tokens
from groundup.errors import RecipeError
from groundup.evaluate import EvaluateConfig, Evaluation, Subject
from groundup.export import LoadedModel
from groundup.inspection import documents_of
from groundup.models import causal
from groundup.pipeline import anchored
from groundup.scratch import scratch_folder
from groundup.tokens import PackedText, Rows

TEXT = "text"
EVALUATION, SAMPLES = "evaluation.json", "samples.json"


def read_tasks(path: str | None, overrides: Sequence[str]) -> EvaluateConfig:
    """What a file says is to be measured: the fields of `evaluate:`, at the top or in a recipe's section of that name.

    Paths that are not found from the current folder are looked for beside the file; None: no file. Raises RecipeError.
    """
    values: Mapping[str, Any] = {} if path is None else config.read_yaml(Path(path))
    section = values.get("evaluate", values)
    if not isinstance(section, Mapping):
        raise RecipeError(f"{path}: evaluate is a {type(section).__name__}; give a mapping with tasks")
    changed = config.apply_overrides({"evaluate": section}, [f"evaluate.{override}" for override in overrides])
    inside = anchored(changed, Path(path or "").resolve().parent)["evaluate"]
    return config.build(EvaluateConfig, inside, path or "options")


def score(model: LoadedModel, settings: EvaluateConfig, texts: Sequence[str] = ()) -> Evaluation:
    """All tasks, and bits per byte of the files of text, if there are any. Raises RecipeError when there is nothing."""
    if not settings.tasks and not texts:
        raise RecipeError("groundup evaluate: nothing to measure; give --tasks FILE with tasks, or --text FILE")
    causal(model.model)
    with scratch_folder("scoring") as folder:
        rows = {TEXT: _rows(model, texts, folder)} if texts else {}
        measures = [evaluate.measure_language] if texts else []
        subject = Subject(model.model, model.tokenizer, rows)
        return evaluate.measure(subject, settings, [*measures, evaluate.measure_tasks])


def _rows(model: LoadedModel, paths: Sequence[str], folder: Path) -> Rows:
    """Texts as held-out text is packed."""
    documents = chain.from_iterable(documents_of(path, folder) for path in paths)
    tokens.write_shards(documents, model.tokenizer, folder / TEXT)
    return PackedText(folder / TEXT, TEXT, model.model.config.context_length, model.tokenizer.vocab_size)


def write(evaluation: Evaluation, folder: Path) -> None:
    """`evaluation.json` and `samples.json` into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    stage.write_json(folder / EVALUATION, evaluation.metrics_dict())
    stage.write_json(folder / SAMPLES, evaluation.samples)


def lines(evaluation: Evaluation) -> Iterator[str]:
    """A table for people: metric, value with its standard error, number of units."""
    width = max(map(len, evaluation.metrics), default=0)
    for name, metric in evaluation.metrics.items():
        error = "" if metric.stderr is None else f" ± {metric.stderr:.4f}"
        value = f"{metric.value:10.4f}" if math.isfinite(metric.value) else f"{'-':>10}"
        yield f"{name:<{width}}  {value}{error:<10}  n {metric.n}"
