"""Figures of a study as optuna-dashboard keeps and shows them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import optuna
import plotly.graph_objects as go
from optuna_dashboard import save_plotly_graph_object

from nas_optuna.report.facts import Facts
from nas_optuna.report.figures_of_study import figures
from nas_optuna.report.style import GRID, TEXT

# the dashboard shows each in half of its width, 450 pixels high, and no name
HEIGHT, TOP = 440, 56
CLEAR = "rgba(0, 0, 0, 0)"
TITLES = {
    "front": "Accuracy and cost",
    "seconds": "Accuracy over time",
    "evaluations": "Accuracy over networks",
    "curves": "Learning curves",
    "importance": "Importance of each decision",
    "kinds": "Layers by depth",
    "time": "Where the time went",
}


def save_figures(study: optuna.Study, facts: Facts, *, saved: Mapping[str, str]) -> dict[str, str]:
    """Save the figures under their ids, in place of earlier ones.

    Args:
        study: The study.
        facts: What it found.
        saved: Digests of the figures that it has, by id: those are not written again.

    Returns:
        Digests of those that it has now.
    """
    digests = {}
    for name, figure in figures(facts).items():
        fit(name, figure)
        digests[name] = hashlib.sha256(str(figure.to_json()).encode()).hexdigest()
        if digests[name] != saved.get(name):
            save_plotly_graph_object(study, figure, graph_object_id=name)
    return digests


def fit(name: str, figure: go.Figure) -> None:
    """Give a figure a title, which takes the legend's place, and the height of its place."""
    group, _, of = name.partition("-")
    title = TITLES.get(group, group) + (f": {of}" if of else "")
    figure.update_layout(
        title={"text": title, "x": 0.02, "xanchor": "left", "font": {"size": 17}},
        height=HEIGHT,
        margin={"t": TOP},
        # on a clear ground plotly makes its own of a grey that hides the title
        modebar={"bgcolor": CLEAR, "color": GRID, "activecolor": TEXT},
        legend={"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top", "font": {"size": 11}},
    )
