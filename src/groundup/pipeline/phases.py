"""The two training phases of a recipe: finished stages -> mixture, objectives, start -> the one training loop.

    pretrain    text of the train split                          random start
    instruct    conversations, and replayed text beside them     starts from the pretrained weights

Invariant: the phases differ in what is handed to `loop.train`, never in how it trains.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from groundup import config, evaluate, tokens
from groundup.errors import DataError
from groundup.log import logger
from groundup.models import DecoderConfig, EncoderConfig, Network, NetworkConfig, TuneConfig, build_model
from groundup.models.bigrams import flops_of_step
from groundup.optim import LayersConfig
from groundup.parallel import alone
from groundup.parallel.compile import uncompiled
from groundup.pipeline import adapters
from groundup.pipeline.changes import state_identity
from groundup.pipeline.context import Context
from groundup.pipeline.lambda_config import AutoLambda, Lambda, Ramp, lambda_at
from groundup.pipeline.recipe import REPLAY, InstructConfig, Recipe
from groundup.pipeline.start import foreign_start, start_identity
from groundup.tokens import (
    NEXT_SENTENCE,
    EncoderText,
    JoinedRows,
    Masking,
    Mixture,
    MixtureSource,
    PackedConversations,
    PackedText,
    Rows,
    SelectedRows,
    Tokenizer,
    WordStarts,
)
from groundup.train import checkpoint, loop
from groundup.train.journal import Journal
from groundup.train.loading import load_weights
from groundup.train.phase import CHECKPOINTS, Phase, Validate
from groundup.train.settings import FULL, TrainingConfig
from groundup.train.start import start_from_bigrams
from groundup.train.state import TrainState, build_state
from groundup.train.step import Objectives
from groundup.train.way import configure_threads, pick_device, way_to_compute

BIGRAM_TOKENS = 2**24
"""Text that is counted for a start from bigrams, at most; enough for the pairs that matter."""
FIT_SHARE = 0.05
PREVIEWS = 3


def _phase_identity(context: Context, phase: TrainingConfig) -> Mapping[str, Any]:
    """Everything but the conversations' paths, since their content enters through the stage that read them."""
    training = {key: value for key, value in config.to_dict(phase).items() if key not in ("sources", "heldout")}
    return {"model": config.to_dict(context.recipe.model), "training": training, "seed": context.recipe.seed}


def pretrain_identity(context: Context) -> Mapping[str, Any]:
    """What decides the pretrained weights, beside the shards; of a model to start from, the content of its files."""
    path = context.recipe.pretrain.from_
    identity = _phase_identity(context, context.recipe.pretrain)
    return {**identity, "training": {**identity["training"], "from": None if path is None else start_identity(path)}}


def instruct_identity(context: Context) -> Mapping[str, Any]:
    """What decides the tuned weights, beside the stages they come from."""
    return _phase_identity(context, context.instruct())


def text_rows(context: Context, split: str) -> dict[str, Rows]:
    """Rows of text, with what is to be predicted of it, of every source that has documents in `split`."""
    shards, model = context.done["shards"], context.recipe.model
    folders = {source: shards.path / split / source for source in shards.summary.get(split, {})}
    if isinstance(model, EncoderConfig):
        masking = _masking(context)
        ids = context.tokenizer().need_encoder_ids()
        return {
            source: EncoderText(folder, source, model.context_length, ids, masking, pairs=model.next_sentence)
            for source, folder in folders.items()
        }
    return {
        source: PackedText(folder, source, model.context_length, context.vocab_size)
        for source, folder in folders.items()
    }


def _masking(context: Context) -> Masking:
    """How this recipe hides tokens."""
    config, tokenizer = context.recipe.pretrain.masked, context.tokenizer()
    words = WordStarts(tokenizer, tokenizer.continuing_ids)
    return Masking(config, words, tokenizer.need_encoder_ids().mask, context.recipe.seed)


