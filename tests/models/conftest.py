"""Public signatures of models are checked against the shapes they state in every test of this room."""

from __future__ import annotations

import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped

from groundup.models import attention, decoder, heads, layers

CHECKED = (
    (attention, "block_causal_attention"),
    (attention, "sdpa_attention"),
    (attention, "cached_attention"),
    (attention.Attention, "forward"),
    (layers.RMSNorm, "forward"),
    (layers.Embedding, "forward"),
    (layers.SwiGLU, "forward"),
    (heads.ChunkLoss, "forward"),
    (heads.LanguageModelHead, "forward"),
    (decoder.Block, "forward"),
    (decoder.Decoder, "forward"),
    (decoder.Decoder, "prefill"),
    (decoder.Decoder, "decode"),
)


@pytest.fixture(autouse=True)
def checked_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name in CHECKED:
        monkeypatch.setattr(owner, name, jaxtyped(typechecker=beartype)(getattr(owner, name)))


@pytest.fixture(autouse=True)
def few_threads() -> None:
    torch.set_num_threads(1)
