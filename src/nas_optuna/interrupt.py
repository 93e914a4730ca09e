"""Ctrl-C, or SIGTERM: once to end in order, twice to end at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

EXIT_CODE = 130  # 128 + SIGINT, as shells have it
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """From entering it, the first Ctrl-C sets ``requested`` and the second ends the process.

    So does SIGTERM, by which a cluster asks for a machine back.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # after a Ctrl-C the process is on its way out, and a second one must still end it at once
        if not self.requested:
            for number, handler in self._previous.items():
                signal.signal(number, handler)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.requested:
            sys.stderr.write("\x1b[?25h\n" if sys.stderr.isatty() else "\n")  # a live view hid the cursor
            sys.stderr.flush()
            os._exit(EXIT_CODE)
        self.requested = True
        again = "press Ctrl-C again" if signum == signal.SIGINT else "ask again"
        sys.stderr.write(f"\nstopping in order; {again} to end at once\n")
