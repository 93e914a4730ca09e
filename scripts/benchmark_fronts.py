#!/usr/bin/env python3
"""Pruning with two objectives beside training every network to the end: the same wall clock.

    python scripts/benchmark_fronts.py --data CIFAR --seconds 600 --seeds 3
    python scripts/benchmark_fronts.py --data CIFAR --strategy random --set objective.limits.macs=15e6
    python scripts/benchmark_fronts.py --recorded benchmarks --seeds 15

For each seed, two searches of CIFAR-10's accuracy and MACs, ``estimation=curves`` and ``estimation=full``,
all else alike: the same short trainings (``--epochs`` on ``--data-share`` of the images), no final training,
so many seconds. On a machine of two cores both run at the same time, each on a core of its own.

Reported for each seed: the hypervolume of the front over time (accuracy above guessing, MACs below the
largest network of both), when the pruned search reached that of the other one's end, and how many
networks of the other one's final front the pruner would have stopped: its study is replayed, trial by
trial, curve by curve, into a new study with the pruner of ``estimation=curves``. And what an oracle would
leave of its time: one that stops after the first epoch each network that will be behind the front when it
ends; and how its networks' accuracies at each rung, alone and together with their losses, are correlated with
those at the end. In several orders, the part of its epochs that the pruner leaves, with and without
the networks' parameters, and how many of the fronts it stops.

With --recorded, curves that others recorded (``recorded.py``) take the place of trainings, the cost of a
network that of a second objective: random networks, each of them judged by the pruner of
``estimation=curves``. Reported for so many networks: the part of all epochs that it left, the part that the
oracle would leave, and how many networks of the front it stopped.

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import shared
from optuna.trial import FrozenTrial, TrialState
from recorded import CURVES, load

from nas_optuna.attributes import VOID
from nas_optuna.configuration import build
from nas_optuna.estimation import LearningCurve
from nas_optuna.estimation.extrapolation import choose_rungs
from nas_optuna.estimation.pruners import RISK
from nas_optuna.study import is_feasible

GUESSING = 0.1
SIDES = ("curves", "full")
COUNTS = (20, 50, 100)  # networks of recorded curves

Point = tuple[float, float]  # accuracy, cost


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
        # images of full size from the first epoch: small ones rank networks otherwise
        "estimation.small_share=0",
        # with their loss, few images tell enough of an epoch; to judge it on more takes longer than it spares
        "estimation.validation_images=500",
        *(f"timeout={arguments.seconds}", f"study_dir={folder}"),
        *([f"estimation.pruner.risk={arguments.risk}"] if side == "curves" else []),
        *arguments.set,
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


def open_study(side: str, seed: int, arguments: argparse.Namespace) -> optuna.Study:
    folder = arguments.out / f"{side}{seed}"
    (name,) = optuna.get_all_study_names(f"sqlite:///{folder}/study.db")
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/study.db")


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Networks that were trained to the end, within the limits, as they ended."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sorted(filter(is_feasible, complete), key=lambda trial: trial.datetime_complete)


def growth(study: optuna.Study, started: float, reference: Point) -> list[tuple[float, float]]:
    """Hypervolume of the front after each finished network: seconds, area."""
    points, found = [], []
    for trial in finished(study):
        points.append(tuple(trial.values))
        at = trial.datetime_complete.timestamp() - started
        found.append((round(at, 1), shared.hypervolume(points, reference)))
    return found


def is_behind(point: Point, others: list[Point]) -> bool:
    """Whether one of the others is as accurate and costs no more."""
    return any(accuracy >= point[0] and cost <= point[1] for accuracy, cost in others)


def oracle_share(study: optuna.Study) -> float:
    """Part of the time that is left where all that ends behind the front is stopped at epoch 1."""
    seconds, spent, ended = 0.0, 0.0, []
    for trial in finished(study):
        took, point = trial.duration.total_seconds(), tuple(trial.values)
        spent += took / len(trial.user_attrs["curve"]) if is_behind(point, ended) else took
        seconds += took
        ended.append(point)
    return round(spent / seconds, 3)


def rung_correlations(study: optuna.Study) -> dict[int, tuple[float, float | None]]:
    """With the accuracies at the end: of those at each rung but the last, and of these with their losses.

    The second is a multiple correlation; None where no losses are known.
    """
    trials = finished(study)
    curves = np.array([list(trial.user_attrs["curve"].values()) for trial in trials])
    found = {}
    for rung in choose_rungs(range(1, curves.shape[1] + 1))[:-1]:
        losses = [trial.user_attrs.get("losses", {}).get(str(rung), math.nan) for trial in trials]
        alone = correlation(curves[:, [rung - 1]], curves[:, -1])
        together = correlation(np.column_stack([curves[:, rung - 1], losses]), curves[:, -1])
        found[rung] = (round(alone, 3), None if math.isnan(together) else round(together, 3))
    return found


def correlation(signals: np.ndarray, ends: np.ndarray) -> float:
    """Of the ends with a linear regression on the signals, (N, signals); NaN where one is not known."""
    if np.isnan(signals).any():
        return math.nan
    design = np.column_stack([np.ones(len(ends)), signals])
    left = ends - design @ np.linalg.lstsq(design, ends, rcond=None)[0]
    return math.sqrt(max(0.0, 1.0 - left.var() / max(ends.var(), 1e-18)))


def pruner(risk: float) -> optuna.pruners.BasePruner:
    """That of ``estimation=curves``."""
    config = shared.configuration("cifar")
    config.estimation.epochs = 8
    config.estimation.pruner.risk = risk
    made: optuna.pruners.BasePruner = build(config, "estimation").pruner
    return made


def replay_study(
    study: optuna.Study, risk: float, *, order: int = 0, with_parameters: bool = True
) -> tuple[float, list[int]]:
    """Judge the networks of an unpruned study with the pruner, one after the other.

    Args:
        study: The unpruned one.
        risk: Of the pruner.
        order: 0 for that in which they ended, else the seed of a random one.
        with_parameters: Whether the pruner is told the networks' parameters.

    Returns:
        The part of all epochs that it left, and the numbers of the front's networks that it stopped.
    """
    trials = finished(study)
    if order:
        trials = [trials[index] for index in np.random.default_rng(order).permutation(len(trials))]
    replayed = optuna.create_study(directions=study.directions, pruner=pruner(risk))
    front = {trial.number for trial in study.best_trials}
    left, total, stopped = 0, 0, []
    for trial in trials:
        curve, losses = (
            {int(step): value for step, value in trial.user_attrs.get(name, {}).items()}
            for name in ("curve", "losses")
        )
        epochs = replay(
            ask_again(replayed, trial, with_parameters), curve, losses, tuple(trial.values), replayed
        )
        left, total = left + epochs, total + len(curve)
        if epochs < len(curve) and trial.number in front:
            stopped.append(trial.number)
    return left / total, sorted(stopped)


def ask_again(study: optuna.Study, trial: FrozenTrial, with_parameters: bool) -> optuna.Trial:
    """A new trial for the same network."""
    if not with_parameters:
        return study.ask()
    study.enqueue_trial(trial.params, user_attrs={VOID: trial.user_attrs.get(VOID, [])})
    return study.ask(trial.distributions)


def replay_in_orders(study: optuna.Study, risk: float, orders: int) -> dict[str, dict[str, float]]:
    """Part of the epochs that the pruner leaves in several orders, and how many of their fronts it stops."""
    found = {}
    for name, with_parameters in (("parameters", True), ("curves_alone", False)):
        runs = [
            replay_study(study, risk, order=order, with_parameters=with_parameters) for order in range(orders)
        ]
        found[name] = {
            "share": round(float(np.mean([share for share, _ in runs])), 3),
            "front_stopped": sum(len(stopped) for _, stopped in runs),
            "front": orders * len(study.best_trials),
        }
    return found


def replay(
    trial: optuna.Trial,
    curve: Mapping[int, float],
    losses: Mapping[int, float],
    point: Point,
    study: optuna.Study,
) -> int:
    """Tell a study of a training as if it ran; how many epochs its pruner let it have."""
    last = max(curve)
    learning_curve = LearningCurve(trial, values=(None, point[1]))
    for epochs, step in enumerate(sorted(curve), start=1):
        learning_curve.report(curve[step], step, loss=losses.get(step))
        if (step != last and learning_curve.should_prune()) or not math.isfinite(curve[step]):
            study.tell(trial, state=TrialState.PRUNED)
            return epochs
    study.tell(trial, point)
    return len(curve)


def replay_recorded(data: Path, name: str, count: int, seed: int, risk: float) -> dict[str, float]:
    """Random networks, judged one after the other."""
    curves = load(data, name)
    study = optuna.create_study(directions=[curves.direction, "minimize"], pruner=pruner(risk))
    sign = 1.0 if curves.direction == "maximize" else -1.0
    total = spent = oracle = 0
    ended: dict[int, Point] = {}
    stopped = []
    for index in map(int, np.random.default_rng(seed).permutation(len(curves.rows))[:count]):
        row, cost = curves.rows[index], curves.costs[index]
        left = replay(study.ask(), dict(enumerate(row, start=1)), {}, (row[-1], cost), study)
        point = (sign * row[-1], cost) if math.isfinite(row[-1]) else (-math.inf, math.inf)
        total, spent = total + len(row), spent + left
        oracle += 1 if is_behind(point, list(ended.values())) else len(row)
        ended[index] = point
        if left < len(row):
            stopped.append(index)
    front = [
        index
        for index, point in ended.items()
        if not is_behind(point, [other for key, other in ended.items() if key != index])
    ]
    return {
        "share": spent / total,
        "oracle_share": oracle / total,
        "front": len(front),
        "front_stopped": len(set(front) & set(stopped)),
    }


def run_recorded(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Figures by number of networks, over the seeds."""
    figures: dict[str, Any] = {}
    for count in COUNTS:
        runs = [
            replay_recorded(arguments.recorded, name, count, seed, arguments.risk)
            for seed in seeds(arguments)
        ]
        figures[str(count)] = {
            key: shared.spread([run[key] for run in runs]) for key in ("share", "oracle_share")
        } | {key: sum(run[key] for run in runs) for key in ("front", "front_stopped")}
        told = figures[str(count)]
        print(
            f"{name:14} {count:3} networks: {told['share'][0]:.2f} ({told['share'][1]:.2f}) of the epochs, "
            f"an oracle {told['oracle_share'][0]:.2f}; {told['front_stopped']} of the {told['front']} "
            "networks of the fronts were stopped",
            flush=True,
        )
    return figures


