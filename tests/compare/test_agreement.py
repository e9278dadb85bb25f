"""Win rates, kappa and what people said."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.compare.agreement import agreement, read_people, tally
from groundup.compare.judge import Judgement
from groundup.errors import DataError
from groundup.evaluate import mean
from tests.compare.conftest import made

VERDICTS = st.sampled_from(["a", "b", "tie"])


def test_kappa_of_a_table_that_is_known() -> None:
    """Cohen's own kind of example: 20 + 15 agreed of 50, 0.5 of it by chance."""
    pairs = [("a", "a")] * 20 + [("a", "b")] * 5 + [("b", "a")] * 10 + [("b", "b")] * 15
    found = agreement(pairs)
    assert found.share.value == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)
    assert found.kappa_stderr == pytest.approx(math.sqrt(0.7 * 0.3 / 50) / 0.5)


@given(st.lists(st.tuples(VERDICTS, VERDICTS), max_size=30))
def test_kappa_is_the_same_both_ways_and_one_at_best(pairs: list[tuple[str, str]]) -> None:
    one, other = agreement(pairs), agreement([(b, a) for a, b in pairs])
    assert (one.kappa is None) == (other.kappa is None)
    if one.kappa is not None and other.kappa is not None:
        assert one.kappa == pytest.approx(other.kappa)
        assert one.kappa <= 1.0 + 1e-9
        assert (one.kappa > 1 - 1e-9) == all(a == b for a, b in pairs)


def test_what_is_not_judged_counts_in_its_own_number() -> None:
    pairs = made(("x", "y"), ("x", "y"), ("x", "x"), ("x", "y"), ("x", "y"))
    judgements = [
        Judgement("b", "b"),
        Judgement("a", "b"),
        Judgement("tie", "tie", asked=False),
        Judgement(None, "a"),
        None,
    ]
    found = tally(pairs, judgements, {"0": "b", "1": "a", "9": "a"})
    assert found.wins == {"a": 0, "tie": 2, "b": 1}
    assert found.rate == mean([1.0, 0.5, 0.5])
    assert (found.unreadable, found.unjudged, found.equal) == (1, 1, 1)
    assert found.orders.share == mean([1.0, 0.0])
    # In the first order A stands first, in the second B.
    assert found.first_place == mean([0.0, 1.0, 1.0, 1.0, 0.0])
    assert found.people is not None
    assert found.people.share == mean([1.0, 0.0])


def test_people_are_matched_by_id_or_prompt(tmp_path: Path) -> None:
    pairs = made(("x", "y"), ("x", "y"), ("x", "y"))
    path = tmp_path / "people.jsonl"
    lines = [{"id": "0", "verdict": "A"}, {"prompt": "question 1", "verdict": "tie"}, {"id": "other", "verdict": "b"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_people(str(path), pairs) == {"0": "a", "1": "tie"}


@pytest.mark.parametrize(
    "line", ['{"id": "0", "verdict": "c"}', '{"id": "9", "verdict": "a"}', '{"id": "0"}', "no json"]
)
def test_verdicts_that_are_none_are_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "people.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(DataError):
        read_people(str(path), made(("x", "y")))
