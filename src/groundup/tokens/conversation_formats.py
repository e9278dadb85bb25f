"""One record -> its turns, or why it is no conversation, format by format.

    messages             {"messages": [{"role", "content"}, ...]}
    sharegpt             {"conversations": [{"from", "value"}, ...], "system"}
    alpaca               {"instruction", "input", "output", "system", "history"}; Dolly's context and response too
    prompt_completion    {"prompt", "completion" or "response", "system"}: texts, or lists of messages
    question_answer      {"question", "answer" or "response", "context", "system"}

To add a format: a function and a row of FORMATS. A record of preferences is none of these: it is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from groundup.tokens.conversation_messages import Rules, says_nothing, some_text, text_of, turns_of_messages
from groundup.tokens.record_reading import Refused
from groundup.tokens.template import TOOL, Turn

PREFERENCE_REMEDY = "list it under preferences.sources"
SYSTEM_KEYS = ("system", "system_prompt")


@dataclass(frozen=True)
class Format:
    """A record format. One with a key of each group of `needs` is of it; what is not read of it is metadata.

    Of each group of keys the first that a record has is read.
    """

    needs: tuple[tuple[str, ...], ...]
    may: tuple[tuple[str, ...], ...]
    turns: Callable[[Mapping[str, Any], Rules], list[Turn]]

    @property
    def marker(self) -> str:
        """The key by which a record is taken for one of this format, even if another key is missing."""
        return self.needs[0][0]

    def read(self, values: Mapping[str, Any]) -> frozenset[str]:
        """The keys of a record that are read."""
        return frozenset(first_of(values, *group) for group in (*self.needs, *self.may))

    def is_whole(self, values: Mapping[str, Any]) -> bool:
        """Whether a record has all that the format needs."""
        return all(any(values.get(key) is not None for key in group) for group in self.needs)


def system_turn(values: Mapping[str, Any]) -> list[Turn]:
    """The system turn that stands in a field of its own, if there is one."""
    text = some_text(values, first_of(values, *SYSTEM_KEYS))
    return [Turn("system", text)] if text.strip() else []


def first_of(values: Mapping[str, Any], *keys: str) -> str:
    """The first of `keys` that a record has; the first of all when it has none.

    One that is null is there only if no other is: tables have every column in every record.
    """
    there = [key for key in keys if key in values]
    return next((key for key in there if values[key] is not None), there[0] if there else keys[0])


def _turns_in_a_list(key: str) -> Callable[[Mapping[str, Any], Rules], list[Turn]]:
    def turns(values: Mapping[str, Any], rules: Rules) -> list[Turn]:
        return system_turn(values) + turns_of_messages(values[key], key, rules)

    return turns


def turns_of_alpaca(values: Mapping[str, Any], rules: Rules) -> list[Turn]:
    """The turns up to the output."""
    return [*prompt_of_alpaca(values), Turn("assistant", text_of(values, first_of(values, "output", "response")))]


def prompt_of_alpaca(values: Mapping[str, Any]) -> list[Turn]:
    """The user's text is the instruction and, on a new line, the input where there is one (as in LLaMA-Factory)."""
    turns, more = system_turn(values), some_text(values, first_of(values, "input", "context"))
    question = text_of(values, "instruction")
    for pair in _history(values.get("history")):
        turns += [Turn("user", pair[0]), Turn("assistant", pair[1])]
    return [*turns, Turn("user", f"{question}\n{more}" if more.strip() else question)]


def _history(value: Any) -> Sequence[Sequence[str]]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise Refused("history is not a list", type(value).__name__)
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(said, str) for said in pair):
            raise Refused("history is not of pairs of strings", pair)
        if any(says_nothing(said) for said in pair):
            raise Refused("empty turn in history", pair)
    return value


def _turns_of_prompt(values: Mapping[str, Any], rules: Rules) -> list[Turn]:
    key = first_of(values, "completion", "response")
    return [*prompt_turns(values, rules), *completion_turns(values, key, rules)]


def prompt_turns(values: Mapping[str, Any], rules: Rules) -> list[Turn]:
    """What is asked: a text of the user's, or a list of messages (trl); a system text before it."""
    prompt = values.get("prompt")
    if prompt == []:
        raise Refused("empty list of messages")
    asked = turns_of_messages(prompt, "prompt", rules) if isinstance(prompt, list) else None
    return system_turn(values) + ([Turn("user", text_of(values, "prompt"))] if asked is None else asked)


