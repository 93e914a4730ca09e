"""Which code the configuration of a study may name: a study may come from a stranger."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nas_optuna.errors import InputError

# classes that do nothing but keep what they are given, or read data and networks
OURS = (
    "nas_optuna.data",
    "nas_optuna.estimation",
    "nas_optuna.space",
    "nas_optuna.strategy",
    "optuna.pruners",
    "optuna.samplers",
)
FUNCTIONS = ("nas_optuna.strategy.choose_sampler",)


def check_targets(config: Mapping[str, Any], *, allow: Sequence[str] = ()) -> None:
    """Refuse a configuration that names code beyond ours and what the user trusts.

    What is named must be a class that lives there, in a module of that name: a path that leads through a
    module to something it imported is none.

    Args:
        config: As plain containers.
        allow: Modules or packages of the user's own; their functions may be named as well.

    Raises:
        InputError: Something else is named, or a value is an interpolation.
    """
    for module in allow:
        if not isinstance(module, str) or not all(part.isidentifier() for part in module.split(".")):
            raise InputError(f"allow: {module!r} must be the name of a module, such as my_layers.")
    for key, value in _walk(config):
        if isinstance(value, str) and "${" in value:
            raise InputError(
                f"{key}: {value!r} in the study's configuration is an interpolation, which is not worked "
                "out. Search again, to have a study that says what it means."
            )
        if key.rpartition(".")[2] == "_target_":
            _check(key, value, allow)


def foreign_modules(config: Any) -> list[str]:
    """The modules beyond ours that a configuration of the user's own names."""
    targets = [str(value) for key, value in _walk(config) if key.rpartition(".")[2] == "_target_"]
    return sorted({target.rpartition(".")[0] for target in targets if not _is_within(target, OURS)})


def _check(key: str, target: Any, allow: Sequence[str]) -> None:
    if target in FUNCTIONS:
        return
    if not isinstance(target, str) or not _is_within(target, (*OURS, *allow)):
        raise InputError(
            f"{key}: the study names {target!r}, which is no part of nas_optuna. If you trust it, say so: "
            f"allow=[{str(target).partition('.')[0]}]."
        )
    name, _, attribute = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"{key}: the study names {target!r}, which can't be imported ({error}). Run this where the "
            "search was run, with the same version."
        ) from error
    home = str(getattr(found, "__module__", ""))
    is_class = isinstance(found, type) and _is_within(home, OURS)
    if not is_class and not (callable(found) and _is_within(home, allow)):
        raise InputError(
            f"{key}: the study names {target!r}, which is no class of the module it is looked for in. "
            "If you trust it, allow the module that it is from."
        )


def _is_within(name: str, modules: Sequence[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _walk(value: Any, key: str = "configuration") -> Iterator[tuple[str, Any]]:
    yield key, value
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _walk(part, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from _walk(part, f"{key}.{index}")
