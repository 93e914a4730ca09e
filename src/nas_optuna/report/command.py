"""``python -m nas_optuna.report``: the report of a study, from the study alone."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.text import Text

from nas_optuna.configuration import plain
from nas_optuna.errors import InputError
from nas_optuna.reopen import recall
from nas_optuna.report.facts import gather
from nas_optuna.report.files import write_report
from nas_optuna.study_dir import given_study_dir


def report_study(config: DictConfig) -> None:
    """Write the report of a study as the configuration says, and print where it is.

    Raises:
        InputError: There is no such study, or it found nothing.
    """
    study_dir = given_study_dir(config)
    recalled = recall(
        study_dir, storage=config.storage, study_name=config.study_name, allow=plain(config, "allow")
    )
    facts = gather(
        recalled.study, objectives=recalled.objectives, space=recalled.space, folder=recalled.folder
    )
    folder = Path(str(config.folder)).expanduser()
    try:
        paths = write_report(facts, folder)
    except OSError as error:
        raise InputError(
            f"folder: {str(folder)!r} can't be written to ({error.strerror}). Give another one."
        ) from error
    console = Console(highlight=False, soft_wrap=True)
    for path in paths:
        console.print(Text(f"report: {path}"))
