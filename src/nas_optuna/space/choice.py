"""Search space: one decision, read from YAML and asked of a trial."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import BaseTrial

from nas_optuna.errors import InputError, check_number


@dataclass(frozen=True)
class Choice:
    """The options of one decision.

    In YAML a scalar is a fixed value and a list holds options. ``1..3``, ``16..32 by 8``, or a mapping
    with ``low``, ``high`` and an optional ``step`` is a range of integers. A list of integers in equal
    steps, such as ``[3, 5, 7]``, is the same as its range: samplers then know which options are
    neighbours.

    Attributes:
        options: Every possible value, in order.
        step: Distance between neighbours of a range, or None where the options have no order.
    """

    options: tuple[Any, ...]
    step: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is anything to decide."""
        return len(self.options) > 1

    def suggest(self, trial: BaseTrial, name: str) -> Any:
        """Ask the trial for a value. A decision with one option is not asked at all."""
        if not self.is_open:
            return self.options[0]
        if self.step is not None:
            return trial.suggest_int(name, self.options[0], self.options[-1], step=self.step)
        return trial.suggest_categorical(name, self.options)

    @property
    def distribution(self) -> BaseDistribution:
        """What ``suggest`` asks of a trial."""
        if self.step is not None:
            return IntDistribution(self.options[0], self.options[-1], step=self.step)
        return CategoricalDistribution(self.options)


def parse_choice(key: str, value: Any) -> Choice:
    """Read a decision from its YAML value.

    Args:
        key: Where it stands in the configuration, for error messages.
        value: A scalar, a list, a range as text, or a mapping with ``low``, ``high`` and optionally
            ``step``.

    Raises:
        InputError: The options are empty, repeated or contradictory.
    """
    if isinstance(value, Mapping):
        return _parse_range(key, value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        options = _parse_options(key, list(value))
        return Choice(options, _common_step(options))
    if value is None:
        raise InputError(f"{key} is empty: give a value, a list, or a range such as 16..32 by 8.")
    # a word, unlike a list or a mapping, can be replaced by any other form on the command line
    if isinstance(value, str) and ".." in value:
        return _parse_range(key, _read_range(key, value))
    return Choice((value,))


def parse_integers(key: str, value: Any, *, minimum: int) -> Choice:
    """Read a decision whose options are whole numbers of at least ``minimum``."""
    choice = parse_choice(key, value)
    for option in choice.options:
        check_number(key, option, whole=True, at_least=minimum)
    return choice


def parse_kernel(key: str, value: Any) -> Choice:
    """Read a decision whose options are odd sides of kernels, in pixels."""
    choice = parse_integers(key, value, minimum=1)
    even = [option for option in choice.options if option % 2 == 0]
    if even:
        raise InputError(
            f"{key}: {even[0]} is even: kernels must be odd (1, 3, 5, ...) to keep the image's size."
        )
    return choice


def parse_words(key: str, value: Any, known: Sequence[Any]) -> Choice:
    """Read a decision whose options are among known words."""
    choice = parse_choice(key, value)
    for option in choice.options:
        # True equals 1, and is another word
        if option not in known or type(option) not in map(type, known):
            raise InputError(f"{key}: {option!r} is unknown; known: {', '.join(map(_spell, known))}.")
    return choice


def _spell(word: Any) -> str:
    return str(word).lower() if isinstance(word, bool) else str(word)


def _parse_options(key: str, options: list[Any]) -> tuple[Any, ...]:
    if not options:
        raise InputError(f"{key} is an empty list: give at least one option.")
    for option in options:
        if not isinstance(option, bool | int | float | str):
            raise InputError(f"{key}: {option!r} must be a number, a word, true or false.")
    if len(set(map(repr, options))) < len(options):
        raise InputError(f"{key}: {options} repeats an option: name each one once.")
    return tuple(options)


def _common_step(options: tuple[Any, ...]) -> int | None:
    """The distance between neighbours where the options are integers in equal, rising steps."""
    if len(options) < 2 or not all(type(option) is int for option in options):
        return None
    steps = {after - before for before, after in itertools.pairwise(options)}
    return steps.pop() if len(steps) == 1 and min(steps) > 0 else None


def _read_range(key: str, text: str) -> dict[str, int]:
    found = re.fullmatch(r"\s*(-?\d+)\s*\.\.\s*(-?\d+)\s*(?:by\s+(-?\d+)\s*)?", text)
    if not found:
        raise InputError(f"{key}: {text!r} must be low..high or low..high by step, such as 16..32 by 8.")
    return {
        name: int(number)
        for name, number in zip(("low", "high", "step"), found.groups(), strict=True)
        if number
    }


def _parse_range(key: str, value: Mapping[str, Any]) -> Choice:
    unknown = set(value) - {"low", "high", "step"}
    if unknown or not {"low", "high"} <= set(value):
        raise InputError(f"{key}: {dict(value)} must have low, high and at most a step beside them.")
    low, high, step = value["low"], value["high"], value.get("step", 1)
    check_number(f"{key}.low", low, whole=True)
    check_number(f"{key}.high", high, whole=True)
    check_number(f"{key}.step", step, whole=True, at_least=1)
    if low > high:
        raise InputError(f"{key}: low {low} is above high {high}: swap them or widen the range.")
    if (high - low) % step:
        nearest = high - (high - low) % step
        raise InputError(
            f"{key}: high {high} can't be reached from low {low} in steps of {step}: "
            f"use high {nearest} or {nearest + step}."
        )
    return Choice(tuple(range(low, high + 1, step)), step)
