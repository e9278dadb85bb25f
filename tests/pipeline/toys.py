"""The fields of a recipe as a tree, another valid value for each, and fingerprints without building anything."""

from __future__ import annotations

import copy
import json
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from groundup import config, stage
from groundup.config import Config
from groundup.errors import RecipeError
from groundup.models import ModelConfig
from groundup.pipeline import Recipe
from groundup.pipeline.context import Context
from groundup.pipeline.stages import listed
from groundup.train.guards import StopRequest
from tests.end_to_end import tiny

Step = str | int
Kinds = tuple[tuple[tuple[Step, ...], str], ...]


NEOX = {
    "model_type": "gpt_neox", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": 64,
}  # fmt: skip
"""What config.json says of a class that only the wrapper knows."""

REQUIRED: dict[str, dict[str, Any]] = {
    "transformers": {"context_length": 64, "values": NEOX},
    "named": {"name": "torch.optim.NAdam"},
}
"""Fields without default, of the classes in unions, by kind; `sizes_of` has those of models."""


@dataclass(frozen=True)
class Leaf:
    """One field: its key path, the class's field, and which `kind` the unions on the way must have."""

    path: tuple[Step, ...]
    field: Any
    kinds: Kinds

    def __str__(self) -> str:
        kinds = ",".join(kind for _, kind in self.kinds)
        return ".".join(map(str, self.path)) + (f"[{kinds}]" if kinds else "")


def leaves(cls: type[Config], path: tuple[Step, ...] = (), kinds: Kinds = ()) -> Iterator[Leaf]:
    """Every field below `cls` that is no config itself, or may be a number too; of a list of configs its first item."""
    for name, field in config.fields(cls).items():
        inner = config.config_classes(field.annotation)
        here = (*path, name)
        if not inner or name == "lambda":
            yield Leaf(here, field, kinds)
        below = (*here, 0) if typing.get_origin(field.annotation) is tuple else here
        for choice in inner:
            chosen = kinds if len(inner) == 1 else (*kinds, (here, kind_of(choice)))
            yield from leaves(choice, below, chosen)


ENCODER = {
    "kind": "encoder", "context_length": 64, "num_layers": 1, "hidden_size": 16, "num_heads": 2, "ffn_size": 32,
}  # fmt: skip


def sizes_of(kind: str) -> dict[str, Any]:
    """Of a kind of model the fields without default; they have the names that those of the tiny decoder have."""
    union = typing.get_args(ModelConfig)[0]
    (cls,) = [cls for cls in typing.get_args(union) if kind_of(cls) == kind]
    known = tiny.recipe(Path("nowhere"))["model"]
    required = (name for name, field in config.fields(cls).items() if field.is_required())
    return {name: known[name] for name in required if name in known and name != "kind"}


def kind_of(cls: type[Config]) -> str:
    """The value of `kind` by which a union tells this class."""
    return str(typing.get_args(cls.model_fields["kind"].annotation)[0])


CHOICES: dict[str, dict[str, Any]] = {"validation": {}, "early_stopping": {}, "average": {}, "spikes": {}}
"""Sections of a phase that are not there unless asked for."""


def base_values(folder: Path) -> dict[str, Any]:
    """A recipe with every section, defaults filled in, over two sources of text and of questions under `folder`."""
    tiny.write_data(folder)
    (folder / "more.jsonl").write_text('{"text": "More text, of another kind."}\n', encoding="utf-8")
    values = tiny.recipe(folder)
    values["corpus"]["sources"].append({"name": "more", "path": str(folder / "more.jsonl")})
    (folder / "exam.jsonl").write_text(
        '{"question": "How many words does this question have, and who counts them all?"}\n'
    )
    values["corpus"]["decontaminate"] = [{"name": "exam", "path": str(folder / "exam.jsonl")}]
    values["instruct"]["sources"].append({"name": "again", "path": str(folder / "heldout.jsonl")})
    tiny.write_preferences(folder)
    compared = [{"name": name, "path": str(folder / "pairs.jsonl")} for name in ("questions", "pairs")]
    values["preferences"] = {
        "sources": compared,
        "heldout": [{"name": "pairs", "path": str(folder / "pairs-heldout.jsonl")}],
        **{name: values["instruct"][name] for name in ("tokens", "global_batch_tokens", "precision")},
    }
    for phase in ("pretrain", "instruct", "preferences"):
        values[phase] |= CHOICES
    values["instruct"]["layers"] = values["preferences"]["layers"] = {}
    return json.loads(json.dumps(config.to_dict(config.build(Recipe, values, "toy"))))


def needs_encoder(leaf: Leaf) -> bool:
    """Whether a field is there only in a recipe of an encoder."""
    return leaf.path[0] == "task" or leaf.path[:2] == ("pretrain", "masking") or (("model",), "encoder") in leaf.kinds


