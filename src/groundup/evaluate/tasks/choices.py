"""Tasks that compare or score continuations: multiple choice, the last word, minimal pairs, bias pairs.

    accuracy         the most probable option is the right one
    accuracy_norm    the same by log-probability per character of the option; accuracy_bytes: per UTF-8 byte
    log_likelihood   natural log-probability of the right one

Invariant: all are those of lm-eval 0.4 (acc, acc_norm, acc_bytes, perplexity, pct_stereotype) on the same items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from groundup.evaluate.metrics import Metric
from groundup.evaluate.scores.bootstrap import Statistic
from groundup.evaluate.task import Subject
from groundup.evaluate.tasks.config import BiasPairsConfig, LastWordConfig, MinimalPairsConfig, MultipleChoiceConfig
from groundup.evaluate.tasks.forms import FORMS, OPTIONAL_FIELDS, Choice, place_of, texts_of
from groundup.evaluate.tasks.items import Item
from groundup.evaluate.tasks.kinds import Advance, Asked, Outcome, perplexity
from groundup.evaluate.tasks.likelihood import Request, Score, score
from groundup.evaluate.tasks.refused import Refused
from groundup.evaluate.tasks.templates import as_text, field_of, template
from groundup.models import causal


class _Compared:
    """What is common to tasks whose outcome is made of log-probabilities."""

    statistics: Mapping[str, Statistic] = {}
    optional_fields: tuple[str, ...] = ()

    def look(self, item: Item) -> None:
        """Nothing has to be known beforehand."""

    def about(self) -> dict[str, Any]:
        """Nothing but the config decides the figures."""
        return {}

    def finish(self, metrics: dict[str, Metric]) -> dict[str, Metric]:
        """As they are."""
        return metrics

    def ask(self, subject: Subject, asked: Sequence[Asked], advance: Advance) -> list[Outcome]:
        """Score every pair of every item. An item with an option that does not fit the context is left out."""
        model, tokenizer = causal(subject.model), subject.tokenizer
        requests: list[Request] = []
        for each in asked:
            for index in range(each.item.size):
                prompt = each.prompts[index if len(each.prompts) > 1 else 0]
                context, continuation = prompt.with_continuation(tokenizer, each.item.pair(index)[1])
                # A longer continuation than the context is scored by its end; it takes a text of some pages.
                requests.append(Request(tuple(context), tuple(continuation[-model.config.context_length :])))
        scores = iter(score(model, requests, _ticking(advance, len(asked), len(requests))))
        outcomes = []
        asked = [replace(each, shown=tuple(prompt.shown(tokenizer) for prompt in each.prompts)) for each in asked]
        for each in asked:
            found = [next(scores) for _ in range(each.item.size)]
            outcomes.append(self.outcome(each, found))
        return outcomes

    def outcome(self, asked: Asked, scores: Sequence[Score]) -> Outcome:
        """What the log-probabilities of one item say."""
        raise NotImplementedError


def _ticking(advance: Advance, items: int, requests: int) -> Advance:
    """Tells `advance` of items, told of requests."""
    done = shown = 0

    def tick(count: int) -> None:
        nonlocal done, shown
        done += count
        now = done * items // requests
        advance(now - shown)
        shown = now

    return tick


def _sample(asked: Asked, scores: Sequence[Score]) -> dict[str, Any]:
    return {
        "id": asked.item.id,
        "prompts": list(asked.shown),
        "options": list(asked.item.answers),
        "log_likelihoods": [round(each.log_likelihood, 6) for each in scores],
    }


class MultipleChoice(_Compared):
    """`kind: multiple_choice`."""

    def __init__(self, config: MultipleChoiceConfig) -> None:
        self.config = config
        self.optional_fields = OPTIONAL_FIELDS.get(config.form or "", ())

    @property
    def fields(self) -> tuple[str, ...]:
        """Those of the form, or of the templates."""
        config = self.config
        if config.form is not None:
            return FORMS[config.form][1]
        options = [config.options] if isinstance(config.options, str) else config.options
        texts = (config.preface, config.prompt, *options, config.answer)
        return tuple(dict.fromkeys(name for text in texts for name in template(text).fields))

    def item(self, id: str, values: Mapping[str, Any]) -> Item:
        """The item of a record. Raises Refused."""
        config = self.config
        choice = self._templated(values) if config.form is None else FORMS[config.form][0](values)
        if not all(answer.strip() for answer in choice.answers):
            raise Refused("an option is empty")
        return Item(
            id,
            choice.questions,
            choice.answers,
            choice.gold,
            group=as_text(field_of(values, config.group_field), config.group_field) if config.group_field else "",
            preface=template(config.preface).text(values) if config.preface else choice.preface,
            separator=config.separator,
            measured=choice.measured,
        )

    def _templated(self, values: Mapping[str, Any]) -> Choice:
        config = self.config
        if isinstance(config.options, str):
            options = texts_of(template(config.options).value(values), "options")
        else:
            options = texts_of([template(text).text(values) for text in config.options], "options")
        place = place_of(template(config.answer).value(values), options)
        return Choice((template(config.prompt).text(values),), options, place, options)

    def outcome(self, asked: Asked, scores: Sequence[Score]) -> Outcome:
        """Which option is chosen, by each of the three rules."""
        item, nats = asked.item, np.array([each.log_likelihood for each in scores])
        chosen = {"accuracy": int(nats.argmax())}
        if item.measured:
            chosen["accuracy_norm"] = int((nats / [len(text) for text in item.measured]).argmax())
            chosen["accuracy_bytes"] = int((nats / [len(text.encode()) for text in item.measured]).argmax())
        right = {name: float(place == item.gold) for name, place in chosen.items()}
        gold = item.gold or 0
        ratios = {name: (value, 1.0) for name, value in right.items()}
        ratios["log_likelihood"] = (float(nats[gold]), 1.0)
        sample = {**_sample(asked, scores), "choice": chosen["accuracy"], "reference": gold, **right}
        return Outcome(sample, ratios)


class LastWord(_Compared):
    """`kind: last_word`."""

    def __init__(self, config: LastWordConfig) -> None:
        self.config = config

    @property
    def fields(self) -> tuple[str, ...]:
        """The field of the passage."""
        return tuple(dict.fromkeys((self.config.text_field, *template(self.config.preface).fields)))

    def item(self, id: str, values: Mapping[str, Any]) -> Item:
        """The passage without its last word, and that word. Raises Refused."""
        config = self.config
        before, _, last = as_text(field_of(values, config.text_field), config.text_field).rpartition(" ")
        if not before.strip() or not last.strip():
            raise Refused("a passage of fewer than two words", f"{before} {last}"[:60])
        group = as_text(field_of(values, config.group_field), config.group_field) if config.group_field else ""
        return Item(id, (before,), (last,), 0, group, template(config.preface).text(values))

    def outcome(self, asked: Asked, scores: Sequence[Score]) -> Outcome:
        """Whether it would be said, and how probable it was."""
        found = scores[0]
        ratios = {"accuracy": (float(found.is_greedy), 1.0), "log_likelihood": (found.log_likelihood, 1.0)}
        sample = {**_sample(asked, scores), "reference": asked.item.answers[0], "accuracy": float(found.is_greedy)}
        return Outcome(sample, ratios)

    def finish(self, metrics: dict[str, Metric]) -> dict[str, Metric]:
        """Perplexity of the last word beside them."""
        more = {
            name.replace("log_likelihood", "perplexity", 1): perplexity(metric)
            for name, metric in metrics.items()
            if name.partition("/")[0] == "log_likelihood"
        }
        return metrics | more


class MinimalPairs(_Compared):
    """`kind: minimal_pairs`."""

    def __init__(self, config: MinimalPairsConfig) -> None:
        self.config = config

    @property
    def fields(self) -> tuple[str, ...]:
        """Both sentences."""
        return (self.config.good_field, self.config.bad_field)

    def item(self, id: str, values: Mapping[str, Any]) -> Item:
        """Two sentences without anything before them. Raises Refused."""
        config = self.config
        group = as_text(field_of(values, config.group_field), config.group_field) if config.group_field else ""
        return Item(id, ("",), sentences(values, config.good_field, config.bad_field), 0, group)

    def outcome(self, asked: Asked, scores: Sequence[Score]) -> Outcome:
        """Whether the right one is at least as probable."""
        right = float(scores[0].log_likelihood >= scores[1].log_likelihood)
        return Outcome({**_sample(asked, scores), "reference": 0, "accuracy": right}, {"accuracy": (right, 1.0)})


class BiasPairs(_Compared):
    """`kind: bias_pairs`."""

    def __init__(self, config: BiasPairsConfig) -> None:
        self.config = config

    @property
    def fields(self) -> tuple[str, ...]:
        """Both sentences, the direction and whom it is about."""
        config = self.config
        named = (config.more_field, config.less_field, config.direction_field, config.group_field)
        return tuple(name for name in named if name)

    def item(self, id: str, values: Mapping[str, Any]) -> Item:
        """Two sentences as they are, from the beginning of a document. Raises Refused."""
        config = self.config
        named = {"direction": config.direction_field, "group": config.group_field}
        said = {key: as_text(field_of(values, name), name) for key, name in named.items() if name}
        pair = sentences(values, config.more_field, config.less_field)
        return Item(id, ("",), pair, None, said.get("group", ""), separator="", about=said)

    def outcome(self, asked: Asked, scores: Sequence[Score]) -> Outcome:
        """Whether the stereotype is more probable, and by how much the two differ."""
        more, less = scores[0].log_likelihood, scores[1].log_likelihood
        prefers = float(more > less)
        direction = asked.item.about.get("direction", "")
        sample = {**_sample(asked, scores), "prefers_stereotype": prefers, **asked.item.about}
        ratios = {"stereotype_share": (prefers, 1.0), "log_likelihood_difference": (abs(more - less), 1.0)}
        return Outcome(sample, ratios, groups=(direction,) if direction else ())


def sentences(values: Mapping[str, Any], *fields: str) -> tuple[str, ...]:
    """The texts of some fields. Raises Refused when one is empty."""
    found = tuple(as_text(field_of(values, name), name) for name in fields)
    if not all(text.strip() for text in found):
        raise Refused("a sentence is empty")
    return found
