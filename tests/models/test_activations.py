"""A name of an activation means the same numbers here and in transformers."""

from __future__ import annotations

import importlib
from typing import get_args

import pytest
import torch

from groundup.models.activations import ACTIVATIONS, FROM_HUGGINGFACE, HUGGINGFACE_NAMES, Activation


def test_every_activation_has_a_function_and_a_name_of_transformers() -> None:
    assert set(get_args(Activation)) == ACTIVATIONS.keys() == HUGGINGFACE_NAMES.keys()


@pytest.mark.parametrize("name", FROM_HUGGINGFACE)
def test_the_numbers_are_those_of_transformers(name: str) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed (extra 'hf')")
    theirs = importlib.import_module("transformers.activations").ACT2FN[name]
    x = torch.linspace(-12, 12, 481)
    torch.testing.assert_close(ACTIVATIONS[FROM_HUGGINGFACE[name]](x), theirs(x), atol=2e-6, rtol=1e-6)
