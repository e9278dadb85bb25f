"""What an evaluation task is: a function from a model and what it may be asked to metrics and samples.

To add one: a file with a function `(Subject, EvaluateConfig) -> Result` (see `continuations.py` and `answers.py`), and
its name in `evaluate.TASKS`. Invariant: a task changes neither the model nor the random state around it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field, field_validator

from groundup.config import Config
from groundup.evaluate.metrics import Metric
from groundup.evaluate.tasks.config import EvaluationTask
from groundup.models import Network
from groundup.tokens import Conversation, Rows, Tokenizer

RESERVED = frozenset(
    ("bits_per_byte", "perplexity", "token_accuracy", "bits_per_token", "next_sentence_accuracy", "exact_match", "f1")
)
"""Names of metrics, which tasks may not have, as a metric's groups stand behind a slash too."""


class EvaluateConfig(Config):
    """What is measured on a finished model."""

    max_new_tokens: int = Field(default=64, ge=1)
    """Longest answer to a question; what is longer is cut and counts as it stands."""
    max_questions: int = Field(default=0, ge=0)
    """At most this many questions, evenly spread over all of them (0: all)."""
    max_rows: int = Field(default=0, ge=0)
    """At most this many rows of context_length tokens of every text, from its start (0: all)."""
    carry_states: bool = False
    """Read each text as one stream, with the states of a model that carries them (an LSTM); else, as a decoder does,
    each row starts afresh."""
    batch_rows: int = Field(default=64, ge=1)
    """Questions answered at a time; more is faster and takes more memory."""
    continuations: tuple[str, ...] = ("It is a truth universally acknowledged, that",)
    """Beginnings of text that the model goes on with; kept as samples, not scored."""
    continuation_tokens: int = Field(default=80, ge=1)
    """Length of a continuation."""
    temperature: float = Field(default=0.8, ge=0.0, le=10.0)
    """For continuations; questions are always answered with the most likely tokens."""
    top_p: float = Field(default=0.95, gt=0.0, le=1.0)
    """For continuations: draw from the smallest set of tokens that holds this much of the probability."""
    seed: int = Field(default=0, ge=0)
    """For continuations: start of the random numbers."""
    tasks: tuple[EvaluationTask, ...] = ()
    """Benchmarks: files of items, and what is measured on them (docs/guide/evaluate.md)."""

    @field_validator("tasks")
    @classmethod
    def _named_apart(cls, tasks: tuple[EvaluationTask, ...]) -> tuple[EvaluationTask, ...]:
        names = [task.name for task in tasks]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two are named {twice!r}; give each its own name")
        taken = next((name for name in names if name in RESERVED), None)
        if taken is not None:
            raise ValueError(f"{taken!r} is the name of a metric; give the task another")
        return tasks


@dataclass(frozen=True)
class Subject:
    """A model and the material it is measured on."""

    model: Network
    tokenizer: Tokenizer
    texts: Mapping[str, Rows] = field(default_factory=dict)
    """Held-out text by name; the first is the headline."""
    questions: Sequence[Conversation] = ()
    """Held-out conversations; the last assistant turn of each is the reference."""
    contaminated: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Task -> ids of its records of which a text is in the training text; not there: nobody looked."""


@dataclass(frozen=True)
class Result:
    """What a task found: metrics by name, and samples (JSON-like) for people to read."""

    metrics: dict[str, Metric] = field(default_factory=dict)
    samples: dict[str, Any] = field(default_factory=dict)
