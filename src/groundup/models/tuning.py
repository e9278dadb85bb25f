"""A model and a way to tune it -> which parameters learn, and back: what was learnt -> the weights of a whole model.

    attach   freezes the model and puts adapters on the layers asked for (on "meta" as on any device)
    narrow   keeps frozen matrices in the dtype of the computation
    begin    adapters start so that the model gives what it gave; quantises the frozen matrices
    merged   weights of the model without adapters, and the adapters' -> weights of one that gives the same without them

Invariant: names of the model's own parameters do not change; adapters are `<layer>.adapter.{down, up, magnitude}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import partial

import torch
from torch import Tensor, nn

from groundup.errors import RecipeError
from groundup.models.adapters import MARK, Adapter, LowRankConfig, tell_rows
from groundup.models.context import RowContext
from groundup.models.layers import Embedding, Linear
from groundup.models.network import Network, NetworkConfig, build_model
from groundup.models.quantised import QuantisedMatrix

GROUPS = {"attention": re.compile(r"\.(self_)?att(entio)?n\."), "ffn": re.compile(r"\.(ffn|mlp|feed_forward)\.")}
"""What the paths of layers have in them that belong to a part of a block, here and in transformers' classes."""


def attach(model: Network, config: LowRankConfig, trained_layers: int | None = None) -> None:
    """Freeze `model` and put an adapter on every layer that `config` names, of the highest `trained_layers` if given.

    Raises RecipeError when a name fits nothing, or the model has no such layers.
    """
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    layers = list(linear_layers(model))
    if not layers:
        raise RecipeError(
            f"tune.kind: {config.kind} needs linear layers, model.kind: {model.config.kind} has none; "
            "use tune: {kind: full}"
        )
    chosen = [name for name in layers if any(_is_target(name, target) for target in config.targets)]
    for target in config.targets:
        if not any(_is_target(name, target) for name in layers):
            known = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in layers))
            raise RecipeError(
                f"tune.targets: {target[:40]!r} fits no layer; use linear, attention, ffn, or {known[:90]}"
            )
    top = len(model.blocks())
    for number, name in enumerate(chosen):
        if trained_layers is None or model.depth(f"{name}.weight") > top - trained_layers:
            linear = _own_linear(model, name)
            with linear.weight.device:
                linear.adapter = Adapter(linear.in_size, linear.out_size, config, number)
    if not any(MARK in name for name, _ in model.named_parameters()):
        raise RecipeError("layers.trained_layers: 0 leaves no layer for adapters; raise it, or use tune: {kind: full}")
    _train_also(model, config)
    model.register_forward_pre_hook(_tell_of_call, with_kwargs=True)


def _tell_of_call(model: nn.Module, inputs: tuple[object, ...], named: dict[str, object]) -> None:
    found = named.get("context")
    tell_rows(model, found if isinstance(found, RowContext) else RowContext())


def _train_also(model: Network, config: LowRankConfig) -> None:
    within = {f"{name}.weight" for name in linear_layers(model)}
    for pattern in config.also:
        fitting = [name for name, _ in model.named_parameters() if MARK not in name and fnmatchcase(name, pattern)]
        if not fitting or within & set(fitting):
            what = "is a matrix that adapters are for" if fitting else "fits no parameter"
            raise RecipeError(f"tune.also: {pattern[:60]!r} {what}; it is for tables, such as {model.embedding_name}")
        for name in fitting:
            model.get_parameter(name).requires_grad_(True)


def linear_layers(model: Network) -> Iterator[str]:
    """Paths of the linear layers in the blocks, in order."""
    blocks = {id(module) for block in model.blocks() for module in block.modules()}
    for name, module in model.named_modules():
        if id(module) in blocks and isinstance(module, Linear | nn.Linear):
            yield name


