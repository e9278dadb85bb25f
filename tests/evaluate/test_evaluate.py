"""All tasks together, and models side by side."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch

from groundup.errors import DataError, first_line
from groundup.evaluate import TASKS, EvaluateConfig, Evaluation, Metric, Result, Subject, evaluate, side_by_side
from groundup.models import Decoder
from groundup.tokens import Conversation, PackedText, Tokenizer, Turn

CONFIG = EvaluateConfig(max_new_tokens=3, continuation_tokens=3)
QUESTIONS = [Conversation("1", (Turn("user", "cat?"), Turn("assistant", "mat")), "questions", {"kind": "short"})]


def test_language_metrics_are_always_there(
    model: Decoder, tokenizer: Tokenizer, packed: Callable[..., PackedText]
) -> None:
    text = packed("the cat sat on the mat", "Paris")
    without = evaluate(model, tokenizer, {"validation": text}, [], CONFIG)
    assert {"bits_per_byte", "perplexity", "token_accuracy"} <= without.metrics.keys()
    assert "exact_match" not in without.metrics
    found = evaluate(model, tokenizer, {"validation": text}, QUESTIONS, CONFIG)
    assert found.metrics["exact_match"].n == 1
    assert found.samples.keys() == {"texts", "answers", "continuations"}
    written = json.loads(json.dumps({"metrics": found.metrics_dict(), "samples": found.samples}, allow_nan=False))
    assert written["metrics"]["bits_per_byte"].keys() == {"value", "stderr", "n"}


def test_without_text_a_model_cannot_be_judged(model: Decoder, tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError) as caught:
        evaluate(model, tokenizer, {}, QUESTIONS, CONFIG)
    assert "corpus.split.validation" in first_line(caught.value)


def test_the_model_and_the_random_state_stay_as_they_were(
    model: Decoder, tokenizer: Tokenizer, packed: Callable[..., PackedText]
) -> None:
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random_state = torch.get_rng_state()
    evaluate(model, tokenizer, {"validation": packed("the cat")}, QUESTIONS, CONFIG)
    assert model.training
    model.eval()
    assert torch.equal(random_state, torch.get_rng_state())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_task_is_one_function(model: Decoder, tokenizer: Tokenizer, packed: Callable[..., PackedText]) -> None:
    def vocabulary(subject: Subject, config: EvaluateConfig) -> Result:
        return Result({"vocabulary": Metric(subject.tokenizer.vocab_size, None, 1)}, {"seed": config.seed})

    found = evaluate(model, tokenizer, {"validation": packed("the cat")}, [], CONFIG, (*TASKS, vocabulary))
    assert found.metrics["vocabulary"].value == 300
    assert found.samples["seed"] == 0


def test_before_and_after_lie_side_by_side() -> None:
    def evaluation(value: float, prediction: str) -> Evaluation:
        answers = [{"prompt": "France?", "reference": "Paris", "prediction": prediction}]
        return Evaluation({"exact_match": Metric(value, None, 1)}, {"answers": answers, "continuations": [prediction]})

    merged = side_by_side(evaluation(1.0, "Paris"), {"before_instruct": evaluation(0.0, "and the")})
    assert merged.metrics["exact_match"].value == 1.0
    assert merged.metrics["before_instruct:exact_match"].value == 0.0
    assert merged.samples["answers"][0]["others"] == {"before_instruct": "and the"}
    assert merged.samples["answers"][0]["prediction"] == "Paris"
    assert merged.samples["before_instruct"] == {"continuations": ["and the"]}
