"""Results: the end of a search in one JSON file and one table."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.table import Table

from nas_optuna.attributes import INHERITS
from nas_optuna.estimation import Objectives, read_curve
from nas_optuna.record import versions
from nas_optuna.space import Architecture
from nas_optuna.storages import hide_password
from nas_optuna.study import is_feasible

Found = Sequence[tuple[FrozenTrial, Architecture]]


def count_trials(study: optuna.Study) -> dict[str, int]:
    """Each finished trial in one of five groups: complete, pruned, failed, infeasible, reused."""
    counts = Counter(map(group_of, study.get_trials(deepcopy=False)))
    return {name: counts[name] for name in ("complete", "pruned", "failed", "infeasible", "reused")}


def count_executions(study: optuna.Study) -> dict[str, int]:
    """How many networks were computed in which way, the most frequent first."""
    trials = study.get_trials(deepcopy=False)
    chosen = Counter(trial.user_attrs["execution"] for trial in trials if "execution" in trial.user_attrs)
    return dict(chosen.most_common())


def count_inherited(study: optuna.Study) -> dict[str, int]:
    """How many networks began with the weights of others, and how many epochs they skipped together."""
    heirs = [trial for trial in study.get_trials(deepcopy=False) if INHERITS in trial.user_attrs]
    curves = [read_curve(trial, study.directions).steps for trial in heirs]
    return {"networks": len(heirs), "epochs_skipped": sum(steps[0] - 1 for steps in curves if steps)}


def summarize(
    study: optuna.Study,
    objectives: Objectives,
    *,
    storage: str,
    seed: int,
    seconds: float,
    best: tuple[FrozenTrial, Architecture] | None,
    front: Found,
    fresh: dict[int, list[float]],
    test: dict[str, Any] | None,
    timing: dict[str, float],
) -> dict[str, Any]:
    """What ``summary.json`` holds; ``docs/summary.md`` explains each key."""
    return {
        "study_name": study.study_name,
        "storage": hide_password(storage),
        "seconds": round(seconds, 2),
        "seed": seed,
        "versions": versions(),
        "objectives": objectives.directions,
        "limits": objectives.limits,
        "plan": study.user_attrs.get("plan"),
        "trials": count_trials(study),
        "inherited": count_inherited(study),
        "executions": count_executions(study),
        "timing": {name: round(value, 2) for name, value in timing.items()},
        "best": _describe(*best) if best else None,
        "front": [_describe(*found) for found in front] if len(objectives.names) > 1 else [],
        "finalists": [{"number": number, "accuracies": values} for number, values in fresh.items()],
        "test": test,
    }


def table(objectives: Objectives, found: Found, *, winner: int | None) -> Table:
    """The best networks, the winner marked."""
    view = Table(box=None, pad_edge=False)
    latency = ["latency"] if "latency" in (*objectives.names, *objectives.limits) else []
    for name in ("", "trial", "accuracy", *latency, "MACs", "parameters", "network"):
        view.add_column(name, justify="left" if name in ("", "network") else "right", overflow="fold")
    for trial, architecture in found:
        view.add_row(
            "*" if trial.number == winner else "",
            str(trial.number),
            f"{objectives.accuracy(trial):.4f}",
            *[f"{trial.user_attrs[name]:.4g} ms" for name in latency],
            f"{trial.user_attrs['macs']:,}",
            f"{trial.user_attrs['params']:,}",
            str(architecture),
        )
    return view


def dashboard_command(folder: Path, storage: str) -> str:
    """The command that opens the study in the browser, as this shell can run it."""
    words = [f"study_dir={folder}"]
    if storage != f"sqlite:///{folder / 'study.db'}":
        words.append(f"storage={hide_password(storage)}")
    return f"{as_typed('python')} -m nas_optuna.dashboard {shlex.join(words)}"


def as_typed(name: str) -> str:
    """A program of this environment as this shell finds it: with its folder, where the name is not enough."""
    beside_python = Path(sys.executable).parent / name
    if shutil.which(name) == str(beside_python) or not beside_python.is_file():
        return name
    inside = beside_python.is_relative_to(Path.cwd())
    return str(beside_python.relative_to(Path.cwd()) if inside else beside_python)


def group_of(trial: FrozenTrial) -> str:
    """Which of the groups of ``count_trials`` it is in; ``unfinished`` for none."""
    if "reused" in trial.user_attrs:
        return "reused"
    if trial.state == TrialState.COMPLETE:
        return "complete" if is_feasible(trial) else "infeasible"
    return {TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}.get(trial.state, "unfinished")


def _describe(trial: FrozenTrial, architecture: Architecture) -> dict[str, Any]:
    return {
        "number": trial.number,
        "values": trial.values,
        "params": trial.user_attrs["params"],
        "macs": trial.user_attrs["macs"],
        **{name: trial.user_attrs[name] for name in ("latency",) if name in trial.user_attrs},
        "architecture": architecture.to_dict(),
        "summary": str(architecture),
    }