def _is_target(name: str, target: str) -> bool:
    """Whether a layer is meant: by its group, or by the end of its path."""
    if target == "linear":
        return True
    if target in GROUPS:
        return GROUPS[target].search(f".{name}") is not None
    return fnmatchcase(name, target) or fnmatchcase(name, f"*.{target}")


def _own_linear(model: Network, name: str) -> Linear:
    """The layer of this path; one of torch's is replaced by ours over the same parameters."""
    found = model.get_submodule(name)
    if isinstance(found, Linear):
        return found
    assert isinstance(found, nn.Linear), "as linear_layers chose it"
    with torch.device("meta"):
        made = Linear(found.in_features, found.out_features, bias=found.bias is not None)
    for part, parameter in found.named_parameters(recurse=False):
        made.register_parameter(part, parameter)
    outer, _, inner = name.rpartition(".")
    setattr(model.get_submodule(outer), inner, made)
    return made


def narrow(model: Network, dtype: torch.dtype) -> None:
    """Keep frozen matrices and tables in `dtype`, in which they are used; a table that is normed first is not."""
    for name, parameter in list(model.named_parameters()):
        outer, _, inner = name.rpartition(".")
        module = model.get_submodule(outer)
        normed = isinstance(module, Embedding) and module.norm
        if not parameter.requires_grad and parameter.ndim > 1 and not normed:
            setattr(module, inner, nn.Parameter(parameter.data.to(dtype), requires_grad=False))


def begin(
    model: Network, config: LowRankConfig, seed: int, whole: Callable[[Tensor], Tensor] = lambda matrix: matrix
) -> None:
    """Quantise what is to be, once the model has its weights, and start every adapter.

    `whole`: what makes a matrix whole of which this rank has a part (a collective then, for all ranks alike).
    """
    for name in list(linear_layers(model)):
        if config.base != "unchanged":
            _own_linear(model, name).quantise(config.base)
        layer = model.get_submodule(name)
        if isinstance(layer, Linear) and layer.adapter is not None:
            quantised = layer.quantised is not None  # which is never in parts
            base = partial(layer.matrix, torch.float32) if quantised else partial(whole, layer.weight)
            layer.adapter.begin(f"{name}.adapter", seed, base)


def merged(
    model: NetworkConfig,
    vocab_size: int,
    config: LowRankConfig,
    base: Mapping[str, Tensor],
    learned: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Float32 weights of a whole model, from those it was tuned from and what was learnt."""
    weights = {**base, **{name: tensor for name, tensor in learned.items() if MARK not in name}}
    with torch.device("meta"):
        names = list(linear_layers(build_model(model, vocab_size)))
    for name in names:
        weight = f"{name}.weight"
        if config.base != "unchanged":
            weights[weight] = QuantisedMatrix(config.base, weights[weight]).matrix(torch.float32)
        if f"{name}{MARK}down" in learned:
            weights[weight] = read_adapter(name, config, learned).merged(weights[weight])
    return weights


def read_adapter(name: str, config: LowRankConfig, learned: Mapping[str, Tensor]) -> Adapter:
    """The adapter of a layer, from what was learnt."""
    down, up = learned[f"{name}{MARK}down"], learned[f"{name}{MARK}up"]
    adapter = Adapter(down.shape[1], len(up), config, 0)
    parts = {part: learned[f"{name}{MARK}{part}"] for part, _ in adapter.named_parameters()}
    adapter.load_state_dict(parts)
    return adapter


def flops_per_token(model: NetworkConfig, vocab_size: int, config: LowRankConfig) -> int:
    """Forward and backward of one token: of a frozen matrix two products of three, and the adapters' own."""
    with torch.device("meta"):
        built = build_model(model, vocab_size)
        attach(built, config)
    frozen = (p.numel() * built.flops_per_weight(n) / 3 for n, p in built.named_parameters() if not p.requires_grad)
    adapters = (6 * p.numel() for n, p in built.named_parameters() if MARK in n and p.ndim > 1)
    return round(model.flops_per_token(vocab_size) - sum(frozen) + sum(adapters))