def _pretrain_sources(context: Context) -> list[MixtureSource]:
    """Every corpus source with its share: as the recipe says, else in proportion to its size."""
    rows = text_rows(context, "train")
    shares = context.recipe.pretrain.mixture or {name: float(source.num_rows) for name, source in rows.items()}
    _require_text("pretrain.mixture", shares, rows)
    total = sum(shares.values())
    return [MixtureSource(rows[name], share / total) for name, share in shares.items()]


def _pretrain_data(context: Context) -> tuple[Mixture, Objectives]:
    recipe = context.recipe
    mixture = Mixture(
        _pretrain_sources(context), rows_per_step(recipe.pretrain, recipe), recipe.seed, recipe.pretrain.order
    )
    names = tuple(mixture.names)
    objectives = Objectives(names, (0,) * len(names), ("pretrain",), (1.0,))
    if isinstance(recipe.model, EncoderConfig) and recipe.model.next_sentence:
        weights = (1.0, recipe.pretrain.masked.next_sentence_weight)
        objectives = replace(objectives, heads=("", NEXT_SENTENCE), head_weights=weights)
    return mixture, objectives


def conversations(context: Context) -> list[PackedConversations]:
    """The packed rows of every conversation source."""
    folder, length = context.folder("conversations"), context.recipe.model.context_length
    names = [source.name for source in context.instruct().sources]
    return [PackedConversations(folder / name, name, length, context.vocab_size) for name in names]


def instruct_mixture(context: Context, packed: Sequence[Rows]) -> Mixture:
    """Replayed text and the conversations of `packed`, in the shares of the recipe."""
    recipe, instruct = context.recipe, context.instruct()
    shares = instruct.mixture or {rows.name: float(rows.num_rows) for rows in packed}
    total = sum(shares.get(rows.name, 0.0) for rows in packed)
    asked = 1.0 - instruct.replay_fraction
    sources = [MixtureSource(rows, asked * shares[rows.name] / total) for rows in packed if shares.get(rows.name)]
    return Mixture([*_replay(context), *sources], rows_per_step(instruct, recipe), recipe.seed)


def instruct_budget(instruct: InstructConfig, mixture: Mixture) -> InstructConfig:
    """The section with its budget in tokens: `epochs` are passes over the rows of all conversations of the mixture."""
    if instruct.epochs is None:
        return instruct
    pairs = zip(mixture.sources, mixture.rows_of_sources)
    asked = [(source.rows.num_rows, rows) for source, rows in pairs if source.rows.name not in instruct.replayed]
    steps = math.ceil(instruct.epochs * sum(rows for rows, _ in asked) / sum(per_step for _, per_step in asked))
    return instruct.model_copy(update={"tokens": steps * instruct.global_batch_tokens, "epochs": None})


def instruct_objectives(instruct: InstructConfig, mixture: Mixture, weight: Lambda) -> Objectives:
    """Replayed text (objective pretrain, weight 1) and conversations (objective instruct, weight lambda)."""
    membership = tuple(int(name not in instruct.replayed) for name in mixture.names)
    steps = instruct.total_steps()
    return Objectives(
        tuple(mixture.names),
        membership,
        ("pretrain", "instruct"),
        (1.0, lambda_at(weight, 0, steps)),
        weights_at=lambda step: (1.0, lambda_at(weight, step, steps)),
        weight_names=("", "lambda"),
    )


def _replay(context: Context) -> list[MixtureSource]:
    """Pretraining text as one source, or, where the recipe gives shares, each corpus source as one."""
    instruct = context.instruct()
    if not instruct.replay_fraction:
        return []
    if not instruct.replay_mixture:
        return [MixtureSource(_as_pretrained(context), instruct.replay_fraction)]
    rows = text_rows(context, "train")
    shares = {name: share for name, share in instruct.replay_mixture.items() if share}
    _require_text("instruct.replay_mixture", shares, rows)
    part = instruct.replay_fraction / sum(shares.values())
    return [MixtureSource(JoinedRows(f"{REPLAY}_{name}", [rows[name]]), part * share) for name, share in shares.items()]


