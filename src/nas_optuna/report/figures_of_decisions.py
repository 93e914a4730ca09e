"""Report: figures of what made networks good: decisions, and kinds of layers by depth."""

from __future__ import annotations

import plotly.graph_objects as go

from nas_optuna.report.facts import Facts
from nas_optuna.report.statistics import importances, kinds
from nas_optuna.report.style import BLUE, CYCLE, ROW_HEIGHT, make_figure, plain, short

MOST_DECISIONS = 15
WHOLE, PALE = 1.0, 0.4  # opacity of the best networks, and of all


def draw_importance(facts: Facts) -> go.Figure | None:
    """How much each decision matters for an accuracy in the best tenth."""
    found = list(importances(facts).items())[:MOST_DECISIONS]
    if not found:
        return None
    bars = go.Bar(
        x=short([value for _, value in reversed(found)]),
        y=[plain(name) for name, _ in reversed(found)],
        orientation="h",
        marker={"color": BLUE},
        hovertemplate="%{y}: %{x:.1%}<extra></extra>",
    )
    figure = make_figure([bars], x="share of the importance", height=100 + ROW_HEIGHT * len(found))
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    figure.update_yaxes(showgrid=False)
    return figure


def draw_kinds(facts: Facts) -> go.Figure | None:
    """Which kinds of layers stand at which depth: in the best quarter of the networks, and in all of them."""
    found = kinds(facts)
    if found is None or not found.names:
        return None
    traces = []
    for which, table, count, opacity in (
        ("best", found.best, found.of_best, WHOLE),
        ("all", found.all, found.of_all, PALE),
    ):
        for index, name in enumerate(found.names):
            traces.append(
                go.Bar(
                    x=[list(found.places), [which] * len(found.places)],
                    y=short([value / count for value in table[:, index]]),
                    name=plain(name),
                    legendgroup=name,
                    showlegend=which == "best",
                    marker={"color": CYCLE[index % len(CYCLE)], "opacity": opacity},
                    hovertemplate=f"{plain(name)}: %{{y:.0%}} of {count} networks<extra></extra>",
                )
            )
    is_cell = any("→" in place for place in found.places)
    figure = make_figure(traces, y="share of the networks", barmode="stack", bargap=0.15)
    figure.update_xaxes(title_text="edge of the cell" if is_cell else "block, from the input")
    figure.update_yaxes(tickformat=".0%", range=[0, 1.02])
    return figure
