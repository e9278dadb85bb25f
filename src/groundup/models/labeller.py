"""An encoder's body under a head for a task: labels of texts or words, numbers, or spans.

    tokens -> body -> [CLS] of each text -> pooler -> scores          (sequence, multilabel, number)
                   -> every position     -> scores                    (token, span)

Invariant: the body is that of `Encoder`, parameter by parameter, so pretrained weights are taken over by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from groundup.models.context import RowContext
from groundup.models.encoder import Answer, EncoderBody, EncoderConfig
from groundup.models.encoder_heads import (
    NAMING,
    POOLED,
    LabelHead,
    LabelKind,
    first_targets,
    guarded,
    label_losses,
    multilabel_losses,
    number_losses,
    span_losses,
)
from groundup.models.losses import LossConfig
from groundup.models.network import Losses

SHORTEST_TEXT = 2
"""Tokens of `[CLS] [SEP]`: so far apart are the [CLS] of texts in one row, at least."""
LONGEST_ANSWER_TOKENS = 30
"""A span of more tokens is no answer, as in BERT's own evaluation, unless training has longer ones."""


class LabellerConfig(EncoderConfig):
    """An encoder's body under a head for a task; recipes describe it by `model` and `task`."""

    kind: Literal["labeller"]  # type: ignore[assignment]
    task: LabelKind
    """What the head says: a label of each text or pair, or any number of them, a label of each word, a number, or a
    span of a text."""
    labels: tuple[str, ...] = ()
    """Names of the labels in the order of their scores; none for numbers and spans."""
    texts_per_row: int = Field(default=0, ge=0)
    """Texts in a row, at most, where texts are judged as wholes and this is known (0: as many as could fit)."""
    longest_answer_tokens: int = Field(default=LONGEST_ANSWER_TOKENS, ge=1)
    """A span of more tokens is never taken for an answer."""

    @model_validator(mode="after")
    def _named(self) -> LabellerConfig:
        if bool(self.labels) != (self.task in NAMING):
            raise ValueError(f"a task of kind {self.task} has {'no labels' if self.labels else 'labels'}; give them so")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("two labels have the same name; name each by itself")
        return self

    @classmethod
    def on(
        cls,
        body: EncoderConfig,
        task: LabelKind,
        labels: Sequence[str] = (),
        texts_per_row: int = 0,
        answer_tokens: int = 0,
    ) -> LabellerConfig:
        """A head for a task on the body of `body`; `answer_tokens`: of the longest answer in training."""
        fields = {**body.model_dump(), "kind": "labeller", "next_sentence": False, "texts_per_row": texts_per_row}
        longest = max(answer_tokens, LONGEST_ANSWER_TOKENS)
        return cls(**fields, task=task, labels=tuple(labels), longest_answer_tokens=longest)

    @property
    def outputs(self) -> int:
        """Scores of the head at each position."""
        return {"number": 1, "span": 2}.get(self.task, len(self.labels))

    @property
    def pooled(self) -> bool:
        """Whether BERT's pooler stands before the head: where the text as a whole is judged."""
        return self.task in POOLED

    def num_parameters(self, vocab_size: int) -> int:
        """All parameters; computed, so a giant costs nothing."""
        pooler = self.hidden_size * (self.hidden_size + 1) if self.pooled else 0
        return self.body_parameters(vocab_size) + pooler + self.outputs * (self.hidden_size + 1)


class Labeller(EncoderBody, of=LabellerConfig):
    """A model of a task."""

    config: LabellerConfig
    head_name = "label.output.weight"

    def __init__(self, config: LabellerConfig, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        self.label = LabelHead(config.hidden_size, config.outputs, pooled=config.pooled)

    @property
    def target_places(self) -> int:
        """The first tokens of texts, where those are judged as wholes; else all positions."""
        length = self.config.context_length
        return self._texts(length) if self.config.pooled else length

    def _texts(self, length: int) -> int:
        """Texts in a row of `length` tokens, at most."""
        could_fit = max(1, length // SHORTEST_TEXT)
        return min(self.config.texts_per_row or could_fit, could_fit)

    def pretrained_name(self, name: str) -> str:
        """What a pretrained `Encoder` calls this parameter; the pooler begins as that of next sentences."""
        return name.replace("label.pooler.", "next_sentence.pooler.")

    def forward(
        self,
        tokens: Int[Tensor, "rows time"],
        targets: Int[Tensor, "rows *heads time"] | None = None,
        segments: Int[Tensor, "rows time"] | None = None,
        positions: Int[Tensor, "rows time"] | None = None,
        parts: Int[Tensor, "rows time"] | None = None,
        row_weights: Float[Tensor, "*sums"] | None = None,
        context: RowContext | None = None,
    ) -> Answer:
        """With targets: sums of the losses and numbers of targets of each row; else scores [rows, time, outputs].

        Targets [rows, time]: labels, or numbers (`numbers_as_targets`); of spans [rows, 2, time], start and end; of
        several labels [rows, time] or [rows, sets, time], see `multilabel_losses`.
        """
        if targets is None:
            scores: Tensor = self.label(self.hidden(tokens, segments, positions, parts, context))
            return scores
        if self.config.pooled:
            first = targets if targets.ndim == 2 else targets[:, 0]
            only, chosen = first_targets(first, self._texts(tokens.shape[1]))
            x = guarded(self.hidden(tokens, segments, positions, parts, context, only), chosen, first)
            targets = (
                chosen if targets.ndim == 2 else torch.stack([each.gather(1, only) for each in targets.unbind(1)], 1)
            )
        else:
            x = self.hidden(tokens, segments, positions, parts, context)
        scores = self.label(x, self.keys(context), self.config.classifier_dropout)
        return self.losses(scores, targets, segments, self.loss)

    def losses(
        self,
        scores: Float[Tensor, "rows places outputs"],
        targets: Int[Tensor, "rows *heads places"],
        segments: Int[Tensor, "rows time"] | None,
        loss: LossConfig,
    ) -> Losses:
        """Sums of the losses and numbers of targets of each row, by the scores of some or all of its positions."""
        if self.config.task == "number":
            return number_losses(scores, targets)
        if self.config.task == "multilabel":
            return multilabel_losses(scores, targets, loss)
        if self.config.task == "span":
            if segments is None:
                segments = torch.zeros(scores.shape[:2], dtype=torch.int32, device=scores.device)
            return span_losses(scores, targets, segments[:, :, None] == segments[:, None, :])
        return label_losses(scores, targets, loss)
