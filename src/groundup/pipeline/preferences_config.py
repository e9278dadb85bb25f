"""`preferences:` of a recipe: what is compared, by which loss, and what is trained on beside it.

loss = loss_preferences + replay_weight * loss_pretrain + instruct_weight * loss_instruct
"""

from __future__ import annotations

from pydantic import Field, model_validator

from groundup.models import DPOConfig, FullTuning, KTOConfig, ORPOConfig, PreferenceRule, TuneConfig
from groundup.optim import AdamWConfig, LayersConfig, OptimizerConfig
from groundup.tokens import PreferenceSourceConfig
from groundup.train.settings import TrainingConfig


class PreferencesConfig(TrainingConfig):
    """Tuning by preferences (DPO, IPO, KTO, ORPO) from the instructed weights, or from the pretrained ones."""

    sources: tuple[PreferenceSourceConfig, ...] = Field(min_length=1)
    """Preferences to train on."""
    heldout: tuple[PreferenceSourceConfig, ...] = ()
    """Preferences that are only measured on; the first is the headline."""
    objective: PreferenceRule = DPOConfig()
    """The loss of preferences; `loss` beside it would change the log-probabilities and stays as it is."""
    optimizer: OptimizerConfig = AdamWConfig(learning_rate=1e-6, beta2=0.999, weight_decay=0.0)
    """Which rule updates which parameter. The rate suits billions of parameters; millions take 10 to 100 times it."""
    tokens: int = Field(default=0, ge=0)
    """Budget: positions (padding included) that the phase trains on; or give `epochs`."""
    epochs: float | None = Field(default=None, gt=0)
    """Budget in passes over the packed preferences, all sources together; in place of `tokens`."""
    mixture: dict[str, float] = Field(default_factory=dict)
    """Share of each source of preferences among them; empty: in proportion to its size."""
    replay_fraction: float = Field(default=0.0, ge=0, lt=1)
    """Share of each batch's rows that are pretraining text, which keeps what was learnt of it."""
    replay_weight: float = Field(default=1.0, gt=0)
    """Weight of the loss on that text (nats a token) against that of preferences."""
    instruct_fraction: float = Field(default=0.0, ge=0, lt=1)
    """Share of each batch's rows that are conversations of `instruct.sources`."""
    instruct_weight: float = Field(default=1.0, gt=0)
    """Weight of their loss (nats a token) against that of preferences."""
    tune: TuneConfig = FullTuning()
    """Whether every weight learns, or small adapters beside frozen weights."""
    layers: LayersConfig | None = None
    """Which layers learn, from when on and how fast; left out: all alike."""

    @property
    def needs_reference(self) -> bool:
        """Whether the loss asks how probable the answers were before."""
        return not isinstance(self.objective, ORPOConfig)

    @model_validator(mode="after")
    def _consistent(self) -> PreferencesConfig:
        if (self.tokens > 0) == (self.epochs is not None):
            raise ValueError("give the budget as tokens or as epochs, one of the two")
        if self.loss.label_smoothing or self.loss.z_loss:
            raise ValueError("loss: would change the answers' log-probabilities; leave it out (objective has its own)")
        if self.replay_fraction + self.instruct_fraction >= 1:
            raise ValueError("replay_fraction + instruct_fraction must be below 1, else no row is of preferences")
        if not isinstance(self.objective, KTOConfig):
            judged = next((each.name for each in (*self.sources, *self.heldout) if each.format == "judged"), None)
            if judged is not None:
                raise ValueError(f"{judged!r} has single judged answers, which need objective: {{kind: kto}}")
        return self
