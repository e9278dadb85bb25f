"""The form that serves: always of the present weights, and the same function of the tokens."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from groundup.inference import serving
from groundup.inference.serving import serving_form
from groundup.kernels.decode import PackedDecoder
from groundup.models import Decoder, DecoderConfig, build_model


def toy(embedding_norm: bool = False, dtype: torch.dtype = torch.bfloat16) -> Decoder:
    config = DecoderConfig(
        context_length=32,
        num_layers=2,
        hidden_size=32,
        num_heads=2,
        num_kv_heads=1,
        ffn_size=48,
        embedding_norm=embedding_norm,
    )
    model = build_model(config, 64)
    model.initialise(seed=1)
    model.set_compute_dtype(dtype)
    return model.eval().requires_grad_(False)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the kernels."""
    monkeypatch.setattr(serving, "_packed", lambda model: None)


def test_a_frozen_model_has_one_form_until_it_changes() -> None:
    model = toy()
    form = serving_form(model)
    assert serving_form(model) is form
    model.layers[0].ffn.up.weight.mul_(2.0)
    changed = serving_form(model)
    assert changed is not form
    model.set_compute_dtype(torch.float32)
    assert serving_form(model) is not changed


def test_a_model_in_training_has_a_form_of_each_moment() -> None:
    model = toy().requires_grad_(True)
    assert serving_form(model) is not serving_form(model)


def test_a_form_goes_with_its_model() -> None:
    model = toy()
    form = weakref.ref(serving_form(model))
    del model
    gc.collect()
    assert form() is None


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("embedding_norm", [False, True])
@torch.inference_mode()
def test_the_cast_form_gives_the_same_bits(embedding_norm: bool) -> None:
    model = toy(embedding_norm)
    form = serving_form(model)
    assert isinstance(form, Decoder)
    assert form is not model
    assert form.layers[0].ffn.up.weight.dtype == torch.bfloat16
    tokens = torch.randint(0, 64, (3, 12), generator=torch.Generator().manual_seed(0))
    logits = [each.prefill(tokens, each.new_cache(3, 12)) for each in (model, form)]
    assert torch.equal(*logits)


@pytest.mark.usefixtures("plain")
def test_nothing_to_cast_nothing_copied() -> None:
    model = toy(dtype=torch.float32)
    assert serving_form(model) is model


def test_weights_that_the_kernels_cannot_read_are_served_plain() -> None:
    model = toy().to(torch.bfloat16)
    assert not isinstance(serving_form(model), PackedDecoder)
