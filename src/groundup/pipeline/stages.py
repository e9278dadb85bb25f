"""What each stage of a recipe is made of and how it is built, in the order in which text passes through.

    corpus -> tokenizer -> shards -----------> pretrain -> instruct -> evaluate -> export
                    \\----> conversations ------------------/             /
    held-out conversations -> questions ------------------------------/

Invariant: a stage reads other stages' finished folders and its own part of the recipe, nothing else; so equal
fingerprints mean equal results.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from groundup import config, corpus, evaluate, export, stage, tokens
from groundup.errors import DataError
from groundup.log import logger
from groundup.models import Decoder, build_model
from groundup.parallel.compile import uncompiled
from groundup.pipeline.recipe import InstructConfig, Recipe
from groundup.tokens import (
    JoinedRows,
    Mixture,
    MixtureSource,
    PackedConversations,
    PackedText,
    Rows,
    SelectedRows,
    Tokenizer,
)
from groundup.train import checkpoint, loop
from groundup.train.guards import StopRequest
from groundup.train.journal import Journal
from groundup.train.state import (
    TrainingConfig,
    build_state,
    configure_threads,
    dtype_of,
    load_weights,
    pick_device,
    wants_compile,
)
from groundup.train.step import Objectives

PREVIEWS = 3
REPLAY = "replay"
QUESTIONS = "questions.json"
BEFORE_INSTRUCT = "before_instruct"
"""Label of the base model's metrics in evaluation.json."""


@dataclass
class Context:
    """What builders share: the recipe, where things lie, and the stages finished so far."""

    recipe: Recipe
    run_folder: Path
    stop: StopRequest
    colour: bool = False
    done: dict[str, stage.Finished] = field(default_factory=dict)

    def folder(self, name: str) -> Path:
        """Folder of a finished stage."""
        return self.done[name].path

    def tokenizer(self) -> Tokenizer:
        """The run's tokenizer."""
        return Tokenizer.load(self.folder("tokenizer"))


@dataclass(frozen=True)
class StageKind:
    """A row of the table of stages: name, what enters its fingerprint, what it needs, how it is built."""

    name: str
    identity: Callable[[Context], Mapping[str, Any]]
    needs: tuple[str, ...]
    build: Callable[[Context, Path], Mapping[str, Any]]
    resumable: bool = False

    def stage(self, context: Context) -> stage.Stage:
        """This stage for one recipe, once what it needs is done."""
        inputs = {name: context.done[name].fingerprint for name in self.needs if name in context.done}
        return stage.Stage(self.name, self.identity(context), inputs, self.resumable)


def _corpus_identity(context: Context) -> Mapping[str, Any]:
    return dict(corpus.raw_identity(context.recipe.corpus, Path.cwd()))


def _build_corpus(context: Context, work: Path) -> Mapping[str, Any]:
    return dict(corpus.build_corpus(context.recipe.corpus, Path.cwd(), work, context.recipe.runtime.workers))


def _tokenizer_identity(context: Context) -> Mapping[str, Any]:
    return config.to_dict(context.recipe.tokenizer)


def _build_tokenizer(context: Context, work: Path) -> Mapping[str, Any]:
    texts = (document.text for document in corpus.read_documents(context.folder("corpus"), "train"))
    return dict(tokens.train_tokenizer(context.recipe.tokenizer, texts, work))


def _build_shards(context: Context, work: Path) -> Mapping[str, Any]:
    tokenizer = context.tokenizer()
    summary: dict[str, Any] = {}
    for split in ("train", "validation", "test"):
        for source in context.recipe.corpus.sources:
            documents = corpus.read_documents(context.folder("corpus"), split, source.name)
            written = tokens.write_shards(documents, tokenizer, work / split / source.name)
            if written["documents"]:
                summary.setdefault(split, {})[source.name] = written
    if "train" not in summary:
        raise DataError("the train split holds no document: lower corpus.split or add text to corpus.sources")
    return summary


def _instruct_config(context: Context) -> InstructConfig:
    instruct = context.recipe.instruct
    assert instruct is not None, "stages of instruction tuning are listed only with its section"
    return instruct


def _conversations_identity(context: Context) -> Mapping[str, Any]:
    return {
        "sources": [tokens.instruct_identity(source, Path.cwd()) for source in _instruct_config(context).sources],
        "context_length": context.recipe.model.context_length,
        "template": config.digest(tokens.CHAT_TEMPLATE),
    }


