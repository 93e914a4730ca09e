from __future__ import annotations

import functools
import itertools
import json
import statistics
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import optuna
import pytest
from conftest import make_space
from optuna.trial import TrialState

from nas_optuna.estimation import Objectives
from nas_optuna.report import Facts, chance, expected_best, gather, progress, random_rows
from nas_optuna.report.statistics import agreement_of_epochs, agreement_of_measures, importances, kinds
from nas_optuna.report.words import interval

BEGIN = datetime(2026, 1, 1)
OBJECTIVES = Objectives(directions={"accuracy": "maximize"})


@functools.cache
def points() -> list[dict[str, Any]]:
    """Points of ``make_space`` that say different networks."""
    space, random, found = make_space(), Random(0), {}
    while len(found) < 100:
        values = {name: random.choice(space.decisions[name].options) for name in space.distributions()}
        found.setdefault(space.at(values).hash, values)
    return list(found.values())


def make_trial(
    index: int,
    accuracy: float | None,
    *,
    curve: dict[int, float] | None = None,
    state: TrialState = TrialState.COMPLETE,
    seconds: tuple[float, float] = (0.0, 1.0),
    queued: bool = False,
    **attributes: Any,
) -> optuna.trial.FrozenTrial:
    """A trial of ``make_space``, a different network for each index."""
    space, parameters = make_space(), points()[index]
    network = space.at(parameters).canonical()
    trial = optuna.trial.create_trial(
        state=state,
        value=accuracy,
        params=parameters,
        distributions=space.distributions(),
        intermediate_values=curve or {},
        user_attrs={"hash": network.hash, "network": str(network), "macs": 1000 + index} | attributes,
        system_attrs={"constraints:limits": 1.0 if "infeasible" in attributes else -1.0}
        | ({"fixed_params": parameters} if queued else {}),
    )
    trial.datetime_start = BEGIN + timedelta(seconds=seconds[0])
    trial.datetime_complete = BEGIN + timedelta(seconds=seconds[1]) if state.is_finished() else None
    return trial


def facts_of(trials: list[optuna.trial.FrozenTrial], **attributes: Any) -> Facts:
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    for name, value in attributes.items():
        study.set_user_attr(name, value)
    return gather(study, objectives=OBJECTIVES, space=make_space(), folder=Path("nowhere"))


def configuration(**strategy: Any) -> str:
    return json.dumps({"strategy": strategy})


def test_expected_best_is_the_mean_over_all_samples() -> None:
    accuracies = [0.9, 0.5, 0.7]
    for count, value in enumerate(expected_best(accuracies), start=1):
        samples = itertools.product(accuracies, repeat=count)
        assert value == pytest.approx(statistics.mean(map(max, samples)))


def test_chance_counts_the_random_networks_alone() -> None:
    trials = [make_trial(index, 0.5 + index / 100) for index in range(9)]
    trials[2] = make_trial(2, 0.99, queued=True)
    trials[3] = make_trial(3, 0.98, reused=0, untrained=True)
    facts = facts_of(
        trials, configuration=configuration(_target_="optuna.samplers.TPESampler", n_startup_trials=8)
    )
    assert [row.number for row in random_rows(facts)] == [0, 1, 4, 5, 6, 7]
    assert chance(facts) == pytest.approx(expected_best([0.5, 0.51, 0.54, 0.55, 0.56, 0.57]))


def test_random_search_is_all_chance_and_other_strategies_without_a_beginning_none() -> None:
    trials = [make_trial(index, 0.5 + index / 100) for index in range(6)]
    random = facts_of(trials, configuration=configuration(_target_="optuna.samplers.RandomSampler"))
    assert len(random_rows(random)) == 6
    other = facts_of(trials, configuration=configuration(_target_="optuna.samplers.QMCSampler"))
    assert chance(other) == []


def test_stopped_network_counts_as_the_worst_that_was_not_and_one_out_of_time_not_at_all() -> None:
    trials = [make_trial(index, 0.5 + index / 100) for index in range(5)]
    trials.append(make_trial(5, None, state=TrialState.PRUNED, curve={1: 0.1}))
    trials.append(make_trial(6, None, state=TrialState.PRUNED, curve={1: 0.1}, stopped="out of time"))
    facts = facts_of(trials, configuration=configuration(_target_="optuna.samplers.RandomSampler"))
    assert chance(facts) == pytest.approx(expected_best([0.5, 0.5, 0.51, 0.52, 0.53, 0.54]))


@pytest.mark.parametrize(("n_trials", "random"), [(40, 10), (25, 5), (None, 5)])
def test_strategy_of_the_budget_begins_with_as_many_random_networks_as_its_goal_says(
    n_trials: int | None, random: int
) -> None:
    trials = [make_trial(index, 0.5 + index / 100) for index in range(12)]
    strategy = configuration(_target_="nas_optuna.strategy.choose_sampler", n_trials=n_trials)
    assert len(random_rows(facts_of(trials, configuration=strategy))) == random


