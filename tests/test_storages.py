"""Where a study may be kept, and what a storage does that is gone for a while."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from conftest import command_environment, run_command
from optuna.trial import TrialState
from postgres import Postgres, needs_postgres, running_postgres

from nas_optuna.errors import InputError, StorageGone
from nas_optuna.storages import check_address, hide_password, open_storage, path_of, settle

needs_grpc = pytest.mark.skipif(
    importlib.util.find_spec("grpc") is None, reason="needs grpcio (the extra grpc)"
)
limits_files = pytest.mark.skipif(
    sys.platform == "win32",
    reason="a limit on the size of files stands for a full disk, and Windows has no such limit",
)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


def addresses(folder: Path) -> list[str]:
    return [f"sqlite:///{folder}/study.db", f"journal:///{folder}/study.log"]


@pytest.mark.parametrize("index", [0, 1])
def test_study_in_a_file_is_found_again(index: int, tmp_path: Path) -> None:
    address = addresses(tmp_path)[index]
    study = optuna.create_study(storage=open_storage(address), study_name="study")
    study.optimize(lambda trial: trial.suggest_int("width", 1, 9), n_trials=2)
    again = optuna.load_study(storage=open_storage(address), study_name="study")
    assert [trial.params for trial in again.trials] == [trial.params for trial in study.trials]


@needs_postgres
def test_study_in_postgres_is_found_again(postgres: Postgres) -> None:
    study = optuna.create_study(storage=open_storage(postgres.address), study_name="found")
    study.optimize(lambda trial: trial.suggest_int("width", 1, 9), n_trials=2)
    again = optuna.load_study(storage=open_storage(postgres.address), study_name="found")
    assert [trial.value for trial in again.trials] == [trial.value for trial in study.trials]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("journal://host/study.log", "a journal is a file"),
        ("grpc://host", "a proxy is a host and a port"),
        ("redis://host", "'redis' is unknown"),
        ("journal:////missing/study.log", "No such file or directory"),
        ("sqlite:////missing/study.db", "unable to open"),
    ],
)
def test_wrong_address_is_named_with_its_rule(address: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as raised:
        open_storage(address)
    assert address in str(raised.value)


@pytest.mark.parametrize(
    ("address", "module", "extra"),
    [
        ("postgresql://host/name", "psycopg", "postgresql"),
        ("mysql://host/name", "pymysql", "mysql"),
        ("grpc://host:1", "grpc", "grpc"),
    ],
)
def test_missing_driver_is_named_with_its_extra(
    address: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else known(name))
    with pytest.raises(InputError, match=rf"needs {module}, .*pip install 'nas-optuna\[{extra}\]'"):
        check_address(address)


@needs_postgres
def test_server_that_is_not_there_is_named_without_the_password() -> None:
    with pytest.raises(InputError, match=r"me:\*\*\*@127.0.0.1:1/name.*Connection refused") as raised:
        check_address("postgresql://me:secret@127.0.0.1:1/name")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:secret@host/name",
        "postgresql://host/name?user=me&password=secret",
        "not-an address//me:secret@host",
        "nothing like me:secret@host",
    ],
)
def test_password_is_hidden(address: str) -> None:
    assert "secret" not in hide_password(address)
    assert "host" in hide_password(address)


def test_password_comes_from_the_environment_and_is_neither_printed_nor_kept(tmp_path: Path) -> None:
    result = run_command(
        "nas_optuna",
        "+experiment=digits",
        "storage=${oc.env:STORE}",
        folder=tmp_path,
        variables={"STORE": "postgresql://me:secret@127.0.0.1:1/name"},
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: storage: ")
    assert len(result.stderr.splitlines()) == 1
    assert "secret" not in result.stderr + result.stdout


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_path_follows_three_slashes(kind: str) -> None:
    assert path_of(f"{kind}:///runs/study.db") == Path("runs/study.db")
    assert path_of(f"{kind}:////runs/study.db") == Path("/runs/study.db")
    assert path_of("grpc://host:1") is None


TAKE = """
import sys, optuna
from nas_optuna.storages import open_storage
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.load_study(storage=open_storage(sys.argv[1]), study_name="study")
print("ready", flush=True)
input()
taken = [study.ask() for _ in range(30)]
print(*(trial.number for trial in taken if "mark" in trial.user_attrs))
"""


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_of_several_processes_one_takes_a_waiting_trial(index: int, tmp_path: Path) -> None:
    address = addresses(tmp_path)[index]
    study = optuna.create_study(storage=open_storage(address), study_name="study")
    for mark in range(60):
        study.enqueue_trial({}, user_attrs={"mark": mark})
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TAKE, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outputs = [start(process) for process in processes]
    taken = [int(number) for process in outputs for number in process.communicate()[0].split()]
    assert sorted(taken) == list(range(60))


def start(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process


def test_end_of_a_trial_is_told_once(tmp_path: Path) -> None:
    address = addresses(tmp_path)[0]
    study = optuna.create_study(storage=open_storage(address), study_name="study")
    trial = study.ask()
    study.tell(trial, 1.0)
    storage = open_storage(address)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    assert study.trials[0].state == TrialState.COMPLETE


def test_torn_end_of_a_journal_is_cut_off(tmp_path: Path) -> None:
    address, path = addresses(tmp_path)[1], tmp_path / "study.log"
    study = optuna.create_study(storage=open_storage(address), study_name="study")
    study.tell(study.ask(), 1.0)
    # as a full disk or a power cut leaves it
    path.write_bytes(path.read_bytes() + b'{"op_code":4,"wor')
    study.tell(study.ask(), 2.0)
    again = optuna.load_study(storage=open_storage(address), study_name="study")
    assert [trial.value for trial in again.trials] == [1.0, 2.0]


@contextmanager
def full_disk(size: int) -> Iterator[Callable[[], None]]:
    """No file of this process can grow beyond so many bytes, until what this yields is called."""
    import resource

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    make_room = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield make_room
    finally:
        make_room()
        signal.signal(signal.SIGXFSZ, before)


@limits_files
def test_journal_on_a_full_disk_waits_for_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "study.log"
    study = optuna.create_study(storage=open_storage(f"journal:///{path}"), study_name="study")
    # room for a part of the line
    with full_disk(path.stat().st_size + 10) as make_room:
        room = threading.Timer(1.0, make_room)
        room.start()
        study.set_user_attr("mark", 1)
        room.join()
    assert "No space left on device" in capsys.readouterr().err
    again = optuna.load_study(storage=open_storage(f"journal:///{path}"), study_name="study")
    assert again.user_attrs == {"mark": 1}
    assert [json.loads(line)["op_code"] for line in path.read_text().splitlines()] == [0, 2]


@limits_files
def test_sqlite_on_a_full_disk_is_settled_when_there_is_room(tmp_path: Path) -> None:
    address, path = addresses(tmp_path)[0], tmp_path / "study.db"
    study = optuna.create_study(storage=open_storage(address), study_name="study")
    settle(address)
    # what is still in the log alone
    for mark in range(20):
        study.set_user_attr(f"mark {mark}", "word " * 300)
    size = path.stat().st_size
    with full_disk(size):
        settle(address)
    assert path.stat().st_size == size
    settle(address)
    assert path.stat().st_size > size
    assert len(optuna.load_study(storage=open_storage(address), study_name="study").user_attrs) == 20


def test_lock_of_a_dead_process_on_a_journal_is_taken_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas_optuna.journal.GRACE_SECONDS", 3)
    monkeypatch.chdir(tmp_path)
    study = optuna.create_study(storage=open_storage("journal:///study.log"), study_name="study")
    (tmp_path / "study.log.lock").touch()
    study.tell(study.ask(), 1.0)
    assert not (tmp_path / "study.log.lock").exists()


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=needs_postgres)])
def test_ask_reads_nothing_that_runs_where_nothing_waits(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    address = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(
        storage=open_storage(address if kind == "sqlite" else request.getfixturevalue("postgres").address),
        sampler=optuna.samplers.RandomSampler(),
    )
    for _ in range(5):
        study.ask()
    read: list[int] = []

    def count(*details: Any) -> None:
        statement, parameters = details[2:4]
        if "trial_intermediate_values.trial_id IN" in statement:
            read.append(len(parameters))

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", count)
    try:
        study.ask()
        assert read == []
        study.get_trials()
        assert read == [6]
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", count)


@pytest.mark.parametrize("index", [0, 1])
def test_trial_that_waits_is_the_next_one(index: int, tmp_path: Path) -> None:
    study = optuna.create_study(storage=open_storage(addresses(tmp_path)[index]))
    study.ask()
    study.enqueue_trial({"width": 7}, user_attrs={"mark": 1})
    trial = study.ask()
    assert trial.user_attrs == {"mark": 1}
    assert trial.suggest_int("width", 1, 9) == 7
    study.tell(trial, 0.5)
    waiting = study.get_trials(states=(TrialState.WAITING,))
    assert waiting == []


class Gone(optuna.storages.InMemoryStorage):
    """Answers again after so many calls."""

    def __init__(self, calls: float) -> None:
        super().__init__()
        self.calls = calls

    def set_study_user_attr(self, study_id: int, key: str, value: object) -> None:
        self.calls -= 1
        if self.calls >= 0:
            raise ConnectionError("it went away")
        super().set_study_user_attr(study_id, key, value)


def patient_study(storage: Gone, seconds: float, monkeypatch: pytest.MonkeyPatch) -> optuna.Study:
    monkeypatch.setattr("nas_optuna.storages._parse", lambda address: _Journal())
    monkeypatch.setattr("nas_optuna.storages._open_journal", lambda url: storage)
    return optuna.create_study(storage=open_storage("journal:///study.log", seconds=seconds))


class _Journal:
    @staticmethod
    def get_backend_name() -> str:
        return "journal"


def test_storage_that_is_gone_for_a_moment_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = patient_study(Gone(3), 60, monkeypatch)
    study.set_user_attr("mark", 1)
    assert study.user_attrs["mark"] == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "does not answer (it went away); asking for 60 s" in said[0]
    assert "answers again" in said[1]


def test_storage_that_is_gone_is_spoken_of_once_however_many_ask(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = patient_study(Gone(16), 60, monkeypatch)
    threads = [threading.Thread(target=study.set_user_attr, args=("mark", number)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = capsys.readouterr().err.splitlines()
    assert len([line for line in said if "does not answer" in line]) == 1


def test_storage_that_is_gone_for_good_ends_with_a_clear_word(monkeypatch: pytest.MonkeyPatch) -> None:
    study = patient_study(Gone(float("inf")), 0.2, monkeypatch)
    with pytest.raises(StorageGone, match=r"has not answered for 0 s \(it went away\)\. All that was told"):
        study.set_user_attr("mark", 1)


@pytest.mark.slow
@needs_postgres
def test_study_outlives_a_restart_of_its_server(monkeypatch: pytest.MonkeyPatch) -> None:
    said, is_gone = [], threading.Event()

    def say(text: str) -> None:
        said.append(text)
        is_gone.set()

    monkeypatch.setattr("nas_optuna.patience._say", say)
    with running_postgres() as server:
        study = optuna.create_study(storage=open_storage(server.address), study_name="study")
        trial = study.ask()
        server.stop("immediate")
        again = threading.Thread(target=lambda: is_gone.wait(60) and server.start())
        again.start()
        study.tell(trial, 1.0)
        again.join()
        assert study.trials[0].value == 1.0
    assert "does not answer" in said[0]
    assert "answers again" in said[1]


@needs_postgres
def test_connection_lost_between_the_queries_of_one_look_is_made_again(postgres: Postgres) -> None:
    study = optuna.create_study(storage=open_storage(postgres.address), study_name="lost")
    study.tell(study.ask(), 1.0)
    lost = []

    def cut(connection: sqlalchemy.Connection, cursor: Any, statement: str, *_: Any) -> None:
        if "FROM trial_values" in statement and not lost:
            lost.append(statement)
            killer = sqlalchemy.create_engine(postgres.address.replace("postgresql:", "postgresql+psycopg:"))
            with killer.connect() as other:
                process = cursor.connection.info.backend_pid
                other.execute(sqlalchemy.text(f"SELECT pg_terminate_backend({process})"))
            killer.dispose()

    reader = optuna.load_study(storage=open_storage(postgres.address), study_name="lost")
    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", cut)
    try:
        assert [trial.value for trial in reader.trials] == [1.0]
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", cut)
    assert lost


@pytest.fixture
def proxy(postgres: Postgres, tmp_path: Path) -> Iterator[str]:
    """The address of a proxy before PostgreSQL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "nas_optuna.serve", f"storage={postgres.address}", f"port={port}"]
    environment = command_environment() | {"PYTHONWARNINGS": ""}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        assert server.stderr.readline().startswith("serving postgresql://tester@127.0.0.1")
        yield f"grpc://localhost:{port}"
        server.kill()


