from __future__ import annotations

import math
import pickle
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from nas_optuna.errors import InputError
from nas_optuna.estimation import CurvePruner, LearningCurve, ParetoPruner, SuccessiveHalvingPruner
from nas_optuna.strategy import EvolutionSampler, LocalSearchSampler, PredictorSampler

STEPS = {"every": range(1, 28), "every third": range(3, 28, 3), "few": (1, 5, 26)}


def stops(pruner: optuna.pruners.BasePruner, steps: Iterable[int]) -> list[int | None]:
    """At which step each of 30 trials with random curves was stopped."""
    study = optuna.create_study(direction="maximize", pruner=pruner)
    curves = np.random.default_rng(0).random((30, 28)).cumsum(axis=1)
    found: list[int | None] = []
    for curve in curves:
        trial, stopped = study.ask(), None
        for step in steps:
            trial.report(curve[step], step)
            if trial.should_prune():
                stopped = step
                break
        found.append(stopped)
        study.tell(trial, None if stopped else curve[-1], TrialState.PRUNED if stopped else None)
    return found


@pytest.mark.parametrize("options", [{}, {"min_early_stopping_rate": 1}, {"bootstrap_count": 2}])
@pytest.mark.parametrize("steps", STEPS)
def test_successive_halving_decides_as_optuna_does(steps: str, options: dict[str, int]) -> None:
    expected = stops(optuna.pruners.SuccessiveHalvingPruner(2, 3, **options), STEPS[steps])
    assert stops(SuccessiveHalvingPruner(2, 3, **options), STEPS[steps]) == expected
    assert len(set(expected)) > 1


def test_successive_halving_reads_the_storage_at_rungs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, pruner=SuccessiveHalvingPruner(2, 3))
    read, reads = storage.get_trial_system_attrs, []
    monkeypatch.setattr(storage, "get_trial_system_attrs", lambda key: reads.append(key) or read(key))
    trial, asked = study.ask(), []
    for step in range(1, 10):
        trial.report(0.0, step)
        reads.clear()
        trial.should_prune()
        if reads:
            asked.append(step)
    assert asked == [2, 6]


def test_successive_halving_wants_a_first_rung() -> None:
    with pytest.raises(InputError, match=r"estimation\.pruner\.min_resource: 0 must be a whole number"):
        SuccessiveHalvingPruner(0, 3)


def rising(count: int, *, first_ranks: bool, seed: int = 0) -> np.ndarray:
    """Curves of 16 epochs that rise to their end; the first epoch ranks, or is chance."""
    random = np.random.default_rng(seed)
    end = random.uniform(0.3, 0.9, size=count)
    epochs = np.arange(1, 17)
    curves = end[:, None] * (1 - 0.5 / epochs) + 0.003 * random.normal(size=(count, 16))
    if not first_ranks:
        curves[:, 0] = 0.1 + 0.01 * random.normal(size=count)
    return curves


def replay(
    pruner: optuna.pruners.BasePruner,
    curves: np.ndarray,
    *,
    direction: str = "maximize",
    start: int = 1,
    storage: optuna.storages.BaseStorage | str | None = None,
) -> list[int]:
    """How many epochs of each curve were trained."""
    study = optuna.create_study(direction=direction, pruner=pruner, storage=storage)
    trained = []
    for curve in curves:
        trial = study.ask()
        for epoch, value in enumerate(curve, start=1):
            trial.report(value, epoch - 1 + start)
            if epoch < len(curve) and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, curve[-1])
        trained.append(epoch)
    return trained


def test_curve_pruner_stops_at_once_where_the_first_epoch_ranks() -> None:
    trained = replay(CurvePruner(), rising(100, first_ranks=True))
    assert np.mean(np.array(trained[20:]) == 1) > 0.6


def test_curve_pruner_waits_where_the_first_epoch_is_chance() -> None:
    trained = np.array(replay(CurvePruner(), rising(300, first_ranks=False))[100:])
    assert np.mean(trained == 1) < 0.25
    assert np.mean(trained == 2) > 0.4


@pytest.mark.parametrize("first_ranks", [True, False])
def test_curve_pruner_finds_the_best_for_a_fraction_of_the_epochs(first_ranks: bool) -> None:
    curves = rising(200, first_ranks=first_ranks)
    trained = np.array(replay(CurvePruner(), curves))
    kept = curves[trained == 16, -1]
    assert kept.max() >= np.sort(curves[:, -1])[-3]
    assert trained.sum() < 0.3 * curves.size


