"""`instruct:` of a recipe: which conversations, how much replayed text beside them, and what they weigh against it.

loss = loss_pretrain + lambda * loss_instruct
"""

from __future__ import annotations

from pydantic import Field, model_validator

from groundup.models import FullTuning, TuneConfig
from groundup.optim import LayersConfig
from groundup.pipeline.lambda_config import AutoLambda, LambdaConfig, also_a_word
from groundup.tokens import InstructSourceConfig
from groundup.train.settings import TrainingConfig

REPLAY = "replay"
"""Name of replayed text as a source."""


class InstructConfig(TrainingConfig):
    """Instruction tuning from the pretrained weights: loss = loss_pretrain + lambda * loss_instruct."""

    sources: tuple[InstructSourceConfig, ...] = Field(min_length=1)
    """Conversations to train on."""
    heldout: tuple[InstructSourceConfig, ...] = ()
    """Conversations that are only asked in evaluation."""
    tokens: int = Field(default=0, ge=0)
    """Budget: positions (padding included) that the phase trains on; or give `epochs`."""
    epochs: float | None = Field(default=None, gt=0)
    """Budget in passes over the packed conversations, all sources together; in place of `tokens`."""
    lambda_: LambdaConfig = Field(default=1.0, alias="lambda", json_schema_extra=also_a_word)
    """Weight of the instruction loss against the loss on replayed pretraining text: a number above 0, a course over the
    steps, or `auto`.
    """
    mixture: dict[str, float] = Field(default_factory=dict)
    """Share of each conversation source among them; empty: in proportion to its size."""
    replay_fraction: float = Field(default=0.25, ge=0, lt=1)
    """Share of each batch's rows that are replayed pretraining text."""
    replay_mixture: dict[str, float] = Field(default_factory=dict)
    """Share of each corpus source in the replayed text, each a source of its own then; empty: as in pretraining."""
    tune: TuneConfig = FullTuning()
    """Whether every weight learns, or small adapters beside frozen weights."""
    layers: LayersConfig | None = None
    """Which layers learn, from when on and how fast; left out: all alike."""

    @property
    def search(self) -> AutoLambda | None:
        """How lambda is to be chosen, where it is."""
        return self.lambda_ if isinstance(self.lambda_, AutoLambda) else None

    @property
    def replayed(self) -> tuple[str, ...]:
        """Names of the sources of replayed text in the mixture and in the losses."""
        if not self.replay_fraction:
            return ()
        return tuple(f"{REPLAY}_{name}" for name, share in self.replay_mixture.items() if share) or (REPLAY,)

    @model_validator(mode="after")
    def _one_budget(self) -> InstructConfig:
        if (self.tokens > 0) == (self.epochs is not None):
            raise ValueError("give the budget as tokens or as epochs, one of the two")
        return self

    @model_validator(mode="after")
    def _something_to_weigh(self) -> InstructConfig:
        for what, asked in (("lambda: auto", self.search is not None), ("replay_mixture", bool(self.replay_mixture))):
            if asked and not self.replay_fraction:
                raise ValueError(f"{what} is about replayed text, and replay_fraction: 0 replays none; raise it")
        taken = sorted({source.name for source in self.sources} & set(self.replayed))
        if taken:
            raise ValueError(f"sources: {taken[0]!r} is the name of the replayed text; take another one")
        return self
