"""Search strategy: of several candidates of another strategy, the one that a cheap score likes best."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.errors import InputError, check_number
from nas_optuna.strategy.archive import Archive

# they go through a list, and would take what a gate refuses for tried
LISTS = (optuna.samplers.BruteForceSampler, optuna.samplers.GridSampler)


class GatedSampler(optuna.samplers.BaseSampler):
    """Asks another sampler for several points, and proposes the one with the largest score.

    With random candidates and a zero-cost proxy as score it is the warm-up, with those of evolution the
    move proposal of Abdelfattah et al. 2021 (sections 4.2 and 5.2). A score has to be worth more than
    the strategy's own choice, or it spoils it: look at how it ranks networks that were trained.

    A parameter that the other sampler draws independently is drawn so for each candidate; where parameters
    depend on one another, for all of them, asked for or not. What no trial was asked for as yet, nor
    ``distributions`` holds, is not gated.

    Args:
        sampler: Proposes the candidates. Any, but for those that go through a list of points.
        score: Of a point, its parameters by name. NaN counts as the least.
        candidates: How many.
        distributions: The search space, where it is known before the first trial.

    Raises:
        InputError: ``candidates`` is no whole number from 2 on, or the sampler goes through a list.
    """

    def __init__(
        self,
        sampler: optuna.samplers.BaseSampler,
        *,
        score: Callable[[Mapping[str, Any]], float],
        candidates: int = 4,
        distributions: Mapping[str, BaseDistribution] | None = None,
    ) -> None:
        check_number("proxies.candidates", candidates, whole=True, at_least=2)
        if isinstance(sampler, LISTS):
            raise InputError(
                f"proxies.gate: {type(sampler).__name__} goes through a list of points, of which a gate "
                "would leave out some for good. Take another strategy, or no gate."
            )
        self._sampler = sampler
        self._score, self._candidates = score, candidates
        self._distributions = dict(distributions or {})
        self._prepare()

    def _prepare(self) -> None:
        """Set what is not pickled."""
        self._lock = threading.Lock()
        self._archive = Archive()
        # what the other sampler proposes as one, by the number of the trial that asks
        self._joint: dict[int, dict[str, BaseDistribution]] = {}

    def __getstate__(self) -> dict[str, Any]:
        state = vars(self).copy()
        for name in ("_lock", "_archive", "_joint"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._prepare()

    def reseed_rng(self) -> None:
        """See the other sampler."""
        self._sampler.reseed_rng()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """See the other sampler."""
        self._sampler.before_trial(study, trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """See the other sampler."""
        self._sampler.after_trial(study, trial, state, values)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Every parameter of the search space, as far as it is known."""
        joint = self._sampler.infer_relative_search_space(study, trial)
        with self._lock:
            self._archive.read(study, asking=trial.number)
            self._joint[trial.number] = joint
            return self._distributions | self._archive.distributions | joint

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The best of the candidates."""
        # some of it may have been fixed since
        joint = self._joint.pop(trial.number, {})
        joint = {name: distribution for name, distribution in search_space.items() if name in joint}
        if not search_space:
            return {}
        candidates = [self._candidate(study, trial, joint, search_space) for _ in range(self._candidates)]
        return max(candidates, key=self._worth)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """See the other sampler."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def _candidate(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        joint: dict[str, BaseDistribution],
        search_space: Mapping[str, BaseDistribution],
    ) -> dict[str, Any]:
        point = self._sampler.sample_relative(study, trial, joint)
        alone = {
            name: self._sampler.sample_independent(study, trial, name, distribution)
            for name, distribution in search_space.items()
            if name not in point
        }
        return {**point, **alone}

    def _worth(self, point: Mapping[str, Any]) -> float:
        score = float(self._score(point))
        return -math.inf if math.isnan(score) else score
