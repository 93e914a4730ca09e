"""Where a study is kept, by address alone: a file, a server, or a proxy before one."""

from __future__ import annotations

import functools
import importlib.util
import random
import re
import sqlite3
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
import sqlalchemy.event
import sqlalchemy.exc
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, GrpcStorageProxy, RDBStorage
from optuna.trial import TrialState
from sqlalchemy.engine import URL, Connection, make_url

from nas_optuna.errors import InputError
from nas_optuna.files import one_at_a_time
from nas_optuna.journal import JournalFile
from nas_optuna.patience import SECONDS, describe, patient

SQLITE, JOURNAL, GRPC = "sqlite", "journal", "grpc"
# what else than Python's own each kind needs: the driver that is taken, its module, our extra
DRIVERS = {
    "postgresql": ("psycopg", "psycopg", "postgresql"),
    "mysql": ("pymysql", "pymysql", "mysql"),
    "mariadb": ("pymysql", "pymysql", "mysql"),
    GRPC: ("", "grpc", "grpc"),
}
KNOWN = "sqlite:///study.db, journal:///study.log, postgresql://user@host/name, mysql://..., grpc://host:port"
SECRETS = ("password", "passwd", "sslpassword")  # of an address's query

REACH_SECONDS = 10
LOCKED_SECONDS = 60  # that one waits for another process's write to a file
RENEW_SECONDS = 1800  # of a connection, before something between here and the server forgets it
ATTEMPTS = 20  # to make the tables while others do


def check_address(address: str) -> None:
    """See that an address is one, and that what it needs is installed and answers; nothing is made.

    Raises:
        InputError: It is not so.
    """
    url = _parse(address)
    kind = url.get_backend_name()
    if kind == GRPC:
        _open_proxy(url)
    elif kind in DRIVERS:
        _reach(url)


def open_storage(address: str, *, seconds: float = SECONDS, connections: int = 1) -> BaseStorage:
    """The storage at an address, which waits where it is gone for a while.

    Args:
        address: As ``KNOWN`` lists them. As with sqlite, three slashes begin a path that is relative, four
            an absolute one.
        seconds: See ``patience.Patient``.
        connections: To a server, that are kept open.

    Raises:
        InputError: It can't be opened.
    """
    url = _parse(address)
    kind = url.get_backend_name()
    if kind == JOURNAL:
        storage: BaseStorage = _open_journal(url)
    elif kind == GRPC:
        storage = _open_proxy(url)
    else:
        storage = _open_database(url, connections)
    return patient(
        optuna.storages.get_storage(storage),
        shown=hide_password(address),
        seconds=seconds,
        database=storage if isinstance(storage, RDBStorage) else None,
    )


def hide_password(address: str) -> str:
    """The storage's address as it may be printed and saved."""
    try:
        url = make_url(address)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return re.sub(r"^.*@", "***@", address)
    hidden = {name: "***" for name in url.query if name in SECRETS}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def path_of(address: str) -> Path | None:
    """The file that an address names; None where it names no file."""
    try:
        url = make_url(address)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return None
    named = url.database not in (None, "", ":memory:") and "uri" not in url.query
    return Path(str(url.database)) if named and url.get_backend_name() in (SQLITE, JOURNAL) else None


def settle(address: str) -> None:
    """Wait until the disk holds what a study in sqlite knows, so that a power cut takes nothing of it.

    A full disk holds what it holds: whoever writes next waits for room.
    """
    path = path_of(address)
    if path is not None and address.startswith(SQLITE):
        with closing(sqlite3.connect(path)) as connection, suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA wal_checkpoint")


def _parse(address: str) -> URL:
    try:
        url = make_url(address)
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        raise _can_not(address, "it is no address") from error
    kind = url.get_backend_name()
    if kind not in (SQLITE, JOURNAL, *DRIVERS):
        raise _can_not(address, f"{kind!r} is unknown")
    if kind == JOURNAL and (url.host or not url.database):
        raise _can_not(address, "a journal is a file: journal:/// and its path")
    if kind == GRPC and not (url.host and url.port and not url.database):
        raise _can_not(address, "a proxy is a host and a port: grpc://host:port")
    if kind in DRIVERS:
        check_installed(kind, address)
    driver = DRIVERS.get(kind, ("", "", ""))[0]
    return url.set(drivername=f"{kind}+{driver}") if driver and url.drivername == kind else url


def _can_not(address: str, reason: str) -> InputError:
    for secret in _secrets(address):
        reason = reason.replace(secret, "***")
    return InputError(
        f"storage: {hide_password(address)!r} can't be opened ({reason}). Give an address such as {KNOWN}."
    )


def _secrets(address: str) -> list[str]:
    try:
        url = make_url(address)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return []
    return [secret for secret in (url.password, *map(url.query.get, SECRETS)) if isinstance(secret, str)]


def check_installed(kind: str, address: str) -> None:
    """Raise an ``InputError`` where what a kind of storage needs is not installed."""
    driver, module, extra = DRIVERS[kind]
    scheme = address.partition(":")[0]
    if scheme not in (kind, f"{kind}+{driver}"):
        return  # a driver of the user's choice
    if importlib.util.find_spec(module) is None:
        raise InputError(
            f"storage: {hide_password(address)!r} needs {module}, which is not installed: "
            f"pip install 'nas-optuna[{extra}]'."
        )


