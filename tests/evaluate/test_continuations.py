"""Continuations: reproducible samples."""

from __future__ import annotations

from groundup.evaluate import EvaluateConfig, Subject
from groundup.evaluate.continuations import measure_continuations
from groundup.models import Decoder
from groundup.tokens import Tokenizer


def test_the_same_prompts_and_seed_give_the_same_text(model: Decoder, tokenizer: Tokenizer) -> None:
    config = EvaluateConfig(continuations=("the cat", "Zürich " * 60, ""), continuation_tokens=6)
    subject = Subject(model, tokenizer)
    found = measure_continuations(subject, config)
    assert found == measure_continuations(subject, config)
    assert [sample["prompt"] for sample in found.samples["continuations"]] == list(config.continuations)
    assert found.metrics == {}


def test_without_prompts_there_is_nothing(model: Decoder, tokenizer: Tokenizer) -> None:
    assert measure_continuations(Subject(model, tokenizer), EvaluateConfig(continuations=())).samples == {}
