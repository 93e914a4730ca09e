"""Search strategy: one parameter of a point, whatever its distribution: drawn, changed, placed on a scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

FEW_LEVELS = 12  # up to so many values of an ordered parameter, all are tried
STEPS = (0.02, 0.2)  # on the scale of a continuous parameter: the smallest and the largest change

RATE = 0.4  # usual inverse squared length scale of a parameter, whose values are at most 1 apart

# values in Optuna's internal representation: numbers, for a categorical parameter the option's index
Point = Mapping[str, float]

NumberOrArray = TypeVar("NumberOrArray", float, NDArray[np.float64])


class Parameter:
    """How a strategy moves along one parameter.

    Values are Optuna's internal ones: numbers as they are, the index of a categorical option.

    Args:
        distribution: Any of Optuna's.

    Attributes:
        levels: How many values there are; None where they are continuous.
        ordered: Whether neighbouring values resemble one another.
    """

    def __init__(self, distribution: BaseDistribution) -> None:
        self.distribution = distribution
        self.ordered = not isinstance(distribution, CategoricalDistribution)
        low, high, self._log, self._step = _bounds(distribution)
        self._low = low
        self.levels = round((high - low) / self._step) + 1 if self._step else None
        # whole numbers on a logarithmic scale: each takes the part of the scale around it
        margin = self._step / 2 if self._log else 0.0
        self._scale = (self._on_scale(low - margin), self._on_scale(high + margin))
        self._high = high

    def draw(self, random: np.random.Generator) -> float:
        """A value, all equally likely on the parameter's scale."""
        return self.value(float(random.random()))

    def change(self, value: float, random: np.random.Generator) -> float:
        """Another value: of ordered ones half of the time a neighbour, else any."""
        if self.levels == 1:
            return value
        if self.levels is None:
            return self._shift(value, random)
        index, last = round((value - self._low) / self._step), self.levels - 1
        if self.ordered and random.random() < 0.5:
            other = index + (1 if random.random() < 0.5 else -1)
            if 0 <= other <= last:
                return self._level(other)
        other = int(random.integers(last))
        return self._level(other + (other >= index))

    def neighbours(self, value: float, random: np.random.Generator) -> list[float]:
        """All other values; where there are many, the next ones and some further away."""
        if self.levels is not None and (not self.ordered or self.levels <= FEW_LEVELS):
            return [other for index in range(self.levels) if (other := self._level(index)) != value]
        return [self.change(value, random) for _ in range(4)]

    def value(self, share: float) -> float:
        """The value at a share of the scale, from 0 to 1."""
        if not self._log and self.levels is not None:
            return self._level(min(int(share * self.levels), self.levels - 1))
        low, high = self._scale
        value = low + share * (high - low)
        value = math.exp(value) if self._log else value
        if self._step:
            value = self._level(round((value - self._low) / self._step))
        return min(max(value, self._low), self._high)

    def share(self, value: NumberOrArray) -> NumberOrArray:
        """Where a value, or each of several, lies on the scale, from 0 to 1."""
        if self._high == self._low:
            return value * 0 + 0.5
        low, high = self._on_scale(self._low), self._on_scale(self._high)
        return ((np.log(value) if self._log else value) - low) / (high - low)

    def columns(self, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[int]]:
        """Values as coordinates: equal ones lie together, others apart, those without a value in between.

        Options are corners of a simplex, numbers a line; options that are numbers are both.

        Args:
            values: Shape ``[points]``; NaN for a point without the parameter.

        Returns:
            Shape ``[points, columns]``, and the group of each column, from 0.
        """
        columns, groups = [], []
        if not self.ordered:
            assert self.levels is not None
            columns.append((values[:, None] == np.arange(self.levels)) / math.sqrt(2))
            groups += [0] * self.levels
        scale = self._line()
        if scale is not None:
            known = np.isfinite(values)
            index = np.where(known, values, 0.0)
            line = scale[index.astype(int)] if not self.ordered else self.share(index)
            group = groups[-1] + 1 if groups else 0
            columns += [np.where(known, line, 0.5)[:, None], np.where(known, 0.0, 0.5)[:, None]]
            groups += [group, group]
        return np.concatenate(columns, axis=1), groups

    @property
    def rates(self) -> list[float]:
        """How fast its groups of columns usually tell points apart: inverse squared length scales."""
        if self.ordered or self._line() is None:
            return [RATE]
        # of numbers, how far apart they are is likelier to matter than which they are
        return [RATE / 3, RATE]

    def _line(self) -> NDArray[np.float64] | None:
        """Where options that are numbers lie from 0 to 1, by their order; None where they are not."""
        if self.ordered:
            return np.empty(0)
        assert isinstance(self.distribution, CategoricalDistribution)
        choices = self.distribution.choices
        if len(choices) < 3 or not all(
            isinstance(choice, int | float) and not isinstance(choice, bool) for choice in choices
        ):
            return None
        return np.argsort(np.argsort(np.array(choices, dtype=float))) / (len(choices) - 1)

    def contains(self, value: float) -> bool:
        """Whether the parameter has the value; a range may have changed since."""
        return self.distribution._contains(value)

    def _on_scale(self, value: float) -> float:
        return math.log(value) if self._log else value

    def _level(self, index: int) -> float:
        return min(self._low + index * self._step, self._high)

    def _shift(self, value: float, random: np.random.Generator) -> float:
        smallest, largest = STEPS
        size = smallest * (largest / smallest) ** random.random()
        share = self.share(value) + random.normal(0.0, size)
        share = abs(share) % 2.0  # reflected at both ends
        return self.value(2.0 - share if share > 1.0 else share)


def _bounds(distribution: BaseDistribution) -> tuple[float, float, bool, float]:
    """Lowest, highest, whether the scale is logarithmic, and the step or 0."""
    if isinstance(distribution, CategoricalDistribution):
        return 0.0, len(distribution.choices) - 1.0, False, 1.0
    if not isinstance(distribution, IntDistribution | FloatDistribution):
        raise TypeError(f"{distribution!r}: this strategy knows float, int and categorical parameters.")
    step = float(distribution.step or 0.0)
    return float(distribution.low), float(distribution.high), distribution.log, step
