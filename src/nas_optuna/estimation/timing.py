"""Performance estimation: where the time of a trial goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

OTHER = "other"
# in the order of a trial; what is in none of them, such as the training loop itself, is "other"
SPANS = ("ask", "build", "latency", "choose", "data", "step", "validation", "report", "show", "tell")


class Stopwatch:
    """Attributes every moment to one span: the innermost that is open, or ``other``.

    Work that a device does later than it is asked to counts where the program waits for it.

    Attributes:
        seconds: Of each span since the stopwatch was made or reset; an open span counts from its end.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, with nothing open."""
        self.seconds: dict[str, float] = {}
        self._open = [OTHER]
        self._since = time.perf_counter()

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """What runs inside counts as ``name``, but for spans opened inside it."""
        self.start(name)
        try:
            yield
        finally:
            self.stop()

    @contextmanager
    def judging(self) -> Iterator[None]:
        """What an objective does: ``ask`` ends where it begins, ``tell`` begins where it ends."""
        if self._open[-1] == "ask":
            self.stop()
        try:
            yield
        finally:
            self.start("tell")

    def start(self, name: str) -> None:
        """Open a span; ``stop`` must follow. For loops whose steps are short, where ``with`` would show."""
        self._charge()
        self._open.append(name)

    def stop(self) -> None:
        """Close the span that was opened last."""
        self._charge()
        self._open.pop()

    def lap(self) -> dict[str, float]:
        """Seconds of each span until now, open ones included."""
        self._charge()
        return {name: round(value, 6) for name, value in self.seconds.items()}

    def _charge(self) -> None:
        now = time.perf_counter()
        name = self._open[-1]
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now
