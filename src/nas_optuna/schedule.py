"""The time of a search: how much of it is spent, and whether another network is worth beginning."""

from __future__ import annotations

import math
import time

from optuna.trial import FrozenTrial, TrialState

from nas_optuna.study import is_counted, is_feasible

# another network is not begun in less than these parts of the time that the fastest so far took and of what
# is planned for a typical one: the winner is trained longer instead
HOPELESS, UNLIKELY = 0.5, 0.75


class Schedule:
    """Says when a search may begin another network, and when its part of the time is over.

    Args:
        timeout: Seconds for search, comparison and final training; None for no limit.
        share: The search's part of it.
        trial_seconds: What the plan takes for a typical training; None where nothing was timed.
        started: When this run began, as ``time.monotonic`` counts.
        earlier: Seconds that earlier runs of the study took.
        earlier_search: Those of them that went into its search.
        has_found: Whether the study has a winner already.
    """

    def __init__(
        self,
        *,
        timeout: float | None,
        share: float,
        trial_seconds: float | None,
        started: float,
        earlier: float,
        earlier_search: float,
        has_found: bool,
    ) -> None:
        self._timeout = timeout
        self._share = share
        self._trial_seconds = trial_seconds or 0.0
        self._started = started
        self._earlier = earlier
        self._earlier_search = earlier_search
        self._has_found = has_found
        self._shortest = math.inf  # seconds of a network trained to its end, the fastest so far

    def take_in(self, trial: FrozenTrial) -> None:
        """Learn from a trial that ended how long a training takes, and whether there is a winner.

        Args:
            trial: Of this run or an earlier one.
        """
        if trial.state != TrialState.COMPLETE or not is_feasible(trial):
            return
        self._has_found = True
        if is_counted(trial) and trial.duration:
            self._shortest = min(self._shortest, trial.duration.total_seconds())

    def seconds(self) -> float:
        """Time that the study took so far, over all its runs."""
        return self._earlier + time.monotonic() - self._started

    def search_seconds(self) -> float:
        """Time that went into trials, and into preparing them: a final training takes nothing from it."""
        return self._earlier_search + time.monotonic() - self._started

    def is_time_over(self) -> bool:
        """Whether the search's part of the time is used up."""
        return self._timeout is not None and self.search_seconds() >= self._timeout * self._share

    def is_over(self) -> bool:
        """Whether the search ends here: with its time; where it has found nothing by then, with all time."""
        return self.is_time_over() and self._is_enough()

    def is_too_late(self) -> bool:
        """Whether what is left of the search's time is too short to train another network to its end."""
        if self._timeout is None or self._shortest == math.inf:
            return False
        left = self._timeout * self._share - self.search_seconds()
        return left < max(HOPELESS * self._shortest, UNLIKELY * self._trial_seconds)

    def _is_enough(self) -> bool:
        """Whether there is a winner, or no time at all: until then the search may use the rest of it."""
        return self._has_found or (self._timeout is not None and self.search_seconds() >= self._timeout)
