"""Trials of a search for lambda -> the trade-off as a chart: how good the answers are against what of the text is lost.

    points (lambda, quality, forgetting, errors) --scales--> crosses of errors, dots, names, the line of the bound

Invariant: any points give a chart or None (nothing to draw); what is not finite is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from groundup.report import words
from groundup.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, Scale, grid, ticks

LARGEST = 1e6
ROOM = 0.08


@dataclass(frozen=True)
class TradeOff:
    """One value of lambda, or one of its trials."""

    name: str
    forgetting: float
    """In percent of the bits per byte before."""
    quality: float
    forgetting_error: float = 0.0
    quality_error: float = 0.0
    kind: str = "stopped"
    """`chosen`, `finished`, `stopped` or `trial`."""
    state: str = ""
    """What is said of it in the table."""


_COLOURS = {"trial": "s3 faint", "stopped": "s3", "finished": "s1", "chosen": "s2"}
_LEGEND = {"chosen": "chosen", "finished": "tried on every fold", "stopped": "stopped early", "trial": "single trials"}


def trade_off_chart(title: str, quality_name: str, points: Sequence[TradeOff], bound: float, note: str) -> Chart | None:
    """Quality over forgetting with standard errors, and the bound (in percent) as a line; None without points."""
    shown = [point for point in points if abs(point.forgetting) < LARGEST and abs(point.quality) < LARGEST]
    if not any(point.kind != "trial" for point in shown):
        return None
    xs = [point.forgetting + sign * _error(point.forgetting_error) for point in shown for sign in (-1, 1)]
    ys = [point.quality + sign * _error(point.quality_error) for point in shown for sign in (-1, 1)]
    x_scale = _scale([*xs, 0.0, *([bound] if abs(bound) < LARGEST else [])], LEFT, WIDTH - RIGHT)
    y_scale = _scale(ys, HEIGHT - BOTTOM, TOP)
    x_ticks, y_ticks = ticks(x_scale.low, x_scale.high, 6), ticks(y_scale.low, y_scale.high, 5)
    x_name = "forgetting, % of bits per byte"
    parts = [*grid(x_scale, y_scale, x_ticks, y_ticks, x_name, quality_name)]
    if abs(bound) < LARGEST:
        parts.append(_bound(x_scale(bound)))
    order = list(_COLOURS)
    parts += [_drawn(point, x_scale, y_scale) for point in sorted(shown, key=lambda point: order.index(point.kind))]
    named = [point for point in shown if point.kind != "trial"]
    label = f"{title}: " + "; ".join(f"{p.name}: {p.quality:.4g} at {p.forgetting:+.3g}%" for p in named)
    svg = Markup(
        '<svg class="plot" viewBox="0 0 {} {}" role="img" tabindex="0" aria-label="{}"><title>{}</title>{}</svg>'
    )
    kinds = [kind for kind in _LEGEND if any(point.kind == kind for point in shown)]
    return Chart(
        title,
        note,
        svg.format(WIDTH, HEIGHT, label, label, Markup("").join(parts)),
        [(_LEGEND[kind], f"{_COLOURS[kind].split()[0]} marked") for kind in kinds if kind != "trial"],
        ["lambda", "", quality_name, x_name],
        [[point.name, point.state, *_values(point)] for point in named],
    )


def _values(point: TradeOff) -> list[str]:
    quality = words.significant(point.quality, 4)
    return [
        f"{quality} ± {words.significant(_error(point.quality_error), 2)}",
        f"{point.forgetting:+.2f} ± {_error(point.forgetting_error):.2f}",
    ]


def _error(value: float) -> float:
    return value if math.isfinite(value) and 0 < value < LARGEST else 0.0


def _scale(values: Sequence[float], start: float, end: float) -> Scale:
    low, high = min(values), max(values)
    room = (high - low) * ROOM or abs(high) * 0.1 or 1.0
    return Scale(low - room, high + room, start, end)


def _bound(x: float) -> Markup:
    anchor, beside = ("end", x - 5) if x > WIDTH / 2 else ("start", x + 5)
    line = Markup('<line class="bound" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>')
    text = Markup('<text class="tick {}" x="{:.1f}" y="{}">bound</text>')
    return line.format(x, TOP, HEIGHT - BOTTOM) + text.format(anchor, beside, TOP + 10)


def _drawn(point: TradeOff, x_scale: Scale, y_scale: Scale) -> Markup:
    """A dot with its errors as a cross, and its name beside it; single trials are small and have neither."""
    x, y, colour = x_scale(point.forgetting), y_scale(point.quality), _COLOURS[point.kind]
    title = f"{point.name}: {point.quality:.4g}, {point.forgetting:+.3g}%"
    dot = Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>')
    if point.kind == "trial":
        return dot.format(colour, x, y, 2.2, title)
    line = Markup('<line class="line error {}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>')
    wide, tall = _error(point.forgetting_error), _error(point.quality_error)
    left, right = x_scale(point.forgetting - wide), x_scale(point.forgetting + wide)
    low, high = y_scale(point.quality - tall), y_scale(point.quality + tall)
    inside = x < WIDTH - 60
    return Markup("").join(
        [
            line.format(colour, left, right, y, y),
            line.format(colour, x, x, low, high),
            dot.format(colour, x, y, 5 if point.kind == "chosen" else 3.6, title),
            Markup('<text class="tick label {}" x="{:.1f}" y="{:.1f}">{}</text>').format(
                "start" if inside else "end", x + (7 if inside else -7), y - 7, point.name
            ),
        ]
    )
