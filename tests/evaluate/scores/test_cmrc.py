"""CMRC 2018's rules, by examples computed by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.evaluate.scores.cmrc import exact_match, f1, pieces


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("在1815年，拿破仑。", ["在", "1815", "年", "拿", "破", "仑"]),
        ("使用Python 3.5版", ["使", "用", "python", "3.5", "版"]),
        ("《红楼梦》", ["红", "楼", "梦"]),
        ("New York市", ["new", "york", "市"]),
        ("", []),
    ],
)
def test_pieces(text: str, expected: list[str]) -> None:
    assert pieces(text) == expected


@pytest.mark.parametrize(
    ("prediction", "reference", "exact", "shared"),
    [
        ("北京市", "北京", 0.0, 0.8),
        ("北京。", "北京", 1.0, 1.0),
        ("京北", "北京", 0.0, 0.5),  # a run counts, not a bag: of two characters one
        ("1815年6月18日", "6月18日", 0.0, 2 * 4 / (6 + 4)),
        ("上海", "北京", 0.0, 0.0),
        ("", "", 1.0, 1.0),
        ("", "北京", 0.0, 0.0),
    ],
)
def test_by_hand(prediction: str, reference: str, exact: float, shared: float) -> None:
    assert exact_match(prediction, reference) == exact
    assert f1(prediction, reference) == pytest.approx(shared)


@given(st.text("北京市ab ，1", max_size=12), st.text("北京市ab ，1", max_size=12))
def test_the_longest_run_is_that_of_all_runs(one: str, other: str) -> None:
    first, second = pieces(one), pieces(other)
    runs = [first[a:b] for a in range(len(first)) for b in range(a + 1, len(first) + 1)]
    in_other = [run for run in runs if any(second[at : at + len(run)] == run for at in range(len(second)))]
    longest = max(map(len, in_other), default=0)
    expected = float(first == second) if not first or not second else 2 * longest / (len(first) + len(second))
    assert f1(one, other) == pytest.approx(expected)
