"""Report: what follows from a study's facts: progress, chance, agreement, importance, kinds of layers."""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from scipy import stats

from nas_optuna.report.facts import Facts, Row
from nas_optuna.space import Architecture, Block
from nas_optuna.space.cells import EDGES, split_operations
from nas_optuna.strategy.auto import FEW
from nas_optuna.strategy.predictor import GOALS

FEWEST_TO_CORRELATE = 5
FEWEST_RANDOM = 5
FEWEST_FOR_IMPORTANCE = 20
FEWEST_FOR_KINDS = 12
MOST_KINDS = 10  # layers with their choices; more are told by the layer alone
_BEGINNINGS = ("n_startup_trials", "population_size")  # settings that say how many
CHANCE, OURS = "optuna.samplers.RandomSampler", ("choose_sampler", "PredictorSampler")


@dataclass(frozen=True)
class Step:
    """The state of a search after a trial that ended.

    Attributes:
        number: Of the trial.
        evaluations: Networks trained so far, as ``n_trials`` counts them.
        seconds: Of search so far.
        accuracy: What this trial is worth; None where it was not judged to the end.
        best: Of all so far; None as long as there is none.
    """

    number: int
    evaluations: int
    seconds: float
    accuracy: float | None
    best: float | None


@dataclass(frozen=True)
class Agreement:
    """How well something known early orders networks.

    Attributes:
        name: What is known: an epoch, a cost, a proxy.
        kendall, spearman: Rank correlations with the accuracy in the end.
        networks: How many they were counted over.
    """

    name: str
    kendall: float
    spearman: float
    networks: int


@dataclass(frozen=True)
class Kinds:
    """Which kinds of layers stand where.

    Attributes:
        places: Depths from the input, or the edges of a cell.
        names: Kinds, the most frequent first.
        best, all: Number of networks that have a kind at a place, (places, kinds), among the best quarter of
            the networks that were judged and among all of them.
        of_best, of_all: How many networks these are.
    """

    places: Sequence[str]
    names: Sequence[str]
    best: NDArray[np.int64]
    all: NDArray[np.int64]
    of_best: int
    of_all: int


def progress(facts: Facts) -> list[Step]:
    """The search trial by trial, in the order in which they ended."""
    ended = [row for row in facts.rows if row.end is not None and row.group != "unfinished"]
    steps: list[Step] = []
    evaluations, best = 0, None
    for row in sorted(ended, key=lambda row: (row.end or 0.0, row.number)):
        # a failed one is free: it is tried again
        evaluations += row.counted and row.group != "failed"
        accuracy = row.accuracy
        if accuracy is not None:
            best = accuracy if best is None else max(best, accuracy)
        steps.append(Step(row.number, evaluations, row.end or 0.0, accuracy, best))
    return steps


def random_rows(facts: Facts) -> list[Row]:
    """The trained networks that the strategy drew at random, in order; empty where it is not known to.

    All of a random search, the first ones of a strategy that begins at random; not what the end of the time
    stopped, which says nothing of it.
    """
    strategy: Mapping[str, Any] = facts.config.get("strategy") or {}
    sampler = str(strategy.get("_target_", ""))
    first = len(facts.rows) if sampler == CHANCE else _beginning(facts, sampler, strategy)
    drawn = [row for row in facts.rows[:first] if row.counted and not row.queued]
    return [row for row in drawn if row.group in ("complete", "pruned") and not row.why]


def _beginning(facts: Facts, sampler: str, strategy: Mapping[str, Any]) -> int:
    """How many trials a strategy draws at random first; none sees more trials than came before it."""
    for size in map(strategy.get, _BEGINNINGS):
        if isinstance(size, int):
            return size
    goal = strategy.get("goal", "best")
    if sampler.endswith(".choose_sampler"):
        # what the first run asked for: a later one may have raised it
        n_trials = facts.runs[0].get("n_trials") if facts.runs else strategy.get("n_trials")
        goal = "best" if n_trials is not None and n_trials > FEW else "fast"
    is_ours = sampler.removeprefix("nas_optuna.strategy.") in OURS and goal in GOALS
    return GOALS[goal].startup if is_ours else 0


def expected_best(accuracies: Sequence[float]) -> list[float]:
    """The best of n networks drawn from some, on average, for n from 1 to their number.

    The exact mean over all samples with replacement (Dodge et al. 2019, section 3.1), so at all of them a
    little below their best.
    """
    ordered = np.sort(np.asarray(accuracies, dtype=float))
    ranks = np.arange(len(ordered) + 1) / len(ordered)
    return [float(ordered @ np.diff(ranks**count)) for count in range(1, len(ordered) + 1)]


