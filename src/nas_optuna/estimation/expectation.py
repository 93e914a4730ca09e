"""Performance estimation: what a network's decisions tell of its worth, before it is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution

from nas_optuna.strategy.encoding import Encoding
from nas_optuna.strategy.parameters import Parameter, Point
from nas_optuna.strategy.surrogate import GaussianProcess, one_thread

Array = NDArray[np.float64]

MOST_LEARNED = 250  # points, the latest
LEARNED_ANEW = 0.05  # so large a part more of points: hyperparameters are looked for again


class Expectation:
    """What points are worth by their parameters alone, as the predictor's Gaussian process learns it.

    That a network's decisions and the beginning of its curve together foretell the end is from Baker et al.
    2017 (Accelerating neural architecture search using performance prediction).
    """

    def __init__(self) -> None:
        self._distributions: dict[str, BaseDistribution] = {}
        self._learned = 0

    def learn(
        self, points: Sequence[Point], worths: Array, distributions: Mapping[str, BaseDistribution]
    ) -> Array:
        """Learn from the latest points, and say what was to be expected of each.

        Args:
            points: Parameters in Optuna's internal representation; some may be missing.
            worths: (M,), of the last M of the points, more is better.
            distributions: Of all parameters.

        Returns:
            (N,), for each point what the others say: what is learned from does not count for itself
            (leave-one-out: Rasmussen and Williams 2006, equation 5.12).
        """
        if distributions != self._distributions:
            self._distributions, self._learned = dict(distributions), 0
            self._encoding = Encoding({name: Parameter(kind) for name, kind in distributions.items()})
            self._process = GaussianProcess(self._encoding.components)
        values = self._encoding.values(points)
        first = len(points) - len(worths)
        self._encoding.standardize(values[first:], np.empty((len(worths), 0)))
        inputs = self._encode(values)
        is_due = len(points) >= (1 + LEARNED_ANEW) * self._learned
        self._learned = len(points) if is_due else self._learned
        with one_thread():
            self._process.fit([columns[first:] for columns in inputs], worths, learn=is_due)
            before = self._process.predict([columns[:first] for columns in inputs])[0]
            return np.concatenate([before, self._process.leave_one_out()])

    def of(self, point: Point) -> float:
        """What is expected of a point that was not learned from."""
        return float(self._process.predict(self._encode(self._encoding.values([point])))[0][0])

    def _encode(self, values: Array) -> list[Array]:
        return self._encoding(values, np.empty((len(values), 0)))
