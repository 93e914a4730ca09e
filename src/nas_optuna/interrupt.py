"""Ctrl-C: once to end in order, twice to end at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

EXIT_CODE = 130  # 128 + SIGINT, as shells have it


class Interrupt:
    """From entering it, the first Ctrl-C sets ``requested`` and the second ends the process."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: Callable[[int, FrameType | None], Any] | int | None = None

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # after a Ctrl-C the process is on its way out, and a second one must still end it at once
        if self._previous is not None and not self.requested:
            signal.signal(signal.SIGINT, self._previous)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.requested:
            sys.stderr.write("\x1b[?25h\n" if sys.stderr.isatty() else "\n")  # a live view hid the cursor
            sys.stderr.flush()
            os._exit(EXIT_CODE)
        self.requested = True
        sys.stderr.write("\nstopping in order; press Ctrl-C again to end at once\n")
