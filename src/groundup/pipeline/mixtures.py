"""What the phases train on: the rows of finished stages -> a mixture with a share for each source, and its objectives.

pretrain    text of the train split
instruct    conversations, and replayed text beside them
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from groundup.errors import DataError
from groundup.models import EncoderConfig
from groundup.pipeline.context import Context
from groundup.pipeline.instruct_config import REPLAY, InstructConfig
from groundup.pipeline.lambda_config import Lambda, lambda_at
from groundup.pipeline.recipe import Recipe
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
    WordStarts,
)
from groundup.train.settings import TrainingConfig
from groundup.train.step import Objectives


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


def rows_per_step(training: TrainingConfig, recipe: Recipe) -> int:
    """Rows of one step over all micro-batches and ranks."""
    return training.global_batch_tokens // recipe.model.context_length


def _pretrain_sources(context: Context) -> list[MixtureSource]:
    """Every corpus source with its share: as the recipe says, else in proportion to its size."""
    rows = text_rows(context, "train")
    shares = context.recipe.pretrain.mixture or {name: float(source.num_rows) for name, source in rows.items()}
    _require_text("pretrain.mixture", shares, rows)
    total = sum(shares.values())
    return [MixtureSource(rows[name], share / total) for name, share in shares.items()]


def pretrain_data(context: Context) -> tuple[Mixture, Objectives]:
    """Text of all sources, and what is learnt of it."""
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
