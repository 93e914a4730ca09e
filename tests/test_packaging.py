"""The project works from a wheel and from a source distribution, not only from its checkout."""

from __future__ import annotations

import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
from conftest import PATIENCE, command_environment

PROJECT = Path(__file__).parent.parent


def test_every_package_is_listed() -> None:
    settings = ConfigParser()
    settings.read(PROJECT / "setup.cfg")
    listed = set(settings["options"]["packages"].split())
    folders = {path.parent for path in (PROJECT / "src").rglob("*.py")}
    found = {".".join(folder.relative_to(PROJECT / "src").parts) for folder in folders}
    assert listed == found | {"nas_optuna.conf"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_built_distribution_searches(kind: str, tmp_path: Path) -> None:
    # the checkout must not be written to: setuptools leaves its traces there
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(checkout)], check=True)
    build = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", str(tmp_path / "dist")]
    subprocess.run([*build, str(checkout)], check=True, capture_output=True)
    (archive,) = (tmp_path / "dist").iterdir()
    target = tmp_path / "installed"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(target), str(archive)], check=True, capture_output=True)
    assert (target / "nas_optuna" / "conf" / "experiment" / "digits.yaml").is_file()
    assert (target / "nas_optuna" / "py.typed").is_file()

    environment = command_environment() | {"PYTHONPATH": str(target)}
    where = [sys.executable, "-c", "import nas_optuna; print(nas_optuna.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).is_relative_to(target)
    short = ["n_trials=1", "estimation.epochs=1", "final.epochs=1"]
    run = [sys.executable, "-m", "nas_optuna", "+experiment=digits", *short]
    subprocess.run(run, cwd=tmp_path, env=environment, check=True, timeout=PATIENCE)
    assert list((tmp_path / "runs").glob("*/final/weights.safetensors"))
