"""Tasks that compare continuations, recomputed from the scores that are kept."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from groundup.evaluate import mean
from groundup.models import Decoder
from groundup.tokens import Tokenizer, Turn
from tests.evaluate.tasks.conftest import Measure

WORDS = ["cat", "mat", "Paris", "Zürich", "1815", "Emma", "sat on", "café"]
ARC = [
    {
        "question": f"Where is {word}?",
        "choices": {"text": [word, "the " + WORDS[at - 1], "北京"], "label": ["A", "B", "C"]},
        "answerKey": "ABC"[at % 3],
    }
    for at, word in enumerate(WORDS)
]


@torch.inference_mode()
def log_likelihood(model: Decoder, ids: list[int], count: int) -> float:
    """Of the last `count` tokens, the plain way."""
    logits = model(torch.tensor([ids[:-1]]))[0, -count:].log_softmax(-1)
    return float(logits[torch.arange(count), torch.tensor(ids[-count:])].sum())


def test_multiple_choice(measured: Measure, model: Decoder, tokenizer: Tokenizer) -> None:
    result = measured(ARC, kind="multiple_choice", form="arc")
    right, normed, by_byte, gold = [], [], [], []
    for record, item in zip(ARC, result.samples["items"]):
        prompt = f"Question: {record['question']}\nAnswer:"
        options = record["choices"]["text"]  # type: ignore[index]
        nats = []
        for option in options:
            before, whole = len(tokenizer.encode(prompt)), tokenizer.encode(f"{prompt} {option}")
            nats.append(log_likelihood(model, whole, len(whole) - before))
        assert item["prompts"] == [prompt]
        assert item["options"] == options
        assert item["log_likelihoods"] == pytest.approx(nats, abs=1e-4)
        expected = "ABC".index(str(record["answerKey"]))
        assert item["reference"] == expected
        right.append(float(np.argmax(nats) == expected))
        normed.append(float(np.argmax(np.array(nats) / [len(o) for o in options]) == expected))
        by_byte.append(float(np.argmax(np.array(nats) / [len(o.encode()) for o in options]) == expected))
        gold.append(nats[expected])
        assert (item["accuracy"], item["accuracy_norm"]) == (right[-1], normed[-1])
    for name, values in {"accuracy": right, "accuracy_norm": normed, "accuracy_bytes": by_byte}.items():
        assert result.metrics[name] == mean(values)
    assert result.metrics["log_likelihood"].value == pytest.approx(np.mean(gold), abs=1e-4)
    assert result.metrics["log_likelihood"].stderr == pytest.approx(np.std(gold, ddof=1) / math.sqrt(8), abs=1e-4)


def test_templates_say_the_same_as_a_form(measured: Measure) -> None:
    form = measured(ARC, kind="multiple_choice", form="arc")
    templates = measured(
        ARC,
        kind="multiple_choice",
        prompt="Question: {question}\nAnswer:",
        options="{choices.text}",
        answer="{{choices.label.index(answerKey)}}",
    )
    assert templates.metrics == form.metrics
    assert templates.samples["items"] == form.samples["items"]


def test_options_of_several_fields(measured: Measure) -> None:
    records = [{"q": "x", "one": "cat", "two": "mat", "right": "B"}]
    result = measured(
        records, kind="multiple_choice", prompt="{q}", options=["{one}", "{two}"], answer="{right}", separator="\n"
    )
    assert result.samples["items"][0]["options"] == ["cat", "mat"]
    assert result.samples["items"][0]["reference"] == 1


def test_contexts_that_differ(measured: Measure, model: Decoder, tokenizer: Tokenizer) -> None:
    records = [{"sentence": "The _ sat here.", "option1": "cat", "option2": "mat", "answer": "1"}]
    item = measured(records, kind="multiple_choice", form="winogrande").samples["items"][0]
    assert item["prompts"] == ["The cat", "The mat"]
    for prompt, found in zip(item["prompts"], item["log_likelihoods"]):
        before, whole = len(tokenizer.encode(prompt)), tokenizer.encode(f"{prompt} sat here.")
        assert found == pytest.approx(log_likelihood(model, whole, len(whole) - before), abs=1e-4)


def test_the_beginning_of_a_document(measured: Measure, model: Decoder, tokenizer: Tokenizer) -> None:
    item = measured(ARC[:1], kind="multiple_choice", form="arc", document_start=True).samples["items"][0]
    whole = tokenizer.document_prompt("Question: Where is cat?\nAnswer: cat")
    count = len(whole) - len(tokenizer.document_prompt("Question: Where is cat?\nAnswer:"))
    assert item["prompts"][0].startswith("<|endoftext|>Question")
    assert item["log_likelihoods"][0] == pytest.approx(log_likelihood(model, whole, count), abs=1e-4)


def test_a_question_through_the_chat_template(measured: Measure, model: Decoder, tokenizer: Tokenizer) -> None:
    item = measured(ARC[:1], kind="multiple_choice", form="arc", chat=True, preface="Say").samples["items"][0]
    assert item["prompts"] == ["<|system|> Say<|end|><|user|> Question: Where is cat?\nAnswer:<|end|><|assistant|>"]
    prompt = tokenizer.prompt([Turn("system", "Say"), Turn("user", "Question: Where is cat?\nAnswer:")])
    said = tokenizer.encode(" cat")
    assert item["log_likelihoods"][0] == pytest.approx(log_likelihood(model, prompt + said, len(said)), abs=1e-4)


def test_the_last_word(measured: Measure, model: Decoder, tokenizer: Tokenizer) -> None:
    passages = [f"the cat sat on the mat in {word}" for word in ("Zürich", "1815", "Emma", "café")]
    result = measured([{"text": text} for text in passages], kind="last_word")
    nats = []
    for passage, item in zip(passages, result.samples["items"]):
        before = passage.rpartition(" ")[0]
        assert item["prompts"] == [before]
        assert item["reference"] == passage.split(" ")[-1]
        whole = tokenizer.encode(passage)
        nats.append(log_likelihood(model, whole, len(whole) - len(tokenizer.encode(before))))
    assert result.metrics["log_likelihood"].value == pytest.approx(np.mean(nats), abs=1e-4)
    perplexity = result.metrics["perplexity"]
    assert perplexity.value == pytest.approx(math.exp(-np.mean(nats)), rel=1e-4)
    assert perplexity.stderr == pytest.approx(perplexity.value * np.std(nats, ddof=1) / 2, rel=1e-3)
    assert result.metrics["accuracy"].n == 4


def test_minimal_pairs(measured: Measure, model: Decoder, tokenizer: Tokenizer) -> None:
    records = [
        {"sentence_good": "the cat sat", "sentence_bad": "the sat cat", "UID": "order"},
        {"sentence_good": "café 北京", "sentence_bad": "the mat", "UID": "other"},
    ]
    result = measured(records, kind="minimal_pairs", group_field="UID")
    for record, item in zip(records, result.samples["items"]):
        for text, found in zip((record["sentence_good"], record["sentence_bad"]), item["log_likelihoods"]):
            whole = tokenizer.document_prompt(f" {text}")
            assert found == pytest.approx(log_likelihood(model, whole, len(whole) - 1), abs=1e-4)
    expected = [float(item["log_likelihoods"][0] > item["log_likelihoods"][1]) for item in result.samples["items"]]
    assert result.metrics["accuracy"] == mean(expected)
    assert result.metrics["accuracy/order"].value == expected[0]
    assert result.metrics["accuracy/other"].value == expected[1]


def test_bias_pairs(measured: Measure) -> None:
    pairs = [("the cat sat", "the mat sat"), ("Emma", "Paris"), ("1815", "café"), ("the mat", "the cat")]
    kinds, directions = ["age", "age", "gender", "gender"], ["stereo", "antistereo", "stereo", "stereo"]
    records = [
        {"sent_more": more, "sent_less": less, "bias_type": kind, "stereo_antistereo": direction}
        for (more, less), kind, direction in zip(pairs, kinds, directions)
    ]
    result = measured(records, kind="bias_pairs")
    prefers, differences = [], []
    for item in result.samples["items"]:
        more, less = item["log_likelihoods"]
        prefers.append(float(more > less))
        differences.append(abs(more - less))
        assert item["prefers_stereotype"] == prefers[-1]
    assert result.metrics["stereotype_share"] == mean(prefers)
    assert result.metrics["log_likelihood_difference"].value == pytest.approx(np.mean(differences), abs=1e-4)
    assert result.metrics["stereotype_share/age"] == mean(prefers[:2])
    assert result.metrics["stereotype_share/gender"] == mean(prefers[2:])
    assert result.metrics["stereotype_share/antistereo"].value == prefers[1]
    assert result.metrics["stereotype_share/stereo"].n == 3


def test_an_answer_that_is_in_one_token_with_the_prompt(
    measured: Measure, model: Decoder, tokenizer: Tokenizer
) -> None:
    """Where a prompt ends within a token of the whole, that token is what is scored."""
    words = [tokenizer.decode([token]) for token in range(tokenizer.vocab_size) if token not in tokenizer.control_ids]
    word = next(word for word in words if len(word) > 2 and word.isalpha() and len(tokenizer.encode(word)) == 1)
    records = [{"q": prompt + word[0], "options": [word[1:], "ub"], "right": 0} for prompt in ("", "the ", "1815 ")]
    ask = {"prompt": "{q}", "options": "{options}", "answer": "{right}", "separator": ""}
    result = measured(records, kind="multiple_choice", **ask)
    assert result.metrics["accuracy"].n == 3
    found = result.samples["items"][0]["log_likelihoods"][0]
    assert found == pytest.approx(log_likelihood(model, tokenizer.document_prompt(word), 1), abs=1e-4)
