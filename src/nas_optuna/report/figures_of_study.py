"""Report: the figures of a study."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import plotly.graph_objects as go

from nas_optuna.report.facts import Facts, Row
from nas_optuna.report.figures_of_decisions import draw_importance, draw_kinds
from nas_optuna.report.figures_of_time import draw_evaluations, draw_seconds, draw_where_time_went
from nas_optuna.report.style import FRONT, OF_GROUPS, WINNER, make_figure, plain, short
from nas_optuna.report.words import COSTS

MOST_CURVES = 60  # of stopped networks that are drawn
BEST_CURVES = 5
FEW_EPOCHS = 12
NAMED = 200  # networks that are told in full when pointed at


def figures(facts: Facts) -> dict[str, go.Figure]:
    """Every figure that the study has enough for, by an id that stays the same.

    ``front`` (also ``front-params`` and so on, for each cost that was asked for or limited), ``seconds``,
    ``evaluations``, ``curves``, ``importance``, ``kinds``, ``time``.
    """
    drawn: dict[str, go.Figure | None] = {}
    for index, cost in enumerate(shown_costs(facts)):
        drawn["front" if index == 0 else f"front-{cost}"] = draw_front(facts, cost)
    makers: dict[str, Callable[[Facts], go.Figure | None]] = {
        "seconds": draw_seconds,
        "evaluations": draw_evaluations,
        "curves": draw_curves,
        "importance": draw_importance,
        "kinds": draw_kinds,
        "time": draw_where_time_went,
    }
    drawn |= {name: make(facts) for name, make in makers.items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def shown_costs(facts: Facts) -> list[str]:
    """The costs that accuracy is drawn against: what was asked for, then what was limited, else MACs."""
    asked = [name for name in (*facts.objectives.names, *facts.objectives.limits) if name in COSTS]
    return list(dict.fromkeys(asked)) or ["macs"]


def draw_front(facts: Facts, cost: str) -> go.Figure | None:
    """Accuracy against a cost: each network by what came of it, the front as a line, the winner as a star."""
    front = set(facts.ranking) if facts.has_front else set()
    rest = [row for row in facts.rows if row.number not in front]
    traces = []
    for group, (name, symbol, opacity) in _MARKS.items():
        rows = [row for row in rest if row.group == group and cost in row.costs]
        if group == "infeasible":
            heights = [_floor(facts)] * len(rows)
        else:
            rows = [row for row in rows if _height(row) is not None]
            heights = [_height(row) or 0.0 for row in rows]
        if rows:
            traces.append(_points(facts, rows, heights, cost, name, OF_GROUPS[group], symbol, opacity))
    leading = [row for row in map(facts.rows.__getitem__, front) if cost in row.costs]
    if leading:
        leading.sort(key=lambda row: row.costs[cost])
        heights = [row.accuracy or 0.0 for row in leading]
        traces.append(_points(facts, leading, heights, cost, "Pareto front", FRONT, "circle", 1.0))
        if facts.objectives.names == ("accuracy", cost):
            traces[-1].update(mode="lines+markers", line={"color": FRONT, "shape": "hv", "width": 1.5})
    winner = facts.winner
    if winner is not None and cost in winner.costs:
        heights = [winner.accuracy or 0.0]
        traces.append(_points(facts, [winner], heights, cost, "winner", WINNER, "star", 1.0))
        traces[-1].marker.update(size=15, line={"width": 1, "color": "#7a5c00"})
    if not traces:
        return None
    figure = make_figure(traces, x=COSTS[cost], y="accuracy")
    figure.update_xaxes(type="log", dtick="D2", exponentformat="SI")
    limit = facts.objectives.limits.get(cost)
    if limit is not None:
        figure.add_vline(x=limit, line={"color": OF_GROUPS["infeasible"], "dash": "dot", "width": 1.5})
        figure.add_annotation(
            x=limit, y=1, yref="paper", text="limit", showarrow=False, xanchor="right", yanchor="top"
        )
        # an annotation stands where the logarithm is
        figure.layout.annotations[-1].x = math.log10(limit)
    return figure


# by group: name in the legend, symbol, opacity; in the order in which they are drawn
_MARKS = {
    "infeasible": ("infeasible, so not judged", "x-thin-open", 0.9),
    "pruned": ("pruned, when it was stopped", "triangle-down-open", 0.7),
    "reused": ("equal to an earlier one", "circle-open", 0.7),
    "complete": ("trained to the end", "circle", 0.75),
}


def _height(row: Row) -> float | None:
    """Where a network stands on the axis of accuracies; None for nowhere."""
    if row.accuracy is not None:
        return row.accuracy
    return row.curve[row.stopped_at] if row.stopped_at is not None else None


def _floor(facts: Facts) -> float:
    """Where those stand that were not judged: below all that were."""
    heights = [height for row in facts.rows if (height := _height(row)) is not None]
    lowest, highest = min(heights, default=0.0), max(heights, default=1.0)
    return lowest - 0.04 * (highest - lowest or 1.0)


def _points(
    facts: Facts,
    rows: Sequence[Row],
    heights: Sequence[float],
    cost: str,
    name: str,
    colour: str,
    symbol: str,
    opacity: float,
) -> go.Scatter:
    told = set(facts.ranking[:NAMED])
    return go.Scatter(
        x=short([row.costs[cost] for row in rows]),
        y=short(heights),
        mode="markers",
        name=name,
        text=[_tell(row, in_full=row.number in told) for row in rows],
        hovertemplate="%{text}<extra></extra>",
        marker={
            "color": colour,
            "symbol": symbol,
            "size": 8,
            "opacity": opacity,
            "line": {"width": 1.5, "color": colour},
        },
    )


def _tell(row: Row, *, in_full: bool) -> str:
    """A network when it is pointed at."""
    words = [f"trial {row.number}"]
    if row.accuracy is not None:
        words.append(f"accuracy {row.accuracy:.4f}")
    elif row.stopped_at is not None:
        words.append(f"{row.curve[row.stopped_at]:.4f} at epoch {row.stopped_at}")
    if row.why:
        words.append(plain(row.why[:80]))
    if in_full:
        costs = [f"{value:,.4g} {COSTS[name]}" for name, value in row.costs.items() if name in COSTS]
        words += [", ".join(costs[:2]), plain(row.network[:90])]
    return "<br>".join(words)


def draw_curves(facts: Facts) -> go.Figure | None:
    """Validation accuracy by epoch: the best networks, and what was stopped on the way."""
    stopped = [row for row in facts.rows if row.group == "pruned" and len(row.curve) > 0]
    step = -(-len(stopped) // MOST_CURVES) or 1
    best = [facts.rows[number] for number in facts.ranking if len(facts.rows[number].curve) > 1]
    others = [row for row in facts.judged if len(row.curve) > 1 and row not in best[:BEST_CURVES]]
    if not best and not any(len(row.curve) > 1 for row in stopped):
        return None
    some = others[:: -(-len(others) // MOST_CURVES) or 1]
    traces = [
        _bundle(rows, name, OF_GROUPS[group])
        for name, group, rows in (("pruned", "pruned", stopped[::step]), ("other networks", "reused", some))
        if rows
    ]
    for row in reversed(best[:BEST_CURVES]):
        is_winner = facts.winner is not None and row.number == facts.winner.number
        traces.append(
            go.Scatter(
                x=list(row.curve),
                y=short(list(row.curve.values())),
                mode="lines",
                name=f"trial {row.number}" + (" (winner)" if is_winner else ""),
                line={"width": 3 if is_winner else 1.8} | ({"color": WINNER} if is_winner else {}),
            )
        )
    figure = make_figure(traces, x="epoch", y="validation accuracy")
    if max(max(row.curve) for row in [*best, *stopped]) <= FEW_EPOCHS:
        figure.update_xaxes(dtick=1)  # there is no half of an epoch
    return figure


def _bundle(rows: Sequence[Row], name: str, colour: str) -> go.Scatter:
    """Many curves as one line with gaps; where each ends there is a mark."""
    x: list[int | None] = []
    y: list[float | None] = []
    sizes: list[int] = []
    for row in rows:
        x += [*row.curve, None]
        y += [*short(list(row.curve.values())), None]
        sizes += [*[0] * (len(row.curve) - 1), 5, 0]
    return go.Scatter(
        x=x,
        y=y,
        mode="lines+markers",
        name=name,
        line={"color": colour, "width": 1},
        marker={"size": sizes, "color": colour, "opacity": 1, "line": {"width": 0}},
        opacity=0.45,
        hoverinfo="skip",
    )
