"""What every model has in common: what the training step, evaluation, export and generation ask of it.

    tokens [rows, time] --hidden--> states [rows, time, hidden] --head--> losses of every row, or logits

A new model is one file: a config, and a `CausalNetwork` of it with `embedding`, `layers`, `head` and `hidden`
(see `lstm.py`, and docs/guide/models.md); everything here has a default that is right for most.

Invariant: parameters are float32 masters; a model holds no buffers, and nothing depends on the world size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from groundup.config import Config
from groundup.errors import RecipeError
from groundup.models.context import RowContext
from groundup.models.heads import ChunkLoss, LanguageModelHead
from groundup.models.initial import fill, generator
from groundup.models.lane import Lane
from groundup.models.losses import IGNORE, LossConfig
from groundup.models.preferences import PreferenceLossConfig, answer_sums, outcome
from groundup.models.row_part import Line
from groundup.models.scaling import Growth
from groundup.models.tensor_plan import Layout

Role = Literal["matrix", "embedding", "head", "vector"]
"""What a parameter is, for optimizers and starting values."""
Losses = tuple[Float[Tensor, " rows *heads"], Int[Tensor, " rows *heads"]]
"""Sum of the losses (nats, float32) and number of valid targets of each row."""


class NetworkConfig(Config):
    """What the config of every model has."""

    kind: str
    """Which model; each config has its own word."""
    context_length: int = Field(ge=2)
    """Tokens the model sees at once, in training and in use."""
    tied: bool = False
    """Use the embedding table as the output matrix as well."""

    network: ClassVar[type[Network]]
    """The model that it describes, which says so itself: `class LSTM(CausalNetwork, of=LSTMConfig)`."""

    def build(self, vocab_size: int) -> Network:
        """An uninitialised model on the current default device ("meta" before sharding)."""
        return self.network(self, vocab_size)

    def require_trainable(self) -> None:
        """Raise ModelFileError where no phase could train or measure it; asked before any work is done."""

    def num_parameters(self, vocab_size: int) -> int:
        """All parameters, tied ones counted once."""
        return sum(parameter.numel() for parameter in self._on_meta(vocab_size).parameters())

    def flops_per_token(self, vocab_size: int) -> int:
        """Forward and backward of one token at full context."""
        model = self._on_meta(vocab_size)
        products = (round(p.numel() * model.flops_per_weight(name)) for name, p in model.named_parameters())
        return sum(products) + sum(operation.flops_per_token for operation in model.operations())

    def cache_bytes(self, rows: int, time: int, bytes_per_value: int = 2) -> int:
        """What generation keeps of `rows` sequences of `time` tokens."""
        return 0

    def kernels_obstacle(self) -> str | None:
        """What of it the C++ kernels do not know, in words for people; None when they serve this model."""
        return f"they do not know model.kind: {self.kind}"

    def tensor_obstacle(self, ranks: int) -> str | None:
        """Why so many ranks cannot share every layer (2 or more), in words for people; None when they can."""
        return f"the layers of model.kind: {self.kind} cannot be shared out so far"

    def context_obstacle(self) -> str | None:
        """Why its rows cannot be split over ranks, in words for people; None when they can."""
        return f"model.kind: {self.kind} reads its rows whole"

    def _on_meta(self, vocab_size: int) -> Network:
        with torch.device("meta"):
            return self.build(vocab_size)


def build_model(config: NetworkConfig, vocab_size: int) -> Network:
    """An uninitialised model on the current default device ("meta" before sharding)."""
    return config.build(vocab_size)


@dataclass(frozen=True)
class Operation:
    """What costs time and has no parameters of its own, for tables."""

    name: str
    shape: tuple[int, ...]
    count: int
    flops_per_token: int
    """Forward and backward of one token of a full context."""
    how: str
    """Where it comes from, in words."""


class TokenCache(Protocol):
    """What generation keeps of the tokens so far."""

    @property
    def length(self) -> int:
        """Tokens that it holds, of every row."""

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Drop all sequences but these (positions in the batch), in that order."""


