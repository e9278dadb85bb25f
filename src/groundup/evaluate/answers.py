"""Held-out questions -> answers -> exact match and token F1, over all and per group.

    Conversation -> prompt (the template, up to the last assistant turn) -> greedy answer -> compare with that turn

`exact_match`: Unicode NFC, runs of white space as one blank, trimmed, case ignored, one final full stop left out; after
that the texts must be equal. Punctuation and articles count: ".fr" is not "fr", "the Hague" is not "Hague".
`f1`: tokens in common (SQuAD, arXiv 1606.05250): case ignored, punctuation and the articles a, an, the left out, split
at white space, every CJK character a token of its own.
Invariant: a question is one unit of both metrics; one that does not fit the context counts as answered by nothing.
Questions are asked some thousands at a time and only sums are kept, so memory does not grow with their number.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from groundup.errors import DataError
from groundup.evaluate.metrics import ClusterRatio, Metric
from groundup.evaluate.task import EvaluateConfig, Result, Subject
from groundup.inference import GenerateConfig, generate_batch
from groundup.log import logger, progress
from groundup.models import CausalNetwork
from groundup.tokens import Conversation, Tokenizer

GROUP_KEYS = ("kind", "task")
"""Metadata that a question may be grouped by: `exact_match/<kind>` and `exact_match/<kind>/<task>`."""
QUESTIONS_AT_ONCE = 4096
"""Enough that questions of equal length, which share a batch, are many."""
MAX_SAMPLES = 10_000
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


class Scores:
    """Sums over answers that are added some at a time; as large as the number of groups."""

    def __init__(self) -> None:
        self._ratios: defaultdict[str, ClusterRatio] = defaultdict(ClusterRatio)

    def add(self, answers: Sequence[Answer]) -> None:
        """Count some more answers, in all their groups."""
        values: dict[str, list[float]] = {}
        for answer in answers:
            for name, rule in (("exact_match", exact_match), ("f1", f1)):
                value = rule(answer.prediction, answer.reference)
                for group in answer.groups():
                    values.setdefault(f"{name}/{group}".rstrip("/"), []).append(value)
        for name, found in values.items():
            self._ratios[name].add(found, np.ones(len(found)))

    def metrics(self) -> dict[str, Metric]:
        """Means with standard errors over questions: `exact_match`, `f1`, and both per group as `<metric>/<group>`."""
        return {name: self._ratios[name].metric() for name in sorted(self._ratios)}


def measure_answers(subject: Subject, config: EvaluateConfig) -> Result:
    """Ask every question once, greedily -> `exact_match`, `f1` (also per group), and the answers as samples.

    At most `MAX_SAMPLES` answers are kept, evenly spaced over all.
    """
    total = len(subject.questions)
    count = min(config.max_questions or total, total)
    if not count:
        return Result()
    scores, samples, too_long, done = Scores(), list[dict[str, Any]](), 0, 0
    chosen = spread(subject.questions, count)
    with progress("questions", count, "questions") as bar:
        while questions := list(islice(chosen, QUESTIONS_AT_ONCE)):
            answers, left_out = ask(subject, questions, config, bar.advance)
            scores.add(answers)
            samples += [answers[at - done].as_dict() for at in kept(done, done + len(answers), count)]
            done, too_long = done + len(answers), too_long + left_out
    if too_long:
        length = subject.model.config.context_length
        logger.warning(
            f"{too_long} questions fill the context of {length} tokens, or the template refuses them: not answered"
        )
    return Result(scores.metrics(), {"answers": samples})


def spread(questions: Sequence[Conversation], limit: int) -> Iterator[Conversation]:
    """`limit` of the questions, evenly spaced (0: all of them), one at a time."""
    count = min(limit or len(questions), len(questions))
    return (questions[i * len(questions) // count] for i in range(count))


def kept(start: int, stop: int, count: int) -> list[int]:
    """Which of answers `start` to `stop` are kept, of `count` in all: evenly spaced, `MAX_SAMPLES` or all of them."""
    step = max(count, MAX_SAMPLES)
    return [at for at in range(start, stop) if at * MAX_SAMPLES // step != (at - 1) * MAX_SAMPLES // step]


def ask(
    subject: Subject, questions: Sequence[Conversation], config: EvaluateConfig, advance: Callable[[int], None]
) -> tuple[list[Answer], int]:
    """The model's answers, in the order of `questions`, and how many left no room for one or could not be asked."""
    tokenizer, model = subject.tokenizer, subject.model
    assert isinstance(model, CausalNetwork), "a recipe of an encoder is checked to have no questions"
    context_length = model.config.context_length
    prompts = [_prompt(tokenizer, question) for question in questions]
    fitting = [index for index, prompt in enumerate(prompts) if 0 < len(prompt) < context_length]
    left_out = len(prompts) - len(fitting)
    predictions = [""] * len(prompts)
    generation = GenerateConfig(max_new_tokens=config.max_new_tokens)
    advance(left_out)
    ids = generate_batch(
        model, [prompts[i] for i in fitting], generation, tokenizer.stop_ids, config.batch_rows, advance
    )
    for index, answer in zip(fitting, ids):
        predictions[index] = tokenizer.answer_text(answer)
    answers = [
        Answer(question.turns[-2].text, question.turns[-1].text, prediction, question.metadata)
        for question, prediction in zip(questions, predictions)
    ]
    return answers, left_out


def _prompt(tokenizer: Tokenizer, question: Conversation) -> list[int]:
    """Ids that ask a question; none where the chat template refuses it (no system turns, say)."""
    try:
        return tokenizer.prompt(question.turns[:-1])
    except DataError:
        return []
