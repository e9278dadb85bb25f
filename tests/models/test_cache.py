"""The cache: decoding with it is the same as computing everything again."""

from __future__ import annotations

import pytest
import torch

from groundup.models import Decoder, DecoderConfig, build_model


@pytest.fixture(scope="module")
def model() -> Decoder:
    config = DecoderConfig(context_length=96, num_layers=2, hidden_size=32, num_heads=4, num_kv_heads=2, ffn_size=48)
    decoder = build_model(config, 60)
    decoder.initialise(seed=3)
    return decoder.eval()


@torch.inference_mode()
def test_prefill_and_decode_give_the_logits_of_a_full_pass(model: Decoder) -> None:
    tokens = torch.randint(0, model.vocab_size, (3, 20), generator=torch.Generator().manual_seed(0))
    expected = model(tokens)
    cache = model.new_cache(rows=3, max_time=20)
    found = [model.prefill(tokens[:, :12], cache)]
    found += [model.decode(tokens[:, at : at + 1], cache) for at in range(12, 20)]
    assert cache.length == 20
    torch.testing.assert_close(torch.stack(found, dim=1), expected[:, 11:], atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_kept_rows_go_on_as_before(model: Decoder) -> None:
    tokens = torch.randint(0, model.vocab_size, (4, 10), generator=torch.Generator().manual_seed(1))
    cache = model.new_cache(rows=4, max_time=10)
    model.prefill(tokens[:, :9], cache)
    chosen = torch.tensor([3, 1])
    cache.keep(chosen)
    assert cache.rows == 2
    torch.testing.assert_close(model.decode(tokens[chosen, 9:], cache), model(tokens)[chosen, 9], atol=1e-4, rtol=1e-4)


def test_a_cache_has_the_shape_and_dtype_of_its_model(model: Decoder) -> None:
    cache = model.new_cache(rows=2, max_time=7)
    assert len(cache.keys) == len(cache.values) == model.config.num_layers
    assert cache.keys[0].shape == (2, 2, 7, 8)
    assert cache.keys[0].dtype == torch.float32
    assert (cache.rows, cache.max_time, cache.length) == (2, 7, 0)


@torch.inference_mode()
def test_a_full_cache_is_refused(model: Decoder) -> None:
    cache = model.new_cache(rows=1, max_time=4)
    with pytest.raises(ValueError, match="do not fit"):
        model.prefill(torch.zeros(1, 5, dtype=torch.int64), cache)
