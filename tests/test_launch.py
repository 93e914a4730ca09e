"""Several jobs of one command that search one study."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from conftest import Command, command_environment
from optuna.trial import TrialState

from nas_optuna.study import is_counted

JOBS = ("-m", "+experiment=nasbench_macro", "strategy=random", "study_name=study", "n_trials=60")


def finished(folder: Path) -> list[optuna.trial.FrozenTrial]:
    study = optuna.load_study(study_name="study", storage=f"sqlite:///{folder}/runs/study/study.db")
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
    # equal networks come on top, at no cost
    return [trial for trial in study.get_trials(states=(TrialState.COMPLETE,)) if is_counted(trial)]


@pytest.mark.slow
def test_launcher_that_is_serial_is_explained(command: Command, macro_table: Path, tmp_path: Path) -> None:
    result = command(*JOBS, f"estimation.table={macro_table}", "worker=range(2)")
    assert result.returncode == 0, result.stderr
    assert "starts one job after the other" in result.stderr
    assert len(finished(tmp_path)) == 60
    assert "the budget is spent; trials of this worker: 0" in result.stdout


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher") is None, reason="needs the extra joblib"
)
def test_four_workers_of_joblib_share_a_study(macro_table: Path, tmp_path: Path) -> None:
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=4", "worker=range(4)")
    result = subprocess.run(
        [sys.executable, "-m", "nas_optuna", *JOBS, f"estimation.table={macro_table}", *launcher],
        cwd=tmp_path,
        env=command_environment() | {"PYTHONWARNINGS": ""},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr
    trials = finished(tmp_path)
    assert len(trials) == 60
    assert len({trial.user_attrs["worker"] for trial in trials}) > 1
    # one of them compares the best and tests the winner
    summary = json.loads((tmp_path / "runs" / "study" / "summary.json").read_text())
    assert summary["trials"]["complete"] == 60
    assert summary["test"]["accuracy"] > 0.85


@pytest.mark.parametrize("wrong", ["worker=-1", "worker=first"])
def test_impossible_number_of_a_job_is_named(wrong: str, command: Command) -> None:
    result = command("+experiment=digits", wrong)
    assert result.returncode == 2
    assert result.stderr.startswith("error: worker: ")
