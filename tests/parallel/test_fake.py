from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensor

from groundup.models import DecoderConfig, build_model
from groundup.models.rotary import DynamicScaling
from groundup.optim import AdamWConfig, MuonConfig, build_optimizer, flat_state
from groundup.parallel import shard
from groundup.parallel.fake import fake_world

CONFIG = DecoderConfig(context_length=32, num_layers=2, hidden_size=64, num_heads=4, num_kv_heads=2, ffn_size=96)
FAMILIES = {
    "qwen3": {},
    "qwen2": {"qk_norm": False, "attention_bias": "qkv", "sliding_window": 8, "full_attention_layers": (0,)},
    "stretched": {"rope_scaling": DynamicScaling(factor=2.0), "tied": True},
    "gpt2": {"positions": "learned", "norm": "layer", "gated": False, "attention_bias": "all", "ffn_bias": True},
    "classic": {"positions": "sinusoidal", "norm": "layer", "norm_placement": "after", "scale_embedding": True},
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("optimizer_config", [AdamWConfig(), MuonConfig()])
@pytest.mark.parametrize("recompute", [False, True])
def test_a_sharded_step_runs_on_eight_ranks_that_are_not_there(
    optimizer_config: AdamWConfig | MuonConfig, recompute: bool, family: str
) -> None:
    config = CONFIG.model_copy(update=FAMILIES[family])
    with fake_world(8) as mesh:
        with torch.device("meta"):
            model = build_model(config, 128)
        shard.apply(model, mesh=mesh, compute_dtype=torch.bfloat16, recompute=recompute)
        model.to_empty(device="cpu")
        model.initialise(0)
        optimizer = build_optimizer(optimizer_config, dict(model.named_parameters()), model.matrix_parameters())
        tokens = torch.zeros(2, 32, dtype=torch.int64)
        segments = torch.zeros(2, 32, dtype=torch.int32)
        for row_weights in (None, torch.ones(2)):
            sums, counts = model(tokens, targets=tokens, segments=segments, positions=segments, row_weights=row_weights)
            assert isinstance(sums, FakeTensor) and sums.shape == counts.shape == (2,)
            sums.sum().backward()
            norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
            assert shard.full_tensor(norm).shape == ()
            optimizer.step()
            optimizer.zero_grad()
        held = sum(shard.local_tensor(parameter).numel() for parameter in model.parameters())
        assert held == config.num_parameters(128) / 8
        assert all(isinstance(shard.local_tensor(value), FakeTensor) for value in flat_state(optimizer).values())
    assert not dist.is_initialized()


def test_reading_a_value_fails_as_it_should() -> None:
    with fake_world(2), pytest.raises(Exception, match=r"item|data-dependent|_local_scalar_dense"):
        torch.ones(()).item()
    assert not dist.is_initialized()
