#!/usr/bin/env python3
"""How many workers a storage bears: simulated ones, against real storages on this machine.

    .venv/bin/python scripts/benchmark_storages.py --table nas-bench-macro_cifar10.json \\
        [--storages sqlite,journal] [--server postgresql://user@host/name] [--workers 1,8,64,512]

Each worker is what `python -m nas_optuna.worker` is: it joins a study by its address, asks, claims its part
of the budget, reports every epoch to the pruner, gives signs of life, tells. Only the training is slept
through: the table says what it gives, `--seconds` how long one takes, more for a network of more MACs.
Workers are threads of a few processes, each with connections of its own; there is nothing that they share.

With `--server`, an address of PostgreSQL or MySQL that allows three connections a worker, that is measured as
well, and as `grpc` our proxy before it.

Columns, over `--window` seconds, after twice `--seconds` for the workers to fall out of step:

- `trials a second`, and of the workers' time the share that went into trainings: where it falls, the storage
  (or this machine, which bears all workers as well) has more to do than it can;
- `to the next`: milliseconds from the end of a training until that worker's next one begins, median and 95th
  percentile; `a report`: of one report and the pruner's answer;
- `workers' CPU` and `server's CPU`: milliseconds of a core that a trial takes, in the processes of the
  workers and everywhere else on the machine. Where a trial takes 100 of the server's, a server of four cores
  whose workers are elsewhere bears 40 trials a second.

Let nothing else run. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import psutil
import shared
from hydra import compose, initialize_config_module
from simulated import RECORDS, Training

from nas_optuna.cores import tune_process
from nas_optuna.interrupt import Interrupt
from nas_optuna.join import Joined
from nas_optuna.reopen import open_again
from nas_optuna.search import Search
from nas_optuna.storages import open_storage

SPAWN = get_context("spawn")
PROCESSES = 4  # of all workers: more would only take memory
START_SECONDS = 600  # for all workers to join
JOINING = 4  # of a process at a time: it is the search that is measured, not a rush at its door
FREEZE_SECONDS = 2.0
HEAD = (
    "storage",
    "workers",
    "trials a second",
    "in training",
    "to the next",
    "95 %",
    "a report",
    "workers' CPU",
)


def main() -> None:
    """Read the command line, simulate, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", required=True, type=Path, help="NAS-Bench-Macro's JSON file")
    parser.add_argument("--storages", default="sqlite,journal", help="files; empty for none")
    parser.add_argument("--server", help="address of a database server, for it and for the proxy before it")
    parser.add_argument("--workers", default="1,8,64,512")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a typical training")
    parser.add_argument("--reports", type=int, default=12, help="epochs of a training")
    parser.add_argument("--window", type=float, default=30.0, help="seconds that are measured")
    arguments = parser.parse_args()
    kinds = [kind for kind in arguments.storages.split(",") if kind]
    kinds += [arguments.server.partition(":")[0].partition("+")[0], "grpc"] if arguments.server else []
    figures: dict[str, dict[str, Any]] = {}
    print("".join(f"{name:>17}" for name in (*HEAD, "server's CPU")), flush=True)
    for kind in kinds:
        for workers in map(int, arguments.workers.split(",")):
            found = simulate(arguments, kind, workers)
            figures.setdefault(kind, {})[str(workers)] = found
            print("".join(f"{text:>17}" for text in (kind, workers, *shown(found))), flush=True)
    settings = {name: getattr(arguments, name) for name in ("seconds", "reports", "window")}
    print(json.dumps({**figures, **settings, **shared.machine()}))


def shown(found: dict[str, Any]) -> list[str]:
    """A row of the table."""
    if "failed" in found:
        return [str(found["failed"])]
    times = [f"{found[name]:.0f} ms" for name in ("next", "next_95", "report", "workers_cpu", "server_cpu")]
    return [f"{found['trials']:.2f}", f"{found['training']:.1%}", *times]


def simulate(arguments: argparse.Namespace, kind: str, workers: int) -> dict[str, Any]:
    """Let so many workers search a fresh study on a storage, and measure it."""
    with (
        tempfile.TemporaryDirectory(prefix="nas-optuna-storages-") as name,
        storage_of(arguments, kind, Path(name)) as address,
    ):
        study = f"{kind}-{workers}-{os.getpid()}-{random.randrange(10**6)}"
        prepare(arguments, address, study, Path(name))
        crowds = [
            Crowd(address, study, name, count=len(range(index, workers, PROCESSES)), spread=arguments.seconds)
            for index in range(min(workers, PROCESSES))
        ]
        try:
            joined = sum(crowd.wait() for crowd in crowds)
            if joined < workers:
                return {"failed": f"{workers - joined} of {workers} could not join"}
            return measure(crowds, workers, settle=2 * arguments.seconds, window=arguments.window)
        finally:
            for crowd in crowds:
                crowd.process.kill()
                crowd.process.join()
            if not address.startswith(("sqlite", "journal")):
                optuna.delete_study(study_name=study, storage=open_storage(address))