def _as_pretrained(context: Context) -> Rows:
    """Pretraining text as one source; each part is repeated as often as its share in pretraining asks for."""
    sources = _pretrain_sources(context)
    rates = [source.share / source.rows.num_rows for source in sources]
    repeated = [source.rows for source, rate in zip(sources, rates) for _ in range(round(rate / min(rates)))]
    return JoinedRows(REPLAY, repeated)


def _require_text(where: str, shares: Mapping[str, float], rows: Mapping[str, Rows]) -> None:
    unknown = sorted(shares.keys() - rows.keys())
    if unknown:
        raise DataError(f"{where}: source {unknown[0]!r} has no document in the train split; leave it out")


def rows_per_step(training: TrainingConfig, recipe: Recipe) -> int:
    """Rows of one step over all micro-batches and ranks."""
    return training.global_batch_tokens // recipe.model.context_length


def _validation(context: Context, tokenizer: Tokenizer, training: TrainingConfig) -> Validate:
    """Bits per byte on an even selection of the validation rows of all sources."""
    parts = list(text_rows(context, "validation").values())
    if not parts:
        return lambda model: {}
    limit = training.validation.rows if training.validation else context.recipe.runtime.validation_rows
    rows = SelectedRows(JoinedRows("validation", parts), limit)

    def validate(model: Network) -> Mapping[str, Any]:
        # Eagerly: a second compiled graph, without gradients, would cost more than the few rows save.
        with uncompiled():
            return evaluate.measure_text(model, rows, tokenizer).summary()

    return validate


def run_phase(
    context: Context,
    work: Path,
    name: str,
    training: TrainingConfig,
    data: tuple[Mixture, Objectives],
    start: Mapping[str, torch.Tensor] | Callable[[TrainState], None],
    validate: Validate | None = None,
    model: NetworkConfig | None = None,
    layers: LayersConfig | None = None,
    mirrored: bool = True,
    tune: TuneConfig = FULL,
) -> Mapping[str, Any]:
    """Train in `work` to the end of the phase's budget, going on from what is there; returns the stage's summary.

    With several ranks the first lets the others train with it, each of which gets here by the same way.

    `validate`: bits per byte of held-out text when None. `model`: the recipe's when None; `layers`: which of it learn;
    `mirrored`: the run's folder gets the lines and events too; `tune`: whole or by adapters.
    """
    recipe, execution, tokenizer = context.recipe, context.recipe.runtime, context.tokenizer()
    model = model or recipe.model
    mixture, objectives = data
    ranks = context.ranks
    if ranks is not None and ranks.leads:
        ranks.say({"train": name, "work": str(work)})
    configure_threads(execution, processes=ranks.place.local_world_size if ranks is not None else 1)
    device, vocab_size = pick_device(execution), tokenizer.vocab_size
    flops_per_token = adapters.flops_per_token(model, vocab_size, tune)
    state = build_state(
        model,
        vocab_size,
        training,
        execution,
        recipe.seed,
        device=device,
        mesh=ranks.mesh(device.type) if ranks is not None else alone(execution.parallel, device.type),
        start=start if isinstance(start, Mapping) else None,
        layers=layers,
        tune=tune,
    )
    if callable(start) and not checkpoint.are_there(work / CHECKPOINTS):
        start(state)
    del start  # whole weights, which are in the state now
    phase = Phase(
        name=name,
        training=training,
        mixture=mixture,
        objectives=objectives,
        validate=validate or _validation(context, tokenizer, training),
        flops_per_token=flops_per_token,
        identity=state_identity(context.working_on),
    )
    journal = Journal(name, work, context.run_folder if mirrored else None, writes=context.leads)
    context.tell_restart(journal)
    summary = loop.train(phase, state, execution, work, journal, context.stop, context.faults, context.end)
    return {
        **summary,
        "parameters": model.num_parameters(vocab_size),
        **adapters.what_learns(state),
        "flops_per_token": flops_per_token,
        "epochs": {source: round(value, 3) for source, value in mixture.epochs(summary["steps"]).items()},
        "computed_by": way_to_compute(execution, model, training, vocab_size, device),
    }


