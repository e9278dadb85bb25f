"""Numbers -> small SVG charts that live inside the page: no library, no outside file, the page's own colours.

    series --thin--> at most POINTS points --scale--> paths, axes, grid, title
                                          \\--> data-chart (JSON) for the hover script

A chart is drawn once, 560 units wide, and scales with its column; on a phone the style makes its letters larger.
Each series has a class `s1` ... `s6` for its colour; all text goes through markupsafe, so it is escaped.
Invariant: any list of points gives a chart or None (nothing to draw); values that are not finite are left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

POINTS = 400
COLOURS = 6
WIDTH, HEIGHT, SMALL_HEIGHT = 560, 300, 200
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 12, 44
TABLE_ROWS = 12
LARGEST = 1e300
SMOOTH_FROM = 60
Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line of a chart: points (x, y) in the order of x."""

    name: str
    points: Sequence[Point]
    smooth: bool = False
    """Draw a running mean boldly and the raw values faintly behind it (when there are many)."""
    marked: bool = False
    """Draw a dot at each point: for few, exact values such as validations."""


@dataclass(frozen=True)
class Chart:
    """What the page shows: the drawing, its legend [(name, class)], and rows of values for those who cannot see it."""

    title: str
    note: str
    svg: Markup
    legend: list[tuple[str, str]] = field(default_factory=list)
    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


@dataclass(frozen=True)
class Scale:
    """A range of values onto a range of units, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, low))
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def line_chart(
    title: str,
    x_name: str,
    y_name: str,
    series: Sequence[Series],
    from_zero: bool = False,
    height: int = HEIGHT,
    note: str = "",
) -> Chart | None:
    """Lines over a common x axis; None when no series has a point.

    The y axis starts at 0 where asked; otherwise a range above 1:300 makes it logarithmic.
    """
    drawn = [(i, s, thin(finite(s.points))) for i, s in enumerate(series)]
    drawn = [(i, s, points) for i, s, points in drawn if points]
    if not drawn:
        return None
    x_scale, y_scale = _scales([points for _, _, points in drawn], from_zero, height)
    x_ticks, y_ticks = ticks(x_scale.low, x_scale.high, 6), _y_ticks(y_scale)
    parts = [*grid(x_scale, y_scale, x_ticks, y_ticks, x_name, y_name)]
    for index, one, points in drawn:
        parts.append(_draw(f"s{index % COLOURS + 1}", one, points, x_scale, y_scale))
    data = {
        "x": [x_scale.low, x_scale.high, x_scale.start, x_scale.end],
        "y": [y_scale.low, y_scale.high, y_scale.start, y_scale.end, int(y_scale.logarithmic)],
        "xName": x_name,
        "series": [{"name": s.name, "colour": f"s{i % COLOURS + 1}", "points": _short_points(p)} for i, s, p in drawn],
    }
    label = _label(title, x_name, [(s.name, points) for _, s, points in drawn])
    svg = Markup(
        '<svg class="plot" viewBox="0 0 {} {}" role="img" tabindex="0" aria-label="{}" data-chart="{}">'
        "<title>{}</title>{}</svg>"
    ).format(WIDTH, height, label, json.dumps(data), label, Markup("").join(parts))
    legend = [(s.name, f"s{i % COLOURS + 1}" + (" marked" if s.marked else "")) for i, s, _ in drawn]
    header, rows = _table(x_name, [(s.name, points) for _, s, points in drawn])
    return Chart(title, note, svg, legend, header, rows)


def bar(parts: Sequence[tuple[float, str]], total: float) -> Markup:
    """A flat bar of parts (value, class), each as wide as its share of `total`; it fills its table cell's width."""
    rects, at = [], 0.0
    for value, colour in parts:
        width = 100 * min(max(value / total, 0.0), 1.0) if total > 0 and math.isfinite(value) else 0.0
        rects.append(Markup('<rect class="{}" x="{:.3f}" y="0" width="{:.3f}" height="8"/>').format(colour, at, width))
        at += width
    return Markup(
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        '<rect class="track" x="0" y="0" width="100" height="8"/>{}</svg>'
    ).format(Markup("").join(rects))


def finite(points: Sequence[Point]) -> list[Point]:
    """The points whose coordinates are both finite, and small enough that a range around them is."""
    return [(x, y) for x, y in points if abs(x) < LARGEST and abs(y) < LARGEST]


def thin(points: Sequence[Point], limit: int = POINTS) -> list[Point]:
    """At most about `limit` points that keep the ends and, of each stretch, the lowest and the highest."""
    if len(points) <= limit:
        return list(points)
    stretches = limit // 2 - 1
    kept = [points[0]]
    for i in range(stretches):
        stretch = points[1 + i * (len(points) - 2) // stretches : 1 + (i + 1) * (len(points) - 2) // stretches]
        low, high = min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])
        kept += [low] if low == high else sorted((low, high))
    return [*kept, points[-1]]


