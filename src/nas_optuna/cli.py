"""The command line: Hydra composes the configuration, the search runs it, wrong requests end clearly."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from nas_optuna import completion
from nas_optuna.errors import InputError, NothingFound, StorageGone, is_full
from nas_optuna.interrupt import EXIT_CODE
from nas_optuna.study_dir import check_holds_study, given_study_dir

NOTHING_FOUND_CODE = 1
INPUT_ERROR_CODE = 2
STORAGE_GONE_CODE = 3

# Steps of small networks end in less time than OpenMP's threads wait for one another by spinning, which
# on a machine with anything else to do takes the cores from those that work: a training beside one busy
# process took 46 s so, 11 s with this, and the same 5 s where it was alone. Read when torch is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

_composed = False
_exit_code = 0


@hydra.main(version_base="1.3", config_path="pkg://nas_optuna.conf", config_name="config")
def _run(config: DictConfig) -> float | tuple[float, ...]:
    """Run one search; what it returns is what a Hydra sweeper optimises."""

    def work() -> float | tuple[float, ...]:
        # imports torch and Lightning, which takes seconds
        from nas_optuna.launch import launch

        return launch(config)

    return _guard(work)


@hydra.main(version_base="1.3", config_path="pkg://nas_optuna.conf", config_name="survey")
def _survey(config: DictConfig) -> float | tuple[float, ...]:
    """Print a search space."""

    def work() -> float:
        from nas_optuna.survey import survey

        survey(config)
        return 0.0

    return _guard(work)


@hydra.main(version_base="1.3", config_path="pkg://nas_optuna.conf", config_name="train")
def _train(config: DictConfig) -> float | tuple[float, ...]:
    """Train networks of a study to the end."""

    def work() -> float:
        check_holds_study(config)  # a mistyped folder need not wait for what imports torch
        from nas_optuna.retrain import retrain

        return retrain(config)

    return _guard(work)


@hydra.main(version_base="1.3", config_path="pkg://nas_optuna.conf", config_name="export")
def _export(config: DictConfig) -> float | tuple[float, ...]:
    """Export a network of a study."""

    def work() -> float:
        given_study_dir(config)
        from nas_optuna.exporter import export_study

        export_study(config)
        return 0.0

    return _guard(work)


@hydra.main(version_base="1.3", config_path="pkg://nas_optuna.conf", config_name="dashboard")
def _dashboard(config: DictConfig) -> float | tuple[float, ...]:
    """Show a study in the browser."""

    def work() -> float:
        if config.study_dir is not None:
            check_holds_study(config)
        from nas_optuna.dashboard.server import show_study

        show_study(config)
        return 0.0

    return _guard(work)


@hydra.main(version_base="1.3", config_path="pkg://nas_optuna.conf", config_name="worker")
def _work(config: DictConfig) -> float | tuple[float, ...]:
    """Join a running study."""

    def work() -> float:
        from nas_optuna.join import join

        return join(config)

    return _guard(work)


@hydra.main(version_base="1.3", config_path="pkg://nas_optuna.conf", config_name="report")
def _report(config: DictConfig) -> float | tuple[float, ...]:
    """Write the report of a study."""

    def work() -> float:
        check_holds_study(config)
        from nas_optuna.report.command import report_study

        report_study(config)
        return 0.0

    return _guard(work)


@hydra.main(version_base="1.3", config_path="pkg://nas_optuna.conf", config_name="serve")
def _serve(config: DictConfig) -> float | tuple[float, ...]:
    """Serve a database."""

    def work() -> float:
        from nas_optuna.proxy import serve

        return serve(config)

    return _guard(work)


@hydra.main(version_base="1.3", config_path="pkg://nas_optuna.conf", config_name="doctor")
def _examine(config: DictConfig) -> float | tuple[float, ...]:
    """Say what is wrong with a study."""

    def work() -> float:
        from nas_optuna.examine import examine

        return examine(config)

    return _guard(work)


def _guard(work: Callable[[], float | tuple[float, ...]]) -> float | tuple[float, ...]:
    """Run it; a wrong request ends with one line and an exit code."""
    global _composed
    _composed = True
    try:
        return work()
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return _fail(INPUT_ERROR_CODE)
    except NothingFound:
        return _fail(NOTHING_FOUND_CODE)
    except StorageGone as error:
        sys.stderr.write(f"error: {error}\n")
        return _fail(STORAGE_GONE_CODE)
    except OSError as error:
        if not is_full(error):
            raise
        sys.stderr.write(
            f"error: {error.filename or 'disk'}: no space left. All that was found is kept: make room and "
            "give the same command again.\n"
        )
        return _fail(STORAGE_GONE_CODE)
    except KeyboardInterrupt:
        sys.exit(EXIT_CODE)


def _fail(code: int) -> float:
    """End this search; in a multirun the others go on, and the exit code comes at the end."""
    global _exit_code
    _exit_code = code
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        sys.exit(code)
    return math.nan


def main() -> None:
    """Entry point of ``python -m nas_optuna``."""
    _main(_run)


def survey_main() -> None:
    """Entry point of ``python -m nas_optuna.space``."""
    _main(_survey)


def train_main() -> None:
    """Entry point of ``python -m nas_optuna.train``."""
    _main(_train)


def export_main() -> None:
    """Entry point of ``python -m nas_optuna.export``."""
    _main(_export)


def dashboard_main() -> None:
    """Entry point of ``python -m nas_optuna.dashboard``."""
    _main(_dashboard)


def report_main() -> None:
    """Entry point of ``python -m nas_optuna.report``."""
    _main(_report)


def worker_main() -> None:
    """Entry point of ``python -m nas_optuna.worker``."""
    _main(_work)


def serve_main() -> None:
    """Entry point of ``python -m nas_optuna.serve``."""
    _main(_serve)


def doctor_main() -> None:
    """Entry point of ``python -m nas_optuna.doctor``."""
    _main(_examine)


COMMANDS = {
    "nas_optuna": main,
    "nas_optuna.dashboard": dashboard_main,
    "nas_optuna.doctor": doctor_main,
    "nas_optuna.export": export_main,
    "nas_optuna.report": report_main,
    "nas_optuna.serve": serve_main,
    "nas_optuna.space": survey_main,
    "nas_optuna.train": train_main,
    "nas_optuna.worker": worker_main,
}


def _main(task: Callable[[], object]) -> None:
    if completion.is_asked(sys.argv[1:]):
        sys.stdout.write(completion.SCRIPT)
        return
    # let what Hydra can't compose come here, instead of being printed over many lines
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        task()
        sys.exit(_exit_code)
    # of Hydra's, a ValueError says that two of its flags do not go together
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if _composed:
            raise
        sys.stderr.write(f"error: {_in_one_line(error)}\n")
        sys.exit(INPUT_ERROR_CODE)
    except KeyboardInterrupt:
        sys.exit(EXIT_CODE)


def _in_one_line(error: Exception) -> str:
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return f"{group}: {name!r} is unknown; known: {', '.join(error.options)}."
    return " ".join(str(error).split())