class Network(nn.Module):
    """A model. Build it on any device ("meta" included), then `initialise` or load a state."""

    config: NetworkConfig
    embedding_name = "embedding.weight"
    head_name = "head.weight"
    lane: Lane | None = None
    """Ranks that share every layer, as this one sees them."""
    elsewhere: frozenset[str] = frozenset()
    """Names of parameters that only other ranks have, where the model is cut into stages."""
    shared: frozenset[str] = frozenset()
    """Names of parameters that the first and the last stage both have, each with a part of the gradient."""

    def __init_subclass__(cls, of: type[NetworkConfig] | None = None) -> None:
        """`of`: the config that describes models of this class."""
        super().__init_subclass__()
        if of is not None:
            of.network = cls

    def __init__(self, config: NetworkConfig, vocab_size: int) -> None:
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        self.compute_dtype = torch.float32
        self.loss = LossConfig()
        self.line: Line | None = None

    def set_line(self, line: Line | None) -> None:
        """The ranks that each have a part of its rows (`RowPart.of(model.line, segments)`); None: rows are whole.

        Raises RecipeError when this model cannot read a part.
        """
        obstacle = self.config.context_obstacle()
        if line is not None and obstacle is not None:
            raise RecipeError(f"runtime.parallel.context: {line.size}: {obstacle}; use context: 1")
        self.line = line

    def set_compute_dtype(self, dtype: torch.dtype) -> None:
        """Compute in float32 or bfloat16; parameters keep their own dtype."""
        self.compute_dtype = dtype

    def set_kernels(self, on: bool) -> None:
        """Compute with the kernels of `groundup.kernels` where numbers are bfloat16; ask `ops.usable` first."""
        for module in self.modules():
            if isinstance(module, ChunkLoss):
                module.fused = on

    def set_loss(self, loss: LossConfig) -> None:
        """What is added to cross-entropy in training."""
        self.loss = loss
        for module in self.modules():
            if isinstance(module, ChunkLoss):
                module.loss = loss

    def memory(self, rows: int, device: torch.device) -> dict[str, Tensor]:
        """What is carried from window to window for `rows` streams, by name; nothing."""
        return {}

    def blocks(self) -> Sequence[nn.Module]:
        """The repeated units: sharded, compiled and recomputed one by one."""
        layers = getattr(self, "layers", ())
        return list(layers)

    def compile_units(self) -> list[nn.Module]:
        """What is worth compiling; all blocks share one compiled graph."""
        return [*self.blocks(), *(module for module in self.modules() if isinstance(module, ChunkLoss))]

    def tensor_plan(self) -> Mapping[str, Layout]:
        """How several ranks share the layers, by path of the module; nothing, where `tensor_obstacle` has an answer."""
        return {}

    def matrix_parameters(self) -> set[str]:
        """Names of the two-dimensional hidden matrices (for Muon): neither tables nor what gives scores."""
        return {name for name, _ in self.named_parameters() if self.role(name) == "matrix"}

    def role(self, name: str) -> Role:
        """What the parameter of this name is: matrix, embedding, head or vector."""
        if name == self.embedding_name:
            return "embedding"
        if name == self.head_name:
            return "head"
        return "matrix" if self.get_parameter(name).ndim == 2 else "vector"

    def depth(self, name: str) -> int:
        """Layer of a parameter, counted from the bottom: 0 for tables at the entry, one more than layers for heads."""
        outer, _, inner = name.partition(".")
        if outer == "layers":
            return int(inner.partition(".")[0]) + 1
        return 0 if self.role(name) == "embedding" or outer.startswith("embedding") else len(self.blocks()) + 1

    def growth(self, name: str) -> Growth:
        """How much larger than a base model this one is where it concerns this parameter; not at all by default."""
        return Growth()

    def initialise(self, seed: int) -> None:
        """Fill every parameter from its own generator, seeded by (seed, name): the same for any number of ranks."""
        for name, parameter in self.named_parameters():
            fill(parameter, self.start(name, parameter.shape, seed))

    def start(self, name: str, shape: torch.Size, seed: int) -> Float[Tensor, "*shape"]:
        """The starting values of a parameter: gains 1, biases 0, tables 0.02, matrices 1 / sqrt(inputs)."""
        if len(shape) < 2:
            return torch.full(shape, 0.0 if name.endswith("bias") else 1.0, device="cpu")
        std = 1 / math.sqrt(shape[-1]) if self.role(name) == "matrix" else 0.02
        return self.normal(name, shape, seed, std)

    @staticmethod
    def normal(name: str, shape: torch.Size, seed: int, std: float) -> Float[Tensor, "*shape"]:
        """Normal numbers that belong to (seed, name), on the CPU."""
        return torch.empty(shape, device="cpu").normal_(0.0, std, generator=generator(seed, name))

    def flops_per_weight(self, name: str) -> float:
        """Forward and backward of one token by one weight: 6 in a matrix, none where a row is looked up."""
        return 6 if self.role(name) in ("matrix", "head") else 0

    def operations(self) -> list[Operation]:
        """What costs time beyond the products with own weights."""
        return self.tied_head()

    def tied_head(self) -> list[Operation]:
        """The output matrix of a tied model."""
        if not self.config.tied:
            return []
        shape = tuple(self.get_parameter(self.embedding_name).shape)
        return [Operation("head (the embedding again)", shape, 1, 6 * math.prod(shape), "tied: no more")]


