"""Performance estimation: which classes are taken for which."""

from __future__ import annotations

import torch
from torch import Tensor

MOST_CLASSES = 100  # whose table is still read by someone, and fits where it is kept


class Confusion:
    """Counts examples by their class and by the class that a network takes them for.

    Attributes:
        classes: How many; None before the first batch.
    """

    def __init__(self) -> None:
        self.classes: int | None = None
        self._counts: Tensor | None = None
        self._all_finite: Tensor | None = None

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Count a batch: logits (N, C) and the classes (N,) of its examples."""
        self.classes = logits.shape[1]
        if self.classes > MOST_CLASSES:
            return
        cells = labels * self.classes + logits.argmax(dim=1)
        counts = torch.bincount(cells, minlength=self.classes**2)
        is_finite = logits.isfinite().all()
        self._counts = counts if self._counts is None else self._counts + counts
        self._all_finite = is_finite if self._all_finite is None else self._all_finite & is_finite

    def rows(self) -> list[list[int]] | None:
        """A row for each class, its examples by the class that they are taken for.

        None where there are more than 100 classes, or where the network gave no finite output for some
        example, which it then takes for nothing.
        """
        if self.classes is None or self._counts is None or not self._all_finite:
            return None
        rows: list[list[int]] = self._counts.reshape(self.classes, self.classes).tolist()
        return rows
