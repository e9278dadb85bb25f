"""Conversations -> token ids with the part to be learnt marked: the one ChatML-like template, used everywhere.

    <|user|> {text}<|end|><|assistant|> {text}<|end|>
                                       ~~~~~~~~~~~~~ targets: the assistant's text and its end

As in ChatML every turn has a header and an end; the header is one token, because it is paid for in every turn. The text
follows after one space, because the vocabulary knows words as they stand in running text: " Paris" is one token that
pretraining has met, "Paris" at the start of a line is several that it has not (measured: docs/experiments.md).

The same template is stored as Jinja text with the tokenizer; for text without control strings both give the same ids.
A turn's text is its content without surrounding white space (as in Llama 3's template).

Invariant: control tokens are put in by id around turns whose text is encoded as plain text, so no text can forge a
turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple, Protocol

from groundup.errors import DataError, printable

ROLES = ("system", "user", "assistant")
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|' + message['role'] + '|> ' + (message['content'] | trim) + '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|assistant|>' -}}
{%- endif -%}
"""

_GREEN, _DIM, _RESET = "\x1b[32m", "\x1b[2m", "\x1b[0m"


class Codec(Protocol):
    """What the template needs of a tokenizer."""

    role_ids: Mapping[str, int]
    turn_end_id: int

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of plain texts; never a control token."""

    def decode(self, ids: Sequence[int], skip_control: bool = True) -> str:
        """Text of ids."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one role says. Surrounding white space of `text` is not part of the turn."""

    role: str
    text: str

    def __post_init__(self) -> None:
        """Raises DataError for a role that the template does not know."""
        if self.role not in ROLES:
            raise DataError(f"role {str(self.role)[:40]!r} is unknown; use one of {', '.join(ROLES)}")


class Encoded(NamedTuple):
    """Token ids of a conversation, and for each whether the model is to predict it."""

    ids: list[int]
    is_target: list[bool]


def turns_from_messages(messages: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """`[{"role": ..., "content": ...}]` -> turns. Raises DataError that names the message that is none."""
    turns = []
    for number, message in enumerate(messages, start=1):
        role, content = message.get("role"), message.get("content")
        if not isinstance(content, str):
            raise DataError(f"message {number}: content is a {type(content).__name__}; give a string")
        turns.append(Turn(str(role), content.strip()))
    return turns


def encode_conversation(tokenizer: Codec, turns: Sequence[Turn]) -> Encoded:
    """Ids and target marks of one conversation; the ids equal those of the stored Jinja template."""
    return encode_conversations(tokenizer, [turns])[0]


def encode_conversations(tokenizer: Codec, conversations: Sequence[Sequence[Turn]]) -> list[Encoded]:
    """As `encode_conversation`, for many at once on all cores. Each is checked with `check_targets`."""
    texts = iter(tokenizer.encode_batch([said_as(turn) for turns in conversations for turn in turns]))
    encoded = []
    for turns in conversations:
        ids: list[int] = []
        is_target: list[bool] = []
        for turn in turns:
            said = [*next(texts), tokenizer.turn_end_id]
            ids += [tokenizer.role_ids[turn.role], *said]
            is_target += [False] + [turn.role == "assistant"] * len(said)
        encoded.append(Encoded(ids, is_target))
        check_targets(tokenizer, turns, encoded[-1])
    return encoded


def prompt_ids(tokenizer: Codec, turns: Sequence[Turn]) -> list[int]:
    """Ids that ask for the next assistant turn: the conversation so far, then `<|assistant|>`."""
    so_far = encode_conversation(tokenizer, turns).ids if turns else []
    return [*so_far, tokenizer.role_ids["assistant"]]


def said_as(turn: Turn) -> str:
    """A turn's text as it stands behind its header: after one space."""
    return f" {turn.text.strip()}"


def target_spans(encoded: Encoded) -> list[list[int]]:
    """Runs of consecutive target ids, in order: one per assistant turn."""
    pairs = zip(encoded.ids, encoded.is_target)
    return [[i for i, _ in run] for learnt, run in groupby(pairs, key=lambda pair: pair[1]) if learnt]


def check_targets(tokenizer: Codec, turns: Sequence[Turn], encoded: Encoded) -> None:
    """Decode what is to be learnt and compare it with the assistant's turns; raises DataError unless they are equal."""
    said = [said_as(turn) for turn in turns if turn.role == "assistant"]
    spans = target_spans(encoded)
    decoded = [tokenizer.decode(span[:-1], skip_control=False) for span in spans]
    if decoded != said or any(span[-1] != tokenizer.turn_end_id for span in spans):
        raise DataError(
            f"targets do not decode to the assistant's {len(said)} turns (got {printable(str(decoded))[:60]}); "
            "the tokenizer does not fit this template"
        )


def coloured_preview(tokenizer: Codec, ids: Sequence[int], is_target: Sequence[bool], colour: bool = True) -> str:
    """One masked example for people: targets green on a terminal, or between `[[` and `]]` without colour.

    Everything that comes from data is escaped, so text cannot steer the terminal.
    """
    before, after = (_GREEN, _RESET) if colour else ("[[", "]]")
    dim, undim = (_DIM, _RESET) if colour else ("", "")
    shown = []
    for learnt, run in groupby(zip(ids, is_target), key=lambda pair: bool(pair[1])):
        text = printable(tokenizer.decode([i for i, _ in run], skip_control=False))
        shown.append(f"{before}{text}{after}" if learnt else f"{dim}{text}{undim}")
    return "".join(shown)
