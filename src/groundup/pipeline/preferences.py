"""The last phase of a decoder's recipe: preferences -> packed rows -> what the model said of them before -> tuning.

    comparisons   records of `preferences.sources` and `.heldout` -> rows, with an account of both
    reference     the weights to start from -> log-probability of each answer, so that no second model is in memory
    preferences   starts from those weights; the same loop and step as every phase, text and conversations beside it

Invariant: the phase differs from the others in its rows and its loss, never in how it trains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from groundup import config, evaluate, stage, tokens
from groundup.log import progress
from groundup.models import KTOConfig, Network, PreferenceLossConfig
from groundup.parallel.compile import uncompiled
from groundup.pipeline.context import Context
from groundup.pipeline.mixtures import rows_per_step, text_rows
from groundup.pipeline.phases import run_phase
from groundup.pipeline.preferences_config import PreferencesConfig
from groundup.pipeline.trained import trained_model, trained_weights
from groundup.tokens import (
    JoinedRows,
    Mixture,
    MixtureSource,
    PackedConversations,
    PackedPreferences,
    PreferencePacking,
    PreferenceReading,
    SelectedRows,
)
from groundup.train.phase import Validate
from groundup.train.settings import dtype_of
from groundup.train.step import Objectives
from groundup.train.way import pick_device, way_to_compute

TRAIN, HELDOUT = "train", "heldout"
PHASE = "preferences"


def _section(context: Context) -> PreferencesConfig:
    assert context.recipe.preferences is not None, "stages of preferences are listed only with their section"
    return context.recipe.preferences


def final_phase(context: Context, before: str = "") -> str:
    """The last phase that is done and whose weights go on generating; with `before` the last one before that."""
    phases = [name for name in ("pretrain", "instruct", PHASE) if name in context.done and name != before]
    return phases[-1]


def comparisons_identity(context: Context) -> Mapping[str, Any]:
    """What decides the packed preferences, beside the tokenizer."""
    section = _section(context)
    split = {TRAIN: section.sources, HELDOUT: section.heldout}
    return {
        "group_size": _group_size(section),
        "context_length": context.recipe.model.context_length,
        "template": config.digest(tokens.CHAT_TEMPLATE),
        **{name: [tokens.preference_source_identity(each, Path.cwd()) for each in split[name]] for name in split},
    }


def _group_size(section: PreferencesConfig) -> int:
    """Answers of a group; 0 where pairs are compared."""
    return section.objective.group_size if isinstance(section.objective, KTOConfig) else 0


def build_comparisons(context: Context, work: Path) -> Mapping[str, Any]:
    """Read, encode and pack all preferences."""
    section, tokenizer, report = _section(context), context.tokenizer(), dict[str, Any]()
    for split, sources in ((TRAIN, section.sources), (HELDOUT, section.heldout)):
        for source in sources:
            reading = PreferenceReading(source, Path.cwd())
            packing = PreferencePacking(context.recipe.model.context_length, source.overlong, _group_size(section))
            written = tokens.write_preferences(reading, tokenizer, work / split / source.name, packing)
            report.setdefault(split, {})[source.name] = {**written, "records": reading.account()}
    stage.write_json(work / "report.json", report)
    return report


def packed_preferences(context: Context, split: str, *, with_reference: bool = True) -> dict[str, PackedPreferences]:
    """Rows of each source of a split; without the reference stage (ORPO) its log-probabilities are 0."""
    done, length = context.done["comparisons"], context.recipe.model.context_length
    reference = context.folder("reference") if with_reference and "reference" in context.done else None
    return {
        name: PackedPreferences(
            done.path / split / name,
            name,
            length,
            context.vocab_size,
            None if reference is None else reference / split / name,
        )
        for name in done.summary.get(split, {})
    }


def reference_identity(context: Context) -> Mapping[str, Any]:
    """What decides the log-probabilities, beside rows and weights."""
    return {"model": config.to_dict(context.recipe.model), "precision": _section(context).precision}


def build_reference(context: Context, work: Path) -> Mapping[str, Any]:
    """One pass over all rows with the weights that the phase starts from."""
    model, summary = _start_model(context), dict[str, Any]()
    for split in (TRAIN, HELDOUT):
        for name, rows in packed_preferences(context, split, with_reference=False).items():
            found = _log_probabilities(model, rows)
            folder = work / split / name
            folder.mkdir(parents=True, exist_ok=True)
            tokens.write_array(folder / tokens.REFERENCES_FILE, found)
            summary.setdefault(split, {})[name] = {"rows": len(found)}
    return {"weights_of": final_phase(context, before=PHASE), **summary}


def _start_model(context: Context) -> Network:
    """The model that the phase starts from, computing as the phase will."""
    recipe, section = context.recipe, _section(context)
    model = trained_model(context, final_phase(context, before=PHASE), dtype_of(section.precision))
    device = pick_device(recipe.runtime)
    way = way_to_compute(recipe.runtime, recipe.model, section, context.vocab_size, device)
    model.set_kernels(way == "kernels")
    return model


def _log_probabilities(model: Network, rows: PackedPreferences) -> NDArray[np.float32]:
    """Of the answers of every row, by number of the segment [rows, time]."""
    found = np.zeros((rows.num_rows, rows.context_length), dtype="<f4")
    done = 0
    with uncompiled(), progress(f"reference {rows.name}", rows.num_rows, "rows") as bar:
        for _, log_probabilities, _ in evaluate.scored_answers(model, rows):
            count = len(log_probabilities)
            found[done : done + count] = log_probabilities.float().cpu().numpy()
            done += count
            bar.advance(count)
    return found


def preferences_identity(context: Context) -> Mapping[str, Any]:
    """What decides the tuned weights, beside the stages they come from."""
    section = config.to_dict(_section(context))
    training = {key: value for key, value in section.items() if key not in ("sources", "heldout")}
    return {"model": config.to_dict(context.recipe.model), "training": training, "seed": context.recipe.seed}


def preferences_data(context: Context) -> tuple[Mixture, Objectives]:
    """Preferences (weight 1), and as much text and conversations beside them as the recipe asks for."""
    recipe, section = context.recipe, _section(context)
    rows = packed_preferences(context, TRAIN)
    sizes = section.mixture or {name: float(each.num_rows) for name, each in rows.items()}
    own = 1.0 - section.replay_fraction - section.instruct_fraction
    compared = [MixtureSource(each, own * share) for each, share in _shares(rows, sizes)]
    replayed = [MixtureSource(each, section.replay_fraction * share) for each, share in _replayed(context)]
    asked = [MixtureSource(each, section.instruct_fraction * share) for each, share in _conversations(context)]
    mixture = Mixture([*compared, *replayed, *asked], rows_per_step(section, recipe), recipe.seed)
    membership = (0,) * len(compared) + (1,) * len(replayed) + (2,) * len(asked)
    weights = (1.0, section.replay_weight, section.instruct_weight)
    return mixture, Objectives(tuple(mixture.names), membership, (PHASE, "pretrain", "instruct"), weights)


def _shares(rows: Mapping[str, Any], sizes: Mapping[str, float]) -> list[tuple[Any, float]]:
    """The rows that have a share, each with its part of the whole."""
    total = sum(sizes.get(name, 0.0) for name in rows)
    return [(rows[name], sizes[name] / total) for name in rows if sizes.get(name)]


def _replayed(context: Context) -> list[tuple[tokens.Rows, float]]:
    """Text of the train split in the shares of pretraining, each source as `replay_<name>`."""
    if not _section(context).replay_fraction:
        return []
    rows = text_rows(context, "train")
    sizes = context.recipe.pretrain.mixture or {name: float(each.num_rows) for name, each in rows.items()}
    return [(JoinedRows(f"replay_{each.name}", [each]), share) for each, share in _shares(rows, sizes)]


def _conversations(context: Context) -> list[tuple[tokens.Rows, float]]:
    """The conversations of instruction tuning in their shares, each source as `instruct_<name>`."""
    if not _section(context).instruct_fraction:
        return []
    folder, length, instruct = context.folder("conversations"), context.recipe.model.context_length, context.instruct()
    rows = {
        source.name: PackedConversations(folder / source.name, f"instruct_{source.name}", length, context.vocab_size)
        for source in instruct.sources
    }
    return _shares(rows, instruct.mixture or {name: float(each.num_rows) for name, each in rows.items()})


def with_budget(section: PreferencesConfig, mixture: Mixture) -> PreferencesConfig:
    """The section with its budget in tokens: `epochs` are passes over the rows of all preferences of the mixture."""
    if section.epochs is None:
        return section
    own = [
        (source.rows.num_rows, count)
        for source, count in zip(mixture.sources, mixture.rows_of_sources)
        if isinstance(source.rows, PackedPreferences)
    ]
    steps = math.ceil(section.epochs * sum(rows for rows, _ in own) / sum(count for _, count in own))
    return section.model_copy(update={"tokens": steps * section.global_batch_tokens, "epochs": None})


def build_preferences(context: Context, work: Path) -> Mapping[str, Any]:
    """Train on what is preferred, from the weights that the reference's log-probabilities are of."""
    mixture, objectives = preferences_data(context)
    section = with_budget(_section(context), mixture)
    training = section.model_copy(update={"loss": PreferenceLossConfig(rule=section.objective)})
    start = final_phase(context, before=PHASE)
    validate = _validation(context)
    summary = run_phase(
        context,
        work,
        PHASE,
        training,
        (mixture, objectives),
        trained_weights(context, start),
        validate,
        layers=section.layers,
        tune=section.tune,
    )
    return {**summary, "starts_from": start, "objective": config.to_dict(section.objective)}