def chance(facts: Facts) -> list[float]:
    """``expected_best`` of the study's own random networks; empty where there are too few.

    One that was pruned counts as the worst that was not: less than that it hardly is, and its accuracy at an
    early epoch would make luck look worse than it is.
    """
    rows = random_rows(facts)
    judged = [row.accuracy for row in rows if row.accuracy is not None]
    if len(rows) < FEWEST_RANDOM or not judged:
        return []
    return expected_best([*judged, *[min(judged)] * (len(rows) - len(judged))])


def agreement_of_epochs(facts: Facts) -> list[Agreement]:
    """How each epoch but the last orders the networks that were trained to the end."""
    judged = [row for row in facts.judged if row.curve]
    epochs = sorted({epoch for row in judged for epoch in row.curve})
    pairs = (
        (epoch, [(row.curve[epoch], row.accuracy or 0.0) for row in judged if epoch in row.curve])
        for epoch in epochs[:-1]
    )
    return [found for epoch, values in pairs if (found := _agree(str(epoch), values))]


def agreement_of_measures(facts: Facts) -> list[Agreement]:
    """How costs and the proxies that trials carry order the networks that were trained to the end."""
    judged = facts.judged
    names = dict.fromkeys(name for row in judged for name in (*row.costs, *row.proxies))
    found = []
    for name in names:
        known = [({**row.costs, **row.proxies}.get(name), row.accuracy or 0.0) for row in judged]
        values = [(float(measure), accuracy) for measure, accuracy in known if measure is not None]
        if agreement := _agree(name, values):
            found.append(agreement)
    return found


def _agree(name: str, pairs: Sequence[tuple[float, float]]) -> Agreement | None:
    if len(pairs) < FEWEST_TO_CORRELATE:
        return None
    early, late = np.asarray(pairs).T
    if not np.isfinite(early).all() or np.ptp(early) == 0 or np.ptp(late) == 0:
        return None
    kendall, spearman = stats.kendalltau(early, late).statistic, stats.spearmanr(early, late).statistic
    return Agreement(name, float(kendall), float(spearman), len(pairs))


@functools.lru_cache(maxsize=1)
def importances(facts: Facts) -> dict[str, float]:
    """How much each decision matters for an accuracy in the best tenth, adding up to 1, the largest first.

    PED-ANOVA (Watanabe et al. 2023) over the networks that were trained to the end; empty where these are
    too few.
    """
    judged = facts.judged
    accuracies = {row.accuracy for row in judged}
    if len(judged) < FEWEST_FOR_IMPORTANCE or len(accuracies) < 2:
        return {}
    study = _new_study()
    study.add_trials(
        [
            optuna.trial.create_trial(
                params=dict(row.parameters),
                distributions={name: facts.distributions[name] for name in row.parameters},
                value=row.accuracy,
            )
            for row in judged
        ]
    )
    with warnings.catch_warnings():
        # of a network that is the only one with some decision, which is no one's fault
        warnings.simplefilter("ignore")
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
        )
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _new_study() -> optuna.Study:
    """One in memory, of which nobody is told."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(direction="maximize")
    finally:
        optuna.logging.set_verbosity(verbosity)


def kinds(facts: Facts) -> Kinds | None:
    """Which kinds of layers the best quarter of the networks has where; None where there are too few."""
    distinct = {row.hash: row for row in facts.judged}
    rows = sorted(distinct.values(), key=lambda row: row.accuracy or 0.0, reverse=True)
    if len(rows) < FEWEST_FOR_KINDS:
        return None
    networks = [_places(facts.architecture(row)) for row in rows]
    detailed = Counter(kind for network in networks for _, kind, _ in network)
    index = 1 if len(detailed) <= MOST_KINDS else 2
    frequent = Counter(words[index] for network in networks for words in network)
    names = [name for name, _ in frequent.most_common()]
    places = list(dict.fromkeys(words[0] for network in sorted(networks, key=len) for words in network))
    table = np.zeros((len(networks), len(places), len(names)), dtype=np.int64)
    for number, network in enumerate(networks):
        for words in network:
            table[number, places.index(words[0]), names.index(words[index])] = 1
    of_best = math.ceil(len(rows) / 4)
    return Kinds(places, names, table[:of_best].sum(axis=0), table.sum(axis=0), of_best, len(rows))


def _places(network: Architecture) -> list[tuple[str, str, str]]:
    """Where, which layer with its choices, which layer alone."""
    cells = [block for block in network.blocks if block.layer == "cell"]
    if cells:
        operations = split_operations(str(cells[0]["operations"]))
        edges = [f"{start} → {end}" for start, end in EDGES]
        return [(edge, name, name) for edge, name in zip(edges, operations, strict=True)]
    return [
        (str(depth), _kind(block), block.layer) for depth, block in zip(itertools.count(1), network.blocks)
    ]


def _kind(block: Block) -> str:
    bare = replace(block, width=0, stride=1, residual=False, downsampling="stride")
    return str(bare).removesuffix("-0")
