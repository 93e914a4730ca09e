"""One job of a command: a whole search, or one of the workers that a Hydra launcher starts for it."""

from __future__ import annotations

import sys

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from nas_optuna.errors import check_number
from nas_optuna.join import join
from nas_optuna.search import search
from nas_optuna.targets import foreign_modules

WAIT_SECONDS = 600  # for worker 0, which a cluster may start last, and which reads the data first
SERIAL = "BasicLauncher"


def launch(config: DictConfig) -> float | tuple[float, ...]:
    """Run what this job is for.

    Worker 0 is the search: it makes the study, and compares and trains the best at the end. The others join
    the study as soon as it is there.

    Args:
        config: The composed configuration.

    Returns:
        See ``search``; of a worker that joined, how many trials it ran.
    """
    if config.worker is None:
        return search(config)
    check_number("worker", config.worker, whole=True, at_least=0)
    if config.worker == 0:
        if _is_serial():
            sys.stderr.write(
                "hydra/launcher=basic starts one job after the other: worker 0 will do all, and the others "
                "find nothing left. Take hydra/launcher=joblib hydra.launcher.n_jobs=N, or workers=N for "
                "processes on this machine.\n"
            )
        return search(config)
    return join(_joining(config))


def _joining(config: DictConfig) -> DictConfig:
    """What a worker is told that belongs to this very command, whose code it may therefore run."""
    return OmegaConf.create(
        {
            "storage": str(config.storage),
            "study_name": str(config.study_name),
            "study_dir": str(config.study_dir),
            "cache_dir": config.cache_dir,
            "wait": WAIT_SECONDS,
            "allow": foreign_modules(OmegaConf.to_container(config, resolve=True)),
            "data": {},
            "estimation": {},
        }
    )


def _is_serial() -> bool:
    hydra = HydraConfig.get()
    return hydra.mode == RunMode.MULTIRUN and str(hydra.launcher.get("_target_")).endswith(SERIAL)
