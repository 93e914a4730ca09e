"""Several processes that share a study, its data and the cores of a machine."""

from __future__ import annotations

import json
import os
import platform
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from multiprocessing import parent_process
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import torch
from conftest import PATIENCE, SHORT, Command, command_environment, compose_config, make_training, wait_until
from optuna.trial import TrialState

from nas_optuna import cores
from nas_optuna.cores import check_workers, count_workers, threads_of_each
from nas_optuna.data import Digits
from nas_optuna.errors import InputError
from nas_optuna.interrupt import Interrupt
from nas_optuna.patience import Patient
from nas_optuna.schedule import Schedule
from nas_optuna.search import Search, search

NAME = "digits-resconv_small-accuracy-auto-curves-seed0"
TWO = (*SHORT, "workers=2", "n_trials=5", "estimation=full", "study_name=study")
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def load(folder: Path) -> optuna.Study:
    return optuna.load_study(
        study_name="study", storage=f"sqlite:///{folder / 'runs' / 'study' / 'study.db'}"
    )


def start(folder: Path, *overrides: str, start_new_session: bool = False) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "nas_optuna", *overrides],
        start_new_session=start_new_session,
        cwd=folder,
        env=command_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_running(folder: Path, *, count: int) -> list[optuna.trial.FrozenTrial]:
    """Until so many trials are in training."""
    database = folder / "runs" / "study" / "study.db"
    # not by Optuna: opening a database that is just being made, it would make it as well
    wait_until(lambda: len(numbers_with_seed(database)) >= count)
    return load(folder).get_trials(states=(TrialState.RUNNING,))


def numbers_with_seed(database: Path) -> list[int]:
    if not database.is_file():
        return []
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        try:
            rows = connection.execute("SELECT trial_id FROM trial_user_attributes WHERE key = 'seed'")
            return [number for (number,) in rows]
        except sqlite3.OperationalError:  # no such table, yet
            return []


@pytest.mark.slow
def test_two_workers_share_a_study_to_the_exact_budget(command: Command, tmp_path: Path) -> None:
    result = command(*TWO)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    trials = load(tmp_path).trials
    trained = [trial for trial in trials if "untrained" not in trial.user_attrs]
    assert len(trained) == 5
    assert all(trial.state == TrialState.COMPLETE for trial in trained)
    assert len({trial.user_attrs["worker"] for trial in trials}) == 2
    assert len({trial.user_attrs["hash"] for trial in trained}) > 1
    # one display: a line for each trial
    assert sum("best accuracy" in line for line in result.stdout.splitlines()) == len(trials)


@pytest.mark.slow
def test_time_of_every_trial_is_attributed(command: Command, tmp_path: Path) -> None:
    assert command(*TWO).returncode == 0
    timing = json.loads((tmp_path / "runs" / "study" / "timing.json").read_text())
    trials = load(tmp_path).trials
    assert set(timing["trials"]) == {str(trial.number) for trial in trials}
    for trial in trials:
        taken = sum(timing["trials"][str(trial.number)].values())
        assert trial.duration is not None
        assert taken >= 0.9 * trial.duration.total_seconds()
    assert {"ask", "build", "data", "step", "validation", "report", "tell"} <= set(timing["seconds"])
    assert sum(timing["shares"].values()) == pytest.approx(1, abs=0.01)


