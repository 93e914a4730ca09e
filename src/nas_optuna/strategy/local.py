"""Search strategy: local search."""

from __future__ import annotations

from nas_optuna.strategy.archive import Evaluation
from nas_optuna.strategy.description import Describe
from nas_optuna.strategy.parameters import Point
from nas_optuna.strategy.sampler import Parameters, PointSampler

PATIENCE = 3  # as many failures as that times the neighbours that can be listed


class LocalSearchSampler(PointSampler):
    """First-improvement local search with restarts (White et al. 2020).

    From the best of some random trials to the first neighbour that is better, a neighbour being what
    differs in one parameter; where none is, from a new random one again. The paper finds it among
    the best strategies where evaluations have little noise. With several objectives it explores the
    neighbours of the Pareto front's members (Paquete et al. 2004).

    Args:
        n_startup_trials: Random trials, of which the best is the first start.
        seed: Of the sampler's random numbers; None for others each time.
        describe: See ``PointSampler``.

    Raises:
        InputError: ``n_startup_trials`` is not a positive whole number.
    """

    def __init__(
        self, *, n_startup_trials: int = 10, seed: int | None = None, describe: Describe | None = None
    ) -> None:
        super().__init__(n_startup_trials=n_startup_trials, seed=seed, describe=describe)

    def _begin(self) -> None:
        super()._begin()
        self._centre: Evaluation | None = None
        self._judged, self._failures = 0, 0

    def _propose(self, parameters: Parameters) -> Point:
        front = self._archive.front
        if front and len(front[0].values) > 1:
            centres = [front[index] for index in self._random.permutation(len(front))]
        else:
            self._walk()
            centres = [self._centre] if self._centre else []
        for centre in centres:
            neighbours = self._neighbours(centre.point, parameters)
            unknown = [neighbour for neighbour in neighbours if self._is_eligible(neighbour)]
            # where there are numbers without steps, there is always another neighbour
            if unknown and self._failures < PATIENCE * len(neighbours):
                return unknown[int(self._random.integers(len(unknown)))]
        self._centre = None
        return self._draw(parameters)

    def _walk(self) -> None:
        """Go where the trials since the last look lead."""
        news = self._archive.evaluations[self._judged :]
        if self._judged == 0:  # the best of the random ones, or of a study that goes on
            news = [max(news, key=lambda evaluation: evaluation.standing)]
        for evaluation in news:
            if self._centre is None or self._is_better_neighbour(evaluation, self._centre):
                self._centre, self._failures = evaluation, 0
            else:
                self._failures += 1
        self._judged = len(self._archive.evaluations)

    @staticmethod
    def _is_better_neighbour(evaluation: Evaluation, centre: Evaluation) -> bool:
        """Others search elsewhere in the same study: what they find is theirs."""
        common = evaluation.point.keys() & centre.point.keys()
        changed = sum(evaluation.point[name] != centre.point[name] for name in common)
        return evaluation.standing > centre.standing and changed <= 1

    def _neighbours(self, point: Point, parameters: Parameters) -> list[Point]:
        base = self._complete(point, parameters)
        return [
            {**base, name: value}
            for name in point
            if name in parameters
            for value in parameters[name].neighbours(base[name], self._random)
        ]