def _build_conversations(context: Context, work: Path) -> Mapping[str, Any]:
    """Pack the conversations to train on into rows."""
    tokenizer, context_length = context.tokenizer(), context.recipe.model.context_length
    report: dict[str, Any] = {}
    for source in _instruct_config(context).sources:
        reader = tokens.read_conversations(source, Path.cwd())
        written = tokens.write_conversations(reader, tokenizer, work / source.name, context_length, source.overlong)
        report[source.name] = {**written, "records": reader.account()}
    stage.write_json(work / "report.json", report)
    return report


def _questions_identity(context: Context) -> Mapping[str, Any]:
    return {"heldout": [tokens.instruct_identity(source, Path.cwd()) for source in _instruct_config(context).heldout]}


def _build_questions(context: Context, work: Path) -> Mapping[str, Any]:
    """Keep the held-out conversations as they are; a stage of its own, so that other questions train nothing anew."""
    report: dict[str, Any] = {}
    questions: list[dict[str, Any]] = []
    for source in _instruct_config(context).heldout:
        reader = tokens.read_conversations(source, Path.cwd())
        questions += [conversation.as_dict() for conversation in reader]
        report[source.name] = {"conversations": reader.accepted, "records": reader.account()}
    stage.write_json(work / QUESTIONS, questions)
    stage.write_json(work / "report.json", report)
    return report


def _phase_identity(context: Context, phase: TrainingConfig) -> Mapping[str, Any]:
    """Everything but the conversations' paths, since their content enters through the stage that read them."""
    training = {key: value for key, value in config.to_dict(phase).items() if key not in ("sources", "heldout")}
    return {"model": config.to_dict(context.recipe.model), "training": training, "seed": context.recipe.seed}


def _pretrain_identity(context: Context) -> Mapping[str, Any]:
    return _phase_identity(context, context.recipe.pretrain)


def _instruct_identity(context: Context) -> Mapping[str, Any]:
    return _phase_identity(context, _instruct_config(context))


def text_rows(context: Context, split: str) -> dict[str, PackedText]:
    """Packed text of every source that has documents in `split`."""
    shards, vocab_size = context.done["shards"], context.recipe.tokenizer.vocab_size
    return {
        source: PackedText(shards.path / split / source, source, context.recipe.model.context_length, vocab_size)
        for source in shards.summary.get(split, {})
    }


def _pretrain_sources(context: Context) -> list[MixtureSource]:
    """Every corpus source with its share: as the recipe says, else in proportion to its size."""
    rows = text_rows(context, "train")
    shares = context.recipe.pretrain.mixture or {name: float(source.num_rows) for name, source in rows.items()}
    unknown = sorted(shares.keys() - rows.keys())
    if unknown:
        raise DataError(f"pretrain.mixture: source {unknown[0]!r} has no document in the train split; leave it out")
    total = sum(shares.values())
    return [MixtureSource(rows[name], share / total) for name, share in shares.items()]


def _pretrain_data(context: Context) -> tuple[Mixture, Objectives]:
    recipe = context.recipe
    mixture = Mixture(_pretrain_sources(context), _rows_per_step(recipe.pretrain, recipe), recipe.seed)
    names = tuple(mixture.names)
    return mixture, Objectives(names, (0,) * len(names), ("pretrain",), (1.0,))


def _instruct_data(context: Context) -> tuple[Mixture, Objectives]:
    """Replayed text (objective pretrain, weight 1) and conversations (objective instruct, weight lambda)."""
    recipe, instruct = context.recipe, _instruct_config(context)
    folder, vocab_size = context.folder("conversations"), recipe.tokenizer.vocab_size
    packed = [
        PackedConversations(folder / source.name, source.name, recipe.model.context_length, vocab_size)
        for source in instruct.sources
    ]
    shares = instruct.mixture or {rows.name: float(rows.num_rows) for rows in packed}
    total = sum(shares.values())
    asked = 1.0 - instruct.replay_fraction
    sources = [MixtureSource(rows, asked * shares[rows.name] / total) for rows in packed if shares.get(rows.name)]
    replayed = [MixtureSource(_replay(context), instruct.replay_fraction)] if instruct.replay_fraction else []
    mixture = Mixture([*replayed, *sources], _rows_per_step(instruct, recipe), recipe.seed)
    membership = (0,) * len(replayed) + (1,) * len(sources)
    return mixture, Objectives(tuple(mixture.names), membership, ("pretrain", "instruct"), (1.0, instruct.lambda_))


