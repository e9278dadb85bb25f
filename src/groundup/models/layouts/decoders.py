"""What the layouts of decoders share: limits, and the copy of a tied table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from groundup.models.decoder_config import DecoderConfig
from groundup.models.layouts.layout import ConfigValues, Layout, Part

HEAD = "lm_head.weight"
"""Their name of the output matrix, in all layouts of decoders."""


def decoder_layout(
    model_type: str,
    architecture: str,
    prefix: str,
    parts: Callable[[DecoderConfig], dict[str, Part]],
    write: Callable[[DecoderConfig], dict[str, Any]],
    read: Callable[[ConfigValues], dict[str, Any]],
    switches: Mapping[str, tuple[Any, ...]],
    limits: Callable[[DecoderConfig], list[str]] = lambda config: [],
    buffers: tuple[str, ...] = (),
    scales_embedding: bool = False,
) -> Layout:
    """The layout of a decoder; a tied model may bring a copy of its table as output matrix."""

    def read_causal(values: ConfigValues) -> dict[str, Any]:
        values.promise("is_causal", True)  # false: transformers lets every position see later ones
        return read(values)

    def all_limits(config: DecoderConfig) -> list[str]:
        folded = config.scale_embedding and config.tied and not scales_embedding
        return (["scale_embedding with tied: true"] if folded else []) + limits(config)

    def copies(config: DecoderConfig) -> Mapping[str, str]:
        table = next(theirs for theirs, part in parts(config).items() if part.ours == ("embedding.weight",))
        return {HEAD: table} if config.tied else {}

    return Layout(
        model_type,
        (architecture,),
        DecoderConfig,
        parts,
        write,
        read_causal,
        prefix,
        switches=switches,
        limits=all_limits,
        copies=copies,
        buffers=buffers,
        scales_embedding=scales_embedding,
    )


def even_heads(config: DecoderConfig) -> list[str]:
    """The limit of layouts whose heads all have keys of their own and fill the hidden size."""
    found = []
    if config.num_kv_heads != config.num_heads:
        found.append(f"num_kv_heads: {config.num_kv_heads} beside num_heads: {config.num_heads}")
    if config.head_size * config.num_heads != config.hidden_size:
        found.append(f"head_dim: {config.head_size}, which is not hidden_size / num_heads")
    return found
