"""``python -m nas_optuna.dashboard``: optuna-dashboard on a study, with its artifacts."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from omegaconf import DictConfig
from optuna_dashboard import wsgi
from rich.console import Console
from rich.text import Text

from nas_optuna.artifacts import ARTIFACTS, Store
from nas_optuna.configuration import plain
from nas_optuna.dashboard.fresh import Fresh
from nas_optuna.dashboard.window import with_large_pictures
from nas_optuna.errors import InputError, check_number
from nas_optuna.reopen import address_of, find_study, recall
from nas_optuna.storages import open_storage

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

RUNS = Path("runs")


@dataclass(frozen=True)
class Address:
    """Where the dashboard is reached.

    Attributes:
        host: Name or address of this machine.
        port: 0 for any that is free.
    """

    host: str
    port: int

    def __post_init__(self) -> None:
        check_number("port", self.port, whole=True, at_least=0, at_most=65535)

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def show_study(config: DictConfig) -> None:
    """Refresh a study's note and figures, and serve it until Ctrl-C.

    Raises:
        InputError: There is no such study, or the address is taken.
    """
    console = Console(highlight=False, soft_wrap=True)

    def say(text: str) -> None:
        console.print(Text(text))

    address = Address(str(config.host), config.port)
    folder = newest(RUNS) if config.study_dir is None else Path(str(config.study_dir)).expanduser()
    study = find_study(folder, storage=config.storage, study_name=config.study_name)
    backend = open_storage(address_of(config.storage, folder))
    application = with_large_pictures(wsgi(backend, artifact_store=Store(folder / ARTIFACTS)))
    with bind(address, application) as server:
        _refresh(config, folder, say)
        if not address.is_local:
            say(f"warning: whoever reaches {address.host} can delete studies here: it asks for no password")
        place = f"http://{_shown(address.host)}:{server.server_port}/dashboard/studies/{study._study_id}"
        say(f"{study.study_name}: {place} (Ctrl-C ends it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("")


def newest(runs: Path) -> Path:
    """The folder of the study that was written to last.

    Raises:
        InputError: There is none.
    """
    found = {path: _last_written(path) for path in runs.glob("*/study.db")}
    if not found:
        raise InputError(
            f"study_dir: there is no study in {str(runs)!r} here. Give the folder of a search, "
            "study_dir=runs/NAME, or run one: python -m nas_optuna +experiment=digits"
        )
    return max(found, key=lambda path: found[path]).parent


def _last_written(database: Path) -> float:
    # what was written last is in its log until the log is worked in
    files = [database, database.with_name(f"{database.name}-wal")]
    return max(file.stat().st_mtime for file in files if file.exists())


def _refresh(config: DictConfig, folder: Path, say: Callable[[str], None]) -> None:
    try:
        found = recall(
            folder, storage=config.storage, study_name=config.study_name, allow=plain(config, "allow")
        )
    except InputError as error:
        say(f"note and figures as the search left them: {error}")
        return
    Fresh(found.study, objectives=found.objectives, space=found.space, folder=found.folder, say=say).finish()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """A request is nothing to tell of."""


def bind(address: Address, application: WSGIApplication) -> WSGIServer:
    """A server that waits for requests once it is told to serve.

    Raises:
        InputError: The address is taken, or not one of this machine.
    """
    try:
        return make_server(
            address.host, address.port, application, server_class=_Server, handler_class=_Quiet
        )
    except (OSError, OverflowError) as error:
        raise InputError(
            f"port: {address.port} on {address.host!r} can't be opened "
            f"({getattr(error, 'strerror', None) or error}). Give another one, such as port=8081."
        ) from error


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
