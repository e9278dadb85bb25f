"""A conversation longer than the context -> nothing, its beginning, or its first whole turns.

    drop        nothing
    truncate    up to the last target that fits
    cut_turns   up to the last answer that fits whole

Invariant: what is kept is the beginning of the conversation and ends with a target.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from groundup.tokens.template import Encoded, Turn

Overlong = Literal["drop", "truncate", "cut_turns"]


def trim(encoded: Encoded, context_length: int, overlong: Overlong) -> Encoded | None:
    """The part of a conversation that is trained on: up to its last target, at most `context_length` inputs.

    None when it is too long and `overlong` is "drop", or when what is left of it has no target. "cut_turns" ends it
    with the last answer that is whole.
    """
    last = _last_target(encoded.is_target)
    if last > context_length:
        if overlong == "drop":
            return None
        fitting = encoded.is_target[: context_length + 1]
        if overlong == "cut_turns" and fitting[-1] and encoded.is_target[context_length + 1]:
            fitting = fitting[: next((i for i in range(len(fitting), 0, -1) if not fitting[i - 1]), 0)]
        last = _last_target(fitting)
    return Encoded(encoded.ids[: last + 1], encoded.is_target[: last + 1]) if last > 0 else None


def count_answers(is_target: Sequence[bool]) -> int:
    """How many answers are learnt: runs of targets."""
    return sum(learnt and not before for before, learnt in pairwise([False, *is_target]))


def _last_target(is_target: Sequence[bool]) -> int:
    return next((i for i in range(len(is_target) - 1, -1, -1) if is_target[i]), -1)


def bounded_turns(turns: Sequence[Turn], context_length: int) -> Sequence[Turn]:
    """The first turns of a long conversation: more than fit, so that nothing else becomes of it."""
    if len(turns) <= context_length + 1:
        return turns
    last = next((i for i in range(context_length, -1, -1) if turns[i].role == "assistant"), len(turns) - 1)
    return turns[: last + 1]
