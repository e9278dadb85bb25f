"""The root recipe: all configs of the rooms in one tree, and `runtime:` beside them.

Invariant: everything outside `name` and `runtime` is identity and enters a stage's fingerprint; they never do.
"""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator

from groundup import config
from groundup.config import Config, Name
from groundup.corpus import CorpusConfig, EngineName
from groundup.errors import RecipeError
from groundup.evaluate import EvaluateConfig
from groundup.export import ExportConfig
from groundup.models import (
    DecoderConfig,
    EncoderConfig,
    FullTuning,
    ModelConfig,
    TuneConfig,
    build_model,
)
from groundup.optim import LayersConfig, require_transfer
from groundup.pipeline.lambda_config import AutoLambda, LambdaConfig, also_a_word
from groundup.pipeline.preferences_config import PreferencesConfig
from groundup.pipeline.split_rows import check_split_rows
from groundup.pipeline.start import described
from groundup.tokens import InstructSourceConfig, MaskingConfig, TaskKind, TaskSourceConfig, TokenizerConfig
from groundup.train.layout import check_fp8, check_phase
from groundup.train.settings import FULL, ExecutionConfig, TrainingConfig

_PATHS = (
    "corpus.sources.path",
    "corpus.clean.word_lists.path",
    "corpus.decontaminate.path",
    "corpus.augment.path",
    "corpus.augment.model_folder",
    "corpus.augment.endpoint.api_key_file",
    "tokenizer.path",
    "tokenizer.chat_template",
    "tokenizer.compare",
    "pretrain.from",
    "instruct.sources.path",
    "instruct.heldout.path",
    "preferences.sources.path",
    "preferences.heldout.path",
    "task.sources.path",
    "task.heldout.path",
    *("evaluate.tasks.path", "evaluate.tasks.few_shot.path", "evaluate.tasks.word_list"),
)
"""Where a recipe names files and folders to read; in each entry where a list is on the way."""


ANY_VOCAB_SIZE = 256
"""Which layers a model has does not depend on its tokens."""
REPLAY = "replay"
"""Name of replayed text as a source."""


class PretrainConfig(TrainingConfig):
    """Next-token prediction (encoders: prediction of masked tokens) on the train split of the corpus."""

    tokens: int = Field(ge=0)
    """Budget: positions (padding included) that the phase trains on; with `from` also 0: the model as it is."""
    from_: str | None = Field(default=None, alias="from")
    """Start from a model: a folder (`model` and `tokenizer.path` follow from it), a run, or a .gguf file."""
    mixture: dict[str, float] = Field(default_factory=dict)
    """Share of each corpus source in every batch; empty: all documents as one stream, in proportion to their size."""
    order: Literal["shuffled", "continuous"] = "shuffled"
    """Rows in random order, or each row of a batch along its text from step to step: for models that carry a state."""
    start: Literal["random", "bigrams"] = "random"
    """Where the tables begin: random, or as the best bigram model of the text, counted and fitted in seconds."""
    start_steps: int = Field(default=60, ge=0)
    """Steps of that fit, 2.6 * vocab_size^2 * hidden_size FLOPs each; fewer where they were over 5% of the phase's."""
    masking: MaskingConfig | None = None
    """For encoders, which learn to say what is hidden instead of what comes next: how tokens are hidden."""

    @property
    def masked(self) -> MaskingConfig:
        """How tokens are hidden, with the usual values where a model is taken as it is and nothing is said."""
        return self.masking or MaskingConfig()

    @model_validator(mode="after")
    def _one_start(self) -> PretrainConfig:
        if self.from_ is None and self.tokens == 0:
            raise ValueError("tokens: 0 trains nothing; give a budget, or a model to take as it is by `from`")
        if self.from_ is not None and self.start != "random":
            raise ValueError(f"start: {self.start} makes new tables, `from` brings its own; leave one of them out")
        return self


