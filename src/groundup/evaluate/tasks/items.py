"""What a record becomes before it is asked: options to compare, or a prompt to answer, with the solved examples.

record --form or templates--> Item --few-shot examples, preface--> the text before each continuation
"""

from __future__ import annotations

from dataclasses import dataclass, field

from groundup.errors import DataError
from groundup.tokens import Tokenizer, Turn

SHOT_END = "\n\n"
"""Behind each solved example in a plain prompt, as in lm-eval."""


@dataclass(frozen=True)
class Item:
    """A question with what may follow it: `questions[i]` is followed by `answers[i]`; of either there may be one for
    all. `gold`: which pair is right (None: no answer to give).
    """

    id: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    gold: int | None = 0
    group: str = ""
    preface: str = ""
    separator: str = " "
    """Between question and answer in plain text."""
    measured: tuple[str, ...] = ()
    """Options by whose length log-probabilities are divided; none: they are not."""
    history: tuple[tuple[str, str], ...] = ()
    """Earlier turns of a conversation, in pairs: what the user said and what was answered."""
    about: dict[str, str] = field(default_factory=dict)
    """More of the record that figures are told apart by."""

    @property
    def size(self) -> int:
        """Number of pairs."""
        return max(len(self.questions), len(self.answers))

    def pair(self, index: int) -> tuple[str, str]:
        """Question and answer of one place."""
        question = self.questions[index if len(self.questions) > 1 else 0]
        return question, self.answers[index if len(self.answers) > 1 else 0]

    @property
    def solved(self) -> tuple[str, str]:
        """The right pair, as an example for others."""
        assert self.gold is not None, "only items with a right answer are examples"
        return self.pair(self.gold)


@dataclass(frozen=True)
class Prompt:
    """What stands before a continuation: preface, solved examples and question, as plain text or as turns."""

    preface: str
    shots: tuple[tuple[str, str], ...]
    question: str
    separator: str
    chat: bool
    document_start: bool

    @property
    def text(self) -> str:
        """The plain text."""
        solved = "".join(f"{asked}{self.separator}{said}{SHOT_END}" for asked, said in self.shots)
        return f"{self.preface}{solved}{self.question}"

    @property
    def turns(self) -> list[Turn]:
        """The conversation so far."""
        turns = [Turn("system", self.preface)] if self.preface.strip() else []
        for asked, said in self.shots:
            turns += [Turn("user", asked), Turn("assistant", said)]
        return [*turns, Turn("user", self.question)]

    def shown(self, tokenizer: Tokenizer) -> str:
        """The very text that the model goes on with, control tokens by their names, for samples."""
        if self.chat:
            try:
                return tokenizer.decode(self.ids(tokenizer), skip_control=False)
            except DataError:  # the template refuses these turns
                return self.text
        start = tokenizer.decode([tokenizer.end_of_text_id], skip_control=False) if self.starts else ""
        return start + self.text

    def ids(self, tokenizer: Tokenizer) -> list[int]:
        """Token ids of what the model goes on with."""
        if self.chat:
            return tokenizer.prompt(self.turns)
        return tokenizer.document_prompt(self.text) if self.starts else tokenizer.encode(self.text)

    @property
    def starts(self) -> bool:
        """Whether a plain prompt has the token that begins a document."""
        return self.document_start or not self.text

    def with_continuation(self, tokenizer: Tokenizer, answer: str) -> tuple[list[int], list[int]]:
        """Ids of the prompt and of a continuation, cut where lm-eval cuts them.

        Plain texts are encoded together, so that the place between them is as it is in a text; white space at the end
        of the prompt goes to the continuation. Behind a chat template the answer is encoded as a turn's text is.
        Raises DataError for turns that the template refuses.
        """
        if self.chat:
            return self.ids(tokenizer), tokenizer.encode(tokenizer.template.lead(tokenizer) + answer.strip())
        prompt = self.text.rstrip()
        rest = self.text[len(prompt) :] + self.separator + answer
        first = [tokenizer.end_of_text_id] if self.starts or not prompt else []
        before, whole = tokenizer.encode_batch([prompt, prompt + rest]) if prompt else ([], tokenizer.encode(rest))
        if len(whole) <= len(before):  # the answer is in one token with the end of the prompt, which is scored then
            before = whole[:-1]
            first = first if before else [tokenizer.end_of_text_id]
        return first + before, whole[len(before) :]
