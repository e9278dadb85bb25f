"""Prompts and two models -> pairs of answers, each with its scores, and the means of what differs between them.

Invariant: both models are asked the same prompts with the same settings, so differences are paired: their standard
error is that of the differences, which is smaller than that of two figures that were measured apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from groundup.compare.prompts import Prompt
from groundup.evaluate import EvaluateConfig, Metric, Subject, ask, mean
from groundup.evaluate.answers import exact_match, f1
from groundup.evaluate.scores.rouge import rouge, words
from groundup.export import LoadedModel
from groundup.log import progress
from groundup.models import causal

WORDS = "words"
"""Length of an answer: the only figure that needs no reference."""


@dataclass(frozen=True)
class Pair:
    """A prompt with both answers and their scores by name."""

    prompt: Prompt
    answers: tuple[str, str]
    scores: tuple[Mapping[str, float], Mapping[str, float]]

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {
            "id": self.prompt.id,
            "prompt": [{"role": turn.role, "content": turn.text} for turn in self.prompt.turns],
            "reference": self.prompt.reference,
            **dict(zip(("a", "b"), self.answers)),
            "scores": {side: dict(scores) for side, scores in zip(("a", "b"), self.scores)},
        }


@dataclass(frozen=True)
class Difference:
    """A figure of both sides, and how much higher it is for B, with the standard error of paired differences."""

    name: str
    sides: tuple[Metric, Metric]
    difference: Metric
    better: tuple[int, int] = field(default=(0, 0))
    """Prompts on which A, and on which B has the higher value."""


def answered(model: LoadedModel, prompts: Sequence[Prompt], max_new_tokens: int, label: str) -> list[str]:
    """The most likely answers of a model; "" where a prompt fills its context."""
    network = causal(model.model)
    subject = Subject(network, model.tokenizer)
    settings = EvaluateConfig(max_new_tokens=max_new_tokens)
    with torch.inference_mode(), progress(label, len(prompts), "prompts") as bar:
        answers, _ = ask(subject, [prompt.conversation for prompt in prompts], settings, bar.advance)
    return [answer.prediction for answer in answers]


def scores_of(answer: str, reference: str | None) -> dict[str, float]:
    """What is measured of one answer."""
    found: dict[str, float] = {}
    if reference is not None:
        found = {"exact_match": exact_match(answer, reference), "f1": f1(answer, reference)}
        found["rougeL"] = rouge(answer, reference)["rougeL"]
    return {**found, WORDS: float(len(words(answer)))}


def pairs_of(prompts: Sequence[Prompt], one: Sequence[str], other: Sequence[str]) -> list[Pair]:
    """Answers put together."""
    return [
        Pair(prompt, (a, b), (scores_of(a, prompt.reference), scores_of(b, prompt.reference)))
        for prompt, a, b in zip(prompts, one, other)
    ]


def differences(pairs: Sequence[Pair]) -> list[Difference]:
    """Of every figure, over the prompts that have it."""
    names = dict.fromkeys(name for pair in pairs for name in pair.scores[0])
    found = []
    for name in names:
        sides = [[pair.scores[side][name] for pair in pairs if name in pair.scores[side]] for side in (0, 1)]
        gaps = [b - a for a, b in zip(*sides)]
        better = (sum(gap < 0 for gap in gaps), sum(gap > 0 for gap in gaps))
        found.append(Difference(name, (mean(sides[0]), mean(sides[1])), mean(gaps), better))
    return sorted(found, key=lambda each: each.name == WORDS)