def completion_turns(values: Mapping[str, Any], key: str, rules: Rules) -> list[Turn]:
    """What is answered: a text of the assistant's, a list of messages (trl), or one message."""
    value = values.get(key)
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        return [Turn("assistant", text_of(values, key))]
    if not value:
        raise Refused("empty list of messages")
    return turns_of_messages(value, key, rules)


def _turns_of_question(values: Mapping[str, Any], rules: Rules) -> list[Turn]:
    """A context, where there is one, stands before its question, with an empty line between."""
    context, question = some_text(values, "context"), text_of(values, "question")
    asked = f"{context.strip()}\n\n{question}" if context.strip() else question
    answer = text_of(values, first_of(values, "answer", "response"))
    return [*system_turn(values), Turn("user", asked), Turn("assistant", answer)]


FORMATS: Mapping[str, Format] = {
    "messages": Format((("messages",),), (("tools",), SYSTEM_KEYS), _turns_in_a_list("messages")),
    "sharegpt": Format((("conversations",),), (("tools",), SYSTEM_KEYS), _turns_in_a_list("conversations")),
    "alpaca": Format(
        (("instruction",), ("output", "response")), (("input", "context"), ("history",), SYSTEM_KEYS), turns_of_alpaca
    ),
    "prompt_completion": Format((("prompt",), ("completion", "response")), (("tools",), SYSTEM_KEYS), _turns_of_prompt),
    "question_answer": Format((("question",), ("answer", "response")), (("context",), SYSTEM_KEYS), _turns_of_question),
}
MARKERS = tuple(known.marker for known in FORMATS.values())


def is_preference(values: Mapping[str, Any]) -> bool:
    """Whether a record says which answer is better, or whether one is good (KTO), rather than what to say."""
    if "chosen" in values and "rejected" in values and (values["chosen"], values["rejected"]) != (None, None):
        return True
    whole = any(known.is_whole(values) for known in FORMATS.values())
    judged = _is_verdict(values.get("kto_tag")) or (
        _is_verdict(values.get("label")) and FORMATS["prompt_completion"].is_whole(values)
    )
    return whole and judged


def _is_verdict(value: object) -> bool:
    """Whether a value is true or false, in a table as a text; a number may be any label."""
    return isinstance(value, bool) or (isinstance(value, str) and value.strip().lower() in ("true", "false"))


def recognised(values: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The format of a record by its keys, letter case aside if need be, and the record under these keys.

    Raises Refused for a record of preferences, and with the keys that are there when no format has them.
    """
    lowered = {str(key).strip().lower(): value for key, value in values.items()}
    spellings = (values, lowered) if len(lowered) == len(values) else (values,)
    for spelling in spellings:
        if is_preference(spelling):
            raise Refused(f"preference record: {PREFERENCE_REMEDY}", _found(values))
        whole = next((name for name, known in FORMATS.items() if known.is_whole(spelling)), None)
        begun = next((name for name, known in FORMATS.items() if known.marker in spelling), None)
        if name := whole or begun:
            return name, spelling
    raise Refused(f"unknown format: none of {', '.join(MARKERS)}", _found(values))


def require_marker(values: Mapping[str, Any], name: str) -> None:
    """Raise Refused when a record cannot be of the format `name`."""
    if FORMATS[name].marker not in values:
        raise Refused(f"no {FORMATS[name].marker}", _found(values))


def _found(values: Mapping[str, Any]) -> str:
    return f"found: {', '.join(str(key)[:20] for key in list(values)[:6])}"


def check_order(turns: Sequence[Turn]) -> None:
    """An optional system turn, then user and assistant in turn, the assistant last; else raises Refused.

    What tools answer stands between two turns of the assistant, several answers one after another.
    """
    roles = [turn.role for turn in turns]
    if "system" in roles[1:]:
        raise Refused("system turn not at the start")
    roles = roles[1:] if roles[:1] == ["system"] else roles
    if not roles:
        raise Refused("no turns")
    for before, after in pairwise(roles):
        if before == after != TOOL:
            raise Refused("two turns of one role in a row", before)
        if TOOL in (before, after) and "user" in (before, after):
            raise Refused("tool turn not between turns of the assistant")
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