class InstructConfig(TrainingConfig):
    """Instruction tuning from the pretrained weights: loss = loss_pretrain + lambda * loss_instruct."""

    sources: tuple[InstructSourceConfig, ...] = Field(min_length=1)
    """Conversations to train on."""
    heldout: tuple[InstructSourceConfig, ...] = ()
    """Conversations that are only asked in evaluation."""
    tokens: int = Field(default=0, ge=0)
    """Budget: positions (padding included) that the phase trains on; or give `epochs`."""
    epochs: float | None = Field(default=None, gt=0)
    """Budget in passes over the packed conversations, all sources together; in place of `tokens`."""
    lambda_: LambdaConfig = Field(default=1.0, alias="lambda", json_schema_extra=also_a_word)
    """Weight of the instruction loss against the loss on replayed pretraining text: a number above 0, a course over the
    steps, or `auto`.
    """
    mixture: dict[str, float] = Field(default_factory=dict)
    """Share of each conversation source among them; empty: in proportion to its size."""
    replay_fraction: float = Field(default=0.25, ge=0, lt=1)
    """Share of each batch's rows that are replayed pretraining text."""
    replay_mixture: dict[str, float] = Field(default_factory=dict)
    """Share of each corpus source in the replayed text, each a source of its own then; empty: as in pretraining."""
    tune: TuneConfig = FullTuning()
    """Whether every weight learns, or small adapters beside frozen weights."""
    layers: LayersConfig | None = None
    """Which layers learn, from when on and how fast; left out: all alike."""

    @property
    def search(self) -> AutoLambda | None:
        """How lambda is to be chosen, where it is."""
        return self.lambda_ if isinstance(self.lambda_, AutoLambda) else None

    @property
    def replayed(self) -> tuple[str, ...]:
        """Names of the sources of replayed text in the mixture and in the losses."""
        if not self.replay_fraction:
            return ()
        return tuple(f"{REPLAY}_{name}" for name, share in self.replay_mixture.items() if share) or (REPLAY,)

    @model_validator(mode="after")
    def _one_budget(self) -> InstructConfig:
        if (self.tokens > 0) == (self.epochs is not None):
            raise ValueError("give the budget as tokens or as epochs, one of the two")
        return self

    @model_validator(mode="after")
    def _something_to_weigh(self) -> InstructConfig:
        for what, asked in (("lambda: auto", self.search is not None), ("replay_mixture", bool(self.replay_mixture))):
            if asked and not self.replay_fraction:
                raise ValueError(f"{what} is about replayed text, and replay_fraction: 0 replays none; raise it")
        taken = sorted({source.name for source in self.sources} & set(self.replayed))
        if taken:
            raise ValueError(f"sources: {taken[0]!r} is the name of the replayed text; take another one")
        return self


class TaskConfig(TrainingConfig):
    """A task for a pretrained encoder: labels of texts, pairs or words, numbers, or spans that answer questions."""

    kind: TaskKind
    """`sequence`: a label of each text or pair; `token`: of each word; `number`: a number; `span`: where the answer is.
    """
    sources: tuple[TaskSourceConfig, ...] = Field(min_length=1)
    """Labelled records to train on."""
    heldout: tuple[TaskSourceConfig, ...] = Field(min_length=1)
    """Labelled records that are only evaluated on; the first is the headline."""
    labels: tuple[str, ...] = ()
    """Names of the labels in the order of their numbers; empty: those that occur, sorted."""
    class_weights: Literal["balanced"] | dict[str, float] | None = None
    """What a label's loss counts: `balanced` (the rarer the more, 1 on average) or a weight of each label."""
    layers: LayersConfig = LayersConfig()
    """Which layers of the body learn, from when on and how fast."""

    @model_validator(mode="after")
    def _of_labels_only(self) -> TaskConfig:
        if self.kind in ("sequence", "token"):
            if len(self.labels) == 1:
                raise ValueError("labels: one label cannot be told from others; give two or more, or leave them out")
            weights = self.class_weights if isinstance(self.class_weights, dict) else {}
            if any(not 0 <= weight < math.inf for weight in weights.values()):
                raise ValueError("class_weights: weights are numbers from 0 on")
            return self
        for what, asked in (
            ("labels", self.labels),
            ("class_weights", self.class_weights),
            ("loss.label_smoothing", self.loss.label_smoothing),
            ("loss.z_loss", self.loss.z_loss),
        ):
            if asked:
                raise ValueError(f"{what}: a task of kind {self.kind} has no labels; leave it out")
        return self


class RuntimeConfig(ExecutionConfig):
    """What changes only speed or place."""

    workdir: str = "work"
    """Folder of stages and runs, relative to the current folder."""
    workers: int = Field(default=0, ge=0)
    """Processes that read, clean and encode text (0: this one; worth it for gigabytes)."""
    verify_inputs: bool = True
    """Hash what a stage is made from before it is begun, tokens, tokenizer and weights alike: a second a gigabyte,
    on several threads where there is much; once a command.
    """
    data_engine: EngineName = "local"
    """What reads, cleans, deduplicates and encodes text: processes here, or a Ray cluster that shares `workdir`."""
    ray_address: str = ""
    """Address of a running Ray cluster, or `auto` on one of its nodes; empty: `workers` processors of this machine."""


