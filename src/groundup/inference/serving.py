"""A decoder -> the form of it that generates fastest here, made once and kept as long as the model lives.

    CPU, and kernels/decode.cpp can be built     packed weights, any lengths in one batch
    elsewhere                                    the decoder itself, its matrices cast once to what it computes in

Invariant: the form always holds the model's present weights. Those of a frozen model are looked at once; a model that
may be trained on (a parameter requires a gradient) gets a new form at each call.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor

from groundup.kernels.decode import DecoderShape, PackedDecoder, obstacle
from groundup.models import CausalNetwork, Decoder, build_model, causal, to_huggingface

Form = PackedDecoder | CausalNetwork
_FORMS: weakref.WeakKeyDictionary[CausalNetwork, tuple[Any, Form]] = weakref.WeakKeyDictionary()


def serving_form(model: CausalNetwork) -> Form:
    """`model` packed where that is possible, else with its matrices in its compute dtype; the same function of tokens.

    The numbers are those of `model.prefill` up to rounding in its compute dtype.
    """
    state = _state(model)
    kept = _FORMS.get(model)
    if kept is not None and kept[0] == state:
        return kept[1]
    form = (_packed(model) if isinstance(model, Decoder) else None) or _cast(model)
    if form is not model and not any(parameter.requires_grad for parameter in model.parameters()):
        _FORMS[model] = (state, form)
    return form


def _state(model: CausalNetwork) -> tuple[Any, ...]:
    """Changes whenever the model computes in another dtype or torch writes to its weights."""
    weights = ((p.data_ptr(), 0 if p.is_inference() else p._version) for p in model.parameters())
    return model.compute_dtype, *weights


def _packed(model: Decoder) -> PackedDecoder | None:
    config = model.config
    if config.kernels_obstacle() is not None:
        return None
    shape = DecoderShape(
        num_layers=config.num_layers,
        hidden_size=config.hidden_size,
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_size,
        ffn_size=config.ffn_size,
        vocab_size=model.vocab_size,
        epsilon=config.norm_epsilon,
        qk_norm=config.qk_norm,
        tied=config.tied,
    )
    tensors = to_huggingface(config, {name: tensor.detach() for name, tensor in model.named_parameters()})
    if obstacle(shape, tensors, model.compute_dtype):
        return None
    return PackedDecoder(shape, tensors, model.compute_dtype)


def _cast(model: CausalNetwork) -> CausalNetwork:
    """A decoder that shares the vectors of `model`, and whose matrices are cast beforehand instead of at each token."""
    parameters = dict(model.named_parameters())
    if all(parameter.dtype == model.compute_dtype for parameter in parameters.values()):
        return model
    with torch.device("meta"):
        form = causal(build_model(model.config, model.vocab_size))
    form.load_state_dict({name: _cast_weight(model, name, p.detach()) for name, p in parameters.items()}, assign=True)
    form.set_compute_dtype(model.compute_dtype)
    return form.eval().requires_grad_(False)


def _cast_weight(model: CausalNetwork, name: str, weight: Tensor) -> Tensor:
    # Norms are computed in float32, that of the embedding too: rounding what goes into them would change the result.
    normed = isinstance(model, Decoder) and model.config.embedding_norm
    exact = model.role(name) == "vector" or (name == model.embedding_name and normed)
    return weight if exact else weight.to(model.compute_dtype)