@pytest.fixture
def long_search(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Two workers that train for minutes."""
    process = start(tmp_path, *TWO, "estimation.epochs=2000", "n_trials=3", "final.finalists=1")
    with process:
        yield process
        process.kill()


@pytest.mark.slow
def test_killed_worker_is_replaced_and_its_network_tried_again(
    long_search: subprocess.Popen[str], tmp_path: Path
) -> None:
    victim, _ = wait_for_running(tmp_path, count=2)
    os.kill(int(victim.user_attrs["worker"].rpartition(":")[2]), signal.SIGKILL)

    def retried() -> list[optuna.trial.FrozenTrial]:
        return [
            trial
            for trial in load(tmp_path).trials
            if trial.user_attrs.get("retry_of") == victim.number and "seed" in trial.user_attrs
        ]

    wait_until(retried)
    assert retried()[0].params == victim.params
    assert load(tmp_path).trials[victim.number].state == TrialState.FAIL
    long_search.send_signal(signal.SIGINT)
    output, _ = long_search.communicate(timeout=PATIENCE)
    assert "ended with exit code -9, and with it trial" in output


@pytest.mark.slow
def test_interrupt_stops_all_workers_in_order(long_search: subprocess.Popen[str], tmp_path: Path) -> None:
    running = wait_for_running(tmp_path, count=2)
    long_search.send_signal(signal.SIGINT)
    _, errors = long_search.communicate(timeout=PATIENCE)
    assert long_search.returncode == 130
    assert "Traceback" not in errors
    trials = load(tmp_path).trials
    assert not [trial for trial in trials if trial.state == TrialState.RUNNING]
    # both networks are tried first when the search goes on
    waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
    assert len(waiting) == 2
    for trial in running:
        with pytest.raises(ProcessLookupError):
            os.kill(int(trial.user_attrs["worker"].rpartition(":")[2]), 0)


@pytest.mark.slow
def test_signal_to_all_processes_stops_all_workers_in_order(tmp_path: Path) -> None:
    # a worker that compiles a network does not hear that it shall stop, and is killed
    long = ("estimation.epochs=2000", "estimation.execution=32-true", "n_trials=3", "final.finalists=1")
    with start(tmp_path, *TWO, *long, start_new_session=True) as process:
        wait_for_running(tmp_path, count=2)
        # as a cluster asks for a machine back
        os.killpg(process.pid, signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in errors
    trials = load(tmp_path).trials
    stopped = [trial for trial in trials if trial.user_attrs.get("stopped") == "interrupted"]
    assert len(stopped) == 2
    assert sum(trial.state == TrialState.WAITING for trial in trials) == 2


@pytest.mark.slow
def test_interrupt_does_not_wait_for_a_worker_that_hears_nothing(
    long_search: subprocess.Popen[str], tmp_path: Path
) -> None:
    deaf, _ = wait_for_running(tmp_path, count=2)
    os.kill(int(deaf.user_attrs["worker"].rpartition(":")[2]), signal.SIGSTOP)
    long_search.send_signal(signal.SIGINT)
    long_search.communicate(timeout=PATIENCE)
    assert long_search.returncode == 130
    waiting = load(tmp_path).get_trials(states=(TrialState.WAITING,))
    assert deaf.number in [trial.user_attrs["retry_of"] for trial in waiting]


@pytest.mark.slow
def test_time_that_is_over_stops_all_workers_and_fails_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    long = ("estimation.epochs=2000", "estimation.data_share=1", "n_trials=null", "timeout=1000")
    run = Search(compose_config(*TWO, *long), Interrupt())
    database = tmp_path / "runs" / "study" / "study.db"

    def seconds(_: Schedule) -> float:
        """The clock stands still until both workers train, however slow the machine."""
        return 1000.0 if len(numbers_with_seed(database)) >= 2 else 0.0

    monkeypatch.setattr(Schedule, "search_seconds", seconds)
    run.explore()
    trials = load(tmp_path).trials
    assert len(trials) >= 2
    assert all(trial.state == TrialState.PRUNED for trial in trials)
    assert all(trial.user_attrs["stopped"] == "out of time" for trial in trials)


@pytest.mark.slow
def test_workers_end_with_the_search(long_search: subprocess.Popen[str], tmp_path: Path) -> None:
    running = wait_for_running(tmp_path, count=2)
    long_search.kill()
    long_search.wait()
    pids = [int(trial.user_attrs["worker"].rpartition(":")[2]) for trial in running]
    wait_until(lambda: not any(map(is_alive, pids)))


ORPHAN = """
import multiprocessing, os, time
from nas_optuna.member import end_with_parent

def wait_forever(started):
    end_with_parent(grace=0.0)
    started.set()
    time.sleep(600)

context = multiprocessing.get_context("fork")
started = context.Event()
context.Process(target=wait_forever, args=(started,)).start()
started.wait()
os._exit(0)
"""


@pytest.mark.slow
def test_worker_that_hears_nothing_ends_with_the_search() -> None:
    # the output ends when the last process that holds it does
    subprocess.run([sys.executable, "-c", ORPHAN], capture_output=True, check=True, timeout=PATIENCE)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_auto_is_a_worker_a_core_but_no_more_than_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "count_cores", lambda: 4)
    assert parent_process() is None
    assert count_workers("auto", device=CPU, n_trials=None) == 4
    assert count_workers("auto", device=CPU, n_trials=3) == 3
    assert count_workers(1, device=CPU, n_trials=None) == 1


@pytest.mark.parametrize(
    ("gpus", "cores_of_machine", "gigabytes", "workers"),
    [(1, 32, 80, 4), (2, 32, 80, 8), (1, 2, 80, 2), (1, 32, 8, 2), (1, 32, 2, 1), (8, 4, 80, 8)],
)
def test_auto_is_as_many_workers_as_fit_on_the_gpus(
    monkeypatch: pytest.MonkeyPatch, gpus: int, cores_of_machine: int, gigabytes: int, workers: int
) -> None:
    memory = SimpleNamespace(total_memory=gigabytes * 2**30)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: memory)
    monkeypatch.setattr(cores, "count_cores", lambda: cores_of_machine)
    needed = 3 * 2**30
    assert count_workers("auto", device=CUDA, n_trials=None, needed=lambda: needed) == workers


def test_worker_on_a_gpu_needs_room_for_data_and_activations(digits: Digits) -> None:
    small, large = (make_training(batch_size=size).device_bytes(digits) for size in (64, 1024))
    assert small > sum(digits.split(name).size for name in ("train", "validation"))
    # a number takes four bytes
    assert large - small >= 960 * 64 * 4 * 100


def test_cores_are_divided_among_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "count_cores", lambda: 8)
    assert [threads_of_each(workers) for workers in (1, 3, 8, 20)] == [8, 2, 1, 1]


KEPT = """
import gc
import psutil
import torch
from nas_optuna.cores import tune_process

def kept():
    before = psutil.Process().memory_info().rss
    activations = [torch.ones(2**21) for _ in range(8)]
    del activations
    return psutil.Process().memory_info().rss - before

before = kept()
tune_process()
print(before, kept(), gc.get_freeze_count())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only GNU's C library is told to keep memory")
def test_freed_memory_is_kept_for_the_next_step() -> None:
    result = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, check=True)
    before, after, frozen = map(int, result.stdout.split())
    assert before < 8 * 2**20
    assert after > 56 * 2**20
    assert frozen > 0


