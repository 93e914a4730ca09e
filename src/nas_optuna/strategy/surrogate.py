"""Search strategy: the predictor's surrogate, a Gaussian process over points and what follows from them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.optimize import minimize
from threadpoolctl import ThreadpoolController

Array = NDArray[np.float64]

JITTER = 1e-6
MOST_ITERATIONS = 30  # of a search for hyperparameters, which starts where the last one ended
# logarithms of the hyperparameters are normally distributed before any data: mean, and deviation 1
USUAL_NOISE = 0.1
# bounds of the logarithms: inverse squared length scales, amplitudes, noise
RATE_BOUNDS, AMPLITUDE_BOUNDS, NOISE_BOUNDS = (-7.0, 4.0), (-6.0, 3.0), (-6.0, 1.0)


@dataclass(frozen=True)
class Component:
    """Columns that describe a point together.

    Attributes:
        groups: For each column, the number of its group; a group has one length scale.
        rates: For each group, its usual inverse squared length scale.
    """

    groups: NDArray[np.int64]
    rates: Array

    @property
    def count(self) -> int:
        """How many groups there are."""
        return len(self.rates)


class GaussianProcess:
    """Regression with one length scale for each parameter, learned, and noise, learned as well.

    The covariance of two points is the sum over components of
    ``amplitude * exp(-sum(rate_g * |a_g - b_g|^2 for each group g))``: for a categorical parameter,
    whose columns are its options, this is the factor ``exp(-rate)`` wherever two points differ.
    Hyperparameters are the most probable ones (Rasmussen and Williams 2006, section 5.4.1, with a
    prior on each), so a handful of trials does not overrule what is usual.

    Args:
        components: What the columns of the points mean.
    """

    def __init__(self, components: Sequence[Component]) -> None:
        self._components = list(components)
        rates = [np.log(component.rates) for component in components]
        amplitudes = np.full(len(components), -np.log(len(components)))
        self._usual = np.concatenate([*rates, amplitudes, [np.log(USUAL_NOISE)]])
        self._rates = sum(component.count for component in components)
        bounds = [RATE_BOUNDS] * self._rates + [AMPLITUDE_BOUNDS] * len(components) + [NOISE_BOUNDS]
        self._bounds = np.array(bounds)
        self._parameters = self._usual.copy()

    def fit(self, inputs: Sequence[Array], targets: Array, *, learn: bool = True) -> None:
        """Take up what is known.

        Args:
            inputs: For each component, shape ``[points, columns]``.
            targets: Shape ``[points]``.
            learn: Search for better hyperparameters, from those of before.
        """
        self._inputs = list(inputs)
        self._mean, self._scale = float(targets.mean()), float(targets.std()) or 1.0
        standard = (targets - self._mean) / self._scale
        distances = self._distances(inputs)
        if learn:
            found = minimize(
                self._loss,
                self._parameters,
                args=(distances, standard),
                jac=True,
                method="L-BFGS-B",
                bounds=self._bounds,
                options={"maxiter": MOST_ITERATIONS},
            )
            self._parameters = found.x
        covariance = np.sum(self._covariances(distances, self._parameters), axis=0)
        _, inverse, _ = self._invert(covariance, np.exp(self._parameters[-1]))
        self._inverse, self._weights, self._standard = inverse, inverse @ standard, standard

    def predict(self, inputs: Sequence[Array]) -> tuple[Array, Array]:
        """Mean and standard deviation of what is behind the noise, each of shape ``[points]``."""
        rates, amplitudes = np.exp(self._parameters[: self._rates]), self._amplitudes(self._parameters)
        covariance, first = np.zeros((len(inputs[0]), len(self._inputs[0]))), 0
        for component, amplitude, columns, known in zip(
            self._components, amplitudes, inputs, self._inputs, strict=True
        ):
            scale = np.sqrt(rates[first : first + component.count])[component.groups]
            covariance = covariance + amplitude * np.exp(-_squared(columns * scale, known * scale))
            first += component.count
        mean = covariance @ self._weights
        variance = amplitudes.sum() - np.einsum("ij,ij->i", covariance @ self._inverse, covariance)
        deviation = np.sqrt(np.maximum(variance, 1e-9))
        return mean * self._scale + self._mean, deviation * self._scale

    def leave_one_out(self) -> Array:
        """What the others say of each fitted point, ``[points]`` (Rasmussen and Williams 2006, 5.12)."""
        left = self._standard - self._weights / np.diag(self._inverse)
        return np.asarray(left * self._scale + self._mean)

    def _amplitudes(self, parameters: Array) -> Array:
        return np.exp(parameters[self._rates : -1])

    def _distances(self, inputs: Sequence[Array]) -> list[Array]:
        """For each component, squared distances by group: shape ``[groups, points, points]``."""
        return [
            np.stack(
                [
                    _squared(group := columns[:, component.groups == index], group)
                    for index in range(component.count)
                ]
            )
            for component, columns in zip(self._components, inputs, strict=True)
        ]

    def _covariances(self, distances: Sequence[Array], parameters: Array) -> list[Array]:
        rates, first, found = np.exp(parameters[: self._rates]), 0, []
        for amplitude, distance in zip(self._amplitudes(parameters), distances, strict=True):
            found.append(amplitude * np.exp(-np.tensordot(rates[first : first + len(distance)], distance, 1)))
            first += len(distance)
        return found

    @staticmethod
    def _invert(covariance: Array, noise: float) -> tuple[float, Array, bool]:
        """Logarithm of the determinant's root, the inverse, and whether there is one."""
        covariance = covariance + (noise + JITTER) * np.eye(len(covariance))
        factor, failed = lapack.dpotrf(covariance, lower=1)
        if failed:
            return np.inf, covariance, False
        inverse, _ = lapack.dpotri(factor, lower=1)
        lower = np.tril(inverse)
        return float(np.log(np.diag(factor)).sum()), lower + np.tril(lower, -1).T, True

    def _loss(self, parameters: Array, distances: Sequence[Array], targets: Array) -> tuple[float, Array]:
        """Negative logarithm of the hyperparameters' probability, but for a constant, and its gradient."""
        covariances = self._covariances(distances, parameters)
        noise = float(np.exp(parameters[-1]))
        determinant, inverse, succeeded = self._invert(np.sum(covariances, axis=0), noise)
        if not succeeded:
            return 1e10, np.zeros_like(parameters)
        weights = inverse @ targets
        slope = 0.5 * (inverse - np.outer(weights, weights))
        by_rate, by_amplitude, first = [], [], 0
        for covariance, distance in zip(covariances, distances, strict=True):
            weighted = (slope * covariance).ravel()
            rates = np.exp(parameters[first : first + len(distance)])
            by_rate.append(-rates * (distance.reshape(len(distance), -1) @ weighted))
            by_amplitude.append(weighted.sum())
            first += len(distance)
        surprise = parameters - self._usual
        gradient = np.concatenate([*by_rate, by_amplitude, [noise * np.trace(slope)]]) + surprise
        return 0.5 * float(targets @ weights + surprise @ surprise) + determinant, gradient


def one_thread() -> AbstractContextManager[object]:
    """Where a process computes: matrices this small are slower with more, and workers share the cores."""
    limited: AbstractContextManager[object] = _linear_algebra().limit(limits=1)
    return limited


@functools.cache
def _linear_algebra() -> ThreadpoolController:
    """The process's libraries of linear algebra; finding them takes longer than using them."""
    return ThreadpoolController()


def _squared(left: Array, right: Array) -> Array:
    """Squared distances between rows: shape ``[left, right]``."""
    product = left @ right.T
    both = (left * left).sum(axis=1)[:, None] + (right * right).sum(axis=1)[None]
    squared: Array = np.maximum(both - 2 * product, 0.0)
    return squared
