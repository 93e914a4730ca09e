"""Figures of a study as optuna-dashboard keeps and shows them: on its own ground, light or dark."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import optuna
import plotly.graph_objects as go
from optuna_dashboard import save_plotly_graph_object

from nas_optuna.report.facts import Facts
from nas_optuna.report.figures import figures

INK, GRID, CLEAR = "#7f8894", "rgba(127, 136, 148, 0.25)", "rgba(0, 0, 0, 0)"


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
        digests[name] = hashlib.sha256(str(figure.to_json()).encode()).hexdigest()
        if digests[name] != saved.get(name):
            save_plotly_graph_object(study, on_any_ground(figure), graph_object_id=name)
    return digests


def on_any_ground(figure: go.Figure) -> go.Figure:
    """Make a figure legible in the dashboard's light and dark mode: it does not tell a figure which."""
    # a template is thousands of characters in the study, and its colours are for light grounds
    figure.update_layout(
        template=None,
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
        font={"color": INK},
        legend={"bgcolor": CLEAR},
    )
    lines = {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": INK}
    figure.update_xaxes(**lines)
    figure.update_yaxes(**lines)
    return figure
