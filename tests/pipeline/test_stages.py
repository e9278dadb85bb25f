"""Fingerprints: every identity field of a recipe changes some stage's, no runtime field changes any."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest
from safetensors.torch import save_file

from groundup import config
from groundup.models import DecoderConfig, build_model, huggingface_config, to_huggingface
from groundup.pipeline import Recipe, status
from groundup.pipeline.stages import listed
from tests.pipeline.toys import (
    NEOX,
    Leaf,
    as_encoder,
    base_values,
    changed,
    fingerprints,
    leaves,
    needs_encoder,
    with_kinds,
    with_preferences,
    with_runtime,
    with_scaling,
    without_early_stopping,
)

ALL = list(leaves(Recipe))


def is_walked(leaf: Leaf) -> bool:
    """Rules of cleaning are off, and no way to augment and no benchmark is there, in the recipe that fields are changed
    of; tests/evaluate/tasks/test_measure.py has the identity of benchmarks.
    """
    if leaf.path[:2] in (("corpus", "augment"), ("evaluate", "tasks")):
        return False
    return leaf.path[:2] != ("corpus", "clean") or len(leaf.path) == 3


IDENTITY = [leaf for leaf in ALL if leaf.path[0] not in ("name", "runtime") and is_walked(leaf)]
RUNTIME = [leaf for leaf in ALL if leaf.path[0] in ("name", "runtime")]
STAGES = [
    *("corpus", "contamination", "tokenizer", "fertility", "shards", "conversations", "questions"),
    *("comparisons", "pretrain", "instruct", "reference", "preferences", "evaluate", "export"),
]
TEXT = ("corpus", "contamination", "tokenizer", "fertility", "shards")
TUNING = ("conversations", "questions", "instruct")
COMPARING = ("comparisons", "reference", "preferences")
UNTOUCHED = {
    "corpus": {"questions"},
    "preferences": {*TEXT, "conversations", "questions", "pretrain", "instruct"} - {"contamination"},
    "tokenizer": {"corpus", "contamination", "questions"},
    "model": {*TEXT, "questions"},
    "seed": {*TEXT, "conversations", "questions", "comparisons"},
    "pretrain": {*TEXT, "conversations", "questions", "comparisons"},
    "instruct": {"corpus", "tokenizer", "fertility", "shards", "comparisons", "pretrain"},
    "task": {*TEXT, "pretrain"},
    "evaluate": {*TEXT, "conversations", "questions", "pretrain", "instruct", *COMPARING, "export"},
    "export": {*TEXT, "conversations", "questions", "pretrain", "instruct", *COMPARING, "evaluate"},
}
"""Section -> stages that a change in it must not redo."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recipe")


@pytest.fixture(scope="module")
def values(folder: Path) -> dict[str, Any]:
    return base_values(folder)


def other_values(folder: Path) -> dict[str, list[Any]]:
    """What cannot be guessed from the type: another file, the name of a source."""
    more = str(folder / "more.jsonl")
    return {
        "path": [more],
        "compare": [[more]],
        "mixture": [{"text": 1.0}, {"questions": 1.0}],
        "replay_mixture": [{"text": 1.0}],
        "encoding": ["gb18030"],
        "text_template": ["{text}"],
        "namespaces": [[1]],
        "templates": [{"height": "$1 m"}],
        "arguments": [{"momentum_decay": 0.01}],
        "full_attention_layers": [[0]],
        "values": [{**NEOX, "intermediate_size": 40}],
        "labels": [["a", "b"]],
        "class_weights": ["balanced"],
        "trained_layers": [1],
        "roles": [{"Bot": "assistant"}],
        "chat_template": ["own"],
        "messages": ["dialog"],
        "from": [str(_model_folder(folder))],
    }


