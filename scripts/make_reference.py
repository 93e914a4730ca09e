#!/usr/bin/env python3
"""Writes docs/reference/ from conf/ and docstrings: every key of the configuration, and the Python API.

python scripts/make_reference.py [FOLDER]
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parent.parent
CONF = PROJECT / "conf"
REFERENCE = PROJECT / "docs" / "reference"

# what a user imports from
MODULES = {
    "nas_optuna": "What most need",
    "nas_optuna.space": "Which networks can be said",
    "nas_optuna.strategy": "Which network is tried next",
    "nas_optuna.estimation": "What a network is worth",
    "nas_optuna.data": "What networks learn from",
    "nas_optuna.export": "What becomes of a trained network",
    "nas_optuna.report": "What a search found",
    "nas_optuna.comparison": "Whether a search beat luck",
    "nas_optuna.reopen": "A finished study opened again",
}
NAMES = {"nas_optuna.reopen": ("reopen", "Reopened")}  # where a module does not say which are public
EXPERIMENT = "experiment"  # the group that sets keys of the others
SKIPPED = ("defaults", "hydra")  # Hydra's own
WIDTH = 88  # of a signature's line


@dataclasses.dataclass(frozen=True)
class Key:
    """One key of a YAML file.

    Attributes:
        path: With dots.
        value: As it is written; empty where there are keys below it.
        comment: The lines above it and behind it.
    """

    path: str
    value: str
    comment: str


def main() -> None:
    """Read the command line, write the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=REFERENCE)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text)
        print(folder / name)


def pages() -> dict[str, str]:
    """The pages by file name."""
    api = {f"{name}.md": describe_module(name) for name in MODULES}
    return {"README.md": describe_index(), "configuration.md": describe_configuration(), **api}


def describe_index() -> str:
    lines = ["# Reference", "", "Made from `conf/` and docstrings by `scripts/make_reference.py`.", ""]
    lines.append("- [Configuration](configuration.md): every group, choice and key of the commands")
    lines += [f"- [{name}]({name}.md): {said[0].lower()}{said[1:]}" for name, said in MODULES.items()]
    return "\n".join(lines) + "\n"


# --- configuration


def describe_configuration() -> str:
    """All keys of all commands and of all choices."""
    lines = [
        "# Configuration",
        "",
        "Every key, its default and what it means. `KEY=VALUE` on the command line sets it, `GROUP=CHOICE` "
        "takes another file of a group; a key that a choice lacks is added by a plus, "
        "`+space.block.expansion=[2,4]`. `null` is nothing, `???` has to be given, and `${...}` is the value "
        "of another key.",
        "",
    ]
    for path in _commands():
        lines += [f"## {_app_name(path)}", "", *_file(path)]
    for group in sorted(path for path in CONF.iterdir() if any(path.glob("*.yaml"))):
        lines += [f"## {group.name}", ""]
        for path in sorted(group.glob("*.yaml")):
            plus = "+" if group.name == EXPERIMENT else ""
            lines += [f"### {plus}{group.name}={path.stem}", "", *_file(path)]
    return "\n".join(lines).rstrip() + "\n"


def _commands() -> list[Path]:
    """A file for each command, the search first."""
    return sorted(CONF.glob("*.yaml"), key=lambda path: (path.stem != "config", path.stem))


def _app_name(path: Path) -> str:
    return str(yaml.safe_load(path.read_text())["hydra"]["help"]["app_name"])


def undocumented() -> list[str]:
    """Keys with a value that nothing is said of, as file:key."""
    return [
        f"{path.relative_to(CONF)}:{key.path}"
        for path in sorted(CONF.rglob("*.yaml"))
        for key in read_keys(path)
        if key.value and not meaning(path, key)
    ]


def _file(path: Path) -> Iterator[str]:
    head = _head(path)
    if head:
        yield from (*head, "")
    base = _base(path)
    if base is not None:
        yield from (f"As {_link(base)}, and beside that, or instead:", "")
    if chosen := _chosen(path):
        yield from (f"With {', '.join(chosen)}.", "")
    keys = read_keys(path)
    if not keys:
        return
    yield "| key | default | |"
    yield "|---|---|---|"
    for key in keys:
        if not (key.value or key.comment):
            continue
        value = f"`{_cell(key.value)}`" if key.value else ""
        yield f"| `{_full(path, key)}` | {value} | {_cell(meaning(path, key))} |"
    yield ""


def _full(path: Path, key: Key) -> str:
    """A key as the command line has it."""
    group = path.parent.name
    return key.path if group in (CONF.name, EXPERIMENT) else f"{group}.{key.path}"


