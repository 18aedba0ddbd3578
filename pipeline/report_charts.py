"""Charts of a report as inline SVG: axes, units and counts, drawn by hand; colours come from the page's style sheet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WIDTH: Final = 360  # of a chart's own units; about a pixel each on a phone
_LEFT, _RIGHT, _BOTTOM, _TOP = 40, 10, 34, 22
BINS: Final = 24


@dataclass(frozen=True)
class Line:
    """One line of a chart: points [n] over [n], and its name; `style` is a class of the style sheet."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: str


def bins_of(values: Floats, limits: Sequence[float]) -> tuple[list[float], list[int]]:
    """Return the edges [n + 1] and the counts [n] of a histogram; the first limit inside is an edge, so that no bar
    stands on both of its sides.

    Args:
        values: Finite numbers, at least one.
        limits: Where bars should part.
    """
    low, high = float(values.min()), float(values.max())
    if high == low:
        return [low - 0.5, low + 0.5], [len(values)]
    width = (high - low) / BINS
    inside = [limit for limit in limits if low < limit <= high]
    start = inside[0] - math.ceil((inside[0] - low) / width - 1e-9) * width if inside else low
    count = math.floor((high - start) / width + 1e-9) + 1 if inside else BINS
    place = np.floor((values - start) / width + 1e-9).astype(int).clip(0, count - 1)
    edges = [start + step * width for step in range(count + 1)]
    return edges, np.bincount(place, minlength=count).tolist()


