"""Files that are whole after a crash, and files that let one process at a time go on."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if sys.platform != "win32":
    import fcntl


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that after a crash it is whole: the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def to_json(values: Any) -> bytes:
    """Readable JSON, as bytes of a text file."""
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()


@contextmanager
def one_at_a_time(what: str) -> Iterator[None]:
    """Wait until no other process of this user on this machine is in such a block of the same name.

    A process that dies leaves it. Windows has no such lock: there they may meet.
    """
    if sys.platform == "win32":
        yield
        return
    with (Path(tempfile.gettempdir()) / f"nas_optuna-{os.getuid()}-{what}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
