"""Any other causal language model of transformers, by that library's own class: tokens -> losses or logits.

    values of config.json --the class of their model_type--> body
    tokens, positions --body without its output matrix--> states --our head, in chunks--> losses      (most classes)
    tokens, positions --body------------------------------> logits, whole ---------------> losses      (scores that are
                                                                  capped, scaled or have a bias: Gemma 2, Granite, Phi)

Documents of a row are kept apart by positions that begin again at 0, which transformers' masks understand, or by a mask
of our own; whether a class heeds one of them is tried at the first row of several documents. The class is transformers'
own: nothing that comes with a model is run. It drops nothing in training.

Invariant: parameters are float32 masters, by the class's names behind `body.`; buffers are made where the weights are,
and what files hold beside the weights is a parameter that never learns.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from groundup.errors import ModelFileError
from groundup.models.context import RowContext
from groundup.models.heads import LanguageModelHead
from groundup.models.losses import IGNORE, loss_from_total
from groundup.models.network import CausalNetwork, Losses, NetworkConfig, Operation, Role, TokenCache, TokensSoFar
from groundup.models.transformers_library import (
    LAYER_KEYS,
    in_a_line,
    library,
    made,
    wrong_values,
)
from groundup.models.transformers_parts import KeyValues, Output, keep_with_the_weights, mask_of, positions_within

TRIED = (5, 3)
"""Lengths of the two documents by which a class shows that it keeps them apart."""
TRIED_LAYERS, TRIED_VOCAB_SIZE = 2, 64
"""Of the model on which that is tried before there are texts and weights."""
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""Largest difference between documents packed and alone, as a share of the largest number."""


class TransformersConfig(NetworkConfig):
    """Any other decoder that transformers has a class for (extra `hf`); `pretrain.from` fills it in."""

    kind: Literal["transformers"] = "transformers"
    tied: Literal[False] = False
    """Not said here: `values` do, by tie_word_embeddings."""
    values: dict[str, Any] = Field(min_length=1)
    """What config.json says of the model, `model_type` above all; without numbers of tokens and the vocabulary."""

    @model_validator(mode="after")
    def _harmless(self) -> TransformersConfig:
        if wrong := wrong_values(self.values):
            raise ValueError(wrong)
        return self

    @property
    def num_layers(self) -> int:
        """Layers, as far as the values say it."""
        return next((int(self.values[key]) for key in LAYER_KEYS if key in self.values), 0)

    def num_parameters(self, vocab_size: int) -> int:
        """All parameters, tied ones counted once."""
        return _num_parameters(self.model_dump_json(), vocab_size)

    def require_trainable(self) -> None:
        """Raise ModelFileError for values without a class, and for a class that cannot keep documents apart."""
        _require_trainable(self.model_dump_json())

    def shallow(self) -> TransformersConfig:
        """The same with few layers, as far as the values say layers in the usual words."""
        layers = self.num_layers
        if layers <= TRIED_LAYERS:
            return self
        cut: dict[str, Any] = {}
        for key, value in self.values.items():
            if key in LAYER_KEYS:
                cut[key] = TRIED_LAYERS
            elif isinstance(value, list) and len(value) == layers:
                cut[key] = value[:TRIED_LAYERS]
        return self.model_copy(update={"values": {**self.values, **cut}})


@functools.lru_cache(maxsize=16)
def _num_parameters(config: str, vocab_size: int) -> int:
    """Counted once for each config, since the model is built to count them."""
    return NetworkConfig.num_parameters(TransformersConfig.model_validate_json(config), vocab_size)


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)
@torch.no_grad()
def _require_trainable(config: str) -> None:
    """Tried on a model of few layers and tokens with random weights, so that it takes a moment and little memory."""
    whole = TransformersConfig.model_validate_json(config)
    with torch.device("cpu"):
        try:
            model = whole.shallow().build(TRIED_VOCAB_SIZE)
        except ModelFileError:  # of values that go with that number of layers only, or with none
            model = whole.build(TRIED_VOCAB_SIZE)
        assert isinstance(model, TransformersModel), "its config builds it"
        model.initialise(seed=1)
        model.eval().require_apart(torch.device("cpu"))


