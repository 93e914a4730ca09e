"""Search strategy: regularized evolution."""

from __future__ import annotations

from nas_optuna.errors import check_number
from nas_optuna.strategy.archive import Evaluation
from nas_optuna.strategy.description import Describe
from nas_optuna.strategy.parameters import Point
from nas_optuna.strategy.sampler import Parameters, PointSampler


class EvolutionSampler(PointSampler):
    """Regularized (aging) evolution: the best of a few young trials is mutated (Real et al. 2019).

    The population is the youngest finished trials; a few of them are drawn, and the best becomes
    the parent of the next, which differs in one parameter. What is old is forgotten, however good:
    one lucky training can't rule a search. Unlike the paper's, a child is never one that was judged
    before. With several objectives the parent is any member of the Pareto front.

    Args:
        population_size: How many trials are young; the first so many are random.
        sample_size: How many of them compete to be the parent.
        seed: Of the sampler's random numbers; None for others each time.
        describe: See ``PointSampler``.

    Raises:
        InputError: A size is not a positive whole number, or the sample is larger than the population.
    """

    def __init__(
        self,
        *,
        population_size: int = 10,
        sample_size: int = 5,
        seed: int | None = None,
        describe: Describe | None = None,
    ) -> None:
        check_number("strategy.population_size", population_size, whole=True, at_least=1)
        check_number("strategy.sample_size", sample_size, whole=True, at_least=1, at_most=population_size)
        super().__init__(n_startup_trials=population_size, seed=seed, describe=describe)
        self._population_size, self._sample_size = population_size, sample_size

    def _propose(self, parameters: Parameters) -> Point:
        return self._mutate(self._parent().point, parameters)

    def _parent(self) -> Evaluation:
        front = self._archive.front
        if front and len(front[0].values) > 1:
            return front[int(self._random.integers(len(front)))]
        young = self._archive.evaluations[-self._population_size :]
        chosen = self._random.permutation(len(young))[: self._sample_size]
        return max((young[int(index)] for index in chosen), key=lambda evaluation: evaluation.standing)
