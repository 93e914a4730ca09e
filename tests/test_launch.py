"""Several jobs of one command that search one study."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from conftest import PATIENCE, Command, command_environment
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


LAUNCHERS = {
    "joblib": ("hydra_joblib_launcher", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=4"]),
    "submitit": ("hydra_submitit_launcher", ["hydra/launcher=submitit_local"]),
    # a cluster of this machine, with a place for each worker however many cores it has
    "ray": ("hydra_ray_launcher", ["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=4"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_four_workers_of_a_launcher_share_a_study(launcher: str, macro_table: Path, tmp_path: Path) -> None:
    plugin, chosen = LAUNCHERS[launcher]
    if importlib.util.find_spec(f"hydra_plugins.{plugin}") is None:
        pytest.skip(f"Hydra's plugin is not installed: pip install 'nas-optuna[{launcher}]'")
    result = subprocess.run(
        [
            *(sys.executable, "-m", "nas_optuna", *JOBS, f"estimation.table={macro_table}"),
            *("worker=range(4)", *chosen),
        ],
        cwd=tmp_path,
        # ray's workers are polite by default: beside other tests they would hardly run
        env=command_environment() | {"PYTHONWARNINGS": "", "RAY_worker_niceness": "0"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
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