class TransformersModel(CausalNetwork, of=TransformersConfig):
    """A model of any class of transformers. Build it on any device ("meta" included), then load a state."""

    config: TransformersConfig

    def __init__(self, config: TransformersConfig, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        self.body: Any = made(config.values, config.context_length, vocab_size)
        names = {module: name for name, module in self.body.named_modules()}
        table, output = self.body.get_input_embeddings(), self.body.get_output_embeddings()
        if not isinstance(table, nn.Embedding) or not isinstance(output, nn.Linear):
            raise self._refusal("has no plain tables of tokens")
        tied = output.weight is table.weight
        with torch.device("meta"):
            self.head = LanguageModelHead(output.in_features, vocab_size, tied=tied)
        if not tied:
            self.head.weight = nn.Parameter(output.weight)
        self.output = names[output]
        """What the class calls its output matrix."""
        self.embedding_name = f"body.{names[table]}.weight"
        self._tables = {f"body.{name}.weight" for module, name in names.items() if isinstance(module, nn.Embedding)}
        self.body.set_output_embeddings(Output(self.head, table, output.bias))
        self.body.eval()
        keep_with_the_weights(self.body)
        if self.state_dict().keys() != dict(self.named_parameters()).keys():
            raise self._refusal("shares weights or keeps numbers beside them")
        self.accepts = set(inspect.signature(self.body.forward).parameters)
        self._ready_on: torch.device | None = None
        self._keeps_apart = self._needs_mask = False

    @property
    def _output(self) -> Output:
        found: Output = self.body.get_output_embeddings()
        return found

    def _refusal(self, why: str) -> ModelFileError:
        return ModelFileError(f"{type(self.body).__name__} {why}, which is not supported; use another model")

    def train(self, mode: bool = True) -> TransformersModel:
        """The class itself always computes as in use: its dropout could not be repeated when a run resumes."""
        super().train(mode)
        self.body.eval()
        return self

    def blocks(self) -> Sequence[nn.Module]:
        """What the class says must stay together: its layers."""
        units = set(self.body._no_split_modules or ())
        found = {name: module for name, module in self.body.named_modules() if type(module).__name__ in units}
        return [module for name, module in found.items() if not any(name.startswith(f"{one}.") for one in found)]

    def compile_units(self) -> list[nn.Module]:
        """What is worth compiling: not the class, which decides many things while it runs."""
        return [self.head.chunk_loss]

    def depth(self, name: str) -> int:
        """Layer of a parameter: the place of its block, 0 for tables, one more than blocks for all others."""
        places = {id(block): number for number, block in enumerate(self.blocks(), 1)}
        parts = name.split(".")
        outer = [self.get_submodule(".".join(parts[:length])) for length in range(1, len(parts))]
        found = [places[id(module)] for module in outer if id(module) in places]
        return found[0] if found else super().depth(name)

    def role(self, name: str) -> Role:
        """What the parameter of this name is: matrix, embedding, head or vector."""
        return "embedding" if name in self._tables else super().role(name)

    def flops_per_weight(self, name: str) -> float:
        """As in every model; of a stack of experts as much as a token goes through."""
        parameter = self.get_parameter(name)
        if parameter.ndim < 3:
            return super().flops_per_weight(name)
        return 6 * getattr(self.body.config, "num_experts_per_tok", len(parameter)) / len(parameter)

    def initialise(self, seed: int) -> None:
        """Random values by the rules of `Network.start`; the class's own rules ask for all weights at once."""
        super().initialise(seed)
        self._ready_on = None

    def operations(self) -> list[Operation]:
        """The output matrix of a tied model, and the scores of attention, as if every layer saw the whole context."""
        settings, found = self.body.config, []
        if self.head.weight is None:
            shape = tuple(self.get_parameter(self.embedding_name).shape)
            found.append(Operation("head (the embedding again)", shape, 1, 6 * shape[0] * shape[1], "tied: no more"))
        layers, size = len(self.blocks()), getattr(settings, "hidden_size", 0)
        flops = 6 * layers * size * (self.config.context_length + 1)
        return [*found, Operation(f"attention scores x {layers}", (), layers, flops, "none; the whole context")]

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
        """As `CausalNetwork.forward`; a class that does more with its scores makes all of them at once."""
        self._prepare(tokens.device)
        if self._output.passing or answers is not None:
            return super().forward(
                tokens, targets, segments, positions, row_weights, context, answers, groups, references
            )
        if targets is None:
            return self._run(tokens, segments, positions).float()
        return self.token_losses(tokens, targets, segments, positions, context).sum(1), (targets != IGNORE).sum(1)

    def token_losses(
        self,
        tokens: Int[Tensor, "rows time"],
        targets: Int[Tensor, "rows time"],
        segments: Int[Tensor, "rows time"] | None,
        positions: Int[Tensor, "rows time"] | None,
        context: RowContext | None,
    ) -> Float[Tensor, "rows time"]:
        """The loss of every target by itself (nats, float32); 0 where there is none."""
        if self._output.passing:
            return super().token_losses(tokens, targets, segments, positions, context)
        flat = self._run(tokens, segments, positions).float().flatten(0, 1)
        losses = loss_from_total(flat, torch.logsumexp(flat, dim=-1), targets.flatten(), self.loss)
        return losses.view(targets.shape)

    def hidden(
        self,
        tokens: Int[Tensor, "rows time"],
        segments: Int[Tensor, "rows time"] | None,
        positions: Int[Tensor, "rows time"] | None,
        context: RowContext | None,
    ) -> Float[Tensor, "rows time hidden"]:
        """What the head reads, in the compute dtype."""
        return self._run(tokens, segments, positions).to(self.compute_dtype)

    def states_at(
        self,
        tokens: Int[Tensor, "rows time"],
        rows: Int[Tensor, " places"],
        columns: Int[Tensor, " places"],
    ) -> Float[Tensor, "places width"]:
        """As `CausalNetwork.states_at`; of a class that does more with its scores, these."""
        self._prepare(tokens.device)
        return super().states_at(tokens, rows, columns)

    def logits_of(self, states: Float[Tensor, "places width"]) -> Float[Tensor, "places vocab"]:
        """As `CausalNetwork.logits_of`."""
        return super().logits_of(states) if self._output.passing else states.float()

    def _run(
        self, tokens: Tensor, segments: Tensor | None, positions: Tensor | None, cache: KeyValues | None = None
    ) -> Tensor:
        """What comes out of the class: states where its output matrix is plain, else scores."""
        if segments is None:
            return self._call(tokens, positions, cache)
        self.require_apart(tokens.device)
        positions = positions_within(segments) if positions is None else positions
        return self._call(tokens, positions, mask=mask_of(segments) if self._needs_mask else None)

    def _call(
        self, tokens: Tensor, positions: Tensor | None, cache: KeyValues | None = None, mask: Tensor | None = None
    ) -> Tensor:
        inputs: dict[str, Any] = {} if positions is None else {"position_ids": positions.long()}
        if "use_cache" in self.accepts:
            inputs["use_cache"] = cache is not None
        if cache is not None:
            inputs["past_key_values"] = cache.cache
        if mask is not None:
            inputs["attention_mask"] = mask.to(self.compute_dtype)
        narrow = self.compute_dtype != torch.float32
        with torch.autocast(tokens.device.type, self.compute_dtype if narrow else torch.bfloat16, enabled=narrow):
            found: Tensor = self.body(input_ids=tokens, return_dict=True, **inputs).logits
        return found

    def new_cache(self, rows: int, max_time: int) -> TokenCache:
        """Keys and values as the class keeps them; a class that keeps none computes all tokens again."""
        if "past_key_values" not in self.accepts:
            return super().new_cache(rows, max_time)
        return KeyValues(library().DynamicCache(config=self.body.config))

    def prefill(self, tokens: Int[Tensor, "rows time"], cache: Any) -> Float[Tensor, "rows vocab"]:
        """Append equally long `tokens` to the cache, from `cache.length`; float32 logits of the last position."""
        self._prepare(tokens.device)
        if isinstance(cache, TokensSoFar):
            cache.tokens = torch.cat((cache.tokens, tokens), dim=1)
            found = self._run(cache.tokens, None, None)[:, -1]
        else:
            found = self._run(tokens, None, None, cache)[:, -1]
            cache.length += tokens.shape[1]
        if not self._output.passing:
            return found.float()
        return self.head.logits(found.to(self.compute_dtype), self._table())

    @torch.inference_mode(False)
    @torch.no_grad()
    def _prepare(self, device: torch.device) -> None:
        """Before the first use on a device: the buffers' values, and whether the class gives back plain scores."""
        if self._ready_on == device:
            return
        for parameter in self.body.parameters():
            parameter._is_hf_initialized = True  # transformers' own sign for "leave it as it is"
        for module in self.body.modules():
            buffers = dict(module.named_buffers(recurse=False))
            for name, buffer in buffers.items():
                module._buffers[name] = torch.empty_like(buffer, device=device)
            if buffers:
                self.body._init_weights(module)
        self._ready_on = device
        if self._output.passing:
            states: list[Tensor] = []
            watching = self._output.register_forward_hook(lambda module, inputs, found: states.append(found))
            try:
                out = self._call(torch.zeros(1, 2, dtype=torch.int64, device=device), None)
            except Exception as error:  # of a class whose values contradict each other: any kind of error
                raise self._refusal(f"cannot compute with these values ({in_a_line(error)})") from None
            finally:
                watching.remove()
            self._output.passing = len(states) == 1 and out is states[0]

    @torch.no_grad()
    def require_apart(self, device: torch.device) -> None:
        """Find out what keeps documents of a row apart, and later tokens from earlier ones. Raises ModelFileError."""
        if self._keeps_apart:
            return
        self._prepare(device)
        windows = getattr(self.body.config, "sliding_window", None) or getattr(self.body.config, "layer_types", None)
        for self._needs_mask in (False, True):
            # A mask of our own would take the place of the class's windows.
            if not (self._needs_mask and windows) and "position_ids" in self.accepts and self._is_apart(device):
                self._keeps_apart = True
                return
        raise ModelFileError(
            f"{type(self.body).__name__} does not keep the documents of a row apart, so it cannot be trained or "
            "measured here; use one that does, such as llama, qwen3, gemma2 or gpt_neox"
        )

    def _is_apart(self, device: torch.device) -> bool:
        first, second = (torch.arange(length, device=device)[None] % self.vocab_size for length in TRIED)
        segments = torch.cat([torch.full((1, length), number, device=device) for number, length in enumerate(TRIED)], 1)
        mask = mask_of(segments) if self._needs_mask else None
        try:
            packed = self._call(torch.cat((first, second), 1), positions_within(segments), mask=mask)
        except (RuntimeError, ValueError, TypeError, IndexError):
            return False  # it has no use for such a mask
        if isinstance(packed, FakeTensor):
            return True
        alone = torch.cat((self._call(first, None), self._call(second, None)), 1)
        pairs = ((packed, alone), (alone[:, :2], self._call(first[:, :2], None)))
        tolerance = TOLERANCE.get(self.compute_dtype, 1e-3)
        return all(bool((one - other).abs().max() <= tolerance * other.abs().max()) for one, other in pairs)

    def _apply(self, fn: Any, recurse: bool = True) -> TransformersModel:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._ready_on = None
        return self

    def _table(self) -> Float[Tensor, "vocab hidden"]:
        table: Tensor = self.get_parameter(self.embedding_name)
        return table