@pytest.mark.parametrize("asked", [0, -1, 1.5, "many", True, None])
def test_impossible_number_of_workers_is_named(asked: object) -> None:
    with pytest.raises(InputError, match=r"^workers: "):
        check_workers(asked)


@pytest.mark.slow
def test_few_looks_at_all_trials_are_enough_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # each look reads anew what runs, for every worker: they are what saturates a storage
    monkeypatch.chdir(tmp_path)
    looks, ask = [0], Patient._ask

    def count(self: Patient, name: str, *arguments: Any, **named: Any) -> Any:
        looks[0] += name == "get_all_trials"
        return ask(self, name, *arguments, **named)

    monkeypatch.setattr(Patient, "_ask", count)
    quick = ("dashboard=false", "strategy=random", "estimation.epochs=4", "estimation.data_share=0.2")
    once = ("checkpoints=0", "final.finalists=1")
    counts = []
    for n_trials in (2, 12):
        looks[0] = 0
        search(compose_config(*SHORT, *quick, *once, f"n_trials={n_trials}", f"study_dir=runs/{n_trials}"))
        counts.append(looks[0])
    # Optuna's own, the budget's, the search's for equal networks, and a few rungs
    assert counts[1] - counts[0] <= 9 * 10


@pytest.mark.slow
def test_workers_whose_networks_fail_one_after_the_other_end(command: Command, tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    table.write_text(json.dumps({"0" * 8: {"test_acc": [80.0], "mean_acc": 80.0}}))  # knows hardly any
    failing = ("+experiment=nasbench_macro", f"estimation.table={table}", "strategy=random", "n_trials=40")
    result = command(*failing, "workers=2", "study_name=study")
    assert result.returncode == 1
    assert "the last 3 networks failed" in result.stdout
    failed = load(tmp_path).get_trials(states=(TrialState.FAIL,))
    # the third, and what ran beside it
    assert 3 <= len(failed) < 10
