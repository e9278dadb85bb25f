"""Held-out questions -> answers -> exact match and token F1, over all and per group.

    Conversation -> prompt (the template, up to the last assistant turn) -> greedy answer -> compare with that turn

`exact_match`: Unicode NFC, runs of white space as one blank, trimmed, case ignored, one final full stop left out; after
that the texts must be equal. Punctuation and articles count: ".fr" is not "fr", "the Hague" is not "Hague".
`f1`: tokens in common (SQuAD, arXiv 1606.05250): case ignored, punctuation and the articles a, an, the left out, split
at white space, every CJK character a token of its own.
Invariant: a question is one unit of both metrics; one that does not fit the context counts as answered by nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from groundup.evaluate.metrics import Metric, mean
from groundup.evaluate.task import EvaluateConfig, Result, Subject
from groundup.inference import GenerateConfig, generate_batch
from groundup.log import logger, progress
from groundup.tokens import Conversation

GROUP_KEYS = ("kind", "task")
"""Metadata that a question may be grouped by: `exact_match/<kind>` and `exact_match/<kind>/<task>`."""
_SPACE = re.compile(r"\s+")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_CJK = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff])")


def exact_form(text: str) -> str:
    """The form in which two answers must be equal for `exact_match` (rule in the module's description)."""
    form = _SPACE.sub(" ", unicodedata.normalize("NFC", text)).strip().casefold()
    return form[:-1].rstrip() if form.endswith(".") else form


def f1_tokens(text: str) -> list[str]:
    """The tokens that `f1` compares. A text of punctuation and articles only is one token, itself."""
    lowered = unicodedata.normalize("NFC", text).casefold()
    plain = "".join(" " if unicodedata.category(ch)[0] in "ZC" else ch for ch in lowered)
    plain = "".join(ch for ch in plain if unicodedata.category(ch)[0] not in "PS")
    tokens = _CJK.sub(r" \1 ", _ARTICLES.sub(" ", plain)).split()
    return tokens or [lowered.strip()]


def exact_match(prediction: str, reference: str) -> float:
    """1.0 when both have the same exact form, else 0.0."""
    return float(exact_form(prediction) == exact_form(reference))


def f1(prediction: str, reference: str) -> float:
    """Harmonic mean of token precision and recall, 0.0 to 1.0."""
    predicted, expected = f1_tokens(prediction), f1_tokens(reference)
    common = sum((Counter(predicted) & Counter(expected)).values())
    return 2.0 * common / (len(predicted) + len(expected))


@dataclass(frozen=True)
class Answer:
    """One question with what was expected and what came."""

    prompt: str
    reference: str
    prediction: str
    metadata: Mapping[str, Any]

    def groups(self) -> list[str]:
        """Names of the groups it counts in: "" (all), "<kind>", "<kind>/<task>", as far as it has them."""
        parts = [str(self.metadata[key]) for key in GROUP_KEYS if self.metadata.get(key) is not None]
        return ["", *("/".join(parts[:end]) for end in range(1, len(parts) + 1))]

    def as_dict(self) -> dict[str, Any]:
        """For `samples.json`."""
        return {
            "prompt": self.prompt,
            "reference": self.reference,
            "prediction": self.prediction,
            "exact_match": exact_match(self.prediction, self.reference),
            "f1": round(f1(self.prediction, self.reference), 4),
            "metadata": dict(self.metadata),
        }


def measure_answers(subject: Subject, config: EvaluateConfig) -> Result:
    """Ask every question once, greedily -> `exact_match`, `f1` (also per group) and all answers as samples."""
    questions = spread(subject.questions, config.max_questions)
    if not questions:
        return Result()
    answers = ask(subject, questions, config)
    return Result(score(answers), {"answers": [answer.as_dict() for answer in answers]})


def spread(questions: Sequence[Conversation], limit: int) -> list[Conversation]:
    """`limit` of the questions, evenly spaced (0: all of them)."""
    if limit == 0 or limit >= len(questions):
        return list(questions)
    return [questions[i * len(questions) // limit] for i in range(limit)]


def ask(subject: Subject, questions: Sequence[Conversation], config: EvaluateConfig) -> list[Answer]:
    """The model's answers, in the order of `questions`."""
    tokenizer, context_length = subject.tokenizer, subject.model.config.context_length
    prompts = [tokenizer.prompt(question.turns[:-1]) for question in questions]
    fitting = [index for index, prompt in enumerate(prompts) if len(prompt) < context_length]
    if len(fitting) < len(prompts):
        left_out = len(prompts) - len(fitting)
        logger.warning(f"{left_out} questions fill the context of {context_length} tokens and count as not answered")
    predictions = [""] * len(prompts)
    generation = GenerateConfig(max_new_tokens=config.max_new_tokens)
    with progress("questions", len(fitting), "questions") as bar:
        ids = generate_batch(
            subject.model, [prompts[i] for i in fitting], generation, tokenizer.stop_ids, config.batch_rows, bar.advance
        )
    for index, answer in zip(fitting, ids):
        predictions[index] = tokenizer.decode(answer).strip()
    return [
        Answer(question.turns[-2].text, question.turns[-1].text, prediction, question.metadata)
        for question, prediction in zip(questions, predictions)
    ]


def score(answers: Sequence[Answer]) -> dict[str, Metric]:
    """Means with standard errors over questions: `exact_match`, `f1`, and both per group as `<metric>/<group>`."""
    values: dict[str, list[float]] = {}
    for answer in answers:
        for name, rule in (("exact_match", exact_match), ("f1", f1)):
            value = rule(answer.prediction, answer.reference)
            for group in answer.groups():
                values.setdefault(f"{name}/{group}".rstrip("/"), []).append(value)
    return {name: mean(values[name]) for name in sorted(values)}
