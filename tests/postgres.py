"""A PostgreSQL server of its own for a test, found where Debian or a PATH has it."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# it refuses to run as root
USERS = ("postgres", "nobody")


def programs() -> Path | None:
    """The folder of initdb and pg_ctl; None where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


needs_postgres = pytest.mark.skipif(
    programs() is None or importlib.util.find_spec("psycopg") is None,
    reason="needs PostgreSQL's programs (apt-get install postgresql) and psycopg (the extra postgresql)",
)


class Postgres:
    """A server in a folder of its own that listens on loopback.

    Attributes:
        address: Of its database, for ``storage=``.
    """

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"postgresql://tester@127.0.0.1:{self.port}/postgres"
        self._data = folder / "data"
        self._programs = programs()
        self._user = next(user for user in USERS if _exists(user)) if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(folder, self._user)
        self._run("initdb", "-D", str(self._data), "-U", "tester", "-A", "trust", "--no-sync")

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        log = str(self._data.parent / "log")
        self._run("pg_ctl", "-D", str(self._data), "-w", "-l", log, "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """End it, and every connection to it; ``immediate`` is as a crash."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", mode, "stop")

    def _run(self, program: str, *arguments: str) -> None:
        assert self._programs is not None
        subprocess.run(
            [str(self._programs / program), *arguments],
            user=self._user,
            cwd=self._data.parent,
            check=True,
            # it would hold a pipe open for as long as it runs
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server that is gone afterwards."""
    # not in a folder of pytest's, which another user may not enter
    with tempfile.TemporaryDirectory(prefix="nas-optuna-postgres-") as folder:
        server = Postgres(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
