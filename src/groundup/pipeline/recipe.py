"""The root recipe: all configs of the rooms in one tree, and `runtime:` beside them.

Invariant: everything outside `name` and `runtime` is identity and enters a stage's fingerprint; they never do.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field, model_validator

from groundup.config import Config, Name
from groundup.corpus import CorpusConfig, EngineName
from groundup.errors import RecipeError
from groundup.evaluate import EvaluateConfig
from groundup.export import ExportConfig
from groundup.models import DecoderConfig, EncoderConfig, FullTuning, ModelConfig, TuneConfig, build_model, induction
from groundup.optim import LayersConfig, require_transfer
from groundup.pipeline.instruct_config import InstructConfig
from groundup.pipeline.preferences_config import PreferencesConfig
from groundup.pipeline.pretrain_config import PretrainConfig
from groundup.pipeline.split_rows import check_split_rows
from groundup.pipeline.task_config import TaskConfig
from groundup.tokens import TokenizerConfig
from groundup.train.layout import check_fp8, check_phase
from groundup.train.settings import FULL, ExecutionConfig, TrainingConfig

ANY_VOCAB_SIZE = 256
"""Which layers a model has does not depend on its tokens."""


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
        if self.pretrain.counted:
            _check_start(self.pretrain.start, self.model)
        if self.task is not None:
            _check_distinct("task.sources", [source.name for source in self.task.sources])
            _check_distinct("task.heldout", [source.name for source in self.task.heldout])
            if not isinstance(self.model, EncoderConfig):
                raise ValueError(f"task needs model.kind: encoder; a {self.model.kind} has no head for labels")
            if len(set(self.task.labels)) < len(self.task.labels):
                raise ValueError("task.labels: two have the same name; give each its own")
            _check_pairs(self.task, self.model.num_parts)
        _check_preferences(self)
        _check_layers(self)
        check_split_rows(self.runtime.parallel.context, self.model, judges=self.preferences is not None)
        _check_training(self)
        return self


def _check_start(start: str, model: ModelConfig) -> None:
    """Raise ValueError for a model that cannot begin with what is counted of the text."""
    if not isinstance(model, DecoderConfig):
        raise ValueError(f"pretrain.start: {start} needs model.kind: decoder; its blocks can begin as the identity")
    if model.tied:
        raise ValueError(f"pretrain.start: {start} needs model.tied: false; a token's two tables differ in it")
    if start == "induction" and (needed := induction.obstacle(model)) is not None:
        raise ValueError(f"pretrain.start: induction needs {needed}; or use start: bigrams")


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


def _check_layers(recipe: Recipe) -> None:
    """Layers that are to learn are there, and their turn comes within the phase."""
    for where, phase in (("instruct", recipe.instruct), ("preferences", recipe.preferences), ("task", recipe.task)):
        if phase is None or phase.layers is None:
            continue
        layers, model = phase.layers, recipe.model
        num_layers = getattr(model, "num_layers", 0)
        if num_layers < 1:
            continue  # of a class of transformers that does not say it in the usual words
        whole = isinstance(getattr(phase, "tune", FULL), FullTuning)
        # A budget in epochs is known when the data are.
        steps = phase.total_steps() if phase.tokens else None
        if obstacle := layers.obstacle(num_layers, steps, embeddings=whole):
            raise ValueError(f"{where}.{obstacle}")


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
    for name, phase in _phases(recipe).items():
        layers: LayersConfig | None = None
        tune: TuneConfig = FULL
        if isinstance(phase, InstructConfig | PreferencesConfig):
            layers, tune = phase.layers, phase.tune
        try:
            check_phase(recipe.model, phase, recipe.runtime, ranks, layers, tune)
        except RecipeError as error:
            if error.message.partition(":")[0].partition(".")[0] not in type(phase).model_fields:
                raise
            raise RecipeError(f"{name}.{error.message}", details=error.details) from None
        if phase.precision == "fp8":
            with torch.device("meta"):
                model = build_model(recipe.model, vocab_size=ANY_VOCAB_SIZE)
            check_fp8(model, tune, recipe.runtime.parallel)


def _phases(recipe: Recipe) -> dict[str, TrainingConfig]:
    """The sections that train, by name."""
    found: dict[str, TrainingConfig | None] = {"pretrain": recipe.pretrain, "instruct": recipe.instruct}
    found |= {"preferences": recipe.preferences, "task": recipe.task}
    return {name: phase for name, phase in found.items() if phase is not None}


def _check_training(recipe: Recipe) -> None:
    try:
        for ranks in recipe.runtime.world_sizes:
            check_layouts(recipe, ranks)
        if isinstance(recipe.model, DecoderConfig) and recipe.model.scaling is not None:
            for phase in _phases(recipe).values():
                require_transfer(phase.optimizer)
    except RecipeError as error:
        raise ValueError(error.message) from None
