"""Report: figures of what made networks good: decisions, and kinds of layers by depth."""

from __future__ import annotations

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from nas_optuna.report.facts import Facts
from nas_optuna.report.statistics import importances, kinds
from nas_optuna.report.style import (
    BLUE,
    CYCLE,
    HEIGHT,
    ROW_HEIGHT,
    TEMPLATE,
    make_figure,
    plain,
    short,
)

MOST_DECISIONS = 15


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
    titles = (f"the best {found.of_best} networks", f"all {found.of_all} networks")
    figure = make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.14, subplot_titles=titles)
    for row, (table, count) in enumerate(((found.best, found.of_best), (found.all, found.of_all)), start=1):
        for index, name in enumerate(found.names):
            bars = go.Bar(
                x=list(found.places),
                y=short([value / count for value in table[:, index]]),
                name=plain(name),
                legendgroup=name,
                showlegend=row == 1,
                marker={"color": CYCLE[index % len(CYCLE)]},
                hovertemplate=f"{plain(name)}: %{{y:.0%}}<extra></extra>",
            )
            figure.add_trace(bars, row=row, col=1)
    figure.update_layout(template=TEMPLATE, height=HEIGHT + 80, barmode="stack", bargap=0.2)
    figure.update_annotations(font={"size": 13})
    figure.update_layout(legend={"y": 1.1})
    # a depth is a place, not a number
    figure.update_xaxes(type="category", showgrid=False)
    is_cell = any("→" in place for place in found.places)
    figure.update_xaxes(title_text="edge of the cell" if is_cell else "block, from the input", row=2)
    figure.update_yaxes(tickformat=".0%", range=[0, 1.02], dtick=0.25)
    return figure