class Recipe(Config):
    """One run, from raw text to a model one can chat with."""

    name: Name
    """Name of the run's folder, runs/<name>."""
    seed: int = Field(default=1, ge=0)
    """Seed of weights and sample order."""
    corpus: CorpusConfig
    """Raw text and what is done to it."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    """How text becomes tokens."""
    model: ModelConfig
    """The network."""
    pretrain: PretrainConfig
    """First phase."""
    instruct: InstructConfig | None = None
    """Second phase; leave it out to stop after pretraining."""
    preferences: PreferencesConfig | None = None
    """Last phase: which of two answers is better; leave it out where nothing says so."""
    task: TaskConfig | None = None
    """Second phase of an encoder; leave it out to stop after pretraining."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """What is measured at the end."""
    export: ExportConfig = ExportConfig()
    """The Hugging Face folder."""
    runtime: RuntimeConfig = RuntimeConfig()
    """Speed and place."""

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        sources = [source.name for source in self.corpus.sources]
        _check_mixture("pretrain.mixture", self.pretrain.mixture, sources)
        _check_mixture("tokenizer.mixture", self.tokenizer.mixture, sources)
        if self.instruct is not None:
            _check_distinct("instruct.sources", [source.name for source in self.instruct.sources])
            _check_distinct("instruct.heldout", [source.name for source in self.instruct.heldout])
            _check_mixture("instruct.mixture", self.instruct.mixture, [source.name for source in self.instruct.sources])
            _check_mixture("instruct.replay_mixture", self.instruct.replay_mixture, sources)
        _check_objective(self)
        if self.pretrain.start == "bigrams" and not isinstance(self.model, DecoderConfig):
            raise ValueError("pretrain.start: bigrams needs model.kind: decoder; its blocks can begin as the identity")
        if self.pretrain.start == "bigrams" and self.model.tied:
            raise ValueError("pretrain.start: bigrams needs model.tied: false; a token's two tables differ in it")
        if self.task is not None:
            _check_distinct("task.sources", [source.name for source in self.task.sources])
            _check_distinct("task.heldout", [source.name for source in self.task.heldout])
            if not isinstance(self.model, EncoderConfig):
                raise ValueError(f"task needs model.kind: encoder; a {self.model.kind} has no head for labels")
            if len(set(self.task.labels)) < len(self.task.labels):
                raise ValueError("task.labels: two have the same name; give each its own")
            _check_pairs(self.task, self.model.num_parts)
        _check_preferences(self)
        check_split_rows(self.runtime.parallel.context, self.model, judges=self.preferences is not None)
        _check_training(self)
        return self


def _check_mixture(where: str, mixture: dict[str, float], sources: Sequence[str]) -> None:
    unknown = sorted(mixture.keys() - set(sources))
    if unknown:
        raise ValueError(f"{where} names {unknown[0]!r}, which is no source of it; known: {sorted(sources)}")
    if mixture and (min(mixture.values()) < 0 or not any(mixture.values())):
        raise ValueError(f"{where}: shares must not be negative, and one of them above 0")


def _check_distinct(where: str, names: Sequence[str]) -> None:
    """Case aside, as names become folders."""
    lowered = [name.lower() for name in names]
    twice = next((name for name in names if lowered.count(name.lower()) > 1), None)
    if twice is not None:
        raise ValueError(f"{where}: two are named {twice!r} (letter case aside); give each its own name")


def _check_objective(recipe: Recipe) -> None:
    """An objective that the model cannot do is refused, with what would work."""
    masking, model = recipe.pretrain.masking, recipe.model
    if not isinstance(model, EncoderConfig):
        if masking is not None:
            raise ValueError(f"pretrain.masking needs model.kind: encoder; a {model.kind} predicts what comes next")
        return
    if masking is None and recipe.pretrain.tokens:
        raise ValueError("model.kind: encoder needs pretrain.masking, for example masking: {share: 0.15}")
    share = recipe.pretrain.masked.share
    if share > model.predicted_share:
        raise ValueError(
            f"pretrain.masking.share {share} is above model.predicted_share {model.predicted_share}; raise that"
        )
    if recipe.evaluate.tasks:
        raise ValueError("evaluate.tasks: an encoder goes on with no text; leave them out, or use model.kind: decoder")
    if recipe.instruct is not None:
        raise ValueError("an encoder does not answer, so it has no 'instruct:' section; use model.kind: decoder")


def _check_preferences(recipe: Recipe) -> None:
    """Answers are compared by a model that keeps the documents of a row apart."""
    preferences = recipe.preferences
    if preferences is None:
        return
    _check_distinct("preferences.sources", [source.name for source in preferences.sources])
    _check_distinct("preferences.heldout", [source.name for source in preferences.heldout])
    _check_mixture("preferences", preferences.mixture, [source.name for source in preferences.sources])
    if recipe.model.kind not in ("decoder", "transformers"):
        raise ValueError(f"preferences need model.kind: decoder or transformers; a {recipe.model.kind} cannot")
    if recipe.runtime.parallel.pipeline > 1:
        raise ValueError("preferences do not go with stages; use runtime.parallel.pipeline=1")
    if preferences.instruct_fraction and recipe.instruct is None:
        raise ValueError("preferences.instruct_fraction trains on instruct.sources; add an 'instruct:' section")


def _check_pairs(task: TaskConfig, num_parts: int) -> None:
    """Pairs need an embedding for each text; questions need to be told from the text, and words have no pair."""
    for source in (*task.sources, *task.heldout):
        if task.kind == "token" and source.pair_field:
            raise ValueError(f"task: words of single texts are labelled, so '{source.name}' has no pair_field")
        if task.kind == "span" and not source.pair_field:
            raise ValueError(f"task: kind span needs pair_field, the field of the question, in '{source.name}'")
        if source.pair_field and num_parts < 2:
            raise ValueError("task: pairs need model.num_parts of 2 or more, one for each text")
    if len({bool(source.pair_field) for source in (*task.sources, *task.heldout)}) > 1:
        raise ValueError("task: some sources have a pair_field and others none; give all of them one, or none")


def check_layouts(recipe: Recipe, ranks: int) -> None:
    """Raise RecipeError unless so many ranks can train every phase in the layout of `runtime`."""
    for phase in _phases(recipe):
        layers: LayersConfig | None = None
        tune: TuneConfig = FULL
        if isinstance(phase, InstructConfig | PreferencesConfig):
            layers, tune = phase.layers, phase.tune
        check_phase(recipe.model, phase, recipe.runtime, ranks, layers, tune)
        if phase.precision == "fp8":
            with torch.device("meta"):
                model = build_model(recipe.model, vocab_size=ANY_VOCAB_SIZE)
            check_fp8(model, tune, recipe.runtime.parallel)


def _phases(recipe: Recipe) -> list[TrainingConfig]:
    found = (recipe.pretrain, recipe.instruct, recipe.preferences, recipe.task)
    return [phase for phase in found if phase is not None]


def _check_training(recipe: Recipe) -> None:
    try:
        for ranks in recipe.runtime.world_sizes:
            check_layouts(recipe, ranks)
        if isinstance(recipe.model, DecoderConfig) and recipe.model.scaling is not None:
            for phase in _phases(recipe):
                require_transfer(phase.optimizer)
    except RecipeError as error:
        raise ValueError(error.message) from None


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Recipe file + `key.path=value` overrides -> Recipe.

    Data paths that are not found from the current folder but from the recipe's become absolute, and what
    `pretrain.from` says of the model is written out, so that a Recipe stands by itself. Raises RecipeError with all
    faults, and ModelFileError when `pretrain.from` is no model.
    """
    path = Path(path)
    values = config.apply_overrides(config.read_yaml(path), overrides)
    values = described(anchored(values, path.resolve().parent))
    if isinstance(values.get("model"), dict):
        values["model"].setdefault("kind", "decoder")
    return config.build(Recipe, values, str(path))


def anchored(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A recipe's values with the files that it names looked for in `folder` too, where they are not found from here."""
    for keys in _PATHS:
        _anchor_all(values, keys.split("."), folder)
    return values


def _anchor_all(values: Any, keys: Sequence[str], folder: Path) -> None:
    """Anchor the path or list of paths under a chain of keys; other shapes are left for the check of the recipe."""
    if isinstance(values, list):
        for each in values:
            _anchor_all(each, keys, folder)
    elif isinstance(values, dict):
        key, *inner = keys
        found = values.get(key)
        if inner:
            _anchor_all(found, inner, folder)
        elif isinstance(found, str):
            values[key] = _anchor(found, folder)
        elif isinstance(found, list):
            values[key] = [_anchor(path, folder) if isinstance(path, str) else path for path in found]


def _anchor(path: str, folder: Path) -> str:
    """`path` below `folder` when it leads somewhere from there but not from the current folder; else as it is."""
    if not path or "\0" in path or "://" in path or _leads_somewhere(path):
        return path
    below = str(folder / path)
    return below if _leads_somewhere(below) else path


def _leads_somewhere(path: str) -> bool:
    return os.path.lexists(path) or next(glob.iglob(path, recursive=True), None) is not None
