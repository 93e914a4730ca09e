"""Performance estimation: when a training is a worse use of the time than a fresh network."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from nas_optuna.estimation.extrapolation import Array, Extrapolation

POINTS = 61  # of the grid over the values of a rung
BISECTIONS = 40
TINY = 1e-12
RECENT = 200  # curves that say how fresh networks begin


class StoppingRule:
    """Optimal stopping on the chain of an ``Extrapolation``.

    A training may be stopped at any rung, and a fresh network begun in its place. What a training gives is
    how far its last value exceeds the best so far; what it takes is steps. The rate that the best policy
    achieves, gain over steps, is the price of a step: at that price a fresh network is worth nothing
    (renewal reward; the reservation price of Weitzman 1979), and a training is worth going on with where
    its expected gain exceeds what its further steps cost. Nothing is left to set: where early rungs say
    nothing, all go on; where they say all, few do.

    Args:
        extrapolation: How curves go on.
        best: The best last value so far.
    """

    def __init__(self, extrapolation: Extrapolation, *, best: float) -> None:
        self._extrapolation = extrapolation
        rungs = extrapolation.rungs
        # steps from one rung to the next; the first may be called 0
        self._prices = [float(max(rungs[0], 1)), *np.diff(rungs).astype(float)]
        self._grids = self._make_grids()
        self._moves, self._gains = self._make_moves(best)
        self._start = self._make_start()
        self._worth = self._solve()

    def stops(self, value: float, rung: int) -> bool:
        """Whether a training with this value at this rung, not the last, shall stop."""
        return self.worth(value, rung) <= 0.0

    def worth(self, value: float, rung: int) -> float:
        """What going on from this value at this rung, not the last, gains over a fresh network."""
        value = self._extrapolation.clip(value, rung)
        return float(np.interp(value, self._grids[rung], self._worth[rung]))

    def _make_grids(self) -> list[Array]:
        """Values of each rung but the last."""
        chain = self._extrapolation
        tops = [float(np.nanmax(column)) for column in chain.values.T]
        return [
            np.linspace(floor, top + 2 * min(spread, (top - floor) / 2 + 1e-9), POINTS)
            for floor, top, spread in zip(chain.floor[:-1], tops, chain.spread, strict=False)
        ]

    def _make_moves(self, best: float) -> tuple[list[Array], Array]:
        """Probabilities to get from each point of a rung to each of the next; expected gain at the last."""
        moves, gains = [], np.zeros(POINTS)
        known = np.tile(self._extrapolation.known.mean(axis=0), (POINTS, 1))
        for transition, grid, after in zip(
            self._extrapolation.transitions, self._grids, [*self._grids[1:], None], strict=True
        ):
            mean, deviation, *_ = transition.forecast(grid, known)
            if after is None:
                gains = expected_gain(mean, deviation, best)
            else:
                edges = (after[1:] + after[:-1]) / 2
                below = ndtr((edges - mean[:, None]) / deviation[:, None])
                moves.append(np.diff(below, axis=1, prepend=0.0, append=1.0))
        return moves, gains

    def _make_start(self) -> Array:
        """Probabilities of a fresh network's value at the first rung."""
        column = self._extrapolation.values[:, 0]
        begun = column[~np.isnan(column)][-RECENT:]
        width = max(1.06 * self._extrapolation.spread[0] * len(begun) ** -0.2, 1e-12)
        density = np.exp(-0.5 * ((self._grids[0] - begun[:, None]) / width) ** 2).sum(axis=0)
        return np.asarray((density + TINY) / (density + TINY).sum())

    def _solve(self) -> list[Array]:
        """The worth of going on from each point of each rung, at the price that makes a start worth 0."""
        low, high = 0.0, float(self._gains.max()) / min(self._prices)
        for _ in range(BISECTIONS):
            price = (low + high) / 2
            if self._start @ np.maximum(self._at_price(price)[0], 0.0) > price * self._prices[0]:
                low = price
            else:
                high = price
        return self._at_price(low)

    def _at_price(self, price: float) -> list[Array]:
        """The worth of going on, by rung."""
        worth = [self._gains - price * self._prices[-1]]
        for move, steps in zip(self._moves[::-1], self._prices[-2:0:-1], strict=True):
            worth.insert(0, move @ np.maximum(worth[0], 0.0) - price * steps)
        return worth


def expected_gain(mean: Array, deviation: Array, best: float) -> Array:
    """Expected excess of normal variables over ``best`` (expected improvement, Mockus 1978)."""
    distance = (mean - best) / deviation
    density = np.exp(-0.5 * distance**2) / np.sqrt(2 * np.pi)
    return np.asarray(deviation * (density + distance * ndtr(distance)))
