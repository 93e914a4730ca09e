"""What a run of a search leaves in its study for those who read it later: its command, when it began."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import optuna
import torch
from hydra.core.hydra_config import HydraConfig

from nas_optuna.cores import processor
from nas_optuna.data import LabelledData, NoData, SplitName
from nas_optuna.storages import hide_password

RUNS, CLASS_NAMES, IMAGES = "runs", "class_names", "images"  # a study's user attributes
PACKAGES = ("nas-optuna", "optuna", "torch", "torchvision", "pytorch-lightning", "hydra-core")
SEEN: tuple[SplitName, ...] = ("train", "validation")
OURS = ("nas_optuna", "config")  # name and configuration of Hydra's job
MOST_NAMES = 100  # of classes: a database may refuse a longer attribute


def remember_data(study: optuna.Study, data: LabelledData) -> None:
    """Keep the names of the classes, unless they are many, and how many examples search sees."""
    names = list(data.classes) if len(data.classes) <= MOST_NAMES else []
    images = {} if isinstance(data, NoData) else {name: len(data.split(name)) for name in SEEN}
    for key, value in ((CLASS_NAMES, names), (IMAGES, images)):
        if study.user_attrs.get(key) != value:
            study.set_user_attr(key, value)


def remember_run(
    study: optuna.Study, *, seconds: float, budget: Mapping[str, Any], device: torch.device
) -> None:
    """Add this run to the study's.

    Args:
        study: Its user attribute ``runs`` gets one more entry: ``began``, in local time as trials have it;
            ``spent``, the seconds of search before; the ``command``, None where there was none; ``versions``;
            ``device``; and the budget.
        seconds: Since this run began.
        budget: ``n_trials``, ``timeout`` and ``workers``.
        device: That trains.
    """
    run = {
        "began": (datetime.now() - timedelta(seconds=seconds)).isoformat(),
        "spent": study.user_attrs.get("search_seconds", 0.0),
        "command": command(),
        **budget,
        "device": _name(device),
        "versions": versions(),
    }
    study.set_user_attr(RUNS, [*study.user_attrs.get(RUNS, []), run])


def versions() -> dict[str, str]:
    """Of Python and the packages that results depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def command() -> str | None:
    """The command of this process as a shell takes it, passwords hidden; None where it is not ours."""
    if not HydraConfig.initialized():
        return None
    hydra = HydraConfig.get()
    if (hydra.job.name, hydra.job.config_name) != OURS:
        return None  # a program of the user's own
    sources = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    words = [f"--config-dir={_from_here(Path(path))}" for path in sources if path]
    for override in hydra.overrides.task:
        key, _, value = override.partition("=")
        words.append(f"{key}={hide_password(value)}" if key == "storage" else override)
    return shlex.join(["python", "-m", "nas_optuna", *words])


def _from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor() if device.type == "cpu" else device.type
