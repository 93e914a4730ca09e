"""Search space: prior knowledge on request, networks that are tried before the strategy has a say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from nas_optuna.errors import InputError
from nas_optuna.space.architecture import Architecture
from nas_optuna.space.base import Space
from nas_optuna.space.choice import Choice

# decisions by the last part of their name, the preferred options first; what must be met
KNOWN: dict[str, dict[str, tuple[Any, ...]]] = {
    "resnet": {"layer": ("conv",), "kernel": (3,), "residual": (True, "same"), "groups": (1,)},
    "mobilenet": {
        "layer": ("mbconv", "dwsep"),
        "kernel": (3,),
        "expansion": (6,),
        "residual": ("same", False),
    },
}

NEEDED = {"resnet": {"layer", "residual"}, "mobilenet": {"layer"}}


def resolve_seeds(space: Space) -> dict[str, dict[str, Any]]:
    """The points of ``space.seeds``: a label to the decisions that give the network.

    ``auto`` is the well-known network that the space can say, if there is one: ``resnet``, or else
    ``mobilenet``. In a list, a seed is one of

    - ``resnet`` (He et al. 2016: standard 3 x 3 convolutions, residual) or ``mobilenet`` (Sandler et
      al. 2018: inverted bottlenecks, or depthwise-separable convolutions); what they leave open,
      such as widths, is taken from the middle of its range;
    - values by the decision's name, or by its last part for all decisions that end so;
    - a JSON file of an architecture, or the folder of an earlier study: its best network and its front.

    Raises:
        InputError: A seed can't be read, or is no network of this space.
    """
    if isinstance(space.seeds, str):
        return _first_known(space)
    seeds: dict[str, dict[str, Any]] = {}
    for entry in space.seeds:
        known = {space.at(values).hash for values in seeds.values()}
        found = _resolve(space, entry)
        seeds |= {label: values for label, values in found.items() if space.at(values).hash not in known}
    return seeds


def _first_known(space: Space) -> dict[str, dict[str, Any]]:
    for label in KNOWN:
        with suppress(InputError):
            return _resolve(space, label)
    return {}


def _resolve(space: Space, entry: Any) -> dict[str, dict[str, Any]]:
    if entry == {}:
        raise InputError(
            "space.seeds: an empty mapping decides nothing: give values by name, or leave it out."
        )
    if isinstance(entry, Mapping) and "schema" in entry:
        return _from_architectures(space, "architecture", [_read(entry, "space.seeds")])
    if isinstance(entry, Mapping):
        wanted = {str(name): (value,) for name, value in entry.items()}
        return {str(dict(entry)): _from_values(space, str(dict(entry)), wanted, needed=set(wanted))}
    if isinstance(entry, str) and entry in KNOWN:
        return {entry: _from_values(space, repr(entry), KNOWN[entry], needed=NEEDED[entry])}
    if isinstance(entry, str):
        return _from_architectures(space, entry, _load(entry))
    raise InputError(
        f"space.seeds: {entry!r} must be one of {', '.join(KNOWN)}, a mapping of decisions, a JSON file, "
        "or the folder of an earlier study."
    )


def _from_values(
    space: Space, label: str, wanted: Mapping[str, tuple[Any, ...]], *, needed: set[str]
) -> dict[str, Any]:
    met: set[str] = set()
    values = {}
    for name, choice in space.decisions.items():
        key = name if name in wanted else name.rpartition(".")[2]
        option = next((value for value in wanted.get(key, ()) if _is_option(value, choice)), None)
        if option is not None:
            met.add(key)
        elif key in needed and key in wanted:
            raise InputError(
                f"space.seeds: {label} wants {key}={wanted[key][0]!r}, but {name} has only "
                f"{', '.join(map(str, choice.options))}."
            )
        if choice.is_open:
            values[name] = _middle(choice) if option is None else option
    lacking = sorted(needed - met)
    if lacking:
        raise InputError(
            f"space.seeds: {label} decides {lacking[0]!r}, which this space does not; "
            f"it decides {', '.join(list(space.decisions)[:8])}, ..."
        )
    return values


def _from_architectures(
    space: Space, label: str, architectures: list[Architecture]
) -> dict[str, dict[str, Any]]:
    points = {f"{label} {found.hash}": space.encode(found) for found in architectures}
    said = {name: values for name, values in points.items() if values is not None}
    if not said:
        raise InputError(
            f"space.seeds: {label}: this space can't say {architectures[0]}. "
            "Widen the space, or leave it out."
        )
    return said


def _load(path: str) -> list[Architecture]:
    try:
        place = Path(path).expanduser()
        if place.is_dir():
            place /= "summary.json" if (place / "summary.json").is_file() else "architecture.json"
        values = json.loads(place.read_text())
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"space.seeds: {path!r} can't be read ({error}). Give one of {', '.join(KNOWN)}, the JSON file "
            "of an architecture, or the folder of an earlier study."
        ) from error
    found = values if isinstance(values, Mapping) else {}
    if "trials" in found:
        front = found.get("front") or []
        entries = [found.get("best"), *(front if isinstance(front, list) else [front])]
        networks = [
            entry.get("architecture") if isinstance(entry, Mapping) else entry for entry in entries if entry
        ]
        if not networks:
            raise InputError(f"space.seeds: the study in {path!r} found no network. Leave it out.")
        return [_read(network, path) for network in networks]
    return [_read(found.get("architecture", found), path)]


def _read(values: Any, path: str) -> Architecture:
    try:
        return Architecture.from_dict(values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"space.seeds: {path!r} holds no architecture ({type(error).__name__}: {error})."
        ) from error


def _is_option(value: Any, choice: Choice) -> bool:
    # True equals 1, and is another option
    return any(value == option and type(value) is type(option) for option in choice.options)


def _middle(choice: Choice) -> Any:
    ordered = all(type(option) is int for option in choice.options)
    return choice.options[len(choice.options) // 2 if ordered else 0]