def _model_folder(folder: Path) -> Path:
    """A model to start from; only its files are looked at."""
    config = DecoderConfig(context_length=8, num_layers=1, hidden_size=4, num_heads=1, num_kv_heads=1, ffn_size=4)
    model, place = build_model(config, 10), folder / "model"
    model.initialise(1)
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text(json.dumps(huggingface_config(config, 10)), encoding="utf-8")
    save_file(to_huggingface(config, model.state_dict()), place / "model.safetensors")
    return place


WITHOUT_ANOTHER_VALUE = (
    *("kind", "hub", "base_hidden_size", "base_num_heads", "epochs"),
    *("prompt", "completion", "system", "role", "content", "chosen", "rejected", "label"),
)
"""`hub` stands in place of a path and `epochs` of tokens, so they change alone never; tests/corpus/test_hub.py and
`test_epochs_are_identity` have their identity. Width and heads of a base model change together only, and so do the
fields of a conversation or of a preference."""


def test_the_tree_is_walked_to_its_ends() -> None:
    names = {str(leaf) for leaf in ALL}
    assert {"seed", "corpus.sources.0.text_field", "pretrain.schedule.decay_fraction[wsd]", "instruct.lambda"} <= names
    assert {leaf.path[0] for leaf in ALL} == config.fields(Recipe).keys()
    assert len(names) == len(ALL) > 100


@pytest.mark.parametrize("leaf", IDENTITY, ids=str)
def test_every_identity_field_changes_a_fingerprint(leaf: Leaf, values: dict[str, Any], folder: Path) -> None:
    base = with_kinds(as_encoder(values) if needs_encoder(leaf) else values, leaf.kinds)
    base = with_scaling(base) if leaf.path[:2] == ("model", "scaling") else base
    base = with_preferences(base, leaf)
    if leaf.path[1:] == ("spikes", "action"):
        base = without_early_stopping(base, leaf)
    edited = changed(base, leaf, other_values(folder))
    if edited is None:
        fixed = leaf.path[-1] in WITHOUT_ANOTHER_VALUE or len(get_args(leaf.field.annotation)) == 1
        fixed = fixed or leaf.path[:2] == ("preferences", "loss")  # refused: it would change log-probabilities
        assert fixed, f"no other valid value of {leaf} is known to this test"
        return
    before, after = fingerprints(config.build(Recipe, base, "toy"), folder), fingerprints(edited, folder)
    touched = {name for name in before if before[name] != after[name]}
    assert touched, f"{leaf} enters no fingerprint: changing it would redo nothing"
    if leaf.path[-1] == "tools":  # the vocabulary needs one more token
        return
    assert not touched & UNTOUCHED[str(leaf.path[0])], f"{leaf} redoes more than it touches"


@pytest.mark.parametrize("leaf", RUNTIME, ids=str)
def test_no_runtime_field_changes_any_fingerprint(leaf: Leaf, values: dict[str, Any], folder: Path) -> None:
    base = with_runtime(values, leaf)
    edited = changed(base, leaf, {"rendezvous": ["first-host:29500"]})
    assert edited is not None, f"no other valid value of {leaf} is known to this test"
    assert fingerprints(edited, folder) == fingerprints(config.build(Recipe, base, "toy"), folder)


@pytest.mark.parametrize("section", ["optimizer", "schedule"])
def test_the_kind_of_a_union_changes_the_fingerprint(section: str, values: dict[str, Any], folder: Path) -> None:
    kinds = {kinds for leaf in ALL if (kinds := leaf.kinds) and kinds[0][0] == ("pretrain", section)}
    found = {fingerprints(config.build(Recipe, with_kinds(values, kind), "toy"), folder)["pretrain"] for kind in kinds}
    assert len(found) == len(kinds) > 1


def test_a_stage_reads_a_change_of_the_one_before_it(values: dict[str, Any], folder: Path) -> None:
    leaf = next(leaf for leaf in ALL if leaf.path == ("corpus", "clean", "min_characters"))
    edited = changed(values, leaf, {})
    assert edited is not None
    before, after = fingerprints(config.build(Recipe, values, "toy"), folder), fingerprints(edited, folder)
    assert [name for name in before if before[name] == after[name]] == ["questions"], "they do not read the corpus"


