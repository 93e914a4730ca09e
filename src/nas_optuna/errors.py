"""Exceptions that mean "the request is wrong" or "it found nothing", as opposed to "the program is wrong"."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any


class InputError(ValueError):
    """A request that can't be carried out.

    Its message is one line that names the value, the rule it broke and the cure. The command line
    prints it without a traceback and exits with code 2.
    """


class NothingFound(Exception):
    """A search ended without a network that was trained to the end. What is known was reported."""


class StorageGone(BaseException):
    """The study's storage has not answered for too long. What it was told before is kept.

    It is no ``Exception``: whoever catches the errors of a network, Optuna among them, must not take it for
    one. Its message is one line.
    """


def is_full(error: OSError) -> bool:
    """Whether it says that a disk has no room left, or its user none."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def check_number(
    key: str,
    value: Any,
    *,
    whole: bool = False,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> None:
    """Raise an ``InputError`` that names ``key`` unless ``value`` is a number within the bounds.

    Args:
        key: Where the value stands in the configuration.
        value: What was given.
        whole: Allow integers only.
        above, at_least: Lower bound, without and with the bound itself.
        below, at_most: Upper bound, without and with the bound itself.
    """
    bounds = {"above": above, "at least": at_least, "below": below, "at most": at_most}
    stated = [f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None]
    is_number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    fulfilled = is_number and (
        (above is None or value > above)
        and (at_least is None or value >= at_least)
        and (below is None or value < below)
        and (at_most is None or value <= at_most)
    )
    if not fulfilled:
        rule = ", ".join(["a whole number" if whole else "a number", *stated])
        raise InputError(f"{key}: {value!r} must be {rule}.")


def check_one_of(key: str, value: Any, known: Sequence[Any]) -> None:
    """Raise an ``InputError`` that names ``key`` and the known words unless ``value`` is one of them."""
    if value not in known:
        raise InputError(f"{key}: {value!r} is unknown; known: {', '.join(map(str, known))}.")
