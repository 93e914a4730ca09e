"""Performance estimation: what is asked of a network, and what it may cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna

from nas_optuna.errors import InputError, check_number, check_one_of

COSTS = ("macs", "params", "memory", "size")
MEASURES = ("accuracy", *COSTS, "latency")


class Objectives:
    """Directions of the study and limits on costs.

    Args:
        directions: ``accuracy``, ``macs``, ``params``, ``memory``, ``size`` (see ``Costs`` for their
            units) or ``latency`` (milliseconds) to ``maximize`` or ``minimize``. The first is the study's
            first value, and so on.
        limits: A cost to the most that a network may have; None for no limit. A network beyond a
            limit is not trained.
        latency: How latency is measured where a table does not know it; see ``LatencySettings``.

    Raises:
        InputError: A name or direction is unknown, accuracy is missing, or a limit is not positive.
    """

    def __init__(
        self,
        *,
        directions: Mapping[str, str],
        limits: Mapping[str, float | None] | None = None,
        latency: Mapping[str, Any] | None = None,
    ) -> None:
        for name, direction in directions.items():
            check_one_of("objective.directions", name, MEASURES)
            check_one_of(f"objective.directions.{name}", direction, ("maximize", "minimize"))
        if directions.get("accuracy") != "maximize":
            raise InputError("objective.directions must hold accuracy: maximize, which the search is about.")
        self.directions = dict(directions)
        self.limits: dict[str, float] = {}
        for name, limit in (limits or {}).items():
            check_one_of("objective.limits", name, (*COSTS, "latency"))
            if limit is not None:
                check_number(f"objective.limits.{name}", limit, above=0)
                self.limits[name] = limit
        self.latency = dict(latency or {})

    def without_limit(self, name: str) -> Objectives:
        """The same with one limit left out."""
        limits = {other: limit for other, limit in self.limits.items() if other != name}
        return Objectives(directions=self.directions, limits=limits, latency=self.latency)

    @property
    def names(self) -> tuple[str, ...]:
        """The measures in the order of the study's values."""
        return tuple(self.directions)

    def values(self, *, accuracy: float, measures: Mapping[str, float]) -> tuple[float, ...]:
        """The study's values of a network, from its accuracy and its other measures by name."""
        return tuple(accuracy if name == "accuracy" else float(measures[name]) for name in self.names)

    def accuracy(self, trial: optuna.trial.FrozenTrial) -> float:
        """The accuracy among a finished trial's values."""
        accuracy: float = trial.values[self.names.index("accuracy")]
        return accuracy

    def excess(self, measures: Mapping[str, float]) -> dict[str, float]:
        """By how much each limit is exceeded, as a part of it: at most 0 where the network fits.

        Limits on what was not measured are left out.
        """
        return {name: measures[name] / limit - 1 for name, limit in self.limits.items() if name in measures}

    def fits(self, measures: Mapping[str, float]) -> bool:
        """Whether a network keeps to all limits, as far as is known."""
        return all(excess <= 0 for excess in self.excess(measures).values())
