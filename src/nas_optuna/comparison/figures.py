"""Comparison: the figures of the page."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from nas_optuna.comparison.contrasts import NETWORKS, Comparison
from nas_optuna.comparison.groups import Group
from nas_optuna.comparison.lines import draw_line
from nas_optuna.comparison.text import best_so_far, heading
from nas_optuna.report.style import CYCLE, GREY, make_figure, plain, short

ALPHA = 0.18  # of the band between the lowest and the highest seed


def draw_progress(comparison: Comparison, over: str) -> go.Figure:
    """The best so far of each group over networks or seconds: mean, and the lowest and highest seed."""
    traces: list[go.Scatter] = []
    for index, group in enumerate(comparison.groups):
        traces += _steps(comparison, group, over, CYCLE[index % len(CYCLE)])
    name = "networks trained" if over == NETWORKS else "seconds of search"
    figure = make_figure(traces, x=name, y=best_so_far(comparison))
    figure.add_vline(x=comparison.budget[over], line={"color": GREY, "dash": "dot", "width": 1.5})
    return figure


def draw_scores(comparison: Comparison, measure: str) -> go.Figure:
    """What each seed of each group reached, and the means."""
    traces = []
    for index, group in enumerate(comparison.groups):
        scores = comparison.scores(group, measure)
        colour, name = CYCLE[index % len(CYCLE)], plain(group.label)
        traces.append(
            go.Scatter(
                x=[name] * len(scores),
                y=short(list(scores.values())),
                mode="markers",
                name=name,
                text=[f"seed {seed}" for seed in scores],
                hovertemplate="%{text}: %{y}<extra></extra>",
                marker={"color": colour, "size": 9, "opacity": 0.7},
            )
        )
        traces.append(
            go.Scatter(
                x=[name],
                y=short([sum(scores.values()) / len(scores)]),
                mode="markers",
                name=f"{name}, mean",
                showlegend=False,
                hovertemplate="mean %{y}<extra></extra>",
                marker={"color": colour, "size": 34, "symbol": "line-ew-open", "line": {"width": 3}},
            )
        )
    return make_figure(traces, y=heading(comparison, measure), showlegend=False)


def _steps(comparison: Comparison, group: Group, over: str, colour: str) -> Sequence[go.Scatter]:
    line = draw_line(comparison, group, over)
    places, name = short(line.places), plain(group.label)
    drawn = go.Scatter(
        x=places,
        y=short(line.means),
        mode="lines",
        name=name,
        line={"color": colour, "width": 2.5, "shape": "hv"},
    )
    if len(group.runs) == 1:
        return [drawn]
    edge = {"width": 0, "shape": "hv"}
    band = [
        go.Scatter(x=places, y=short(values), mode="lines", line=edge, showlegend=False, hoverinfo="skip")
        for values in (line.lows, line.highs)
    ]
    band[1].update(fill="tonexty", fillcolor=_pale(colour))
    return [*band, drawn]


def _pale(colour: str) -> str:
    red, green, blue = (int(colour[index : index + 2], 16) for index in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {ALPHA})"
