"""Records of preferences in the shapes in which they are published, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from groundup.tokens import Preference, Turn, preference_of
from groundup.tokens.conversation_formats import Refused

USER, BETTER, WORSE = Turn("user", "Which?"), Turn("assistant", "This."), Turn("assistant", "That.")
PAIR = Preference((USER,), BETTER, WORSE)


def message(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


ASKED, THIS, THAT = message("user", "Which?"), message("assistant", "This."), message("assistant", "That.")
PAIRS: dict[str, dict[str, Any]] = {
    "trl, texts": {"prompt": "Which?", "chosen": " This.", "rejected": "That. "},
    "trl, messages": {"prompt": [ASKED], "chosen": [THIS], "rejected": [THAT]},
    "trl, prompt within": {"chosen": [ASKED, THIS], "rejected": [ASKED, THAT]},
    "UltraFeedback": {"prompt": "Which?", "chosen": [ASKED, THIS], "rejected": [ASKED, THAT]},
    "LLaMA-Factory, sharegpt": {
        "conversations": [{"from": "human", "value": "Which?"}],
        "chosen": {"from": "gpt", "value": "This."},
        "rejected": {"from": "gpt", "value": "That."},
    },
    "LLaMA-Factory, alpaca": {"instruction": "Which?", "input": "", "chosen": "This.", "rejected": "That."},
}


@pytest.mark.parametrize("shape", PAIRS)
def test_the_published_shapes_of_pairs_say_the_same(shape: str) -> None:
    assert preference_of(PAIRS[shape]) == PAIR


@pytest.mark.parametrize("label", [True, False])
@pytest.mark.parametrize("key", ["label", "kto_tag"])
def test_the_published_shapes_of_judged_answers_say_the_same(key: str, label: bool) -> None:
    wanted = Preference((USER,), BETTER if label else None, None if label else BETTER)
    for record in (
        {"prompt": "Which?", "completion": "This."},
        {"prompt": [ASKED], "completion": [THIS]},
        {"messages": [ASKED, THIS]},
    ):
        assert preference_of({**record, key: label}) == wanted


def test_earlier_turns_and_the_system_turn_belong_to_the_prompt() -> None:
    before = [message("user", "Hello."), message("assistant", "Yes?")]
    found = preference_of({"prompt": [message("system", "Be brief."), *before, ASKED], "chosen": "a", "rejected": "b"})
    assert [turn.role for turn in found.prompt] == ["system", "user", "assistant", "user"]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "b "}, "chosen and rejected are the same"),
        ({"prompt": "a", "chosen": "b"}, "no preference"),
        ({"prompt": "a", "completion": "b", "label": "yes"}, "no preference"),
        ({"prompt": "a", "chosen": "", "rejected": "b"}, "empty chosen"),
        ({"prompt": " ", "chosen": "b", "rejected": "c"}, "empty prompt"),
        ({"prompt": "a", "chosen": None, "rejected": "c"}, "no chosen"),
        ({"prompt": "a", "chosen": 1, "rejected": "c"}, "chosen is not a string"),
        ({"chosen": "b", "rejected": "c"}, "does not begin with the user"),
        ({"prompt": "a", "chosen": [], "rejected": "c"}, "empty list of messages"),
        ({"prompt": [], "chosen": "b", "rejected": "c"}, "empty list of messages"),
        ({"chosen": [ASKED, THIS], "rejected": [message("user", "What?"), THAT]}, "differ in more than the last turn"),
        ({"chosen": [ASKED, THIS, ASKED, THIS], "rejected": [ASKED, THAT]}, "differ in more than the last turn"),
        ({"prompt": "a", "chosen": [message("robot", "b")], "rejected": "c"}, "unknown role"),
        ({"prompt": "a", "chosen": [ASKED], "rejected": [message("user", "x")]}, "two turns of one role"),
        ({"prompt": "a\ud800", "chosen": "b", "rejected": "c"}, "lone surrogate"),
        ({"messages": [], "label": True}, "no turns"),
    ],
)
def test_what_is_no_preference_is_refused_with_its_reason(record: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        preference_of(record)
