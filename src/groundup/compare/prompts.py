"""A file of prompts, or a run's held-out questions -> what both models are asked.

    {"prompt": ..., "reference": ...}    the reference may be missing; usual other names are known
    {"messages": [...]}                  a conversation; an answer at its end is the reference

Invariant: every record is a prompt or is counted with its reason; a prompt keeps the id that verdicts refer to.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.corpus.reading.files import find_files
from groundup.corpus.reading.readers import Reading
from groundup.corpus.reading.records import Row
from groundup.corpus.reading.sources import RecordSourceConfig
from groundup.errors import DataError, RecipeError, printable
from groundup.log import logger
from groundup.tokens import Conversation, Questions, Turn

PROMPT_KEYS = ("prompt", "question", "instruction")
REFERENCE_KEYS = ("reference", "answer", "completion", "output", "response")
QUESTIONS = Path("stages") / "questions"
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Prompt:
    """What is asked: turns of which the last is the user's; `reference`: the right answer, where one is known."""

    id: str
    turns: tuple[Turn, ...]
    reference: str | None

    @property
    def text(self) -> str:
        """The last question."""
        return self.turns[-1].text

    @property
    def conversation(self) -> Conversation:
        """As evaluation asks it."""
        return Conversation(self.id, (*self.turns, Turn("assistant", self.reference or "")), "compare")


def read_prompts(path: str) -> list[Prompt]:
    """The prompts of a file. Raises DataError when there is none in it."""
    keys = ("messages", *PROMPT_KEYS)
    source = RecordSourceConfig(name="prompts", path=path, known_keys=keys)
    found: list[Prompt] = []
    rejected: Counter[str] = Counter()
    for file in find_files(path, Path.cwd()).files:
        for row in Reading(file, source, Path(tempfile.gettempdir())).rows():
            fault = row.reason if not isinstance(row, Row) else ""
            try:
                if isinstance(row, Row):
                    found.append(_prompt(str(row.values.get("id", f"{file.name}:{row.number}")), row.values))
            except ValueError as error:
                fault = str(error)
            if fault:
                rejected[fault] += 1
    reasons = printable(", ".join(f"{reason} ({count})" for reason, count in rejected.most_common(3)))
    if not found:
        wanted = f"{reasons[:70] or 'it is empty'}; give JSON lines with prompt, or with messages"
        raise DataError(f"{path[-60:]}: no prompt in it: {wanted}")
    if rejected:
        logger.warning(f"{path}: {rejected.total()} records are no prompts: {reasons}")
    return found


def _prompt(id: str, values: Mapping[str, Any]) -> Prompt:
    """A record as a prompt; raises ValueError with the reason."""
    if "messages" in values:
        turns = _turns(values["messages"])
        reference = turns.pop().text if turns[-1].role == "assistant" else None
    else:
        turns = [Turn("user", _text(values, PROMPT_KEYS) or "")]
        reference = _text(values, REFERENCE_KEYS)
    if not turns or turns[-1].role != "user" or not turns[-1].text.strip():
        raise ValueError("nothing is asked")
    return Prompt(id, tuple(turns), reference)


def _turns(messages: Any) -> list[Turn]:
    if not isinstance(messages, list) or not messages:
        raise ValueError("messages is no list of messages")
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise ValueError("a message without a known role")
        if not isinstance(message.get("content"), str):
            raise ValueError("a message without text")
    return [Turn(message["role"], _valid(message["content"])) for message in messages]


def _text(values: Mapping[str, Any], names: Sequence[str]) -> str | None:
    for name in names:
        if isinstance(values.get(name), str):
            return _valid(values[name])
    return None


def _valid(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("lone surrogate (no character)") from None
    return text


def held_out(folder: Path) -> list[Prompt]:
    """The held-out questions of a run's folder. Raises RecipeError when it has none."""
    if not (folder / QUESTIONS).is_dir():
        raise RecipeError(f"{str(folder)[-80:]}: no held-out questions there; give --prompts FILE")
    questions = Questions((folder / QUESTIONS).resolve())
    return [Prompt(each.id, each.turns[:-1], each.turns[-1].text) for each in questions]


def spread(prompts: Sequence[Prompt], limit: int) -> Iterator[Prompt]:
    """At most `limit` of the prompts (0: all), evenly spread."""
    count = min(limit or len(prompts), len(prompts))
    return (prompts[place * len(prompts) // count] for place in range(count))