def build_pretrain(context: Context, work: Path) -> Mapping[str, Any]:
    """Prediction of text of the train split, from random weights, counted pairs of tokens or a model."""
    recipe, data = context.recipe, _pretrain_data(context)
    if recipe.pretrain.tokens == 0:
        return _taken_as_it_is(context, work)

    def start(state: TrainState) -> None:
        if recipe.pretrain.start == "bigrams":
            _start_from_bigrams(state, data[0], recipe)
        if recipe.pretrain.from_ is not None:
            _start_from_model(state, recipe.pretrain.from_, recipe)

    return run_phase(context, work, "pretrain", recipe.pretrain, data, start)


def _start_from_model(state: TrainState, path: str, recipe: Recipe) -> None:
    """The weights of a model from elsewhere, with a row for each token of this run's tokenizer."""
    vocab_size = state.model.vocab_size
    weights, rows = foreign_start(path, recipe.model, vocab_size)
    load_weights(state.model, weights)
    logger.info(f"pretrain: starts from {path}; its table has {rows:,} rows, the tokenizer {vocab_size:,} tokens")


def _taken_as_it_is(context: Context, work: Path) -> Mapping[str, Any]:
    """A budget of no tokens: the model of `pretrain.from` as a finished phase, for instruction tuning or evaluation."""
    recipe, vocab_size = context.recipe, context.vocab_size
    assert recipe.pretrain.from_ is not None, "the recipe's check: tokens 0 goes with `from`"
    with torch.device("meta"):
        model = build_model(recipe.model, vocab_size=vocab_size)
    model.to_empty(device="cpu")
    weights, rows = foreign_start(recipe.pretrain.from_, recipe.model, vocab_size)
    load_weights(model, weights)
    folder = work / CHECKPOINTS
    folder.mkdir(exist_ok=True)
    save_file({name: p.detach() for name, p in model.named_parameters()}, folder / checkpoint.WEIGHTS)
    return {
        "weights": f"{CHECKPOINTS}/{checkpoint.WEIGHTS}",
        "steps": 0,
        "tokens": 0,
        "skipped_steps": 0,
        "validation": {},
        "train_seconds": 0.0,
        "rows_in_file": rows,
        "parameters": recipe.model.num_parameters(vocab_size),
        "flops_per_token": recipe.model.flops_per_token(vocab_size),
        "epochs": {},
    }


