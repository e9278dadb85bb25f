"""The fields of a recipe -> a record with the keys that `conversation_formats` knows.

    fields: {messages: dialog, role: speaker, content: text}         a list of messages under other names
    fields: {prompt: question, completion: answer, system: rules}    texts in fields of their own
    fields: {prompt: "Translate into English: {zh}", completion: en} a text made of several fields

Invariant: what the recipe names has to be there; a record without it is refused with the fields that it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

from pydantic import field_validator, model_validator

from groundup.config import Config
from groundup.corpus.reading.sources import TEMPLATE_PARTS, template_fields
from groundup.tokens.record_reading import Refused

_SHOWN = 12


class ConversationFieldsConfig(Config):
    """Which fields of a record hold what is said; empty: found by the usual names."""

    prompt: str = ""
    """Field of what the user says (`meta.question` is a field inside a field), or a text with fields in braces."""
    completion: str = ""
    """Field of what the assistant says, or a text with fields in braces."""
    system: str = ""
    """Field of the system turn, or a text with fields in braces; a record where it is empty has none."""
    messages: str = ""
    """Field of a list of messages, instead of `prompt` and `completion`."""
    role: str = ""
    """Key of the speaker in a message, where it is not `role` or `from`."""
    content: str = ""
    """Key of the text in a message, where it is not `content` or `value`."""

    @field_validator("prompt", "completion", "system")
    @classmethod
    def _plain(cls, text: str) -> str:
        if "{" in text or "}" in text:
            template_fields(text)
        return text

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.messages and (self.prompt or self.completion):
            raise ValueError("names either messages, or prompt and completion")
        if bool(self.prompt) != bool(self.completion):
            raise ValueError("prompt and completion go together; name both")
        if bool(self.role) != bool(self.content):
            raise ValueError("role and content go together; name both")
        if (self.system or self.role) and not (self.messages or self.prompt):
            raise ValueError("name messages, or prompt and completion, as well")
        return self

    @property
    def format(self) -> str:
        """The format of the records that `mapped` gives; "" when nothing is mapped."""
        return "messages" if self.messages else "prompt_completion" if self.prompt else ""

    @property
    def outer(self) -> tuple[str, ...]:
        """The fields that are read, those inside others by the outermost."""
        texts = (self.prompt, self.completion, self.system)
        inner = [name for text in texts if text for name in ([text] if "{" not in text else template_fields(text))]
        named = [*inner, *([self.messages] if self.messages else [])]
        return tuple(dict.fromkeys([*named, *(name.partition(".")[0] for name in named)]))


class Mapped(NamedTuple):
    """A record under the usual keys, and which of its fields were read."""

    values: Mapping[str, Any]
    keys: frozenset[str]


def mapped(values: Mapping[str, Any], fields: ConversationFieldsConfig) -> Mapped:
    """The record as `fields` says. Raises Refused when one of them is not there, with those that are."""
    system = {"system": value_of(values, fields.system, optional=True)} if fields.system else {}
    tools = {"tools": values["tools"]} if "tools" in values else {}
    keys = frozenset(fields.outer) | tools.keys()
    if fields.messages:
        messages = _field(values, fields.messages)
        if fields.role and isinstance(messages, list):
            messages = [_renamed(message, fields) for message in messages]
        return Mapped({"messages": messages, **system, **tools}, keys)
    asked = {"prompt": value_of(values, fields.prompt), "completion": value_of(values, fields.completion)}
    return Mapped({**asked, **system, **tools}, keys)


def _renamed(message: Any, fields: ConversationFieldsConfig) -> Any:
    if not isinstance(message, dict):
        return message
    names = {fields.role: "role", fields.content: "content"}
    return {names.get(key, key): value for key, value in message.items()}


def value_of(values: Mapping[str, Any], text: str, optional: bool = False) -> Any:
    """The value of a field as it stands, or a text with fields filled in (null is nothing, numbers are written out).

    Raises Refused when a field is not there (optional ones are None).
    """
    if "{" not in text:
        return _field(values, text, optional)
    filled: dict[str, str] = {}
    for name in template_fields(text):
        value = _field(values, name, optional)
        if isinstance(value, dict | list | bytes):
            raise Refused(f"field '{name}' is not a text", f"it is a {type(value).__name__}")
        filled[name] = "" if value is None else str(value)
    if not any(each.strip() for each in filled.values()):
        return ""
    return TEMPLATE_PARTS.sub(lambda part: part[0][0] if part[1] is None else filled[part[1]], text)


def _field(values: Mapping[str, Any], name: str, optional: bool = False) -> Any:
    """A field, or a field inside fields. Raises Refused when it is not there (of optional ones: None)."""
    if name in values:
        return values[name]
    value: Any = values
    for step in name.split("."):
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif optional:
            return None
        else:
            raise Refused(f"no field '{name}'", found(values))
    return value


def found(names: Iterable[object]) -> str:
    """The fields that are there, for a message."""
    listed = [str(name)[:20] for name in names]
    return f"found: {', '.join(listed[:_SHOWN]) or 'none'}{', ...' if len(listed) > _SHOWN else ''}"
