"""`instruct.lambda`: a number, a ramp over the steps, or `auto`, which has it chosen by cross-validation.

    lambda: 2.0
    lambda: {kind: linear, from: 0.5, to: 4.0}
    lambda: auto                                   the same as {kind: auto}; see `lambda_stage`

Invariant: a ramp is a pure function of the step, so a resume needs the step only.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from groundup.config import Config


class Ramp(Config):
    """What the courses of lambda share: two ends and when the second is reached."""

    from_: float = Field(default=1.0, alias="from", ge=0)
    """Lambda at the first step."""
    to: float = Field(default=2.0, ge=0)
    """Lambda from `until` on."""
    until: float = Field(default=1.0, gt=0, le=1)
    """Part of the phase's steps after which `to` is reached."""

    @model_validator(mode="after")
    def _learns_something(self) -> Ramp:
        if self.from_ == self.to == 0:
            raise ValueError("from and to are both 0, so no answer would be learnt; raise one of them")
        return self

    def shape(self, gone: float) -> float:
        """Part of the way from `from` to `to`, when the part `gone` of the steps up to `until` is done."""
        raise NotImplementedError

    def at(self, step: int, total_steps: int) -> float:
        """Lambda at `step` (from 0) of a phase of `total_steps`."""
        gone = min(1.0, step / max(1.0, self.until * (total_steps - 1)))
        return self.from_ + (self.to - self.from_) * self.shape(gone)


class LinearLambda(Ramp):
    """Lambda goes straight from one value to another."""

    kind: Literal["linear"] = "linear"

    def shape(self, gone: float) -> float:
        """A straight line."""
        return gone


class CosineLambda(Ramp):
    """Lambda goes from one value to another along half a cosine: slowly at both ends."""

    kind: Literal["cosine"] = "cosine"

    def shape(self, gone: float) -> float:
        """Half a cosine."""
        return (1 - math.cos(math.pi * gone)) / 2


class AutoLambda(Config):
    """Lambda is chosen by cross-validation before instruction tuning: the best answers under a bound on forgetting."""

    kind: Literal["auto"] = "auto"
    grid: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(0.25, 0.5, 1.0, 2.0, 4.0), min_length=2)
    """Values to try."""
    folds: int = Field(default=3, ge=2, le=20)
    """The conversations are cut into so many parts; each in turn is held out. A prompt is in one part only."""
    share: float = Field(default=0.2, gt=0, le=1)
    """Budget of one trial as a part of the phase's."""
    keep: float = Field(default=0.5, gt=0, le=1)
    """After each part, so much of the values goes on (rounded up, two at least), the others are stopped."""
    bound: float = Field(default=0.02, ge=0)
    """Held-out bits per byte may be worse by this part of the baseline's."""
    baseline: Literal["replay", "before"] = "replay"
    """What forgetting is counted from: the same short training on replayed text alone, which costs the text something
    whatever lambda is, or the model before.
    """
    metric: Literal["loss", "exact_match"] = "loss"
    """What answers are judged by: bits per byte of the held-out ones, or how many are said word for word."""
    rows: int = Field(default=128, ge=1)
    """At most this many rows of held-out text, and of held-out conversations, are measured per trial."""

    @model_validator(mode="after")
    def _distinct(self) -> AutoLambda:
        if len(set(self.grid)) < len(self.grid):
            raise ValueError("grid: a value is there twice; leave one out")
        return self


_KINDS = ("linear", "cosine", "auto")
_RULE = "give a number above 0, auto, or a mapping with kind: linear, cosine or auto"


def also_a_word(schema: dict[str, Any]) -> None:
    """`auto` as a word, for editors: the JSON schema knows only what is left after the check."""
    schema["oneOf"].append({"const": "auto"})


def _as_written(value: Any) -> Any:
    """`auto` written out; what can be no lambda is refused in one sentence instead of one for each alternative."""
    if value == "auto":
        return {"kind": "auto"}
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 < value < math.inf:
            raise ValueError(f"should be greater than 0; {_RULE}")
    elif isinstance(value, dict):
        if value.get("kind") not in _KINDS:
            raise ValueError(f"kind {str(value.get('kind'))[:40]!r} is unknown; {_RULE}")
        # Behind a validator pydantic no longer knows that the list came from JSON, where it stands for a tuple.
        return {key: tuple(found) if isinstance(found, list) else found for key, found in value.items()}
    elif not isinstance(value, Ramp | AutoLambda):
        raise ValueError(_RULE)
    return value


def _tag(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("kind"))
    return str(getattr(value, "kind", "number"))


LambdaConfig = Annotated[
    Annotated[float, Tag("number")]
    | Annotated[LinearLambda, Tag("linear")]
    | Annotated[CosineLambda, Tag("cosine")]
    | Annotated[AutoLambda, Tag("auto")],
    Discriminator(_tag),
    BeforeValidator(_as_written),
]
"""A number, a course over the steps, or the search for a number."""

Lambda = float | Ramp
"""What a phase is trained with."""


def lambda_at(weight: Lambda, step: int, total_steps: int) -> float:
    """Lambda at `step` (from 0)."""
    return weight.at(step, total_steps) if isinstance(weight, Ramp) else weight
