"""Records of well-known sets: the very prompts of lm-eval's tasks, written out by hand, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from groundup.evaluate.tasks.forms import FORMS, place_of
from groundup.evaluate.tasks.refused import Refused

ARC = {"question": "What melts?", "choices": {"text": ["ice", "stone"], "label": ["1", "2"]}, "answerKey": "1"}
HELLASWAG = {
    "activity_label": "Baking",
    "ctx_a": "A man [note] mixes  flour. [title] Then",
    "ctx_b": "he POURS water",
    "endings": ["and kneads. [substeps]", "and flies."],
    "label": "1",
}
PIQA = {"goal": "Open a jar", "sol1": "turn the lid", "sol2": "bite it", "label": 0}
WINOGRANDE = {"sentence": "Ann thanked Eve because _ had helped.", "option1": "Ann", "option2": "Eve", "answer": "2"}
MMLU = {"question": " What is 1+1? ", "choices": ["1", "2", "3"], "answer": 1, "subject": "abstract_algebra"}


def test_arc() -> None:
    found = FORMS["arc"][0](ARC)
    assert found.questions == ("Question: What melts?\nAnswer:",)
    assert (found.answers, found.gold, found.measured) == (("ice", "stone"), 0, ("ice", "stone"))


def test_hellaswag() -> None:
    found = FORMS["hellaswag"][0](HELLASWAG)
    assert found.questions == ("Baking: A man mixes flour.. Then He pours water",)
    assert (found.answers, found.gold) == (("and kneads. ", "and flies."), 1)
    short = FORMS["hellaswag"][0]({"ctx": "A man stands.", "endings": ["He sits.", "He sings."], "label": 0})
    assert short.questions == ("A man stands.",)


def test_piqa() -> None:
    found = FORMS["piqa"][0](PIQA)
    assert found.questions == ("Question: Open a jar\nAnswer:",)
    assert (found.answers, found.gold) == (("turn the lid", "bite it"), 0)


def test_winogrande_compares_what_follows_the_gap() -> None:
    found = FORMS["winogrande"][0](WINOGRANDE)
    assert found.questions == ("Ann thanked Eve because Ann", "Ann thanked Eve because Eve")
    assert (found.answers, found.gold, found.measured) == (("had helped.",), 1, ())


def test_mmlu() -> None:
    found = FORMS["mmlu"][0](MMLU)
    assert found.questions == ("What is 1+1?\nA. 1\nB. 2\nC. 3\nAnswer:",)
    assert (found.answers, found.gold) == (("A", "B", "C"), 1)
    assert found.preface == "The following are multiple choice questions (with answers) about abstract algebra.\n\n"
    assert FORMS["mmlu"][0]({**MMLU, "answer": "C"}).gold == 2


@pytest.mark.parametrize(
    ("form", "values", "reason"),
    [
        ("arc", {**ARC, "answerKey": "A"}, "answerKey"),
        ("arc", {**ARC, "choices": {"text": ["ice"], "label": ["1"]}}, "two or more"),
        ("arc", {"question": "x"}, "choices"),
        ("hellaswag", {**HELLASWAG, "label": 7}, "2 options"),
        ("hellaswag", {**HELLASWAG, "label": ""}, "2 options"),
        ("piqa", {**PIQA, "label": -1}, "2 options"),
        ("piqa", {**PIQA, "label": True}, "2 options"),
        ("winogrande", {**WINOGRANDE, "sentence": "no gap"}, "no gap"),
        ("winogrande", {**WINOGRANDE, "answer": "0"}, "2 options"),
        ("mmlu", {**MMLU, "answer": "Z"}, "3 options"),
        ("mmlu", {**MMLU, "question": None}, "null"),
    ],
)
def test_a_record_of_another_form_is_refused(form: str, values: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        FORMS[form][0](values)


@pytest.mark.parametrize(("answer", "place"), [(1, 1), ("1", 0), ("2", 1), ("0", 0), ("C", 2), ("red", 2), (2.0, 2)])
def test_which_option_an_answer_means(answer: Any, place: int) -> None:
    assert place_of(answer, ["1", "2", "red"]) == place


@pytest.mark.parametrize("answer", [3, -1, "D", "blue", True, None, 0.5, ["1"]])
def test_an_answer_that_is_none_of_the_options(answer: Any) -> None:
    with pytest.raises(Refused, match="3 options"):
        place_of(answer, ["1", "2", "red"])
