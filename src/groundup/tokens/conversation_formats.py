"""One record -> its turns, or why it is no conversation, format by format.

To add a format: a function and a row of FORMATS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from groundup.tokens.template import ROLES, Turn


class Refused(Exception):
    """A record that is no conversation: `reason` is counted, `detail` shown."""

    def __init__(self, reason: str, detail: object = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, str(detail)[:80]


@dataclass(frozen=True)
class Format:
    """A record format: a record that has `marker` is of it; `keys` are read, all others are metadata."""

    marker: str
    keys: frozenset[str]
    turns: Callable[[Mapping[str, Any]], list[Turn]]


def _text(values: Mapping[str, Any], key: str, required: bool = True) -> str:
    """A string field as it stands; "" when it may be missing and is."""
    value = values.get(key)
    if value is None and not required:
        return ""
    if value is None:
        raise Refused(f"no {key}", f"found: {', '.join(map(str, values))}")
    if not isinstance(value, str):
        raise Refused(f"{key} is not a string", f"{type(value).__name__}: {value}")
    if required and not value.strip():
        raise Refused(f"empty {key}")
    return value


def _turns_of_messages(values: Mapping[str, Any]) -> list[Turn]:
    roles = {role: role for role in ROLES}
    return [_turn(message, "role", "content", roles) for message in _messages(values, "messages")]


def _turns_of_sharegpt(values: Mapping[str, Any]) -> list[Turn]:
    """Turns with `from` and `value`; a `system` beside them comes first."""
    system = _text(values, "system", required=False)
    turns = [Turn("system", system)] if system.strip() else []
    return turns + [_turn(message, "from", "value", _SPEAKERS) for message in _messages(values, "conversations")]


_SPEAKERS = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
"""Who speaks in ShareGPT's form, and the role that it is."""


def _messages(values: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    messages = values[key]
    if not isinstance(messages, list):
        raise Refused(f"{key} is not a list", type(messages).__name__)
    for message in messages:
        if not isinstance(message, dict):
            raise Refused("message is not an object", message)
    return messages


def _turn(message: Mapping[str, Any], who: str, what: str, roles: Mapping[str, str]) -> Turn:
    speaker = message.get(who)
    if not isinstance(speaker, str) or speaker not in roles:
        raise Refused("unknown role", speaker)
    if message.keys() - {who, what}:
        raise Refused("message with keys that would be ignored", sorted(message.keys() - {who, what}))
    return Turn(roles[speaker], _text(message, what))


def _turns_of_alpaca(values: Mapping[str, Any]) -> list[Turn]:
    """The user's text is the instruction and, on a new line, the input where there is one (as in LLaMA-Factory)."""
    system, more = _text(values, "system", required=False), _text(values, "input", required=False)
    question = _text(values, "instruction")
    turns = [Turn("system", system)] if system.strip() else []
    for pair in _history(values.get("history")):
        turns += [Turn("user", pair[0]), Turn("assistant", pair[1])]
    turns.append(Turn("user", f"{question}\n{more}" if more.strip() else question))
    turns.append(Turn("assistant", _text(values, "output")))
    return turns


def _history(value: Any) -> Sequence[Sequence[str]]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise Refused("history is not a list", type(value).__name__)
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(said, str) for said in pair):
            raise Refused("history is not of pairs of strings", pair)
        if not all(said.strip() for said in pair):
            raise Refused("empty turn in history", pair)
    return value


FORMATS: Mapping[str, Format] = {
    "messages": Format("messages", frozenset({"messages"}), _turns_of_messages),
    "sharegpt": Format("conversations", frozenset({"conversations", "system"}), _turns_of_sharegpt),
    "alpaca": Format(
        "instruction", frozenset({"instruction", "input", "output", "system", "history"}), _turns_of_alpaca
    ),
}


def check_order(turns: Sequence[Turn]) -> None:
    """An optional system turn, then user and assistant in turn, the assistant last; else raises Refused."""
    roles = [turn.role for turn in turns]
    if "system" in roles[1:]:
        raise Refused("system turn not at the start")
    roles = roles[1:] if roles[:1] == ["system"] else roles
    if not roles:
        raise Refused("no turns")
    if any(a == b for a, b in pairwise(roles)):
        raise Refused("two turns of one role in a row")
    if roles[0] != "user":
        raise Refused("does not begin with the user")
    if roles[-1] != "assistant":
        raise Refused("does not end with the assistant")


def encodable(text: str) -> str:
    """The text itself; raises Refused where it has half a character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Refused("lone surrogate (not a character)", f"at character {error.start}") from None
    return text
