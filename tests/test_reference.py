"""The reference pages, and that there is nothing in the configuration of which they say nothing."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def make_reference() -> ModuleType:
    """The script that makes them."""
    spec = importlib.util.spec_from_file_location("make_reference", PROJECT / "scripts" / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # where dataclasses look for the names of their annotations
    sys.modules["make_reference"] = module
    spec.loader.exec_module(module)
    return module


def test_every_key_of_the_configuration_is_explained(make_reference: ModuleType) -> None:
    unexplained = make_reference.undocumented()
    assert not unexplained, "write a comment above or behind each in conf/"


def test_key_without_a_comment_is_found(
    make_reference: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "space").mkdir()
    text = "# A space.\nwidth: 3   # channels\n# side\nkernel: 3\nstem:\n  depth: 1\n  # above\n"
    (tmp_path / "space" / "mine.yaml").write_text(f"{text}  stride: 2  # behind\n")
    monkeypatch.setattr(make_reference, "CONF", tmp_path)
    assert make_reference.undocumented() == ["space/mine.yaml:stem.depth"]
    keys = make_reference.read_keys(tmp_path / "space" / "mine.yaml")
    assert [(key.path, key.value, key.comment) for key in keys] == [
        ("width", "3", "channels"),
        ("kernel", "3", "side"),
        ("stem", "", ""),
        ("stem.depth", "1", ""),
        ("stem.stride", "2", "behind. above"),
    ]


def test_pages_are_those_that_the_script_makes(make_reference: ModuleType) -> None:
    folder = PROJECT / "docs" / "reference"
    made = make_reference.pages()
    assert sorted(made) == sorted(path.name for path in folder.iterdir())
    stale = [name for name, text in made.items() if (folder / name).read_text() != text]
    assert not stale, "run python scripts/make_reference.py"


def test_docstring_becomes_lists(make_reference: ModuleType) -> None:
    page = make_reference.describe_module("nas_optuna.strategy")
    assert "- `sample_size`: How many of them compete to be the parent." in page
    assert "population_size: int = 10," in page