def _start_from_bigrams(state: TrainState, mixture: Mixture, recipe: Recipe) -> None:
    """Count the pairs of the first rows of training, at most once through all text, and fit the tables to them."""
    began = time.monotonic()
    whole = -(-sum(source.rows.num_rows for source in mixture.sources) // mixture.rows_per_step)
    steps = min(whole, max(1, BIGRAM_TOKENS // recipe.pretrain.global_batch_tokens))
    batches = (mixture.batch(step, 0, mixture.rows_per_step) for step in range(steps))
    counted = tokens.count_bigrams(batches, state.model.vocab_size)
    start_from_bigrams(state, counted, _fit_steps(recipe, state.model.vocab_size), recipe.seed, recipe.pretrain)
    logger.info(
        f"pretrain: starts from {int(counted.counts.sum()):,} pairs of tokens ({len(counted.counts):,} distinct), "
        f"counted and fitted in {time.monotonic() - began:.1f} s"
    )


def _fit_steps(recipe: Recipe, vocab_size: int) -> int:
    """As many as asked for, unless their FLOPs were more than FIT_SHARE of the phase's (at large vocabularies)."""
    assert isinstance(recipe.model, DecoderConfig), "a recipe that starts from pairs of tokens has a decoder"
    phase_flops = recipe.pretrain.tokens * recipe.model.flops_per_token(vocab_size)
    affordable = FIT_SHARE * phase_flops / flops_of_step(vocab_size, recipe.model.hidden_size)
    return min(recipe.pretrain.start_steps, int(affordable))


def build_instruct(context: Context, work: Path) -> Mapping[str, Any]:
    """Conversations and replayed text, from the pretrained weights."""
    mixture = instruct_mixture(context, conversations(context))
    instruct, (weight, how) = instruct_budget(context.instruct(), mixture), _lambda(context)
    _show_previews(context, mixture)
    summary = run_instruct(context, work, "instruct", instruct, mixture, weight)
    shown = config.to_dict(weight) if isinstance(weight, Ramp) else weight
    return {**summary, "lambda": shown, "lambda_chosen": how, "replay_fraction": instruct.replay_fraction}


def run_instruct(
    context: Context,
    work: Path,
    name: str,
    instruct: InstructConfig,
    mixture: Mixture,
    weight: Lambda,
    validate: Validate | None = None,
    mirrored: bool = True,
) -> Mapping[str, Any]:
    """Instruction tuning in `work` from the pretrained weights, for the phase itself and for trials of lambda alike."""
    return run_phase(
        context,
        work,
        name,
        instruct,
        (mixture, instruct_objectives(instruct, mixture, weight)),
        trained_weights(context, "pretrain"),
        validate,
        layers=instruct.layers,
        mirrored=mirrored,
        tune=instruct.tune,
    )


def _lambda(context: Context) -> tuple[Lambda, str]:
    """What the conversations weigh, and how that was decided."""
    asked = context.instruct().lambda_
    if isinstance(asked, AutoLambda):
        found = context.done["lambda"].summary
        return float(found["lambda"]), str(found["why"])
    return asked, "a course over the steps" if isinstance(asked, Ramp) else "set in the recipe"


def _show_previews(context: Context, mixture: Mixture) -> None:
    """Log three conversations as they are trained on, with what is learnt marked."""
    tokenizer = context.tokenizer()
    rows = next(source.rows for source in mixture.sources if isinstance(source.rows, PackedConversations))
    logger.info("three training examples; what the model learns to say is marked:")
    for index in range(min(PREVIEWS, rows.num_rows)):
        example = tokens.examples_of(rows.row(index * rows.num_rows // PREVIEWS))[0]
        preview = tokens.coloured_preview(tokenizer, example.ids, example.is_target, context.colour)
        logger.info(f"  {preview}", extra={"escaped": True})


def trained_weights(context: Context, phase: str) -> Mapping[str, torch.Tensor]:
    """Final weights of a finished phase, by parameter name: what it learnt, on what it started from."""
    learned = learned_weights(context, phase)
    section = adapters.tuning_section(context, phase)
    if section is None or (section.tune == FULL and section.layers is None):
        return learned
    start = str(context.done[phase].summary.get("starts_from", "pretrain"))
    return adapters.tuned(context, section.tune, trained_weights(context, start), learned)


def learned_weights(context: Context, phase: str) -> Mapping[str, torch.Tensor]:
    """What a finished phase left in its last checkpoint: all weights, or those that learnt."""
    found = context.done[phase]
    return checkpoint.read_tensors(found.path / str(found.summary["weights"]))


def trained_model(context: Context, phase: str, compute_dtype: torch.dtype = torch.float32) -> Network:
    """The model as a finished phase left it: float32 weights, computing in `compute_dtype`."""
    return model_with(context, trained_weights(context, phase), compute_dtype)


def model_with(context: Context, weights: Mapping[str, torch.Tensor], compute_dtype: torch.dtype) -> Network:
    """The recipe's model with these weights, to be asked."""
    recipe = context.recipe
    configure_threads(recipe.runtime)
    with torch.device("meta"):
        model = build_model(recipe.model, vocab_size=context.vocab_size)
    model.to_empty(device=pick_device(recipe.runtime))
    load_weights(model, weights)
    model.set_compute_dtype(compute_dtype)
    return model.eval()