def test_curve_pruner_stops_none_before_one_is_complete() -> None:
    curves = rising(4, first_ranks=True)
    study = optuna.create_study(direction="maximize", pruner=CurvePruner())
    trials = [study.ask() for _ in curves]
    for epoch in range(15):
        for trial, curve in zip(trials, curves, strict=True):
            trial.report(curve[epoch], epoch + 1)
            assert not trial.should_prune()


class Counted(optuna.storages.InMemoryStorage):
    """Counts the looks at all trials, each of which takes as long as ``clock`` says."""

    def __init__(self, clock: Any) -> None:
        super().__init__()
        self.looks = 0
        self._clock = clock

    def get_all_trials(self, *arguments: Any, **named: Any) -> Any:
        self.looks += 1
        self._clock.now += self._clock.look
        return super().get_all_trials(*arguments, **named)


def looks_at_rungs(monkeypatch: pytest.MonkeyPatch, *, look: float, between: float) -> list[int]:
    """How often the study is read at each epoch of a curve that goes on; a look takes so many seconds."""
    clock = SimpleNamespace(now=0.0, look=look)
    for name in ("monotonic", "thread_time"):
        monkeypatch.setattr(f"nas_optuna.pace.time.{name}", lambda: clock.now)
    storage = Counted(clock)
    study = optuna.create_study(direction="maximize", pruner=CurvePruner(), storage=storage)
    curve = np.linspace(0.1, 0.9, 16)
    trials = [optuna.trial.create_trial(value=0.9, intermediate_values=dict(enumerate(curve, start=1)))]
    study.add_trials(trials * 10)
    trial, found = study.ask(), []
    for epoch, value in enumerate(curve, start=1):
        clock.now += between
        before = storage.looks
        trial.report(value, epoch)
        trial.should_prune()
        found.append(storage.looks - before)
    return found


def test_curve_pruner_reads_a_slow_storage_at_the_first_rung_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    found = looks_at_rungs(monkeypatch, look=0.25, between=1.0)
    assert found[0] == 1
    assert sum(found) == 1


