"""The folder of a search, as a command is given it. Imports nothing that takes time."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from nas_optuna.errors import InputError

DATABASE = "study.db"  # in the folder, where no other storage is given


def study_dir_of(config: DictConfig) -> Path:
    """The folder of a search, which need not be there yet.

    Raises:
        InputError: It is not given.
    """
    if config.get("study_dir") is None:
        raise InputError("study_dir is missing: set it on the command line, study_dir=runs/NAME.")
    return Path(str(config.study_dir)).expanduser()


def given_study_dir(config: DictConfig) -> Path:
    """The folder of a search, where a command can't do without.

    Raises:
        InputError: It is not given, or not there.
    """
    folder = study_dir_of(config)
    if not folder.is_dir():
        raise InputError(
            f"study_dir: no folder {str(folder)!r}. Give the folder of a search, such as runs/NAME."
        )
    return folder


def check_holds_study(config: DictConfig) -> None:
    """See that the folder of a search holds its study, unless that is kept elsewhere.

    Raises:
        InputError: It is not given, or holds none.
    """
    if config.storage is None:
        folder = study_dir_of(config)
        if not (folder / DATABASE).is_file():
            raise no_study(folder, f"sqlite:///{folder / DATABASE}")


def no_study(folder: Path, address: str) -> InputError:
    """The error where a study's file is missing; its address as it may be printed."""
    return InputError(
        f"study_dir: {str(folder)!r} holds no study ({address} is missing). Give the folder of a search, "
        "such as runs/NAME, and storage=... if its study is kept elsewhere."
    )


def make_study_dir(folder: Path) -> None:
    """Make the folder of a search where it is not there.

    Raises:
        InputError: It can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"study_dir: {str(folder)!r} can't be made ({error.strerror}). Give another one."
        ) from error
