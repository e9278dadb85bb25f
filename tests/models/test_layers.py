from __future__ import annotations

import pytest
import torch

from groundup.models.layers import Embedding, Linear, RMSNorm, unit_rms
from groundup.models.rotary import rotate, rotation


def test_rotation_makes_scores_depend_on_distance_only() -> None:
    query, key = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(i: int, j: int) -> torch.Tensor:
        at = [rotation(torch.tensor([[position]]), 8, 10_000.0) for position in (i, j)]
        return (rotate(query, at[0]) * rotate(key, at[1])).sum()

    torch.testing.assert_close(score(7, 3), score(104, 100), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(score(7, 3), score(8, 3), atol=1e-3)


def test_rotation_at_position_zero_changes_nothing() -> None:
    x = torch.randn(2, 3, 1, 6)
    torch.testing.assert_close(rotate(x, rotation(torch.zeros(1, 1, dtype=torch.int64), 6, 500.0)), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_answer_in_the_dtype_of_their_input(dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, 8).to(dtype)
    for layer in (Linear(8, 4), RMSNorm(8, 1e-6)):
        torch.nn.init.ones_(layer.weight)
        assert layer(x).dtype == dtype


def test_norm_is_computed_in_float32() -> None:
    norm = RMSNorm(256, 1e-6)
    torch.nn.init.ones_(norm.weight)
    x = (torch.randn(4, 256) * 300).bfloat16()
    exact = x.double() / x.double().square().mean(-1, keepdim=True).sqrt()
    assert (norm(x).double() - exact).abs().max() <= exact.abs().max() * 2**-8


def test_embedding_norm_is_a_norm_of_the_table() -> None:
    table = Embedding(11, 8, norm=True, epsilon=1e-6)
    torch.nn.init.normal_(table.weight, std=3.0)
    tokens = torch.randint(0, 11, (2, 5))
    torch.testing.assert_close(table(tokens, torch.float32), unit_rms(table.weight, 1e-6)[tokens])