def running_mean(points: Sequence[Point], window: int) -> list[Point]:
    """Each y as the mean of `window` neighbours around it (fewer at the ends)."""
    sums = [0.0]
    for _, y in points:
        sums.append(sums[-1] + y)
    half, smoothed = max(window // 2, 1), []
    for i, (x, _) in enumerate(points):
        reach = min(half, i, len(points) - 1 - i)
        smoothed.append((x, (sums[i + reach + 1] - sums[i - reach]) / (2 * reach + 1)))
    return smoothed


def ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round values (1, 2 or 5 times a power of ten) within [low, high]."""
    raw = (high - low) / max(count, 1)
    if not raw > 0 or not math.isfinite(raw):
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, first + count + 3) if i * step <= high + step * 1e-9]


def tick_text(value: float) -> str:
    """A tick in at most about six letters: 1200000 -> "1.2M", 0.0005 -> "5e-4"."""
    size = abs(value)
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= limit:
            return f"{value / limit:.4g}{suffix}"
    if size and size < 0.001:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.4g}"


def _scales(drawn: Sequence[Sequence[Point]], from_zero: bool, height: int) -> tuple[Scale, Scale]:
    xs, ys = [x for points in drawn for x, _ in points], [y for points in drawn for _, y in points]
    x_low, x_high, y_low, y_high = min(xs), max(xs), min(ys), max(ys)
    logarithmic = not from_zero and y_low > 0 and y_high / y_low > 300
    if not logarithmic:
        room = (y_high - y_low) * 0.05 or abs(y_high) * 0.1 or 1.0
        y_low, y_high = (min(y_low, 0.0) if from_zero else y_low - room), y_high + room
    if x_low == x_high:
        x_low, x_high = x_low - 0.5, x_high + 0.5
    x_scale = Scale(x_low, x_high, LEFT, WIDTH - RIGHT)
    return x_scale, Scale(y_low, y_high, height - BOTTOM, TOP, logarithmic)


def _y_ticks(scale: Scale) -> list[float]:
    if not scale.logarithmic:
        return ticks(scale.low, scale.high, 5 if scale.start > SMALL_HEIGHT else 4)
    powers = range(math.ceil(math.log10(scale.low)), math.floor(math.log10(scale.high)) + 1)
    return [10.0**power for power in powers] or [scale.low, scale.high]


def grid(
    x_scale: Scale, y_scale: Scale, x_ticks: Sequence[float], y_ticks: Sequence[float], x_name: str, y_name: str
) -> list[Markup]:
    """Lines, ticks and names of both axes."""
    line = Markup('<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>')
    text = Markup('<text class="tick {}" x="{:.1f}" y="{:.1f}">{}</text>')
    bottom, parts = y_scale.start, []
    for tick in y_ticks:
        y = y_scale(tick)
        parts += [
            line.format("grid", LEFT, WIDTH - RIGHT, y, y),
            text.format("end", LEFT - 7, y + 4.5, tick_text(tick)),
        ]
    for tick in x_ticks:
        x = x_scale(tick)
        parts += [line.format("axis", x, x, bottom, bottom + 4), text.format("middle", x, bottom + 19, tick_text(tick))]
    parts.append(line.format("axis", LEFT, WIDTH - RIGHT, bottom, bottom))
    parts.append(text.format("end name", WIDTH - RIGHT, bottom + BOTTOM - 7, x_name))
    parts.append(text.format("start name", LEFT, bottom + BOTTOM - 7, f"↑ {y_name}"))
    return parts


def _draw(colour: str, series: Series, points: Sequence[Point], x_scale: Scale, y_scale: Scale) -> Markup:
    path = Markup('<path class="line {}" d="{}"/>')
    if series.marked or len(points) == 1:
        dot = Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="3.2"><title>{}: {}</title></circle>')
        dots = [dot.format(colour, x_scale(x), y_scale(y), series.name, f"{y:.5g} at {x:,.0f}") for x, y in points]
        return path.format(colour, _path(points, x_scale, y_scale)) + Markup("").join(dots)
    if series.smooth and len(points) >= SMOOTH_FROM:
        faint = path.format(f"{colour} faint", _path(points, x_scale, y_scale))
        smoothed = running_mean(points, max(5, len(points) // 20))
        return faint + path.format(colour, _path(smoothed, x_scale, y_scale))
    return path.format(colour, _path(points, x_scale, y_scale))


def _path(points: Sequence[Point], x_scale: Scale, y_scale: Scale) -> str:
    return "M" + "L".join(f"{x_scale(x):.1f} {y_scale(y):.1f}" for x, y in points)


def _short_points(points: Sequence[Point]) -> list[list[float]]:
    return [[float(f"{x:.7g}"), float(f"{y:.5g}")] for x, y in points]


def _label(title: str, x_name: str, named: Sequence[tuple[str, Sequence[Point]]]) -> str:
    ends = [f"{name} from {points[0][1]:.4g} to {points[-1][1]:.4g}" for name, points in named]
    return f"{title}: {'; '.join(ends)}, over {x_name} {named[0][1][0][0]:,.0f} to {named[0][1][-1][0]:,.0f}."


def _table(x_name: str, named: Sequence[tuple[str, Sequence[Point]]]) -> tuple[list[str], list[list[str]]]:
    """A dozen rows over the x axis with each series' nearest value at or before it."""
    xs = sorted({x for _, points in named for x, _ in points})
    chosen = xs if len(xs) <= TABLE_ROWS else [xs[i * (len(xs) - 1) // (TABLE_ROWS - 1)] for i in range(TABLE_ROWS)]
    rows = []
    for x in chosen:
        row = [f"{x:,.0f}"]
        for _, points in named:
            before = [y for at, y in points if at <= x]
            row.append(f"{before[-1]:.4g}" if before else "")
        rows.append(row)
    return [x_name, *(name for name, _ in named)], rows