def seeds(arguments: argparse.Namespace) -> range:
    """Those that are asked for."""
    return range(arguments.first_seed, arguments.first_seed + arguments.seeds)


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
    studies = {side: open_study(side, seed, arguments) for side in SIDES}
    largest = max(trial.values[1] for study in studies.values() for trial in finished(study))
    grown = {side: growth(study, started[side], (GUESSING, largest)) for side, study in studies.items()}
    aim = grown["full"][-1][1]
    reached = {side: next((at for at, area in grown[side] if area >= aim), None) for side in SIDES}
    _, stopped = replay_study(studies["full"], arguments.risk)
    result = {
        "seed": seed,
        "seconds_to_hypervolume": reached,
        "hypervolume_ratio": round(grown["curves"][-1][1] / aim, 4),
        "complete": {side: len(area) for side, area in grown.items()},
        "pruned": len(studies["curves"].get_trials(states=(TrialState.PRUNED,))),
        "front": len(studies["full"].best_trials),
        "front_stopped": stopped,
        "replayed": replay_in_orders(studies["full"], arguments.risk, arguments.orders),
        "oracle_share": oracle_share(studies["full"]),
        "rung_correlations": rung_correlations(studies["full"]),
    }
    print(
        f"seed {seed}: hypervolume of no pruning after {reached['full']} s, with pruning "
        f"{reached['curves']} s ({result['hypervolume_ratio']:.3f} of it at the end); {len(stopped)} of its "
        f"front's {result['front']} networks would have been stopped; an oracle would have left "
        f"{result['oracle_share']:.0%} of its time; replayed in {arguments.orders} orders the pruner leaves "
        f"{result['replayed']['parameters']['share']:.0%} of its epochs, "
        f"{result['replayed']['curves_alone']['share']:.0%} without the networks' parameters",
        flush=True,
    )
    return result


def main() -> None:
    """Read the command line, run the seeds, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", help="folder of CIFAR-10 images")
    source.add_argument("--recorded", type=Path, help="folder of recorded curves, see recorded.py")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0, help="where to go on with a long comparison")
    parser.add_argument("--risk", type=float, default=RISK, help="of the pruner, at each rung")
    parser.add_argument("--orders", type=int, default=6, help="in which an unpruned study is replayed")
    parser.add_argument("--epochs", type=int, default=8, help="of a training")
    parser.add_argument("--data-share", type=float, default=0.08, help="of the images in an epoch")
    parser.add_argument("--strategy", default="auto")
    parser.add_argument("--set", nargs="*", default=[], help="further settings of the command, of both sides")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_fronts"))
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if arguments.recorded:
        figures = {name: run_recorded(name, arguments) for name in CURVES}
        print(json.dumps(figures | {"seeds": arguments.seeds} | shared.machine()))
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = [run_seed(seed, arguments) for seed in seeds(arguments)]
    told = {
        name: getattr(arguments, name)
        for name in ("seconds", "risk", "epochs", "data_share", "strategy", "set")
    }
    print(json.dumps({"runs": results, **told, **shared.machine()}))


if __name__ == "__main__":
    main()
