"""Comparison: searches that differ in their seeds alone are a group; what can't be compared is refused."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from omegaconf import OmegaConf

from nas_optuna.comparison.run import Run
from nas_optuna.errors import InputError, check_one_of
from nas_optuna.estimation import Fidelity

QUESTIONS = ("space", "estimation", "objective")  # what may differ where that is what is compared
GROUPS = ("strategy", "estimation", "objective", "space", "data")  # of the configuration
# neither makes a search another one: seeds, places, and the length that a plan gives
FREE = ("seed", "strategy.seed", "study_name", "study_dir", "storage", "cache_dir", "plan")
SIMILAR_LENGTHS = 1.25  # longest over shortest training, in passes over the images, that is still comparable
RANDOM = "optuna.samplers.RandomSampler"


@dataclass(frozen=True)
class Group:
    """Searches that differ in their seeds alone.

    Attributes:
        label: What sets it apart from the others, in a few words.
        runs: By seed, in their order.
        is_random: Whether its strategy is chance.
    """

    label: str
    runs: Mapping[int, Run]
    is_random: bool


def make_groups(runs: Sequence[Run], *, across: Sequence[str] = ()) -> list[Group]:
    """Sort searches into groups, in the order in which they are given.

    Args:
        runs: Read from different folders.
        across: Groups of the configuration that may differ although accuracies depend on them.

    Raises:
        InputError: There is nothing to compare, or something that can't be; names the key.
    """
    check_comparable(runs, across=across)
    settings = [_settings(run) for run in runs]
    keys = sorted({key for one in settings for key in one})
    varying = [key for key in keys if len({repr(one.get(key)) for one in settings}) > 1]
    if not varying:
        raise InputError(
            f"the {len(runs)} searches differ in nothing but their seeds, so there is nothing to compare "
            "them with. Add searches of another strategy, such as strategy=random."
        )
    alike: dict[tuple[str, ...], list[Run]] = {}
    for run, one in zip(runs, settings, strict=True):
        alike.setdefault(tuple(repr(one.get(key)) for key in varying), []).append(run)
    labels = _labels([members[0] for members in alike.values()], varying)
    return [
        Group(label, _by_seed(members), _is_random(members[0]))
        for label, members in zip(labels, alike.values(), strict=True)
    ]


def _by_seed(runs: Sequence[Run]) -> dict[int, Run]:
    found: dict[int, Run] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        if run.seed in found:
            raise InputError(
                f"seed: {found[run.seed].folder} and {run.folder} are the same search with the same seed, "
                f"{run.seed}. Leave one of them out."
            )
        found[run.seed] = run
    return found


def check_comparable(runs: Sequence[Run], *, across: Sequence[str] = ()) -> None:
    """Refuse searches whose accuracies mean different things.

    Raises:
        InputError: Names the key in which two of them differ.
    """
    for word in across:
        check_one_of("across", word, QUESTIONS)
    first = runs[0]
    before = _results_depend_on(first)
    for run in runs[1:]:
        now = _results_depend_on(run)
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key) and key.partition(".")[0] not in across:
                raise InputError(
                    f"{key}: {first.folder} has {before.get(key)!r}, {run.folder} has {now.get(key)!r}, so "
                    f"what they reach can't be compared. Compare searches that share it{_cure(key)}."
                )
    if "estimation" not in across:
        _check_lengths(runs)


def _check_lengths(runs: Sequence[Run]) -> None:
    ordered = sorted(runs, key=passes)
    shortest, longest = ordered[0], ordered[-1]
    if passes(longest) > SIMILAR_LENGTHS * passes(shortest):
        raise InputError(
            f"estimation.epochs: a training of {longest.folder} passes {passes(longest):.1f} times over the "
            f"images, one of {shortest.folder} {passes(shortest):.1f} times, so accuracies can't be "
            "compared. Set estimation.epochs and estimation.data_share for all of "
            f"them{_cure('estimation.epochs')}."
        )


def passes(run: Run) -> float:
    """How often a training of the search visits each image."""
    return float(run.plan["epochs"]) * float(run.plan["data_share"])


def _results_depend_on(run: Run) -> dict[str, Any]:
    """What must be equal for results to be comparable, by key."""
    asked = run.config["objective"]
    limits = {name: limit for name, limit in (asked.get("limits") or {}).items() if limit is not None}
    objective = {**run.fingerprint.get("objective", {}), "directions": " ".join(run.directions)}
    same = {**run.fingerprint, "objective": {**objective, "limits": limits}}
    return dict(_flatten(same))


def _cure(key: str) -> str:
    head = key.partition(".")[0]
    if head not in QUESTIONS or key == "objective.directions":
        return ""
    return f"; if it is itself the question, say so: across={head}"


def _settings(run: Run) -> dict[str, Any]:
    """What makes a search another one, by key. What its data is was compared already, by content."""
    lengths = [f"estimation.{name}" for name in Fidelity.__annotations__]
    flat = _flatten({name: value for name, value in run.config.items() if name != "data"})
    return {key: value for key, value in flat if key not in (*FREE, *lengths)}


def _is_random(run: Run) -> bool:
    return bool(run.config["strategy"].get("_target_") == RANDOM)


def _labels(runs: Sequence[Run], varying: Sequence[str]) -> list[str]:
    """What sets each apart from the others: names of choices as the command line has them, or settings."""
    parts: list[list[str]] = [[] for _ in runs]
    flat = [dict(_flatten(run.config)) for run in runs]
    for head in sorted({key.partition(".")[0] for key in varying}, key=_place):
        names = [_choice(head, run.config[head]) if head in GROUPS else "" for run in runs]
        for index, name in enumerate(names):
            if len(set(names)) > 1:
                parts[index].append(name)
            alike = [other for other, known in enumerate(names) if known == name]
            for key in varying:
                values = {repr(flat[other].get(key)) for other in alike}
                if key.partition(".")[0] == head and len(values) > 1:
                    parts[index].append(f"{key}={flat[index].get(key)}")
    return [", ".join(part) for part in parts]


def _place(head: str) -> tuple[int, str]:
    return (GROUPS.index(head) if head in GROUPS else len(GROUPS)), head


def _choice(group: str, settings: Mapping[str, Any]) -> str:
    """The file of a group that a part of a configuration came from: the most alike with the same classes."""
    flat = dict(_flatten(settings))
    alike = {}
    for name, values in _choices(group).items():
        if all(flat.get(key) == value for key, value in values.items() if key.endswith("_target_")):
            alike[name] = sum(flat.get(key) == value for key, value in values.items())
    if alike:
        return max(alike, key=alike.__getitem__)
    return str(flat.get("_target_")).rpartition(".")[2]


@functools.cache
def _choices(group: str) -> dict[str, dict[str, Any]]:
    """The files of a group, flat, by name."""
    folder = files("nas_optuna.conf") / group
    found = {}
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            values = OmegaConf.to_container(OmegaConf.create(file.read_text()))
            assert isinstance(values, dict)
            found[file.name.removesuffix(".yaml")] = dict(_flatten(values))
    return found


def _flatten(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(values, Mapping):
        yield prefix, values
        return
    for key, value in values.items():
        yield from _flatten(value, f"{prefix}.{key}" if prefix else str(key))
