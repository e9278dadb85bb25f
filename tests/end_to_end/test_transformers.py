"""A model of a class that is none of ours: taken from its folder, trained, tuned, asked, exported; theirs again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import groundup
from groundup.errors import ModelFileError, RecipeError, first_line
from groundup.export import import_model, load_model
from groundup.models import TransformersModel
from groundup.pipeline import RunResult, load_recipe
from groundup.tokens import TokenizerConfig, train_tokenizer
from tests.end_to_end import tiny
from tests.models.transformers_classes import values_of

os.environ["HF_HUB_OFFLINE"] = "1"
transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra 'hf')")
VOCAB = 320
TYPES = ("gpt_neox", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gemma2", "phi", "falcon")))


def theirs(folder: Path, model_type: str) -> Any:
    """A random model as transformers saves it, in shards, with a tokenizer of fewer tokens."""
    settings = transformers.AutoConfig.for_model(**values_of(model_type), vocab_size=VOCAB)
    torch.manual_seed(5)
    model = transformers.AutoModelForCausalLM.from_config(settings, dtype=torch.float32).eval()
    model.save_pretrained(folder, max_shard_size="40KB")
    train_tokenizer(TokenizerConfig(vocab_size=300), [" ".join(tiny.WORDS)] * 20, folder)
    return model


@pytest.fixture(scope="module", params=TYPES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place: Path = tmp_path_factory.mktemp("theirs") / request.param
    place.mkdir()
    theirs(place, request.param)
    return place


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    here = tmp_path_factory.mktemp("run")
    return groundup.run(load_recipe(recipe_file(here, folder)))


def recipe_file(here: Path, folder: Path, **changes: Any) -> Path:
    tiny.write_data(here)
    values = tiny.recipe(here)
    del values["tokenizer"]
    values |= {"model": {"context_length": 64, **changes}}
    for phase in ("pretrain", "instruct"):
        values[phase] = {**values[phase], "tokens": 5 * 512, "optimizer": {"kind": "adamw", "learning_rate": 1e-3}}
    values["pretrain"]["from"] = str(folder)
    path = here / "recipe.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@torch.no_grad()
def test_a_folder_gives_its_logits_and_opens_again(folder: Path, tmp_path: Path) -> None:
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = torch.randint(0, 290, (2, 20), generator=torch.Generator().manual_seed(1))
    loaded = load_model(folder, need_tokenizer=False)
    torch.testing.assert_close(loaded.logits(tokens), reference(tokens).logits, rtol=1e-5, atol=1e-5)
    done = import_model(folder, tmp_path / "ours", with_transformers=False)
    assert done["rows_in_file"] == VOCAB and done["vocab_size"] == 300
    ours = load_model(tmp_path / "ours")
    torch.testing.assert_close(ours.logits(tokens), reference(tokens).logits[..., :300], rtol=1e-5, atol=1e-5)


def test_every_phase_runs_and_the_export_is_theirs(finished: RunResult) -> None:
    assert all(entry["state"] == "done" for entry in finished.stages)
    summaries = {entry["name"]: entry.get("summary", {}) for entry in finished.stages}
    assert summaries["export"]["checks"]["transformers"]["difference"] < 1e-4
    assert summaries["pretrain"]["steps"] == summaries["instruct"]["steps"] == 5
    evaluation = json.loads((finished.folder / "stages" / "evaluate" / "evaluation.json").read_text())
    assert 0 < evaluation["bits_per_byte"]["value"] < 30
    assert finished.model_folder is not None
    loaded = load_model(finished.model_folder)
    assert isinstance(loaded.model, TransformersModel) and loaded.model.config.context_length == 64
    assert isinstance("".join(loaded.chat().reply("What is the capital of Normarland?")), str)


def test_what_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="context_length 128 is above the model's 64"):
        groundup.run(load_recipe(recipe_file(tmp_path, folder), ["model.context_length=128"]), until="pretrain")
    with pytest.raises(RecipeError, match=r"model\.kind: decoder, but pretrain\.from has transformers"):
        load_recipe(recipe_file(tmp_path, folder, kind="decoder"))


def test_a_class_that_mixes_documents_is_refused_before_anything_is_prepared(tmp_path: Path) -> None:
    tiny.write_data(tmp_path)
    values = tiny.recipe(tmp_path)
    sizes = {"model_type": "bloom", "hidden_size": 32, "n_layer": 4, "n_head": 4}
    values["model"] = {"kind": "transformers", "context_length": 64, "values": sizes}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(ModelFileError, match="BloomForCausalLM does not keep the documents of a row apart") as caught:
        groundup.run(load_recipe(path), "prepare")
    assert "use one that does, such as llama, qwen3" in first_line(caught.value)
    assert not list(tmp_path.glob("work/stages/*/*"))


@pytest.mark.parametrize("damage", ["missing", "unknown", "shape", "config", "class", "layers"])
def test_files_that_contradict_each_other_are_refused(damage: str, tmp_path: Path) -> None:
    theirs(tmp_path, "gpt_neox").save_pretrained(tmp_path)
    path, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    for shard in (*tmp_path.glob("model-*"), *tmp_path.glob("*.index.json")):
        shard.unlink()
    tensors, values = load_file(path), json.loads(config.read_text())
    name = next(name for name in tensors if name.endswith("attention.dense.weight"))
    changes = {
        "config": {"hidden_size": 48},
        "class": {"architectures": ["GPTNeoXModel"]},
        "layers": {"num_hidden_layers": 10**9},
    }
    if damage == "missing":
        del tensors[name]
    elif damage == "unknown":
        tensors["spare.weight"] = torch.ones(3)
    elif damage == "shape":
        tensors[name] = torch.ones(3, 32)
    config.write_text(json.dumps({**values, **changes.get(damage, {})}))
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(
        ModelFileError, match=r"tensor|describes|is not known; use GPTNeoXForCausalLM|no number of layers"
    ):
        load_model(tmp_path, need_tokenizer=False)