def measure(crowds: Sequence[Crowd], workers: int, *, settle: float, window: float) -> dict[str, Any]:
    """What happens in so many seconds, after others that do not count."""
    for crowd in crowds:
        crowd.connection.send("go")
    time.sleep(settle)
    begun, before = time.monotonic(), processor_seconds(crowds)
    time.sleep(window)
    ended, after = time.monotonic(), processor_seconds(crowds)
    for crowd in crowds:
        crowd.connection.send("end")
    trainings: list[Training] = [training for crowd in crowds for training in crowd.connection.recv()]
    inside = [training for training in trainings if begun <= training.ended < ended]
    if not inside:
        return {"failed": "no training ended"}
    count, seconds = len(inside), ended - begun
    gaps = [training.gap for training in inside if training.gap is not None]
    if not gaps:
        return {"failed": "no second training ended"}
    reports = [report for training in inside for report in training.reports]
    slept = sum(training.slept for training in inside)
    own, everything = (now - then for now, then in zip(after, before, strict=True))
    return {
        "trials": round(count / seconds, 3),
        "training": round(slept / (slept + sum(gaps) + sum(reports)), 4),
        "next": round(1e3 * statistics.median(gaps), 1),
        "next_95": round(1e3 * float(np.percentile(gaps, 95)), 1),
        "report": round(1e3 * statistics.median(reports), 2),
        "workers_cpu": round(1e3 * own / count, 1),
        "server_cpu": round(1e3 * max(0.0, everything - own) / count, 1),
        "machine_busy": round(everything / seconds / (os.cpu_count() or 1), 3),
        "n": count,
        "workers": workers,
    }


def processor_seconds(crowds: Sequence[Crowd]) -> tuple[float, float]:
    """Seconds of a core so far: of the workers' processes, and of all that runs on the machine."""
    times = [psutil.Process(crowd.process.pid).cpu_times() for crowd in crowds]
    machine = psutil.cpu_times()
    idle = machine.idle + getattr(machine, "iowait", 0.0)
    return sum(time.user + time.system for time in times), sum(machine[:8]) - idle


@contextmanager
def storage_of(arguments: argparse.Namespace, kind: str, folder: Path) -> Iterator[str]:
    """The address of a storage of a kind."""
    if kind in ("sqlite", "journal"):
        yield f"{kind}:///{folder}/study.{kind}"
    elif kind != "grpc":
        yield arguments.server
    else:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        words = [f"storage={arguments.server}", f"port={port}"]
        proxy = subprocess.Popen(
            [sys.executable, "-m", "nas_optuna.serve", *words], stderr=subprocess.DEVNULL
        )
        try:
            wait_for(port)
            yield f"grpc://127.0.0.1:{port}"
        finally:
            proxy.kill()
            proxy.wait()


def wait_for(port: int) -> None:
    """Until something answers at a port."""
    for _ in range(600):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1.0):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the proxy does not answer")


def prepare(arguments: argparse.Namespace, address: str, study: str, folder: Path) -> None:
    """Make the study as its search does, in a process of its own, which leaves nothing open."""
    overrides = [
        "+experiment=nasbench_macro",
        "estimation._target_=simulated.SlowTable",
        f"estimation.table={arguments.table.absolute()}",
        f"+estimation.seconds={arguments.seconds}",
        f"+estimation.reports={arguments.reports}",
        "estimation.pruner._target_=nas_optuna.estimation.CurvePruner",
        "strategy=random",
        # the table is small, and each trial shall take its time
        "duplicates=retrain",
        "n_trials=1000000",
        "timeout=null",
        f"storage={address}",
        f"study_name={study}",
        f"study_dir={folder}",
    ]
    process = SPAWN.Process(target=make_study, args=(overrides,))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit("the study could not be made")


def make_study(overrides: Sequence[str]) -> None:
    """Make it; nothing is searched."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    with initialize_config_module("nas_optuna.conf", version_base="1.3"):
        Search(compose("config", overrides=list(overrides)), Interrupt())


class Crowd:
    """A process of some workers.

    Args:
        address, study: What they join.
        folder: Of the study.
        count: How many.
        spread: Seconds over which they begin.
    """

    def __init__(self, address: str, study: str, folder: str, *, count: int, spread: float) -> None:
        self.connection, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(
            target=be_crowd, args=(address, study, folder, count, spread, theirs), daemon=True
        )
        self.process.start()
        theirs.close()

    def wait(self) -> int:
        """How many have joined."""
        return int(self.connection.recv()) if self.connection.poll(START_SECONDS) else 0


def be_crowd(
    address: str, study: str, folder: str, count: int, spread: float, connection: Connection
) -> None:
    """Entry point of its process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    go, joining, joined = threading.Event(), threading.Semaphore(JOINING), threading.Semaphore(0)
    failed: list[str] = []

    def be_worker(delay: float) -> None:
        try:
            with joining:
                loaded = optuna.load_study(study_name=study, storage=open_storage(address, seconds=60.0))
                reopened = open_again(loaded, storage=address, folder=Path(folder), allow=("simulated",))
                worker = Joined(reopened, Interrupt())
        except Exception as error:
            failed.append(f"{type(error).__name__}: {error}")
            joined.release()
            raise
        joined.release()
        go.wait()
        time.sleep(delay)
        worker.run()

    draw = random.Random(os.getpid())
    for _ in range(count):
        threading.Thread(target=be_worker, args=(draw.uniform(0.0, spread),), daemon=True).start()
    for _ in range(count):
        joined.acquire()
    tune_process()
    threading.Thread(target=leave_out_others, daemon=True).start()
    connection.send(count - len(failed))
    connection.recv()
    go.set()
    connection.recv()
    connection.send(list(RECORDS.trainings))
    time.sleep(START_SECONDS)  # until it is killed: nobody needs what it would tidy up


def leave_out_others() -> None:
    """Let no worker pay for what others hold, which have a process of their own elsewhere.

    Each looks after every trial for what can be freed, in all that its process holds.
    """
    while True:
        time.sleep(FREEZE_SECONDS)
        gc.freeze()


if __name__ == "__main__":
    main()
