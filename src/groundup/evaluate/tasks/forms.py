"""Records of well-known multiple-choice sets -> items, with the prompts of lm-eval's tasks of these names.

    arc         {question, choices: {text, label}, answerKey}
    hellaswag   {activity_label, ctx_a, ctx_b, endings, label}; or ctx in place of ctx_a and ctx_b
    piqa        {goal, sol1, sol2, label}
    winogrande  {sentence with _, option1, option2, answer}: how probable what follows the gap is (partial evaluation)
    mmlu        {question, choices, answer, [subject]}: letters are compared

Invariant: the texts that a model sees, and what lengths are taken of, are those of lm-eval 0.4, so figures are equal.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from groundup.evaluate.tasks.refused import Refused
from groundup.evaluate.tasks.templates import as_text, field_of

Values = Mapping[str, Any]
_BRACKETS = re.compile(r"\[.*?\]")


@dataclass(frozen=True)
class Choice:
    """Questions and answers as in `Item`, which pair is right, and by what the form's own prompt begins."""

    questions: tuple[str, ...]
    answers: tuple[str, ...]
    gold: int
    measured: tuple[str, ...] = ()
    preface: str = ""


def _text(values: Values, name: str) -> str:
    return as_text(field_of(values, name), name)


def texts_of(value: Any, what: str) -> tuple[str, ...]:
    """A list of two or more texts. Raises Refused."""
    if not isinstance(value, list | tuple) or len(value) < 2:
        raise Refused(f"{what} is no list of two or more", str(value)[:60])
    return tuple(as_text(each, what) for each in value)


def place_of(value: Any, options: Sequence[str], letters: Sequence[str] = string.ascii_uppercase) -> int:
    """Which option an answer means: its text, its letter, or its place from 0. Raises Refused."""
    named = isinstance(value, str)
    if named and list(options).count(value) == 1:
        return list(options).index(value)
    if named and value.strip() in letters[: len(options)]:
        return list(letters).index(value.strip())
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if named and value.strip().isdecimal():
        value = int(value)
    if type(value) is int and 0 <= value < len(options):
        return value
    raise Refused(f"the answer is none of the {len(options)} options", str(value)[:60])


def _arc(values: Values) -> Choice:
    options = texts_of(field_of(values, "choices.text"), "choices.text")
    labels = [str(label) for label in texts_of(field_of(values, "choices.label"), "choices.label")]
    key = _text(values, "answerKey")
    if len(labels) != len(options) or key not in labels:
        raise Refused("answerKey is none of choices.label", key[:20])
    return Choice((f"Question: {_text(values, 'question')}\nAnswer:",), options, labels.index(key), options)


def _hellaswag(values: Values) -> Choice:
    if "ctx_a" in values:
        context = f"{_text(values, 'ctx_a')} {_text(values, 'ctx_b').capitalize()}"
    else:
        context = _text(values, "ctx")
    about = f"{_text(values, 'activity_label')}: " if "activity_label" in values else ""
    options = tuple(map(_without_brackets, texts_of(field_of(values, "endings"), "endings")))
    place = _place(values, "label", len(options))
    return Choice((_without_brackets(about + context),), options, place, options)


def _without_brackets(text: str) -> str:
    """HellaSwag's WikiHow part has titles and notes in brackets."""
    text = _BRACKETS.sub("", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ")


def _place(values: Values, name: str, count: int, first: int = 0) -> int:
    """A place among `count`, counted from `first`, as number or digits."""
    found = field_of(values, name)
    number = int(found) if isinstance(found, str) and found.strip().isdecimal() else found
    if type(number) is not int or not first <= number < first + count:
        raise Refused(f"'{name}' is none of the {count} options", str(found)[:20])
    return number - first


def _piqa(values: Values) -> Choice:
    options = (_text(values, "sol1"), _text(values, "sol2"))
    return Choice((f"Question: {_text(values, 'goal')}\nAnswer:",), options, _place(values, "label", 2), options)


def _winogrande(values: Values) -> Choice:
    before, gap, behind = _text(values, "sentence").partition("_")
    if not gap:
        raise Refused("the sentence has no gap (_)")
    questions = (before + _text(values, "option1"), before + _text(values, "option2"))
    return Choice(questions, (behind.strip(),), _place(values, "answer", 2, first=1))


def _mmlu(values: Values) -> Choice:
    options = texts_of(field_of(values, "choices"), "choices")
    if len(options) > len(string.ascii_uppercase):
        raise Refused("more options than letters", str(len(options)))
    letters = tuple(string.ascii_uppercase[: len(options)])
    listed = "".join(f"\n{letter}. {option}" for letter, option in zip(letters, options))
    answer = field_of(values, "answer")
    letter = isinstance(answer, str) and answer.strip() in letters
    place = letters.index(answer.strip()) if letter else _place(values, "answer", len(options))
    subject = as_text(values["subject"], "subject").replace("_", " ") if values.get("subject") else ""
    preface = f"The following are multiple choice questions (with answers) about {subject}.\n\n" if subject else ""
    return Choice((f"{_text(values, 'question').strip()}{listed}\nAnswer:",), letters, place, (), preface)


FORMS: Mapping[str, tuple[Callable[[Values], Choice], tuple[str, ...]]] = {
    "arc": (_arc, ("question", "choices", "answerKey")),
    "hellaswag": (_hellaswag, ("endings", "label")),
    "piqa": (_piqa, ("goal", "sol1", "sol2", "label")),
    "winogrande": (_winogrande, ("sentence", "option1", "option2", "answer")),
    "mmlu": (_mmlu, ("question", "choices", "answer")),
}
"""Form -> what makes an item of a record, and the fields that every record has."""
OPTIONAL_FIELDS = {"hellaswag": ("activity_label", "ctx_a", "ctx_b", "ctx"), "mmlu": ("subject",)}
"""Form -> fields that are read where they are there."""
