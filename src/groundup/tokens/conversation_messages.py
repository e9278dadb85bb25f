"""A list of messages -> turns, whoever named its keys and speakers: OpenAI, ShareGPT, or the recipe.

    {"role": "user", "content": "..."}   {"from": "human", "value": "..."}

Turns of tools are refused by name, or kept as text: a call is what the assistant says, as a line of JSON for each
call; an answer is a turn of the role `tool`.

Invariant: a key that would be ignored refuses the record, unless its value is empty.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from groundup.tokens.record_reading import Refused
from groundup.tokens.template import TOOL, Turn

SPEAKERS: Mapping[str, Mapping[str, str]] = {
    "role": {"system": "system", "user": "user", "assistant": "assistant", "tool": TOOL, "function": TOOL},
    "from": {
        "system": "system",
        "human": "user",
        "user": "user",
        "gpt": "assistant",
        "assistant": "assistant",
        "function_call": "assistant",
        "observation": TOOL,
        "tool": TOOL,
    },
}
"""Key of the speaker -> who speaks, and the role that it is."""
_CALLERS = frozenset({"function_call"})
"""Speakers of ShareGPT whose text is a call."""
_BESIDE_TOOLS = frozenset({"tool_calls", "tool_call_id", "name"})
"""Keys of messages that only say which call an answer belongs to, or hold the calls."""
_UNSEEN = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})
"""Categories of Unicode of which nothing is to be seen."""
TOOLS_REFUSED = "tool turns (set tools: keep to train on them)"
UNKNOWN_ROLE, ROLES_REMEDY = "unknown role", " (say whose it is by roles: {NAME: user})"


@dataclass(frozen=True)
class Rules:
    """How a source's records are to be read."""

    roles: Mapping[str, str] | None = None
    """Names of speakers beside the usual ones, and the role that each is; None: the recipe has no place for them."""
    keep_tools: bool = False
    """Whether turns of tools are kept."""


def some_text(values: Mapping[str, Any], key: str) -> str:
    """A string field as it stands; "" when it is missing or null."""
    value = values.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Refused(f"{key} is not a string", f"{type(value).__name__}: {value}")
    return value


def text_of(values: Mapping[str, Any], key: str) -> str:
    """A string field that must be there and say something."""
    if values.get(key) is None:
        raise Refused(f"no {key}", f"found: {', '.join(map(str, values))}")
    value = some_text(values, key)
    if says_nothing(value):
        raise Refused(f"empty {key}")
    return value


def says_nothing(text: str) -> bool:
    """Whether a text has nothing to be seen: white space, or zero-width and control characters."""
    return all(unicodedata.category(character) in _UNSEEN for character in text)


def turns_of_messages(messages: Any, key: str, rules: Rules) -> list[Turn]:
    """The turns of a list of messages that stands under `key`. Raises Refused."""
    if not isinstance(messages, list):
        raise Refused(f"{key} is not a list", type(messages).__name__)
    return [_turn(message, rules) for message in messages]


def _turn(message: Any, rules: Rules) -> Turn:
    if not isinstance(message, dict):
        raise Refused("message is not an object", message)
    who, what = ("from", "value") if "from" in message else ("role", "content")
    speaker = message.get(who)
    role = {**SPEAKERS[who], **(rules.roles or {})}.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        raise Refused(UNKNOWN_ROLE if rules.roles is None else UNKNOWN_ROLE + ROLES_REMEDY, speaker)
    calls = message.get("tool_calls") or None
    if (role == TOOL or calls or speaker in _CALLERS) and not rules.keep_tools:
        raise Refused(TOOLS_REFUSED, speaker)
    known = {who, what} | (_BESIDE_TOOLS if role == TOOL or calls else frozenset())
    ignored = sorted(str(name) for name in message.keys() - known if message[name] not in (None, "", [], {}))
    if ignored:
        raise Refused("message with keys that would be ignored", ignored)
    if calls:
        said = _text_of_content(message, what) if message.get(what) else ""
        return Turn(role, "\n".join([said, *_calls(calls)] if said.strip() else _calls(calls)))
    return Turn(role, _text_of_content(message, what))


def _text_of_content(message: Mapping[str, Any], what: str) -> str:
    """A text, or OpenAI's list that holds one text."""
    content = message.get(what)
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
        (part,) = content
        if part.get("type") == "text" and part.keys() == {"type", "text"}:
            return text_of({what: part["text"]}, what)
    return text_of(message, what)


def _calls(calls: Any) -> list[str]:
    """A line of JSON for each call: {"name": ..., "arguments": {...}}."""
    if not isinstance(calls, list):
        raise Refused("tool_calls is not a list", type(calls).__name__)
    lines = []
    for call in calls:
        function = call.get("function", call) if isinstance(call, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(name, str) or not name:
            raise Refused("tool call without a name", call)
        arguments = function.get("arguments") or {}
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except (ValueError, RecursionError):
                raise Refused("arguments of a tool call are no JSON", arguments) from None
        lines.append(json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False, default=str))
    return lines


def definitions_of(values: Mapping[str, Any], rules: Rules) -> list[str]:
    """The tools that a record offers, a line of JSON each; none where it offers none. Raises Refused."""
    tools = values.get("tools")
    if isinstance(tools, str):
        try:
            tools = json.loads(tools) if tools.strip() else None
        except (ValueError, RecursionError):
            raise Refused("tools are no JSON", tools) from None
    if not tools:
        return []
    if not isinstance(tools, list):
        raise Refused("tools are no list", type(tools).__name__)
    if not rules.keep_tools:
        raise Refused(TOOLS_REFUSED, "it offers tools")
    return [json.dumps(tool, ensure_ascii=False, default=str) for tool in tools]


def with_definitions(turns: list[Turn], tools: list[str]) -> list[Turn]:
    """The system turn says behind its text which tools there are; one is made where there is none."""
    if not tools:
        return turns
    system = turns[0].text if turns and turns[0].role == "system" else ""
    text = "\n".join([*([system.rstrip(), ""] if system else []), *tools])
    return [Turn("system", text), *(turns[1:] if system else turns)]
