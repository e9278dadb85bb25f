"""Presets fill in what a recipe leaves out, and a resolved recipe means the same when it is read again."""

import pytest

from groundup import config
from groundup.corpus.clean import CleanConfig, load_resources
from groundup.corpus.clean.config import PRESETS
from groundup.errors import RecipeError, first_line


def build(**values):
    return config.build(CleanConfig, values, "test")


def test_none_switches_nothing_on():
    assert build() == CleanConfig() == build(preset="none")
    assert build().gopher is None and not build().mojibake and build().unicode == "keep"


def test_values_beside_a_preset_win_key_by_key():
    made = build(preset="fineweb", c4={"min_sentences": 3}, gopher=None, unicode="keep")
    assert made.c4.min_sentences == 3
    assert made.c4.terminal_punctuation is False  # the preset's
    assert made.gopher is None
    assert made.unicode == "keep"
    assert made.fineweb is not None and made.personal_data.phone == "keep"


@pytest.mark.parametrize("preset", PRESETS)
def test_resolved_recipes_read_back(preset):
    made = build(preset=preset, c4=None)
    again = build(**config.parse_yaml(config.to_yaml(made), "x"))
    assert again == made
    assert config.digest(again) == config.digest(made)


def test_faults_are_named():
    with pytest.raises(RecipeError, match="must hold no digit"):
        build(personal_data={"placeholder": "1@x"})
    with pytest.raises(RecipeError, match="two word lists are named 'a'"):
        build(word_lists=[{"name": "a", "path": "x"}, {"name": "A", "path": "y"}])
    with pytest.raises(RecipeError, match="did you mean 'gopher'"):
        build(gofer={})


def test_a_missing_package_is_told_before_anything_is_read(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RecipeError) as caught:
        load_resources(build(preset="basic"), ())
    assert first_line(caught.value).startswith(
        "corpus.clean.mojibake needs the package ftfy, which cannot be loaded: run pip install"
    )
    load_resources(build(preset="basic", mojibake=False), ())
