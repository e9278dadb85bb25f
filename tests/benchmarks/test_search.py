"""The search's arithmetic, and that every variant it names can be run."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from benchmarks.runners import groundup, variant
from benchmarks.sizes import parse_size
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import harness, search
from groundup.config import build
from groundup.models import DecoderConfig
from groundup.train.settings import TrainingConfig

FILE = harness.HERE / "search.yaml"
SIZE = parse_size("V512-d64-L2-H2-ff128-T64")
VARIANTS = search.variants(FILE, "*")


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_a_valid_recipe_and_differs_from_the_base(name: str) -> None:
    settings = VARIANTS[name]
    session = SimpleNamespace(settings=settings, job={"seconds": 0.0, "batch_tokens": 4096}, size=SIZE, rows=0)
    recipe = groundup.quality_recipe(session)
    build(DecoderConfig, {**groundup.shape(session), **recipe["model"]}, "model")
    batch = {"tokens": 10_000, "global_batch_tokens": session.rows * SIZE.context_length}
    build(TrainingConfig, {**recipe["pretrain"], **batch}, "pretrain")
    assert settings.get("trick", "none") in variant.TRICKS
    rows, session.settings = session.rows, VARIANTS[search.BASE]
    same = recipe == groundup.quality_recipe(session) and rows == session.rows
    assert (same and "trick" not in settings) == (name == search.BASE)


@pytest.mark.parametrize(("size", "minutes", "rows"), [("5M", 30, None), ("60M", 30, 64), ("60M", 3, 64)])
def test_the_quality_recipe_goes_with_width_and_budget(size: str, minutes: float, rows: int | None) -> None:
    settings = {"recipe": str(harness.HERE / "quality.yaml")}
    job = {"seconds": 60.0 * minutes, "batch_tokens": 0}
    recipe = groundup.quality_recipe(SimpleNamespace(settings=settings, job=job, size=parse_size(size), rows=0))
    assert recipe["pretrain"]["optimizer"].get("block_rows") == rows
    assert recipe["model"]["qk_norm"] == (minutes > 3)
    assert not {"wider_than", "budgets"} & recipe.keys()


def test_a_variant_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "search.yaml"
    file.write_text("base: {}\nvariants:\n  odd: {optimizer.rate: 1}\n")
    with pytest.raises(SystemExit, match=r"odd.*optimizer\.rate"):
        search.variants(file, "*")


def test_differences_are_taken_seed_by_seed() -> None:
    base = {seed: {"bits_per_byte": value} for seed, value in {1: 2.0, 2: 3.0, 3: 9.0}.items()}
    runs = {1: {"bits_per_byte": 1.9}, 2: {"bits_per_byte": 2.7}, 4: {"bits_per_byte": 0.0}, 3: {"failed": "memory"}}
    gap = search.difference(runs, base)
    assert gap is not None
    assert gap["mean"] == pytest.approx(-0.2)
    assert gap["error"] == pytest.approx(0.1)
    assert gap["n"] == 2
    assert search.difference({4: {"bits_per_byte": 0.0}}, base) is None


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20), st.floats(-1e3, 1e3))
def test_the_error_of_a_mean_does_not_depend_on_where_it_lies(values: list[float], shift: float) -> None:
    error = search.standard_error(values)
    moved = search.standard_error([value + shift for value in values])
    assert error is not None and moved is not None
    assert math.isclose(error, moved, rel_tol=1e-6, abs_tol=1e-6)
    assert search.standard_error(values[:1]) is None


@given(st.integers(1, 5), st.sampled_from([1, 2, 4, 8, 16]))
def test_a_shorter_context_predicts_the_same_tokens(rows: int, context: int) -> None:
    tokens = torch.arange(rows * 17).reshape(rows, 17)
    cut = variant.shorter(tokens, context)
    assert cut.shape == (rows * 16 // context, context + 1)
    assert sorted(cut[:, 1:].flatten().tolist()) == tokens[:, 1:].flatten().sort().values.tolist()
    assert torch.equal(cut[:, :-1] + 1, cut[:, 1:])


def test_values_have_equal_shares_of_a_run() -> None:
    assert [variant.at([1, 2, 4], progress) for progress in (0.0, 0.33, 0.34, 0.67, 1.0)] == [1, 1, 2, 4, 4]
