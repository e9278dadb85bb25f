"""The recipes that come with the project: each loads from any folder, finds its data, and satisfies the JSON schema."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from groundup import config
from groundup.corpus.reading.readers import resolve_path
from groundup.pipeline import Recipe, load_recipe, run
from tests.pipeline.toys import fingerprints

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
WITH_DATA = [path for path in RECIPES if "/path/to/" not in path.read_text(encoding="utf-8")]
"""All but those whose text is to be filled in."""
MINIS = ("decoder-mini", "lstm-mini", "encoder-mini", "classic-transformer")
SCHEMA = config.json_schema(Recipe)
KNOWN_KEYWORDS = {
    *("$ref", "$defs", "$schema", "title", "description", "default", "discriminator", "type", "properties", "required"),
    *("additionalProperties", "items", "minItems", "enum", "const", "anyOf", "oneOf", "pattern", "minLength"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
}
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}


def faults(value: Any, schema: dict[str, Any], path: str = "recipe") -> list[str]:
    """What an editor would underline: the part of JSON Schema that config classes give, strictly."""
    assert schema.keys() <= KNOWN_KEYWORDS, f"{path}: {schema.keys() - KNOWN_KEYWORDS} is not known to this test"
    if "$ref" in schema:
        return faults(value, SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]], path)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        fitting = [choice for choice in choices if not faults(value, choice, path)]
        wrong = not fitting or ("oneOf" in schema and len(fitting) > 1)
        return [f"{path}: fits {len(fitting)} of {len(choices)} alternatives"] if wrong else []
    found = _single_faults(value, schema, path)
    if isinstance(value, dict) and not found:
        found += _object_faults(value, schema, path)
    if isinstance(value, list) and "items" in schema:
        found += [fault for i, item in enumerate(value) for fault in faults(item, schema["items"], f"{path}.{i}")]
    return found


def _single_faults(value: Any, schema: dict[str, Any], path: str) -> list[str]:
    kind = schema.get("type")
    if kind == "null":
        return [] if value is None else [f"{path}: not null"]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind and (not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return [f"{path}: {value!r} is no {kind}"]
    checks = {
        "const": lambda wanted: value == wanted,
        "enum": lambda wanted: value in wanted,
        "pattern": lambda wanted: re.search(wanted, value) is not None,
        "minItems": lambda wanted: len(value) >= wanted,
        "minLength": lambda wanted: len(value) >= wanted,
        "minimum": lambda wanted: not is_number or value >= wanted,
        "maximum": lambda wanted: not is_number or value <= wanted,
        "exclusiveMinimum": lambda wanted: not is_number or value > wanted,
        "exclusiveMaximum": lambda wanted: not is_number or value < wanted,
    }
    return [
        f"{path}: {value!r} against {key} {schema[key]}"
        for key in checks.keys() & schema
        if not checks[key](schema[key])
    ]


def _object_faults(value: dict[str, Any], schema: dict[str, Any], path: str) -> list[str]:
    properties, more = schema.get("properties", {}), schema.get("additionalProperties", True)
    found = [f"{path}.{name}: required" for name in schema.get("required", []) if name not in value]
    for name, item in value.items():
        if name in properties:
            found += faults(item, properties[name], f"{path}.{name}")
        elif more is False:
            found.append(f"{path}.{name}: unknown")
        elif isinstance(more, dict):
            found += faults(item, more, f"{path}.{name}")
    return found


def test_the_fixed_recipes_are_there() -> None:
    large = {"decoder-125m", "decoder-1b", "decoder-7b"}
    assert {"atlas", "smoke", *MINIS, *large} <= {path.stem for path in RECIPES}
    assert large == {path.stem for path in RECIPES} - {path.stem for path in WITH_DATA}


@pytest.mark.parametrize("path", WITH_DATA, ids=lambda path: path.stem)
def test_a_recipe_loads_from_any_folder(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    here = load_recipe(path)
    monkeypatch.chdir(tmp_path)
    there = load_recipe(path)
    assert here.name == there.name == path.stem
    start = here.pretrain.from_
    if start is not None and not Path(start).exists():
        return  # what it starts from is fetched by its own command, and decides what it is
    assert fingerprints(there, tmp_path) == fingerprints(here, tmp_path)


@pytest.mark.parametrize("path", WITH_DATA, ids=lambda path: path.stem)
def test_its_data_is_there_and_in_the_project(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(path)
    instruct = (*recipe.instruct.sources, *recipe.instruct.heldout) if recipe.instruct else ()
    for source in (*recipe.corpus.sources, *instruct):
        files = resolve_path(source.path, path.parent)
        assert files
        assert all(file.resolve().is_relative_to(ROOT / "data") and file.stat().st_size for file in files)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_its_resolved_form_reads_back(path: Path) -> None:
    recipe = load_recipe(path)
    text = config.to_yaml(recipe)
    assert config.build(Recipe, config.parse_yaml(text, "resolved"), "resolved") == recipe


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_json_schema_accepts_it(path: Path) -> None:
    written = config.parse_yaml(path.read_text(encoding="utf-8"), path.name)
    if "extends" not in written:
        assert faults(written, SCHEMA) == []
    assert faults(config.to_dict(load_recipe(path)), SCHEMA) == []


def test_the_json_schema_refuses_what_is_misspelt() -> None:
    smoke = config.to_dict(load_recipe(ROOT / "recipes" / "smoke.yaml"))
    assert faults({**smoke, "sead": 1}, SCHEMA)
    assert faults({**smoke, "model": {**smoke["model"], "num_layers": 0}}, SCHEMA)
    assert faults({**smoke, "pretrain": {**smoke["pretrain"], "optimizer": {"kind": "sgdm"}}}, SCHEMA)
    assert faults({key: value for key, value in smoke.items() if key != "corpus"}, SCHEMA)


@pytest.mark.parametrize("path", WITH_DATA, ids=lambda path: path.stem)
def test_held_out_text_and_questions_stay_out_of_training(path: Path) -> None:
    recipe = load_recipe(path)
    texts = {source.split: resolve_path(source.path, path.parent) for source in recipe.corpus.sources}
    assert not set(texts.get("test", [])) & set(texts.get("auto", []) + texts.get("train", []))
    if recipe.instruct is not None:
        trained = {file for source in recipe.instruct.sources for file in resolve_path(source.path, path.parent)}
        asked = {file for source in recipe.instruct.heldout for file in resolve_path(source.path, path.parent)}
        assert asked
        assert not trained & asked


def test_small_models_of_every_kind_share_their_text(tmp_path: Path) -> None:
    found = [fingerprints(load_recipe(ROOT / "recipes" / f"{name}.yaml"), tmp_path)["corpus"] for name in MINIS]
    assert len(set(found)) == 1


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the small recipes share: stages that one has finished are there for the next."""
    return tmp_path_factory.mktemp("work")


@pytest.mark.parametrize("name", MINIS)
def test_a_small_recipe_runs(name: str, workdir: Path) -> None:
    overrides = [
        f"corpus.sources=[{{name: texts, path: {ROOT / 'data' / 'smoke' / 'text'}}}]",
        "corpus.split={validation: 0.1, test: 0.0}",
        "tokenizer.vocab_size=512",
        "pretrain.mixture={}",
        "pretrain.tokens=6144",
        "evaluate={max_rows: 4, continuation_tokens: 4, continuations: []}",
        "runtime={device: cpu, threads: 1, compile: off}",
        f"runtime.workdir={workdir}",
    ]
    done = run(load_recipe(ROOT / "recipes" / f"{name}.yaml", overrides), until="evaluate")
    summary = next(entry["summary"] for entry in done.stages if entry["name"] == "evaluate")
    assert 0 < summary["bits_per_byte"] < 12
