"""A dashboard of ours in a process of its own, for tests."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue

import pytest
from conftest import PATIENCE, command_environment


@contextmanager
def serve(folder: Path, *overrides: str) -> Iterator[str]:
    """Run ``python -m nas_optuna.dashboard`` in a folder on a free port; gives the study's address."""
    command = [sys.executable, "-m", "nas_optuna.dashboard", "port=0", *overrides]
    server = subprocess.Popen(
        command,
        cwd=folder,
        env=command_environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield _address(server)
    finally:
        server.kill()
        server.communicate()


def _address(server: subprocess.Popen[str]) -> str:
    lines: Queue[str] = Queue()
    assert server.stdout is not None
    # a read waits for ever; a queue does not
    threading.Thread(target=lambda: [lines.put(line) for line in server.stdout or ()], daemon=True).start()
    said = ""
    try:
        while not (found := re.search(r"http://\S+", said)):
            said += lines.get(timeout=PATIENCE)
    except Empty:
        pytest.fail(f"the dashboard did not open: {said}")
    return found[0]