def _replay(context: Context) -> Rows:
    """Pretraining text as one source; each part is repeated as often as its share in pretraining asks for."""
    sources = _pretrain_sources(context)
    rates = [source.share / source.rows.num_rows for source in sources]
    repeated = [source.rows for source, rate in zip(sources, rates) for _ in range(round(rate / min(rates)))]
    return JoinedRows(REPLAY, repeated)


def _rows_per_step(training: TrainingConfig, recipe: Recipe) -> int:
    return training.global_batch_tokens // recipe.model.context_length


def _validation(context: Context, tokenizer: Tokenizer) -> loop.Validate:
    """Bits per byte on an even selection of the validation rows of all sources."""
    parts = list(text_rows(context, "validation").values())
    if not parts:
        return lambda model: {}
    rows = SelectedRows(JoinedRows("validation", parts), context.recipe.runtime.validation_rows)

    def validate(model: Decoder) -> Mapping[str, Any]:
        # Eagerly: a second compiled graph, without gradients, would cost more than the few rows save.
        with uncompiled():
            return evaluate.measure_text(model, rows, tokenizer).summary()

    return validate


def _train(
    context: Context,
    work: Path,
    name: str,
    training: TrainingConfig,
    data: tuple[Mixture, Objectives],
    start: Mapping[str, torch.Tensor] | None,
) -> Mapping[str, Any]:
    recipe, execution, tokenizer = context.recipe, context.recipe.runtime, context.tokenizer()
    mixture, objectives = data
    configure_threads(execution)
    state = build_state(
        recipe.model, tokenizer.vocab_size, training, execution, recipe.seed, device=pick_device(execution), start=start
    )
    phase = loop.Phase(
        name=name,
        training=training,
        mixture=mixture,
        objectives=objectives,
        validate=_validation(context, tokenizer),
        flops_per_token=recipe.model.flops_per_token(tokenizer.vocab_size),
    )
    summary = loop.train(phase, state, execution, work, Journal(name, work, context.run_folder), context.stop)
    return {
        **summary,
        "parameters": recipe.model.num_parameters(tokenizer.vocab_size),
        "flops_per_token": recipe.model.flops_per_token(tokenizer.vocab_size),
        "epochs": {source: round(value, 3) for source, value in mixture.epochs(summary["steps"]).items()},
        "compiled": wants_compile(execution, recipe.model, training, tokenizer.vocab_size),
    }


def _build_pretrain(context: Context, work: Path) -> Mapping[str, Any]:
    return _train(context, work, "pretrain", context.recipe.pretrain, _pretrain_data(context), start=None)


def _build_instruct(context: Context, work: Path) -> Mapping[str, Any]:
    instruct, data = _instruct_config(context), _instruct_data(context)
    _show_previews(context, data[0])
    summary = _train(context, work, "instruct", instruct, data, start=trained_weights(context, "pretrain"))
    return {**summary, "lambda": instruct.lambda_, "replay_fraction": instruct.replay_fraction}


