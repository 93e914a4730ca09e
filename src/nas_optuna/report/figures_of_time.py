"""Report: figures of how a search went on, against chance, and where its time went."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from nas_optuna.report.facts import Facts
from nas_optuna.report.statistics import Step, chance, progress
from nas_optuna.report.style import BLUE, CYCLE, GREY, OF_GROUPS, ORANGE, make_figure, short

MINUTES, HOURS = 300.0, 3 * 3600.0  # seconds from which on a search is told in minutes, in hours
MANY, CUT_OFF = 100, 0.05  # from so many networks on, the lowest part is not in view
SMALLEST_NAMED = 0.05  # part of a bar that has room for its name


def draw_seconds(facts: Facts) -> go.Figure | None:
    """Accuracy over the time of the search: each network when it was done, and the best so far."""
    steps = progress(facts)
    unit, name = _unit(max((step.seconds for step in steps), default=0.0))
    return _draw_progress(steps, [step.seconds / unit for step in steps], f"{name} of search", [])


def draw_evaluations(facts: Facts) -> go.Figure | None:
    """Accuracy over the number of networks trained, beside what as many random ones would have had."""
    steps = progress(facts)
    lucky = chance(facts)
    traces = []
    if lucky:
        traces.append(
            go.Scatter(
                x=list(range(1, len(lucky) + 1)),
                y=short(lucky),
                mode="lines",
                name="the best of as many random networks",
                line={"color": GREY, "dash": "dash", "width": 2},
            )
        )
    return _draw_progress(steps, [step.evaluations for step in steps], "networks trained", traces)


def _draw_progress(
    steps: list[Step], places: list[float] | list[int], x: str, others: list[go.Scatter]
) -> go.Figure | None:
    if all(step.accuracy is None for step in steps):
        return None
    known = [(place, step) for place, step in zip(places, steps, strict=True) if step.accuracy is not None]
    rises = [(place, step) for place, step in known if step.best == step.accuracy]
    rises = [
        rise for index, rise in enumerate(rises) if index == 0 or rise[1].best != rises[index - 1][1].best
    ]
    line_x = [*[place for place, _ in rises], places[-1]]
    line_y = [step.best or 0.0 for _, step in rises]
    traces = [
        go.Scatter(
            x=short([place for place, _ in known]),
            y=short([step.accuracy or 0.0 for _, step in known]),
            mode="markers",
            name="a network",
            marker={"color": BLUE, "size": 6, "opacity": 0.7},
            text=[f"trial {step.number}" for _, step in known],
            hovertemplate="%{text}: %{y:.4f}<extra></extra>",
        ),
        *others,
        go.Scatter(
            x=short(line_x),
            y=short([*line_y, line_y[-1]]),
            mode="lines",
            name="the best so far",
            line={"color": ORANGE, "shape": "hv", "width": 2.5},
        ),
    ]
    figure = make_figure(traces, x=x, y="accuracy")
    figure.update_xaxes(rangemode="tozero")
    if len(known) > MANY:
        accuracies = [step.accuracy or 0.0 for _, step in known]
        lowest, highest = np.quantile(accuracies, [CUT_OFF, 1.0]).tolist()
        room = 0.06 * (highest - lowest) or 0.01
        figure.update_yaxes(range=short([lowest - room, highest + room]))
    return figure


def draw_where_time_went(facts: Facts) -> go.Figure | None:
    """Three bars of all the time: parts of the search, what came of the trials, parts of a trial."""
    final = facts.seconds - facts.search_seconds
    outcomes = {
        group: sum(row.seconds or 0.0 for row in facts.rows if row.group == group) for group in OF_GROUPS
    }
    bars: dict[str, Mapping[str, float]] = {
        "parts of a trial": dict(sorted(facts.spans.items(), key=lambda item: -item[1])),
        "outcome of trials": outcomes,
        "all of it": {"search": facts.search_seconds, "comparison and final training": final},
    }
    traces = []
    for bar, seconds in bars.items():
        everything = sum(max(0.0, value) for value in seconds.values())
        for index, (name, value) in enumerate(seconds.items()):
            if value > 0:
                colour = OF_GROUPS.get(name, CYCLE[index % len(CYCLE)])
                traces.append(_piece(bar, name, value, value / everything, colour))
    if not traces:
        return None
    figure = make_figure(traces, height=300, barmode="stack", showlegend=False, bargap=0.35)
    figure.update_layout(margin={"r": 28})
    # names that fit into none of a narrow screen's pieces are told when these are pointed at
    figure.update_layout(uniformtext={"minsize": 10, "mode": "hide"})
    figure.update_xaxes(tickformat=".0%", range=[0, 1.001], dtick=0.25)
    figure.update_yaxes(showgrid=False)
    return figure


def _piece(bar: str, name: str, seconds: float, share: float, colour: str) -> go.Bar:
    return go.Bar(
        x=[round(share, 5)],
        y=[bar],
        orientation="h",
        name=name,
        marker={"color": colour},
        text=[f"{name} {share:.0%}" if share >= SMALLEST_NAMED else ""],
        textposition="inside",
        textangle=0,
        insidetextanchor="middle",
        insidetextfont={"color": "#ffffff"},
        constraintext="inside",
        hovertemplate=f"{name}: {seconds:,.1f} s, {share:.1%}<extra></extra>",
    )


def _unit(seconds: float) -> tuple[float, str]:
    if seconds >= HOURS:
        return 3600.0, "hours"
    return (60.0, "minutes") if seconds >= MINUTES else (1.0, "seconds")
