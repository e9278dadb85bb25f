"""A sequence of roles -> how a chat template renders it: where texts stand, which control tokens, what is learnt.

    roles --marks nobody can guess in place of texts--> rendering, and those that ask for and end each answer
    rendering --cut at the marks and at control tokens--> Layout

Invariant: every character of the rendering is the template's own, of a control token, or of a turn's text.
"""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from groundup.tokens.template import Codec, Unfit
from groundup.tokens.template_process import Failed, Outline, Renderer

CHANGED = "the template changes what is said"
NOT_LEARNT = -1
"""In place of the number of an answer: the model is not to say it."""


@dataclass(frozen=True)
class Run:
    """Text that is encoded as one piece: the template's own, and numbers of the turns whose text stands there."""

    parts: tuple[str | int, ...]
    answer: int = NOT_LEARNT
    """The turn that it belongs to, if it is learnt."""
    ids: tuple[int, ...] | None = None
    """Its ids, where it is the template's own text only."""


@dataclass(frozen=True)
class Control:
    """A control token."""

    id: int
    answer: int = NOT_LEARNT


@dataclass(frozen=True)
class Layout:
    """How the turns of one sequence of roles become ids."""

    items: tuple[Run | Control, ...]
    parts: tuple[str | int, ...]
    """The rendering: the template's own text, and numbers of turns."""
    learnt: frozenset[int]
    """Turns of the assistant that are targets."""
    lead: str = ""
    stop: int = NOT_LEARNT
    """What stands between the prompt and the text of the last answer that is learnt, and what ends it."""
    others: tuple[int, ...] = ()
    fault: str = ""
    """Turns of the assistant that are only read, and are to be learnt elsewhere; and why the last of them is."""

    def text(self, said: Sequence[str]) -> str:
        """The rendering of turns that say `said`."""
        return "".join(part if isinstance(part, str) else said[part] for part in self.parts)


class _Answer(NamedTuple):
    """Where in a rendering an answer is asked for, and where the control token stands that ends it."""

    asked: int
    stop: int


def lay_out(renderer: Renderer, codec: Codec, roles: tuple[str, ...], asking: bool) -> Layout | Unfit:
    """Render marks in place of texts, with and without what asks for each answer, and cut the rendering at them."""
    nonce = secrets.token_hex(8)
    messages = [{"role": role, "content": f"q{nonce}n{number}z"} for number, role in enumerate(roles)]
    answers = [number for number, role in enumerate(roles) if role == "assistant"]
    outline = renderer.outline(messages, asking, answers)
    if isinstance(outline, Failed):
        return Unfit(f"the template: {outline.reason}")
    whole = outline.text
    slots = [(m.start(), m.end(), int(m[1])) for m in re.finditer(rf"q{nonce}n(\d+)z", whole)]
    if nonce in re.sub(rf"q{nonce}n\d+z", "", whole):
        return Unfit(CHANGED)
    counts = Counter(slot[2] for slot in slots)
    for number, role in enumerate(roles):
        if not counts[number]:
            return Unfit(f"the template leaves out the {role} turn")
        if role == "assistant" and counts[number] > 1:
            return Unfit("the template says an answer twice")
    names = re.compile("|".join(re.escape(name) for name in sorted(codec.control, key=len, reverse=True)))
    found: dict[int, _Answer] = {}
    fault = ""
    places = {slot[2]: place for place, slot in enumerate(slots)}
    for number, asked, ended in zip(answers, outline.asked, outline.ended):
        answer = _answer(outline, slots, places[number], (asked, ended), names)
        if isinstance(answer, str):
            fault = answer
        else:
            found[number] = answer
    layout = _cut(codec, whole, slots, found, names)
    return replace(layout, others=tuple(n for n in answers if n not in found), fault=fault)


def _answer(
    outline: Outline,
    slots: Sequence[tuple[int, int, int]],
    place: int,
    apart: tuple[int, int],
    names: re.Pattern[str],
) -> _Answer | str:
    """Where the answer in slot `place` is asked for and ended, or why it cannot be learnt in this rendering.

    `apart`: how long what asks for it is, and how much of the rendering up to it stands here too.
    """
    whole, (start, end, _), (asked, ended) = outline.text, slots[place], apart
    before = slots[place - 1][1] if place else 0
    behind = slots[place + 1][0] if place + 1 < len(slots) else len(whole)
    if not before <= asked <= start:
        return "an answer does not begin where the template asks for it"
    if outline.blocks and not any(first <= start and end <= last for first, last in outline.blocks):
        return "an answer stands outside of generation blocks"
    stop = names.search(whole, end, behind)
    if stop is None or whole[end : stop.start()].strip():
        return "no control token ends an answer"
    if ended < stop.end():
        return "the template renders an answer otherwise later on"
    return _Answer(asked, stop.start())


def _cut(
    codec: Codec,
    whole: str,
    slots: Sequence[tuple[int, int, int]],
    answers: Mapping[int, _Answer],
    names: re.Pattern[str],
) -> Layout:
    """The rendering as runs of text and control tokens."""
    begins = {answer.asked: number for number, answer in answers.items()}
    stops = {answer.stop: number for number, answer in answers.items()}
    items: list[Run | Control] = []
    run: list[str | int] = []
    parts: list[str | int] = []
    learning = NOT_LEARNT

    def flush() -> None:
        if run:
            items.append(Run(tuple(run), learning))
            run.clear()

    at = 0
    for start, end, number in [*slots, (len(whole), len(whole), NOT_LEARNT)]:
        parts += [whole[at:start]] if start > at else []
        controls = {match.start(): match for match in names.finditer(whole, at, start)}
        for place in sorted({*controls, *(place for place in begins if at <= place <= start)}):
            run += [whole[at:place]] if place > at else []
            at = max(at, place)
            if place in begins:
                flush()
                learning = begins.pop(place)
            if place in controls:
                flush()
                items.append(Control(codec.control[controls[place][0]], learning))
                at = controls[place].end()
                learning = NOT_LEARNT if place in stops else learning
        run += [whole[at:start]] if start > at else []
        if number != NOT_LEARNT:
            run.append(number)
            parts.append(number)
        at = end
    flush()
    own = [item for item in items if isinstance(item, Run) and all(isinstance(part, str) for part in item.parts)]
    known = dict(zip(map(id, own), codec.encode_batch(["".join(map(str, item.parts)) for item in own])))
    items = [
        replace(item, ids=tuple(known[id(item)])) if isinstance(item, Run) and id(item) in known else item
        for item in items
    ]
    if not answers:
        return Layout(tuple(items), tuple(parts), frozenset())
    last = max(answers)
    slot = next(slot for slot in slots if slot[2] == last)
    stop = names.match(whole, answers[last].stop)
    assert stop is not None, "an answer that is learnt has an end"
    lead = names.sub("", whole[answers[last].asked : slot[0]])
    return Layout(tuple(items), tuple(parts), frozenset(answers), lead, codec.control[stop[0]])
