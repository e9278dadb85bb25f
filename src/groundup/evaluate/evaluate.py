"""A model, texts and questions -> metrics with standard errors and samples: all tasks in order.

    Subject --language--> bits_per_byte, perplexity, token_accuracy (also per text)
            --pairs-----> next_sentence_accuracy (encoders that have such a head)
            --answers---> exact_match, f1 (also per group), the answers
            --continuations--> samples
            --tasks-----> metrics of benchmarks as <task>/<metric>, prompts and answers

Invariant: `bits_per_byte`, `perplexity` and `token_accuracy` are always there, since a model without any held-out text
cannot be judged and is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from groundup.errors import DataError
from groundup.evaluate.answers import measure_answers
from groundup.evaluate.continuations import measure_continuations
from groundup.evaluate.language import measure_language
from groundup.evaluate.metrics import Metric
from groundup.evaluate.pairs import measure_pairs
from groundup.evaluate.task import EvaluateConfig, Result, Subject
from groundup.evaluate.tasks.measure import measure_tasks
from groundup.models import Network
from groundup.tokens import Conversation, Rows, Tokenizer

Task = Callable[[Subject, EvaluateConfig], Result]
ALWAYS = ("bits_per_byte", "perplexity", "token_accuracy")
TASKS: tuple[Task, ...] = (measure_language, measure_pairs, measure_answers, measure_continuations, measure_tasks)


@dataclass
class Evaluation:
    """What was found about one model, or about several side by side."""

    metrics: dict[str, Metric] = field(default_factory=dict)
    samples: dict[str, Any] = field(default_factory=dict)

    def metrics_dict(self) -> dict[str, dict[str, Any]]:
        """`{metric: {value, stderr, n}}`, what `evaluation.json` holds."""
        return {name: metric.as_dict() for name, metric in self.metrics.items()}


def evaluate(
    model: Network,
    tokenizer: Tokenizer,
    texts: Mapping[str, Rows],
    questions: Sequence[Conversation],
    config: EvaluateConfig,
    tasks: Sequence[Task] = TASKS,
    contaminated: Mapping[str, Collection[str]] | None = None,
) -> Evaluation:
    """Run every task. The first of `texts` is the headline: its metrics carry no name behind them.

    `contaminated`: see `Subject`.

    Raises DataError when there is no text.
    """
    if not texts:
        raise DataError("evaluation needs held-out text, none is there; set corpus.split.validation above 0")
    return measure(Subject(model, tokenizer, texts, questions, contaminated or {}), config, tasks)


def measure(subject: Subject, config: EvaluateConfig, tasks: Sequence[Task] = TASKS) -> Evaluation:
    """Run some tasks; those that need text or questions find what `subject` has."""
    found = Evaluation()
    with _evaluating(subject.model):
        for task in tasks:
            result = task(subject, config)
            found.metrics.update(result.metrics)
            found.samples.update(result.samples)
    return found


def unmeasured() -> Evaluation:
    """Of a model whose heads have learnt nothing: the figures that are always there, without a value."""
    return Evaluation({name: Metric(math.nan, None, 0) for name in ALWAYS})


@contextmanager
def _evaluating(model: Network) -> Iterator[None]:
    """Evaluation mode inside, the old mode after."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def side_by_side(main: Evaluation, others: Mapping[str, Evaluation]) -> Evaluation:
    """`main` with the metrics of `others` beside it as `<label>:<metric>`, and their answers in its samples.

    Example: `side_by_side(after, {"before_instruct": before})` holds `exact_match` and `before_instruct:exact_match`;
    each sampled answer has its rivals under `others: {label: prediction}`.
    """
    merged = Evaluation(dict(main.metrics), dict(main.samples))
    for label, other in others.items():
        merged.metrics.update({f"{label}:{name}": metric for name, metric in other.metrics.items()})
        merged.samples[label] = {key: value for key, value in other.samples.items() if key != "answers"}
        rivals = {_key(answer): answer["prediction"] for answer in other.samples.get("answers", [])}
        merged.samples["answers"] = [
            {**answer, "others": {**answer.get("others", {}), label: rivals.get(_key(answer))}}
            for answer in merged.samples.get("answers", [])
        ]
    return merged


def _key(answer: Mapping[str, Any]) -> tuple[str, str]:
    return answer["prompt"], answer["reference"]
