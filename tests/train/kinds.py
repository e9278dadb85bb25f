"""Every kind of model with every objective it can have: toys that a few steps learn something of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from groundup.models import (
    DecoderConfig,
    DoRAConfig,
    EncoderConfig,
    LabelKind,
    LabellerConfig,
    LoRAConfig,
    LowRankConfig,
    Network,
    NetworkConfig,
    PreferenceRule,
    TuneConfig,
    numbers_as_targets,
)
from groundup.models.scaling import ScalingConfig
from groundup.optim import LayersConfig
from groundup.tokens import IGNORE, Masking, MaskingConfig, Mixture, MixtureSource, WordStarts, heads_of
from groundup.tokens.packing import Row, Rows, segments_and_positions
from groundup.train.phase import Phase
from groundup.train.settings import FULL, TrainingConfig
from groundup.train.state import TrainState, build_state
from groundup.train.step import Objectives
from tests.train import toys
from tests.train.preference_toys import RULES, ToyPreferences, with_rule

ONE = Objectives(("text",), (0,), ("pretrain",), (1.0,))
CLS, SEP, MASK, CONTROL_TOKENS = 1, 2, 3, 4
TIME = toys.CONTEXT_LENGTH
BIASED: dict[str, Any] = {"norm": "layer", "attention_bias": "all", "ffn_bias": True, "gated": False, "qk_norm": False}
DECODERS: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "llama": {"qk_norm": False, "tied": True},
    "mistral": {"qk_norm": False, "sliding_window": 6},
    "qwen2": {"qk_norm": False, "attention_bias": "qkv"},
    "gpt2": {**BIASED, "positions": "learned", "activation": "gelu_tanh", "tied": True},
    "classic, norms first": {**BIASED, "positions": "sinusoidal", "activation": "relu", "scale_embedding": True},
    "classic, norms behind": {**BIASED, "positions": "sinusoidal", "activation": "relu", "norm_placement": "after"},
    "scaled": {"scaling": ScalingConfig(base_hidden_size=8, base_num_layers=1, base_num_heads=1)},
}
ENCODER = EncoderConfig(
    kind="encoder", context_length=TIME, num_layers=2, hidden_size=16, num_heads=2, ffn_size=32, predicted_share=0.3
)


class Vocabulary:
    """Four control tokens; all others are words of their own."""

    vocab_size = toys.VOCAB_SIZE
    control_ids = frozenset(range(CONTROL_TOKENS))

    def token_bytes(self, token: int) -> bytes:
        return b" " + bytes([60 + token])


class EncoderRows:
    """[CLS], numbers that count upwards, [SEP]; what is to be said of them is the subclass's."""

    name, num_rows, context_length = "text", 12, TIME

    def row(self, index: int) -> Row:
        return self.drawn(index, index)

    def drawn(self, index: int, draw: int) -> Row:
        text = (np.arange(TIME - 2) + index + 30 * (index % 2)) % (toys.VOCAB_SIZE - CONTROL_TOKENS) + CONTROL_TOKENS
        tokens: NDArray[np.int64] = np.concatenate([[CLS], text, [SEP]]).astype(np.int64)
        tokens, targets = self.asked(tokens, index, draw)
        parts = (np.arange(TIME) > TIME // 2).astype(np.int32)
        return Row(tokens, targets, *segments_and_positions(np.arange(TIME) == 0), parts)

    def asked(self, tokens: NDArray[np.int64], index: int, draw: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        raise NotImplementedError


class MaskedRows(EncoderRows):
    """Hidden tokens; with `pairs` also whether the second text follows the first."""

    def __init__(self, pairs: bool) -> None:
        self.pairs = pairs
        self.masking = Masking(MaskingConfig(share=0.3), WordStarts(Vocabulary()), MASK, seed=1)

    def asked(self, tokens: NDArray[np.int64], index: int, draw: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if not self.pairs:
            return self.masking.apply(tokens, draw)
        if index % 2:
            tokens[TIME // 2 + 1 : -1] = tokens[1 : TIME // 2 - 1]
        masked, targets = self.masking.apply(tokens, draw)
        follows = np.where(np.arange(TIME) == 0, index % 2, IGNORE)
        return masked, np.stack([targets, follows]).astype(np.int64)


class LabelRows(EncoderRows):
    """A label, several labels (in `sets` targets), a number or a span of each text, or a label of each word."""

    def __init__(self, kind: LabelKind, sets: int = 1) -> None:
        self.kind, self.sets = kind, sets

    def asked(self, tokens: NDArray[np.int64], index: int, draw: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        at_start = np.arange(TIME) == 0
        if self.kind == "token":
            targets = np.where((tokens >= CONTROL_TOKENS), tokens % 2, IGNORE)
        elif self.kind == "sequence":
            targets = np.where(at_start, index % 4 == 0, IGNORE)
        elif self.kind == "multilabel":
            said = [np.where(at_start, 1 + 2 * (index % 4 == 0) * 2**part, IGNORE) for part in range(self.sets)]
            targets = said[0] if self.sets == 1 else np.stack(said)
        elif self.kind == "number":
            number = int(numbers_as_targets(torch.tensor(1.0 + index / 12)))
            targets = np.where(at_start, number, IGNORE)
        else:
            places = (1 + index % 8, 2 + index % 8)
            targets = np.stack([np.where(at_start, place, IGNORE) for place in places])
        return tokens, targets.astype(np.int64)


@dataclass(frozen=True)
class Case:
    """A model with an objective."""

    model: NetworkConfig
    sources: tuple[tuple[Callable[[], Rows], float], ...]
    objectives: Objectives = ONE
    build: Callable[[NetworkConfig, int], Network] | None = None
    layers: LayersConfig | None = None
    order: str = "shuffled"
    rule: PreferenceRule | None = None
    tune: TuneConfig = FULL

    @property
    def most_ranks(self) -> int:
        """Ranks that a test of several takes: a base in few bits is for one."""
        return 1 if isinstance(self.tune, LowRankConfig) and self.tune.base != "unchanged" else 2

    def mixture(self) -> Mixture:
        """Eight rows a step."""
        sources = [MixtureSource(make(), share) for make, share in self.sources]
        return Mixture(sources, 8, seed=2, order=self.order)  # type: ignore[arg-type]

    def state(self, training: TrainingConfig, **changes: Any) -> TrainState:
        """A fresh state on the CPU."""
        device = torch.device("cpu")
        training = with_rule(training, self.rule) if self.rule else training
        changes = {"layers": self.layers, "tune": self.tune, **changes}
        return build_state(self.model, toys.VOCAB_SIZE, training, toys.EAGER, 3, device=device, **changes)

    def phase(self, training: TrainingConfig) -> Phase:
        """A phase without validation."""
        return Phase("pretrain", training, self.mixture(), self.objectives, lambda model: {}, 1000.0)


def _next_token(model: NetworkConfig, order: str = "shuffled") -> Case:
    return Case(model, ((partial(toys.ToyRows, "text"), 1.0),), order=order)


def _mixture(model: NetworkConfig) -> Case:
    """Text at a quarter of the rows, conversations with masks at the rest, lambda 2."""
    sources = ((partial(toys.ToyRows, "text"), 0.25), (partial(toys.ToyRows, "chat", masked=0.6), 0.75))
    return Case(model, sources, toys.objectives())


def _labels(kind: LabelKind, outputs: int, layers: LayersConfig | None = None) -> Case:
    heads = heads_of(kind, outputs)
    objectives = Objectives(("text",), (0,), ("task",), (1.0,), heads)
    model = LabellerConfig.on(ENCODER, kind, [f"label {index}" for index in range(outputs)])
    return Case(model, ((partial(LabelRows, kind, len(heads)), 1.0),), objectives, layers=layers)


def _preferences(name: str) -> Case:
    """Preferences at three quarters of the rows, text at the rest."""
    compared = partial(ToyPreferences, "pairs", kto=name == "kto")
    sources = ((compared, 0.75), (partial(toys.ToyRows, "text"), 0.25))
    objectives = Objectives(("pairs", "text"), (0, 1), ("preferences", "pretrain"), (1.0, 0.1))
    return Case(toys.MODEL, sources, objectives, rule=RULES[name])


def decoder(family: str) -> DecoderConfig:
    """The toy decoder as one of a family."""
    return DecoderConfig(**{**toys.MODEL.model_dump(), **DECODERS[family]})


CASES: dict[str, Case] = {
    **{f"{family}: next token": _next_token(decoder(family)) for family in DECODERS},
    "qwen3: mixture": _mixture(toys.MODEL),
    "lora: mixture": replace(_mixture(toys.MODEL), tune=LoRAConfig(rank=4, alpha=16)),
    "lora: dropout, layer by layer": replace(
        _mixture(toys.MODEL),
        tune=LoRAConfig(rank=4, alpha=16, dropout=0.1),
        layers=LayersConfig(unfreeze_every_steps=2),
    ),
    "lora on nf4: mixture": replace(_mixture(toys.MODEL), tune=LoRAConfig(rank=4, alpha=16, base="nf4")),
    "dora: mixture": replace(_mixture(decoder("llama")), tune=DoRAConfig(rank=4, alpha=16, also=("embedding.weight",))),
    "lstm: next token": _next_token(toys.LSTM, "continuous"),
    "lstm: mixture": _mixture(toys.LSTM),
    "encoder: masked": Case(ENCODER, ((partial(MaskedRows, pairs=False), 1.0),)),
    "encoder: masked and next sentence": Case(
        ENCODER.model_copy(update={"next_sentence": True}),
        ((partial(MaskedRows, pairs=True), 1.0),),
        Objectives(("text",), (0,), ("pretrain",), (1.0,), ("", "next_sentence")),
    ),
    **{f"qwen3: {name}": _preferences(name) for name in RULES},
    "labeller: sequence": _labels("sequence", 2),
    "labeller: sequence, layer by layer": _labels("sequence", 2, LayersConfig(unfreeze_every_steps=2, layer_decay=0.9)),
    "labeller: multilabel": _labels("multilabel", 3),
    "labeller: multilabel, of many": _labels("multilabel", 40),
    "labeller: token": _labels("token", 2),
    "labeller: number": _labels("number", 0),
    "labeller: span": _labels("span", 0),
}
