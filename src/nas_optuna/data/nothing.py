"""Data: none at all, for searches that look networks up in a table."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from nas_optuna.data.labelled import LabelledData, Split, SplitName
from nas_optuna.errors import InputError, check_number


class NoData(LabelledData):
    """What networks would be trained on if they were: its shape and classes, without examples.

    Args:
        input_shape: Channels, then height and width, or length.
        classes: How many.

    Raises:
        InputError: A number is not positive.
    """

    def __init__(self, *, input_shape: Sequence[int], classes: int) -> None:
        super().__init__(augment=lambda inputs, _: inputs)
        for number in input_shape:
            check_number("data.input_shape", number, whole=True, at_least=1)
        check_number("data.classes", classes, whole=True, at_least=2)
        self._input_shape = tuple(input_shape)
        self.classes = tuple(map(str, range(classes)))

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "augmentation": None}

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Channels, then height and width, or length."""
        return self._input_shape

    @functools.cached_property
    def fingerprint(self) -> str:
        """Nothing that could change."""
        return "none"

    def prepare(self) -> None:
        """There is nothing to check."""

    def share(self) -> None:
        """There is nothing to share."""

    def read(self, name: SplitName) -> Split:
        """Raise: nothing can be trained on it."""
        raise InputError(
            "data: 'none' holds no examples: it is for estimation=table. Choose another data or estimation."
        )

    @functools.cached_property
    def normalization(self) -> tuple[list[float], list[float]]:
        """What changes nothing."""
        channels = self._input_shape[0]
        return [0.0] * channels, [1.0] * channels
