"""A record of preferences -> what is asked, and the better and the worse answer.

    trl               {"prompt", "chosen", "rejected"}: texts, or lists of messages; without prompt what both share
    LLaMA-Factory     {"conversations", "chosen": {"from", "value"}, "rejected"}, {"instruction", "chosen", ...}
    orca              {"system", "question", "chosen", "rejected"}
    Anthropic HH      {"chosen", "rejected"}: texts of whole dialogues, "\\n\\nHuman: ...\\n\\nAssistant: ..."
    KTO               {"prompt", "completion", "label"}, {"conversations" or "messages", "kto_tag" or "label"}

Invariant: the prompt ends with the user (or a tool), an answer is one turn of the assistant; what is otherwise is
refused with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from groundup.tokens.conversation_formats import (
    FORMATS,
    check_order,
    completion_turns,
    encodable,
    prompt_of_alpaca,
    prompt_turns,
    recognised,
    system_turn,
)
from groundup.tokens.conversation_messages import Rules, text_of, turns_of_messages
from groundup.tokens.record_reading import Refused, truth_of
from groundup.tokens.template import Turn

JUDGEMENTS = ("label", "kto_tag")
"""Fields that say whether a single answer is good."""
_SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


class Preference(NamedTuple):
    """What is asked, the better answer and the worse one; of a single judged answer (KTO) one of them is None."""

    prompt: tuple[Turn, ...]
    chosen: Turn | None
    rejected: Turn | None


def preference_of(values: Mapping[str, Any], rules: Rules | None = None) -> Preference:
    """The preference of a record. Raises Refused with a reason for what is none."""
    rules = rules or Rules()
    said = {key: truth_of(values[key]) for key in JUDGEMENTS if values.get(key) is not None}
    judged = next((found for found in said.values() if found is not None), None)
    if "chosen" in values and "rejected" in values:
        prompt, chosen, rejected = _pair(values, rules)
        if chosen.text.strip() == rejected.text.strip():
            raise Refused("chosen and rejected are the same", chosen.text)
        return _checked(prompt, chosen, rejected)
    if said and judged is None:
        raise Refused("label is neither true nor false", next(values[key] for key in said))
    if judged is None:
        raise Refused("no preference: none of chosen and rejected, label, kto_tag", ", ".join(map(str, values)))
    name, values = recognised({key: value for key, value in values.items() if key not in JUDGEMENTS})
    turns = FORMATS[name].turns(values, rules)
    if not turns:
        raise Refused("no turns")
    *prompt, answer = turns
    return _checked(prompt, answer if judged else None, None if judged else answer)


def _pair(values: Mapping[str, Any], rules: Rules) -> tuple[list[Turn], Turn, Turn]:
    """(prompt, chosen, rejected) of a record that has both answers."""
    key = next((key for key in ("conversations", "messages") if values.get(key) is not None), None)
    if key is not None:
        prompt = system_turn(values) + turns_of_messages(values[key], key, rules)
    elif values.get("instruction") is not None:
        prompt = prompt_of_alpaca(values)
    elif values.get("prompt") is not None and not _holds_prompt(values, rules):
        prompt = prompt_turns(values, rules)
    elif values.get("question") is not None:
        prompt = [*system_turn(values), Turn("user", text_of(values, "question"))]
    else:
        prompt = system_turn(values)
    whole = key is None and not any(turn.role == "user" for turn in prompt)
    chosen, rejected = (_said(values, name, rules, whole) for name in ("chosen", "rejected"))
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    if (len(chosen), len(rejected)) != (shared + 1, shared + 1):
        raise Refused(
            "chosen and rejected differ in more than the last turn", f"{len(chosen)} and {len(rejected)} turns"
        )
    return [*prompt, *chosen[:shared]], chosen[-1], rejected[-1]


def _said(values: Mapping[str, Any], name: str, rules: Rules, whole: bool) -> list[Turn]:
    """The turns of an answer; where nothing is asked elsewhere (`whole`), a text may be a dialogue of its own."""
    text = values[name]
    if whole and isinstance(text, str) and _SPEAKER.match(text):
        _, *parts = _SPEAKER.split(text)
        said = [Turn(_ROLES[speaker], words.strip()) for speaker, words in zip(parts[::2], parts[1::2])]
        if not all(turn.text for turn in said):
            raise Refused(f"empty turn in {name}")
        return said
    return completion_turns(values, name, rules)


def _holds_prompt(values: Mapping[str, Any], rules: Rules) -> bool:
    """Whether the answers are whole conversations that begin with the prompt, as in UltraFeedback."""
    chosen = values["chosen"]
    if not isinstance(chosen, list) or len(chosen) < 2:
        return False
    asked = [turn for turn in turns_of_messages(chosen[:-1], "chosen", rules) if turn.role != "system"]
    prompt = [turn for turn in prompt_turns(values, rules) if turn.role != "system"]
    return asked[: len(prompt)] == prompt


def _checked(prompt: Sequence[Turn], chosen: Turn | None, rejected: Turn | None) -> Preference:
    def trimmed(turn: Turn) -> Turn:
        return Turn(turn.role, encodable(turn.text.strip()))

    for answer in (chosen, rejected):
        if answer is not None:
            check_order([*prompt, answer])
    better, worse = (None if answer is None else trimmed(answer) for answer in (chosen, rejected))
    return Preference(tuple(map(trimmed, prompt)), better, worse)
