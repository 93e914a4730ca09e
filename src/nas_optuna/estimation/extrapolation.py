"""Performance estimation: how a learning curve goes on, learned from the other curves of the study."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RUNG_RATIO = 2.0
# what is believed before any curve: a lead lasts from rung to rung, give or take so much of the spread
# (variance), as firmly as so many observations say it
PRIOR_NOISE, PRIOR_WEIGHT = 0.3, 3.0
RISE = 0.5  # of the way that curves rise to the next rung: a lead smaller than this may still be lost
CLIP = 3.0  # what is worse than the median by so many times the way to the best tenth counts as that
NEAREST, NEAR_SHARE = 12, 0.15  # curves that a forecast rests on: so many, or this part of all
NARROWEST = 0.1  # and those within so many standard deviations
# that a loss tells nothing that the value does not is believed as firmly as so many curves say it; and that a
# value's lead lasts, of which this part at the least
LOSS_WEIGHT, LEAST_SLOPE = 3.0, 0.25
# that a forecast is as far off as it says is believed as firmly as so many curves say it; fewer than three
# curves tell nothing of that, fewer than thirty not that it may be narrower, and of many the latest suffice
CALIBRATION_WEIGHT, FEWEST_CALIBRATED, FEWEST_NARROWED, CALIBRATED = 5.0, 3, 30, 200


class Forecast(NamedTuple):
    """Of values at a later rung, each array (N,).

    Attributes:
        mean, deviation: Of the normal distribution.
        slope: Of the mean over the value at the rung before.
        freedom: Degrees of freedom behind the deviation.
    """

    mean: Array
    deviation: Array
    slope: Array
    freedom: Array


class Reading:
    """What a value at a rung is, seen together with its loss.

    The share of a few images that are right is half luck; their loss, which sees how nearly each was right,
    has less of that. So a value is raised or lowered by how much its loss is below or above that of other
    networks with such a value: as much as that turned out to tell of the next rung. Where it tells nothing,
    or no loss is known, a value stays as it is.

    Args:
        values: (N,), at the rung.
        losses: (N,), there; NaN where none is known.
        later: (N,), values at the next rung; NaN where a curve does not reach it.
    """

    def __init__(self, values: Array, losses: Array, later: Array) -> None:
        self._rate = self._slope = self._middle = self._middle_loss = 0.0
        self._floor = -math.inf
        known = ~np.isnan(losses)
        both = known & ~np.isnan(later)
        if both.sum() < FEWEST_CALIBRATED or np.ptp(values[known]) == 0.0:
            return
        # so bad a loss says no more: a network that diverges shall not tilt the line
        self._floor = _floor(-losses[known])
        merits = np.maximum(-losses[known], self._floor)
        self._middle, self._middle_loss = float(values[known].mean()), float(merits.mean())
        leads = values[known] - self._middle
        self._slope = float(leads @ merits) / float(leads @ leads)
        surprises = self._surprises(values[both], losses[both])
        surprises -= surprises.mean()
        variance = float(self._surprises(values[known], losses[known]).var())
        if variance < 1e-18 * (1 + self._middle_loss**2):
            return
        leads, gains = values[both] - values[both].mean(), later[both] - later[both].mean()
        firmness = max(LOSS_WEIGHT * float(leads.var()), 1e-18)
        lasting = max((float(leads @ gains) + firmness) / (float(leads @ leads) + firmness), LEAST_SLOPE)
        told = float(surprises @ (gains - lasting * leads))
        self._rate = told / (float(surprises @ surprises) + LOSS_WEIGHT * variance) / lasting

    def __call__(self, values: Array, losses: Array) -> Array:
        """The values, (N,), as their losses, (N,), show them; NaN for a loss that is not known."""
        if self._rate == 0.0:
            return values
        return values + self._rate * np.nan_to_num(self._surprises(values, losses))

    def _surprises(self, values: Array, losses: Array) -> Array:
        """How much lower losses are than those of other networks with such values."""
        merits = np.maximum(-losses, self._floor)
        return np.asarray(merits - self._middle_loss - self._slope * (values - self._middle))


class Transition:
    """From one rung to the next: Bayesian linear regression on the curves whose values are near.

    Conjugate prior: Murphy 2012, section 7.6; nearness: Cleveland 1979. Good networks are few and alike, bad
    ones many and erratic: the noise of one says little of the other's.

    Args:
        before, after: (N,), values of the same curves at both rungs.
        known: (N, F), what else is known of the networks, linear.
        spread: Standard deviation of values at the first of the rungs.
    """

    def __init__(self, before: Array, after: Array, known: Array, *, spread: float) -> None:
        self._before, self._spread = before, spread
        self._unit = max(spread, RISE * abs(float(np.median(after - before))))
        self._change = (after - before) / self._unit
        self._centre, self._scale = known.mean(axis=0), np.maximum(known.std(axis=0), 1e-9)
        self._known = (known - self._centre) / self._scale
        lead = PRIOR_WEIGHT * (spread / self._unit) ** 2
        self._precision = np.diag([0.01, lead, *[1.0] * known.shape[1]])

    def __len__(self) -> int:
        """How many curves it was learned from."""
        return len(self._before)

    def forecast(self, values: Array, known: Array, *, without: NDArray[np.int64] | None = None) -> Forecast:
        """Values at the next rung.

        Args:
            values: (N,), at this rung.
            known: (N, F).
            without: (N,), for each the curve that shall not count, as its place among those that this was
                learned from, or -1; None for all count.
        """
        nearness = self.nearness(values, known)
        if without is not None:
            left_out = np.flatnonzero(without >= 0)
            nearness[left_out, without[left_out]] = 0.0
        total = nearness.sum(axis=1)
        centre = nearness @ self._before / total
        # (N, observations, 2 + F)
        design = np.empty((len(values), len(self._before), 2 + self._known.shape[1]))
        design[..., 0] = 1.0
        design[..., 1] = (self._before - centre[:, None]) / self._unit
        design[..., 2:] = self._known
        weighted = design * nearness[..., None]
        moments = weighted.transpose(0, 2, 1) @ self._change
        covariance = np.linalg.inv(weighted.transpose(0, 2, 1) @ design + self._precision)
        weights = np.einsum("nij,nj->ni", covariance, moments)
        freedom = PRIOR_WEIGHT + total
        squares = PRIOR_WEIGHT * PRIOR_NOISE + nearness @ self._change**2 - (weights * moments).sum(axis=1)
        here = np.column_stack(
            [np.ones(len(values)), (values - centre) / self._unit, (known - self._centre) / self._scale]
        )
        spread = 1.0 + np.einsum("ni,nij,nj->n", here, covariance, here)
        variance = np.maximum(squares, 1e-12) / (freedom - 2.0) * spread
        return Forecast(
            mean=values + self._unit * (here * weights).sum(axis=1),
            deviation=self._unit * np.sqrt(variance),
            slope=1.0 + weights[:, 1],
            freedom=freedom,
        )

    def nearness(self, values: Array, known: Array) -> Array:
        """Weight of each observation for each value, (N, observations); arguments as of ``forecast``."""
        known = (known - self._centre) / self._scale
        count = max(NEAREST, int(NEAR_SHARE * len(self._before)))
        squares = ((values[:, None] - self._before) / self._spread) ** 2
        squares += ((known[:, None, :] - self._known) ** 2).sum(axis=2)
        if len(self._before) <= count:
            return np.ones_like(squares)
        width = np.partition(squares, count - 1, axis=1)[:, count - 1 : count]
        return np.asarray(np.exp(-0.5 * squares / np.maximum(width, NARROWEST**2)))


class Extrapolation:
    """A chain of regressions over the rungs of a study.

    From each rung to the next a regression says how values go on, with the noise that it leaves. A curve
    that was stopped counts as far as it goes: what it was stopped for was known at its last rung, so what
    is learned of the way there, from all that reached it, is not biased by it. (A regression of last
    values on early ones over the finished curves would be.)

    Args:
        rungs: Steps.
        values: (curves, rungs), more is better; NaN where a curve does not reach, minus infinity where
            it diverged. The first rung is reached by all, the last by one at least.
        known: (curves, F), what else is known of the networks.
        losses: (curves, rungs), that came with the values, less is better; NaN where none is known, None
            for none at all.

    Attributes:
        values: The same, as their losses show them (``Reading``); very bad ones are raised to ``floor``,
            (rungs,).
        spread: (rungs,), standard deviation.
        transitions: One fewer than rungs.
    """

    def __init__(
        self, rungs: Sequence[int], values: Array, known: Array, losses: Array | None = None
    ) -> None:
        self.rungs = rungs
        self.floor = np.array([_floor(column[~np.isnan(column)]) for column in values.T])
        self.values = np.where(np.isnan(values), np.nan, np.maximum(values, self.floor))
        self._readings = [] if losses is None else self._learn_to_read(losses)
        self.known = known
        self.spread = self._spreads()
        self.transitions = [self._transition(rung) for rung in range(len(rungs) - 1)]
        self._places = [self._place(rung) for rung in range(len(rungs) - 1)]

    def clip(self, value: float, rung: int) -> float:
        """A value at a rung as the regressions see it."""
        return float(max(value, self.floor[rung]))

    def read(self, value: float, rung: int, loss: float = math.nan) -> float:
        """A value at a rung, not the last, as the loss that came with it shows it; NaN for no loss."""
        if not self._readings:
            return value
        return float(self._readings[rung](np.array([self.clip(value, rung)]), np.array([loss]))[0])

    def is_among_best(self, value: float, rung: int, *, share: float) -> bool:
        """Whether a value belongs to this part of all at its rung."""
        column = self.values[:, rung]
        reached = column[~np.isnan(column)]
        return int((reached > value).sum()) < int(share * (len(reached) + 1))

    def _learn_to_read(self, losses: Array) -> list[Reading]:
        """From the last rung back: what a loss tells is of the next value as its own loss shows that."""
        readings: list[Reading] = []
        for rung in reversed(range(len(self.rungs) - 1)):
            values = self.values[:, rung]
            reached = ~np.isnan(values)
            reading = Reading(values[reached], losses[reached, rung], self.values[reached, rung + 1])
            values[reached] = reading(values[reached], losses[reached, rung])
            self.floor[rung] = min(self.floor[rung], float(values[reached].min()))
            readings.insert(0, reading)
        return readings

    def forecast(self, value: float, rung: int, known: Sequence[float] = ()) -> tuple[float, float, float]:
        """Mean, standard deviation and degrees of freedom of the last rung's value.

        Args:
            value: At a rung.
            rung: Its index, not the last.
            known: What else is known of the network.
        """
        features = np.array(known, dtype=float).reshape(1, -1)
        end = self._go_on(np.array([self.clip(value, rung)]), rung, features)
        width = self._width(self.clip(value, rung), rung, features)
        return float(end.mean[0]), width * float(end.deviation[0]), float(end.freedom[0])

    def ends(self, numbers: NDArray[np.int64]) -> Array:
        """Last values of these curves; of those that were stopped, what is forecast from their last rung."""
        last, ends = self._last_rungs[numbers], self.values[numbers, -1]
        for rung in range(len(self.transitions)):
            stopped = last == rung
            if stopped.any():
                begun = numbers[stopped]
                ends[stopped] = self._go_on(self.values[begun, rung], rung, self.known[begun]).mean
        return np.asarray(ends)

    def _go_on(
        self, values: Array, rung: int, known: Array, *, numbers: NDArray[np.int64] | None = None
    ) -> Forecast:
        """Values at the last rung, as its transitions say one after the other.

        Args:
            values: (N,), at a rung.
            rung: Its index.
            known: (N, F).
            numbers: (N,), rows of the curves whose values these are: none counts for its own forecast.
        """
        mean, variance = values, np.zeros(len(values))
        slope, freedom = np.ones(len(values)), np.full(len(values), np.inf)
        for transition, places in zip(self.transitions[rung:], self._places[rung:], strict=True):
            step = transition.forecast(mean, known, without=None if numbers is None else places[numbers])
            variance = step.slope**2 * variance + step.deviation**2
            mean, slope, freedom = step.mean, slope * step.slope, np.minimum(freedom, step.freedom)
        return Forecast(mean, np.sqrt(variance), slope, freedom)

    def _width(self, value: float, rung: int, known: Array) -> float:
        """What a deviation is multiplied by to be as large as forecasts are off: of all, and of near ones."""
        places, squares = self._misses[rung]
        nearness = self.transitions[rung].nearness(np.array([value]), known)[0, places]
        narrowest = 0.0 if len(self.values) >= FEWEST_NARROWED else 1.0
        return max(narrowest, _width(squares), _width(squares, nearness))

    @functools.cached_property
    def _misses(self) -> list[tuple[NDArray[np.int64], Array]]:
        """For each rung but the last, how far off forecasts were: squares of deviations.

        Transitions add up as if a value told all of its past: luck at one rung that is gone at the next
        counts twice. So each curve is forecast by the others, as in the jackknife+ (Barber et al. 2021). One
        that was stopped counts with what is forecast from its last rung; without those, only what did well
        would count.

        Returns:
            Places of the curves among those that the transition from there was learned from; squares.
        """
        misses = [(np.empty(0, dtype=np.int64), np.empty(0)) for _ in self.transitions]
        reached, last = ~np.isnan(self.values), self._last_rungs
        ends = np.where(reached[:, -1], self.values[:, -1], np.nan)
        doubts = np.zeros(len(ends))  # variances of these
        for rung in reversed(range(len(misses))):
            if min(len(transition) for transition in self.transitions[rung:]) < FEWEST_CALIBRATED:
                break
            numbers = np.flatnonzero(reached[:, rung])[-CALIBRATED:]
            told = self._go_on(self.values[numbers, rung], rung, self.known[numbers], numbers=numbers)
            variances = told.deviation**2
            squares = ((ends[numbers] - told.mean) ** 2 + doubts[numbers]) / variances
            goes_on = last[numbers] > rung
            misses[rung] = self._places[rung][numbers[goes_on]], squares[goes_on]
            stopped = numbers[~goes_on]
            ends[stopped] = told.mean[~goes_on]
            doubts[stopped] = _width(squares[goes_on]) ** 2 * variances[~goes_on]
        return misses

    @functools.cached_property
    def _last_rungs(self) -> NDArray[np.int64]:
        """(curves,), the last rung that each reached."""
        reached = ~np.isnan(self.values)
        return np.asarray(reached.shape[1] - 1 - reached[:, ::-1].argmax(axis=1))

    def _spreads(self) -> Array:
        spreads: list[float] = []
        for column in self.values.T:
            reached = column[~np.isnan(column)]
            before = spreads[-1] if spreads else 0.0
            # few reach the late rungs, and those are much alike
            squares = len(reached) * reached.var() + PRIOR_WEIGHT * before**2
            deviation = float(squares / (len(reached) + PRIOR_WEIGHT)) ** 0.5
            spreads.append(max(deviation, 1e-9 * (1 + abs(float(reached.mean())))))
        return np.array(spreads)

    def _goes_on(self, rung: int) -> NDArray[np.bool_]:
        """(curves,), which of them reach the next rung."""
        return np.asarray(~np.isnan(self.values[:, rung]) & ~np.isnan(self.values[:, rung + 1]))

    def _place(self, rung: int) -> NDArray[np.int64]:
        """(curves,), where each is among those that a transition was learned from; -1 for none of them."""
        both = self._goes_on(rung)
        return np.where(both, np.cumsum(both) - 1, -1)

    def _transition(self, rung: int) -> Transition:
        both = self._goes_on(rung)
        return Transition(
            self.values[both, rung],
            self.values[both, rung + 1],
            self.known[both],
            spread=float(self.spread[rung]),
        )


def choose_rungs(steps: Sequence[int]) -> list[int]:
    """Steps about twice as far each, among those of a whole training, its first and its last included."""
    rungs, place = [steps[0]], 1.0
    while (place := place * RUNG_RATIO) <= len(steps) / RUNG_RATIO**0.5:
        rungs.append(steps[round(place) - 1])
    return rungs + [step for step in steps[-1:] if step > rungs[-1]]


def _floor(values: Array) -> float:
    """The worst value that is told from others: beyond it all are hopeless alike."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0
    middle = max(float(np.median(values)), float(finite.min()))
    best = max(float(np.quantile(finite, 0.9)) - middle, 0.3 * (float(finite.max()) - middle))
    return max(float(finite.min()), middle - CLIP * best)


def _width(squares: Array, weights: Array | None = None) -> float:
    """Root mean square of what forecasts were off, in deviations, with what is believed before."""
    weights = np.ones(len(squares)) if weights is None else weights
    return math.sqrt((CALIBRATION_WEIGHT + weights @ squares) / (CALIBRATION_WEIGHT + weights.sum()))
