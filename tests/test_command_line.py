"""What commands say of themselves, and how bash completes them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nas_optuna.conf
import pytest
from conftest import command_environment, compose_config, run_command
from omegaconf import OmegaConf

from nas_optuna import cli, completion

CONF = Path(str(nas_optuna.conf.__file__)).parent
SETTINGS = {
    "nas_optuna": "config",
    "nas_optuna.space": "survey",
    "nas_optuna.train": "train",
    "nas_optuna.export": "export",
}
needs_bash = pytest.mark.skipif(
    sys.platform == "win32", reason="the completion is a script for bash, which Windows lacks"
)


@pytest.fixture(scope="module", params=SETTINGS)
def help_of(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A command, and what its --help prints."""
    result = run_command(request.param, "--help", folder=tmp_path_factory.mktemp("help"))
    assert result.returncode == 0, result.stderr
    return request.param, result.stdout


def test_help_fits_a_screen(help_of: tuple[str, str]) -> None:
    _, said = help_of
    assert len(said.splitlines()) <= 50
    assert all(len(line) <= 120 for line in said.splitlines())


def test_help_shows_examples_of_its_command(help_of: tuple[str, str]) -> None:
    command, said = help_of
    examples = said.split("Examples:")[1]
    assert re.search(rf"python -m {re.escape(command)} ", examples)


def test_help_names_keys_that_there_are(help_of: tuple[str, str]) -> None:
    command, said = help_of
    options = [] if command.endswith(("train", "export")) else ["data=folder"]
    config = compose_config(*options, name=SETTINGS[command])
    keys = re.findall(r"^  ([a-z_.0-9]+)=\S+  ?", said, re.MULTILINE)
    assert len(keys) >= 4
    for key in keys:
        parent, _, name = key.rpartition(".")
        assert name in list(OmegaConf.select(config, parent) if parent else config), key


@pytest.mark.parametrize("command", ["nas_optuna", "nas_optuna.space"])
def test_help_lists_every_choice(command: str, tmp_path: Path) -> None:
    said = run_command(command, "--help", folder=tmp_path).stdout
    for group in (path for path in CONF.iterdir() if path.is_dir() and any(path.glob("*.yaml"))):
        choices = sorted(path.stem for path in group.glob("*.yaml"))
        assert f"{group.name}: {', '.join(choices)}" in said


@pytest.mark.parametrize("command", ["nas_optuna.predict", "nas_optuna.compare"])
def test_help_of_the_others_names_their_options(command: str, tmp_path: Path) -> None:
    said = run_command(command, "--help", folder=tmp_path)
    assert said.returncode == 0
    assert said.stdout.startswith(f"usage: python -m {command}")


def test_script_of_completion_is_printed_alone(tmp_path: Path) -> None:
    result = run_command("nas_optuna", "-sc", "install=bash", folder=tmp_path)
    assert (result.returncode, result.stdout) == (0, completion.SCRIPT)


@needs_bash
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("-m nas_optuna strat", ["strategy.", "strategy="]),
        ("-m nas_optuna strategy=ra", ["random"]),
        ("-m nas_optuna +experiment=nas", ["nasbench201", "nasbench_macro"]),
        ("-m nas_optuna +experiment=digits estimation.epo", ["estimation.epochs="]),
        ("-m nas_optuna.export fo", ["folder=", "format="]),
        ("-m nas_optuna.report study", ["study_dir=", "study_name="]),
        # files, or not ours: left to bash
        ("-m nas_optuna.compare ru", []),
        ("-m nas_optuna.predict ph", []),
        ("-m pip inst", []),
        ("script.py strat", []),
    ],
)
def test_bash_completes(typed: str, expected: list[str], tmp_path: Path) -> None:
    assert complete(f"{sys.executable} {typed}", tmp_path) == expected


@needs_bash
def test_bash_completes_the_project_s_script_without_running_it(tmp_path: Path) -> None:
    assert complete("scripts/run strategy=ra", tmp_path) == []
    assert not list(tmp_path.iterdir())
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "scripts").mkdir()
    assert complete("scripts/run strategy=ra", tmp_path) == ["random"]


def test_what_is_said_of_words_does_not_wait_for_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('imported')")
    asked = "import runpy\nfor name in {names}:\n    runpy.run_module(name, run_name='asked')"
    result = subprocess.run(
        [sys.executable, "-c", asked.format(names=list(cli.COMMANDS))],
        cwd=tmp_path,
        env=command_environment(),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", ["dashboard", "export", "report", "train"])
def test_mistyped_folder_is_told_before_torch_is_imported(command: str, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('imported')")
    result = subprocess.run(
        [sys.executable, "-m", f"nas_optuna.{command}", "study_dir=runs/mistyped"],
        cwd=tmp_path,
        env=command_environment(),
        capture_output=True,
        text=True,
    )
    assert result.stderr.startswith("error: study_dir: "), result.stderr
    assert "'runs/mistyped'" in result.stderr
    assert result.returncode == 2


@needs_bash
def test_bash_does_not_wait_for_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('imported')")
    for command in cli.COMMANDS:
        assert complete(f"{sys.executable} -m {command} s", tmp_path), command


def complete(line: str, folder: Path) -> list[str]:
    """What bash offers at the end of a line."""
    ask = f"""
        {completion.SCRIPT}
        COMP_WORDBREAKS=$' \\t\\n"\\'@><=;|&(:'
        COMP_LINE="$1" COMP_POINT=${{#1}}
        _nas_optuna_complete
        [ ${{#COMPREPLY[@]}} -eq 0 ] || printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    result = subprocess.run(
        ["bash", "-c", ask, "bash", line],
        cwd=folder,
        env=command_environment(),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()
