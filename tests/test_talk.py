"""Targets of generate and chat: a recipe, a run or a model folder; overrides are told from text."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from groundup import config, log, talk
from groundup.errors import ModelFileError, RecipeError, first_line
from groundup.inference import GenerateConfig
from groundup.pipeline import load_recipe

RECIPE = """\
name: toy
corpus: {sources: [{name: text, path: text.txt}]}
model: {kind: decoder, context_length: 64, num_layers: 1, hidden_size: 16, num_heads: 1, num_kv_heads: 1, ffn_size: 32}
pretrain: {tokens: 1024, global_batch_tokens: 128}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe whose run has a model, as far as its folder tells."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(talk, "load_model", lambda path: path)
    path = tmp_path / "toy.yaml"
    path.write_text(RECIPE)
    run = tmp_path / "work" / "runs" / "toy"
    (run / "model").mkdir(parents=True)
    (run / "recipe.yaml").write_text(config.to_yaml(load_recipe(path)))
    return path


def load(*words: str) -> tuple[Any, list[str]]:
    return talk.load_target(words[0], words[1:])


def test_a_recipe_means_its_run_and_its_overrides_are_no_text(recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "work" / "runs" / "toy"
    assert load(str(recipe), "What is x=1?", "runtime.threads=2", "x.y=3") == (run, ["What is x=1?", "x.y=3"])
    with pytest.raises(ModelFileError, match="run 'other' has no model yet; make it with: groundup run") as caught:
        load(str(recipe), "name=other", "What?")
    assert len(first_line(caught.value)) <= 200
    with pytest.raises(RecipeError, match="did you mean 'tokens'"):
        load(str(recipe), "pretrain.tokns=4")


def test_folders_are_taken_as_they_are(recipe: Path, tmp_path: Path) -> None:
    assert load(str(tmp_path), "seed=3") == (str(tmp_path), ["seed=3"])


def test_a_changed_recipe_is_said(recipe: Path, caplog: pytest.LogCaptureFixture) -> None:
    log.logger.propagate = True
    with caplog.at_level(logging.WARNING, logger="groundup"):
        load(str(recipe), "runtime.threads=1")
        assert caplog.text == ""
        load(str(recipe), "pretrain.tokens=2048")
    assert "the recipe changed since this model was made" in caplog.text


def test_options_become_settings_with_all_faults_at_once() -> None:
    options = {"temperature": 0.5, "top_k": None, "verbose": 1, "words": ["x"]}
    assert talk.generation(options) == GenerateConfig(temperature=0.5)
    with pytest.raises(RecipeError, match="2 faults") as caught:
        talk.generation({"temperature": -1.0, "top_p": 3.0})
    assert "top_p" in "".join(caught.value.details)
