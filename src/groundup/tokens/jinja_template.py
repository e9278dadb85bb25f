"""A tokenizer's own chat template in Jinja -> ids and targets, by span arithmetic.

    turns --unguessable marks in place of what is said--> rendering --cut at the marks--> layout of these roles
    layout + texts = rendering of the texts?   else the conversation is refused
    layout: text of the template --control tokens by name--> ids ; what is said --plain text--> ids

        <|im_start|>user\\n{text}<|im_end|>\\n<|im_start|>assistant\\n{text}<|im_end|>\\n
                                                             ^~~~~~~~~~~~~~~~~ targets
                                                 what asks for the answer ends here, and so does a piece of text

Between control tokens text is encoded as one piece, as transformers does, but for the place where what asks for an
answer ends: there a piece ends in training too, so that the ids of prompt and answer are those that were trained on.
What the template writes between that place and the answer (white space, mostly) is for the model to say, and learnt.

An answer that the template renders otherwise later on than when it is asked for (Qwen3 leaves out old thoughts) is
only read there, and learnt in an example of its own, which ends with it.

Invariant: control tokens come from the template alone, so no text can forge a turn; an answer's targets are its text,
the white space beside it, and one control token that ends it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from groundup.errors import DataError
from groundup.tokens.template import Codec, Encoded, Turn, Unfit
from groundup.tokens.template_layout import CHANGED, Control, Layout, Run, lay_out
from groundup.tokens.template_process import Failed, Message, Renderer

LAYOUTS_KEPT = 1024
"""Layouts of different sequences of roles that are kept."""
LONG_TURNS = 200
"""Sequences of more roles than these are not kept: hardly two conversations share one."""
MAX_TURNS = 2000
"""A longer conversation is refused: each of its answers is looked at with all that stands before it."""
MAX_CHARACTERS = 16 << 20
"""A longer conversation is refused: the process that renders it has little memory."""
MAX_EXTRA_EXAMPLES = 64
"""A conversation may need so many examples beside the first."""


class _Example(NamedTuple):
    """Turns to encode, of conversation `number`; only the answers in `learnt` are targets."""

    number: int
    said: list[str]
    layout: Layout
    learnt: frozenset[int]


@dataclass
class JinjaTemplate:
    """A chat template, and the special tokens that it knows by name (`bos_token`, `eos_token` and others)."""

    text: str
    variables: Mapping[str, str]
    where: str
    _layouts: dict[tuple[tuple[str, ...], bool], Layout | Unfit] = field(default_factory=dict, repr=False)

    @cached_property
    def renderer(self) -> Renderer:
        """What renders it."""
        return Renderer(self.text, self.variables, self.where)

    def examples(self, codec: Codec, conversations: Sequence[Sequence[Turn]]) -> list[list[Encoded] | Unfit]:
        """One example each, more where answers are rendered otherwise later on; Unfit for what it cannot say."""
        self._short(codec)
        wanted = [self._wanted(codec, number, turns) for number, turns in enumerate(conversations)]
        examples = [example for found in wanted if not isinstance(found, Unfit) for example in found]
        asked = [(_messages(conversations[example.number][: len(example.said)]), False) for example in examples]
        unfit: dict[int, Unfit] = {n: found for n, found in enumerate(wanted) if isinstance(found, Unfit)}
        for example, text in zip(examples, self.renderer.render(asked)):
            if fault := _difference(example.layout.text(example.said), text):
                unfit.setdefault(example.number, fault)
        fitting = [example for example in examples if example.number not in unfit]
        found: list[list[Encoded] | Unfit] = [unfit.get(n) or list[Encoded]() for n in range(len(conversations))]
        for example, encoded in zip(fitting, _encoded(codec, fitting)):
            kept = found[example.number]
            assert isinstance(kept, list), "what does not fit is not encoded"
            kept.append(encoded)
        return found

    def prompt(self, codec: Codec, turns: Sequence[Turn]) -> list[int]:
        """Ids that ask for the next answer. Raises DataError for turns that the template cannot say."""
        said = [turn.text.strip() for turn in turns]
        layout = self._layout(codec, tuple(turn.role for turn in turns), asking=True)
        if not isinstance(layout, Unfit):
            (text,) = self.renderer.render([(_messages(turns), True)])
            layout = _difference(layout.text(said), text) or layout
        if isinstance(layout, Unfit):
            raise DataError(
                f"the model's chat template refuses this conversation: {layout.reason[:120]}; ask in another way",
                details=[layout.detail],
            )
        return next(_encoded(codec, [_Example(0, said, layout, layout.learnt)])).ids

    def judge(self, codec: Codec) -> None:
        """Raise ModelFileError when the template is unusable, or has nothing that ends an answer."""
        self._short(codec)

    def turn_end_id(self, codec: Codec) -> int:
        """The control token behind an answer. Raises as `judge`."""
        return self._short(codec).stop

    def lead(self, codec: Codec) -> str:
        """What the template writes between prompt and answer."""
        return self._short(codec).lead

    def _short(self, codec: Codec) -> Layout:
        """The layout of one question and its answer, by which the template is judged. Raises ModelFileError."""
        layout = self._layout(codec, ("user", "assistant"), asking=False)
        if isinstance(layout, Unfit):
            raise self.renderer.fault(layout.reason)
        if 1 not in layout.learnt:
            raise self.renderer.fault(layout.fault)
        return layout

    def _wanted(self, codec: Codec, number: int, turns: Sequence[Turn]) -> list[_Example] | Unfit:
        """The examples of a conversation: all of it, and what ends with an answer that is not learnt in that."""
        said, roles = [turn.text.strip() for turn in turns], tuple(turn.role for turn in turns)
        if sum(map(len, said)) > MAX_CHARACTERS:
            return Unfit(f"more than {MAX_CHARACTERS:,} characters, which is as far as chat templates of others go")
        layout = self._layout(codec, roles, asking=False)
        if isinstance(layout, Unfit):
            return layout
        if len(layout.others) > MAX_EXTRA_EXAMPLES:
            return Unfit(f"more than {MAX_EXTRA_EXAMPLES} answers that the template renders otherwise later on")
        found = [_Example(number, said, layout, layout.learnt)] if layout.learnt else []
        for answer in layout.others:
            until = self._layout(codec, roles[: answer + 1], asking=False)
            if isinstance(until, Unfit):
                return until
            if answer not in until.learnt:
                return Unfit(f"the template: {until.fault}")
            found.append(_Example(number, said[: answer + 1], until, frozenset({answer})))
        return found or Unfit("nothing in it is learnt")

    def _layout(self, codec: Codec, roles: tuple[str, ...], asking: bool) -> Layout | Unfit:
        if len(roles) > MAX_TURNS:
            return Unfit(f"more than {MAX_TURNS} turns, which is as far as chat templates of others go")
        known = self._layouts.get((roles, asking))
        if known is None:
            known = lay_out(self.renderer, codec, roles, asking)
            if len(roles) <= LONG_TURNS and len(self._layouts) < LAYOUTS_KEPT:
                self._layouts[roles, asking] = known
        return known


def _messages(turns: Sequence[Turn]) -> list[Message]:
    return [{"role": turn.role, "content": turn.text.strip()} for turn in turns]


def _difference(expected: str, text: str | Failed) -> Unfit | None:
    """Why a rendering is not what its layout says."""
    if isinstance(text, Failed):
        return Unfit(f"the template: {text.reason}")
    if text == expected:
        return None
    at = next((i for i, (a, b) in enumerate(zip(expected, text)) if a != b), min(len(expected), len(text)))
    return Unfit(CHANGED, f"{expected[at : at + 30]!r} became {text[at : at + 30]!r}")


def _encoded(codec: Codec, examples: Sequence[_Example]) -> Iterator[Encoded]:
    """Ids and targets of each, all texts encoded together; what is learnt is decoded again and compared."""
    texts = [
        "".join(part if isinstance(part, str) else example.said[part] for part in item.parts)
        for example in examples
        for item in example.layout.items
        if isinstance(item, Run) and item.ids is None
    ]
    pairs = iter(zip(texts, codec.encode_batch(texts)))
    for example in examples:
        ids: list[int] = []
        is_target: list[bool] = []
        for item in example.layout.items:
            learnt = item.answer in example.learnt
            if isinstance(item, Control):
                ids.append(item.id)
                is_target.append(learnt)
                continue
            text, found = ("", item.ids) if item.ids is not None else next(pairs)
            if learnt and item.ids is None and codec.decode(found, skip_control=False) != text:
                raise DataError(
                    "targets do not decode to what the assistant says; the tokenizer does not fit this text"
                )
            ids += found
            is_target += [learnt] * len(found)
        yield Encoded(ids, is_target)
