"""Conversations -> token ids with the part to be learnt marked: one chat template from training to serving.

A tokenizer has one `ChatTemplate`: our own, which is described here, or the one in Jinja that it came with
(`jinja_template`). Whoever encodes a conversation or asks for an answer goes through the functions of this module.

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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple, Protocol

from groundup.errors import DataError, printable

ROLES = ("system", "user", "assistant")
TOOL = "tool"
"""The role of what a tool answers, which only recipes that ask for it have."""
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|' + message['role'] + '|> ' + (message['content'] | trim) + '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|assistant|>' -}}
{%- endif -%}
"""

_GREEN, _DIM, _RESET = "\x1b[32m", "\x1b[2m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Turn:
    """What one role says. Surrounding white space of `text` is not part of the turn."""

    role: str
    text: str

    def __post_init__(self) -> None:
        """Raises DataError for a role that no template knows."""
        if self.role not in (*ROLES, TOOL):
            raise DataError(f"role {str(self.role)[:40]!r} is unknown; use one of {', '.join(ROLES)}")


class Encoded(NamedTuple):
    """Token ids of a conversation, and for each whether the model is to predict it."""

    ids: list[int]
    is_target: list[bool]


class Unfit(NamedTuple):
    """Why a template cannot say a conversation: `reason` is counted, `detail` shown."""

    reason: str
    detail: str = ""


class Codec(Protocol):
    """What a template needs of a tokenizer."""

    @property
    def template(self) -> ChatTemplate:
        """How conversations become ids."""

    role_ids: Mapping[str, int]
    control: Mapping[str, int]
    """Ids of the control tokens by their names."""

    @property
    def turn_end_id(self) -> int:
        """What ends an answer."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of plain texts; never a control token."""

    def decode(self, ids: Sequence[int], skip_control: bool = True) -> str:
        """Text of ids."""


class ChatTemplate(Protocol):
    """How turns become ids. Every answer's ids stand behind just the ids that ask for it."""

    @property
    def text(self) -> str:
        """The template as Jinja text, as it is stored with the tokenizer."""

    def examples(self, codec: Codec, conversations: Sequence[Sequence[Turn]]) -> list[list[Encoded] | Unfit]:
        """What to train on for each: one example; several where an answer needs one of its own."""

    def prompt(self, codec: Codec, turns: Sequence[Turn]) -> list[int]:
        """Ids that ask for the assistant's turn after `turns`. Raises DataError for turns that it cannot say."""

    def turn_end_id(self, codec: Codec) -> int:
        """The control token that ends an answer. Raises ModelFileError when the template has none."""

    def lead(self, codec: Codec) -> str:
        """What a model says before the text of its answer."""


class OwnTemplate:
    """`CHAT_TEMPLATE`, without running it."""

    text = CHAT_TEMPLATE

    def examples(self, codec: Codec, conversations: Sequence[Sequence[Turn]]) -> list[list[Encoded] | Unfit]:
        """One example each, checked with `check_targets`; Unfit for roles that the tokenizer has no token for."""
        unknown = [{turn.role for turn in turns} - codec.role_ids.keys() for turns in conversations]
        said = (turns for turns, missing in zip(conversations, unknown) if not missing)
        texts = iter(codec.encode_batch([said_as(turn) for turns in said for turn in turns]))
        found: list[list[Encoded] | Unfit] = []
        for turns, missing in zip(conversations, unknown):
            if missing:
                found.append(Unfit(f"no token for the role {min(missing)}; make the tokenizer with this recipe"))
                continue
            ids: list[int] = []
            is_target: list[bool] = []
            for turn in turns:
                spoken = [*next(texts), codec.turn_end_id]
                ids += [codec.role_ids[turn.role], *spoken]
                is_target += [False] + [turn.role == "assistant"] * len(spoken)
            encoded = Encoded(ids, is_target)
            check_targets(codec, turns, encoded)
            found.append([encoded])
        return found

    def prompt(self, codec: Codec, turns: Sequence[Turn]) -> list[int]:
        """The conversation so far, then `<|assistant|>`."""
        so_far = encode_conversation(codec, turns).ids if turns else []
        return [*so_far, codec.role_ids["assistant"]]

    def turn_end_id(self, codec: Codec) -> int:
        """`<|end|>`."""
        return codec.turn_end_id

    def lead(self, codec: Codec) -> str:
        """One space."""
        return " "


def turns_from_messages(messages: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """`[{"role": ..., "content": ...}]` -> turns. Raises DataError that names the message that is none."""
    turns = []
    for number, message in enumerate(messages, start=1):
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise DataError(f"message {number}: role {str(role)[:40]!r} is unknown; use one of {', '.join(ROLES)}")
        if not isinstance(content, str):
            raise DataError(f"message {number}: content is a {type(content).__name__}; give a string")
        turns.append(Turn(str(role), content.strip()))
    return turns


def encode_conversation(tokenizer: Codec, turns: Sequence[Turn]) -> Encoded:
    """Ids and target marks of one conversation; the ids equal those of the stored Jinja template."""
    return encode_conversations(tokenizer, [turns])[0]


def encode_conversations(tokenizer: Codec, conversations: Sequence[Sequence[Turn]]) -> list[Encoded]:
    """As `encode_conversation`, for many at once on all cores: the first example of each.

    Raises DataError for a conversation that the tokenizer's template cannot say; `encode_examples` says which are.
    """
    encoded = []
    for number, found in enumerate(encode_examples(tokenizer, conversations), start=1):
        if isinstance(found, Unfit):
            raise DataError(f"conversation {number}: {found.reason[:120]}; leave it out, or use another template")
        encoded.append(found[0])
    return encoded


def encode_examples(tokenizer: Codec, conversations: Sequence[Sequence[Turn]]) -> list[list[Encoded] | Unfit]:
    """The examples to train on of each conversation, in which every answer is learnt once, or why there are none."""
    return tokenizer.template.examples(tokenizer, conversations)


def prompt_ids(tokenizer: Codec, turns: Sequence[Turn]) -> list[int]:
    """Ids that ask for the next assistant turn: the conversation so far, then what begins an answer."""
    return tokenizer.template.prompt(tokenizer, turns)


def without_lead(pieces: Iterator[str], lead: str) -> Iterator[str]:
    """An answer piece by piece, without what a model says before it (see `ChatTemplate.lead`)."""
    held: str | None = ""
    for piece in pieces:
        if held is None:
            yield piece
            continue
        held += piece
        if lead.startswith(held) and held != lead:
            continue  # it may still become the lead
        if rest := held.removeprefix(lead):
            yield rest
        held = None
    if held:
        yield held


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
