"""How often a study is looked at: as often as its storage can bear."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")
Reason = TypeVar("Reason")

SHARE = 0.01  # of a process's time, that its looks may take
LONGEST_PAUSE = 30.0  # seconds, however long a look took
STOP_SECONDS = 0.5  # after which one who waits has noticed that he shall not


class Pace:
    """Says when a study may be looked at again, so that looks take no more than a hundredth of the time.

    A database reads every trial that runs anew for each process that looks: the more workers, the longer a
    look takes, and the more looks the server has to answer. What can wait waits, then, a hundred times as
    long as the last look took; on a quick storage that is no time at all.

    Args:
        shortest: Seconds that pass between two looks in any case.
    """

    def __init__(self, shortest: float = 0.0) -> None:
        self._shortest = shortest
        self._next = -math.inf

    @property
    def is_due(self) -> bool:
        """Whether enough time has passed since the last look."""
        return time.monotonic() >= self._next

    def look(self, read: Callable[[], Answer]) -> Answer:
        """Look, whether or not that is due.

        Args:
            read: Looks at the study.

        Returns:
            What it returned.
        """
        began = time.monotonic()
        try:
            return read()
        finally:
            ended = time.monotonic()
            self._next = ended + max(self._shortest, min(LONGEST_PAUSE, (ended - began) / SHARE))

    def wait(self, stop: Callable[[], Reason | None]) -> Reason | None:
        """Wait until the next look is due.

        Args:
            stop: Gives a reason to wait no longer, or nothing. It may give a reason once only.

        Returns:
            The reason; None where the look is due.
        """
        while (left := self._next - time.monotonic()) > 0:
            if reason := stop():
                return reason
            time.sleep(min(left, STOP_SECONDS))
        return None
