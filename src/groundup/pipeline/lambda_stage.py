"""`instruct.lambda: auto`: short tunings with each value of a grid, without one part of the conversations at a time.

    conversations --fold of the prompt--> folds, packed once and shared by all trials
    replayed text alone: what such a short training costs the text whatever lambda is
    fold 0: every value   fold 1: the better half   fold 2: the better half of those ...
        one trial: the pretrained weights, a part of the phase's budget, the rows of all other folds and replayed text;
        then the answers of its fold are judged, and held-out text is measured against that baseline
    all trials --lambda_choice--> lambda.json: the value, why, and every trial

A trial goes through the same `instruction.run_instruct` as instruction tuning. What it found is kept in its own file,
so a search that was killed goes on in the trial where it was, from that trial's last checkpoint.
Invariant: the choice is a function of the recipe; trials differ in lambda and in the fold left out, in nothing else.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from groundup import evaluate, stage
from groundup.corpus import closing
from groundup.errors import DataError, DivergedError
from groundup.log import logger, read_lines
from groundup.models import CausalNetwork, Network
from groundup.pipeline import adapters
from groundup.pipeline.context import Context
from groundup.pipeline.instruct_config import REPLAY, InstructConfig
from groundup.pipeline.instruction import instruct_identity, run_instruct
from groundup.pipeline.lambda_choice import Choice, Point, Rule, Trial, choose, survivors, trials_of_folds
from groundup.pipeline.lambda_config import AutoLambda
from groundup.pipeline.mixtures import conversations, instruct_budget, instruct_mixture, text_rows
from groundup.pipeline.trained import model_with, trained_model, trained_weights
from groundup.tokens import JoinedRows, PackedConversations, Rows, SelectedRows, write_folds
from groundup.train import checkpoint
from groundup.train.journal import EVENTS, Journal
from groundup.train.phase import BEST, CHECKPOINTS
from groundup.train.settings import dtype_of

SEARCH_FILE = "lambda.json"
_FOLDS, _TRIALS, _RESULT = "folds", "trials", "result.json"
UNITS = {"loss": "bits per answer byte", "exact_match": "of the held-out answers word for word"}
"""Metric -> what its value is called."""


def lambda_identity(context: Context) -> Mapping[str, Any]:
    """What decides the choice, beside the stages it comes from: all of the section, and how answers are asked for."""
    asked = context.recipe.evaluate
    generation = {"max_new_tokens": asked.max_new_tokens} if _search(context).metric == "exact_match" else {}
    return {**instruct_identity(context), **generation}


def _search(context: Context) -> AutoLambda:
    search = context.instruct().search
    assert search is not None, "the stage is listed only where lambda is auto"
    return search


@dataclass(frozen=True)
class _Trials:
    """What all trials share."""

    context: Context
    work: Path
    journal: Journal
    training: InstructConfig
    """The section with the budget of a trial."""
    folds: Sequence[Sequence[PackedConversations]]
    """Rows of each fold, source by source; a source without conversations in a fold is left out of it."""
    text: Rows
    before: evaluate.TextSums
    """Of the pretrained model on that text."""
    baseline: evaluate.TextSums
    """What forgetting is counted from."""

    @property
    def search(self) -> AutoLambda:
        return _search(self.context)


def build_lambda(context: Context, work: Path) -> Mapping[str, Any]:
    """Search, or go on with the search; returns the chosen value, why, and the points of the trade-off."""
    done = work / SEARCH_FILE
    if not done.is_file():
        trials = _with_baseline(_prepared(context, work))
        rule = Rule(trials.search.bound, trials.search.metric == "exact_match")
        points = _points(trials, rule)
        choice = choose(points, rule, UNITS[trials.search.metric])
        if choice is None:
            raise DivergedError("lambda: every trial diverged; lower instruct.optimizer.learning_rate")
        _say(trials, "lambda_chosen", value=choice.weight, why=choice.why)
        stage.write_json(done, _account(trials, points, choice))
    shutil.rmtree(work / _FOLDS, ignore_errors=True)
    found = json.loads(done.read_text(encoding="utf-8"))
    for warning in found["warnings"]:
        logger.warning(f"lambda: {warning}")
    logger.info(f"lambda: {found['lambda']:g}; {found['why']}")
    return {key: found[key] for key in ("lambda", "why", "within_bound", "bound", "metric", "points", "trial_tokens")}


def _prepared(context: Context, work: Path) -> _Trials:
    """Folds, the text to measure on and the pretrained model's figures; says what the search will cost."""
    search, tokenizer = _search(context), context.tokenizer()
    texts = list(text_rows(context, "validation").values())
    if not texts:
        raise DataError(
            "lambda: auto measures forgetting on held-out text, and none is there; raise corpus.split.validation"
        )
    packed = conversations(context)
    whole = instruct_budget(context.instruct(), instruct_mixture(context, packed))
    steps = max(1, round(search.share * whole.total_steps()))
    training = whole.model_copy(update={"tokens": steps * whole.global_batch_tokens})
    alone = [1] if search.baseline == "replay" else []
    planned = [*alone, *trials_of_folds(len(search.grid), search.folds, search.keep)]
    logger.info(
        f"lambda: {len(search.grid)} values, {search.folds} folds, {' + '.join(map(str, planned))} trials of "
        f"{training.tokens:,} tokens: {sum(planned) * training.tokens / whole.tokens:.1f} times instruction tuning"
    )
    counts = [write_folds(rows, tokenizer, work / _FOLDS / rows.name, search.folds) for rows in packed]
    _check_folds([sum(fold) for fold in zip(*counts)])
    folds = [
        [
            PackedConversations(work / _FOLDS / rows.name / str(fold), rows.name, rows.context_length)
            for rows, count in zip(packed, counts)
            if count[fold]
        ]
        for fold in range(search.folds)
    ]
    text = SelectedRows(JoinedRows("validation", texts), search.rows)
    model = trained_model(context, "pretrain", dtype_of(training.precision))
    before = evaluate.text_sums(model, text, tokenizer)
    return _Trials(context, work, Journal("lambda", work, context.run_folder), training, folds, text, before, before)


