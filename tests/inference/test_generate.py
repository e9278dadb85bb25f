"""Generation: batch = one by one, whole characters only, and the context is never passed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from groundup.errors import RecipeError, first_line
from groundup.inference import GenerateConfig, decode_pieces, generate_batch, generate_ids, serving, stream
from groundup.models import Decoder
from groundup.tokens import Tokenizer


@pytest.fixture(params=["kernels", "plain layers"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of generating; they are one where the kernels cannot be built."""
    if request.param == "plain layers":
        monkeypatch.setattr(serving, "_packed", lambda model: None)


def prompts_of_many_lengths(vocab_size: int, count: int) -> list[list[int]]:
    pick = random.Random(5)
    return [[pick.randrange(vocab_size) for _ in range(pick.choice((3, 4, 7, 12)))] for _ in range(count)]


@torch.no_grad()
def without_cache(model: Decoder, prompt: Sequence[int], max_new_tokens: int, stop: set[int]) -> list[int]:
    """Greedy generation, everything computed anew for each token."""
    ids = list(prompt)
    while len(ids) - len(prompt) < max_new_tokens and len(ids) < model.config.context_length:
        token = int(model(torch.tensor([ids]))[0, -1].argmax())
        if token in stop:
            break
        ids.append(token)
    return ids[len(prompt) :]


@pytest.mark.usefixtures("way")
def test_a_batch_gives_what_each_prompt_gives_alone(model: Decoder) -> None:
    prompts = prompts_of_many_lengths(model.vocab_size, 30)
    stop = set(range(0, model.vocab_size, 9))  # many stops, so that rows leave the batch at different times
    config = GenerateConfig(max_new_tokens=15)
    counted: list[int] = []
    answers = generate_batch(model, prompts, config, stop, batch_rows=5, advance=counted.append)
    assert answers == [without_cache(model, prompt, 15, stop) for prompt in prompts]
    assert answers == [list(generate_ids(model, prompt, config, stop)) for prompt in prompts]
    assert sum(counted) == 30
    assert len({len(answer) for answer in answers}) > 3


@pytest.mark.usefixtures("way")
def test_sampled_answers_do_not_depend_on_the_batch_size(model: Decoder) -> None:
    prompts = prompts_of_many_lengths(model.vocab_size, 12)
    config = GenerateConfig(max_new_tokens=8, temperature=1.0, top_p=0.9, repetition_penalty=1.3, seed=7)
    answers = generate_batch(model, prompts, config, set(), batch_rows=64)
    assert answers == generate_batch(model, prompts, config, set(), batch_rows=1)
    assert answers[0] == list(generate_ids(model, prompts[0], config, set()))
    other = GenerateConfig(**{**config.model_dump(), "seed": 8})
    assert answers != generate_batch(model, prompts, other, set())


@pytest.mark.usefixtures("way")
def test_equal_prompts_are_sampled_apart(model: Decoder) -> None:
    config = GenerateConfig(max_new_tokens=20, temperature=1.5)
    first, second = generate_batch(model, [[1, 2, 3], [1, 2, 3]], config, set())
    assert first != second


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("length", [1, 40, 95])
def test_prompt_and_answer_never_pass_the_context(model: Decoder, length: int) -> None:
    answer = list(generate_ids(model, [1] * length, GenerateConfig(max_new_tokens=500), set()))
    assert length + len(answer) == model.config.context_length


@pytest.mark.parametrize("length", [0, 96, 100])
def test_a_prompt_without_room_is_refused(model: Decoder, length: int) -> None:
    with pytest.raises(RecipeError) as caught:
        list(generate_ids(model, [1] * length, GenerateConfig(), set()))
    assert f"a prompt of {length} tokens" in first_line(caught.value)
    assert "give 1 to 95" in first_line(caught.value)


def test_no_prompts_no_answers(model: Decoder) -> None:
    assert generate_batch(model, [], GenerateConfig(), set()) == []


@given(st.text(max_size=40))
def test_pieces_join_to_the_text_and_never_split_a_character(tokenizer: Tokenizer, text: str) -> None:
    pieces = list(decode_pieces(tokenizer, tokenizer.encode(text)))
    assert "".join(pieces) == text
    assert all(pieces)
    assert "�" not in "".join(pieces) or "�" in text


def test_bytes_that_are_no_text_come_out_as_the_replacement_character(tokenizer: Tokenizer) -> None:
    bytes_of_a_character = tokenizer.encode("𝄞")
    assert len(bytes_of_a_character) == 4, "not in the training text, so it is one token a byte"
    pieces = list(decode_pieces(tokenizer, [*bytes_of_a_character[:2], *tokenizer.encode("a")]))
    assert "".join(pieces) == "�a"
    assert list(decode_pieces(tokenizer, bytes_of_a_character[:3])) == ["�"]


def test_control_tokens_are_not_shown(tokenizer: Tokenizer) -> None:
    ids = [*tokenizer.encode("cat"), tokenizer.turn_end_id, *tokenizer.encode(" mat")]
    assert "".join(decode_pieces(tokenizer, ids)) == "cat mat"


def test_a_stream_yields_while_it_generates(model: Decoder, tokenizer: Tokenizer) -> None:
    prompt = tokenizer.document_prompt("the cat")
    pieces = stream(model, tokenizer, prompt, GenerateConfig(max_new_tokens=30), set())
    assert isinstance(pieces, Iterator)
    first = next(pieces)
    expected = without_cache(model, prompt, 30, set())
    assert first + "".join(pieces) == tokenizer.decode(expected)


@pytest.mark.usefixtures("way")
def test_the_caller_may_train_between_pieces(model: Decoder, tokenizer: Tokenizer) -> None:
    pieces = stream(model, tokenizer, [1, 2], GenerateConfig(max_new_tokens=4), set())
    next(pieces, None)
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()