def _validation(context: Context) -> Validate:
    """Bits per byte of held-out text, and loss, margin and accuracy on the first held-out preferences."""
    section, tokenizer = _section(context), context.tokenizer()
    limit = section.validation.rows if section.validation else context.recipe.runtime.validation_rows
    texts = list(text_rows(context, "validation").values())
    heldout = next(iter(packed_preferences(context, HELDOUT).values()), None)

    def validate(model: Network) -> Mapping[str, Any]:
        found: dict[str, Any] = {}
        with uncompiled():
            if texts:
                rows = SelectedRows(JoinedRows("validation", texts), limit)
                found |= evaluate.measure_text(model, rows, tokenizer).summary()
            if heldout is not None:
                measured = evaluate.measure_preferences(model, section.objective, SelectedRows(heldout, limit))
                found |= {name: metric.value for name, metric in measured.items()}
                found["loss"] = found["preference_loss"]
        return found

    return validate


def measure_heldout(context: Context, dtype: torch.dtype) -> dict[str, evaluate.Metric]:
    """Metrics of all held-out preferences (the first's also under plain names) of the tuned model."""
    rows = packed_preferences(context, HELDOUT)
    if not rows:
        return {}
    measure = partial(evaluate.measure_preferences, trained_model(context, PHASE, dtype), _section(context).objective)
    metrics: dict[str, evaluate.Metric] = {}
    for name, each in rows.items():
        found = measure(each)
        metrics = {**found, **metrics, **{f"{metric}/{name}": value for metric, value in found.items()}}
    return metrics
