"""What the tutorial tells its readers to type does what it says."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import command_environment
from PIL import Image

TUTORIAL = Path(__file__).parent.parent / "docs" / "tutorial.md"
CLASSES = ("airplane", "automobile", "ship", "truck")
# a budget that does not depend on how busy the machine is
BUDGET = "timeout=null n_trials=3 workers=1 estimation.epochs=12 final.epochs=24 final.finalists=1"


def commands() -> list[list[str]]:
    """The page's commands, with the interpreter at hand and a smaller budget."""
    lines = [line.strip() for line in TUTORIAL.read_text().splitlines() if line.startswith("    ")]
    told = [line for line in lines if line.startswith(("scripts/run ", ".venv/bin/python "))]
    run = [
        line.replace("scripts/run", ".venv/bin/python -m nas_optuna").replace("timeout=360", BUDGET)
        for line in told
    ]
    return [[sys.executable, *shlex.split(line)[1:]] for line in run]


@pytest.fixture
def photos(tmp_path: Path) -> None:
    """Classes that differ in their colour; files named as the page names them."""
    random = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(1, 61):
            pixels = random.integers(0, 120, (48, 64, 3), dtype=np.uint8)
            pixels[..., :label] += 130
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number:03}.jpg")


@pytest.mark.slow
def test_commands_lead_from_photos_to_a_tested_classifier(photos: None, tmp_path: Path) -> None:
    said = []
    for command in commands():
        environment = command_environment() | {"PYTHONWARNINGS": ""}
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        said.append(result.stdout)
    assert len(said) == 4
    searched, exported, predicted, plain = said
    assert "test accuracy of trial" in searched
    assert "network-int8.onnx" in exported
    assert len(predicted.splitlines()) == 60
    ships = sum(": ship " in line for line in predicted.splitlines())
    assert ships > 30
    assert plain.startswith("photos/ship/001.jpg: ship ")
    weights = tmp_path / "runs" / "photos" / "final" / "weights.safetensors"
    assert weights.stat().st_size < 110_000  # the limit, and the file's own head