def test_data_moved_elsewhere_keeps_its_fingerprints(values: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "moved", ignore=shutil.ignore_patterns("work"))
    text = config.to_yaml(config.build(Recipe, values, "toy")).replace(str(folder), str(tmp_path / "moved"))
    moved = config.build(Recipe, config.parse_yaml(text, "moved"), "moved")
    assert moved.corpus.sources[0].path != values["corpus"]["sources"][0]["path"]
    assert fingerprints(moved, folder) == fingerprints(config.build(Recipe, values, "toy"), folder)


@pytest.mark.parametrize("name", ["text.jsonl", "train.jsonl", "heldout.jsonl"])
def test_another_content_of_a_file_changes_fingerprints(name: str, values: dict[str, Any], tmp_path: Path) -> None:
    recipe = config.build(Recipe, base_values(tmp_path), "toy")
    before = fingerprints(recipe, tmp_path)
    with (tmp_path / name).open("a", encoding="utf-8") as handle:
        handle.write("\n")
    after = fingerprints(recipe, tmp_path)
    assert before["evaluate"] != after["evaluate"]
    assert (before["corpus"] != after["corpus"]) == (name == "text.jsonl")


def test_a_fresh_recipe_has_every_stage_missing(values: dict[str, Any], folder: Path) -> None:
    entries = status(config.build(Recipe, values, "toy"))
    assert [entry["name"] for entry in entries] == STAGES
    assert {entry["state"] for entry in entries} == {"missing"}
    known = {entry["name"]: entry["fingerprint"] for entry in entries}
    assert known.pop("corpus") and known.pop("questions"), "they wait for no other stage, so their folders are known"
    assert set(known.values()) == {None}
    assert not (folder / "work").exists(), "looking writes nothing"


def test_without_an_instruct_section_its_stages_are_left_out(values: dict[str, Any], folder: Path) -> None:
    recipe = config.build(Recipe, {**values, "instruct": None}, "toy")
    assert [kind.name for kind in listed(recipe)] == [n for n in STAGES if n not in TUNING]
    assert all(name not in kind.needs for kind in listed(recipe) for name in TUNING)
    with_it = fingerprints(config.build(Recipe, values, "toy"), folder)
    without = fingerprints(recipe, folder)
    assert {name: without[name] for name in without if name in ("corpus", "tokenizer", "shards", "pretrain")} == {
        name: with_it[name] for name in ("corpus", "tokenizer", "shards", "pretrain")
    }
    assert without["evaluate"] != with_it["evaluate"]


def test_epochs_are_identity(values: dict[str, Any], folder: Path) -> None:
    found = []
    for epochs in (1.0, 2.0):
        instruct = {**values["instruct"], "tokens": 0, "epochs": epochs}
        recipe = config.build(Recipe, {**values, "instruct": instruct}, "toy")
        found.append(fingerprints(recipe, folder)["instruct"])
    assert found[0] != found[1]


def test_the_search_for_lambda_is_a_stage_of_its_own(values: dict[str, Any], folder: Path) -> None:
    def with_lambda(written: Any) -> Recipe:
        return config.build(Recipe, {**values, "instruct": {**values["instruct"], "lambda": written}}, "toy")

    number, auto = with_lambda(2.0), with_lambda("auto")
    assert "lambda" not in [kind.name for kind in listed(number)]
    names = [kind.name for kind in listed(auto)]
    place = STAGES.index("pretrain") + 1
    assert names == [*STAGES[:place], "lambda", *STAGES[place:]]
    wider = fingerprints(with_lambda({"kind": "auto", "grid": [1.0, 2.0]}), folder)
    before = fingerprints(auto, folder)
    behind = {"lambda", "instruct", "reference", "preferences", "evaluate", "export"}
    assert {name for name in before if before[name] != wider[name]} == behind
