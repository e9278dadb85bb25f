"""A record of preferences -> what is asked, and the better and the worse answer.

    trl               {"prompt", "chosen", "rejected"}: texts, or lists of messages; without prompt what both share
    LLaMA-Factory     {"conversations", "chosen": {"from", "value"}, "rejected"}, {"instruction", "input", "chosen"}
    KTO               {"prompt", "completion", "label"}, {"conversations" or "messages", "kto_tag" or "label"}

Invariant: the prompt ends with the user, an answer is one turn of the assistant; what is otherwise is refused with its
reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from groundup.tokens.conversation_formats import FORMATS, Refused, check_order, encodable
from groundup.tokens.template import Turn

LISTS = {"conversations": "sharegpt", "messages": "messages"}
"""Keys of lists of messages, and the format that reads them."""


class Preference(NamedTuple):
    """What is asked, the better answer and the worse one; of a single judged answer (KTO) one of them is None."""

    prompt: tuple[Turn, ...]
    chosen: Turn | None
    rejected: Turn | None


def preference_of(values: Mapping[str, Any]) -> Preference:
    """The preference of a record. Raises Refused with a reason for what is none."""
    judged = next((values[key] for key in ("label", "kto_tag") if isinstance(values.get(key), bool)), None)
    if "chosen" in values and "rejected" in values:
        prompt, chosen, rejected = _pair(values)
        if chosen.text.strip() == rejected.text.strip():
            raise Refused("chosen and rejected are the same", chosen.text)
        return _checked(prompt, chosen, rejected)
    if judged is None:
        raise Refused("no preference: none of chosen and rejected, label, kto_tag", ", ".join(map(str, values)))
    key = next((key for key in LISTS if values.get(key) is not None), None)
    turns = _prompt(values) if key else [*_prompt(values), *_answer(values, "completion")]
    if not turns:
        raise Refused("no turns")
    *prompt, answer = turns
    return _checked(prompt, answer if judged else None, None if judged else answer)


def _pair(values: Mapping[str, Any]) -> tuple[list[Turn], Turn, Turn]:
    """(prompt, better, worse) of a record that has both answers."""
    chosen, rejected = _answer(values, "chosen"), _answer(values, "rejected")
    prompt = [] if _holds_prompt(values, chosen) else _prompt(values)
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    if (len(chosen), len(rejected)) != (shared + 1, shared + 1):
        detail = f"{len(chosen)} and {len(rejected)} turns"
        raise Refused("chosen and rejected differ in more than the last turn", detail)
    return [*prompt, *chosen[:shared]], chosen[-1], rejected[-1]


def _holds_prompt(values: Mapping[str, Any], chosen: Sequence[Turn]) -> bool:
    """Whether the answers are whole conversations that begin with the prompt, as in UltraFeedback."""
    if len(chosen) < 2:
        return False
    asked, prompt = ([turn for turn in turns if turn.role != "system"] for turns in (chosen[:-1], _prompt(values)))
    return asked[: len(prompt)] == prompt


def _prompt(values: Mapping[str, Any]) -> list[Turn]:
    """What is asked, a system text first; nothing where the record has no field for it."""
    for key, name in LISTS.items():
        if values.get(key) is not None:
            return FORMATS[name].turns(values)
    if values.get("instruction") is not None:
        return FORMATS["alpaca"].turns({**values, "output": "an answer"})[:-1]
    system, prompt = values.get("system"), values.get("prompt")
    turns = [_said("system", system, "system")] if system else []
    if prompt is None:
        return turns
    return turns + (_messages(prompt) if isinstance(prompt, list) else [_said("user", prompt, "prompt")])


def _answer(values: Mapping[str, Any], key: str) -> list[Turn]:
    """What is answered: a text, a message or a list of messages."""
    value = values.get(key)
    if isinstance(value, dict):
        value = [value]
    return _messages(value) if isinstance(value, list) else [_said("assistant", value, key)]


def _messages(messages: Sequence[Any]) -> list[Turn]:
    if not messages:
        raise Refused("empty list of messages")
    by_speaker = isinstance(messages[0], dict) and "from" in messages[0]
    key = "conversations" if by_speaker else "messages"
    return FORMATS[LISTS[key]].turns({key: messages})


def _said(role: str, value: Any, key: str) -> Turn:
    if value is None:
        raise Refused(f"no {key}")
    if not isinstance(value, str):
        raise Refused(f"{key} is not a string", f"{type(value).__name__}: {value}")
    if not value.strip():
        raise Refused(f"empty {key}")
    return Turn(role, value)


def _checked(prompt: Sequence[Turn], chosen: Turn | None, rejected: Turn | None) -> Preference:
    def trimmed(turn: Turn) -> Turn:
        return Turn(turn.role, encodable(turn.text.strip()))

    for answer in (chosen, rejected):
        if answer is not None:
            check_order([*prompt, answer])
    better, worse = (None if answer is None else trimmed(answer) for answer in (chosen, rejected))
    return Preference(tuple(map(trimmed, prompt)), better, worse)