def _link(path: Path) -> str:
    """To the part of the page that tells of a file."""
    if path.parent == CONF:
        name = _app_name(path)
        return f"[`{name}`](#{name.replace(' ', '-').replace('.', '')})"
    return f"[`{path.stem}`](#{path.parent.name}{path.stem})"


def read_keys(path: Path) -> list[Key]:
    """The keys of a file in order, without Hydra's own."""
    text = path.read_text()
    node = yaml.compose(text)
    if node is None:
        return []
    return [key for key in _walk(node, text.splitlines(), "") if key.path.split(".")[0] not in SKIPPED]


def _walk(node: yaml.MappingNode, lines: Sequence[str], prefix: str) -> Iterator[Key]:
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        below = isinstance(value, yaml.MappingNode) and value.value
        written = "" if below else _written(value, lines)
        yield Key(path, written, _comment(key, value, lines, is_parent=bool(below)))
        if below:
            yield from _walk(value, lines, f"{path}.")


def _written(value: yaml.Node, lines: Sequence[str]) -> str:
    start, end = value.start_mark, value.end_mark
    if start.line == end.line:
        return lines[start.line][start.column : end.column].strip()
    return " ".join(line.strip() for line in lines[start.line : end.line])


def _comment(key: yaml.Node, value: yaml.Node, lines: Sequence[str], *, is_parent: bool) -> str:
    """What stands above a key and behind it."""
    mark = key.start_mark
    above = []
    first = not lines[mark.line][: mark.column].strip()  # of its line
    line = mark.line - 1
    while first and line >= 0 and lines[line].startswith(" " * mark.column + "#"):
        above.insert(0, lines[line].strip().lstrip("# "))
        line -= 1
    if line < 0:
        above = []  # the file's own
    end = key.end_mark if is_parent and value.start_mark.line != mark.line else value.end_mark
    behind = lines[end.line][end.column :] if end.line == mark.line else ""
    found = re.search(r"(?:^|\s)#\s*(.*)$", behind)
    return _sentences(" ".join(above), found[1] if found else "")


def _sentences(above: str, behind: str) -> str:
    return f"{behind.rstrip('.')}. {above}" if above and behind else above or behind


def meaning(path: Path, key: Key) -> str:
    """What a key is for: its comment, or what is said of it where the same key is explained."""
    if key.comment:
        return key.comment
    if reference := re.fullmatch(r"\$\{([\w.]+)\}", key.value):
        return f"as `{reference[1]}`"
    if key.path.endswith("_target_"):
        return "the class, or the function that makes it"
    for other, name in _elsewhere(path, key.path):
        for known in read_keys(other):
            if known.path == name and known.comment:
                return known.comment
    return ""


def _elsewhere(path: Path, name: str) -> Iterator[tuple[Path, str]]:
    """Files that may explain a key, and its name in them."""
    # stages are alike
    first = re.sub(r"^stages\.\w+\.", "stages.stage1.", name)
    base = _base(path)
    files = [path] if base is None else [path, base]
    if path.parent.name == EXPERIMENT:
        group, _, rest = name.partition(".")
        files.append(CONF / "config.yaml")
        for other in sorted((CONF / group).glob("*.yaml")):
            yield other, rest
    for other in (*files, *sorted(path.parent.glob("*.yaml"))):
        yield from ((other, name), (other, first))


def _head(path: Path) -> list[str]:
    """The comment that a file begins with."""
    lines = []
    for line in path.read_text().splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" "))
    return _indented_as_code(lines)


def _indented_as_code(lines: Sequence[str]) -> list[str]:
    """Commands that stand in a comment, with two blanks before them, as Markdown has them."""
    found: list[str] = []
    for line in lines:
        is_code = line.startswith("  ")
        if is_code and found and not found[-1].startswith("    "):
            found.append("")
        found.append(f"    {line.strip()}" if is_code else line)
    return found


