"""Learning curves that others recorded, for benchmarks of pruners: LCBench and NAS-Bench-NLP."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path

import numpy as np

LCBENCH, NLP = "lcbench_surrogate.npz", "nasbench_nlp_wikitext2_curves.json"
TASKS = ("fashion_mnist", "covertype", "higgs", "airlines")
CURVES = (*TASKS, "nlp")


class Curves:
    """What others recorded.

    ``fashion_mnist``, ``covertype``, ``higgs``, ``airlines``: surrogate of LCBench, 52 epochs, accuracy; the
    first is chance. ``nlp``: NAS-Bench-NLP, 50 epochs, loss; some diverge.

    Attributes:
        direction: Of the study.
        rows: A curve for each network, some shorter.
        epochs: Of a whole training.
        best, median: Of the values that whole trainings ended with.
    """

    def __init__(self, data: Path, name: str) -> None:
        self._data, self._name = data, name
        if name == "nlp":
            self.direction = "minimize"
            self.rows = [
                [math.nan if loss is None else loss for loss in row["val_losses"]] for row in self._networks()
            ]
        else:
            self.direction = "maximize"
            with np.load(data / LCBENCH, allow_pickle=False) as arrays:
                self.rows = (arrays[f"{name}_valacc_x100"] / 100).tolist()
        self.epochs = max(map(len, self.rows))
        last = [row[-1] for row in self.rows if len(row) == self.epochs and math.isfinite(row[-1])]
        self.best = max(last) if self.direction == "maximize" else min(last)
        self.median = float(np.median(last))

    @functools.cached_property
    def costs(self) -> list[float]:
        """Of each network: the parameters of a language model, the seconds of LCBench's whole training."""
        if self._name == "nlp":
            return [float(row["params"]) for row in self._networks()]
        with np.load(self._data / LCBENCH, allow_pickle=False) as arrays:
            return [float(seconds) for seconds in arrays[f"{self._name}_time_s"][:, 1]]

    def regret(self, found: float) -> float:
        """0 for the best there is, 1 for the median."""
        return (found - self.best) / (self.median - self.best)

    def _networks(self) -> list[dict[str, object]]:
        return json.loads((self._data / NLP).read_text())


@functools.cache
def load(data: Path, name: str) -> Curves:
    """Read once in a process."""
    return Curves(data, name)
