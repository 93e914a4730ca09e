"""A learning curve as a table and as a picture."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 560, 280
LEFT, RIGHT, TOP, BOTTOM = 62, 540, 46, 236  # edges of the plot

STYLE = """
text { font: 13px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2430; }
.ground { fill: #ffffff; } .title { font-weight: 600; }
.quiet { fill: #667080; font-size: 12px; } .right { text-anchor: end; } .middle { text-anchor: middle; }
.grid { stroke: #e6e9ee; } .curve { stroke: #2f9e8f; stroke-width: 2.5; fill: none; } .dot { fill: #2f9e8f; }
@media (prefers-color-scheme: dark) {
  text { fill: #e4e8ee; } .ground { fill: #14181f; } .quiet { fill: #9aa4b2; } .grid { stroke: #2a313c; }
}
"""


def tabulate_curve(curve: Mapping[int, float]) -> str:
    """A curve as CSV: a row for each epoch, with its validation accuracy.

    Args:
        curve: Accuracies, 0 to 1, by epoch.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("epoch", "accuracy"), *sorted(curve.items())])
    return text.getvalue()


def draw_curve(curve: Mapping[int, float], *, title: str) -> str:
    """A curve as SVG text, for light and dark grounds.

    Args:
        curve: Accuracies, 0 to 1, by epoch; values that are no number are left out.
        title: Stands above it.
    """
    points = [(epoch, value) for epoch, value in sorted(curve.items()) if math.isfinite(value)]
    body = [f'<text class="title" x="{LEFT}" y="26">{escape(title)}</text>']
    if points:
        body += [*_grid(points), _line(points)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img"><title>{escape(title)}</title><style>{STYLE}</style>'
        f'<rect class="ground" width="100%" height="100%"/>{"".join(body)}</svg>\n'
    )


def _grid(points: list[tuple[int, float]]) -> list[str]:
    """Lines at round accuracies, the first and the last epoch under them."""
    low, step, count = _scale(points)
    digits = max(0, math.ceil(-math.log10(step) - 1e-9))
    drawn = []
    for index in range(count + 1):
        y = BOTTOM - (BOTTOM - TOP) * index / count
        drawn.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        value = f"{low + index * step:.{digits}f}"
        drawn.append(f'<text class="quiet right" x="{LEFT - 8}" y="{y + 4:.1f}">{value}</text>')
    for epoch in sorted({points[0][0], points[-1][0]}):
        x = _x(epoch, points)
        drawn.append(f'<text class="quiet middle" x="{x:.1f}" y="{BOTTOM + 18}">{epoch}</text>')
    middle = (LEFT + RIGHT) / 2
    drawn.append(f'<text class="quiet middle" x="{middle}" y="{BOTTOM + 34}">epoch</text>')
    return drawn


def _line(points: list[tuple[int, float]]) -> str:
    low, step, count = _scale(points)
    places = [
        (_x(epoch, points), BOTTOM - (BOTTOM - TOP) * (value - low) / (step * count))
        for epoch, value in points
    ]
    way = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dots = "".join(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places)
    return f'<path class="curve" d="M{way}"/>{dots}'


def _x(epoch: int, points: list[tuple[int, float]]) -> float:
    first, last = points[0][0], points[-1][0]
    return (LEFT + RIGHT) / 2 if first == last else LEFT + (RIGHT - LEFT) * (epoch - first) / (last - first)


def _scale(points: list[tuple[int, float]]) -> tuple[float, float, int]:
    """Lowest line, distance of two lines, number of distances: round numbers around the curve."""
    values = [value for _, value in points]
    least, most = min(values), max(values)
    rough = max(most - least, 0.004) / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = size * next(factor for factor in (1, 2, 5, 10) if factor * size >= rough - 1e-12)
    low = step * math.floor(least / step + 1e-9)
    return low, step, max(1, math.ceil((most - low) / step - 1e-9))
