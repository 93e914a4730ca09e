"""Search strategy: a surrogate learns what makes a point good, and ranks candidates by what they promise."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from scipy.special import erfcx, log_ndtr, ndtr, ndtri

from nas_optuna.errors import check_one_of
from nas_optuna.strategy.archive import Evaluation
from nas_optuna.strategy.description import Describe
from nas_optuna.strategy.encoding import Encoding
from nas_optuna.strategy.parameters import Point
from nas_optuna.strategy.sampler import Parameters, PointSampler
from nas_optuna.strategy.surrogate import Array, GaussianProcess, one_thread

FAILED = "failed"  # that a trial does not fail is one more constraint


@dataclass(frozen=True)
class Goal:
    """What is to be had for the trials.

    Attributes:
        startup: Random trials before the first prediction.
        boldness: How much of a prediction's uncertainty counts as a chance.
    """

    startup: int
    boldness: float


GOALS = {"fast": Goal(startup=5, boldness=0.2), "best": Goal(startup=10, boldness=1.0)}
MOST_FITTED = 200  # evaluations that the surrogate learns from: a fit takes the third power of that
PARENTS = 10  # the best so far, which candidates descend from
CHILDREN, STRANGERS = 300, 200  # candidates: descendants, and random ones
CROSSED = 0.25  # of the descendants have two parents
SINGLE = 0.6  # of the descendants have one change, of the others again so many two, and so on
# of a hypervolume: directions in which it is measured, and draws of what a candidate may be worth
DIRECTIONS, DRAWS = 128, 16


class PredictorSampler(PointSampler):
    """Bayesian optimisation over architectures: a Gaussian process predicts, expected improvement chooses.

    A surrogate learns from the parameters, from how often each option is chosen among parameters that
    have the same, and from what ``describe`` tells. Candidates are mutations and crossings of the best
    so far and random points. The one with the largest expected improvement is next, or with several
    objectives the largest expected gain of hypervolume (White et al. 2021 compare such choices).

    Values are replaced by the normal scores of their ranks: outliers, such as networks that do not
    learn at all, don't drown the differences that matter. What was pruned ranks behind all that was
    finished, the further it got the better. Constraints are predicted as well, and so is failing; a
    candidate counts by the probability that it keeps them, and does not fail. Points that run count as
    if they had brought what is predicted for them (the kriging believer: Ginsbourger et al. 2010), so that
    workers don't meet.

    Args:
        n_startup_trials: So many trials are drawn at random first, more where half of them have not
            finished by then; None for 5 where the goal is ``fast``, 10 where it is ``best``.
        goal: ``fast`` for a good point soon: candidates count by what is predicted for them. ``best`` for
            the best in the end: what is uncertain is a chance.
        seed: Of the sampler's random numbers; None for others each time.
        describe: Tells of a point, its parameters by name, what it is; None where nothing is known
            beside its parameters.

    Raises:
        InputError: ``n_startup_trials`` is not a positive whole number, or the goal is unknown.
    """

    def __init__(
        self,
        *,
        n_startup_trials: int | None = None,
        goal: str = "best",
        seed: int | None = None,
        describe: Describe | None = None,
    ) -> None:
        check_one_of("strategy.goal", goal, tuple(GOALS))
        self._goal = GOALS[goal]
        startup = self._goal.startup if n_startup_trials is None else n_startup_trials
        super().__init__(n_startup_trials=startup, seed=seed, describe=describe)

    def _begin(self) -> None:
        super()._begin()
        self._encoding: Encoding | None = None
        self._layout: dict[str, BaseDistribution] = {}
        self._strangers: list[Point] = []
        self._processes: dict[str, GaussianProcess] = {}
        self._learned: dict[str, int] = {}

    def _is_early(self) -> bool:
        # random points that run will be known soon: with many workers half of them are enough to begin
        finished = len(self._archive.evaluations)
        startup = self._n_startup_trials
        return 2 * finished < startup or finished + len(self._archive.running) < startup

    def _propose(self, parameters: Parameters) -> Point:
        self._lay_out(parameters)
        candidates = self._candidates(parameters)
        if not candidates:
            return self._draw(parameters)
        known = self._instructive()
        running = self._archive.running[-MOST_FITTED // 2 :]
        with one_thread():
            self._encode(known, running, [candidate for candidate, _ in candidates])
            worth = self._worth(known) + self._likely_feasible(known)
        # equal ones in no order
        order = np.lexsort((self._random.random(len(worth)), -worth))
        ranked = [candidates[int(index)][1] for index in order]
        return next((point for point in ranked if self._is_allowed(point)), ranked[0])

    def _candidates(self, parameters: Parameters) -> list[tuple[Point, Point]]:
        """Points that are new: as far as they are known to be asked for, and complete."""
        parents = self._parents()
        children = [self._descend(parents, parameters) for _ in range(CHILDREN if parents else 0)]
        # most of the random ones stay: describing a point takes longer than ranking it
        kept = self._strangers[len(self._strangers) // 4 :]
        fresh = [self._complete({}, parameters) for _ in range(STRANGERS - len(kept))]
        self._strangers = [*kept, *fresh]
        found: dict[tuple[float, ...], tuple[Point, Point]] = {}
        for point in chain(children, self._strangers):
            complete = self._complete(point, parameters)
            if not self._is_known(complete):
                found.setdefault(tuple(complete.values()), (point, complete))
        return list(found.values())

    def _parents(self) -> list[Point]:
        evaluations, front = self._archive.evaluations, self._archive.front
        if front and len(front[0].values) > 1:
            return [evaluation.point for evaluation in front]
        best = heapq.nlargest(PARENTS, evaluations, key=lambda evaluation: evaluation.standing)
        return [evaluation.point for evaluation in best]

    def _descend(self, parents: Sequence[Point], parameters: Parameters) -> Point:
        """A parent with a change, or a few; in one of four times after a crossing with another parent."""
        parent, other = (parents[int(index)] for index in self._random.integers(len(parents), size=2))
        child = {name: value for name, value in parent.items() if name in parameters}
        if self._random.random() < CROSSED:
            child |= {name: other[name] for name in child if name in other and self._random.random() < 0.5}
        movable = [name for name in child if parameters[name].levels != 1]
        for _ in range(int(self._random.geometric(SINGLE)) if movable else 0):
            name = movable[int(self._random.integers(len(movable)))]
            if parameters[name].contains(child[name]):
                child[name] = parameters[name].change(child[name], self._random)
        return {name: value for name, value in child.items() if parameters[name].contains(value)}

    def _instructive(self) -> list[Evaluation]:
        """What the surrogate learns from: where there is too much, the best half and others at random."""
        evaluations = self._archive.evaluations
        if len(evaluations) <= MOST_FITTED:
            return list(evaluations)
        half = MOST_FITTED // 2
        best = self._archive.front[-half:] if self._has_several() else []
        best += heapq.nlargest(half - len(best), evaluations, key=lambda evaluation: evaluation.standing)
        others = self._random.choice(len(evaluations), size=MOST_FITTED, replace=False)
        chosen = {id(evaluation): evaluation for evaluation in chain(best, (evaluations[i] for i in others))}
        return list(chosen.values())[:MOST_FITTED]

    def _features(self, point: Point) -> tuple[float, ...]:
        return () if self.describe is None else self._described(point).features

    def _telling(self, point: Point) -> Point:
        """The parameters of a point that say something."""
        void = frozenset() if self.describe is None else self._described(point).void
        return {name: value for name, value in point.items() if name not in void} if void else point

    def _has_several(self) -> bool:
        return any(len(evaluation.values) > 1 for evaluation in self._archive.front[:1])

    def _lay_out(self, parameters: Parameters) -> None:
        """Make the surrogates anew where the search space changed; else they go on from what they learned."""
        layout = {name: parameter.distribution for name, parameter in parameters.items()}
        if self._encoding is None or layout != self._layout:
            self._layout = layout
            self._encoding = Encoding(
                parameters, features=len(self._features(self._archive.evaluations[0].point))
            )
            self._strangers, self._processes, self._learned = [], {}, {}

    def _encode(
        self, known: Sequence[Evaluation], running: Sequence[Point], candidates: Sequence[Point]
    ) -> None:
        assert self._encoding is not None
        points = [evaluation.point for evaluation in known]
        values = self._encoding.values([self._telling(point) for point in chain(points, running, candidates)])
        features = np.array(
            [self._features(point) for point in chain(points, running, candidates)], dtype=float
        )
        features = features.reshape(len(values), -1)
        self._encoding.standardize(values[: len(points)], features[: len(points)])
        ends = [len(points), len(points) + len(running)]
        parts = [np.split(columns, ends) for columns in self._encoding(values, features)]
        self._known, self._running, self._offered = (
            [columns[index] for columns in parts] for index in range(3)
        )

    def _predict(
        self, name: str, chosen: Sequence[bool] | NDArray[np.bool_], targets: Array
    ) -> tuple[Array, Array]:
        """Mean and deviation at the candidates, from targets of the chosen among the known."""
        assert self._encoding is not None
        process = self._processes.setdefault(name, GaussianProcess(self._encoding.components))
        inputs = [columns[np.array(chosen)] for columns in self._known]
        count, learned = len(self._archive.evaluations), self._learned.get(name, 0)
        learn = count >= learned + max(1, learned // 20)
        if learn:
            self._learned[name] = count
        process.fit(inputs, targets, learn=learn)
        if len(self._running[0]):
            # what is believed of them changes no prediction, but less is left to be learned there
            believed, _ = process.predict(self._running)
            both = [np.concatenate(pair) for pair in zip(inputs, self._running, strict=True)]
            process.fit(both, np.concatenate([targets, believed]), learn=False)
        return process.predict(self._offered)

    def _worth(self, known: Sequence[Evaluation]) -> Array:
        """Logarithm of what a candidate is expected to improve."""
        chosen = [evaluation.violation <= 0 and not evaluation.has_failed for evaluation in known]
        if self._has_several():
            chosen = [
                is_chosen and bool(evaluation.values or evaluation.stopped_at)
                for is_chosen, evaluation in zip(chosen, known, strict=True)
            ]
        judged = [evaluation for evaluation, is_judged in zip(known, chosen, strict=True) if is_judged]
        if len(judged) < 2:
            return np.zeros(len(self._offered[0]))
        boldness = self._goal.boldness
        if not self._has_several():
            scores = _normal_scores([evaluation.standing for evaluation in judged])
            mean, deviation = self._predict("value", chosen, scores)
            return _log_expected_improvement(mean, boldness * deviation, float(scores.max()))
        # one that was stopped would have become better, but not so good as to matter
        columns = zip(*(evaluation.values or evaluation.stopped_at for evaluation in judged), strict=True)
        scores = np.stack([_normal_scores(column) for column in columns], axis=1)
        predictions = [
            self._predict(f"value {index}", chosen, column) for index, column in enumerate(scores.T)
        ]
        mean, deviation = (np.stack(part, axis=1) for part in zip(*predictions, strict=True))
        gain = _expected_gain(mean, boldness * deviation, scores, self._random)
        return np.log(np.maximum(gain, 1e-300))

    def _likely_feasible(self, known: Sequence[Evaluation]) -> Array:
        """Logarithm of the probability that a candidate keeps all constraints, and does not fail."""
        total = np.zeros(len(self._offered[0]))
        failed = {FAILED: [1.0 if evaluation.has_failed else -1.0 for evaluation in known]}
        names = dict.fromkeys(chain.from_iterable(evaluation.constraints for evaluation in known))
        told = {name: [evaluation.constraints.get(name, math.nan) for evaluation in known] for name in names}
        for name, excess in (told | failed).items():
            chosen = np.isfinite(excess)
            known_excess = np.array(excess)[chosen]
            if len(known_excess) > 1 and known_excess.max() > 0:
                # zero stays where it is, what is far away comes nearer
                targets = np.arcsinh(known_excess / np.median(np.abs(known_excess[known_excess != 0])))
                mean, deviation = self._predict(f"constraint {name}", chosen, targets)
                total += log_ndtr(-mean / deviation)
        return total


def _normal_scores(keys: Sequence[Any]) -> Array:
    """Quantiles of the standard normal distribution that take the keys' places in their order."""
    order = {key: place for place, key in enumerate(sorted(set(keys)))}
    # scipy.stats has ranks as well, and takes half a second to import
    places = np.array([order[key] for key in keys])
    counts = np.bincount(places)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    scores: Array = ndtri((ranks - 0.5) / len(ranks))
    return scores