def _show_previews(context: Context, mixture: Mixture) -> None:
    """Log three conversations as they are trained on, with what is learnt marked."""
    tokenizer = context.tokenizer()
    rows = next(source.rows for source in mixture.sources if isinstance(source.rows, PackedConversations))
    logger.info("three training examples; what the model learns to say is marked:")
    for index in range(min(PREVIEWS, rows.num_rows)):
        example = tokens.examples_of(rows.row(index * rows.num_rows // PREVIEWS))[0]
        preview = tokens.coloured_preview(tokenizer, example.ids, example.is_target, context.colour)
        logger.info(f"  {preview}", extra={"escaped": True})


def trained_weights(context: Context, phase: str) -> dict[str, torch.Tensor]:
    """Final weights of a finished phase, by parameter name."""
    found = context.done[phase]
    return checkpoint.read_tensors(found.path / str(found.summary["weights"]))


def trained_model(context: Context, phase: str, compute_dtype: torch.dtype = torch.float32) -> Decoder:
    """The model as a finished phase left it: float32 weights, computing in `compute_dtype`."""
    recipe = context.recipe
    configure_threads(recipe.runtime)
    with torch.device("meta"):
        model = build_model(recipe.model, vocab_size=recipe.tokenizer.vocab_size)
    model.to_empty(device=pick_device(recipe.runtime))
    load_weights(model, trained_weights(context, phase))
    model.set_compute_dtype(compute_dtype)
    return model.eval()


def _evaluate_identity(context: Context) -> Mapping[str, Any]:
    return config.to_dict(context.recipe.evaluate)


def _build_evaluate(context: Context, work: Path) -> Mapping[str, Any]:
    """Measure the model before and after instruction tuning, on the same texts and questions, in its precision."""
    texts, questions = _held_out_texts(context), _held_out_questions(context)
    tokenizer = context.tokenizer()
    recipe = context.recipe
    dtype = dtype_of(recipe.pretrain.precision)
    found = {
        label: evaluate.evaluate(trained_model(context, phase, dtype), tokenizer, texts, questions, recipe.evaluate)
        for label, phase in (("base", "pretrain"), ("instruct", "instruct"))
        if phase in context.done
    }
    before = {BEFORE_INSTRUCT: found["base"]} if "instruct" in found else {}
    metrics = evaluate.side_by_side(found.get("instruct", found["base"]), before).metrics_dict()
    stage.write_json(work / "evaluation.json", metrics)
    stage.write_json(work / "samples.json", {label: evaluation.samples for label, evaluation in found.items()})
    return {name: metric["value"] for name, metric in metrics.items()}


def _held_out_texts(context: Context) -> dict[str, Rows]:
    """All validation text as the headline, then every validation and test source by itself."""
    validation, test = text_rows(context, "validation"), text_rows(context, "test")
    texts: dict[str, Rows] = {}
    if validation:
        texts["validation"] = JoinedRows("validation", list(validation.values()))
    texts |= {f"validation/{name}": rows for name, rows in validation.items() if len(validation) > 1}
    return texts | {f"test/{name}": rows for name, rows in test.items()}


def _held_out_questions(context: Context) -> list[tokens.Conversation]:
    if "questions" not in context.done:
        return []
    values = json.loads((context.folder("questions") / QUESTIONS).read_text(encoding="utf-8"))
    return [tokens.Conversation.from_dict(value) for value in values]


def _export_identity(context: Context) -> Mapping[str, Any]:
    return config.to_dict(context.recipe.export)


def _build_export(context: Context, work: Path) -> Mapping[str, Any]:
    phase = "instruct" if "instruct" in context.done else "pretrain"
    checks = export.save_model(trained_model(context, phase), context.tokenizer(), work, context.recipe.export)
    return {"from": phase, **checks}


_STAGES: tuple[StageKind, ...] = (
    StageKind("corpus", _corpus_identity, (), _build_corpus, resumable=True),
    StageKind("tokenizer", _tokenizer_identity, ("corpus",), _build_tokenizer),
    StageKind("shards", lambda context: {}, ("corpus", "tokenizer"), _build_shards, resumable=True),
    StageKind("conversations", _conversations_identity, ("tokenizer",), _build_conversations, resumable=True),
    StageKind("questions", _questions_identity, (), _build_questions),
    StageKind("pretrain", _pretrain_identity, ("shards", "tokenizer"), _build_pretrain, resumable=True),
    StageKind(
        "instruct",
        _instruct_identity,
        ("pretrain", "conversations", "shards", "tokenizer"),
        _build_instruct,
        resumable=True,
    ),
    StageKind(
        "evaluate",
        _evaluate_identity,
        ("pretrain", "instruct", "conversations", "shards", "tokenizer"),
        _build_evaluate,
    ),
    StageKind("export", _export_identity, ("pretrain", "instruct", "tokenizer"), _build_export),
)
_ONLY_WITH_INSTRUCT = ("conversations", "questions", "instruct")


def listed(recipe: Recipe) -> list[StageKind]:
    """The stages of a recipe, in order; without an `instruct:` section its stages are left out everywhere."""
    if recipe.instruct is not None:
        return list(_STAGES)
    return [
        replace(kind, needs=tuple(name for name in kind.needs if name not in _ONLY_WITH_INSTRUCT))
        for kind in _STAGES
        if kind.name not in _ONLY_WITH_INSTRUCT
    ]
