"""Keeps what optuna-dashboard shows of a study up to date while a search runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import optuna

from nas_optuna.artifacts import ARTIFACTS, Store, attach, draw_curve
from nas_optuna.estimation import Objectives
from nas_optuna.report.facts import Facts, gather
from nas_optuna.space import Space
from nas_optuna.space.diagram import draw

PICTURES = "pictures"  # user attribute of the study: ids of its artifacts by file name
NOTE_SHARE, FIGURES_SHARE = 0.0005, 0.004  # of the time, at most
NOTE_SECONDS, FIGURES_SECONDS = 0.03, 1.0  # that the first one takes, as far as can be said before


class _Turn:
    """Says when something is due that shall take no more than a share of the time.

    Args:
        share: Of the time, at most.
        guess: Seconds that it takes, until that is known.
    """

    def __init__(self, *, share: float, guess: float) -> None:
        self._share = share
        self._next = time.monotonic() + guess / share

    def is_due(self) -> bool:
        """Whether enough time has passed since the last."""
        return time.monotonic() >= self._next

    def took(self, seconds: float) -> None:
        """It was done."""
        self._next = time.monotonic() + seconds / self._share


class Fresh:
    """The study's note and figures.

    A failure is said once, and ends nothing: a search is not there for its pictures.

    Args:
        study, objectives, space: Parts of the search, or of a study that was opened again.
        folder: Where everything of the study lies.
        say: Hears what can't be done.
    """

    def __init__(
        self,
        study: optuna.Study,
        *,
        objectives: Objectives,
        space: Space,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        self._study = study
        self._objectives, self._space, self._folder = objectives, space, folder
        self._say = say
        self._has_said = False
        self._note = _Turn(share=NOTE_SHARE, guess=NOTE_SECONDS)
        self._figures = _Turn(share=FIGURES_SHARE, guess=FIGURES_SECONDS)
        self._saved: dict[str, str] = {}

    def after_trial(self) -> None:
        """Refresh what is due: together some 0.5 % of the time."""
        if self._figures.is_due():
            self._refresh(self._write_figures, self._figures)
        if self._note.is_due():
            self._refresh(self._write_note, self._note)

    def finish(self) -> None:
        """Refresh all, with pictures of the winner."""
        pictures: dict[str, str] = {}
        self._refresh(self._write_figures, self._figures)
        # the note says all the same where there is no place for pictures
        self._refresh(lambda: pictures.update(self._pictures()), self._note)
        self._refresh(lambda: self._write_note(pictures), self._note)

    def _refresh(self, write: Callable[[], None], turn: _Turn) -> None:
        started = time.monotonic()
        try:
            write()
        except Exception as error:  # whatever a full disk, a busy study or a plot makes of it
            if not self._has_said:
                reason = (str(error).splitlines() or [""])[0]
                self._say(f"the dashboard's note and figures rest ({type(error).__name__}: {reason})")
            self._has_said = True
        turn.took(time.monotonic() - started)

    def _gather(self) -> Facts:
        return gather(self._study, objectives=self._objectives, space=self._space, folder=self._folder)

    def _write_figures(self) -> None:
        from nas_optuna.dashboard.plots import save_figures  # brings plotly along

        self._saved = save_figures(self._study, self._gather(), saved=self._saved)

    def _write_note(self, pictures: Mapping[str, str] | None = None) -> None:
        from nas_optuna.dashboard.note import write_note  # brings a web server along

        write_note(self._study, self._gather(), pictures or {})

    def _pictures(self) -> dict[str, str]:
        """The winner as artifacts of the study: by what they show, their addresses in the dashboard."""
        from optuna_dashboard.artifact import get_artifact_path

        facts = self._gather()
        winner = facts.winner
        if winner is None or not facts.input_shape:
            return {}
        network = facts.architecture(winner)
        drawn = {"network": draw(network, input_shape=facts.input_shape, classes=facts.classes)}
        if winner.curve:
            title = f"trial {winner.number}: validation accuracy by epoch"
            drawn["curve"] = draw_curve(winner.curve, title=title)
        names = {what: f"trial-{winner.number}-{what}.svg" for what in drawn}
        ids = self._keep({names[what]: text for what, text in drawn.items()})
        return {what: get_artifact_path(self._study, ids[name]) for what, name in names.items()}

    def _keep(self, files: dict[str, str]) -> dict[str, str]:
        """Ids of files as the study's artifacts; those that it has already are not added again."""
        store = Store(self._folder / ARTIFACTS)
        known: dict[str, str] = self._study.user_attrs.get(PICTURES, {})
        # one that was deleted in the dashboard is made again
        missing = {
            name: text
            for name, text in files.items()
            if name not in known or not (store.folder / known[name]).is_file()
        }
        if missing:
            known = {**known, **attach(store, missing, self._study)}
            self._study.set_user_attr(PICTURES, known)
        return known