@needs_postgres
@needs_grpc
def test_proxy_answers_for_its_database(proxy: str, postgres: Postgres) -> None:
    study = optuna.create_study(storage=open_storage(proxy), study_name="proxied")
    study.optimize(lambda trial: trial.suggest_int("width", 1, 9), n_trials=2)
    behind = optuna.load_study(storage=open_storage(postgres.address), study_name="proxied")
    assert [trial.value for trial in behind.trials] == [trial.value for trial in study.trials]


@needs_grpc
@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["storage=journal:///study.log"], "can't be served, only a database can"),
        (["storage=grpc://host:1"], "can't be served, only a database can"),
        ([], "storage is missing"),
        (["storage=sqlite:///study.db", "port=0"], "port: 0 must be"),
    ],
)
def test_proxy_refuses_what_it_can_not_serve(overrides: list[str], said: str, tmp_path: Path) -> None:
    result = run_command("nas_optuna.serve", *overrides, folder=tmp_path)
    assert result.returncode == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@needs_grpc
def test_proxy_that_is_not_there_is_named_with_the_command_that_starts_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nas_optuna.storages.REACH_SECONDS", 0.5)
    with pytest.raises(InputError, match=r"nothing answers at 'grpc://localhost:1'.*nas_optuna\.serve"):
        check_address("grpc://localhost:1")


