"""Prompt -> tokens: prefill, decode, cache, sampling, batching, chat."""

from groundup.inference.cache import Cache
from groundup.inference.chat import Chat
from groundup.inference.generate import GenerateConfig, decode_pieces, generate_batch, generate_ids, stream

__all__ = ["Cache", "Chat", "GenerateConfig", "decode_pieces", "generate_batch", "generate_ids", "stream"]
