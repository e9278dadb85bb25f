"""Records of preferences: trl's, LLaMA-Factory's and KTO's forms become the same three things."""

from __future__ import annotations

from typing import Any

import pytest

from groundup.tokens import Preference, Turn, preference_of
from groundup.tokens.record_reading import Refused

USER, GOOD, BAD = (
    {"role": "user", "content": "q"},
    {"role": "assistant", "content": "good"},
    {"role": "assistant", "content": " bad\n"},
)
ASKED, BETTER, WORSE = (Turn("user", "q"),), Turn("assistant", "good"), Turn("assistant", "bad")
HUMAN = {"from": "human", "value": "q"}
SYSTEM = {"role": "system", "content": "s"}

PAIRS: dict[str, dict[str, Any]] = {
    "texts": {"prompt": "q", "chosen": "good", "rejected": "bad"},
    "lists": {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
    "implicit": {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    "prompt again in the answers": {"prompt": "q", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
    "messages": {"prompt": [USER], "chosen": GOOD, "rejected": BAD},
    "LLaMA-Factory": {
        "conversations": [HUMAN],
        "chosen": {"from": "gpt", "value": "good"},
        "rejected": {"from": "gpt", "value": "bad"},
    },
    "alpaca": {"instruction": "q", "input": "", "chosen": "good", "rejected": "bad"},
    "orca": {"question": "q", "chosen": "good", "rejected": "bad"},
    "Anthropic HH": {"chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"},
}


@pytest.mark.parametrize("name", PAIRS)
def test_every_form_of_a_pair(name: str) -> None:
    assert preference_of(PAIRS[name]) == Preference(ASKED, BETTER, WORSE)


KTO: dict[str, dict[str, Any]] = {
    "texts": {"prompt": "q", "completion": "good"},
    "lists": {"prompt": [USER], "completion": [GOOD]},
    "messages": {"messages": [USER, GOOD]},
    "conversations": {"conversations": [HUMAN, {"from": "gpt", "value": "good"}]},
}


@pytest.mark.parametrize("name", KTO)
@pytest.mark.parametrize("key", ["label", "kto_tag"])
def test_every_form_of_a_judged_answer(name: str, key: str) -> None:
    assert preference_of({**KTO[name], key: True}) == Preference(ASKED, BETTER, None)
    assert preference_of({**KTO[name], key: False}) == Preference(ASKED, None, BETTER)


@pytest.mark.parametrize(
    ("value", "is_good"), [("true", True), (" False", False), ("1", True), (0, False), (1.0, True)]
)
def test_verdicts_of_tables_are_texts_or_numbers(value: Any, is_good: bool) -> None:
    found = preference_of({**KTO["texts"], "label": value})
    assert (found.chosen, found.rejected) == ((BETTER, None) if is_good else (None, BETTER))


def test_a_verdict_that_is_none_is_refused() -> None:
    with pytest.raises(Refused, match="label is neither true nor false"):
        preference_of({**KTO["texts"], "label": "maybe"})


def test_a_prompt_of_several_turns() -> None:
    prompt = [SYSTEM, USER, GOOD, USER]
    found = preference_of({"prompt": prompt, "chosen": [GOOD], "rejected": [BAD]})
    assert [turn.role for turn in found.prompt] == ["system", "user", "assistant", "user"]


def test_a_dialogue_in_one_text_keeps_its_turns() -> None:
    before = "\n\nHuman: Who said\nAssistant: so?\n\nAssistant: I did.\n\nHuman: Why?"
    found = preference_of({"chosen": f"{before}\n\nAssistant: A.\n\nB.", "rejected": f"{before}\n\nAssistant: C."})
    assert [turn.text for turn in found.prompt] == ["Who said\nAssistant: so?", "I did.", "Why?"]
    assert found.chosen == Turn("assistant", "A.\n\nB.")


def test_an_answer_that_looks_like_a_dialogue_is_an_answer() -> None:
    found = preference_of({"prompt": "q", "chosen": "Human: a\n\nAssistant: b", "rejected": "c"})
    assert found.prompt == ASKED and found.chosen == Turn("assistant", "Human: a\n\nAssistant: b")


REFUSED: dict[str, dict[str, Any]] = {
    "chosen and rejected are the same": {"prompt": "q", "chosen": "a", "rejected": "a"},
    "no preference: none of chosen and rejected, label, kto_tag": {"prompt": "q", "completion": "a"},
    "chosen and rejected differ in more than the last turn": {
        "chosen": [USER, GOOD],
        "rejected": [{**USER, "content": "p"}, BAD],
    },
    "does not begin with the user": {"chosen": "a", "rejected": "b"},
    "empty chosen": {"prompt": "q", "chosen": " ", "rejected": "b"},
    "no rejected": {"prompt": "q", "chosen": "a", "rejected": None},
    "empty turn in rejected": {"chosen": "Human: q\n\nAssistant: a", "rejected": "Human: q\n\nAssistant:"},
    "lone surrogate (not a character)": {"prompt": "q", "chosen": "\ud800", "rejected": "b"},
    "system turn not at the start": {"prompt": [USER], "chosen": [GOOD], "rejected": [SYSTEM]},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_no_preference_is_refused(reason: str) -> None:
    with pytest.raises(Refused) as caught:
        preference_of(REFUSED[reason])
    assert caught.value.reason == reason
