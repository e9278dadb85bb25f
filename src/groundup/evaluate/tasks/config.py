"""What a recipe says of one benchmark: `evaluate.tasks`, a list of these, told apart by `kind`.

Invariant: a field that a kind does not read is refused, and of files only the content enters the identity.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from groundup import config
from groundup.config import Config, LocalPath, Name
from groundup.corpus.reading.files import find_files
from groundup.evaluate.tasks.templates import template_fault
from groundup.stage import hash_file

Form = Literal["arc", "hellaswag", "piqa", "winogrande", "mmlu"]
"""Multiple choice as well-known sets have it; prompts are those of lm-eval's tasks."""
GenerationMetric = Literal[
    "exact_match", "f1", "bleu", "chrf", "rouge", "accuracy", "final_answer", "toxicity", "coverage", "distinct"
]
"""What may be measured of a generated text."""
PATHS = ("path", "few_shot.path", "word_list")
"""Fields of a task that name files."""


class FewShotConfig(Config):
    """Solved examples in front of every item."""

    count: int = Field(ge=1, le=100)
    """How many."""
    path: str = ""
    """File that they are taken from; empty: the task's own (an item is never an example for itself)."""
    order: Literal["drawn", "first"] = "drawn"
    """Drawn for each item by `seed`, or the first of the file for all items."""
    seed: int = Field(default=0, ge=0)
    """Start of the random numbers."""


class BenchmarkConfig(Config):
    """What every task has."""

    name: Name
    """Name of the task: its metrics are `<name>/<metric>`."""
    path: LocalPath
    """A file, a folder or a glob of records, of any format that sources have; absolute, or relative to the current
    folder, or to the recipe."""
    limit: int = Field(default=0, ge=0)
    """At most this many items, evenly spread over all of them (0: all)."""
    group_field: str = ""
    """Field by which figures are told apart as well: `<name>/<metric>/<group>`."""
    document_start: bool = False
    """Put the token that begins a document in front of every prompt, as in training; lm-eval does so with
    `add_bos_token`. An empty prompt and one with `chat` have their beginning in any case."""


class PromptedConfig(BenchmarkConfig):
    """What tasks have that ask something. Templates are Jinja, or `{field}`, `{field.inner}` for a field."""

    preface: str = ""
    """Template of a text before everything; with `chat` the system turn."""
    few_shot: FewShotConfig | None = None
    """Solved examples in front; with `chat` earlier turns."""
    chat: bool = False
    """Ask through the model's chat template instead of by plain text."""

    @field_validator("preface")
    @classmethod
    def _preface(cls, text: str) -> str:
        return _checked(text)


class MultipleChoiceConfig(PromptedConfig):
    """The most probable of some continuations: by sum of log-probabilities, and by that per character and byte."""

    kind: Literal["multiple_choice"] = "multiple_choice"
    form: Form | None = None
    """Records as ARC, HellaSwag, PIQA, WinoGrande or MMLU have them; instead of the three templates."""
    prompt: str = ""
    """Template of the text before the options."""
    options: str | tuple[str, ...] = ""
    """Template that gives the list of options, or one template for each option."""
    answer: str = ""
    """Template that gives the right one: its place from 0, its letter (A, B ...) or its text."""
    separator: str = " "
    """Between prompt and option."""

    @model_validator(mode="after")
    def _form_or_templates(self) -> Self:
        given = [name for name in ("prompt", "options", "answer") if getattr(self, name)]
        if self.form is not None and given:
            raise ValueError(f"form: {self.form} has its own {given[0]}; leave one of them out")
        if self.form is None and ("options" not in given or "answer" not in given):
            raise ValueError("give a form, or the templates prompt, options and answer")
        for text in (self.prompt, self.answer, *([self.options] if isinstance(self.options, str) else self.options)):
            _checked(text)
        return self


class LastWordConfig(PromptedConfig):
    """LAMBADA: the last word of a passage, guessed greedily, and how probable it was."""

    kind: Literal["last_word"] = "last_word"
    text_field: str = "text"
    """Field of the passage; its last word is what stands behind the last space."""


