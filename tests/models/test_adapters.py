"""Adapters: they start as nothing, learn by the formulas of the papers, and merge into the model they are on."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from groundup.errors import RecipeError, first_line
from groundup.kernels import ops
from groundup.models import (
    DecoderConfig,
    DoRAConfig,
    LoRAConfig,
    LowRankConfig,
    LSTMConfig,
    Network,
    RowContext,
    build_model,
    tuning,
)
from groundup.models.adapters import MARK, adapted_linear
from groundup.models.layers import Linear
from tests.train.kinds import decoder

VOCAB = 64
CONFIG = DecoderConfig(context_length=32, num_layers=2, hidden_size=32, num_heads=2, num_kv_heads=1, ffn_size=48)
WAYS: dict[str, LowRankConfig] = {
    "lora": LoRAConfig(rank=4, alpha=8),
    "lora, rank-stabilised": LoRAConfig(rank=4, alpha=8, rank_stabilised=True, init="gaussian"),
    "lora of some": LoRAConfig(rank=3, alpha=6, targets=("query", "value", "ffn")),
    "dora": DoRAConfig(rank=4, alpha=8),
    "dora of some": DoRAConfig(rank=4, alpha=8, targets=("key", "up")),
    "lora on int8": LoRAConfig(rank=4, alpha=8, base="int8"),
    "lora on nf4": LoRAConfig(rank=4, alpha=8, base="nf4"),
    "dora on nf4": DoRAConfig(rank=4, alpha=8, base="nf4"),
}


def plain(config: DecoderConfig = CONFIG) -> Network:
    model = build_model(config, VOCAB)
    model.initialise(1)
    for name, parameter in model.named_parameters():
        if "bias" in name:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(5))
    return model.eval()


def adapted(config: LowRankConfig, model: Network, seed: int = 3, moved: bool = True) -> Network:
    """A copy of `model` with adapters; `moved`: as if they had learnt something."""
    made = build_model(model.config, VOCAB)
    made.load_state_dict(model.state_dict())
    tuning.attach(made, config)
    tuning.begin(made, config, seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.parameters():
        if moved and parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return made.eval()


def tokens(rows: int = 2, time: int = 16) -> Tensor:
    return torch.randint(0, VOCAB, (rows, time), generator=torch.Generator().manual_seed(7))


def learned(model: Network) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("way", WAYS)
def test_a_fresh_adapter_changes_nothing(way: str) -> None:
    config, model = WAYS[way], plain()
    if config.base != "unchanged":
        merged = tuning.merged(CONFIG, VOCAB, config, dict(model.state_dict()), {})
        model.load_state_dict(merged)
    torch.testing.assert_close(adapted(config, plain(), moved=False)(tokens()), model(tokens()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["qwen3", "llama", "qwen2", "gpt2"])
@pytest.mark.parametrize("way", WAYS)
def test_merged_weights_give_the_same_without_adapters(way: str, family: str) -> None:
    model = plain(decoder(family))
    with_adapters = adapted(WAYS[way], model)
    whole = plain(decoder(family))
    whole.load_state_dict(
        tuning.merged(model.config, VOCAB, WAYS[way], dict(model.state_dict()), learned(with_adapters))
    )
    found = with_adapters(tokens())
    torch.testing.assert_close(whole(tokens()), found, rtol=1e-5, atol=1e-5)
    assert (found - model(tokens())).abs().max() > 1e-2, "else nothing was tested"


@pytest.mark.parametrize("config", [WAYS["lora"], WAYS["dora"], WAYS["dora on nf4"]], ids=["lora", "dora", "nf4"])
def test_gradients_are_those_of_the_formula(config: LowRankConfig) -> None:
    generator = torch.Generator().manual_seed(2)
    layer = Linear(6, 5, bias=True)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    from groundup.models.adapters import Adapter

    layer.requires_grad_(False)
    layer.adapter = Adapter(6, 5, config, 0)
    layer.adapter.begin("x", 1, lambda: layer.weight)
    torch.nn.init.normal_(layer.adapter.up, generator=generator)
    if config.base != "unchanged":
        layer.quantise(config.base)
    base = layer.matrix(torch.float32)
    x = torch.randn(3, 6, generator=generator, requires_grad=True)
    down, up = (part.detach().clone().requires_grad_() for part in (layer.adapter.down, layer.adapter.up))
    whole = base + config.alpha / config.rank * up @ down
    wanted: list[Tensor] = [x, down, up]
    if layer.adapter.magnitude is not None:
        magnitude = layer.adapter.magnitude.detach().clone().requires_grad_()
        whole = whole * (magnitude / whole.norm(dim=1).detach())[:, None]
        wanted.append(magnitude)
    expected = torch.autograd.grad(functional.linear(x, whole, layer.bias).square().sum(), wanted)
    parts = [layer.adapter.down, layer.adapter.up]
    parts += [layer.adapter.magnitude] if layer.adapter.magnitude is not None else []
    found = torch.autograd.grad(adapted_linear(x, (layer,)).square().sum(), [x, *parts])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", ["lora", "lora of some", "dora of some", "lora on nf4"])
def test_joined_layers_give_what_they_give_apart(way: str) -> None:
    block = adapted(WAYS[way], plain()).blocks()[0]
    layers: list[Any] = [block.get_submodule(f"attention.{name}") for name in ("query", "key", "value")]
    x = torch.randn(2, 8, 32, generator=torch.Generator().manual_seed(4))
    together = adapted_linear(x, layers)
    torch.testing.assert_close(together, torch.cat([layer(x) for layer in layers], -1), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not ops.usable(), reason="no kernels on this machine")
@pytest.mark.parametrize("way", WAYS)
def test_the_kernels_give_the_same_to_rounding(way: str) -> None:
    config = CONFIG.model_copy(update={"head_dim": 16})
    found: list[tuple[Tensor, Tensor]] = []
    for kernels in (False, True):
        model = adapted(WAYS[way], plain(config)).train()
        model.set_compute_dtype(torch.bfloat16)
        model.set_kernels(kernels)
        sums, _ = model(tokens(), targets=tokens().roll(-1, 1), row_weights=torch.ones(2))
        sums.sum().backward()
        gradient = torch.cat([p.grad.flatten() for _, p in model.named_parameters() if p.grad is not None])
        found.append((sums.detach(), gradient))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-2, atol=1e-2)
    assert functional.cosine_similarity(found[0][1], found[1][1], dim=0) > 0.995


def test_only_adapters_get_gradients_and_frozen_tables_cost_none() -> None:
    model = adapted(WAYS["lora"], plain()).train()
    sums, _ = model(tokens(), targets=tokens(), row_weights=torch.ones(2))
    sums.sum().backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {name for name, _ in model.named_parameters() if MARK in name}


def test_dropout_belongs_to_the_row_and_is_off_in_use() -> None:
    model = adapted(LoRAConfig(rank=4, dropout=0.5), plain())
    keys = torch.tensor([5, 9], dtype=torch.int32)

    def answer(rows: slice, with_keys: bool = True) -> Tensor:
        found: Tensor = model(tokens()[rows], context=RowContext(keys[rows]) if with_keys else None)
        return found

    whole = answer(slice(0, 2))
    torch.testing.assert_close(answer(slice(1, 2)), whole[1:], rtol=1e-5, atol=1e-5)
    plainly = answer(slice(0, 2), with_keys=False)
    assert (plainly - whole).abs().max() > 1e-3
    without = adapted(LoRAConfig(rank=4), plain())
    torch.testing.assert_close(plainly, without(tokens()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (("attention",), {"query", "key", "value", "output"}),
        (("ffn",), {"gate", "up", "down"}),
        (("linear",), {"query", "key", "value", "output", "gate", "up", "down"}),
        (("query", "ffn.down"), {"query", "down"}),
        (("layers.1.*.key",), {"key"}),
    ],
)
def test_targets_are_groups_or_ends_of_paths(targets: tuple[str, ...], names: set[str]) -> None:
    model = plain()
    tuning.attach(model, LoRAConfig(targets=targets))
    found = {name.partition(MARK)[0] for name, _ in model.named_parameters() if MARK in name}
    assert {name.rpartition(".")[2] for name in found} == names
    assert len(found) == (1 if "layers.1" in targets[0] else 2 * len(names))


def test_upper_layers_alone_get_adapters() -> None:
    model = plain()
    tuning.attach(model, LoRAConfig(), trained_layers=1)
    assert {name[:8] for name, _ in model.named_parameters() if MARK in name} == {"layers.1"}


def test_tables_may_learn_beside_the_adapters() -> None:
    model = plain()
    tuning.attach(model, LoRAConfig(also=("embedding.weight",)))
    assert {name for name, p in model.named_parameters() if p.requires_grad and MARK not in name} == {
        "embedding.weight"
    }


@pytest.mark.parametrize(
    ("config", "model", "words"),
    [
        (LoRAConfig(targets=("querry",)), CONFIG, "'querry' fits no layer"),
        (LoRAConfig(also=("layers.0.attention.query.weight",)), CONFIG, "is a matrix that adapters are for"),
        (LoRAConfig(also=("nothing",)), CONFIG, "fits no parameter"),
        (DoRAConfig(), LSTMConfig(context_length=8, num_layers=1, hidden_size=8), "needs linear layers"),
    ],
)
def test_what_cannot_be_adapted_is_refused(config: LowRankConfig, model: Any, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught, torch.device("meta"):
        tuning.attach(build_model(model, VOCAB), config)
    assert len(first_line(caught.value)) <= 200


def test_flops_of_frozen_matrices_are_two_thirds() -> None:
    whole, part = CONFIG.flops_per_token(VOCAB), tuning.flops_per_token(CONFIG, VOCAB, LoRAConfig(rank=1))
    model = build_model(CONFIG, VOCAB)
    products = sum(p.numel() * model.flops_per_weight(name) for name, p in model.named_parameters())
    adapters = 6 * 2 * sum((32 + 32, 32 + 16, 32 + 16, 32 + 32, 32 + 48, 32 + 48, 48 + 32))
    assert math.isclose(whole - part, products / 3 - adapters, abs_tol=2)
