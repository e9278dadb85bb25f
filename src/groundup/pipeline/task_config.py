"""`task:` of a recipe: what an encoder is to say of texts, pairs or words, and which labelled records teach it."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from groundup.models import NAMING
from groundup.optim import LayersConfig
from groundup.tokens import TaskKind, TaskSourceConfig, label_of
from groundup.train.settings import TrainingConfig


def _as_text(label: Any) -> Any:
    """A label as records have it: YAML reads 1 and true as what they are, and both may be names of labels."""
    return label_of(label) if isinstance(label, bool | int) else label


Label = Annotated[str, BeforeValidator(_as_text)]


class TaskConfig(TrainingConfig):
    """A task for a pretrained encoder: labels of texts, pairs or words, numbers, or spans that answer questions."""

    kind: TaskKind
    """`sequence`: a label of each text or pair; `multilabel`: any number of labels; `token`: a label of each word;
    `number`: a number; `span`: where the answer is.
    """
    sources: tuple[TaskSourceConfig, ...] = Field(min_length=1)
    """Labelled records to train on."""
    heldout: tuple[TaskSourceConfig, ...] = Field(min_length=1)
    """Labelled records that are only evaluated on; the first is the headline."""
    labels: tuple[Label, ...] = ()
    """Names of the labels in the order of their numbers, which records may have instead (0 is the first); empty: those
    that occur, sorted."""
    class_weights: Literal["balanced"] | dict[str, float] | None = None
    """What a label's loss counts: `balanced` (the rarer the more, 1 on average) or a weight of each label; of several
    labels at a time, what it counts where a text has it (`balanced`: texts without it over texts with it)."""
    layers: LayersConfig = LayersConfig()
    """Which layers of the body learn, from when on and how fast."""

    @model_validator(mode="after")
    def _has_labels(self) -> TaskConfig:
        for source in (*self.sources, *self.heldout):
            if not source.labelled:
                raise ValueError(f"'{source.name}' has no label_field, so nothing is to be learnt or judged; name it")
        return self

    @model_validator(mode="after")
    def _of_labels_only(self) -> TaskConfig:
        if self.kind in NAMING:
            if self.kind == "multilabel" and self.loss.z_loss:
                raise ValueError("loss.z_loss: several labels at a time have no softmax that it is about; leave it out")
            if len(self.labels) == 1 and self.kind != "multilabel":
                raise ValueError("labels: one label cannot be told from others; give two or more, or leave them out")
            weights = self.class_weights if isinstance(self.class_weights, dict) else {}
            if any(not 0 <= weight < math.inf for weight in weights.values()):
                raise ValueError("class_weights: weights are numbers from 0 on")
            return self
        for what, asked in (
            ("labels", self.labels),
            ("class_weights", self.class_weights),
            ("loss.label_smoothing", self.loss.label_smoothing),
            ("loss.z_loss", self.loss.z_loss),
        ):
            if asked:
                raise ValueError(f"{what}: a task of kind {self.kind} has no labels; leave it out")
        return self