def _log_expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """Logarithm of the expected improvement on ``best``, stable where that is next to nothing.

    From z = (mean - best) / deviation: log(deviation) + log(z cdf(z) + pdf(z)) (Ament et al. 2023).
    """
    z = (mean - best) / deviation
    near, far = np.maximum(z, -5.0), np.minimum(z, -5.0)
    share = near * ndtr(near) + np.exp(-0.5 * near * near) / math.sqrt(2 * math.pi)
    # z cdf(z) / pdf(z) by the scaled complementary error function; from -5 on it is near -1
    tail = 1.0 + far * math.sqrt(math.pi / 2) * erfcx(-far / math.sqrt(2))
    # which tends to 1 / z^2
    tail = np.where(far < -1e3, 1.0 / (far * far), tail)
    density = -0.5 * far * far - 0.5 * math.log(2 * math.pi)
    log_share = np.where(z > -5.0, np.log(share), density + np.log(np.maximum(tail, 1e-300)))
    improvement: Array = np.log(deviation) + log_share
    return improvement


def _expected_gain(mean: Array, deviation: Array, scores: Array, random: np.random.Generator) -> Array:
    """Expected gain of hypervolume, but for a factor, by random scalarisations (Golovin and Zhang 2020).

    A hypervolume is the mean over directions of how far a front reaches in each, to the power of the
    number of objectives.

    Args:
        mean, deviation: Of the candidates, shape ``[candidates, objectives]``.
        scores: Of what is known, shape ``[points, objectives]``.
        random: Draws directions and the candidates' worth.
    """
    objectives = mean.shape[1]
    low = scores.min(axis=0) - 0.1 * (scores.max(axis=0) - scores.min(axis=0)) - 1e-6
    directions = np.abs(random.normal(size=(DIRECTIONS, objectives)))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)

    inverse = 1.0 / np.maximum(directions, 1e-9)

    def reach(values: Array) -> Array:
        above = np.maximum(values - low, 0.0)
        lengths = np.outer(above[:, 0], inverse[:, 0])
        for index in range(1, objectives):
            np.minimum(lengths, np.outer(above[:, index], inverse[:, index]), out=lengths)
        return np.asarray(lengths**objectives)

    best = reach(scores).max(axis=0)
    gain = np.zeros(len(mean))
    for draw in random.normal(size=(DRAWS, objectives)):
        gain += np.maximum(reach(mean + deviation * draw) - best, 0.0).mean(axis=1)
    return gain / DRAWS
