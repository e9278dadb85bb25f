"""A model as a native Hugging Face one, and back: config.json values, tensor names, and all tricks folded away.

    config, {our name: tensor}  --huggingface_config, huggingface_tensors-->  config.json, {their name: tensor}
                                <------ from_huggingface -------------------

Invariant: transformers' own class of the layout (`layout_of`) gives the same logits from that.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from groundup.errors import ModelFileError
from groundup.models.decoder import Decoder
from groundup.models.decoder_config import DecoderConfig
from groundup.models.layers import unit_rms
from groundup.models.layouts import LAYOUTS, Layout, gathered, holders, unlisted_layout
from groundup.models.network import NetworkConfig, build_model
from groundup.models.rotary import sinusoids


def layout_of(config: NetworkConfig) -> Layout:
    """The layout in which `config` is exported. Raises ModelFileError naming what is in the way of the nearest one."""
    found = next((layout for layout in LAYOUTS if not layout.obstacles(config)), None)
    if found is not None:
        return found
    of_kind = [layout for layout in LAYOUTS if isinstance(config, layout.config)]
    if not of_kind:
        return unlisted_layout(config)
    nearest = min(of_kind, key=lambda layout: len(layout.obstacles(config)))
    raise ModelFileError(
        f"no Hugging Face layout has such a model; the nearest, {nearest.model_type}, does not know "
        f"{', '.join(nearest.obstacles(config))[:70]}"
    )


def huggingface_config(
    config: NetworkConfig,
    vocab_size: int,
    *,
    bos_token_id: int | None = None,
    eos_token_id: int | list[int] | None = None,
    pad_token_id: int | None = None,
    dtype: str = "float32",
) -> dict[str, Any]:
    """The values of config.json, in the spelling of transformers 5 and in the older one where they differ.

    Raises ModelFileError when no layout can say `config`.
    """
    layout = layout_of(config)
    return {
        **({"architectures": [layout.architectures[0]]} if layout.architectures else {}),
        "model_type": layout.model_type,
        "vocab_size": vocab_size,
        "bos_token_id": bos_token_id,
        "eos_token_id": eos_token_id,
        "pad_token_id": pad_token_id,
        "dtype": dtype,
        "torch_dtype": dtype,
        "use_cache": True,
        **layout.write(config),
    }


def huggingface_shapes(
    config: NetworkConfig, vocab_size: int, layout: Layout | None = None
) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the exported model; nothing is allocated."""
    shapes = _shapes(config, vocab_size)
    return {theirs: part.shape(shapes) for theirs, part in (layout or layout_of(config)).parts(config).items()}


def huggingface_tensors(
    config: NetworkConfig, state: Mapping[str, Tensor], only: Collection[str] | None = None
) -> Iterator[tuple[str, Tensor]]:
    """(their name, tensor) one at a time, each read from `state` in its turn; what only training needs is folded in.

    `only`: of all of theirs those that have one of these names of ours in them.
    """
    layout = layout_of(config)
    held: dict[str, Tensor] = {}
    for theirs, part in layout.parts(config).items():
        if only is not None and set(only).isdisjoint(part.ours):
            continue
        held = {name: held[name] if name in held else _folded(config, layout, state, name) for name in part.ours}
        yield theirs, part.joined([held[name] for name in part.ours])


def _folded(config: NetworkConfig, layout: Layout, state: Mapping[str, Tensor], name: str) -> Tensor:
    if not isinstance(config, DecoderConfig):
        return state[name]
    if name == Decoder.positions_name and config.positions == "sinusoidal":
        return sinusoids(torch.arange(config.context_length)[None], config.hidden_size)[0]
    tensor = state[name]
    if name == Decoder.embedding_name:
        if config.embedding_norm:
            tensor = unit_rms(tensor.float(), config.norm_epsilon).to(tensor.dtype)
        if config.scale_embedding and not layout.scales_embedding:
            tensor = tensor * math.sqrt(config.hidden_size)
    return tensor


def to_huggingface(config: NetworkConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All exported tensors by their Hugging Face names; tensors that need no folding are not copied."""
    return dict(huggingface_tensors(config, state))


def from_huggingface(
    config: NetworkConfig, vocab_size: int, tensors: Mapping[str, Tensor], layout: Layout | None = None
) -> dict[str, Tensor]:
    """State of a model from the tensors of a Hugging Face model. `config` is what its config.json describes.

    Copies of tied tensors may be there. Raises ModelFileError naming the first tensor that is missing, unknown, or of
    another shape than the config says.
    """
    layout = layout or layout_of(config)
    check_shapes(config, vocab_size, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, layout)
    full, shapes = full_names(layout, config, tensors), _shapes(config, vocab_size)
    parts = layout.parts_of(config, set(full.values()))
    named = {full[name]: tensor for name, tensor in tensors.items()}
    return {
        ours: gathered(ours, [dict(parts[name].split(named[name], shapes))[ours] for name in theirs], shapes)
        for ours, theirs in holders(parts).items()
    }


def check_shapes(config: NetworkConfig, vocab_size: int, found: Mapping[str, tuple[int, ...]], layout: Layout) -> None:
    """Raise ModelFileError unless a file with tensors of these shapes is the model that `config` describes."""
    full = full_names(layout, config, found)
    held = layout.parts_of(config, set(full.values()))
    expected = {name: shape for name, shape in huggingface_shapes(config, vocab_size, layout).items() if name in held}
    named = {full[name]: (name, shape) for name, shape in found.items()}
    spare = {*layout.copies(config), *layout.spare(config)}
    extra = {name for name in named.keys() - expected.keys() - spare if not name.endswith(layout.buffers or ("\0",))}
    wrong = sorted((expected.keys() - named.keys()) | extra)
    if wrong:
        what = "missing" if wrong[0] in expected else "not known for this architecture"
        raise ModelFileError(f"tensor '{wrong[0][:90]}' is {what} ({len(wrong)} such); copy the model again")
    for name, shape in expected.items():
        theirs, has = named[name]
        if has != shape:
            by = f" by {layout.head_rows}" if layout.head_rows and theirs.startswith(layout.heads) else ""
            raise ModelFileError(
                f"tensor '{theirs[:64]}' has shape {list(has)}, config.json says {list(shape)}{by}; copy both again"
            )


def full_names(layout: Layout, config: NetworkConfig, names: Iterable[str]) -> dict[str, str]:
    """Each tensor's name in a file -> the layout's name for it.

    Files of a bare body lack the prefix of all names, older ones have other names, and where a tied tensor is there
    once only, that may be the copy.
    """
    names = list(names)
    prefix = "" if any(name.startswith(layout.prefix) for name in names) else layout.prefix
    full = {name: layout.renamed(name if name.startswith(layout.heads) else prefix + name) for name in names}
    present, copies = set(full.values()), layout.copies(config)
    stand_in = {copy: original for copy, original in copies.items() if original not in present}
    return {name: stand_in.get(whole, whole) for name, whole in full.items()}


def own_shapes(config: NetworkConfig, vocab_size: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all parameters of such a model; nothing is allocated."""
    with torch.device("meta"):
        model = build_model(config, vocab_size)
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def _shapes(config: NetworkConfig, vocab_size: int) -> dict[str, tuple[int, ...]]:
    """As `own_shapes`, with the table that fixed positions become in a file."""
    shapes = own_shapes(config, vocab_size)
    if isinstance(config, DecoderConfig) and config.positions == "sinusoidal":
        shapes[Decoder.positions_name] = (config.context_length, config.hidden_size)
    return shapes