def test_chance_is_silent_about_fewer_than_five() -> None:
    trials = [make_trial(index, 0.5) for index in range(4)]
    assert (
        chance(facts_of(trials, configuration=configuration(_target_="optuna.samplers.RandomSampler"))) == []
    )


def test_progress_is_in_the_order_of_the_ends_and_counts_what_was_trained() -> None:
    facts = facts_of(
        [
            make_trial(0, 0.5, seconds=(0, 9)),
            make_trial(1, 0.7, seconds=(0, 3)),
            make_trial(2, 0.1, seconds=(3, 4), infeasible="macs", untrained=True),
            make_trial(3, None, seconds=(4, 6), state=TrialState.PRUNED, curve={1: 0.2}),
            make_trial(4, None, seconds=(6, 7), state=TrialState.FAIL),
            make_trial(5, None, seconds=(7, 7), state=TrialState.RUNNING),
        ]
    )
    steps = progress(facts)
    assert [step.number for step in steps] == [1, 2, 3, 4, 0]
    assert [step.evaluations for step in steps] == [1, 1, 2, 2, 3]
    assert [step.seconds for step in steps] == [3, 4, 6, 7, 9]
    assert [step.best for step in steps] == [0.7] * 5
    assert [step.accuracy for step in steps] == [0.7, None, None, None, 0.5]


def test_time_between_two_runs_is_not_time_of_the_search() -> None:
    runs = [
        {"began": BEGIN.isoformat(), "spent": 0.0},
        {"began": (BEGIN + timedelta(hours=5)).isoformat(), "spent": 20.0},
    ]
    second = (5 * 3600 + 2.0, 5 * 3600 + 4.0)
    facts = facts_of([make_trial(0, 0.5, seconds=(2, 4)), make_trial(1, 0.6, seconds=second)], runs=runs)
    assert [(row.begin, row.end) for row in facts.rows] == [(2, 4), (22, 24)]


def test_agreement_is_one_for_the_same_order_and_minus_one_for_the_opposite() -> None:
    trials = [
        make_trial(
            index, 0.5 + index / 10, curve={1: 0.4 - index / 10, 2: 0.1 + index / 10, 3: 0.5 + index / 10}
        )
        for index in range(5)
    ]
    first, second = agreement_of_epochs(facts_of(trials))
    assert (first.name, first.kendall, first.spearman) == ("1", pytest.approx(-1), pytest.approx(-1))
    assert (second.name, second.kendall, second.spearman) == ("2", pytest.approx(1), pytest.approx(1))
    assert first.networks == second.networks == 5


def test_proxies_that_trials_carry_are_correlated_and_constants_left_out() -> None:
    trials = [make_trial(index, 0.5 + index / 10, synflow=-index, size=7) for index in range(5)]
    found = {agreement.name: agreement.spearman for agreement in agreement_of_measures(facts_of(trials))}
    assert found == {"macs": pytest.approx(1), "synflow": pytest.approx(-1)}


def test_importance_names_the_decision_that_accuracy_follows() -> None:
    trials = []
    for index in range(40):
        trial = make_trial(index, 0.0)
        trial.values = [0.9 if trial.params["stage1.block1.layer"] == "conv" else 0.5]
        trials.append(trial)
    found = importances(facts_of(trials))
    assert next(iter(found)) == "stage1.block1.layer"
    assert sum(found.values()) == pytest.approx(1)
    assert importances(facts_of(trials[:10])) == {}


def test_kinds_count_layers_by_depth_in_the_best_quarter_and_in_all() -> None:
    trials = [make_trial(index, 0.5 + index / 100) for index in range(24)]
    facts = facts_of(trials)
    found = kinds(facts)
    assert found is not None
    distinct = {
        row.hash: facts.architecture(row) for row in sorted(facts.judged, key=lambda row: row.accuracy or 0)
    }
    best = list(distinct.values())[-found.of_best :]
    assert found.of_all == len(distinct)
    for networks, table in ((list(distinct.values()), found.all), (best, found.best)):
        for place in range(len(found.places)):
            deep = [network.blocks[place] for network in networks if len(network.blocks) > place]
            for index, name in enumerate(found.names):
                count = sum(f"{block.layer}{block['kernel']}" == name for block in deep)
                assert table[place, index] == count


def test_interval_of_a_share_is_wilsons() -> None:
    low, high = interval(0.9, 100)
    assert (low, high) == (pytest.approx(0.8256, abs=1e-4), pytest.approx(0.9448, abs=1e-4))
    assert interval(1.0, 10)[1] == 1.0
