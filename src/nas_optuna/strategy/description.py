"""Search strategy: what a search space may tell of a point, beside its parameters."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Description:
    """What a point means.

    Attributes:
        identity: Equal for points that mean the same: only one of them is asked for.
        features: Numbers that help to predict its worth, as many for each point.
        is_allowed: Whether it keeps the limits that are known beforehand.
        void: Names of the parameters that the others make void, as the layer of a block that is not there:
            nothing is learned from them.
    """

    identity: Hashable
    features: tuple[float, ...] = ()
    is_allowed: bool = True
    void: frozenset[str] = frozenset()


# from the parameters of a trial; some may be missing where they depend on one another
Describe = Callable[[Mapping[str, Any]], Description]
