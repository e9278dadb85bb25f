"""`instruct.lambda` as written in a recipe, and its course over the steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup import config
from groundup.errors import RecipeError
from groundup.pipeline import Recipe
from groundup.pipeline.lambda_config import AutoLambda, CosineLambda, LinearLambda, Ramp, lambda_at
from tests.end_to_end import tiny

ENDS = st.floats(0.01, 100)


def instruct(**changes: Any) -> Any:
    values = tiny.recipe(Path("nowhere"))
    values["instruct"] |= changes
    recipe = config.build(Recipe, values, "toy")
    assert recipe.instruct is not None
    return recipe.instruct


def refused(**changes: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        instruct(**changes)
    assert len(caught.value.message.splitlines()[0]) <= 200
    return caught.value.message


def ramps(start: float, end: float, until: float) -> list[Ramp]:
    values = {"from": start, "to": end, "until": until}
    return [LinearLambda.model_validate(values), CosineLambda.model_validate(values)]


def test_a_number_a_course_and_auto_are_told_apart() -> None:
    assert instruct(**{"lambda": 3}).lambda_ == 3.0
    assert instruct(**{"lambda": {"kind": "linear", "from": 0, "to": 4.0}}).lambda_ == LinearLambda(
        **{"from": 0.0, "to": 4.0}
    )
    assert instruct(**{"lambda": "auto"}).lambda_ == instruct(**{"lambda": {"kind": "auto"}}).lambda_ == AutoLambda()
    assert instruct(**{"lambda": "auto"}).search == AutoLambda() and instruct().search is None


@pytest.mark.parametrize("written", [2, "auto", {"kind": "cosine", "from": 0.5, "to": 2.0, "until": 0.5}])
def test_what_is_dumped_reads_back_the_same(written: Any) -> None:
    values = tiny.recipe(Path("nowhere"))
    values["instruct"]["lambda"] = written
    recipe = config.build(Recipe, values, "toy")
    assert config.build(Recipe, config.parse_yaml(config.to_yaml(recipe), "again"), "again") == recipe


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (0, "instruct.lambda: should be greater than 0"),
        (-1.5, "instruct.lambda: should be greater than 0"),
        (True, "instruct.lambda: give a number above 0, auto"),
        ("much", "instruct.lambda: give a number above 0, auto"),
        ([1, 2], "instruct.lambda: give a number above 0, auto"),
        ({"kind": "step"}, "instruct.lambda: kind 'step' is unknown"),
        ({"from": 1, "to": 2}, "instruct.lambda: kind 'None' is unknown"),
        ({"kind": "linear", "too": 2}, "instruct.lambda.too: unknown key; did you mean 'to'?"),
        ({"kind": "linear", "from": 0, "to": 0}, "both 0"),
        ({"kind": "linear", "from": -1}, "instruct.lambda.from: should be greater than or equal to 0"),
        ({"kind": "auto", "grid": [1.0]}, "instruct.lambda.grid"),
        ({"kind": "auto", "grid": [1.0, 1]}, "a value is there twice"),
        ({"kind": "auto", "grid": [0.0, 1.0]}, "instruct.lambda.grid"),
        ({"kind": "auto", "folds": 1}, "instruct.lambda.folds"),
    ],
)
def test_what_can_be_no_lambda_is_refused_in_a_sentence(written: Any, said: str) -> None:
    assert said in refused(**{"lambda": written})


def test_auto_without_replayed_text_has_nothing_to_weigh() -> None:
    assert "replays none" in refused(**{"lambda": "auto", "replay_fraction": 0})
    assert "replays none" in refused(replay_mixture={"text": 1.0}, replay_fraction=0)


def test_replayed_sources_have_names_of_their_own() -> None:
    assert instruct().replayed == ("replay",) and instruct(replay_fraction=0).replayed == ()
    assert instruct(replay_mixture={"text": 2}).replayed == ("replay_text",)
    taken = [{"name": "replay", "path": "x.jsonl"}]
    assert "is the name of the replayed text" in refused(sources=taken)
    assert "instruct.replay_mixture names 'other'" in refused(replay_mixture={"other": 1.0})


def test_the_budget_is_tokens_or_epochs() -> None:
    assert instruct(tokens=0, epochs=2).epochs == 2
    for wrong in ({"epochs": 1.0}, {"tokens": 0}):
        assert "tokens or as epochs, one of the two" in refused(**wrong)


@given(ENDS, ENDS, st.floats(0.01, 1), st.integers(1, 300))
def test_a_course_begins_and_ends_where_it_is_told_to(start: float, end: float, until: float, steps: int) -> None:
    for ramp in ramps(start, end, until):
        values = [lambda_at(ramp, step, steps) for step in range(steps)]
        assert values[0] == start
        assert steps == 1 or values[-1] == pytest.approx(end)
        assert values == sorted(values, reverse=end < start), "it goes one way only"
        assert all(
            value == pytest.approx(end)
            for step, value in enumerate(values)
            if step >= until * (steps - 1) and steps > 1
        )


def test_linear_and_cosine_meet_in_the_middle() -> None:
    linear, cosine = ramps(1.0, 3.0, 1.0)
    assert lambda_at(linear, 50, 101) == pytest.approx(2.0) == lambda_at(cosine, 50, 101)
    assert lambda_at(linear, 25, 101) == pytest.approx(1.5) and lambda_at(cosine, 25, 101) == pytest.approx(
        1.2929, abs=1e-4
    )
    assert lambda_at(2.5, 7, 10) == 2.5


def test_editors_know_the_word_auto() -> None:
    schema = config.json_schema(Recipe)["$defs"]["InstructConfig"]["properties"]["lambda"]
    assert {"const": "auto"} in schema["oneOf"] and len(schema["oneOf"]) == 5
