#!/usr/bin/env python3
"""Pruning with two objectives beside training every network to the end: the same wall clock.

    python scripts/benchmark_fronts.py --data CIFAR --seconds 600 --seeds 3

For each seed, two searches of CIFAR-10's accuracy and MACs, ``estimation=curves`` and ``estimation=full``,
all else alike: the same short trainings (``--epochs`` on ``--data-share`` of the images), no final training,
so many seconds. On a machine of two cores both run at the same time, each on a core of its own.

Reported for each seed: the hypervolume of the front over time (accuracy above guessing, MACs below the
largest network of both), when the pruned search reached that of the other one's end, and how many
networks of the other one's final front the pruner would have stopped: its study is replayed, trial by
trial, curve by curve, into a new study with the pruner of ``estimation=curves``. And what an oracle would
leave of its time: one that stops after the first epoch each network that will be behind the front when it
ends. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import shared
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.configuration import build
from nas_optuna.estimation import LearningCurve

GUESSING = 0.1
SIDES = ("curves", "full")


def start(side: str, seed: int, arguments: argparse.Namespace, cores: set[int]) -> subprocess.Popen[str]:
    """One search, on some cores."""
    folder = arguments.out / f"{side}{seed}"
    command = [
        *(sys.executable, "-m", "nas_optuna", "+experiment=cifar", "objective=accuracy_macs", "workers=1"),
        *(
            f"estimation={side}",
            f"strategy={arguments.strategy}",
            f"seed={seed}",
            f"data.root={arguments.data}",
        ),
        *(f"estimation.epochs={arguments.epochs}", f"estimation.data_share={arguments.data_share}"),
        *("estimation.validation_images=1000", f"timeout={arguments.seconds}", f"study_dir={folder}"),
        *(
            "plan.search_share=0.98",
            "plan.finalists_share=0",
            "final.epochs=1",
            "final.data_share=0.01",
            "final.finalists=1",
        ),
        f"cache_dir={arguments.out}/cache",
    ]
    with (arguments.out / f"{side}{seed}.log").open("w") as log:
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": str(len(cores)), "GOMP_SPINCOUNT": "1000"},
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )


def load(side: str, seed: int, arguments: argparse.Namespace) -> optuna.Study:
    folder = arguments.out / f"{side}{seed}"
    (name,) = optuna.get_all_study_names(f"sqlite:///{folder}/study.db")
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/study.db")


def growth(study: optuna.Study, started: float, reference: tuple[float, float]) -> list[tuple[float, float]]:
    """Hypervolume of the front after each finished network: seconds, area."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    complete.sort(key=lambda trial: trial.datetime_complete)
    points, found = [], []
    for trial in complete:
        points.append(tuple(trial.values))
        at = trial.datetime_complete.timestamp() - started
        found.append((round(at, 1), shared.hypervolume(points, reference)))
    return found


def oracle_share(study: optuna.Study) -> float:
    """Part of the time that is left where all that ends behind the front is stopped at epoch 1."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    seconds, spent, ended = 0.0, 0.0, []
    for trial in sorted(complete, key=lambda trial: trial.datetime_complete):
        accuracy, cost = trial.values
        took = trial.duration.total_seconds()
        is_behind = any(better >= accuracy and less <= cost for better, less in ended)
        ended.append((accuracy, cost))
        seconds += took
        spent += took / len(trial.user_attrs["curve"]) if is_behind else took
    return round(spent / seconds, 3)


def would_be_stopped(study: optuna.Study) -> list[int]:
    """Numbers of the front's networks that the pruner stops when the study is replayed with it."""
    config = shared.configuration("cifar")
    config.estimation.epochs = 8
    replayed = optuna.create_study(directions=study.directions, pruner=build(config, "estimation").pruner)
    front = {trial.number for trial in study.best_trials}
    return [
        trial.number
        for trial in study.get_trials(deepcopy=False)
        if replay(trial, replayed) and trial.number in front
    ]


def replay(known: FrozenTrial, study: optuna.Study) -> bool:
    """Tell a study of a trial as if it ran; whether it is stopped."""
    if known.state != TrialState.COMPLETE:
        return False
    trial = study.ask()
    curve = LearningCurve(trial, values=(None, known.values[1]))
    steps = sorted(known.user_attrs.get("curve", {}).items(), key=lambda item: int(item[0]))
    for step, accuracy in steps:
        curve.report(accuracy, int(step))
        if step != steps[-1][0] and curve.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            return True
    study.tell(trial, known.values)
    return False


def run_seed(seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Both searches, at once where there are cores for both."""
    available = sorted(os.sched_getaffinity(0))
    cores = [{available[0]}, {available[-1]}]
    started = dict.fromkeys(SIDES, time.time())
    running = []
    for side, own in zip(SIDES, cores, strict=True):
        started[side] = time.time()
        running.append(start(side, seed, arguments, own))
        if len(available) == 1:
            running[-1].wait()
    if failed := [side for side, process in zip(SIDES, running, strict=True) if process.wait()]:
        sys.exit(f"the search {failed[0]} of seed {seed} failed: see {arguments.out}/{failed[0]}{seed}.log")
    studies = {side: load(side, seed, arguments) for side in SIDES}
    largest = max(trial.user_attrs["macs"] for study in studies.values() for trial in study.get_trials())
    grown = {side: growth(study, started[side], (GUESSING, largest)) for side, study in studies.items()}
    aim = grown["full"][-1][1]
    reached = {side: next((at for at, area in grown[side] if area >= aim), None) for side in SIDES}
    stopped = would_be_stopped(studies["full"])
    result = {
        "seed": seed,
        "seconds_to_hypervolume": reached,
        "hypervolume_ratio": round(grown["curves"][-1][1] / aim, 4),
        "complete": {side: len(area) for side, area in grown.items()},
        "pruned": len(studies["curves"].get_trials(states=(TrialState.PRUNED,))),
        "front": len(studies["full"].best_trials),
        "front_stopped": stopped,
        "oracle_share": oracle_share(studies["full"]),
    }
    print(
        f"seed {seed}: hypervolume of no pruning after {reached['full']} s, with pruning "
        f"{reached['curves']} s ({result['hypervolume_ratio']:.3f} of it at the end); {len(stopped)} of its "
        f"front's {result['front']} networks would have been stopped; an oracle would have left "
        f"{result['oracle_share']:.0%} of its time",
        flush=True,
    )
    return result


def main() -> None:
    """Read the command line, run the seeds, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder of CIFAR-10 images")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8, help="of a training")
    parser.add_argument("--data-share", type=float, default=0.08, help="of the images in an epoch")
    parser.add_argument("--strategy", default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_fronts"))
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = [run_seed(seed, arguments) for seed in range(arguments.seeds)]
    told = {name: getattr(arguments, name) for name in ("seconds", "epochs", "data_share", "strategy")}
    print(json.dumps({"runs": results, **told, **shared.machine()}))


if __name__ == "__main__":
    main()
