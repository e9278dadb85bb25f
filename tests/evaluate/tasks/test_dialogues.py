"""A conversation as a prompt: its turns are asked as turns, and anything else is refused."""

from __future__ import annotations

from typing import Any

import pytest

from groundup.evaluate import mean
from groundup.evaluate.tasks import generation
from groundup.evaluate.tasks.dialogues import conversation
from groundup.evaluate.tasks.refused import Refused
from groundup.tokens import Tokenizer
from tests.evaluate.tasks.conftest import Measure


def said(*roles: str) -> list[dict[str, str]]:
    return [{"role": role, "content": f"{role} {place}"} for place, role in enumerate(roles)]


def test_the_history_is_told_from_the_question() -> None:
    system, history, question = conversation(said("system", "user", "assistant", "user"))
    assert (system, history, question) == ("system 0", (("user 1", "assistant 2"),), "user 3")
    assert conversation(said("user")) == ("", (), "user 0")


@pytest.mark.parametrize(
    "messages",
    [
        [],
        said("user", "assistant"),
        said("assistant", "user"),
        said("user", "user"),
        said("user", "system", "user"),
        said("system"),
        ["text"],
        [{"role": 1, "content": "a"}],
        [{"role": "user"}],
        [{"role": "user", "content": ["a"]}],
    ],
)
def test_what_is_no_question_with_a_history_is_refused(messages: list[Any]) -> None:
    with pytest.raises(Refused):
        conversation(messages)


def test_what_has_to_be_said_is_looked_for(
    measured: Measure, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ["A table for two on Monday.", "A table for two on Friday, Friday.", ""]
    left = list(answers)
    asked: list[str] = []

    def generated(model: Any, prompts: Any, *settings: Any) -> list[list[int]]:
        asked.extend(tokenizer.decode(prompt, skip_control=False) for prompt in prompts)
        return [tokenizer.encode(left.pop(0)) for _ in prompts]

    monkeypatch.setattr(generation, "generate_batch", generated)
    records = [{"history": said("user", "assistant", "user"), "need": ["two", "Monday"]}] * 3
    settings: dict[str, Any] = {"kind": "generation", "prompt": "{history}", "references": "{need}", "chat": True}
    result = measured(records, metrics=["coverage", "distinct"], **settings)
    assert [item["coverage"] for item in result.samples["items"]] == [1.0, 0.5, 0.0]
    assert result.metrics["success"] == mean([1.0, 0.0, 0.0])
    assert result.metrics["distinct_1"].value == pytest.approx((6 + 6) / (6 + 7))
    assert result.metrics["repetition"].value == 0.0
    assert all(prompt.count("<|user|>") == 2 and prompt.count("<|assistant|>") == 2 for prompt in asked)
