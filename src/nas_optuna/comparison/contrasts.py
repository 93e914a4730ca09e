"""Comparison: groups of searches measured against one of them, with the same budget."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas_optuna.comparison.difference import Difference, adjust, compare_seeds
from nas_optuna.comparison.groups import Group
from nas_optuna.comparison.run import Run
from nas_optuna.comparison.yardstick import Yardstick, mean_first_reached

NETWORKS, SECONDS, TESTED = "networks", "seconds", "tested"  # measures


@dataclass(frozen=True)
class Reached:
    """When two groups had the second one's final score.

    Attributes:
        over: ``networks`` or ``seconds``.
        goal: The mean of the second group's scores at the end of the common budget.
        first, second: Where the means had it; None where the first never did.
    """

    over: str
    goal: float
    first: float | None
    second: float

    @property
    def ratio(self) -> float | None:
        """How many times as soon the first was there."""
        return self.second / self.first if self.first else None


@dataclass(frozen=True)
class Contrast:
    """A group against the yardstick's group.

    Attributes:
        first: The group.
        second: What it is held against.
        differences: By measure; None where a group has one seed. Measures that some search lacks are not
            there.
        reached: When the first had the second's final score, and the other way round, over networks and,
            where they mean something, over seconds.
    """

    first: Group
    second: Group
    differences: Mapping[str, Difference | None]
    reached: Sequence[Reached]
    reversed: Sequence[Reached]


class Comparison:
    """All that is said of some groups.

    Args:
        groups: Two or more; the first that searches at random, or else the first, is what the others are
            held against.

    Attributes:
        groups: As they were given.
        yardstick: What a search is measured by before its test.
        budget: The common one: the least that any search has, by ``networks`` and ``seconds``. Seconds are
            left out where networks were looked up.
        contrasts: One for each group but that which the others are held against.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = list(groups)
        self.runs = [run for group in groups for run in group.runs.values()]
        self.yardstick = Yardstick(self.runs)
        self.budget: dict[str, float] = {NETWORKS: min(run.networks for run in self.runs)}
        if not any(run.is_looked_up for run in self.runs):
            self.budget[SECONDS] = min(run.seconds for run in self.runs)
        self.base = next((group for group in groups if group.is_random), groups[0])
        self.measures = [*self.budget, *([TESTED] if self.is_tested else [])]
        self.contrasts = self._contrasts()

    def scores(self, group: Group, measure: str) -> dict[int, float]:
        """What the searches of a group reached, by seed."""
        if measure == TESTED:
            return {seed: run.tested for seed, run in group.runs.items() if run.tested is not None}
        return {seed: self._score(run, measure) for seed, run in group.runs.items()}

    def _score(self, run: Run, over: str) -> float:
        progress = self.yardstick.progress(run)
        after = progress.after_networks if over == NETWORKS else progress.after_seconds
        return after(self.budget[over])

    @property
    def is_tested(self) -> bool:
        """Whether every search has tested its winner."""
        return all(run.tested is not None for run in self.runs)

    def _contrasts(self) -> list[Contrast]:
        others = [group for group in self.groups if group is not self.base]
        tested = {measure: self._test(others, measure) for measure in self.measures}
        return [
            Contrast(
                first=group,
                second=self.base,
                differences={measure: found[index] for measure, found in tested.items()},
                reached=[self._reached(group, self.base, over) for over in self.budget],
                reversed=[self._reached(self.base, group, over) for over in self.budget],
            )
            for index, group in enumerate(others)
        ]

    def _test(self, others: Sequence[Group], measure: str) -> list[Difference | None]:
        base = self.scores(self.base, measure)
        return _adjusted([compare_seeds(self.scores(group, measure), base) for group in others])

    def _reached(self, first: Group, second: Group, over: str) -> Reached:
        goal = statistics.mean(self.scores(second, over).values())
        first_at, second_at = (
            mean_first_reached(
                [self.yardstick.progress(run) for run in group.runs.values()],
                goal,
                over=over,
                until=self.budget[over],
            )
            for group in (first, second)
        )
        assert second_at is not None
        return Reached(over, goal, first_at, second_at)


def _adjusted(differences: Sequence[Difference | None]) -> list[Difference | None]:
    """Those that there are, for so many comparisons at once."""
    known = iter(adjust([difference for difference in differences if difference is not None]))
    return [None if difference is None else next(known) for difference in differences]
