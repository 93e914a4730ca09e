#!/usr/bin/env python3
"""Checks that nothing is lost: workers of one study are killed at random moments, again and again.

    .venv/bin/python scripts/check_crashes.py [--storage sqlite|journal|ADDRESS] [--kills 200] [--workers 4]

A study is prepared as a search prepares it, workers join it by its address, and one of them, drawn at random,
gets SIGKILL, again and again; a new one takes its place. They are forked from a process that has imported
everything, so that kills meet work and not imports. After so many kills the rest of the budget is spent in
peace. Then is checked:

- every trial's number is there once, and it has ended, in one state;
- so many networks were trained as the budget says;
- of a network that was cut off, one trial came to an end;
- the value of each network that was trained is the one that an undisturbed training with its seed gives, and
  the curve of each that was pruned is the beginning of it;
- no temporary file and no checkpoint is left.

Networks of `+experiment=digits` are trained, in few epochs; with `--table FILE`, which NAS-Bench-Macro's JSON
file is, they are looked up, and most kills meet the storage. The last line is one JSON object; the exit code
is 1 where something was found.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import optuna
import shared
import torch
from hydra import compose, initialize_config_module
from omegaconf import DictConfig
from optuna.trial import FrozenTrial, TrialState

from nas_optuna import kept
from nas_optuna.interrupt import Interrupt
from nas_optuna.join import join
from nas_optuna.reopen import Reopened, open_again
from nas_optuna.search import Search
from nas_optuna.storages import open_storage
from nas_optuna.study import RETRY_OF, is_counted, is_feasible, is_retry

NAME = "crashes"
LONGEST_SECONDS = 3600  # for all that follows the last kill


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--storage", default="sqlite", help="sqlite, journal, or the address of a server")
    parser.add_argument("--table", help="networks are looked up in it")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument(
        "--trials", type=int, help="networks trained; by default as many as the kills, or 5000"
    )
    parser.add_argument("--every", type=float, default=1.0, help="seconds from kill to kill, on average")
    parser.add_argument("--lease", type=float, default=5.0, help="seconds")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="nas-optuna-crashes-"))
    address = make_address(arguments.storage, folder)
    trials = arguments.trials or (5000 if arguments.table else arguments.kills)
    prepare(arguments, address, folder, trials)
    began = time.perf_counter()
    killed = disturb(arguments, address, folder)
    seconds = time.perf_counter() - began
    found, counts = check(address, folder, trials)
    for line in found:
        print(line)
    kind = "table" if arguments.table else "digits"
    figures = {"storage": arguments.storage, "networks": kind, "workers": arguments.workers, "kills": killed}
    print(
        json.dumps({**figures, **counts, "seconds": round(seconds), "found": len(found), **shared.machine()})
    )
    if found:
        print(f"the study is kept: {address}, {folder}", file=sys.stderr)
        sys.exit(1)
    shutil.rmtree(folder)


def make_address(storage: str, folder: Path) -> str:
    return f"{storage}:///{folder}/study.{storage}" if storage in ("sqlite", "journal") else storage


def settings(arguments: argparse.Namespace, trials: int) -> list[str]:
    """The command line of the search."""
    overrides = [
        "strategy=random",
        f"n_trials={trials}",
        f"seed={arguments.seed}",
        f"lease={arguments.lease}",
    ]
    if arguments.table:
        return ["+experiment=nasbench_macro", f"estimation.table={arguments.table}", *overrides]
    # as exact as it gets: how a network is computed is not chosen by the speed of the moment
    exact = ["estimation.execution=32-true", "estimation.device=cpu", "estimation=curves", "workers=1"]
    small = [f"estimation.epochs={arguments.epochs}", "estimation.data_share=0.5"]
    return ["+experiment=digits", *exact, *small, *overrides]


def composed(name: str, overrides: Sequence[str]) -> DictConfig:
    with initialize_config_module("nas_optuna.conf", version_base="1.3"):
        return compose(name, overrides=[f"study_name={NAME}", *overrides])


def prepare(arguments: argparse.Namespace, address: str, folder: Path, trials: int) -> None:
    """Make the study, as a search does, in a process of its own: a connection does not bear a fork."""
    overrides = [*settings(arguments, trials), f"storage={address}", f"study_dir={folder}"]
    process = context().Process(target=make, args=(overrides,))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit("the study could not be made")


def make(overrides: Sequence[str]) -> None:
    Search(composed("config", overrides), Interrupt())


def work(address: str, folder: str) -> None:
    """One worker, whose networks are kept after each epoch."""
    kept.SECONDS = 0.0
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        join(composed("worker", [f"storage={address}", f"study_dir={folder}"]))


def context() -> ForkServerContext:
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["check_crashes", "nas_optuna.join"])
    return found


def disturb(arguments: argparse.Namespace, address: str, folder: Path) -> int:
    """Kill workers until that was often enough or all is done; how often it was."""

    def start() -> BaseProcess:
        process = context().Process(target=work, args=(address, str(folder)))
        process.start()
        return process

    draw, killed = random.Random(arguments.seed), 0
    workers = [start() for _ in range(arguments.workers)]
    until = time.monotonic() + arguments.every
    while killed < arguments.kills and any(worker.is_alive() for worker in workers):
        time.sleep(max(0.0, until - time.monotonic()))
        until = time.monotonic() + draw.expovariate(1 / arguments.every)
        victim = draw.choice([worker for worker in workers if worker.is_alive()] or workers)
        if not victim.is_alive():
            break
        victim.kill()
        victim.join()
        killed += 1
        workers[workers.index(victim)] = start()
        print(f"{killed} kills", end="\r", file=sys.stderr)
    for worker in workers:
        worker.join(LONGEST_SECONDS)
    failed = [worker.exitcode for worker in workers if worker.exitcode not in (0, -9)]
    if failed:
        print(f"workers ended with exit codes {failed}")
    return killed


def check(address: str, folder: Path, limit: int) -> tuple[list[str], dict[str, int]]:
    """What is wrong, a line each, and how many trials there are of each kind."""
    study = optuna.load_study(study_name=NAME, storage=open_storage(address))
    trials = study.get_trials(deepcopy=False)
    found = []
    if [trial.number for trial in trials] != list(range(len(trials))):
        found.append("numbers are missing or twice there")
    found += [
        f"trial {trial.number} is {trial.state.name}" for trial in trials if not trial.state.is_finished()
    ]
    ended = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    spent = sum(map(is_counted, ended))
    if spent != limit:
        found.append(f"{spent} networks were trained, the budget is {limit}")
    found += check_retries(trials)
    reopened = open_again(study, storage=address, folder=folder)
    trained = [trial for trial in ended if "untrained" not in trial.user_attrs]
    found += [line for trial in trained for line in check_value(reopened, trial)]
    left = [str(path) for path in folder.rglob("*") if re.search(r"\.(tmp|pt|lock|rename)$", path.name)]
    found += [f"{path} is left" for path in left]
    states = Counter(trial.state.name.lower() for trial in trials)
    retries = sum(map(is_retry, trials))
    return found, {"trials": len(trials), **states, "retries": retries, "checked": len(trained)}


def check_retries(trials: Sequence[FrozenTrial]) -> list[str]:
    """A network that was cut off came to one end: a promotion of that end is another training."""
    results: Counter[int] = Counter()
    for trial in trials:
        if is_retry(trial) and trial.state != TrialState.FAIL and "untrained" not in trial.user_attrs:
            results[first_attempt(trials, trial).number] += 1
    return [f"trial {number} was retried to {count} ends" for number, count in results.items() if count > 1]


def first_attempt(trials: Sequence[FrozenTrial], trial: FrozenTrial) -> FrozenTrial:
    """The trial that was cut off first, of those that a retry follows."""
    while is_retry(trial):
        trial = trials[trial.user_attrs[RETRY_OF]]
    return trial


def check_value(reopened: Reopened, trial: FrozenTrial) -> list[str]:
    """The trial's network, trained by nobody who is disturbed, with the same seed."""
    if not is_feasible(trial):
        return []
    module: Any = reopened.training.fit(
        reopened.architecture(trial),
        reopened.data,
        fidelity=reopened.fidelity,
        seed=trial.user_attrs["seed"],
        scale=reopened.training.scale,
    )
    reported = [value for _, value in sorted(trial.intermediate_values.items())]
    expected = list(module.curve)[: len(reported)]
    is_equal = reported == expected and (
        trial.state == TrialState.PRUNED or reopened.objectives.accuracy(trial) == module.curve[-1]
    )
    return [] if is_equal else [f"trial {trial.number} has {reported}, undisturbed it has {expected}"]


if __name__ == "__main__":
    main()
