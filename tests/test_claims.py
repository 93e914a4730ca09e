"""The budget of a study that many processes spend."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from conftest import PATIENCE
from optuna.trial import FrozenTrial, TrialState
from postgres import needs_postgres, running_postgres

from nas_optuna.attributes import CLAIM, PROMOTES
from nas_optuna.claims import ASKS, HOLDS, SPENT, WITHDREW, Claims
from nas_optuna.pace import Pace
from nas_optuna.storages import open_storage
from nas_optuna.study import keep_budget, requeue


def make_study(limit: int | None) -> optuna.Study:
    study = optuna.create_study()
    keep_budget(study, n_trials=limit, deadline=None)
    return study


def never() -> None:
    return None


def after(looks: int) -> Callable[[], str | None]:
    """A reason to wait no longer, after so many looks."""
    left = iter(range(looks))
    return lambda: None if next(left, None) is not None else "enough"


def count_looks(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows with each look at all trials."""
    looks: list[None] = []

    def look(pace: Pace, study: optuna.Study) -> list[FrozenTrial]:
        looks.append(None)
        return study.get_trials(deepcopy=False)

    monkeypatch.setattr(Pace, "look", look)
    return looks


def test_trial_within_the_budget_may_train() -> None:
    study = make_study(1)
    trial = study.ask()
    assert Claims(study).claim(trial, stop=never) is None
    assert study.trials[0].user_attrs[CLAIM] == HOLDS


def test_trial_beyond_the_budget_is_told_so() -> None:
    study = make_study(1)
    study.tell(study.ask(), 0.5)
    assert Claims(study).claim(study.ask(), stop=never) == SPENT


def test_without_a_limit_nothing_is_asked() -> None:
    study = make_study(None)
    trial = study.ask()
    assert Claims(study).claim(trial, stop=never) is None
    assert CLAIM not in study.trials[0].user_attrs


def test_trial_waits_for_one_that_may_yet_cost_nothing() -> None:
    study = make_study(1)
    holder, waiting = study.ask(), study.ask()
    assert Claims(study).claim(holder, stop=never) is None
    assert Claims(study).claim(waiting, stop=after(3)) == "enough"
    holder.set_user_attr("untrained", True)
    study.tell(holder, 0.5)
    assert Claims(study).claim(waiting, stop=never) is None


def test_first_trials_have_their_part_and_look_at_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(2)
    trials = [study.ask(), study.ask()]
    looks = count_looks(monkeypatch)
    assert [Claims(study).claim(trial, stop=never) for trial in trials] == [None, None]
    assert not looks


def test_part_of_a_first_trial_is_kept_for_it_until_it_ends() -> None:
    study = make_study(1)
    first, later = study.ask(), study.ask()
    assert Claims(study).claim(later, stop=after(3)) == "enough"
    study.tell(first, state=TrialState.FAIL)
    assert Claims(study).claim(later, stop=never) is None


def test_nobody_waits_for_a_first_trial_that_is_queued() -> None:
    """Where all did, there would be nobody to try it."""
    study = make_study(1)
    study.enqueue_trial({})
    study.add_trial(optuna.trial.create_trial(state=TrialState.RUNNING))
    later = optuna.Trial(study, study.trials[1]._trial_id)
    assert Claims(study).claim(later, stop=after(3)) == SPENT


def two_later_ones() -> tuple[optuna.Study, optuna.Trial, optuna.Trial]:
    """Two trials, and the only part of the budget, which the first of all left."""
    study = make_study(1)
    study.tell(study.ask(), state=TrialState.FAIL)
    return study, study.ask(), study.ask()


def test_of_two_that_ask_the_younger_withdraws() -> None:
    study, older, younger = two_later_ones()
    older.set_user_attr(CLAIM, ASKS)
    assert Claims(study).claim(younger, stop=after(3)) == "enough"
    assert study.trials[2].user_attrs.get(CLAIM, WITHDREW) == WITHDREW


