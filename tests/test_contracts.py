"""What every configuration file must do: adding one tests it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import nas_optuna.conf
import optuna
import pytest
from conftest import SHORT, command_environment, compose_config
from hydra.utils import instantiate
from omegaconf import OmegaConf

import nas_optuna
from nas_optuna.configuration import build
from nas_optuna.data import LabelledData
from nas_optuna.estimation import Estimator, Objectives, PlanSettings
from nas_optuna.prepare import prepare
from nas_optuna.results import FinalSettings
from nas_optuna.search import search
from nas_optuna.space import Architecture

CONF = Path(nas_optuna.conf.__file__).parent
SOURCE = Path(nas_optuna.__file__).parent


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.mark.parametrize("experiment", names("experiment"))
def test_experiment_composes_into_the_parts_of_a_search(
    experiment: str, macro_table: Path, cell_tables: tuple[Path, Path]
) -> None:
    config = compose_config(f"+experiment={experiment}")
    if OmegaConf.is_missing(config.estimation, "table"):
        config.estimation.table = str(macro_table if "macro" in experiment else cell_tables[0])
    for key in ("root", "path"):
        if OmegaConf.is_missing(config.data, key):
            config.data[key] = "somewhere.csv"
    assert config.n_trials or config.timeout
    assert isinstance(build(config, "data"), LabelledData)
    assert isinstance(build(config, "strategy"), optuna.samplers.BaseSampler)
    assert isinstance(build(config, "objective"), Objectives)
    assert isinstance(build(config, "estimation", pruner=optuna.pruners.NopPruner()), Estimator)
    PlanSettings(**config.plan)
    FinalSettings(**config.final)
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    assert isinstance(build(config, "space")(trial), Architecture)
    # samplers and dashboards slow down beyond that
    assert len(trial.params) <= 40


@pytest.mark.parametrize("space", names("space"))
def test_space_has_stable_names(space: str) -> None:
    built = instantiate(compose_config(f"space={space}").space, _convert_="all")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(5):
        trial = study.ask()
        built(trial)
        study.tell(trial, 0.0)
    assert len({tuple(trial.distributions.items()) for trial in study.trials}) == 1


DEFAULT_STRATEGY = "auto"
SEARCHES = [
    pytest.param(
        strategy,
        objective,
        marks=[pytest.mark.slow] * (objective != "accuracy" and strategy != DEFAULT_STRATEGY),
    )
    for strategy in names("strategy")
    for objective in names("objective")
    # it has one objective, and says so: tests/test_bad_input.py
    if strategy != "cmaes" or objective == "accuracy"
]


@pytest.mark.parametrize(("strategy", "objective"), SEARCHES)
def test_every_strategy_searches_with_every_objective(
    strategy: str, objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # so that four trials are enough to see more than its random beginning
    settings = compose_config(f"strategy={strategy}").strategy
    early = [
        f"strategy.{name}=2"
        for name in ("n_startup_trials", "population_size", "sample_size")
        if name in settings
    ]
    search(
        compose_config(
            *SHORT,
            f"strategy={strategy}",
            f"objective={objective}",
            # refused networks must not trouble a sampler either
            "objective.limits.macs=1e6",
            # how long it is measured changes nothing here: tests/test_latency.py
            "objective.latency.form=eager",
            "objective.latency.seconds=0.02",
            "estimation.data_share=0.2",
            "dashboard=false",
            "n_trials=4",
            "final.finalists=1",
            *early,
        )
    )
    study = optuna.load_study(study_name="study", storage="sqlite:///runs/study/study.db")
    assert not study.get_trials(states=(optuna.trial.TrialState.FAIL,))
    assert sum("untrained" not in trial.user_attrs for trial in study.trials) == 4


# a table's curves are its own: tests/estimation/test_table.py
@pytest.mark.parametrize(
    "estimation",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name not in ("curves", "full")))
        for name in names("estimation")
        if name != "table"
    ],
)
def test_every_estimation_searches_and_reports_curves(
    estimation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    search(
        compose_config(
            *SHORT,
            f"estimation={estimation}",
            "strategy=random",
            "estimation.epochs=3",
            "estimation.data_share=0.2",
            "dashboard=false",
            "n_trials=16",
            "final.finalists=1",
        )
    )
    study = optuna.load_study(study_name="study", storage="sqlite:///runs/study/study.db")
    complete = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    pruned = study.get_trials(states=(optuna.trial.TrialState.PRUNED,))
    assert complete
    assert len(complete) + len(pruned) == 16
    assert bool(pruned) == (estimation != "full")
    for trial in complete:
        assert list(trial.intermediate_values) == [1, 2, 3]
        assert trial.value == trial.intermediate_values[3]


ALLOWED = {
    "artifacts": {"space"},
    "attributes": set(),
    "errors": set(),
    "study_dir": {"errors"},
    "files": set(),
    "cores": {"errors"},
    "completion": set(),
    "interrupt": set(),
    "space": {"errors", "files"},
    "data": {"errors"},
    "strategy": {"attributes", "errors"},
    "pace": set(),
    "looks": set(),
    "estimation": {"attributes", "errors", "files", "pace", "space", "data", "strategy"},
    "export": {"data", "errors", "files", "space"},
    "predict": {"errors", "export"},
    "patience": {"errors", "looks"},
    "journal": set(),
    "storages": {"errors", "files", "journal", "patience"},
    "study": {"attributes", "errors", "storages"},
    "lease": {"attributes", "errors", "pace", "study"},
    "claims": {"attributes", "pace", "study"},
    "configuration": {"errors", "space", "strategy", "study"},
    "zero_cost": {"data", "errors", "estimation", "space", "strategy"},
    "description": {"estimation", "space", "strategy", "zero_cost"},
    "record": {"cores", "data", "storages", "study"},
    "results": {
        "attributes",
        "data",
        "errors",
        "estimation",
        "files",
        "interrupt",
        "record",
        "space",
        "storages",
        "study",
    },
    "report": {
        "attributes",
        "configuration",
        "errors",
        "estimation",
        "files",
        "record",
        "reopen",
        "results",
        "space",
        "storages",
        "strategy",
        "study",
        "study_dir",
    },
    "latency": {"cores", "errors", "estimation", "export", "files", "space"},
    "kept": {"estimation", "study"},
    "heirs": {"estimation", "files", "space", "study"},
    "twins": {"attributes", "pace", "space", "study"},
    "objective": {
        "artifacts",
        "attributes",
        "claims",
        "data",
        "description",
        "estimation",
        "heirs",
        "kept",
        "latency",
        "lease",
        "space",
        "study",
        "twins",
        "zero_cost",
    },
    "limits": {"errors", "estimation", "space"},
    "prepare": {
        "configuration",
        "cores",
        "data",
        "description",
        "errors",
        "estimation",
        "heirs",
        "kept",
        "latency",
        "limits",
        "objective",
        "record",
        "results",
        "space",
        "storages",
        "study",
        "study_dir",
        "zero_cost",
    },
    "member": {
        "artifacts",
        "claims",
        "configuration",
        "cores",
        "data",
        "description",
        "errors",
        "estimation",
        "heirs",
        "kept",
        "latency",
        "lease",
        "objective",
        "storages",
        "study",
        "zero_cost",
    },
    "crew": {"interrupt", "member"},
    "dashboard": {
        "artifacts",
        "configuration",
        "errors",
        "estimation",
        "reopen",
        "report",
        "space",
        "storages",
        "study",
    },
    "conclude": {"estimation", "interrupt", "objective", "prepare", "results", "space", "study"},
    "schedule": {"study"},
    "search": {
        "artifacts",
        "claims",
        "conclude",
        "cores",
        "crew",
        "dashboard",
        "errors",
        "estimation",
        "files",
        "interrupt",
        "lease",
        "member",
        "objective",
        "prepare",
        "report",
        "results",
        "schedule",
        "storages",
        "study",
    },
    "targets": {"errors"},
    "reopen": {
        "configuration",
        "data",
        "errors",
        "estimation",
        "objective",
        "prepare",
        "results",
        "space",
        "storages",
        "study",
        "study_dir",
        "targets",
    },
    "comparison": {"errors", "estimation", "files", "reopen", "report", "results"},
    "compare": {"comparison", "errors"},
    "join": {
        "claims",
        "configuration",
        "cores",
        "errors",
        "files",
        "interrupt",
        "lease",
        "member",
        "objective",
        "pace",
        "reopen",
        "results",
        "storages",
        "study",
        "study_dir",
    },
    "examine": {"attributes", "errors", "files", "kept", "lease", "reopen", "results", "storages", "study"},
    "launch": {"errors", "join", "search", "targets"},
    "proxy": {"errors", "storages"},
    "retrain": {
        "configuration",
        "cores",
        "errors",
        "estimation",
        "interrupt",
        "reopen",
        "results",
        "space",
        "storages",
        "study_dir",
    },
    "survey": {"configuration", "data", "errors", "estimation", "latency", "limits", "prepare", "space"},
    "exporter": {
        "configuration",
        "data",
        "errors",
        "export",
        "files",
        "reopen",
        "results",
        "space",
        "study_dir",
    },
    "cli": {
        "completion",
        "dashboard",
        "errors",
        "examine",
        "exporter",
        "interrupt",
        "join",
        "launch",
        "proxy",
        "report",
        "retrain",
        "study_dir",
        "survey",
    },
    "doctor": {"cli"},
    "serve": {"cli"},
    "train": {"cli"},
    "worker": {"cli"},
    "__main__": {"cli"},
    "__init__": {"space"},
}


def imported(path: Path) -> set[str]:
    """Our own modules that a file imports, by their dotted names."""
    nodes = ast.walk(ast.parse(path.read_text()))
    found = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name for name in found if name.startswith("nas_optuna.")}


@pytest.mark.parametrize(
    ("names", "barred"),
    [
        ("nas_optuna.estimation import CurvePruner, LearningCurve, ParetoPruner", "torch"),
        ("nas_optuna.export import open_model, predict", "pytorch_lightning"),
        ("nas_optuna import load", "pytorch_lightning"),
    ],
)
def test_part_that_is_used_alone_imports_no_more_than_it_needs(names: str, barred: str) -> None:
    # not None in sys.modules: SciPy takes what is there for imported
    code = f"""
import sys

class Bar:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {barred!r}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Bar())
from {names}
"""
    result = subprocess.run(
        [sys.executable, "-c", code], env=command_environment(), capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_one_way(path: Path) -> None:
    part = "__main__" if path.stem == "__main__" else path.relative_to(SOURCE).parts[0].removesuffix(".py")
    others = {name.split(".")[1] for name in imported(path)} - {part}
    assert others <= ALLOWED[part]


# a table's curves are its own: tests/estimation/test_table.py
@pytest.mark.parametrize("estimation", [name for name in names("estimation") if name != "table"])
def test_every_estimation_bears_epochs_that_the_plan_decides(
    estimation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parts = prepare(
        compose_config("+experiment=digits", f"estimation={estimation}", "estimation.epochs=null")
    )
    assert parts.training.epochs == parts.plan.fidelity.epochs == 20
    assert isinstance(parts.study.pruner, optuna.pruners.BasePruner)
