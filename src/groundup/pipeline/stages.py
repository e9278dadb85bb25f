"""What each stage of a recipe is made of and how it is built, in the order in which text passes through.

    corpus -> contamination
    corpus -> tokenizer -> shards -----------> pretrain -> instruct -> evaluate -> export
                  | \\----> conversations ------------------/             /
                  +-> fertility                                          /
    held-out conversations -> questions ------------------------------/
    labelled records -> examples ---> task (from pretrain; of an encoder, in place of instruct)
    lambda, between pretrain and instruct, where it is to be found by cross-validation (from shards and conversations)
    preferences -> comparisons -> reference -> preferences (from instruct, or pretrain without it)

Invariant: a stage reads other stages' finished folders and its own part of the recipe, nothing else; so equal
fingerprints mean equal results.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from groundup import config, corpus, evaluate, export, stage, tokens
from groundup.errors import DataError
from groundup.pipeline import adapters
from groundup.pipeline.benchmarks import contaminated, evaluate_identity, task_sets
from groundup.pipeline.completion import complete_with
from groundup.pipeline.context import Context
from groundup.pipeline.instruction import build_instruct, instruct_identity
from groundup.pipeline.lambda_stage import build_lambda, lambda_identity
from groundup.pipeline.mixtures import text_rows
from groundup.pipeline.preferences import (
    build_comparisons,
    build_preferences,
    build_reference,
    comparisons_identity,
    final_phase,
    measure_heldout,
    preferences_identity,
    reference_identity,
)
from groundup.pipeline.pretraining import build_pretrain, pretrain_identity
from groundup.pipeline.recipe import Recipe
from groundup.pipeline.task import (
    build_examples,
    build_task,
    examples_identity,
    export_task,
    measure_task,
    task_identity,
)
from groundup.pipeline.trained import learned_weights, model_with, trained_model, trained_weights
from groundup.tokens import JoinedRows, Rows
from groundup.train.settings import dtype_of

FERTILITY_BYTES = 2_000_000
"""So much text of each source is enough to say how many tokens it needs."""
_DRAWN = "drawn"
"""Folder of the texts that a tokenizer is trained on, as workers found them."""
_ENCODED = "encoded"
"""Folder of ids that are not in shards yet."""
_WORTH_PROCESSES_BYTES = 64 << 20
"""Starting worker processes takes longer than encoding less text than this here."""


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
    return dict(corpus.raw_identity(context.recipe.corpus, Path.cwd(), heldout_sets(context)))


def _build_corpus(context: Context, work: Path) -> Mapping[str, Any]:
    recipe, heldout = context.recipe, heldout_sets(context)
    with _engine(context, work) as engine:
        return dict(corpus.build_corpus(recipe.corpus, Path.cwd(), work, engine, heldout, complete_with))


def _engine(context: Context, work: Path) -> AbstractContextManager[corpus.Engine]:
    """What does the work of a stage over text, in its folder."""
    runtime = context.recipe.runtime
    return corpus.open_engine(runtime.data_engine, runtime.workers, runtime.ray_address, work)


def heldout_sets(context: Context) -> list[corpus.EvaluationSetConfig]:
    """The held-out questions and preferences as evaluation sets, treated as the corpus says."""
    recipe = context.recipe
    action = recipe.corpus.decontaminate_heldout
    sources = [
        (f"heldout-{source.name}", source.path) for source in (recipe.instruct.heldout if recipe.instruct else ())
    ]
    compared = recipe.preferences.heldout if recipe.preferences else ()
    sources += [(f"heldout-preferences-{source.name}", source.path) for source in compared]
    return [corpus.EvaluationSetConfig(name=name[:64], path=path, action=action) for name, path in sources]


def _contamination_identity(context: Context) -> Mapping[str, Any]:
    sets = (*context.recipe.corpus.decontaminate, *heldout_sets(context), *task_sets(context.recipe))
    return {"sets": [corpus.file_identity(each, Path.cwd()) for each in sets]}


def _build_contamination(context: Context, work: Path) -> Mapping[str, Any]:
    """Measure which evaluation texts are in the train split; a stage of its own, so that it changes no other."""
    of_tasks = task_sets(context.recipe)
    sets = (*context.recipe.corpus.decontaminate, *heldout_sets(context), *of_tasks)
    kept = [each.name for each in of_tasks]
    with _engine(context, work) as engine:
        return dict(corpus.measure_contamination(context.folder("corpus"), sets, Path.cwd(), work, engine, kept))


def _tokenizer_identity(context: Context) -> Mapping[str, Any]:
    identity = tokens.tokenizer_identity(context.recipe.tokenizer)
    more = context.control_tokens[len(tokens.CONTROL_TOKENS) :]
    return {**identity, "control": list(more)} if more else identity


def _build_tokenizer(context: Context, work: Path) -> Mapping[str, Any]:
    wanted = context.recipe.tokenizer
    if wanted.path is not None:
        return tokens.take_in(Path(wanted.path), wanted.pattern, work, context.control_tokens, wanted.chat_template)
    with _engine(context, work) as engine:
        texts = tokens.sample(_train_texts(context, work / _DRAWN, engine), wanted.mixture, wanted.sample_bytes)
        done = tokens.train_tokenizer(wanted, texts, work, context.control_tokens)
    shutil.rmtree(work / _DRAWN, ignore_errors=True)
    return done


def _train_texts(
    context: Context, scratch: Path, engine: corpus.Engine
) -> dict[str, tokens.SourceTexts | tokens.SourceFiles]:
    """Train split of each source, in the order in which its documents are read as one."""
    folder, sources = context.folder("corpus"), context.done["corpus"].summary["sources"]
    engine = engine.where_worth(sum(each["train"]["bytes"] for each in sources.values()), _WORTH_PROCESSES_BYTES)

    def texts_of(name: str) -> Iterator[str]:
        return (document.text for document in corpus.read_documents(folder, "train", name))

    def source(name: str, size_bytes: int) -> tokens.SourceTexts | tokens.SourceFiles:
        if engine.apart:
            return tokens.SourceFiles(corpus.shard_paths(folder, "train", name), size_bytes, scratch / name, engine)
        return tokens.SourceTexts(partial(texts_of, name), size_bytes)

    return {name: source(name, sources[name]["train"]["bytes"]) for name in sorted(sources)}


def _fertility_identity(context: Context) -> Mapping[str, Any]:
    wanted = context.recipe.tokenizer
    found = {name: tokens.foreign_identity(path, wanted.pattern) for name, path in _compared(context).items()}
    return {"compare": found, "bytes_of_each_source": FERTILITY_BYTES}


def _compared(context: Context) -> dict[str, Path]:
    """The tokenizers to compare with, by the shortest end of their path that tells them apart."""
    paths = [Path(path) for path in context.recipe.tokenizer.compare]
    ends = {path: ["/".join(path.parts[-n:]) for n in range(1, len(path.parts) + 1)] for path in paths}
    shared = Counter(end for path in ends for end in ends[path])
    return {next((end for end in ends[path] if shared[end] == 1), str(path)): path for path in ends}


def _build_fertility(context: Context, work: Path) -> Mapping[str, Any]:
    """Tokens that held-out text needs, where a source has none its training text; beside the tokenizers to compare."""
    wanted, folder = context.recipe.tokenizer, context.folder("corpus")
    tokenizers = {tokens.OWN: context.tokenizer()}
    for name, path in _compared(context).items():
        tokenizers[name] = tokens.load_foreign(path, wanted.pattern)[0]
    splits = {
        name: next(split for split in ("validation", "test", "train") if sizes[split]["documents"])
        for name, sizes in context.done["corpus"].summary["sources"].items()
        if any(sizes[split]["documents"] for split in sizes)
    }
    documents = {name: corpus.read_documents(folder, split, name) for name, split in splits.items()}
    report = tokens.measure_fertility(documents, tokenizers, FERTILITY_BYTES)
    stage.write_json(work / "report.json", {**report, "split": splits, "bytes_of_each_source": FERTILITY_BYTES})
    return {"bytes": report["all"]["bytes"], "tokenizers": report["all"]["tokenizers"]}


def _build_shards(context: Context, work: Path) -> Mapping[str, Any]:
    summary: dict[str, Any] = {}
    with _engine(context, work) as engine:
        for split in ("train", "validation", "test"):
            for source in context.recipe.corpus.sources:
                size_bytes = context.done["corpus"].summary["sources"][source.name][split]["bytes"]
                worth = engine.where_worth(size_bytes, _WORTH_PROCESSES_BYTES)
                written = _source_shards(context, split, source.name, work, worth)
                if written["documents"]:
                    summary.setdefault(split, {})[source.name] = written
    shutil.rmtree(work / _ENCODED, ignore_errors=True)  # an earlier attempt may have had another engine
    if "train" not in summary:
        raise DataError("the train split holds no document: lower corpus.split or add text to corpus.sources")
    return summary


def _source_shards(context: Context, split: str, source: str, work: Path, engine: corpus.Engine) -> Mapping[str, Any]:
    folder, tokenizer = context.folder("corpus"), context.tokenizer()
    if engine.apart:
        files = corpus.shard_paths(folder, split, source)
        scratch = work / _ENCODED / split / source
        return tokens.write_file_shards(files, tokenizer, work / split / source, scratch, engine)
    return tokens.write_shards(corpus.read_documents(folder, split, source), tokenizer, work / split / source)


def _conversations_identity(context: Context) -> Mapping[str, Any]:
    return {
        "sources": [tokens.instruct_identity(source, Path.cwd()) for source in context.instruct().sources],
        "context_length": context.recipe.model.context_length,
        "template": config.digest(tokens.CHAT_TEMPLATE),
    }


def _build_conversations(context: Context, work: Path) -> Mapping[str, Any]:
    """Pack the conversations to train on into rows."""
    tokenizer, context_length = context.tokenizer(), context.recipe.model.context_length
    report: dict[str, Any] = {}
    for source in context.instruct().sources:
        reader = tokens.read_conversations(source, Path.cwd())
        written = tokens.write_conversations(reader, tokenizer, work / source.name, context_length, source.overlong)
        report[source.name] = {**written, "overlong": source.overlong, "records": reader.account()}
    stage.write_json(work / "report.json", report)
    return report


def _questions_identity(context: Context) -> Mapping[str, Any]:
    heldout = [tokens.instruct_identity(source, Path.cwd()) for source in context.instruct().heldout]
    return {"heldout": heldout, "files": "one a line, with an index"}


def _build_questions(context: Context, work: Path) -> Mapping[str, Any]:
    """Keep the held-out conversations as they are; a stage of its own, so that other questions train nothing anew."""
    report: dict[str, Any] = {}
    readers = {source.name: tokens.read_conversations(source, Path.cwd()) for source in context.instruct().heldout}
    tokens.write_questions(chain.from_iterable(readers.values()), work)
    for name, reader in readers.items():
        report[name] = {"conversations": reader.accepted, "records": reader.account()}
    stage.write_json(work / "report.json", report)
    return report


def _build_evaluate(context: Context, work: Path) -> Mapping[str, Any]:
    """Measure the model before and after instruction tuning, on the same texts and questions, in its precision."""
    texts, questions = _held_out_texts(context), _held_out_questions(context)
    tokenizer = context.tokenizer()
    recipe, known = context.recipe, contaminated(context)
    dtype = dtype_of(recipe.pretrain.precision)
    found: dict[str, evaluate.Evaluation] = {}
    sums: dict[str, evaluate.TextSums] = {}
    tuned = final_phase(context) != "pretrain"
    for label, phase in (("base", "pretrain"), ("instruct", "instruct"), ("preferences", "preferences")):
        if phase in context.done:
            summary = context.done[phase].summary
            if summary.get("new") and not summary.get("steps"):
                found[label] = evaluate.unmeasured()
                continue
            model = trained_model(context, phase, dtype)
            asked = (tokenizer, texts, questions, recipe.evaluate)
            found[label] = evaluate.evaluate(model, *asked, contaminated=known)
            if tuned:
                sums[label] = evaluate.text_sums(model, next(iter(texts.values())), tokenizer, recipe.evaluate.max_rows)
    *earlier, last = found
    before = {f"before_{after}": found[label] for label, after in zip(earlier, list(found)[1:])}
    metrics = evaluate.side_by_side(found[last], before).metrics_dict()
    if tuned:
        metrics |= _forgetting(found["base"], found[last], (sums["base"], sums[last]))
    samples: dict[str, Any] = {label: evaluation.samples for label, evaluation in found.items()}
    if "preferences" in context.done:
        metrics |= {name: metric.as_dict() for name, metric in measure_heldout(context, dtype).items()}
    if "task" in context.done:
        of_task, samples["task"] = measure_task(context, dtype)
        metrics |= {name: metric.as_dict() for name, metric in of_task.items()}
    stage.write_json(work / "evaluation.json", metrics)
    stage.write_json(work / "samples.json", samples)
    return {name: metric["value"] for name, metric in metrics.items()}


def _forgetting(
    before: evaluate.Evaluation, after: evaluate.Evaluation, texts: tuple[evaluate.TextSums, evaluate.TextSums]
) -> dict[str, dict[str, Any]]:
    """What tuning changed, in every metric: after its last phase, before its first."""
    answers = before.samples.get("answers", []), after.samples.get("answers", [])
    found = evaluate.changes(before.metrics, after.metrics, texts, answers)
    return {name: metric.as_dict() for name, metric in found.items()}


def _held_out_texts(context: Context) -> dict[str, Rows]:
    """All validation text as the headline, then every validation and test source by itself."""
    validation, test = text_rows(context, "validation"), text_rows(context, "test")
    texts: dict[str, Rows] = {}
    if validation:
        texts["validation"] = JoinedRows("validation", list(validation.values()))
    texts |= {f"validation/{name}": rows for name, rows in validation.items() if len(validation) > 1}
    return texts | {f"test/{name}": rows for name, rows in test.items()}


def _held_out_questions(context: Context) -> Sequence[tokens.Conversation]:
    return tokens.Questions(context.folder("questions")) if "questions" in context.done else ()


def _export_identity(context: Context) -> Mapping[str, Any]:
    return config.to_dict(context.recipe.export)


def _build_export(context: Context, work: Path) -> Mapping[str, Any]:
    phase = final_phase(context)
    model, vocab_size, weights = context.recipe.model, context.vocab_size, trained_weights(context, phase)
    built = partial(model_with, context, weights, dtype_of("fp32"))
    checks = export.save_weights(model, vocab_size, weights, built, context.tokenizer(), work, context.recipe.export)
    adapter, tune = {}, adapters.low_rank(context, phase)
    if tune is not None:
        learned = learned_weights(context, phase)
        adapter = adapters.export_adapter(context, phase, tune, learned, work / "adapter")
    of_task = {"task": export_task(context, work / "task")} if "task" in context.done else {}
    return {"from": phase, **checks, **adapter, **of_task}


_STAGES: tuple[StageKind, ...] = (
    StageKind("corpus", _corpus_identity, (), _build_corpus, resumable=True),
    StageKind("contamination", _contamination_identity, ("corpus",), _build_contamination),
    StageKind("tokenizer", _tokenizer_identity, ("corpus",), _build_tokenizer),
    StageKind("fertility", _fertility_identity, ("corpus", "tokenizer"), _build_fertility),
    StageKind("shards", lambda context: {}, ("corpus", "tokenizer"), _build_shards, resumable=True),
    StageKind("conversations", _conversations_identity, ("tokenizer",), _build_conversations, resumable=True),
    StageKind("questions", _questions_identity, (), _build_questions),
    StageKind("examples", examples_identity, ("tokenizer",), build_examples),
    StageKind("comparisons", comparisons_identity, ("tokenizer",), build_comparisons),
    StageKind("pretrain", pretrain_identity, ("shards", "tokenizer"), build_pretrain, resumable=True),
    StageKind(
        "lambda", lambda_identity, ("pretrain", "conversations", "shards", "tokenizer"), build_lambda, resumable=True
    ),
    StageKind(
        "instruct",
        instruct_identity,
        ("pretrain", "lambda", "conversations", "shards", "tokenizer"),
        build_instruct,
        resumable=True,
    ),
    StageKind("reference", reference_identity, ("pretrain", "instruct", "comparisons", "tokenizer"), build_reference),
    StageKind(
        "preferences",
        preferences_identity,
        ("pretrain", "instruct", "comparisons", "reference", "conversations", "shards", "tokenizer"),
        build_preferences,
        resumable=True,
    ),
    StageKind("task", task_identity, ("pretrain", "examples", "tokenizer"), build_task, resumable=True),
    StageKind(
        "evaluate",
        evaluate_identity,
        (
            *("contamination", "pretrain", "instruct", "preferences", "task"),
            *("examples", "comparisons", "reference", "questions", "shards", "tokenizer"),
        ),
        _build_evaluate,
    ),
    StageKind(
        "export",
        _export_identity,
        ("pretrain", "instruct", "preferences", "task", "examples", "tokenizer"),
        _build_export,
    ),
)
_ONLY_WITH = {
    "instruct": ("conversations", "questions", "lambda", "instruct"),
    "preferences": ("comparisons", "reference", "preferences"),
    "task": ("examples", "task"),
}
"""Section of a recipe -> stages that are there only with it."""


def listed(recipe: Recipe) -> list[StageKind]:
    """The stages of a recipe, in order; those of a section that it has not are left out everywhere."""
    absent = {name for section, names in _ONLY_WITH.items() if getattr(recipe, section) is None for name in names}
    if recipe.instruct is not None and recipe.instruct.search is None:
        absent.add("lambda")
    if recipe.preferences is not None and not recipe.preferences.needs_reference:
        absent.add("reference")
    return [
        replace(kind, needs=tuple(name for name in kind.needs if name not in absent))
        for kind in _STAGES
        if kind.name not in absent
    ]