def histogram(score: dict[str, Any]) -> Markup:
    """Draw a score's histogram with its limits: bars beyond one are in the colour of what is dropped.

    `score` is a line of a report's `scores`: name, count, edges, counts, limits (side and value each).
    """
    edges: list[float] = score["edges"]
    counts: list[int] = score["counts"]
    height = 164
    marks: list[float] = [limit["value"] for limit in score["limits"]]
    low, high = min([edges[0], *marks]), max([edges[-1], *marks])
    most, floor = max(counts), height - _BOTTOM

    def x(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def y(count: float) -> float:
        return floor - count / most * (floor - _TOP)

    parts = [_axis_y([0, most], y, [f"{0}", f"{most:,}"]), _axis_x(_ticks(low, high, 5), x, floor)]
    for number, count in enumerate(counts):
        if count:
            left, right = x(edges[number]), x(edges[number + 1])
            middle = (edges[number] + edges[number + 1]) / 2
            style = "bar beyond" if _is_beyond(middle, score["limits"]) else "bar"
            told = f"{said(edges[number])} to {said(edges[number + 1])}: {count:,}"
            parts.append(
                f'<rect class="{style}" x="{left + 0.5:.1f}" y="{y(count):.1f}" width="{max(right - left - 1, 1):.1f}" '
                f'height="{floor - y(count):.1f}"><title>{told}</title></rect>'
            )
    for limit in score["limits"]:
        at, side = x(limit["value"]), "≥" if limit["side"] == "min" else "≤"
        anchor = "start" if at < WIDTH / 2 else "end"
        parts.append(f'<line class="limit" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP - 6}" y2="{floor}"/>')
        shift = 4 if anchor == "start" else -4
        parts.append(
            f'<text class="limit-text" x="{at + shift:.1f}" y="{_TOP - 8}" text-anchor="{anchor}">'
            f"keep {side} {said(limit['value'])}</text>"
        )
    parts.append(_title_y("pairs"))
    about = f"{score['name']}: {score['count']:,} pairs from {said(score['min'])} to {said(score['max'])}"
    return _svg(parts, height, about)


def _is_beyond(value: float, limits: Sequence[dict[str, Any]]) -> bool:
    return any(value < each["value"] if each["side"] == "min" else value > each["value"] for each in limits)


def curves(lines: Sequence[Line], unit: str, x_unit: str = "steps") -> Markup:
    """Draw lines over one pair of axes; points that are no finite number are left out."""
    height = 200
    shown = [(line, *_finite(line)) for line in lines]
    every_x, every_y = (np.concatenate([each[place] for each in shown]) for place in (1, 2))
    if not len(every_x):
        return Markup("")
    (left, right), (low, high) = ((float(each.min()), float(each.max())) for each in (every_x, every_y))
    if high == low:
        low, high = low - 0.5, high + 0.5
    if right == left:
        right = left + 1
    floor = height - _BOTTOM
    ticks_y = _ticks(low, high, 5)
    low, high = min(low, ticks_y[0]), max(high, ticks_y[-1])

    def x(value: float) -> float:
        return _LEFT + (value - left) / (right - left) * (WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return floor - (value - low) / (high - low) * (floor - _TOP)

    parts = [_axis_y(ticks_y, y, [said(tick) for tick in ticks_y]), _axis_x(_ticks(left, right, 5), x, floor)]
    for line, xs, ys in shown:
        if len(xs) == 1:
            parts.append(f'<circle class="dot {line.style}" cx="{x(xs[0]):.1f}" cy="{y(ys[0]):.1f}" r="2.5"/>')
        points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(xs, ys, strict=True))
        parts.append(
            f'<polyline class="line {line.style}" points="{points}"><title>{escape(line.name)}</title></polyline>'
        )
    parts += [
        _title_y(unit),
        f'<text class="unit" x="{WIDTH - _RIGHT}" y="{height - 3}" text-anchor="end">{x_unit}</text>',
    ]
    about = f"{unit} over {x_unit}: " + ", ".join(line.name for line in lines)
    return _svg(parts, height, about)


def strip(value: float | None, low: float, high: float, limits: Sequence[dict[str, Any]]) -> Markup:
    """Draw where one number stands between the least and the greatest of its kind, with the limits as ticks."""
    wide, tall = 120, 14
    if value is None or not high > low:
        return Markup("")

    def x(number: float) -> float:
        return 5 + (min(max(number, low), high) - low) / (high - low) * (wide - 10)

    parts = [f'<line class="track" x1="5" x2="{wide - 5}" y1="{tall / 2}" y2="{tall / 2}"/>']
    parts += [
        f'<line class="limit" x1="{x(each["value"]):.1f}" x2="{x(each["value"]):.1f}" y1="1" y2="{tall - 1}"/>'
        for each in limits
    ]
    style = "beyond" if _is_beyond(value, limits) else ""
    parts.append(f'<circle class="mark {style}" cx="{x(value):.1f}" cy="{tall / 2}" r="4"/>')
    inner = "".join(parts)
    return Markup(f'<svg class="strip" viewBox="0 0 {wide} {tall}" aria-hidden="true">{inner}</svg>')


def said(value: float) -> str:
    """Return a number as an axis says it: four digits that count at most, no power of ten where there need be none."""
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e6:
        digits = max(0, 3 - math.floor(math.log10(abs(value)))) if abs(value) < 1000 else 0
        text = f"{value:,.{min(digits, 6)}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.2g}"


def _ticks(low: float, high: float, wanted: int) -> list[float]:
    """Return round numbers within, or at least two that enclose: 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / wanted
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough - 1e-12)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _finite(line: Line) -> tuple[Floats, Floats]:
    xs, ys = np.asarray(line.x, float), np.asarray(line.y, float)
    good = np.isfinite(xs) & np.isfinite(ys)
    return xs[good], ys[good]


def _axis_x(ticks: Sequence[float], x: Any, floor: float) -> str:
    parts = [f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{floor}" y2="{floor}"/>']
    for tick in ticks:
        parts.append(f'<line class="axis" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{floor}" y2="{floor + 4}"/>')
        anchor = "end" if x(tick) > WIDTH - _RIGHT - 8 else "middle"  # what would stand over the edge is cut off
        at = x(tick) + (6 if anchor == "end" else 0)
        parts.append(f'<text x="{at:.1f}" y="{floor + 16}" text-anchor="{anchor}">{said(tick)}</text>')
    return "".join(parts)


def _axis_y(ticks: Sequence[float], y: Any, names: Sequence[str]) -> str:
    parts = []
    for tick, name in zip(ticks, names, strict=True):
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{y(tick) + 4:.1f}" text-anchor="end">{name}</text>')
    return "".join(parts)


def _title_y(unit: str) -> str:
    return f'<text class="unit" x="2" y="9">{escape(unit)}</text>'


def _svg(parts: Sequence[str], height: int, about: str) -> Markup:
    """Join parts that are made here of numbers and of escaped names."""
    inner = "".join(parts)
    head = f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(about)}">'
    return Markup(f"{head}{inner}</svg>")
