"""Generation by classes of transformers: the tokens that the whole forward gives, whatever the batch."""

from __future__ import annotations

import os

import pytest
import torch

from groundup.inference import GenerateConfig, generate_batch
from groundup.inference.serving import serving_form
from groundup.models import TransformersConfig, TransformersModel
from tests.models.transformers_classes import VOCAB, values_of

os.environ["HF_HUB_OFFLINE"] = "1"
pytest.importorskip("transformers", reason="transformers is not installed (extra 'hf')")


def make(model_type: str) -> TransformersModel:
    model = TransformersConfig(context_length=48, values=values_of(model_type)).build(VOCAB)
    model.initialise(3)
    return model.eval().requires_grad_(False)


@torch.no_grad()
@pytest.mark.parametrize("model_type", ["gpt_neox", "gemma2", "falcon"])
def test_a_batch_has_the_tokens_of_the_whole_forward(model_type: str) -> None:
    model = make(model_type)
    prompts = [[7, 3, 9], [1, 2, 3, 4, 5, 6, 7, 8], [11, 12, 50]]
    answers = generate_batch(model, prompts, GenerateConfig(max_new_tokens=15, temperature=0.0), set())
    for prompt, answer in zip(prompts, answers):
        tokens = list(prompt)
        for _ in range(15):
            tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
        assert answer == tokens[len(prompt) :]


@torch.no_grad()
@pytest.mark.parametrize("model_type", ["gpt_neox", "gemma2", "phi"])
def test_the_form_in_bfloat16_is_the_model(model_type: str) -> None:
    model = make(model_type)
    model.set_compute_dtype(torch.bfloat16)
    form = serving_form(model)
    assert isinstance(form, TransformersModel) and form is not model
    assert {model.role(name) for name, p in form.named_parameters() if p.dtype == torch.float32} == {"vector"}
    tokens = torch.arange(20)[None]
    torch.testing.assert_close(form(tokens), model(tokens), rtol=0.05, atol=0.05)
