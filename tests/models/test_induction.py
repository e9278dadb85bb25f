"""A start with induction heads: what it predicts of a text that repeats itself, before any training."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from groundup.models import Decoder, DecoderConfig, build_model
from groundup.models.induction import COPIED_SCORE, InductionStart, obstacle, reserved_columns, with_reserved

VOCAB_SIZE = 200
PLAIN: dict[str, Any] = {
    "context_length": 64, "num_layers": 2, "hidden_size": 128, "num_heads": 2, "num_kv_heads": 2, "ffn_size": 64,
    "zero_init": True, "embedding_init_std": 1.0,
}  # fmt: skip


def tables(config: DecoderConfig, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of unequal columns, as fitted ones are; the output says nothing about the next token by itself."""
    random = torch.Generator().manual_seed(seed)
    fitted = config.hidden_size - reserved_columns(config)
    spread = torch.linspace(0.3, 2.0, fitted)
    embedding = torch.randn(VOCAB_SIZE, fitted, generator=random) * spread
    unit = embedding / embedding.square().mean(1, keepdim=True).sqrt()
    return unit, torch.randn(VOCAB_SIZE, fitted, generator=random) * 0.1


def started(config: DecoderConfig, seed: int) -> Decoder:
    model = build_model(config, VOCAB_SIZE)
    model.initialise(seed)
    embedding, head = with_reserved(config, *tables(config, seed))
    heads = InductionStart(config, embedding, head, torch.arange(VOCAB_SIZE).float(), seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            made = heads.start(name, model.start(name, parameter.shape, seed))
            if made is not None:
                parameter.copy_(made)
        model.embedding.weight.copy_(embedding * config.embedding_init_std)
        model.head.weight.copy_(head)
    return model.eval()


def repeated(seed: int) -> torch.Tensor:
    """[64 rows, 60]: thirty different tokens, twice."""
    random = torch.Generator().manual_seed(seed)
    once = torch.stack([torch.randperm(VOCAB_SIZE, generator=random)[:30] for _ in range(64)])
    return once.repeat(1, 2)


def rise(model: Decoder, tokens: torch.Tensor, places: slice) -> float:
    """How far the score of the token that comes next stands above the mean of all, on average."""
    with torch.no_grad():
        scores = model(tokens)[:, :-1].float()
    found = scores.gather(2, tokens[:, 1:, None])[..., 0] - scores.mean(-1)
    return float(found[:, places].mean())


@pytest.mark.parametrize(
    ("changes", "least"),
    [
        ({}, 0.2),
        ({"qk_norm": False}, 0.2),
        ({"embedding_norm": True, "embedding_init_std": 1.0}, 0.2),
        ({"embedding_init_std": 0.02}, 0.2),
        ({"num_kv_heads": 1}, 0.2),
        ({"attention_bias": "qkv", "qk_norm": False}, 0.2),
        ({"rope_theta": 1e6}, 0.2),
        ({"head_dim": 128}, 0.2),
        ({"num_layers": 3, "head_dim": 32}, 0.09),
        ({"head_dim": 32, "qk_norm": False}, 0.09),
        ({"head_dim": 16}, 0.03),
    ],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_what_came_after_a_token_is_predicted_when_it_comes_again(
    changes: dict[str, Any], least: float, seed: int
) -> None:
    config = DecoderConfig.model_validate(PLAIN | changes)
    assert obstacle(config) is None
    model, tokens = started(config, seed), repeated(seed)
    first, second = rise(model, tokens, slice(0, 29)), rise(model, tokens, slice(30, 59))
    assert abs(first) < 0.1, "nothing can be known of a text that does not repeat itself"
    assert least < second - first < COPIED_SCORE


def test_documents_do_not_learn_from_each_other() -> None:
    config = DecoderConfig.model_validate(PLAIN)
    model, tokens = started(config, 1), repeated(1)
    segments = (torch.arange(60) >= 30).int().expand(64, 60)
    with torch.no_grad():
        apart, alone = model(tokens, segments=segments)[:, 30:], model(tokens[:, 30:])
    torch.testing.assert_close(apart, alone, atol=1e-4, rtol=1e-4)


def test_reserved_columns_change_no_score() -> None:
    config = DecoderConfig.model_validate(PLAIN)
    embedding, head = tables(config, 3)
    wide, wide_head = with_reserved(config, embedding, head)
    assert wide.shape == wide_head.shape == (VOCAB_SIZE, 128)
    torch.testing.assert_close(wide.square().mean(1), torch.ones(VOCAB_SIZE))
    torch.testing.assert_close(wide @ wide_head.T, embedding @ head.T)


def test_other_parameters_keep_their_start() -> None:
    config = DecoderConfig.model_validate(PLAIN | {"num_layers": 3})
    plain = build_model(config, VOCAB_SIZE)
    plain.initialise(4)
    model, size = started(config, 4), config.head_size
    other = dict(plain.named_parameters())
    for name, parameter in model.named_parameters():
        if ".attention." not in name or name.startswith("layers.2.") or "norm" in name:
            same = name in ("embedding.weight", "head.weight") or torch.equal(parameter, other[name])
        elif ".output." in name:
            same = torch.equal(parameter[:, size:], other[name][:, size:])
        else:
            same = torch.equal(parameter[size:], other[name][size:])
        assert same, name


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"positions": "learned"}, "model.positions: rope, not learned"),
        ({"norm_placement": "after"}, "model.norm_placement: before"),
        ({"num_layers": 1}, "model.num_layers of 2 or more"),
        ({"num_heads": 16, "num_kv_heads": 16}, "heads and model.hidden_size of 16 or more, not 8 and 128"),
    ],
)
def test_what_such_heads_cannot_be_made_with(changes: dict[str, Any], said: str) -> None:
    assert said in str(obstacle(DecoderConfig.model_validate(PLAIN | changes)))
