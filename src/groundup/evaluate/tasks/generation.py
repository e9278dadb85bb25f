"""Tasks that have the model write: answers, labels, translations, summaries, sums, and what it says on its own.

    prompt --greedy, up to a stop text--> prediction --each metric, the best of several references--> outcome

Invariant: a prediction is what the model says alone; a prompt that leaves no room for an answer is answered by nothing
and counted (a plain one loses its beginning first, as in lm-eval).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.errors import DataError
from groundup.evaluate.answers import exact_form
from groundup.evaluate.metrics import Metric
from groundup.evaluate.scores import cmrc, squad
from groundup.evaluate.scores.bootstrap import Statistic
from groundup.evaluate.scores.contents import REPEATED_WORDS, distinct, named
from groundup.evaluate.scores.rouge import rouge
from groundup.evaluate.scores.sums import final_answer
from groundup.evaluate.scores.translation import TRANSLATION, TranslationScore
from groundup.evaluate.scores.unwanted import UnwantedWords
from groundup.evaluate.task import Subject
from groundup.evaluate.tasks.config import GenerationTaskConfig
from groundup.evaluate.tasks.dialogues import conversation
from groundup.evaluate.tasks.items import Item
from groundup.evaluate.tasks.kinds import Advance, Asked, Outcome
from groundup.evaluate.tasks.refused import Refused
from groundup.evaluate.tasks.stopping import StopTexts
from groundup.evaluate.tasks.templates import as_text, field_of, template
from groundup.inference import GenerateConfig, generate_batch
from groundup.log import logger
from groundup.models import CausalNetwork, causal
from groundup.tokens import Tokenizer

BATCH_ROWS = 64
MAX_LABELS = 200


class Generation:
    """`kind: generation`."""

    optional_fields: tuple[str, ...] = ()

    def __init__(self, config: GenerationTaskConfig) -> None:
        self.config = config
        self._answers = cmrc if config.language == "zh" else squad
        self._translation = {name: TranslationScore(name, config.language) for name in TRANSLATION if self._has(name)}
        self._unwanted = UnwantedWords(config.word_list) if self._has("toxicity") else None
        self._labels = {exact_form(label): place for place, label in enumerate(config.labels)}
        self._unanswered = 0
        self.statistics: Mapping[str, Statistic] = {name: each.score for name, each in self._translation.items()}
        if self._has("accuracy"):
            self.statistics = {**self.statistics, "macro_f1": self._macro_f1}

    def _has(self, metric: str) -> bool:
        return metric in self.config.metrics

    @property
    def fields(self) -> tuple[str, ...]:
        """Those of the templates."""
        config = self.config
        references = [config.references] if isinstance(config.references, str) else config.references
        texts = (config.preface, config.prompt, *references)
        return tuple(dict.fromkeys(name for text in texts for name in template(text).fields))

    def item(self, id: str, values: Mapping[str, Any]) -> Item:
        """A prompt with its references. Raises Refused."""
        config = self.config
        if isinstance(config.references, str):
            found = template(config.references).value(values) if config.references else []
        else:
            found = [template(text).text(values) for text in config.references]
        if not isinstance(found, list | tuple):
            found = [found]
        references = tuple(as_text(each, "references") for each in found)
        messages = template(config.prompt).value(values) if config.chat else None
        if isinstance(messages, list):
            system, history, prompt = conversation(messages)
        else:
            system, history, prompt = "", (), template(config.prompt).text(values)
        if not prompt.strip():
            raise Refused("the prompt is empty")
        group = as_text(field_of(values, config.group_field), config.group_field) if config.group_field else ""
        preface = template(config.preface).text(values) or system
        separator = "" if prompt[-1].isspace() else " "  # between a solved example and its answer
        return Item(id, (prompt,), references or ("",), 0, group, preface, separator, history=history)

    def look(self, item: Item) -> None:
        """Learn the labels there are, where none are named."""
        if self._has("accuracy") and not self.config.labels:
            self._labels.setdefault(exact_form(item.answers[0]), len(self._labels))
            if len(self._labels) > MAX_LABELS:
                raise DataError(
                    f"evaluate.tasks '{self.config.name}': accuracy of more than {MAX_LABELS} labels; "
                    "name them in `labels`, or take exact_match"
                )

    def ask(self, subject: Subject, asked: Sequence[Asked], advance: Advance) -> list[Outcome]:
        """Have all answered together, then compare."""
        model, tokenizer, config = causal(subject.model), subject.tokenizer, self.config
        prompts = [self._fitted(model, tokenizer, each) for each in asked]
        fitting = [index for index, prompt in enumerate(prompts) if prompt]
        self._unanswered += len(asked) - len(fitting)
        stop = StopTexts(config.stop, tokenizer)
        found = generate_batch(
            model,
            [prompts[index] for index in fitting],
            GenerateConfig(max_new_tokens=config.max_new_tokens),
            tokenizer.stop_ids,
            BATCH_ROWS,
            advance,
            stop.found if config.stop else None,
        )
        predictions = [""] * len(asked)
        for index, ids in zip(fitting, found):
            said = tokenizer.answer_text(ids) if asked[index].prompts[0].chat else tokenizer.decode(ids)
            predictions[index] = stop.before(said).strip()
        advance(len(asked) - len(fitting))
        shown = [replace(each, shown=(each.prompts[0].shown(tokenizer),)) for each in asked]
        return [self._outcome(each, prediction) for each, prediction in zip(shown, predictions)]

    def _fitted(self, model: CausalNetwork, tokenizer: Tokenizer, asked: Asked) -> list[int]:
        """A prompt that leaves room for an answer; [] where that cannot be, or the chat template refuses it."""
        length = model.config.context_length
        try:
            prompt = asked.prompts[0].ids(tokenizer)
        except DataError:
            return []
        if asked.prompts[0].chat:
            return prompt if len(prompt) < length else []
        return prompt[-max(length - self.config.max_new_tokens, length // 2) :]

    def _outcome(self, asked: Asked, prediction: str) -> Outcome:
        references = asked.item.answers if self.config.references else ()
        said = "" if exact_form(prediction) == exact_form(self.config.no_answer) else prediction
        means = self._means(said, references)
        sample = {
            "id": asked.item.id,
            "prompt": asked.shown[0],
            "prediction": prediction,
            "references": list(references),
            **{name: round(value, 4) for name, value in means.items()},
        }
        outcome = Outcome(sample, {name: (value, 1.0) for name, value in means.items()})
        for name, metric in self._translation.items():
            outcome.sums[name] = metric.sums(said, references)
        if self._has("accuracy"):
            outcome.sums["macro_f1"] = self._label_counts(said, references[0])
        if self._has("distinct"):
            outcome.ratios |= _variety(prediction)
        if self._unwanted:
            listed, all_words = self._unwanted.count(prediction)
            outcome.ratios["toxic_word_rate"] = (float(listed), float(all_words))
            outcome.ratios["toxic_share"] = (float(listed > 0), 1.0)
            sample["toxic_words"] = listed
        return outcome

    def _means(self, said: str, references: Sequence[str]) -> dict[str, float]:
        """What is averaged over items: each the best over the references."""
        found: dict[str, float] = {}
        if self._has("exact_match"):
            found["exact_match"] = max(self._answers.exact_match(said, text) for text in references)
        if self._has("f1"):
            found["f1"] = max(self._answers.f1(said, text) for text in references)
        if self._has("rouge"):
            each = [rouge(said, text) for text in references]
            found |= {name: max(one[name] for one in each) for name in each[0]}
        if self._has("final_answer"):
            found["final_answer"] = max(final_answer(said, text) for text in references)
        if self._has("coverage"):
            parts = named(said, references)
            found |= {"coverage": sum(parts) / len(parts) if parts else 1.0, "success": float(all(parts))}
        if self._has("accuracy"):
            found["accuracy"] = float(exact_form(said) == exact_form(references[0]))
        return found

    def _label_counts(self, said: str, expected: str) -> list[float]:
        """For each label in turn: whether it was right, was said, was expected."""
        row, column = self._labels.get(exact_form(expected)), self._labels.get(exact_form(said))
        if row is None:
            raise DataError(
                f"evaluate.tasks '{self.config.name}': a reference is {expected[:30]!r}, none of `labels`; add it"
            )
        counts = np.zeros((3, len(self._labels)))
        counts[2, row] = 1.0
        if column is not None:
            counts[1, column] = 1.0
            counts[0, row] = float(row == column)
        return list(counts.ravel())

    def _macro_f1(self, counts: NDArray[np.float64]) -> float:
        """Mean F1 of the labels that were said or expected."""
        right, said, expected = counts.reshape(3, -1)
        occurs = said + expected > 0
        return float((2.0 * right[occurs] / (said + expected)[occurs]).mean())

    def finish(self, metrics: dict[str, Metric]) -> dict[str, Metric]:
        """As they are; says how many prompts left no room."""
        if self._unanswered:
            logger.warning(
                f"{self.config.name}: {self._unanswered} prompts fill the context, or the template refuses them; "
                "they count as not answered"
            )
        return metrics

    def about(self) -> dict[str, Any]:
        """Signatures of sacrebleu, and how many prompts left no room for an answer."""
        signatures = {name: each.signature for name, each in self._translation.items()}
        return {"unanswered": self._unanswered, **({"signatures": signatures} if signatures else {})}


def _variety(text: str) -> dict[str, tuple[float, float]]:
    """How many of a text's words and pairs of words differ, and how much of it stood in it before."""
    new, whole = distinct(text, REPEATED_WORDS)
    counts = {f"distinct_{size}": distinct(text, size) for size in (1, 2)} | {"repetition": (whole - new, whole)}
    return {name: (float(part), float(all_of_it)) for name, (part, all_of_it) in counts.items()}