def as_encoder(values: dict[str, Any]) -> dict[str, Any]:
    """`values` for an encoder: masked tokens, and a task in place of instruction tuning."""
    values = copy.deepcopy(values)
    path = str(values["corpus"]["sources"][0]["path"])
    sources = [{"name": "labelled", "path": path, "pair_field": "second"}]
    values["model"] = ENCODER
    values["pretrain"]["masking"] = {}
    values["instruct"] = values["preferences"] = None
    values["task"] = {
        "kind": "sequence",
        "sources": sources,
        "heldout": sources,
        "tokens": 2048,
        "global_batch_tokens": 512,
        **CHOICES,
    }
    return values


def with_kinds(values: dict[str, Any], kinds: Kinds) -> dict[str, Any]:
    """`values` with the unions of `kinds` set to a class's defaults; an encoder stays as it is in `values`."""
    values = copy.deepcopy(values)
    for path, kind in kinds:
        if (path, kind) == (("model",), "encoder"):
            continue
        rules = {"rules": [{"parameters": "*"}]} if path[-1] == "optimizer" else {}
        if path == ("model",) and kind not in ("decoder", "transformers"):
            values["preferences"] = None  # it cannot keep answers apart
        sizes = sizes_of(kind) if path == ("model",) else {}
        replace_at(values, path, {"kind": kind, **sizes, **REQUIRED.get(kind, {}), **rules})
    return json.loads(json.dumps(config.to_dict(config.build(Recipe, values, "toy"))))


def with_scaling(values: dict[str, Any]) -> dict[str, Any]:
    """`values` with the decoder as a larger copy of another."""
    scaling = {"base_hidden_size": 16, "base_num_layers": 1, "base_num_heads": 1}
    return {**values, "model": {**values["model"], "scaling": scaling}}


def with_preferences(values: dict[str, Any], leaf: Leaf) -> dict[str, Any]:
    """`values` in which a field of preferences can be another: a budget in epochs, single judged answers."""
    if leaf.path == ("preferences", "epochs"):
        return {**values, "preferences": {**values["preferences"], "tokens": 0, "epochs": 1.0}}
    if leaf.path[0] == "preferences" and leaf.path[-1] == "format":
        return with_kinds(values, ((("preferences", "objective"), "kto"),))
    return values


def with_runtime(values: dict[str, Any], leaf: Leaf) -> dict[str, Any]:
    """`values` in which a field of the runtime can be another: what it goes with, and without what it does not."""
    needs = {"recompute_every": {"recompute": "full"}, "recompute_budget": {"compile": "on"}}.get(
        str(leaf.path[-1]), {}
    )
    values = {**values, "runtime": {**values["runtime"], **needs}}
    if leaf.path[-1] in ("context", "pipeline"):
        return {**values, "preferences": None, "instruct": {**values["instruct"], "layers": None}}
    return values


def without_early_stopping(values: dict[str, Any], leaf: Leaf) -> dict[str, Any]:
    """`values` without what a rollback does not go with, in the phase of `leaf`."""
    phase = str(leaf.path[0])
    return {**values, phase: {**values[phase], "early_stopping": None}}


def value_at(values: Any, path: tuple[Step, ...]) -> Any:
    for part in path:
        values = values[part]
    return values


def replace_at(values: Any, path: tuple[Step, ...], value: Any) -> None:
    value_at(values, path[:-1])[path[-1]] = value


def changed(values: dict[str, Any], leaf: Leaf, others: dict[str, list[Any]]) -> Recipe | None:
    """The recipe with another valid value at `leaf`; None when there is none (a `kind` without alternatives)."""
    before = config.build(Recipe, values, "toy")
    for candidate in others.get(str(leaf.path[-1]), []) + candidates(
        leaf.field.annotation, value_at(values, leaf.path)
    ):
        edited = copy.deepcopy(values)
        replace_at(edited, leaf.path, candidate)
        try:
            recipe = config.build(Recipe, edited, "toy")
        except RecipeError:
            continue
        if recipe != before:
            return recipe
    return None


def candidates(annotation: Any, value: Any) -> list[Any]:
    """Values of the annotated type other than `value`, likely ones first; not all of them need be valid."""
    if typing.get_origin(annotation) is Literal:
        return [choice for choice in typing.get_args(annotation) if choice != value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value * 2, value // 2, value + 1, 0, 1] if isinstance(value, int) else [value * 2, value / 2, 0.25, 1.0]
    if isinstance(value, str):
        return [f"{value}x"]
    if isinstance(value, list):
        return [[*value, "other"], value[:-1]]
    if value is None:
        return [2, 8, 0.5, "other"]
    return []


def fingerprints(recipe: Recipe, folder: Path) -> dict[str, str]:
    """Fingerprint of every stage, as if those before it were finished."""
    context = Context(recipe, folder, StopRequest())
    for kind in listed(recipe):
        fingerprint = kind.stage(context).fingerprint
        context.done[kind.name] = stage.Finished(folder, {"fingerprint": fingerprint, "summary": {}, "seconds": 0})
    return {name: found.fingerprint for name, found in context.done.items()}
