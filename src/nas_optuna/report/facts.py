"""Report: everything worth telling of a study, read once from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.attributes import CURVE, INHERITS, LIKENESS, PROMOTES
from nas_optuna.estimation import COSTS, OTHER, PROXIES, SPANS, Objectives
from nas_optuna.record import CLASS_NAMES, IMAGES, RUNS
from nas_optuna.results import FINAL, TESTS, Timing, count_executions, group_of, ranking
from nas_optuna.space import Architecture, Space
from nas_optuna.storages import hide_password
from nas_optuna.study import CONFIGURATION, RETRY_OF, is_counted, is_feasible

MEASURES = (*COSTS, "latency")
TIMING = "timing.json"
ENQUEUED = "fixed_params"  # Optuna's system attribute of a trial that was queued


@dataclass(frozen=True)
class Row:
    """One trial.

    Attributes:
        number: Its number in the study.
        group: ``complete``, ``pruned``, ``failed``, ``infeasible``, ``reused`` or ``unfinished``, as
            ``summary.json`` counts them.
        accuracy: What it is worth; None unless it was judged to the end, or got an earlier one's value.
        values: The study's values; None where there are none.
        costs: ``macs``, ``params``, ``memory``, ``size``, ``latency``, as far as known.
        begin, end: Seconds of search until it began and ended, gaps between runs left out; None where it
            did not.
        seconds: From its begin to its end.
        curve: Validation accuracy by epoch.
        stopped_at: Epoch after which its training was stopped; None where it was not.
        why: Why it is infeasible, was stopped other than by the pruner, or failed; empty otherwise.
        counted: Whether it counts against ``n_trials``.
        queued: Whether it was queued, so that no strategy chose it.
        reused, promotes, retry_of, inherits: Numbers of the trials whose value it got, whose stopped training
            it took up, that it repeats, and whose weights it began with; None for none.
        likeness: How like its network is to that whose weights it began with, 0 to 1; None for none.
        network, hash: The architecture in a line, and its id; empty where it has none.
        parameters: What the strategy decided.
        proxies: Zero-cost proxies that the trial carries.
    """

    number: int
    group: str
    accuracy: float | None
    values: tuple[float, ...] | None
    costs: Mapping[str, float]
    begin: float | None
    end: float | None
    seconds: float | None
    curve: Mapping[int, float]
    stopped_at: int | None
    why: str
    counted: bool
    queued: bool
    reused: int | None
    promotes: int | None
    retry_of: int | None
    inherits: int | None
    likeness: float | None
    network: str
    hash: str
    parameters: Mapping[str, Any]
    proxies: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Facts:
    """A study, as reports, figures and comparisons need it.

    Attributes:
        study_name, storage, folder: Where it is; the storage's password is hidden.
        objectives: What was asked, limits included.
        seed: The search's.
        config: The configuration that the study carries; empty where it carries none.
        rows: Each trial, in order.
        ranking: Numbers of the front's trials, the winner first, then those compared with fresh seeds, then
            by accuracy; with one objective all finished networks within the limits. Equal ones once.
        fresh: Validation accuracies with fresh seeds, by number of the trial.
        test: The final training and its test, as ``summary.json`` has it; None where there was none.
        confusion: Test examples by their class, a row for each, and by the class that they were taken for;
            None where they were not counted.
        tests: How often networks of the study were tested.
        plan: Length of the trainings.
        spans: Seconds of all trials by what they went into.
        search_seconds, seconds: Of the search, and of everything.
        runs: What each run of the search left: see ``nas_optuna.record``. Empty in studies from before.
        executions: How many networks were computed in which way.
        input_shape, classes, class_names, images: What was learnt: shape of an input; how many classes, and
            their names, empty where they are not known; examples by split.
        distributions: Of the study's parameters.
        space: Says what a trial's network is.
    """

    study_name: str
    storage: str
    folder: Path
    objectives: Objectives
    seed: int
    config: Mapping[str, Any]
    rows: Sequence[Row]
    ranking: Sequence[int]
    fresh: Mapping[int, Sequence[float]]
    test: Mapping[str, Any] | None
    confusion: Sequence[Sequence[int]] | None
    tests: int
    plan: Mapping[str, Any]
    spans: Mapping[str, float]
    search_seconds: float
    seconds: float
    runs: Sequence[Mapping[str, Any]]
    executions: Mapping[str, int]
    input_shape: tuple[int, ...]
    classes: int
    class_names: Sequence[str]
    images: Mapping[str, int]
    distributions: Mapping[str, BaseDistribution]
    space: Space = field(repr=False)

    @property
    def winner(self) -> Row | None:
        """The network that was chosen, or would be; None where nothing was found."""
        return self.rows[self.ranking[0]] if self.ranking else None

    @property
    def has_front(self) -> bool:
        """Whether the ranking is a Pareto front."""
        return len(self.objectives.names) > 1

    @property
    def judged(self) -> list[Row]:
        """The rows with an accuracy of their own: trained to the end, within the limits."""
        return [row for row in self.rows if row.group == "complete" and row.accuracy is not None]

    @property
    def counts(self) -> dict[str, int]:
        """Trials by group, as ``summary.json`` has them."""
        groups = [row.group for row in self.rows]
        names = ("complete", "pruned", "failed", "infeasible", "reused")
        return {name: groups.count(name) for name in names}

    def architecture(self, row: Row) -> Architecture:
        """The network of a row that has all its parameters."""
        return self.space.at(row.parameters).canonical()


def gather(study: optuna.Study, *, objectives: Objectives, space: Space, folder: Path) -> Facts:
    """Read a study, a running one or a finished one; its trials are asked for once, its networks not built.

    Args:
        study: The study.
        objectives, space: Built from its configuration.
        folder: Where everything of the study lies; ``timing.json`` is read if it is there.
    """
    attributes = study.user_attrs
    trials = study.get_trials(deepcopy=False)
    config = json.loads(attributes.get(CONFIGURATION, "{}"))
    runs = attributes.get(RUNS, [])
    data = attributes.get("fingerprint", {}).get("data", {})
    clock = _Clock(runs, trials)
    distributions: dict[str, BaseDistribution] = {}
    for trial in trials:
        distributions |= trial.distributions
    return Facts(
        study_name=study.study_name,
        storage=hide_password(str(config.get("storage", f"sqlite:///{folder / 'study.db'}"))),
        folder=folder,
        objectives=objectives,
        seed=config.get("seed", 0),
        config=config,
        rows=[_read(trial, objectives, clock) for trial in trials],
        ranking=[trial.number for trial in ranking(study, objectives)],
        fresh=_fresh(attributes),
        test=attributes.get(FINAL, {}).get("test"),
        confusion=attributes.get(FINAL, {}).get("confusion"),
        tests=attributes.get(TESTS, 0),
        plan=attributes.get("plan", {}),
        spans=_spans(folder / TIMING),
        search_seconds=attributes.get("search_seconds", clock.last),
        seconds=attributes.get("seconds", clock.last),
        runs=runs,
        executions=count_executions(study),
        input_shape=tuple(data.get("input_shape", ())),
        classes=data.get("classes", 0),
        class_names=attributes.get(CLASS_NAMES, []),
        images=attributes.get(IMAGES, {}),
        distributions=distributions,
        space=space,
    )


class _Clock:
    """Seconds of search until a moment.

    Args:
        runs: What each run left; of studies from before that, the first trial begins the search.
        trials: Of the study.
    """

    def __init__(self, runs: Iterable[Mapping[str, Any]], trials: Sequence[FrozenTrial]) -> None:
        self._runs = [(datetime.fromisoformat(run["began"]), float(run["spent"])) for run in runs]
        moments = [trial.datetime_start for trial in trials if trial.datetime_start]
        if moments and (not self._runs or min(moments) < self._runs[0][0]):
            self._runs.insert(0, (min(moments), 0.0))
        ends = [self(trial.datetime_complete) for trial in trials]
        self.last = max((end for end in ends if end is not None), default=0.0)

    def __call__(self, moment: datetime | None) -> float | None:
        if moment is None or not self._runs:
            return None
        began, spent = max((run for run in self._runs if run[0] <= moment), default=self._runs[0])
        return max(0.0, spent + (moment - began).total_seconds())


def _read(trial: FrozenTrial, objectives: Objectives, clock: _Clock) -> Row:
    attributes = trial.user_attrs
    is_judged = trial.state == TrialState.COMPLETE and is_feasible(trial)
    reported = trial.intermediate_values or attributes.get(CURVE, {})
    curve = dict(sorted((int(step), float(value)) for step, value in reported.items()))
    group = group_of(trial)
    return Row(
        number=trial.number,
        group=group,
        accuracy=objectives.accuracy(trial) if is_judged else None,
        values=tuple(trial.values) if trial.values else None,
        costs={name: attributes[name] for name in MEASURES if name in attributes},
        begin=clock(trial.datetime_start),
        end=clock(trial.datetime_complete),
        seconds=trial.duration.total_seconds() if trial.duration else None,
        curve=curve,
        stopped_at=max(curve) if curve and group == "pruned" else None,
        why=str(attributes.get("infeasible") or attributes.get("stopped") or attributes.get("error") or ""),
        counted=is_counted(trial),
        queued=ENQUEUED in trial.system_attrs,
        reused=attributes.get("reused"),
        promotes=attributes.get(PROMOTES),
        retry_of=attributes.get(RETRY_OF),
        inherits=attributes.get(INHERITS),
        likeness=attributes.get(LIKENESS),
        network=attributes.get("network", ""),
        hash=attributes.get("hash", ""),
        parameters=trial.params,
        proxies={name: attributes[name] for name in PROXIES if name in attributes and name not in COSTS},
    )


def _fresh(attributes: Mapping[str, Any]) -> dict[int, list[float]]:
    names = (name.partition(":")[2] for name in attributes if name.startswith("fresh:"))
    return {int(number): attributes[f"fresh:{number}"] for number in sorted(names, key=int)}


def _spans(path: Path) -> dict[str, float]:
    try:
        totals = Timing(path).totals()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # not there, or not whole: nothing else depends on it
    return {name: totals[name] for name in (*SPANS, OTHER) if name in totals}