def _base(path: Path) -> Path | None:
    """The file of the same group that a choice builds on."""
    content = yaml.safe_load(path.read_text()) or {}
    for entry in content.get("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            return path.with_name(f"{entry}.yaml")
    return None


def _chosen(path: Path) -> list[str]:
    """Choices of other groups that a file takes."""
    content = yaml.safe_load(path.read_text()) or {}
    entries = [entry for entry in content.get("defaults", []) if isinstance(entry, dict)]
    pairs = [(key.removeprefix("override /"), value) for entry in entries for key, value in entry.items()]
    return [f"`{group}={choice}`" for group, choice in pairs if "hydra/" not in group]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


# --- Python


def describe_module(name: str) -> str:
    """The public names of a module."""
    module = importlib.import_module(name)
    lines = [f"# {name}", "", _prose(inspect.getdoc(module) or ""), ""]
    names = NAMES.get(name) or module.__all__
    for public in sorted(names, key=lambda public: (_kind(getattr(module, public)), public)):
        lines += [f"## {public}", "", *_describe(public, getattr(module, public))]
    return "\n".join(lines).rstrip() + "\n"


def _kind(value: Any) -> int:
    """Classes first, then functions, then the rest."""
    return 0 if inspect.isclass(value) else 1 if inspect.isfunction(value) else 2


def _describe(name: str, value: Any) -> Iterator[str]:
    kind = _kind(value)
    if kind == 2:
        yield from (f"`{_short(value)}`", "")
        return
    yield from (_code(_signature(name, value)), "")
    yield from (_markdown(inspect.getdoc(value) or ""), "")
    if kind == 0:
        yield from _members(name, value)


def _members(owner: str, value: type) -> Iterator[str]:
    for name, member in vars(value).items():
        if name.startswith("_") and name != "__call__":
            continue
        inner = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if isinstance(inner, property):
            said = inspect.getdoc(inner) or ""
            yield from (
                f"`{owner}.{name}`: {_prose(said.splitlines()[0])}" if said else f"`{owner}.{name}`",
                "",
            )
        elif inspect.isfunction(inner) and inner.__doc__:
            is_method = not isinstance(member, staticmethod)
            shown = owner if name == "__call__" else f"{owner}.{name}"
            yield from (_code(_signature(shown, inner, is_method=is_method)), "")
            yield from (_markdown(inspect.cleandoc(inner.__doc__)), "")


def _signature(name: str, value: Any, *, is_method: bool = False) -> str:
    if getattr(value, "_is_protocol", False):
        return f"class {name}"
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return name
    parameters = list(signature.parameters.values())
    if is_method and parameters and parameters[0].name in ("self", "cls"):
        parameters = parameters[1:]
    written, previous = [], None
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and previous not in (
            parameter.KEYWORD_ONLY,
            parameter.VAR_POSITIONAL,
        ):
            written.append("*")
        written.append(_parameter(parameter))
        previous = parameter.kind
    returns = "" if inspect.isclass(value) else _annotation(signature.return_annotation, " -> ")
    line = f"{name}({', '.join(written)}){returns}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {text}," for text in written), f"){returns}"])


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    annotation = _annotation(parameter.annotation, ": ")
    if parameter.default is parameter.empty:
        return f"{stars}{parameter.name}{annotation}"
    equals = " = " if annotation else "="
    return f"{stars}{parameter.name}{annotation}{equals}{_short(parameter.default)}"


def _annotation(annotation: Any, before: str) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    return f"{before}{annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)}"


def _short(value: Any) -> str:
    """A default or a constant; what has an address in its name is said by its class or name alone."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: ..." for key in value) + "}"
    if inspect.isclass(value) or inspect.isfunction(value):
        return value.__name__
    if isinstance(value, tuple) and any(map(inspect.isclass, value)):
        return f"({', '.join(map(_short, value))})"
    return re.sub(r"<(?:[\w.]*\.)?(\w+)[^<>]*>", r"\1(...)", repr(value))


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


def _markdown(text: str) -> str:
    """A docstring in Google's form: its sections become lists."""
    parts = re.split(r"^(Args|Attributes|Returns|Raises|Yields):\n", f"{text}\n", flags=re.MULTILINE)
    written = [_prose(parts[0].strip())]
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        lines = textwrap.dedent(body).strip("\n")
        end = re.search(r"^\S.*(?:\n(?:[ ].*|))*\Z", lines, flags=re.MULTILINE)
        assert end is not None
        written.append(f"{title}:\n\n{_items(lines, is_prose=title in ('Returns', 'Yields'))}")
    return "\n\n".join(written)


def _items(lines: str, *, is_prose: bool) -> str:
    """A list of what each name is, or, of what is returned, a paragraph."""
    if is_prose:
        return _prose(lines)
    entries = re.split(r"\n(?=\S)", lines)
    found = []
    for entry in entries:
        name, colon, said = entry.partition(":")
        joined = " ".join(said.split())
        found.append(f"- `{name}`: {_prose(joined)}" if colon else f"- {_prose(entry)}")
    return "\n".join(found)


def _prose(text: str) -> str:
    return re.sub(r"``(.+?)``", r"`\1`", re.sub(r"::$", ":", text, flags=re.MULTILINE))


if __name__ == "__main__":
    main()
