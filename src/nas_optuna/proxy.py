"""The command that stands before a database and answers many workers, by gRPC."""

from __future__ import annotations

import math
import socket
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import optuna
from omegaconf import DictConfig

from nas_optuna.errors import InputError, check_number
from nas_optuna.storages import GRPC, JOURNAL, check_address, check_installed, hide_password, open_storage

LOOPBACK = ("localhost", "127.0.0.1", "::1")
THREADS = 16  # calls that are answered at a time; each may hold a connection to the database


def serve(config: DictConfig) -> float:
    """Answer for a database until the process is ended. It keeps nothing: it may be ended at any time.

    Args:
        config: The composed configuration of ``serve.yaml``.

    Raises:
        InputError: The request is wrong, or the port is taken.
    """
    if config.get("storage") is None:
        raise InputError(
            "storage is missing: set it on the command line, storage=postgresql://user@host/name."
        )
    address, host, port = str(config.storage), str(config.host), config.port
    check_number("port", port, whole=True, at_least=1, at_most=65535)
    shown = hide_password(address)
    if address.partition("://")[0] in (JOURNAL, GRPC):
        raise InputError(
            f"storage: {shown!r} can't be served, only a database can: postgresql://... or mysql://... "
            "Workers open a journal themselves."
        )
    check_installed(GRPC, "grpc://")
    check_address(address)
    _check_free(host, port)
    # workers wait for the proxy, and it for the database as long as that takes
    storage = open_storage(address, seconds=math.inf, connections=THREADS)
    sys.stderr.write(f"serving {shown} as grpc://{host}:{port}\n")
    if host not in LOOPBACK:
        sys.stderr.write("nothing asks for a password: whoever reaches this port can change every study\n")
    with warnings.catch_warnings():
        # should Optuna change it, the tests say so
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        pool = ThreadPoolExecutor(max_workers=THREADS)
        optuna.storages.run_grpc_proxy_server(storage, host=host, port=port, thread_pool=pool)
    return 0.0


def _check_free(host: str, port: int) -> None:
    # of two servers at one port, which gRPC allows, a worker would get now this one, now that one
    try:
        with socket.create_connection((host, port), timeout=1.0):
            pass
    except OSError:
        return
    raise InputError(f"port: something answers at {host}:{port} already. Choose another port.")
