"""Search strategy: points as columns of numbers that a surrogate can compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nas_optuna.strategy.parameters import Parameter, Point
from nas_optuna.strategy.surrogate import Array, Component

FEWEST_ALIKE = 3  # so many parameters with the same options: how often each is chosen counts
FEATURE_RATE = 0.1  # usual inverse squared length scale of what is standardised


class Encoding:
    """What a surrogate sees of points: their parameters, and what follows from all of them together.

    Where several parameters have the same options, such as the operations of a network's layers, how
    often each option is chosen says more than the parameters do one by one.

    Args:
        parameters: The search space.
        features: How many more numbers describe a point.

    Attributes:
        components: What the columns mean.
    """

    def __init__(self, parameters: Mapping[str, Parameter], *, features: int = 0) -> None:
        self._parameters = dict(parameters)
        self._alike = self._find_alike()
        counts = sum(len(options) for _, options in self._alike)
        groups: list[int] = []
        for parameter in self._parameters.values():
            first = groups[-1] + 1 if groups else 0
            groups += [first + group for group in parameter.columns(np.zeros(0))[1]]
        rates = [rate for parameter in self._parameters.values() for rate in parameter.rates]
        self.components = [Component(np.array(groups), np.array(rates))]
        if counts + features:
            together = np.arange(counts + features)
            self.components.append(Component(together, np.full(len(together), FEATURE_RATE)))

    def values(self, points: Sequence[Point]) -> Array:
        """Shape ``[points, parameters]``; NaN where a point has no such parameter."""
        missing = float("nan")
        rows = [[point.get(name, missing) for name in self._parameters] for point in points]
        return np.array(rows, dtype=float).reshape(len(rows), len(self._parameters))

    def __call__(self, values: Array, features: Array) -> list[Array]:
        """For each component, its columns.

        Args:
            values: Shape ``[points, parameters]``.
            features: Shape ``[points, features]``.
        """
        columns = [
            parameter.columns(values[:, index])[0]
            for index, parameter in enumerate(self._parameters.values())
        ]
        encoded = [np.concatenate(columns, axis=1)]
        if len(self.components) > 1:
            encoded.append((self._together(values, features) - self._mean) / self._deviation)
        return encoded

    def standardize(self, values: Array, features: Array) -> None:
        """Take mean and deviation of what describes a point as a whole from these points."""
        together = self._together(values, features)
        deviation = together.std(axis=0)
        self._mean, self._deviation = together.mean(axis=0), np.where(deviation > 0, deviation, 1.0)

    def _together(self, values: Array, features: Array) -> Array:
        counts = [
            (values[:, places, None] == options).sum(axis=1).astype(float) for places, options in self._alike
        ]
        return np.concatenate([*counts, features], axis=1)

    def _find_alike(self) -> list[tuple[list[int], Array]]:
        alike: dict[str, list[int]] = {}
        for index, parameter in enumerate(self._parameters.values()):
            if not parameter.ordered and parameter.levels != 1:
                alike.setdefault(repr(parameter.distribution), []).append(index)
        levels = [list(self._parameters.values())[places[0]].levels or 0 for places in alike.values()]
        return [
            (places, np.arange(count, dtype=float))
            for places, count in zip(alike.values(), levels, strict=True)
            if len(places) >= FEWEST_ALIKE
        ]
