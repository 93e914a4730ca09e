"""Files that are whole after a crash, and files that let one process at a time go on."""

from __future__ import annotations

import fnmatch
import functools
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

if sys.platform != "win32":
    import fcntl

TEMPORARY = ".tmp"
STALE_SECONDS = 3600.0
RELEASED_LOCKS = "*.lock*.rename"  # of journals, which Optuna renames before it removes them


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that after a crash it is whole: the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}{TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        # a full disk needs no half file
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise


def write_if_possible(path: Path, content: bytes) -> None:
    """The same for a file that a search can do without, such as on a full disk; then say so, and go on."""
    try:
        write_file(path, content)
    except OSError as error:
        _say_once(f"{path} can't be written ({error.strerror}): going on without")


@functools.cache
def _say_once(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def remove_temporaries(folder: Path) -> None:
    """Remove what processes left in a folder and below it that were killed in the middle of a write.

    Of processes of other machines, which can't be asked, it is what is an hour old.
    """
    for path in files_below(folder, RELEASED_LOCKS):
        path.unlink(missing_ok=True)
    for path in files_below(folder, f".*{TEMPORARY}"):
        host, _, process = path.name.removesuffix(TEMPORARY).rpartition(".")
        with suppress(FileNotFoundError):
            is_here = host.endswith(f".{platform.node()}") and process.isdigit()
            is_old = time.time() - path.stat().st_mtime > STALE_SECONDS
            if is_old or (is_here and not psutil.pid_exists(int(process))):
                path.unlink()


def files_below(folder: Path, pattern: str) -> Iterator[Path]:
    """Files by their names, in a folder and below it; what others remove meanwhile is passed over."""
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in fnmatch.filter(names, pattern))


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
