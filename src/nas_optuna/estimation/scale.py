"""Performance estimation: fidelities beside a training's length, the size of images and of networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nas_optuna.errors import InputError, check_number
from nas_optuna.space import Architecture
from nas_optuna.space.widths import scale_widths


@dataclass(frozen=True)
class Scale:
    """How much smaller than in earnest a training is.

    Attributes:
        resolution: Part of the images' side at which a network is trained and judged, above 0 and up to 1.
        width: Factor of all its widths, above 0 and up to 1; see ``scale_widths``.
    """

    resolution: float = 1.0
    width: float = 1.0

    def __post_init__(self) -> None:
        for name in ("resolution", "width"):
            check_number(f"estimation.fidelity.{name}", getattr(self, name), above=0, at_most=1)

    def __str__(self) -> str:
        return f"{self.resolution:g} of the images' side and {self.width:g} of the networks' widths"

    def network(self, architecture: Architecture) -> Architecture:
        """What is trained in place of a network."""
        return scale_widths(architecture, self.width)

    def shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """Channels and size of what it sees in place of images (C, H, W); series (C, L) stay."""
        channels, *sides = input_shape
        if len(sides) == 1:
            return tuple(input_shape)
        return (channels, *(max(1, round(side * self.resolution)) for side in sides))

    def check(self, input_shape: Sequence[int]) -> None:
        """Raise an ``InputError`` where inputs have no resolution to lower."""
        if self.resolution < 1 and len(input_shape) != 3:
            raise InputError(
                f"estimation.fidelity.resolution: {self.resolution} is for images, the data holds series. "
                "Leave it at 1."
            )


FULL = Scale()


def parse_scale(setting: Any) -> Scale:
    """The scale of trials from ``estimation.fidelity``.

    Raises:
        InputError: It is no mapping of the attributes of ``Scale``, or a number is out of its range.
    """
    if setting is None:
        return FULL
    known = list(Scale.__annotations__)
    if not isinstance(setting, Mapping) or set(setting) - set(known):
        raise InputError(f"estimation.fidelity: {setting!r} must have no other keys than {', '.join(known)}.")
    return Scale(**setting)
