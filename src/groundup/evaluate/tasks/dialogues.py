"""A list of messages in a record -> what is asked, with what was said before.

Invariant: the messages are those of a conversation that waits for its next answer: a system turn or none, then user and
assistant in turn, the user last; anything else is refused, never repaired.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from groundup.evaluate.tasks.refused import Refused
from groundup.evaluate.tasks.templates import as_text

Pairs = tuple[tuple[str, str], ...]


def conversation(messages: Sequence[Any]) -> tuple[str, Pairs, str]:
    """(system turn or "", earlier pairs of question and answer, the question now). Raises Refused."""
    turns = [_turn(message) for message in messages]
    system = turns.pop(0)[1] if turns and turns[0][0] == "system" else ""
    roles = [role for role, _ in turns]
    if roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
        raise Refused("messages are not a question with its history", f"roles: {', '.join(roles)[:60] or 'none'}")
    texts = [text for _, text in turns]
    return system, tuple(zip(texts[0:-1:2], texts[1::2])), texts[-1]


def _turn(message: Any) -> tuple[str, str]:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise Refused("a message without role", str(message)[:40])
    return message["role"], as_text(message.get("content"), "content")
