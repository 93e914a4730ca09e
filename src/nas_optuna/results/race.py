"""Which of the best few networks is the best: fresh trainings go where they may still decide it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FEWEST, MOST = 2, 5  # fresh seeds for each of the best few


@dataclass(frozen=True)
class Race:
    """How often the best few are trained again.

    Fresh trainings share no luck with those that the search chose the networks by. Each network gets
    ``fewest``; after that only those get one whose mean is within noise of the leader's, the least trained
    first, until one is ahead of all others or nothing is left to spend (Maron and Moore, NeurIPS 1993).

    Attributes:
        fewest: Fresh seeds for each network.
        most: Fresh seeds for none more than these.
        trainings: Fresh trainings of all networks together.
    """

    fewest: int
    most: int
    trainings: int

    def __str__(self) -> str:
        if self.most == self.fewest:
            return f"{self.fewest} each"
        return f"{self.fewest} each, up to {self.most} where they are close"

    def next(self, fresh: Mapping[int, Sequence[float]]) -> int | None:
        """The network to train next, or None when the race is over.

        Args:
            fresh: Validation accuracies of each network's fresh trainings so far, best of the search first.
        """
        least = min(fresh, key=lambda number: len(fresh[number]))
        # before anything else: of an earlier run others may have more than all that is to be spent now
        if len(fresh[least]) < self.fewest:
            return least
        if sum(map(len, fresh.values())) >= self.trainings:
            return None
        rivals = close(fresh)
        least = min(rivals, key=lambda number: len(fresh[number]))
        return least if len(rivals) > 1 and len(fresh[least]) < self.most else None


def plan_race(
    finalists: int, *, affordable: int | None = None, trials: int | None = None, share: float = 0.0
) -> tuple[int, Race]:
    """How many networks are compared, and how often each is trained.

    Args:
        finalists: How many are wished for.
        affordable: Trainings that there is time for; None where time is no limit.
        trials: Of the whole search, where they are its limit; ``FEWEST`` trainings of each come on top.
        share: The part of these trials that a longer comparison may come to.
    """
    if affordable is None:
        affordable = finalists * MOST
        if trials is not None:
            affordable = min(affordable, max(finalists * FEWEST, int(share * trials)))
    finalists = min(finalists, affordable) if affordable > 1 else 1
    fewest = min(FEWEST, affordable // finalists)
    # where nothing is left for another look at those that are close, none is promised
    return finalists, Race(fewest, min(MOST, affordable - (finalists - 1) * fewest), affordable)


def leader(fresh: Mapping[int, Sequence[float]]) -> int:
    """The network with the highest mean; of equal ones the first.

    Args:
        fresh: At least one validation accuracy for each network.
    """
    return max(fresh, key=lambda number: statistics.mean(fresh[number]))


def close(fresh: Mapping[int, Sequence[float]]) -> list[int]:
    """The leader and those that are behind by no more than the standard error of that difference.

    The noise of one training is taken to be the same for all networks, so that their spreads count together.

    Args:
        fresh: At least one validation accuracy for each network.
    """
    freedom = sum(len(values) - 1 for values in fresh.values())
    squares = sum(statistics.variance(values) * (len(values) - 1) for values in fresh.values() if values[1:])
    noise = math.sqrt(squares / freedom) if freedom else math.inf
    first = leader(fresh)
    best = statistics.mean(fresh[first])

    def is_close(number: int) -> bool:
        error = noise * math.sqrt(1 / len(fresh[first]) + 1 / len(fresh[number]))
        return best - statistics.mean(fresh[number]) <= error

    return [number for number in fresh if number == first or is_close(number)]