def _with_baseline(trials: _Trials) -> _Trials:
    """Forgetting is counted from a trial in which the conversations weigh nothing, where the recipe does not say else.

    A short phase with a rate that rises anew costs the text something of itself, which no lambda can mend and a whole
    phase makes good; what is left is what the answers cost.
    """
    if trials.search.baseline == "before":
        return trials
    folder = trials.work / _TRIALS / REPLAY
    values = closing.finished(folder, _RESULT)
    if values is None:
        folder.mkdir(parents=True, exist_ok=True)
        model = _tuned(trials, folder, 0.0, 0)
        found = evaluate.text_sums(model, trials.text, trials.context.tokenizer())
        content = {"rows": found.rows.tolist(), "documents": found.documents.tolist()}
        values = closing.finish(folder, _RESULT, content, [])
    _remove_weights(folder)
    sums = evaluate.TextSums(np.array(values["rows"]), np.array(values["documents"]))
    lost = 100 * evaluate.lost_share(trials.before, sums).value
    logger.info(f"lambda: replayed text alone changes held-out bits per byte by {lost:+.2f}% in such a short training")
    return replace(trials, baseline=sums)


def _check_folds(sizes: Sequence[int]) -> None:
    if min(sizes) == 0:
        raise DataError(
            f"lambda: {sum(sizes)} conversations fall into {len(sizes)} folds of {', '.join(map(str, sizes))} by their "
            "prompts; lower instruct.lambda.folds, give more conversations, or set lambda to a number"
        )


def _points(trials: _Trials, rule: Rule) -> list[Point]:
    """Every value of the grid with its trials: fold after fold, the better part goes on."""
    search = trials.search
    points = {weight: Point(weight, ()) for weight in search.grid}
    for fold in range(search.folds):
        for weight, point in points.items():
            if not point.stopped:
                points[weight] = replace(point, trials=(*point.trials, _trial(trials, weight, fold)))
        running = [point for point in points.values() if not point.stopped]
        last = fold == search.folds - 1
        going_on = {point.weight for point in running} if last else survivors(running, rule, search.keep)
        for point in running:
            if point.diverged or point.weight not in going_on:
                why = "diverged" if point.diverged else f"not among the best {len(going_on)}"
                points[point.weight] = replace(point, stopped=f"{why} after {fold + 1} of {search.folds} folds")
                _say(trials, "trial_stopped", value=point.weight, why=points[point.weight].stopped)
    return list(points.values())


def _trial(trials: _Trials, weight: float, fold: int) -> Trial:
    """One short tuning and what came of it; found in its file when an earlier attempt finished it."""
    folder = trials.work / _TRIALS / f"lambda-{weight}-fold-{fold}"
    values = closing.finished(folder, _RESULT)
    if values is None:
        folder.mkdir(parents=True, exist_ok=True)
        values = closing.finish(folder, _RESULT, {"trial": _outcome(trials, folder, weight, fold).as_dict()}, [])
    _remove_weights(folder)
    return Trial.from_dict(values["trial"])


def _remove_weights(folder: Path) -> None:
    for leftover in (CHECKPOINTS, BEST):
        shutil.rmtree(folder / leftover, ignore_errors=True)


