"""Charts: any points give a valid, labelled drawing; thinning keeps the extremes; ticks are round."""

from __future__ import annotations

import json
import math
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from groundup.report.charts import (
    POINTS,
    Series,
    bar,
    finite,
    line_chart,
    running_mean,
    thin,
    tick_text,
    ticks,
)

numbers = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-1e3, 1e3)
points = st.lists(st.tuples(st.integers(0, 10**9).map(float), numbers), max_size=60).map(sorted)


@given(st.lists(points, max_size=4), st.booleans())
@example([[(0.0, -1.634266486238469e308)]], False)
def test_any_points_give_a_drawing_within_its_frame(many: list[list[tuple[float, float]]], from_zero: bool) -> None:
    series = [Series(f"<{i}>", line, smooth=bool(i % 2), marked=i == 2) for i, line in enumerate(many)]
    chart = line_chart("Loss", "step", "nats", series, from_zero)
    if not any(finite(line) for line in many):
        assert chart is None
        return
    assert chart is not None
    svg = ElementTree.fromstring(str(chart.svg))
    assert svg.attrib["aria-label"].startswith("Loss")
    data = json.loads(svg.attrib["data-chart"])
    assert len(data["series"]) == len(chart.legend) == sum(1 for line in many if finite(line))
    for circle in svg.iter("circle"):
        assert -1 <= float(circle.attrib["cx"]) <= 561
        assert -1 <= float(circle.attrib["cy"]) <= 301
    assert len(chart.rows) <= 12
    assert all(len(row) == len(chart.header) for row in chart.rows)


def test_names_are_escaped() -> None:
    chart = line_chart("</svg><script>", "<x>", "\"'&", [Series("<b>", [(1, 1), (2, 3)], marked=True)])
    assert chart is not None
    assert "<script>" not in chart.svg
    assert "<b>" not in chart.svg
    assert "<x>" not in chart.svg


def test_a_wide_range_gets_powers_of_ten_unless_it_starts_at_zero() -> None:
    series = [Series("norm", [(float(i), 10.0 ** (i / 10 - 3)) for i in range(60)])]
    logarithmic, linear = line_chart("Norm", "step", "", series), line_chart("Norm", "step", "", series, from_zero=True)
    assert logarithmic is not None
    assert linear is not None
    assert [">0.001<" in logarithmic.svg, ">100<" in logarithmic.svg, ">0<" in linear.svg] == [True, True, True]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3000))
def test_thinning_keeps_ends_and_extremes(values: list[float]) -> None:
    line = [(float(i), value) for i, value in enumerate(values)]
    kept = thin(line)
    assert len(kept) <= POINTS
    assert kept == sorted(set(kept))
    assert {kept[0], kept[-1]} == {line[0], line[-1]}
    assert min(y for _, y in kept) == min(values)
    assert max(y for _, y in kept) == max(values)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.integers(1, 50))
def test_a_running_mean_stays_within_its_values(values: list[float], window: int) -> None:
    line = [(float(i), value) for i, value in enumerate(values)]
    smoothed = running_mean(line, window)
    assert [x for x, _ in smoothed] == [x for x, _ in line]
    assert all(min(values) - 1e-3 <= y <= max(values) + 1e-3 for _, y in smoothed)


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 8))
def test_ticks_are_few_evenly_spaced_and_inside(low: float, span: float, count: int) -> None:
    span = max(span, abs(low) * 1e-6)
    high = low + span
    found = ticks(low, high, count)
    assert len(found) <= count + 2
    assert all(low - span * 0.01 <= tick <= high + span * 0.01 for tick in found)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1_200_000, "1.2M"), (2500, "2.5k"), (0.0005, "5e-4"), (0.25, "0.25"), (-3, "-3"), (1.5e9, "1.5G")],
)
def test_ticks_are_short(value: float, text: str) -> None:
    assert tick_text(value) == text


@pytest.mark.parametrize("total", [0.0, 4.0, 10.0])
def test_bars_never_leave_their_track(total: float) -> None:
    drawing = ElementTree.fromstring(str(bar([(3.0, "kept"), (math.inf, "x"), (-1.0, "y"), (1.0, "filtered")], total)))
    for rect in drawing.iter("rect"):
        assert 0 <= float(rect.attrib["x"]) + float(rect.attrib["width"]) <= 100.001