def test_of_two_that_ask_the_older_waits_for_the_younger_to_withdraw() -> None:
    study, older, younger = two_later_ones()
    younger.set_user_attr(CLAIM, ASKS)

    def withdraw() -> None:
        younger.set_user_attr(CLAIM, WITHDREW)

    assert Claims(study).claim(older, stop=withdraw) is None


def test_who_holds_a_part_is_not_overtaken_by_an_older_trial() -> None:
    """A waiting trial that is queued again has a lower number and begins late."""
    study, older, younger = two_later_ones()
    assert Claims(study).claim(younger, stop=never) is None
    assert Claims(study).claim(older, stop=after(3)) == "enough"


def test_reason_to_wait_no_longer_that_is_given_once_is_heard() -> None:
    study, older, younger = two_later_ones()
    assert Claims(study).claim(older, stop=never) is None
    reasons = iter([None, None, "interrupted"])
    assert Claims(study).claim(younger, stop=lambda: next(reasons, None)) == "interrupted"


def test_process_asks_for_no_network_beyond_the_budget() -> None:
    study = make_study(2)
    claims = Claims(study)
    assert claims.may_ask(study.trials) is True
    first, second = study.ask(), study.ask()
    assert claims.may_ask(study.trials) is None
    study.tell(first, 0.5)
    study.tell(second, 0.5)
    assert claims.may_ask(study.trials) is False


def test_what_costs_nothing_is_not_counted() -> None:
    study = make_study(1)
    for attributes in ({"untrained": True}, {PROMOTES: 0}):
        study.add_trial(optuna.trial.create_trial(value=0.5, user_attrs=attributes))
    study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL))
    assert Claims(study).may_ask(study.trials) is True


def test_what_was_cut_off_keeps_its_part_of_the_budget() -> None:
    study = make_study(1)
    claims = Claims(study)
    cut_off, fresh = study.ask(), study.ask()
    cut_off.suggest_int("width", 1, 9)
    assert claims.claim(cut_off, stop=never) is None
    study.tell(cut_off, state=TrialState.FAIL)
    # not yet queued again
    assert claims.claim(fresh, stop=never) == SPENT
    study.tell(fresh, state=TrialState.FAIL)
    assert claims.may_ask(study.trials) is None
    requeue(study, study.trials[0])
    assert claims.may_ask(study.trials) is True
    retry, late = study.ask(), study.ask()
    assert claims.claim(late, stop=never) == SPENT
    assert claims.claim(retry, stop=never) is None


SPEND = """
import random, sys, time, optuna
from nas_optuna.claims import Claims
from nas_optuna.storages import open_storage
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.load_study(storage=open_storage(sys.argv[1]), study_name="study")
claims = Claims(study)
print("ready", flush=True)
input()
# as if each had asked before it could see the others; of the first ones some leave their part to later ones
while claims.may_ask(study.trials) is not False:
    trial = study.ask()
    if trial.number % 3 and claims.claim(trial, stop=lambda: None) is None:
        time.sleep(0.02 * random.random())
        study.tell(trial, 0.5)
    else:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "journal", pytest.param("postgres", marks=needs_postgres)])
def test_budget_is_exact_whoever_spends_it(kind: str, tmp_path: Path) -> None:
    if kind == "postgres":
        with running_postgres() as server:
            spend(server.address)
    else:
        spend(f"{kind}:///{tmp_path}/study.{kind}")


def spend(address: str) -> None:
    study = optuna.create_study(storage=open_storage(address), study_name="study")
    keep_budget(study, n_trials=20, deadline=None)
    processes = [
        subprocess.Popen([sys.executable, "-c", SPEND, address], stdin=-1, stdout=-1, text=True)
        for _ in range(6)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
    states = [trial.state for trial in study.trials]
    assert states.count(TrialState.COMPLETE) == 20
    assert set(states) <= {TrialState.COMPLETE, TrialState.FAIL}