def test_curve_pruner_reads_a_quick_storage_at_each_rung(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(looks_at_rungs(monkeypatch, look=0.0001, between=1.0)) > 2


def test_curve_pruner_knows_what_ended_before_a_trial_began_however_slow_the_storage_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(now=0.0, look=5.0)
    for name in ("monotonic", "thread_time"):
        monkeypatch.setattr(f"nas_optuna.pace.time.{name}", lambda: clock.now)
    slow, quick = CurvePruner(), CurvePruner()
    curves = rising(60, first_ranks=True)
    expected = replay(quick, curves)
    assert replay(slow, curves, storage=Counted(clock)) == expected


@pytest.mark.parametrize("pruner", [CurvePruner, ParetoPruner])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_what_diverged_is_stopped_at_once(pruner: type[optuna.pruners.BasePruner], value: float) -> None:
    assert replay(pruner(), np.array([[0.5, value, 0.6]])) == [2]


def test_curve_pruner_decides_alike_in_both_directions_and_from_step_zero() -> None:
    curves = rising(40, first_ranks=True)
    expected = replay(CurvePruner(), curves)
    assert replay(CurvePruner(), -curves, direction="minimize", start=0) == expected


def test_curve_pruner_takes_up_a_study_where_another_process_left_it(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(direction="maximize", storage=address, study_name="s")
    for curve in rising(30, first_ranks=True):
        trial = study.ask()
        for epoch, value in enumerate(curve, start=1):
            trial.report(value, epoch)
        study.tell(trial, curve[-1])
    pruner = pickle.loads(pickle.dumps(CurvePruner()))
    other = optuna.load_study(storage=address, study_name="s", pruner=pruner)
    # some go on by chance, to see whether that was right
    hopeless = []
    for _ in range(10):
        trial = other.ask()
        trial.report(0.1, 1)
        hopeless.append(trial.should_prune())
    assert sum(hopeless) >= 7


def test_a_rival_counts_although_it_has_no_curve() -> None:
    """A network that is told at once, as an equal of an earlier one, has none."""
    decisions = []
    for rival in (0.0, 1.1):
        study = optuna.create_study(direction="maximize", pruner=ParetoPruner())
        curves = rising(30, first_ranks=True)
        for curve in curves:
            trial = study.ask()
            for epoch, value in enumerate(curve, start=1):
                trial.report(value, epoch)
            study.tell(trial, curve[-1])
        study.tell(study.ask(), rival)
        trial = study.ask()
        for epoch, value in enumerate(curves[curves[:, -1].argmax(), :8], start=1):
            trial.report(value, epoch)
        decisions.append(trial.should_prune())
    assert decisions == [False, True]


def front_study(pruner: optuna.pruners.BasePruner, **options: Any) -> optuna.Study:
    return optuna.create_study(directions=["maximize", "minimize"], pruner=pruner, **options)


def networks(count: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Curves of 8 epochs and costs: dear networks are better in the end, and learn more slowly."""
    random = np.random.default_rng(seed)
    costs = random.uniform(1.0, 10.0, size=count)
    end = 0.5 + 0.04 * costs - random.exponential(0.1, size=count)
    slowness = 0.2 + 0.08 * costs
    curves = end[:, None] * (1 - slowness[:, None] / np.arange(1, 9)) + 0.003 * random.normal(size=(count, 8))
    return curves, costs


def search_front(
    study: optuna.Study, curves: np.ndarray, costs: np.ndarray, losses: np.ndarray | None = None
) -> list[int]:
    """The README's way: how many epochs of each network were trained."""
    trained = []
    lost = np.full_like(curves, np.nan) if losses is None else losses
    for values, told, cost in zip(curves, lost, costs, strict=True):
        trial = study.ask()
        curve = LearningCurve(trial, values=(None, cost))
        for epoch, (accuracy, loss) in enumerate(zip(values, told, strict=True), start=1):
            curve.report(accuracy, epoch, loss=loss)
            if epoch < len(values) and curve.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, (values[-1], cost))
        trained.append(epoch)
    return trained


def on_front(values: np.ndarray, costs: np.ndarray) -> np.ndarray:
    rivals = (costs <= costs[:, None]) & (values > values[:, None])
    return np.asarray(~rivals.any(axis=1))


@pytest.mark.parametrize("pruner", [CurvePruner, ParetoPruner])
@pytest.mark.parametrize("seed", range(6))
def test_front_stays_whole_for_a_part_of_the_epochs(pruner: Any, seed: int) -> None:
    curves, costs = networks(120, seed=seed)
    trained = np.array(search_front(front_study(pruner()), curves, costs))
    assert np.all(trained[on_front(curves[:, -1], costs)] == 8)
    assert trained.sum() < 0.75 * curves.size


def test_plain_two_objective_study_prunes_on_the_curve() -> None:
    """All that a study of anyone's needs; the README shows it."""
    curves, costs = networks(60)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        index = trial.suggest_int("network", 0, 59)
        curve = LearningCurve(trial, values=(None, costs[index]))
        for epoch, accuracy in enumerate(curves[index], start=1):
            curve.report(accuracy, epoch)
            if curve.should_prune():
                raise optuna.TrialPruned
        return float(curves[index, -1]), float(costs[index])

    study = optuna.create_study(
        directions=["maximize", "minimize"],
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=ParetoPruner(),
    )
    study.optimize(objective, n_trials=60)
    pruned = study.get_trials(states=(TrialState.PRUNED,))
    assert len(pruned) > 15
    reported = {trial.params["network"]: trial.user_attrs["curve"] for trial in pruned}
    assert all(0 < len(curve) < 8 for curve in reported.values())
    assert all(curve["1"] == curves[index, 0] for index, curve in reported.items())


SAMPLERS = {
    "random": lambda: optuna.samplers.RandomSampler(seed=0),
    "tpe": lambda: optuna.samplers.TPESampler(seed=0, multivariate=True, n_startup_trials=10),
    "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=0, population_size=10),
    "nsga3": lambda: optuna.samplers.NSGAIIISampler(seed=0, population_size=10),
    "gp": lambda: optuna.samplers.GPSampler(seed=0, n_startup_trials=32),
    "qmc": lambda: optuna.samplers.QMCSampler(seed=0),
    "evolution": lambda: EvolutionSampler(seed=0),
    "local": lambda: LocalSearchSampler(seed=0, n_startup_trials=10),
    "predictor": lambda: PredictorSampler(seed=0, n_startup_trials=10),
}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_pareto_pruner_works_with_every_sampler(sampler: str) -> None:
    study = front_study(ParetoPruner(0.02), sampler=SAMPLERS[sampler]())

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        quality = trial.suggest_float("quality", 0.0, 1.0)
        cost = trial.suggest_float("cost", 1.0, 10.0)
        curve = LearningCurve(trial, values=(None, cost))
        for epoch in range(1, 9):
            curve.report((0.5 + 0.04 * cost - 0.3 * quality) * (1 - 0.5 / epoch), epoch)
            if epoch < 8 and curve.should_prune():
                raise optuna.TrialPruned
        return (0.5 + 0.04 * cost - 0.3 * quality) * (1 - 0.5 / 8), cost

    study.optimize(objective, n_trials=40)
    states = [trial.state for trial in study.trials]
    assert {TrialState.COMPLETE, TrialState.PRUNED} == set(states)


def test_processes_share_what_pareto_pruner_learns(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/study.db"
    curves, costs = networks(40)
    search_front(front_study(optuna.pruners.NopPruner(), storage=address, study_name="s"), curves, costs)
    other = optuna.load_study(storage=address, study_name="s", pruner=ParetoPruner())
    trained = search_front(other, np.full((1, 8), 0.01), np.array([9.0]))
    assert trained[0] <= 2


def test_rival_on_the_front_counts_although_it_was_only_told() -> None:
    """As one that was added by hand, or is the equal of an earlier one."""
    curves, costs = networks(60)
    trained = []
    for rival in (0.0, 2.0):
        study = front_study(ParetoPruner())
        search_front(study, curves, costs)
        study.tell(study.ask(), (rival, 1.0))
        trained += search_front(study, curves[[curves[:, -1].argmax()]] + 0.02, costs.max(keepdims=True))
    assert trained[0] == 8
    assert trained[1] < 8


def test_pareto_pruner_spares_what_may_yet_rise() -> None:
    """One that is behind at first, and cheap, has no rival at its cost."""
    curves, costs = networks(60)
    study = front_study(ParetoPruner())
    search_front(study, curves, costs)
    assert search_front(study, 0.3 * curves[:1], np.array([0.5])) == [8]


def lucky_networks(count: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Curves whose values are those of few images but for the last, their losses, and costs."""
    random = np.random.default_rng(seed)
    curves, costs = networks(count, seed=seed)
    losses = 2.0 - 2.0 * curves + 0.01 * random.normal(size=curves.shape)
    curves[:, :-1] += 0.05 * random.normal(size=(count, 7))
    return curves, losses, costs


def test_losses_spare_epochs_and_no_network_of_the_front() -> None:
    epochs = {"alone": 0, "together": 0}
    for seed in range(3):
        curves, losses, costs = lucky_networks(80, seed=seed)
        epochs["alone"] += sum(search_front(front_study(ParetoPruner()), curves, costs))
        trained = search_front(front_study(ParetoPruner()), curves, costs, losses)
        epochs["together"] += sum(trained)
        assert np.array(trained)[on_front(curves[:, -1], costs)].min() == 8
    assert epochs["together"] < 0.9 * epochs["alone"]


@pytest.mark.parametrize("pruner", [CurvePruner, ParetoPruner])
def test_of_equal_values_the_one_with_the_larger_loss_is_stopped(pruner: Any) -> None:
    study = optuna.create_study(direction="maximize", pruner=pruner())
    curves, losses, _ = lucky_networks(80)
    for values, lost in zip(curves, losses, strict=True):
        curve = LearningCurve(study.ask())
        for epoch in range(1, 9):
            curve.report(values[epoch - 1], epoch, loss=lost[epoch - 1])
        study.tell(curve._trial, values[-1])
    decisions = []
    # of several, for one in ten is spared by lot
    for loss in np.repeat(np.quantile(losses[:, 3], [0.02, 0.98]), 10):
        curve = LearningCurve(study.ask())
        curve.report(float(np.median(curves[:, 3])), 4, loss=float(loss))
        decisions.append(curve.should_prune())
    assert sum(decisions[:10]) == 0
    assert sum(decisions[10:]) >= 7


def test_learning_curve_of_one_objective_is_optunas() -> None:
    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=1.0))
    curve = LearningCurve(study.ask())
    curve.report(0.5, 1, loss=0.7)
    assert not curve.should_prune()
    curve.report(2.0, 2, loss=math.inf)
    assert curve.should_prune()
    assert study.trials[0].intermediate_values == {1: 0.5, 2: 2.0}
    assert study.trials[0].user_attrs == {"losses": {"1": 0.7}}


@pytest.mark.parametrize("values", [(None,), (0.5, 2.0), (None, None), (None, 1.0, 2.0)])
def test_learning_curve_wants_a_value_for_each_objective(values: tuple[float | None, ...]) -> None:
    trial = front_study(ParetoPruner()).ask()
    with pytest.raises(InputError, match="one number for each of the study's 2 objectives, and None"):
        LearningCurve(trial, values=values)


@pytest.mark.parametrize("risk", [0.0, 0.5, -1.0, "high"])
@pytest.mark.parametrize("pruner", [CurvePruner, ParetoPruner])
def test_risk_has_a_range(pruner: Any, risk: Any) -> None:
    with pytest.raises(InputError, match=r"estimation\.pruner\.risk"):
        pruner(risk=risk)
