"""The fields of a recipe -> a record with the keys that `preference_formats` knows.

    fields: {prompt: question, chosen: best, rejected: worst}        a pair under other names
    fields: {prompt: q, completion: reply, label: liked}             a judged answer (KTO)

Invariant: what the recipe names has to be there; a record without it is refused with the fields that it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import model_validator

from groundup.config import Config
from groundup.corpus.reading.sources import template_fields
from groundup.tokens.conversation_fields import value_of
from groundup.tokens.record_reading import Refused, truth_of

LABEL = "label"


class PreferenceFieldsConfig(Config):
    """Which fields of a record hold what is asked and answered; empty: found by the usual names."""

    prompt: str = ""
    """Field of what is asked: a text, a list of messages, or a text with fields in braces; none where the answers are
    whole conversations."""
    chosen: str = ""
    """Field of the better answer."""
    rejected: str = ""
    """Field of the worse answer."""
    completion: str = ""
    """Field of a single judged answer."""
    label: str = ""
    """Field that says whether it is good: true or 1, else false or 0; in a table the same as a text."""
    system: str = ""
    """Field of the system turn, or a text with fields in braces; a record where it is empty has none."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        for first, second in (("chosen", "rejected"), ("completion", LABEL)):
            if bool(getattr(self, first)) != bool(getattr(self, second)):
                raise ValueError(f"{first} and {second} go together; name both")
        if self.chosen and self.completion:
            raise ValueError("names either chosen and rejected, or completion and label")
        if self.completion and not self.prompt:
            raise ValueError("a judged answer needs its prompt; name it as well")
        if (self.prompt or self.system) and not (self.chosen or self.completion):
            raise ValueError("name chosen and rejected, or completion and label, as well")
        return self

    @property
    def named(self) -> dict[str, str]:
        """Usual name -> field, of those that the recipe names."""
        return {name: text for name, text in self.model_dump().items() if text}

    @property
    def outer(self) -> tuple[str, ...]:
        """The fields that are read, those inside others by the outermost."""
        inner = [name for text in self.named.values() for name in (template_fields(text) if "{" in text else [text])]
        return tuple(dict.fromkeys([*inner, *(name.partition(".")[0] for name in inner)]))


def mapped(values: Mapping[str, Any], fields: PreferenceFieldsConfig) -> Mapping[str, Any]:
    """The record as `fields` says; as it stands where they say nothing. Raises Refused when one is not there."""
    named = fields.named
    if not named:
        return values
    found = {name: value_of(values, text, optional=name == "system") for name, text in named.items()}
    if LABEL in found:
        found[LABEL] = _judged(found[LABEL])
    return found


def _judged(value: Any) -> bool:
    found = truth_of(value)
    if found is None:
        raise Refused("label is neither true nor false", value)
    return found