def _open_journal(url: URL) -> BaseStorage:
    path = Path(str(url.database))
    try:
        return optuna.storages.JournalStorage(JournalFile(path))
    except (OSError, ValueError) as error:
        raise _can_not(url.render_as_string(), describe(error)) from error


def _open_proxy(url: URL) -> BaseStorage:
    with warnings.catch_warnings():
        # should Optuna change it, the tests say so
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        proxy = GrpcStorageProxy(host=str(url.host), port=int(url.port or 0))
    try:
        proxy.wait_server_ready(timeout=REACH_SECONDS)
    except ConnectionError as error:
        raise InputError(
            f"storage: nothing answers at {url.render_as_string()!r} for {REACH_SECONDS} s. Start it there: "
            f"python -m nas_optuna.serve storage=postgresql://... host={url.host} port={url.port}"
        ) from error
    return proxy


def _open_database(url: URL, connections: int) -> BaseStorage:
    address = url.render_as_string(hide_password=False)
    _reach(url)
    try:
        if url.get_backend_name() == SQLITE:
            # one makes the tables, the others wait; those of other machines share no such file
            with one_at_a_time("storage"):
                return _make(address, SqliteStorage)
        return _make(address, functools.partial(_server_storage, connections=connections))
    except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError, RuntimeError, AssertionError) as error:
        raise _can_not(address, describe(error)) from error


def _make(address: str, kind: Callable[[str], RDBStorage]) -> RDBStorage:
    """Open a database that others may be opening: who comes second finds tables half made."""
    for attempt in range(ATTEMPTS):
        try:
            return kind(address)
        except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError, AssertionError):
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(random.uniform(0.05, 0.5))
    raise AssertionError


def _reach(url: URL) -> None:
    """See that a database answers."""
    address = url.render_as_string(hide_password=False)
    try:
        engine = sqlalchemy.create_engine(url, connect_args=_connect_arguments(url))
        with engine.connect():
            pass
        engine.dispose()
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, OSError, ValueError) as error:
        raise _can_not(address, describe(error)) from error


def _connect_arguments(url: URL) -> dict[str, Any]:
    driver = url.get_driver_name()
    if url.get_backend_name() == SQLITE:
        return {"timeout": LOCKED_SECONDS}
    if driver == "psycopg":
        # a server that vanished without a word is noticed within a minute
        alive = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
        return {"connect_timeout": REACH_SECONDS, **alive}
    return {"connect_timeout": REACH_SECONDS} if driver == "pymysql" else {}


def _server_storage(address: str, *, connections: int) -> RDBStorage:
    # a connection that a restart of the server broke is noticed before it is used; and they are few, as a
    # hundred workers have to share what a server allows
    pool = {"pool_pre_ping": True, "pool_recycle": RENEW_SECONDS, "pool_size": connections, "max_overflow": 2}
    arguments = _connect_arguments(make_url(address))
    storage = RDBStorage(_literally(address), engine_kwargs={**pool, "connect_args": arguments})
    if storage.engine.dialect.name == "postgresql":
        sqlalchemy.event.listen(storage.engine, "connect", _let_go)
        storage.engine.dispose()
    # in order, at the latest when the process ends
    weakref.finalize(storage, storage.engine.dispose)
    return storage


def _let_go(connection: Any, record: object) -> None:
    # a machine that lost its power in the middle of a write would lock the study for hours
    with connection.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{LOCKED_SECONDS}s'")
    connection.commit()


def _literally(address: str) -> str:
    """Optuna fills in what is in braces; a password may hold some."""
    return address.replace("{", "{{").replace("}", "}}")


class SqliteStorage(RDBStorage):
    """Optuna's storage in a file of sqlite, where of several processes one ends a trial or takes it.

    Optuna looks at a trial's state and then sets it, and relies on the row being locked in between, which
    sqlite does not do: two workers could take the same waiting trial. Here the look is part of the write.
    """

    def __init__(self, address: str) -> None:
        self._writing = threading.local()
        super().__init__(_literally(address), {"connect_args": {"timeout": LOCKED_SECONDS}})
        sqlalchemy.event.listen(self.engine, "connect", _log_ahead)
        sqlalchemy.event.listen(self.engine, "begin", self._begin)
        self.engine.dispose()
        with self.engine.connect():
            pass

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """See ``optuna.storages.BaseStorage``."""
        with self._alone():
            return super().set_trial_state_values(trial_id, state, values)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._writing.now = True
        try:
            yield
        finally:
            self._writing.now = False

    def _begin(self, connection: Connection) -> None:
        if getattr(self._writing, "now", False):
            connection.exec_driver_sql("BEGIN IMMEDIATE")


def _log_ahead(connection: sqlite3.Connection, record: object) -> None:
    # readers and a writer then don't wait for one another, and no write waits for the disk, which on a
    # busy one takes a third of a second: ``settle`` does that once a trial
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
