"""Chat: history, and what is forgotten when the context is full."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from groundup.errors import RecipeError, first_line
from groundup.inference import Chat, GenerateConfig, chat
from groundup.models import Decoder
from groundup.tokens import Tokenizer, Turn


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Prompts that the model would get; it answers "mat" to each."""
    prompts: list[list[int]] = []

    def say(model: Any, tokenizer: Any, prompt: list[int], config: Any, stop_ids: Any) -> Iterator[str]:
        prompts.append(prompt)
        yield from ("m", "at")

    monkeypatch.setattr(chat, "stream", say)
    return prompts


def test_history_enters_the_next_prompt(model: Decoder, tokenizer: Tokenizer, asked: list[list[int]]) -> None:
    talk = Chat(model, tokenizer, GenerateConfig(max_new_tokens=8), system="Be brief.")
    assert list(talk.reply("cat?")) == ["m", "at"]
    assert "".join(talk.reply("sat?")) == "mat"
    turns = [Turn("system", "Be brief."), Turn("user", "cat?"), Turn("assistant", "mat"), Turn("user", "sat?")]
    assert asked[1] == tokenizer.prompt(turns)
    assert talk.messages == [*turns[1:], Turn("assistant", "mat")]


def test_oldest_turns_are_forgotten_and_the_system_turn_stays(
    model: Decoder, tokenizer: Tokenizer, asked: list[list[int]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "groundup")
    talk = Chat(model, tokenizer, GenerateConfig(max_new_tokens=8), system="the cat")
    for _ in range(12):
        list(talk.reply("the mat"))
    limit = model.config.context_length - 8
    system = tokenizer.prompt([Turn("system", "the cat")])[:4]
    assert all(len(prompt) <= limit and prompt[:4] == system for prompt in asked)
    assert max(map(len, asked)) > limit - 20, "as many turns as fit are kept"
    assert sum("forgotten" in record.message for record in caplog.records) == 1


def test_a_question_longer_than_the_context_is_refused(model: Decoder, tokenizer: Tokenizer) -> None:
    talk = Chat(model, tokenizer)
    with pytest.raises(RecipeError) as caught:
        list(talk.reply("Zebra! " * 200))
    assert "ask a shorter one" in first_line(caught.value)
    assert talk.messages == []


def test_an_answer_broken_off_is_kept_as_far_as_it_was_read(
    model: Decoder, tokenizer: Tokenizer, asked: list[list[int]]
) -> None:
    talk = Chat(model, tokenizer)
    answer = talk.reply("cat?")
    assert next(answer) == "m"
    answer.close()  # type: ignore[attr-defined]
    assert talk.messages == [Turn("user", "cat?"), Turn("assistant", "m")]
    talk.reset()
    assert talk.messages == []


def test_a_real_model_answers(model: Decoder, tokenizer: Tokenizer) -> None:
    talk = Chat(model, tokenizer, GenerateConfig(max_new_tokens=5))
    answer = "".join(talk.reply("What is the capital of France?"))
    assert answer == "" or talk.messages[-1] == Turn("assistant", answer)
