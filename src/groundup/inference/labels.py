"""Scores of a labeller's windows -> what they say of each text.

    sequence   softmax at [CLS]                         -> LabelPrediction
    multilabel sigmoid of each label at [CLS]           -> LabelsPrediction, all that reach the threshold
    number     the score at [CLS]                       -> NumberPrediction
    token      softmax at the first token of each word  -> WordsPrediction, with entities put together
    span       best start and end over all windows      -> SpanPrediction; none where [CLS] is as good in every window

Invariant: evaluation and `predict` read scores alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from groundup.inference.entities import entities, spells_entities
from groundup.models import LabellerConfig
from groundup.tokens import Example, Tokenizer, spaced

THRESHOLD = 0.5
"""Probability from which on a text has a label, unless another one is asked for."""


@dataclass(frozen=True)
class LabelPrediction:
    """A label of a text or pair."""

    label: str
    probabilities: Mapping[str, float]
    """Of all labels, in the order in which the model has them."""
    was_cut: bool = False
    """The text was longer than the model's context, and its end was not seen."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"label": self.label, "probabilities": dict(self.probabilities), "cut": self.was_cut}

    def lines(self) -> list[str]:
        """For people: the five most probable labels."""
        best = sorted(self.probabilities.items(), key=lambda each: -each[1])[:5]
        return [f"{probability:6.1%}  {label}" for label, probability in best]


@dataclass(frozen=True)
class LabelsPrediction:
    """All labels of a text or pair; there may be none."""

    labels: tuple[str, ...]
    """Those whose probability is at least the threshold, in the order in which the model has them."""
    probabilities: Mapping[str, float]
    """Of every label by itself, in that order; their sum means nothing."""
    was_cut: bool = False
    """As of one label."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"labels": list(self.labels), "probabilities": dict(self.probabilities), "cut": self.was_cut}

    def lines(self) -> list[str]:
        """For people: the labels, most probable first; where there is none, the one that comes closest."""
        best = sorted(self.probabilities.items(), key=lambda each: -each[1])
        if not self.labels:
            name, probability = best[0]
            return [f"(no label; {name} has {probability:.1%})"]
        return [f"{probability:6.1%}  {label}" for label, probability in best if label in self.labels]


@dataclass(frozen=True)
class NumberPrediction:
    """A number that a text or pair was given."""

    number: float
    was_cut: bool = False
    """As of a label."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"number": self.number, "cut": self.was_cut}

    def lines(self) -> list[str]:
        """For people."""
        return [f"{self.number:.6g}"]


@dataclass(frozen=True)
class WordsPrediction:
    """A label of each word."""

    words: tuple[str, ...]
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    """Of each word's label."""
    entities: tuple[Mapping[str, Any], ...] = ()
    """{kind, text, first, last: numbers of words}; where the labels spell entities (B-, I-, O)."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        words = zip(self.words, self.labels, self.probabilities)
        return {
            "words": [{"word": word, "label": label, "probability": share} for word, label, share in words],
            "entities": [dict(each) for each in self.entities],
        }

    def lines(self) -> list[str]:
        """For people: the labelled words, then the entities."""
        tagged = " ".join(f"{word}/{label}" for word, label in zip(self.words, self.labels))
        return [tagged, *(f"{each['kind'] or 'entity'}: {each['text']}" for each in self.entities)]


@dataclass(frozen=True)
class SpanPrediction:
    """The part of a text that answers a question; "" where the text has no answer."""

    answer: str
    start: int
    end: int
    """Characters [start, end) of the text."""
    score: float
    """By how much the best span is better than none (log odds); up to 0 there is no answer."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"answer": self.answer, "start": self.start, "end": self.end, "score": self.score}

    def lines(self) -> list[str]:
        """For people."""
        return [self.answer or "(no answer in the text)"]


Prediction = LabelPrediction | LabelsPrediction | NumberPrediction | WordsPrediction | SpanPrediction


@dataclass
class _Spans:
    best: float = -math.inf
    nothing: float = math.inf
    first: int = 0
    last: int = 0