class CausalNetwork(Network):
    """A model that predicts the next token; subclasses make `embedding`, `layers` and `head`, and say `hidden`."""

    embedding: nn.Module
    head: LanguageModelHead

    def hidden(
        self,
        tokens: Int[Tensor, "rows time"],
        segments: Int[Tensor, "rows time"] | None,
        positions: Int[Tensor, "rows time"] | None,
        context: RowContext | None,
    ) -> Float[Tensor, "rows time hidden"]:
        """What the head reads, in the compute dtype."""
        raise NotImplementedError

    def forward(
        self,
        tokens: Int[Tensor, "rows time"],
        targets: Int[Tensor, "rows time"] | None = None,
        segments: Int[Tensor, "rows time"] | None = None,
        positions: Int[Tensor, "rows time"] | None = None,
        row_weights: Float[Tensor, " rows"] | None = None,
        context: RowContext | None = None,
        answers: Int[Tensor, "rows time"] | None = None,
        groups: Int[Tensor, "rows time"] | None = None,
        references: Float[Tensor, "rows time"] | None = None,
    ) -> Losses | Float[Tensor, "rows time vocab"]:
        """With targets: the sum of the losses (nats, float32) and the number of valid targets of each row; else logits.

        `segments` keeps documents apart, `positions` (default 0, 1, 2 ...) are the places within them.
        `row_weights`: the derivative of the objective by each row's loss sum, if known beforehand. The head then makes
        its gradients at once instead of computing the logits a second time in the backward; the gradient that comes
        back must be a multiple of these weights, or all gradients become NaN. `context`: the rows' keys for dropout
        (without, nothing is dropped), and what they carry on from the window before.
        `answers`, `groups`, `references`: there are rows of preferences among the rows (see `models.preferences`);
        without targets the log-probability (nats) and the tokens of each answer, both by number of its segment.
        """
        if answers is not None:
            assert segments is not None and groups is not None and references is not None, "preferences come whole"
            return self._judged(tokens, targets, segments, positions, context, answers, groups, references)
        x = self.hidden(tokens, segments, positions, context)
        if targets is None:
            return self.head.logits(x, self._table())
        loss_sums, counts = self.head(x, self._table(), targets, row_weights)
        return loss_sums, counts

    def states_at(
        self,
        tokens: Int[Tensor, "rows time"],
        rows: Int[Tensor, " places"],
        columns: Int[Tensor, " places"],
    ) -> Float[Tensor, "places width"]:
        """What `logits_of` makes logits of, at some places of `tokens` only."""
        return self.hidden(tokens, None, None, None)[rows, columns]

    def logits_of(self, states: Float[Tensor, "places width"]) -> Float[Tensor, "places vocab"]:
        """Logits, float32, of what `states_at` gave."""
        return self.head.logits(states, self._table())

    def _judged(
        self,
        tokens: Tensor,
        targets: Tensor | None,
        segments: Tensor,
        positions: Tensor | None,
        context: RowContext | None,
        answers: Tensor,
        groups: Tensor,
        references: Tensor,
    ) -> Losses:
        """Rows of preferences, and rows of text beside them, whose losses are those of their tokens as ever."""
        compares = groups[:, 0] >= 0
        wanted = answers if targets is None else torch.where(compares[:, None], answers, targets)
        losses = self.token_losses(tokens, wanted, segments, positions, context)
        log_probabilities, lengths = answer_sums(losses, answers, segments)
        if targets is None:
            return log_probabilities, lengths
        if not isinstance(self.loss, PreferenceLossConfig):
            raise ValueError("rows of preferences need a rule: set_loss(PreferenceLossConfig(rule=...))")
        found = outcome(self.loss.rule, log_probabilities, lengths, targets, groups, references)
        return torch.where(compares, found.losses.sum(1), losses.sum(1)), (targets != IGNORE).sum(1)

    def token_losses(
        self,
        tokens: Int[Tensor, "rows time"],
        targets: Int[Tensor, "rows time"],
        segments: Int[Tensor, "rows time"] | None,
        positions: Int[Tensor, "rows time"] | None,
        context: RowContext | None,
    ) -> Float[Tensor, "rows time"]:
        """The loss of every target by itself (nats, float32); 0 where there is none."""
        x = self.hidden(tokens, segments, positions, context)
        return self.head.token_losses(x, self._table(), targets)

    def new_cache(self, rows: int, max_time: int) -> TokenCache:
        """Room for `rows` sequences of at most `max_time` tokens; by default their tokens, computed again each time."""
        return TokensSoFar(torch.empty((rows, 0), dtype=torch.int64, device=self._table().device))

    def prefill(self, tokens: Int[Tensor, "rows time"], cache: Any) -> Float[Tensor, "rows vocab"]:
        """Append equally long `tokens` to the cache, from `cache.length`; float32 logits of the last position."""
        cache.tokens = torch.cat((cache.tokens, tokens), dim=1)
        states = self.hidden(cache.tokens, None, None, None)
        return self.head.logits(states[:, -1], self._table())

    def decode(self, tokens: Int[Tensor, "rows 1"], cache: Any) -> Float[Tensor, "rows vocab"]:
        """Append one token a row at `cache.length`; float32 logits of the next one. Raises ValueError when full."""
        return self.prefill(tokens, cache)

    def _table(self) -> Float[Tensor, "vocab hidden"]:
        return self.get_parameter(self.embedding_name)


class TokensSoFar:
    """The cache of a model that has none of its own."""

    def __init__(self, tokens: Int[Tensor, "rows time"]) -> None:
        self.tokens = tokens

    @property
    def length(self) -> int:
        """Tokens that it holds, of every row."""
        return self.tokens.shape[1]

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Drop all sequences but `rows`."""
        self.tokens = self.tokens[rows]


def causal(model: Network) -> CausalNetwork:
    """`model`, if it generates. Raises RecipeError."""
    if not isinstance(model, CausalNetwork):
        raise RecipeError(
            'an encoder goes on with no text; have it fill gaps: generate TARGET --fill-mask "The [MASK] ..."'
        )
    return model
