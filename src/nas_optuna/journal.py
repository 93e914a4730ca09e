"""A journal file as a study's storage: whole after a crash and a full disk."""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from io import RawIOBase
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

GRACE_SECONDS = 10  # before the lock of a process that was killed is taken from it; an append takes far less
BLOCK_BYTES = 4096  # read at a time from the end


class JournalFile(JournalFileBackend):
    """Optuna's journal file, whose last line may be torn without harm.

    Optuna's own appends to what a full disk or a power cut left of a line, after which no process can read
    the journal any more. Here a torn end is cut off before the next line is written, and what can't be
    written whole is taken back.

    The lock is a file that only one process can make, which holds on NFS since version 3. Optuna's default,
    a symbolic link, is never taken from a dead process where the path is relative: it then looks for the
    link's target in the wrong folder.

    Args:
        path: The file; it is made where it is missing, its folder is not.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._held = JournalFileOpenLock(str(self._path), grace_period=GRACE_SECONDS)
        super().__init__(str(self._path), lock_obj=self._held)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append a line for each operation, all or none of them."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        self._held.acquire()
        try:
            self._append(lines)
        finally:
            # not there where this process slept for so long that another one took it
            with suppress(RuntimeError):
                self._held.release()

    def _append(self, lines: bytes) -> None:
        # without a buffer: what is not written must not be tried again when the file is closed
        with self._path.open("a+b", buffering=0) as file:
            end = _end_of_lines(file)
            if end < file.seek(0, os.SEEK_END):
                file.truncate(end)
            written = file.write(lines)
            if written != len(lines):
                file.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())


def _end_of_lines(file: RawIOBase) -> int:
    """Where the last whole line of a file ends."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = file.seek(max(0, end - BLOCK_BYTES))
        found = (file.read(end - start) or b"").rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