CREATE = """
import sys, time, optuna
from nas_optuna.study import open_study
optuna.logging.set_verbosity(optuna.logging.ERROR)
time.sleep(max(0.0, float(sys.argv[2]) - time.time()))
study = open_study(sys.argv[1], "study", directions={"accuracy": "maximize"})
for _ in range(3):
    study.tell(study.ask(), 0.5)
"""


def create_at_once(address: str, *, processes: int) -> list[subprocess.CompletedProcess[str]]:
    """The outcome of processes that make a fresh study and its first trials at the same moment."""
    moment = str(time.time() + 4.0)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CREATE, address, moment],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    errors = [process.communicate()[1] for process in started]
    return [
        subprocess.CompletedProcess([], process.returncode, stderr=error)
        for process, error in zip(started, errors, strict=True)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "journal", pytest.param("postgres", marks=needs_postgres)])
def test_eight_processes_make_a_fresh_study_at_once(kind: str, tmp_path: Path) -> None:
    for index in range(2):
        if kind == "postgres":
            with running_postgres() as server:
                check_created(server.address)
        else:
            folder = tmp_path / str(index)
            folder.mkdir()
            check_created(addresses(folder)[kind == "journal"])


def check_created(address: str) -> None:
    for outcome in create_at_once(address, processes=8):
        assert outcome.returncode == 0, outcome.stderr
        assert outcome.stderr == ""
    trials = optuna.load_study(storage=open_storage(address), study_name="study").trials
    assert [trial.number for trial in trials] == list(range(24))
    assert all(trial.state == TrialState.COMPLETE for trial in trials)
