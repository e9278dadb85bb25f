"""BERT under a head for a task: labels of texts or words, a number, a span.

    sequence, multilabel, number   BertForSequenceClassification       token   BertForTokenClassification
    span                           BertForQuestionAnswering

Invariant: those classes of transformers give the same scores; the names of the labels are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from groundup.errors import ModelFileError
from groundup.models.encoder_heads import NAMING, LabelKind
from groundup.models.labeller import LONGEST_ANSWER_TOKENS, LabellerConfig
from groundup.models.layouts.bert import BERT, bert_name, body_names
from groundup.models.layouts.layout import ConfigValues, Layout, Part

PROBLEMS: Mapping[LabelKind, str] = {
    "sequence": "single_label_classification",
    "multilabel": "multi_label_classification",
    "number": "regression",
}
"""What transformers calls these tasks, which share one class."""
_POOLER = {f"label.pooler.{kind}": bert_name(f"next_sentence.pooler.{kind}") for kind in ("weight", "bias")}
LABEL_LIMIT = 1 << 20
_OWN, _QUESTIONS, _LONGEST = "task_specific_params", "question-answering", "max_answer_len"
"""Where transformers keeps what a pipeline is to be told, and its name for the longest answer in tokens."""


def _layout(architecture: str, head: str, tasks: tuple[LabelKind, ...]) -> Layout:
    def parts(config: LabellerConfig) -> dict[str, Part]:
        names = {bert_name(name): name for name in body_names(config)}
        names |= {theirs: ours for ours, theirs in _POOLER.items()} if config.pooled else {}
        names |= {f"{head}.{kind}": f"label.output.{kind}" for kind in ("weight", "bias")}
        return {theirs: Part((ours,)) for theirs, ours in names.items()}

    def write(config: LabellerConfig) -> dict[str, Any]:
        names = config.labels or tuple(f"LABEL_{index}" for index in range(config.outputs))
        return {
            **BERT.write(config),
            "architectures": [architecture],
            "id2label": {str(index): name for index, name in enumerate(names)},
            "label2id": {name: index for index, name in enumerate(names)},
            **({"problem_type": PROBLEMS[config.task]} if config.task in PROBLEMS else {}),
            **({_OWN: {_QUESTIONS: {_LONGEST: config.longest_answer_tokens}}} if config.task == "span" else {}),
        }

    def read(values: ConfigValues) -> dict[str, Any]:
        task, labels = _judged(values) if "sequence" in tasks else (tasks[0], _labels(values))
        if task == "span" and len(labels) != 2:
            raise ModelFileError(f"id2label has {len(labels)} labels, a span has a start and an end; export it again")
        named = labels if task in NAMING else ()
        longest = {"longest_answer_tokens": _longest_answer(values)} if task == "span" else {}
        return {**BERT.read(values), "kind": "labeller", "task": task, "labels": named, **longest}

    def spare(config: LabellerConfig) -> set[str]:
        return set() if config.pooled else set(_POOLER.values())

    return replace(
        BERT,
        architectures=(architecture,),
        config=LabellerConfig,
        parts=parts,
        write=write,
        read=read,
        heads=(f"{head}.",),
        head_rows="id2label",
        copies=lambda config: {},
        spare=spare,
        switches={"task": tasks},
    )


def _judged(values: ConfigValues) -> tuple[LabelKind, tuple[str, ...]]:
    """Labels or a number: transformers takes a single output for a number, unless told otherwise."""
    labels, problem = _labels(values), values.get("problem_type")
    tasks = {name: task for task, name in PROBLEMS.items()}
    if (problem is not None and problem not in tasks) or (problem == PROBLEMS["number"] and len(labels) > 1):
        raise ModelFileError(
            f"problem_type {str(problem)[:30]!r} with {len(labels)} labels is not supported, labels (one or several of "
            "a text) or one number are; use another model"
        )
    return (("number" if len(labels) == 1 else "sequence") if problem is None else tasks[problem]), labels


def _longest_answer(values: ConfigValues) -> int:
    """In tokens; config.json need not say it."""
    found = values.get(_OWN)
    inner = found.get(_QUESTIONS) if isinstance(found, Mapping) else None
    longest = inner.get(_LONGEST, LONGEST_ANSWER_TOKENS) if isinstance(inner, Mapping) else LONGEST_ANSWER_TOKENS
    if type(longest) is not int or longest < 1:
        raise ModelFileError(f"{_LONGEST} {str(longest)[:20]!r} is no number of tokens; export the model again")
    return longest


def _labels(values: ConfigValues) -> tuple[str, ...]:
    """Names by number; config.json may leave them out."""
    named, count = values.get("id2label"), values.get("num_labels", 2)
    if named is None:
        if type(count) is not int or not 1 <= count <= LABEL_LIMIT:
            raise ModelFileError(f"num_labels {str(count)[:20]!r} is no number of labels; export the model again")
        return tuple(f"LABEL_{index}" for index in range(count))
    by_number = {str(number): name for number, name in named.items()} if isinstance(named, Mapping) else {}
    names = tuple(by_number.get(str(index)) for index in range(len(by_number)))
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ModelFileError("id2label does not name the labels 0, 1, 2 and so on; export the model again")
    return tuple(str(name) for name in names)


SEQUENCE_LABELS = _layout("BertForSequenceClassification", "classifier", ("sequence", "multilabel", "number"))
WORD_LABELS = _layout("BertForTokenClassification", "classifier", ("token",))
SPANS = _layout("BertForQuestionAnswering", "qa_outputs", ("span",))
