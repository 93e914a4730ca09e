"""Search strategy: what our samplers have in common: they read the study and propose whole points."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Hashable
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from nas_optuna.errors import check_number
from nas_optuna.strategy.archive import Archive, Evaluation
from nas_optuna.strategy.description import Describe, Description
from nas_optuna.strategy.parameters import Parameter, Point

TRIES = 200  # to find a point that is new, before a known one is taken
REMEMBERED = 100_000  # descriptions of points

Parameters = dict[str, Parameter]


class PointSampler(optuna.samplers.BaseSampler):
    """Proposes whole points from what the study's trials say; a subclass says which.

    All parameters that any trial was asked for belong to a point: those that a trial does not ask
    for are left aside. A parameter that is new to the study is drawn at random. What was found is read
    from the study, so any number of processes may share one, and a new one takes it up.

    Args:
        n_startup_trials: So many finished trials are drawn at random first.
        seed: Of the sampler's random numbers; None for others each time.
        describe: Tells what a point means; None where nothing is known beside its parameters.

    Attributes:
        describe: The same; may be set later.

    Raises:
        InputError: A number is out of its range.
    """

    def __init__(
        self, *, n_startup_trials: int, seed: int | None = None, describe: Describe | None = None
    ) -> None:
        check_number("strategy.n_startup_trials", n_startup_trials, whole=True, at_least=1)
        self._n_startup_trials = n_startup_trials
        self._random = np.random.default_rng(seed)
        self._independent = optuna.samplers.RandomSampler(seed=seed)
        self.describe = describe
        self._prepare()

    def _prepare(self) -> None:
        """Set what is not pickled: all of it comes from the study."""
        self._lock = threading.Lock()
        self._archive = Archive()
        self._followed: list[Evaluation] | None = None

    def _begin(self) -> None:
        """Follow another study."""
        self._descriptions: dict[frozenset[tuple[str, float]], Description] = {}
        self._identities: set[Hashable] = set()
        self._identified = 0

    def __getstate__(self) -> dict[str, Any]:
        state = vars(self).copy()
        for name in ("_archive", "_lock", "_followed"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._prepare()

    def reseed_rng(self) -> None:
        """Draw other numbers than the processes and threads that this sampler was copied to."""
        self._random = np.random.default_rng()
        self._independent.reseed_rng()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Every parameter that a trial of the study was asked for."""
        with self._lock:
            self._read(study, trial)
            return dict(self._archive.distributions)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A point of the search space."""
        parameters = {name: Parameter(distribution) for name, distribution in search_space.items()}
        if not parameters:
            return {}
        with self._lock:
            # Optuna asked for the search space just before
            if self._followed is None or self._archive.read_for != trial.number:
                self._read(study, trial)
            point = self._draw(parameters) if self._is_early() else self._propose(parameters)
        return {name: search_space[name].to_external_repr(point[name]) for name in search_space}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A random value of a parameter that no trial was asked for before."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def _read(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._archive.read(study, asking=trial.number)
        self._running_identities: set[Hashable] | None = None
        if self._followed is not self._archive.evaluations:
            self._followed = self._archive.evaluations
            self._begin()

    def _is_early(self) -> bool:
        """Whether a random point is worth more than what can be learned as yet."""
        return len(self._archive.evaluations) < self._n_startup_trials

    @abstractmethod
    def _propose(self, parameters: Parameters) -> Point:
        """A value for each parameter. The archive is up to date, and holds an evaluation."""

    def _draw(self, parameters: Parameters) -> Point:
        """A random point, new and allowed if one can be found."""
        for _ in range(TRIES):
            point = {name: parameter.draw(self._random) for name, parameter in parameters.items()}
            if self._is_eligible(point):
                break
        return point

    def _mutate(self, parent: Point, parameters: Parameters) -> Point:
        """A point that differs from a parent in one parameter, in more if those are all known."""
        own = [name for name in parent if name in parameters]
        movable = [name for name in own if parameters[name].levels != 1]
        if not movable:
            return self._draw(parameters)
        child = self._complete(parent, parameters)
        for attempt in range(TRIES):
            # after as many tries as there are parameters, two or more changes
            base = self._complete(parent, parameters) if attempt < len(movable) else child
            name = movable[int(self._random.integers(len(movable)))]
            child = {**base, name: parameters[name].change(base[name], self._random)}
            if self._is_eligible(child):
                return child
        return self._draw(parameters)

    def _is_eligible(self, point: Point) -> bool:
        """Whether it is worth asking for: nothing equal was judged or is, and it is within the limits."""
        return not self._is_known(point) and self._is_allowed(point)

    def _is_allowed(self, point: Point) -> bool:
        return self.describe is None or self._described(point).is_allowed

    def _is_known(self, point: Point) -> bool:
        if self._archive.knows(point):
            return True
        if self.describe is None:
            return False
        news = self._archive.evaluations[self._identified :]
        self._identities.update(self._described(evaluation.point).identity for evaluation in news)
        self._identified += len(news)
        if self._running_identities is None:
            self._running_identities = {
                self._described(running).identity for running in self._archive.running
            }
        identity = self._described(point).identity
        return identity in self._identities or identity in self._running_identities

    def _described(self, point: Point) -> Description:
        assert self.describe is not None
        key = frozenset(point.items())
        if key not in self._descriptions:
            if len(self._descriptions) >= REMEMBERED:
                self._descriptions.clear()
            distributions = self._archive.distributions
            self._descriptions[key] = self.describe(
                {name: distributions[name].to_external_repr(value) for name, value in point.items()}
            )
        return self._descriptions[key]

    def _complete(self, point: Point, parameters: Parameters) -> dict[str, float]:
        """A value for each parameter: the point's where it has one, else a random one."""
        return {
            name: point[name]
            if name in point and parameter.contains(point[name])
            else parameter.draw(self._random)
            for name, parameter in parameters.items()
        }
