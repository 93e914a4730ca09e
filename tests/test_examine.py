"""What may be wrong with a study, found and mended."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from conftest import compose_config
from optuna.trial import TrialState

from nas_optuna.errors import InputError, NothingFound
from nas_optuna.examine import examine
from nas_optuna.search import search
from nas_optuna.storages import open_storage
from nas_optuna.study import CONFIGURATION, keep_budget

ADDRESS = "sqlite:///runs/study/study.db"
Said = Callable[..., str]


@pytest.fixture
def study(macro_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> optuna.Study:
    """A search on a table that has found three networks."""
    monkeypatch.chdir(tmp_path)
    table = f"estimation.table={macro_table}"
    search(compose_config("+experiment=nasbench_macro", table, "strategy=random", "n_trials=3"))
    return optuna.load_study(study_name="study", storage=open_storage(ADDRESS))


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """What is said of the study where something is wrong, or where all is well."""

    def ask(*overrides: str, is_well: bool = False) -> str:
        capsys.readouterr()
        config = compose_config(f"storage={ADDRESS}", "study_name=study", *overrides, name="doctor")
        if is_well:
            examine(config)
        else:
            with pytest.raises(NothingFound):
                examine(config)
        return capsys.readouterr().out

    return ask


def begin(study: optuna.Study, worker: str = "another-machine:1") -> optuna.Trial:
    trial = study.ask()
    trial.set_user_attr("worker", worker)
    trial.suggest_int("layer1", 0, 2)
    return trial


def test_nothing_is_wrong_with_a_finished_study(study: optuna.Study, said: Said) -> None:
    assert said(is_well=True) == "'study': nothing is wrong with its 3 trials\n"


def test_study_is_found_by_its_folder(study: optuna.Study, capsys: pytest.CaptureFixture[str]) -> None:
    examine(compose_config("study_dir=runs/study", name="doctor"))
    assert "nothing is wrong with its 3 trials" in capsys.readouterr().out


def test_trial_without_a_sign_of_life_is_found_and_mended(study: optuna.Study, said: Said) -> None:
    begin(study)
    assert "trial 3: no sign of life for 0.3 s; end it and queue" in said("watch=0.3")
    assert study.trials[3].state == TrialState.RUNNING
    assert "; done" in said("watch=0.3", "mend=true", is_well=True)
    assert [trial.state for trial in study.trials[3:]] == [TrialState.FAIL, TrialState.WAITING]
    assert "nothing is wrong" in said("watch=0.3", is_well=True)


def test_network_that_was_never_queued_again_is_found_and_mended(study: optuna.Study, said: Said) -> None:
    study.tell(begin(study), state=TrialState.FAIL)
    assert "trial 3: cut off, and its network was never queued" in said("watch=0.3")
    said("watch=0.3", "mend=true", is_well=True)
    assert study.trials[4].user_attrs["retry_of"] == 3


def test_twins_and_more_than_the_budget_are_found(study: optuna.Study, said: Said) -> None:
    twin = study.trials[0]
    study.add_trial(twin)
    text = said()
    assert "trial 0, 3: one network, trained 2 times" in text
    assert "4 networks were trained, the last search allowed 3" in text


def test_clocks_that_differ_are_found(study: optuna.Study, said: Said) -> None:
    import datetime

    for hours, attributes in ((1, {"worker": "early:1"}), (0, {})):
        moment = datetime.datetime.now() + datetime.timedelta(hours=hours)
        trial = optuna.trial.create_trial(state=TrialState.FAIL, user_attrs={"error": "x", **attributes})
        trial.datetime_start = moment
        trial.datetime_complete = moment + datetime.timedelta(seconds=60 if hours else -60)
        study.add_trial(trial)
    text = said()
    assert "the clock of early is ahead" in text
    assert "trial 4: ended before the begin" in text


def test_study_that_does_not_say_how_it_was_made_is_found(study: optuna.Study, said: Said) -> None:
    study.set_user_attr("plan", None)
    keep_budget(study, n_trials=3, deadline=None)
    config = json.loads(study.user_attrs[CONFIGURATION])
    config["strategy"] = {"_target_": "os.system", "command": "touch harm"}
    study.set_user_attr(CONFIGURATION, json.dumps(config))
    assert "it can't be used here: " in said()
    assert not Path("harm").exists()


def test_files_that_nobody_takes_up_are_found_and_removed(study: optuna.Study, said: Said) -> None:
    folder = Path("runs/study")
    (folder / "checkpoints").mkdir(exist_ok=True)
    for name in ("trial-0.pt", "trial-99.pt"):
        (folder / "checkpoints" / name).touch()
    assert "2 checkpoint(s) of trainings that are over" in said()
    said("mend=true", is_well=True)
    assert list((folder / "checkpoints").iterdir()) == []


def test_missing_study_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="holds no study"):
        examine(compose_config(f"storage={ADDRESS}", name="doctor"))
