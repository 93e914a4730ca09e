"""Search space: what every space offers, from its decisions and the way they are read."""

from __future__ import annotations

import functools
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import BaseTrial

from nas_optuna.errors import InputError, check_one_of
from nas_optuna.space.architecture import Architecture
from nas_optuna.space.choice import Choice

ENCODINGS = ("flat", "conditional")
ENUMERABLE = 20_000  # points that are gone through one by one

Values = Mapping[str, Any]
Get = Callable[[str], Any]


@dataclass(frozen=True)
class Size:
    """How many networks a space can say.

    Attributes:
        networks: Distinct networks; where they were not counted, combinations of decisions.
        exact: Whether they were counted.
    """

    networks: int
    exact: bool

    def __str__(self) -> str:
        return f"{self.networks:,} distinct networks" if self.exact else f"at most {self.networks:,} networks"


class Space(ABC):
    """Decisions, and how an architecture follows from them.

    A subclass gives the decisions and ``decode``; encodings, distributions, size and the way back
    from an architecture follow.

    Args:
        decisions: Every decision of the space by its name in the study. Those with one option are
            settled and never asked.
        encoding: ``flat`` asks a trial for every decision and ignores the ones that the others make
            void: joint samplers need it. ``conditional`` asks for those that matter only.
        seeds: What is tried first; see ``nas_optuna.space.seeds``.

    Attributes:
        dimensions: Axes of the data beside channels: 2 for images, 1 for series.
    """

    dimensions = 2

    def __init__(
        self, decisions: Mapping[str, Choice], *, encoding: str = "flat", seeds: Sequence[Any] | str = ()
    ) -> None:
        check_one_of("space.encoding", encoding, ENCODINGS)
        if seeds != "auto" and (isinstance(seeds, str | Mapping) or not isinstance(seeds, Sequence)):
            raise InputError(f"space.seeds: {seeds!r} must be auto or a list, such as [resnet].")
        self.decisions = dict(decisions)
        self.encoding = encoding
        self.seeds: list[Any] | str = seeds if isinstance(seeds, str) else list(seeds)

    @abstractmethod
    def decode(self, get: Get) -> Architecture:
        """The architecture of a point, asking ``get`` for the decisions that matter and no others."""

    def __call__(self, trial: BaseTrial) -> Architecture:
        """Ask the trial for one network."""
        if self.encoding == "flat":
            values = {name: choice.suggest(trial, name) for name, choice in self.decisions.items()}
            return self.decode(values.__getitem__)
        return self.decode(lambda name: self.decisions[name].suggest(trial, name))

    def check_input(self, shape: Sequence[int]) -> None:
        """Raise an ``InputError`` unless the networks take inputs of this shape: channels, then size."""
        kinds = {1: "series", 2: "images"}
        if len(shape) - 1 != self.dimensions:
            raise InputError(
                f"space: its networks are for {kinds[self.dimensions]}, the data holds "
                f"{kinds.get(len(shape) - 1, 'something else')}: set space.dimensions={len(shape) - 1}, "
                "or choose another space or data."
            )

    def at(self, values: Values) -> Architecture:
        """The architecture of a point.

        Args:
            values: The open decisions; void ones may be left out.
        """
        return self.decode(lambda name: values[name] if name in values else self.decisions[name].options[0])

    def void(self, values: Values) -> set[str]:
        """Names of the decisions that a point's others make void, as the layer of a block that is not there.

        Args:
            values: The open decisions; void ones may be left out.
        """
        matter = set()

        def get(name: str) -> Any:
            matter.add(name)
            return values[name] if name in values else self.decisions[name].options[0]

        self.decode(get)
        return set(values) - matter

    def features(self, network: Architecture) -> tuple[float, ...]:
        """Numbers, as many for each network, that help to predict what one in canonical form is worth."""
        return ()

    def distributions(self) -> dict[str, BaseDistribution]:
        """The flat space, for samplers that need one beforehand."""
        return {name: choice.distribution for name, choice in self.decisions.items() if choice.is_open}

    @property
    def points(self) -> int:
        """Combinations of decisions in the flat space."""
        return math.prod(len(choice.options) for choice in self.decisions.values())

    def size(self) -> Size:
        """The number of distinct networks, exactly where that is cheap."""
        if self.points > ENUMERABLE:
            return Size(self.points, exact=False)
        return Size(len(self._points_by_hash), exact=True)

    def encode(self, architecture: Architecture) -> dict[str, Any] | None:
        """Decisions that give a network equal to ``architecture``; None where the space can't say it."""
        if self.points > ENUMERABLE:
            return None
        return self._points_by_hash.get(architecture.hash)

    @functools.cached_property
    def _points_by_hash(self) -> dict[str, dict[str, Any]]:
        return {self.at(values).hash: values for values in self._enumerate()}

    def _enumerate(self) -> Iterator[dict[str, Any]]:
        names = [name for name, choice in self.decisions.items() if choice.is_open]
        for values in itertools.product(*(self.decisions[name].options for name in names)):
            yield dict(zip(names, values, strict=True))
