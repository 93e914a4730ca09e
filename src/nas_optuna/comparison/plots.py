"""Comparison: PNG plots, for which matplotlib is needed, the extra ``benchmark``."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from nas_optuna.comparison.contrasts import NETWORKS, Comparison
from nas_optuna.comparison.lines import draw_line
from nas_optuna.comparison.text import best_so_far, heading

PROGRESS, SCORES = "progress.png", "scores.png"
PANEL = (5.6, 4.0)  # inches
DPI = 120


def can_plot() -> bool:
    """Whether matplotlib is there."""
    return importlib.util.find_spec("matplotlib") is not None


def save_plots(comparison: Comparison, folder: Path) -> list[Path]:
    """Write the best so far over networks and seconds, and what each seed reached.

    Returns:
        The files.
    """
    return [_save_progress(comparison, folder / PROGRESS), _save_scores(comparison, folder / SCORES)]


def _save_progress(comparison: Comparison, path: Path) -> Path:
    figure, panels = _panels(len(comparison.budget))
    for panel, over in zip(panels, comparison.budget, strict=True):
        for index, group in enumerate(comparison.groups):
            line = draw_line(comparison, group, over)
            panel.step(line.places, line.means, where="post", label=group.label, color=f"C{index}")
            panel.fill_between(line.places, line.lows, line.highs, step="post", color=f"C{index}", alpha=0.2)
        if over == NETWORKS:
            panel.xaxis.get_major_locator().set_params(integer=True)
        panel.axvline(comparison.budget[over], color="grey", linewidth=0.8, linestyle=":")
        name = "networks trained" if over == NETWORKS else "seconds of search"
        panel.set(xlabel=name, ylabel=best_so_far(comparison))
    return _finish(figure, panels[0], path)


def _save_scores(comparison: Comparison, path: Path) -> Path:
    measures = comparison.measures
    figure, panels = _panels(len(measures))
    for panel, measure in zip(panels, measures, strict=True):
        for index, group in enumerate(comparison.groups):
            values = list(comparison.scores(group, measure).values())
            panel.plot([index] * len(values), values, "o", alpha=0.6, color=f"C{index}", label=group.label)
            panel.plot([index - 0.2, index + 0.2], [sum(values) / len(values)] * 2, color=f"C{index}")
        panel.set_xticks(range(len(comparison.groups)), [group.label for group in comparison.groups])
        panel.set(ylabel=heading(comparison, measure), xlim=(-0.5, len(comparison.groups) - 0.5))
    return _finish(figure, None, path)


def _panels(count: int) -> tuple[Any, list[Any]]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, count, figsize=(PANEL[0] * count, PANEL[1]), squeeze=False)
    for panel in panels[0]:
        panel.grid(alpha=0.3)
    return figure, list(panels[0])


def _finish(figure: Any, named: Any | None, path: Path) -> Path:
    """Add the legend of a panel, and write the file."""
    from matplotlib import pyplot

    bottom = 0.0
    if named is not None:
        lines, labels = named.get_legend_handles_labels()
        figure.legend(lines, labels, loc="lower center", ncol=min(4, len(labels)), frameon=False)
        bottom = 0.06 * (1 + (len(labels) - 1) // 4)
    figure.tight_layout(rect=(0, bottom, 1, 1))
    figure.savefig(path, dpi=DPI)
    pyplot.close(figure)
    return path
