"""What README.md and docs/ name is there: keys of commands, linked files, modules."""

from __future__ import annotations

import importlib.util
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

PROJECT = Path(__file__).parent.parent
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
CONFIGS = {".space": "survey"} | {f".{path.stem}": path.stem for path in (PROJECT / "conf").glob("*.yaml")}
COMMAND = re.compile(r"(?:scripts/run|(?:\S*/)?python -m nas_optuna(\.\w+)?)(?=\s|$)(.*)")
FLAGS_WITH_A_VALUE = ("--cfg", "--package", "-p", "-c")


def lines_of(page: Path) -> Iterator[str]:
    """Lines of code, those that go on joined."""
    text = re.sub(r"\\\n\s*", " ", page.read_text())
    for line in text.splitlines():
        if line.startswith("    "):
            yield line.strip()


def commands() -> Iterator[tuple[str, str, list[str]]]:
    """Page, configuration and overrides of every command that is shown."""
    for page in PAGES:
        for line in lines_of(page):
            found = COMMAND.match(line.partition("  #")[0].partition(" # ")[0].partition("   ")[0])
            # files of one's own, and lines that leave something out
            if not found or "--config-dir" in found[2] or "..." in found[2] or "<TAB>" in line:
                continue
            config = CONFIGS.get(found[1], "") if found[1] else "config"
            words = shlex.split(found[2])
            if config and not {"--help", "-sc"} & set(words):
                yield str(page.relative_to(PROJECT)), config, without_flags(words)


def without_flags(words: list[str]) -> list[str]:
    """The overrides among a command's words."""
    kept = []
    for before, word in zip(["", *words], words, strict=False):
        if not word.startswith("-") and before not in FLAGS_WITH_A_VALUE:
            kept.append(word)
    return kept


SHOWN = list(commands())


def test_commands_are_found() -> None:
    assert len(SHOWN) > 30
    assert {config for _, config, _ in SHOWN} >= {"config", "survey", "train", "export"}


@pytest.mark.parametrize(
    ("page", "config", "overrides"), SHOWN, ids=[f"{page}: {' '.join(words)}" for page, _, words in SHOWN]
)
def test_command_names_keys_that_there_are(page: str, config: str, overrides: list[str]) -> None:
    parsed = OverridesParser.create().parse_overrides(overrides)
    with initialize_config_module("nas_optuna.conf", version_base="1.3"):
        for chosen in itertools.product(*map(choices, parsed)):
            assert compose(config, overrides=list(chosen))


def choices(override: Override) -> list[str]:
    """An override, or each of those that a sweep makes of it."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    key = override.get_key_element()
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_linked_files_are_there(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_modules_that_are_run_are_there(page: Path) -> None:
    for module in set(re.findall(r"python -m (nas_optuna[\w.]*\w)", page.read_text())):
        assert importlib.util.find_spec(module), module