class MinimalPairsConfig(BenchmarkConfig):
    """BLiMP: of two sentences that differ in little the right one should be more probable."""

    kind: Literal["minimal_pairs"] = "minimal_pairs"
    good_field: str = "sentence_good"
    """Field of the right sentence."""
    bad_field: str = "sentence_bad"
    """Field of the wrong sentence."""


class BiasPairsConfig(BenchmarkConfig):
    """CrowS-Pairs: how often the sentence that says a stereotype is more probable than the other; 0.5 is fair."""

    kind: Literal["bias_pairs"] = "bias_pairs"
    more_field: str = "sent_more"
    """Field of the sentence that is more stereotyping."""
    less_field: str = "sent_less"
    """Field of the other sentence."""
    direction_field: str = "stereo_antistereo"
    """Field that tells pairs that show a stereotype (`stereo`) from those that go against one; empty: none."""
    group_field: str = "bias_type"
    """Field of whom the stereotype is about; empty: none."""


class GenerationTaskConfig(PromptedConfig):
    """A text that the model writes, most likely tokens first, compared with references."""

    kind: Literal["generation"] = "generation"
    prompt: str
    """Template of what the model goes on with, or with `chat` is asked: a text, or a list of messages (`role`,
    `content`) of which the last is the user's."""
    references: str | tuple[str, ...] = ""
    """Template that gives the right answer or a list of them (empty: there is none to give), or several templates."""
    metrics: tuple[GenerationMetric, ...] = Field(min_length=1)
    """`exact_match` and `f1` by the rules of SQuAD (zh: CMRC 2018); `bleu` and `chrf` by sacrebleu; `rouge` 1, 2 and L;
    `accuracy` and F1 of labels; `final_answer` of sums (GSM8K); `toxicity`: words of `word_list`; `coverage`: the share
    of the references that the text names, and `success`: all of them; `distinct`: how many words and pairs of words
    differ, and how much is repeated."""
    language: Literal["en", "zh"] = "en"
    """How texts are cut into words; `en` for all languages that put spaces."""
    max_new_tokens: int = Field(default=64, ge=1, le=1_000_000)
    """Longest answer."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer; they and what follows are left out."""
    no_answer: str = ""
    """What a model says where there is no answer, beside saying nothing."""
    labels: tuple[str, ...] = ()
    """For `accuracy`: the labels; empty: those that occur among the references."""
    word_list: str = ""
    """For `toxicity`: UTF-8 text, a word or phrase a line, `#` begins a comment."""
    bootstrap: int = Field(default=1000, ge=100, le=100_000)
    """Resamplings behind the standard error of a score of the whole set (BLEU, chrF, F1 of labels)."""
    bootstrap_seed: int = Field(default=0, ge=0)
    """Start of their random numbers."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for text in (self.prompt, *([self.references] if isinstance(self.references, str) else self.references)):
            _checked(text)
        if "toxicity" in self.metrics and not self.word_list:
            raise ValueError("metrics: toxicity counts the words of word_list; name a file of words")
        if set(self.metrics) - {"toxicity", "distinct"} and not self.references:
            raise ValueError("references: the metrics compare with references; give a template")
        if any(not text for text in self.stop):
            raise ValueError("stop: an empty text would end every answer; leave it out")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("labels: two are the same; give each once")
        return self


EvaluationTask = Annotated[
    MultipleChoiceConfig | LastWordConfig | MinimalPairsConfig | BiasPairsConfig | GenerationTaskConfig,
    Field(discriminator="kind"),
]
"""A benchmark of any kind."""


def _checked(text: str) -> str:
    fault = template_fault(text)
    if fault:
        raise ValueError(fault)
    return text


def task_identity(task: BenchmarkConfig, base: Path) -> dict[str, Any]:
    """What of a task changes its figures: its settings, and names and SHA-256 of its files instead of their paths."""
    values = config.to_dict(task)
    files: dict[str, dict[str, str]] = {}
    for place in PATHS:
        owner, _, key = place.rpartition(".")
        inside = values.get(owner) if owner else values
        path = inside.pop(key, "") if isinstance(inside, dict) else ""
        if path:
            files[place] = {file.name: hash_file(file.path) for file in find_files(path, base).files}
    return {**values, "files": files}
