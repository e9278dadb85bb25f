"""`pretrain:` of a recipe: what is learnt of the text, how long, in which order, and from which start."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from groundup.tokens import MaskingConfig
from groundup.train.settings import TrainingConfig


class PretrainConfig(TrainingConfig):
    """Next-token prediction (encoders: prediction of masked tokens) on the train split of the corpus."""

    tokens: int = Field(ge=0)
    """Budget: positions (padding included) that the phase trains on; with `from` also 0: the model as it is."""
    from_: str | None = Field(default=None, alias="from")
    """Start from a model: a folder (`model` and `tokenizer.path` follow from it), a run, or a .gguf file."""
    mixture: dict[str, float] = Field(default_factory=dict)
    """Share of each corpus source in every batch; empty: all documents as one stream, in proportion to their size."""
    order: Literal["shuffled", "continuous"] = "shuffled"
    """Rows in random order, or each row of a batch along its text from step to step: for models that carry a state."""
    start: Literal["random", "bigrams", "induction"] = "random"
    """Random; or tables as the best bigram model of the text, fitted in seconds; or these and two heads that find what
    followed a token before."""
    start_steps: int = Field(default=60, ge=0)
    """Steps of that fit, 2.6 * vocab_size^2 * hidden_size FLOPs each; fewer where they were over 5% of the phase's."""
    masking: MaskingConfig | None = None
    """For encoders, which learn to say what is hidden instead of what comes next: how tokens are hidden."""

    @property
    def counted(self) -> bool:
        """Whether the start is made from counted pairs of tokens."""
        return self.start != "random"

    @property
    def masked(self) -> MaskingConfig:
        """How tokens are hidden, with the usual values where a model is taken as it is and nothing is said."""
        return self.masking or MaskingConfig()

    @model_validator(mode="after")
    def _one_start(self) -> PretrainConfig:
        if self.from_ is None and self.tokens == 0:
            raise ValueError("tokens: 0 trains nothing; give a budget, or a model to take as it is by `from`")
        if self.from_ is not None and self.counted:
            raise ValueError(f"start: {self.start} makes new tables, `from` brings its own; leave one of them out")
        return self
