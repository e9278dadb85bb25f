"""Prompt -> tokens: prefill, decode, cache, sampling, batching, chat."""

from groundup.inference.chat import Chat
from groundup.inference.fill import GAP, Filling, fill_mask
from groundup.inference.generate import GenerateConfig, decode_pieces, generate_batch, generate_ids, stream

__all__ = [
    "GAP",
    "Chat",
    "Filling",
    "GenerateConfig",
    "decode_pieces",
    "fill_mask",
    "generate_batch",
    "generate_ids",
    "stream",
]
