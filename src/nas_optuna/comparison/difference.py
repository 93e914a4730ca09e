"""Comparison: whether two groups of searches differ by more than luck, and how many seeds would tell."""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.05  # a p-value above it is called luck
POWER = 0.8  # probability of showing a difference, that ``needed`` asks for
MOST_SEEDS = 1000  # more are not counted
MOST_EXACT = 2**16  # arrangements; where there are more, so many are drawn


@dataclass(frozen=True)
class Difference:
    """First minus second.

    Attributes:
        mean: Of the differences.
        low, high: 95 % confidence interval of the mean, if what seeds do is normally distributed.
        p: Probability of a mean at least as far from 0 where only luck is at work, by permutation.
        smallest_p: What ``p`` is at the least with so many seeds.
        better: Seeds in which the first has more; None where seeds are not the same.
        seeds: Of the first and of the second.
        needed: Seeds of each that would show such a difference in four of five cases; None where
            more than ``MOST_SEEDS``.
        comparisons: Among how many ``p`` was adjusted for.
    """

    mean: float
    low: float
    high: float
    p: float
    smallest_p: float
    better: int | None
    seeds: tuple[int, int]
    needed: int | None
    comparisons: int = 1

    @property
    def is_luck(self) -> bool:
        """Whether luck may explain it."""
        return self.p > LEVEL


def compare_seeds(first: Mapping[int, float], second: Mapping[int, float]) -> Difference | None:
    """Test two groups of values by their seeds; None where one has fewer than two, which tells nothing.

    Where the seeds are the same, values are compared seed by seed: the searches of a seed share their data,
    the seeds of their trainings and often their first networks. The test is then that of all changes of
    signs (Fisher 1935), else that of all divisions into two groups. Neither assumes a distribution.

    Args:
        first, second: A value for each seed; more is better.
    """
    if min(len(first), len(second)) < 2:
        return None
    if first.keys() == second.keys():
        return _paired([first[seed] - second[seed] for seed in first])
    return _unpaired(list(first.values()), list(second.values()))


def adjust(differences: Sequence[Difference]) -> list[Difference]:
    """The same with p-values for so many comparisons at once (Holm 1979)."""
    order = sorted(range(len(differences)), key=lambda index: differences[index].p)
    adjusted, largest = list(differences), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, differences[index].p * (len(order) - rank)))
        adjusted[index] = _among(differences[index], len(order), p=largest)
    return adjusted


def _among(difference: Difference, comparisons: int, *, p: float) -> Difference:
    is_paired = difference.better is not None
    fewest = _fewest(LEVEL / comparisons, is_paired=is_paired)
    return replace(
        difference,
        p=p,
        smallest_p=min(1.0, difference.smallest_p * comparisons),
        needed=None if difference.needed is None else max(difference.needed, fewest),
        comparisons=comparisons,
    )


def _paired(gains: Sequence[float]) -> Difference:
    count, mean = len(gains), statistics.mean(gains)
    deviation = statistics.stdev(gains)
    half = float(stats.t.ppf(0.975, count - 1)) * deviation / math.sqrt(count)
    return Difference(
        mean=mean,
        low=mean - half,
        high=mean + half,
        p=_sign_flips(np.array(gains)),
        smallest_p=2.0 ** (1 - count),
        better=sum(gain > 0 for gain in gains),
        seeds=(count, count),
        needed=_needed(mean, deviation, is_paired=True),
    )


def _unpaired(first: Sequence[float], second: Sequence[float]) -> Difference:
    counts = len(first), len(second)
    mean = statistics.mean(first) - statistics.mean(second)
    # Welch 1947: the two may scatter differently
    parts = [statistics.variance(values) / len(values) for values in (first, second)]
    spread = sum(part**2 / (count - 1) for part, count in zip(parts, counts, strict=True))
    degrees = sum(parts) ** 2 / spread if spread else sum(counts) - 2
    half = float(stats.t.ppf(0.975, degrees)) * math.sqrt(sum(parts))
    pooled = math.sqrt((statistics.variance(first) + statistics.variance(second)) / 2)
    divisions = math.comb(sum(counts), counts[0])
    return Difference(
        mean=mean,
        low=mean - half,
        high=mean + half,
        p=_divisions(np.array([*first, *second]), counts[0]),
        smallest_p=(2 if counts[0] == counts[1] else 1) / divisions,
        better=None,
        seeds=counts,
        needed=_needed(mean, pooled, is_paired=False),
    )


def _sign_flips(gains: NDArray[np.float64]) -> float:
    """Share of all changes of signs whose sum is at least as far from 0."""
    count = len(gains)
    if 2**count <= MOST_EXACT:
        flipped = np.arange(2**count)[:, None] >> np.arange(count) & 1
        return _share(np.abs((1 - 2 * flipped) @ gains), abs(gains.sum()))
    signs = np.random.default_rng(0).choice((-1.0, 1.0), size=(MOST_EXACT, count))
    return _share(np.abs(signs @ gains), abs(gains.sum()), is_drawn=True)


def _divisions(values: NDArray[np.float64], count: int) -> float:
    """Share of all divisions whose means are at least as far apart."""

    def apart(chosen: NDArray[np.intp]) -> NDArray[np.float64]:
        sums = values[chosen].sum(axis=1)
        means = sums / count - (values.sum() - sums) / (len(values) - count)
        return np.asarray(np.abs(means))

    observed = float(apart(np.arange(count)[None])[0])
    if math.comb(len(values), count) <= MOST_EXACT:
        every = np.array(list(combinations(range(len(values)), count)))
        return _share(apart(every), observed)
    random = np.random.default_rng(0)
    drawn = np.array([random.permutation(len(values))[:count] for _ in range(MOST_EXACT)])
    return _share(apart(drawn), observed, is_drawn=True)


def _share(found: NDArray[np.float64], observed: float, *, is_drawn: bool = False) -> float:
    # sums in another order differ in their last digits
    reached = int((found >= observed - 1e-12).sum())
    return (reached + 1) / (len(found) + 1) if is_drawn else reached / len(found)


def _needed(mean: float, deviation: float, *, is_paired: bool) -> int | None:
    """Seeds with which a t-test has the power; no fewer than the permutation test needs to tell at all."""
    fewest = _fewest(LEVEL, is_paired=is_paired)
    if mean == 0:
        return None
    if deviation == 0:
        return fewest
    effect = abs(mean) / deviation

    def shows(count: int) -> bool:
        degrees = count - 1 if is_paired else 2 * count - 2
        shift = effect * math.sqrt(count if is_paired else count / 2)
        critical = float(stats.t.ppf(1 - LEVEL / 2, degrees))
        # beyond that the distribution's series does not converge, and nothing is missed
        return shift > critical + 10 or float(stats.nct.sf(critical, degrees, shift)) >= POWER

    counts = range(fewest, MOST_SEEDS + 1)
    index = bisect.bisect_left(counts, True, key=shows)
    return counts[index] if index < len(counts) else None


def _fewest(level: float, *, is_paired: bool) -> int:
    """Seeds of each with which the permutation test can give a p so small."""
    for count in range(2, MOST_SEEDS):
        arrangements = 2**count if is_paired else math.comb(2 * count, count)
        if 2 / arrangements <= level:
            return count
    return MOST_SEEDS
