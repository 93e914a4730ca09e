"""Comparison: from folders to the terminal, a page and plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import optuna

from nas_optuna.comparison.contrasts import Comparison
from nas_optuna.comparison.groups import make_groups
from nas_optuna.comparison.page import write_document
from nas_optuna.comparison.plots import can_plot, save_plots
from nas_optuna.comparison.run import read_run
from nas_optuna.comparison.text import explanations, speeds, table, verdicts
from nas_optuna.errors import InputError
from nas_optuna.files import write_file
from nas_optuna.report import write_page
from nas_optuna.results import Lines

PAGE = "compare.html"


def compare(
    folders: Sequence[Path], *, out: Path, across: Sequence[str] = (), allow: Sequence[str] = ()
) -> Comparison:
    """Compare searches; print what came of it, and write the page and the plots.

    Args:
        folders: Of the searches.
        out: Where the page and the plots are written.
        across: Groups of the configuration that may differ although accuracies depend on them: ``space``,
            ``estimation``, ``objective``.
        allow: Modules of the user's own that configurations may name; see ``recall``.

    Raises:
        InputError: A folder holds no study that can be compared, or nothing can be written.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    groups = make_groups([read_run(folder, allow=allow) for folder in folders], across=across)
    comparison = Comparison(groups)
    try:
        write_file(out / PAGE, write_page(write_document(comparison)).encode())
    except OSError as error:
        raise InputError(
            f"out: {str(out)!r} can't be written to ({error.strerror}). Give another folder, out=FOLDER."
        ) from error
    _print(comparison, out)
    return comparison


def _print(comparison: Comparison, out: Path) -> None:
    lines = Lines()
    lines.console.print(table(comparison))
    for part in (verdicts(comparison), speeds(comparison), explanations(comparison)):
        lines.say("")
        for said in part:
            lines.say(said)
    lines.say(f"\npage: {out / PAGE}")
    if can_plot():
        lines.say(f"plots: {', '.join(map(str, save_plots(comparison, out)))}")
    else:
        lines.say("no PNG plots: they need matplotlib, pip install 'nas-optuna[benchmark]'")
