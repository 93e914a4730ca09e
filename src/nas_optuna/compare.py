"""``python -m nas_optuna.compare FOLDER...``: whether one way of searching beats another one, or luck."""

from __future__ import annotations

import glob
import sys
from collections.abc import Sequence
from pathlib import Path

from nas_optuna.errors import InputError

USAGE = """usage: python -m nas_optuna.compare FOLDER... [out=FOLDER] [across=GROUP,...] [allow=MODULE,...]

Did the search beat luck? Compares searches by their folders. Those that differ in their seeds alone are a
group; each group is held against the one that searches at random, or else against the first.

  FOLDER     folders of searches, such as runs/NAME, or patterns of them: 'runs/*-seed?'
  out=       where compare.html and the PNG plots are written; runs/compare if it is left out
  across=    space, estimation or objective, where these differ and it is them that are compared
  allow=     modules outside nas_optuna whose code the studies' configurations may name, such as my_layers

Two strategies with three seeds each, compared:
  python -m nas_optuna -m +experiment=digits strategy=auto,random seed=0,1,2
  python -m nas_optuna.compare 'runs/digits-*'
"""
OUT = Path("runs/compare")
LISTS = ("across", "allow")
INPUT_ERROR_CODE = 2


def main(arguments: Sequence[str]) -> int:
    """Compare, print the verdict, write the page and the plots.

    Returns:
        0, or 2 where the request was wrong.
    """
    if not arguments or set(arguments) & {"-h", "--help"}:
        sys.stdout.write(USAGE)
        return 0 if arguments else INPUT_ERROR_CODE
    try:
        _compare(arguments)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return INPUT_ERROR_CODE
    return 0


def _compare(arguments: Sequence[str]) -> None:
    folders, out, lists = _parse(arguments)
    # imports torch, which takes seconds: a typing mistake need not wait for it
    from nas_optuna.comparison import compare

    compare(folders, out=out, across=lists["across"], allow=lists["allow"])


def _parse(arguments: Sequence[str]) -> tuple[list[Path], Path, dict[str, list[str]]]:
    """Folders of searches, where to write, and the options that are lists."""
    options: dict[str, str] = {}
    names = []
    words = iter(arguments)
    for word in words:
        key, equals, value = word.removeprefix("--").partition("=")
        if key in ("out", *LISTS) and (equals or word.startswith("--")):
            options[key] = value if equals else next(words, "")
        elif word.startswith("-"):
            raise InputError(f"{word!r} is unknown; known: out=FOLDER, across=GROUP, allow=MODULE.")
        else:
            names.append(word)
    out = Path(options.get("out") or OUT)
    folders = _folders(names, out)
    if len(folders) < 2:
        raise InputError(
            f"two or more searches are compared, not {len(folders)}: give their folders, such as "
            "runs/NAME runs/OTHER, or a pattern, 'runs/*'."
        )
    lists = {name: [word for word in options.get(name, "").strip("[]").split(",") if word] for name in LISTS}
    return folders, out, lists


def _folders(names: Sequence[str], out: Path) -> list[Path]:
    """What is named, each folder once; a pattern that the shell left alone is resolved."""
    found: dict[Path, Path] = {}
    for name in names:
        matches = _matches(name) if glob.has_magic(name) else [Path(name)]
        if not matches:
            raise InputError(f"{name!r} matches no folder. Give folders of searches, such as runs/NAME.")
        for path in matches:
            # an earlier comparison lies among the searches where it is left to its default
            if path.resolve() != out.resolve():
                found.setdefault(path.resolve(), path)
    return list(found.values())


def _matches(pattern: str) -> list[Path]:
    """The folders of a pattern, in order; as in a shell, none that are hidden."""
    path = Path(pattern)
    root = Path(path.anchor) if path.is_absolute() else Path()
    found = root.glob(str(path.relative_to(root)))
    return sorted(folder for folder in found if folder.is_dir() and not folder.name.startswith("."))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
