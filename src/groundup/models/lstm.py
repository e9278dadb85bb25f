"""The LSTM language model: token ids -> losses or logits; with what it knows of itself.

    tokens -> embedding -> [ dropout -> LSTM layer ] * num_layers -> dropout -> head
                             |  states at the end of a window -> start of the next of the same stream (RowContext)

Hochreiter & Schmidhuber 1997; dropout between layers only (Zaremba et al. 2014, arXiv 1409.2329). A row is one stream:
documents follow each other, and their separator tells the model to forget, so `segments` change nothing here.
Invariant: parameters are float32 masters; a window with its carried states gives what the whole stream gives there.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from groundup.models.cache import StateCache
from groundup.models.context import RowContext
from groundup.models.heads import LanguageModelHead
from groundup.models.layers import Embedding
from groundup.models.network import CausalNetwork, NetworkConfig
from groundup.models.noise import INPUT, dropout, layer_noise

GATES = 4


class LSTMConfig(NetworkConfig):
    """A language model of stacked LSTM layers; exported in Groundup's own layout, as Hugging Face has none."""

    kind: Literal["lstm"] = "lstm"
    context_length: int = Field(ge=2)
    """Tokens of a window: gradients reach this far back; states go on further where rows are continuous."""
    num_layers: int = Field(ge=1)
    """Number of LSTM layers."""
    hidden_size: int = Field(ge=2)
    """Width of the embedding, of each layer's output and of its cells."""
    tied: bool = False
    """Use the embedding table as the output matrix as well."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the input of each layer and of the head that is set to zero in training."""
    forget_bias: float = Field(default=1.0)
    """Start of the bias of the forget gates; above 0 a fresh model remembers."""
    embedding_init_std: float = Field(default=0.1, gt=0)
    """Standard deviation of the starting embedding table."""
    head_init_std: float = Field(default=0.02, ge=0)
    """Standard deviation of the starting output matrix of an untied model."""

    def kernels_obstacle(self) -> str | None:
        """The switch that the C++ kernels do not know: none; they serve the loss, the layers are torch's."""
        return None

    def layer_parameters(self) -> int:
        """Of one layer: matrices from input and state to the four gates, one bias."""
        return GATES * self.hidden_size * (2 * self.hidden_size + 1)

    def num_parameters(self, vocab_size: int) -> int:
        """All parameters, tied ones counted once."""
        return vocab_size * self.hidden_size * (1 if self.tied else 2) + self.num_layers * self.layer_parameters()

    def flops_per_token(self, vocab_size: int) -> int:
        """Forward and backward of one token: 6 per parameter of a matrix."""
        return 6 * (self.num_layers * 2 * GATES * self.hidden_size**2 + vocab_size * self.hidden_size)

    def cache_bytes(self, rows: int, time: int, bytes_per_value: int = 2) -> int:
        """States of `rows` sequences, however long."""
        return 2 * self.num_layers * rows * self.hidden_size * bytes_per_value