@dataclass
class Answers:
    """Takes windows of examples in any order, and says what they mean."""

    config: LabellerConfig
    tokenizer: Tokenizer
    threshold: float = THRESHOLD
    """Probability from which on a text has a label, where it may have several."""
    _whole: dict[int, Float[Tensor, " outputs"]] = field(default_factory=dict)
    _words: dict[int, dict[int, Float[Tensor, " outputs"]]] = field(default_factory=dict)
    _spans: dict[int, _Spans] = field(default_factory=dict)
    cut: set[int] = field(default_factory=set)
    """Numbers of examples that were longer than the context."""

    def add(
        self,
        number: int,
        first: int,
        scores: Float[Tensor, "time outputs"],
        tokens: Int[Tensor, " time"],
        words: list[int],
    ) -> None:
        """A window of example `number`. `first`: number of its first word or token; `words`: positions of its words."""
        if self.config.pooled:
            self._whole[number] = scores[0]
        elif self.config.task == "token":
            shares = torch.softmax(scores[words], dim=-1)
            self._words.setdefault(number, {}).update(enumerate(shares, start=first))
        else:
            self._add_span(self._spans.setdefault(number, _Spans()), first, scores, tokens)

    def _add_span(self, found: _Spans, offset: int, scores: Tensor, tokens: Tensor) -> None:
        found.nothing = min(found.nothing, float(scores[0].sum()))
        ends = torch.nonzero(tokens == self.tokenizer.need_encoder_ids().sep).flatten().tolist()
        begin, stop = ends[0] + 1, ends[-1]
        length = stop - begin
        if length < 1:
            return
        pairs = scores[begin:stop, 0][:, None] + scores[begin:stop, 1][None]
        allowed = torch.ones(length, length, dtype=torch.bool).triu().tril(self.config.longest_answer_tokens - 1)
        best = int(pairs.masked_fill(~allowed, -math.inf).argmax())
        start, end = divmod(best, length)
        if float(pairs[start, end]) > found.best:
            found.best, found.first, found.last = float(pairs[start, end]), offset + start, offset + end

    def of(self, number: int, example: Example) -> Prediction:
        """What was found for an example, of which text or words are asked for."""
        if self.config.task == "number":
            return NumberPrediction(float(self._whole[number][0]), number in self.cut)
        if self.config.task == "sequence":
            return self._label(number)
        if self.config.task == "multilabel":
            return self._labels(number)
        return (
            self._of_words(number, example.words) if self.config.task == "token" else self._span(number, example.text)
        )

    def _label(self, number: int) -> LabelPrediction:
        shares = torch.softmax(self._whole[number].double(), dim=-1)
        named = dict(zip(self.config.labels, shares.tolist()))
        return LabelPrediction(self.config.labels[int(shares.argmax())], named, number in self.cut)

    def _labels(self, number: int) -> LabelsPrediction:
        named = dict(zip(self.config.labels, torch.sigmoid(self._whole[number].double()).tolist()))
        had = tuple(label for label, probability in named.items() if probability >= self.threshold)
        return LabelsPrediction(had, named, number in self.cut)

    def _of_words(self, number: int, words: Sequence[str]) -> WordsPrediction:
        best = [self._words[number][at].max(dim=-1) for at in range(len(words))]
        labels = [self.config.labels[int(each.indices)] for each in best]
        return WordsPrediction(
            tuple(words), tuple(labels), tuple(float(each.values) for each in best), self._entities(words, labels)
        )

    def _entities(self, words: Sequence[str], labels: Sequence[str]) -> tuple[Mapping[str, Any], ...]:
        if not spells_entities(self.config.labels):
            return ()
        return tuple(
            {"kind": kind, "text": "".join(spaced(words[first : last + 1])), "first": first, "last": last}
            for kind, first, last in entities(labels)
        )

    def _span(self, number: int, text: str) -> SpanPrediction:
        found = self._spans[number]
        score = found.best - found.nothing
        if not score > 0:
            return SpanPrediction("", 0, 0, score if math.isfinite(score) else 0.0)
        _, places = self.tokenizer.encode_with_places(text)
        start, end = places[found.first][0], places[found.last][1]
        answer = text[start:end]
        start, end = start + len(answer) - len(answer.lstrip()), end - len(answer) + len(answer.rstrip())
        return SpanPrediction(text[start:end], start, max(start, end), score)
