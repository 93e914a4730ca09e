"""The example scripts run, each of them: adding one tests it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from conftest import PATIENCE, SHORT, command_environment, compose_config

from nas_optuna.search import search

EXAMPLES = sorted((Path(__file__).parent.parent / "scripts" / "examples").glob("*.py"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search, for those that read one."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder = tmp_path_factory.mktemp("search") / "study"
    search(compose_config(*SHORT, f"study_dir={folder}"))
    return folder


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.slow
def test_example_runs(example: Path, finished: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(example), str(finished)],
        cwd=tmp_path,
        env=command_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout
    # they write nothing where they are called
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short(example: Path) -> None:
    assert len(example.read_text().splitlines()) <= 40
