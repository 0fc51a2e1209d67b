"""Curves of a training as SVG, readable in light and in dark and by a screen reader."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from condgen.files.plots import Curve

WIDTH, HEIGHT = 440, 220
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 12, 40
DASHES = ("", "6 3", "2 3", "8 3 2 3")
"""Dashes of the curves, which tell them apart without colours."""
SHOWN = len(DASHES)
MANY = 50
"""Points of a curve of which a few may lie outside the plot."""


def figure(title: str, curves: Sequence[Curve]) -> str:
    """A plot of at most SHOWN curves over the images seen, with a table of their values; '' without points."""
    curves = [curve for curve in curves if curve.x][:SHOWN]
    if not curves:
        return ""
    xs, ys = [x for curve in curves for x in curve.x], _without_outliers([y for curve in curves for y in curve.y])
    across, up = _scale(0.0 if min(xs) >= 0 else min(xs), max(xs)), _scale(min(ys), max(ys))
    lines = [_axes(across, up)]
    for number, curve in enumerate(curves):
        points = " ".join(f"{_x(x, across):.1f},{_y(y, up):.1f}" for x, y in zip(curve.x, curve.y))
        lines.append(f'<polyline class="c{number}" points="{points}" stroke-dasharray="{DASHES[number]}"/>')
        if len(curve.x) == 1:
            lines.append(f'<circle class="c{number}" cx="{points.split(",")[0]}" cy="{points.split(",")[1]}" r="3"/>')
    spoken = html.escape(f"{title}: {'; '.join(_described(curve) for curve in curves)}")
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{spoken}">{"".join(lines)}</svg>'
    legend = "".join(
        f'<li><svg viewBox="0 0 28 8" aria-hidden="true"><line class="c{number}" x1="0" y1="4" x2="28" y2="4" '
        f'stroke-dasharray="{DASHES[number]}"/></svg>{html.escape(curve.name)} <b>{curve.y[-1]:.4g}</b></li>'
        for number, curve in enumerate(curves)
    )
    return f'<figure class="tr-plot"><figcaption>{html.escape(title)}</figcaption>{svg}<ul>{legend}</ul></figure>'


def _described(curve: Curve) -> str:
    span = f"{curve.y[0]:.4g} at {curve.x[0]:,.0f} images to {curve.y[-1]:.4g} at {curve.x[-1]:,.0f}"
    return f"{curve.name} from {span}, lowest {min(curve.y):.4g}"


def _without_outliers(values: list[float]) -> list[float]:
    """The values without a first few that would flatten the rest of the curve."""
    if len(values) < MANY:
        return values
    ranked = sorted(values)
    low, high = ranked[0], ranked[int(0.98 * (len(ranked) - 1))]
    return [value for value in values if value <= high + 0.5 * (high - low)] or values


def _scale(low: float, high: float) -> list[float]:
    """Round numbers that span an interval, as marks of an axis."""
    if high <= low:
        low, high = low - (abs(low) * 0.1 or 1.0), high + (abs(high) * 0.1 or 1.0)
    raw = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if raw <= unit * factor * 1.0001)
    first = math.floor(low / step + 1e-9)
    return [step * k for k in range(first, math.ceil(high / step - 1e-9) + 1)]


def _axes(across: list[float], up: list[float]) -> str:
    lines = []
    for y in up:
        place = _y(y, up)
        lines.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place:.1f}" y2="{place:.1f}"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{place + 4:.1f}" text-anchor="end">{_short(y)}</text>')
    for x in across:
        lines.append(f'<text x="{_x(x, across):.1f}" y="{HEIGHT - 22}" text-anchor="middle">{_short(x)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    return "".join([*lines, f'<text x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">images seen</text>'])


def _x(x: float, scale: list[float]) -> float:
    return LEFT + (x - scale[0]) / (scale[-1] - scale[0]) * (WIDTH - LEFT - RIGHT)


def _y(y: float, scale: list[float]) -> float:
    share = min(1.04, max(-0.04, (y - scale[0]) / (scale[-1] - scale[0])))
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _short(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{round(value, 10):.4g}"
