"""Results: where the time of all trials went, in one JSON file."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

from nas_optuna.estimation import OTHER, SPANS
from nas_optuna.files import write_if_possible

SAVE_EVERY = 10.0  # seconds at most; the file is written again in whole


class Timing:
    """Seconds of each span of each trial, from ask to tell, kept over restarts.

    Args:
        path: A JSON file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._trials: dict[str, dict[str, float]] = {}
        self._saved = time.monotonic()
        if path.is_file():
            self._trials = json.loads(path.read_text())["trials"]

    def add(self, number: int, seconds: dict[str, float]) -> None:
        """A trial ended; ``seconds`` of each span."""
        self._trials[str(number)] = seconds
        if time.monotonic() - self._saved > SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Write the file."""
        self._saved = time.monotonic()
        totals = self.totals()
        everything = sum(totals.values()) or 1.0
        content = {
            "seconds": {name: round(value, 3) for name, value in totals.items()},
            "shares": {name: round(value / everything, 4) for name, value in totals.items()},
            "trials": self._trials,
        }
        write_if_possible(self._path, (json.dumps(content, indent=1) + "\n").encode())

    def totals(self) -> dict[str, float]:
        """Seconds of each span over all trials, in the order of a trial."""
        counter: Counter[str] = Counter()
        for seconds in self._trials.values():
            counter.update(seconds)
        return {name: counter[name] for name in (*SPANS, OTHER) if name in counter}

    def describe(self) -> str:
        """One line: the share of each span that is no less than a hundredth; empty before any trial."""
        totals = self.totals()
        everything = sum(totals.values())
        if not everything:
            return ""
        shares = {name: value / everything for name, value in totals.items()}
        shown = sorted(((value, name) for name, value in shares.items() if value >= 0.005), reverse=True)
        return "time of the trials: " + ", ".join(f"{name} {value:.0%}" for value, name in shown)
