"""Report: how figures look, on a light ground and on a dark one."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

# between black and white, so that a figure can be read on either: pages that know their ground set their own
TEXT, GRID = "#7d8794", "rgba(128, 138, 150, 0.25)"
FONT = 'system-ui, "Segoe UI", Helvetica, Arial, sans-serif'
HEIGHT, ROW_HEIGHT = 420, 26  # pixels: of a figure, and of a bar among many

BLUE, ORANGE, GREEN, PURPLE, PINK = "#4c8dd6", "#e0822f", "#2f9e8f", "#9a6dd0", "#d0587e"
GREY, PALE = "#8a93a0", "#b3bac4"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, PINK, "#c79a2b", "#4f9d4f", "#6f74d2", "#aa6a4a", "#5f9ea8", GREY)
OF_GROUPS = {
    "complete": BLUE,
    "reused": "#6fb6e8",
    "pruned": GREY,
    "infeasible": PINK,
    "failed": "#b03a2e",
    "unfinished": PALE,
}
FRONT, WINNER = ORANGE, "#e5b800"

TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 13, "color": TEXT},
        "paper_bgcolor": "rgba(0, 0, 0, 0)",
        "plot_bgcolor": "rgba(0, 0, 0, 0)",
        "colorway": list(CYCLE),
        "hoverlabel": {"font": {"family": FONT}, "align": "left"},
        "margin": {"l": 64, "r": 16, "t": 12, "b": 52},
        # above, where it takes no width of a narrow screen
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        "xaxis": {"gridcolor": GRID, "zeroline": False, "automargin": True, "title": {"standoff": 8}},
        "yaxis": {"gridcolor": GRID, "zeroline": False, "automargin": True, "title": {"standoff": 8}},
    }
)


def make_figure(
    traces: Sequence[Any], *, x: str = "", y: str = "", height: int = HEIGHT, **layout: Any
) -> go.Figure:
    """A figure in this style.

    Args:
        traces: What it shows.
        x, y: Titles of the axes.
        height: In pixels; the width is that of the place it stands in.
        layout: Further settings of plotly's layout.
    """
    figure = go.Figure(traces, layout={"template": TEMPLATE, "height": height, "autosize": True})
    figure.update_xaxes(title_text=x)
    figure.update_yaxes(title_text=y)
    figure.update_layout(**layout)
    return figure


def plain(text: object) -> str:
    """A text of a study for a figure, which would take parts of it for HTML otherwise."""
    return html.escape(str(text), quote=False)


def short(values: Sequence[float]) -> list[float]:
    """Numbers with as many digits as a figure can show."""
    return [float(f"{value:.5g}") for value in values]
