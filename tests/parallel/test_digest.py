from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from groundup.parallel.digest import digest

DTYPES = [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool]


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_bits_have_equal_digests_wherever_they_lie(dtype: torch.dtype) -> None:
    values = torch.randn(7, 30, generator=torch.Generator().manual_seed(1)).clamp(min=0).to(dtype)
    shifted = torch.cat([values.flatten()[:1], values.flatten()])[1:].view(7, 30)
    turned = values.t().contiguous().t()
    assert int(digest(values)) == int(digest(shifted)) == int(digest(turned))
    assert int(digest(values)) != int(digest(values.flip(0)))


def test_every_flipped_bit_is_seen() -> None:
    values = torch.randn(2**20 + 50, generator=torch.Generator().manual_seed(2))
    expected, bits = int(digest(values)), values.view(torch.int32)
    for place in (0, 1, 2**20 - 1, 2**20, 2**20 + 49):
        for bit in (0, 13, 22, 30, 31):
            flip = torch.tensor(1 << bit, dtype=torch.int64).to(torch.int32)
            bits[place] ^= flip
            assert int(digest(values)) != expected, (place, bit)
            bits[place] ^= flip
    assert int(digest(values)) == expected


def test_the_sign_of_zero_counts_and_nothing_has_a_digest_too() -> None:
    assert int(digest(torch.zeros(3))) != int(digest(torch.tensor([0.0, -0.0, 0.0])))
    assert int(digest(torch.empty(0))) == 0
    assert digest(torch.tensor(1.0)).shape == ()


def test_nothing_is_read_back() -> None:
    with FakeTensorMode():
        found = digest(torch.empty(2**21))
        assert isinstance(found, FakeTensor) and found.dtype == torch.int64 and found.shape == ()