def _outcome(trials: _Trials, folder: Path, weight: float, fold: int) -> Trial:
    """The trial, said in the log."""
    try:
        found = _tuned_and_measured(trials, folder, weight, fold)
        quality, lost = found.quality, found.forgetting
        unit = UNITS[trials.search.metric]
        logger.info(f"lambda {weight:g}, fold {fold}: {quality.value:.4f} {unit}, forgetting {100 * lost.value:+.2f}%")
    except DivergedError as error:
        logger.warning(f"lambda {weight:g}, fold {fold}: {error.message}")
        found = Trial(weight, fold, diverged=True)
    return found


def _tuned_and_measured(trials: _Trials, folder: Path, weight: float, fold: int) -> Trial:
    model = _tuned(trials, folder, weight, fold)
    after = evaluate.text_sums(model, trials.text, trials.context.tokenizer())
    scores = tuple(_scores(trials, model, trials.folds[fold]))
    forgetting, since_before = (evaluate.lost_share(sums, after) for sums in (trials.baseline, trials.before))
    return Trial(weight, fold, scores, forgetting, since_before)


def _tuned(trials: _Trials, folder: Path, weight: float, fold: int) -> Network:
    """The model after a short tuning with this lambda, without this fold."""
    context, training = trials.context, trials.training
    # Nothing but the end is validated, unless the training itself asks for more.
    runtime = context.recipe.runtime.model_copy(update={"validate_every_steps": 0})
    # Trials are short and many: the first rank does them by itself.
    context = replace(context, recipe=context.recipe.model_copy(update={"runtime": runtime}), ranks=None)
    mixture = instruct_mixture(context, _others(trials.folds, fold))
    name, validate = f"lambda {weight:g}, fold {fold}", None if training.validation else _nothing
    summary = run_instruct(context, folder, name, training, mixture, weight, validate, mirrored=False)
    learned = checkpoint.read_tensors(folder / str(summary["weights"]))
    weights = adapters.tuned(context, context.instruct().tune, trained_weights(context, "pretrain"), learned)
    return model_with(context, weights, dtype_of(training.precision))


def _nothing(model: Network) -> Mapping[str, Any]:
    """No validation in a trial."""
    return {}


def _others(folds: Sequence[Sequence[PackedConversations]], held_out: int) -> list[Rows]:
    """Rows of every source without one fold."""
    parts: dict[str, list[Rows]] = {}
    for fold, sources in enumerate(folds):
        for rows in sources:
            if fold != held_out:
                parts.setdefault(rows.name, []).append(rows)
    return [JoinedRows(name, found) for name, found in parts.items()]


def _scores(trials: _Trials, model: Network, held_out: Sequence[PackedConversations]) -> evaluate.Scores:
    """Of an even selection of the fold's rows, all sources one after the other."""
    rows = SelectedRows(JoinedRows("answers", held_out), trials.search.rows)
    tokenizer, asked = trials.context.tokenizer(), trials.context.recipe.evaluate
    if trials.search.metric == "loss":
        return evaluate.answer_sums(model, rows, tokenizer)
    assert isinstance(model, CausalNetwork), "an encoder has no instruction tuning"
    return evaluate.answer_matches(model, rows, tokenizer, asked.max_new_tokens, asked.batch_rows)


def _say(trials: _Trials, event: str, **values: Any) -> None:
    """Write an event, once: a search that goes on comes to the same decisions again."""
    said = read_lines(trials.work / stage.LOGS / EVENTS)
    if not any(each.get("event") == event and values.items() <= each.items() for each in said):
        trials.journal.event(event, **values)


def _account(trials: _Trials, points: Sequence[Point], choice: Choice) -> dict[str, Any]:
    """Everything that the report shows."""
    (nats, sizes) = trials.before.clusters
    return {
        "lambda": choice.weight,
        "why": choice.why,
        "within_bound": choice.within_bound,
        "warnings": list(choice.warnings),
        "bound": trials.search.bound,
        "metric": trials.search.metric,
        "unit": UNITS[trials.search.metric],
        "trial_tokens": trials.training.tokens,
        "bits_per_byte_before": float(nats.sum() / sizes.sum() / np.log(2)),
        "baseline": trials.search.baseline,
        "baseline_since_before": evaluate.lost_share(trials.before, trials.baseline).as_dict(),
        "points": [_described(point) for point in points],
    }


def _described(point: Point) -> dict[str, Any]:
    finished = replace(point, trials=tuple(trial for trial in point.trials if not trial.diverged))
    names = ("quality", "forgetting", "since_before")
    return {
        "lambda": point.weight,
        "stopped": point.stopped,
        **{name: getattr(finished, name).as_dict() if finished.trials else None for name in names},
        "trials": [
            {"fold": trial.fold, **{name: getattr(trial, name).as_dict() for name in names}}
            for trial in finished.trials
        ],
    }