class LSTMLayer(nn.Module):
    """One layer, all time steps by torch's own LSTM; the order of the gates is torch's: in, forget, cell, out."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.empty(GATES * size, size))
        self.recurrent = nn.Parameter(torch.empty(GATES * size, size))
        self.bias = nn.Parameter(torch.empty(GATES * size))

    def forward(
        self,
        x: Float[Tensor, "rows time hidden"],
        hidden: Float[Tensor, "rows hidden"],
        cell: Float[Tensor, "rows hidden"],
    ) -> tuple[Float[Tensor, "rows time hidden"], Float[Tensor, "rows hidden"], Float[Tensor, "rows hidden"]]:
        """Outputs, and the states after the last time step (without gradient), all in the dtype of `x`."""
        dtype = x.dtype
        bias = self.bias.to(dtype)
        weights = [self.input.to(dtype), self.recurrent.to(dtype), bias, torch.zeros_like(bias)]
        start = (hidden[None].to(dtype), cell[None].to(dtype))
        outputs, hidden, cell = torch.lstm(x, start, weights, True, 1, 0.0, False, False, True)
        # A copy: what a sharded module gives back may not be a view of something else.
        return outputs.clone(memory_format=torch.contiguous_format), hidden[0].detach(), cell[0].detach()


class LSTM(CausalNetwork, of=LSTMConfig):
    """A recurrent language model. Build it on any device ("meta" included), then `initialise` or load a state."""

    config: LSTMConfig
    embedding: Embedding

    def __init__(self, config: LSTMConfig, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        self.embedding = Embedding(vocab_size, config.hidden_size, norm=False, epsilon=1.0)
        self.layers = nn.ModuleList(LSTMLayer(config.hidden_size) for _ in range(config.num_layers))
        self.head = LanguageModelHead(config.hidden_size, vocab_size, tied=config.tied)

    def hidden(
        self,
        tokens: Int[Tensor, "rows time"],
        segments: Int[Tensor, "rows time"] | None,
        positions: Int[Tensor, "rows time"] | None,
        context: RowContext | None,
    ) -> Float[Tensor, "rows time hidden"]:
        """What the head reads; states come from `context` and go back there, else they start at zero.

        `segments` and `positions` are taken so that every model is called alike, and change nothing.
        """
        context = context or RowContext()
        hidden, cell = context.start_of("hidden"), context.start_of("cell")
        if hidden is None or cell is None:
            hidden = cell = self._zeros(len(tokens), tokens.device)
        x, hidden, cell = self._run(tokens, hidden, cell, context)
        context.keep("hidden", hidden)
        context.keep("cell", cell)
        return x

    def _run(
        self, tokens: Int[Tensor, "rows time"], hidden: Tensor, cell: Tensor, context: RowContext
    ) -> tuple[Float[Tensor, "rows time hidden"], Tensor, Tensor]:
        """Outputs of the last layer, and all states at the end [rows, num_layers, hidden_size]."""
        x = self.embedding(tokens, self.compute_dtype)
        hiddens, cells = [], []
        for index, layer in enumerate(self.layers):
            x = self._dropped(x, context, index)
            x, last_hidden, last_cell = layer(x, hidden[:, index], cell[:, index])
            hiddens.append(last_hidden)
            cells.append(last_cell)
        return self._dropped(x, context, len(self.layers)), torch.stack(hiddens, 1), torch.stack(cells, 1)

    def _dropped(self, x: Tensor, context: RowContext, index: int) -> Tensor:
        noise = layer_noise(context.keys, index, self.config.num_layers, 0.0)
        return dropout(x, noise.keys if noise else None, INPUT, self.config.dropout)

    def _zeros(self, rows: int, device: torch.device) -> Float[Tensor, "rows layers hidden"]:
        return torch.zeros(rows, self.config.num_layers, self.config.hidden_size, device=device)

    def memory(self, rows: int, device: torch.device) -> dict[str, Tensor]:
        """What is carried from window to window for `rows` streams: both states of every layer, float32."""
        return {"hidden": self._zeros(rows, device), "cell": self._zeros(rows, device)}

    def new_cache(self, rows: int, max_time: int) -> StateCache:
        """The states before the first token of `rows` sequences, however long they become."""
        device = self.embedding.weight.device
        return StateCache(self._zeros(rows, device), self._zeros(rows, device))

    def prefill(self, tokens: Int[Tensor, "rows time"], cache: StateCache) -> Float[Tensor, "rows vocab"]:
        """Go on from the states in `cache` with equally long `tokens`; float32 logits of the last position."""
        x, hidden, cell = self._run(tokens, cache.hidden, cache.cell, RowContext())
        cache.hidden, cache.cell = hidden, cell
        cache.length += tokens.shape[1]
        return self.head.logits(x[:, -1], self.embedding.weight)

    def compile_units(self) -> list[nn.Module]:
        """What is worth compiling: not the layers, which are one operator each."""
        return [self.head.chunk_loss]

    def start(self, name: str, shape: torch.Size, seed: int) -> Tensor:
        """The starting values of a parameter, as the config says."""
        role, config = self.role(name), self.config
        if role == "vector":
            start = torch.zeros(shape, device="cpu")
            start[config.hidden_size : 2 * config.hidden_size] = config.forget_bias
            return start
        std = {
            "embedding": config.embedding_init_std,
            "head": config.head_init_std,
            "matrix": 1 / math.sqrt(config.hidden_size),
        }
        return self.normal(name, shape, seed, std[role])
