#!/usr/bin/env python3
"""How soon pruners find good networks, on learning curves that others recorded.

    python scripts/benchmark_pruners.py --data benchmarks --seeds 15 --plot pruners.png
    python scripts/benchmark_pruners.py --data benchmarks --curves fashion_mnist,nlp --pruners default,none

Networks are drawn at random, the same ones in the same order for every pruner. Each study, in memory,
is told their curves epoch by epoch and stops where its pruner says so, until the epochs of so many whole
trainings are spent. Curves: ``fashion_mnist``, ``covertype``, ``higgs``, ``airlines`` (surrogate of LCBench,
52 epochs, accuracy; epoch 1 is chance), ``nlp`` (NAS-Bench-NLP, 50 epochs, loss; some diverge). Pruners:
``default`` is the command's own, ``none``, and Optuna's with their defaults: ``median``, ``percentile`` (25),
``halving``, ``hyperband``; and ``halving_3_3``, whose first rung and factor are 3. ``promotion`` is the
default that takes stopped trainings up again where they are worth more than a fresh network.

The figure is the regret of the best network that was trained to the end, normalised: 0 for the best there
is, 1 for the median. The last line is one JSON object: ``{curves: {pruner: {"20": [mean, standard error],
...}}}``, by budget in whole trainings.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import shared
from hydra.utils import instantiate
from optuna.trial import TrialState
from recorded import CURVES, LCBENCH, NLP, load

from nas_optuna.attributes import PROMOTES

BUDGETS = (5, 10, 20, 40, 80)

MakePruner = Callable[[int], optuna.pruners.BasePruner]


def default(epochs: int) -> optuna.pruners.BasePruner:
    config = shared.configuration("cifar")
    config.estimation.epochs = epochs
    pruner: optuna.pruners.BasePruner = instantiate(config.estimation.pruner)
    return pruner


PRUNERS: dict[str, MakePruner] = {
    "default": default,
    "promotion": default,
    "none": lambda epochs: optuna.pruners.NopPruner(),
    "median": lambda epochs: optuna.pruners.MedianPruner(),
    "percentile": lambda epochs: optuna.pruners.PercentilePruner(25.0),
    "halving": lambda epochs: optuna.pruners.SuccessiveHalvingPruner(),
    "halving_3_3": lambda epochs: optuna.pruners.SuccessiveHalvingPruner(min_resource=3, reduction_factor=3),
    "hyperband": lambda epochs: optuna.pruners.HyperbandPruner(max_resource=epochs),
}


def replay(data: Path, name: str, pruner: str, seed: int, budgets: tuple[int, ...]) -> list[float]:
    """Regret at each budget."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    curves = load(data, name)
    study = optuna.create_study(
        direction=curves.direction,
        sampler=optuna.samplers.RandomSampler(seed=seed),
        pruner=PRUNERS[pruner](curves.epochs),
    )
    order = np.random.default_rng(seed).permutation(len(curves.rows))
    regrets: list[float] = []
    best, spent = curves.median, 0
    better = max if curves.direction == "maximize" else min
    fresh = iter(itertools.cycle(order))
    stopped_rows: dict[int, list[float]] = {}
    while len(regrets) < len(budgets):
        taken_up = study.pruner.promotes(study, stopped_rows.keys()) if pruner == "promotion" else None
        if taken_up is not None:
            study.enqueue_trial({}, user_attrs={PROMOTES: taken_up})
        trial = study.ask()
        row = curves.rows[next(fresh)] if taken_up is None else stopped_rows.pop(taken_up)
        known = 0 if taken_up is None else len(study.get_trials(deepcopy=False)[taken_up].intermediate_values)
        stopped = False
        for epoch, value in enumerate(row, start=1):
            trial.report(value, epoch)
            if epoch <= known:
                continue
            spent += 1
            is_last = epoch == len(row)
            if is_last and math.isfinite(value):
                best = better(best, value)
            while len(regrets) < len(budgets) and spent >= budgets[len(regrets)] * curves.epochs:
                regrets.append(curves.regret(best))
            stopped = not is_last and trial.should_prune()
            if stopped:
                break
        if stopped or not math.isfinite(value):
            study.tell(trial, state=TrialState.PRUNED)
            stopped_rows[trial.number] = row
        else:
            study.tell(trial, value)
    return regrets


def compare(arguments: argparse.Namespace, name: str) -> dict[str, Any]:
    """Mean and standard error by pruner and budget."""
    seeds, budgets = arguments.seeds, tuple(arguments.budgets)
    jobs = [(pruner, seed) for pruner in arguments.pruners for seed in range(seeds)]
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        found = list(
            pool.map(
                replay,
                *zip(*((arguments.data, name, pruner, seed, budgets) for pruner, seed in jobs), strict=True),
            )
        )
    figures: dict[str, Any] = {}
    for index, pruner in enumerate(arguments.pruners):
        regrets = np.array(found[index * seeds : (index + 1) * seeds])
        figures[pruner] = {
            str(budget): list(shared.spread(regrets[:, column].tolist()))
            for column, budget in enumerate(budgets)
        }
        cells = "  ".join(f"{mean:.3f} ({error:.3f})" for mean, error in figures[pruner].values())
        print(f"{name:14} {pruner:12} {cells}", flush=True)
    return figures


def draw(figures: dict[str, Any], path: Path) -> None:
    """Regret over the budget, a panel for each set of curves."""
    panels = {
        name: {
            pruner: {int(budget): spread for budget, spread in cells.items()}
            for pruner, cells in pruners.items()
        }
        for name, pruners in figures.items()
    }
    shared.draw_panels(path, panels, x="whole trainings", y="normalised regret", log="x")


def main() -> None:
    """Read the command line, compare, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = functools.partial(str.split, sep=",")
    parser.add_argument("--data", type=Path, required=True, help=f"folder of {LCBENCH} and {NLP}")
    parser.add_argument("--curves", type=names, default=list(CURVES))
    parser.add_argument("--pruners", type=names, default=list(PRUNERS))
    parser.add_argument("--seeds", type=int, default=15)
    parser.add_argument(
        "--budgets", type=lambda text: sorted(map(int, text.split(","))), default=list(BUDGETS)
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--plot", type=Path, help="a png to draw; needs matplotlib")
    arguments = parser.parse_args()
    for key, known in (("curves", CURVES), ("pruners", tuple(PRUNERS))):
        for name in getattr(arguments, key):
            if name not in known:
                parser.error(f"--{key}: {name!r} is unknown; known: {', '.join(known)}")
    figures = {name: compare(arguments, name) for name in arguments.curves}
    if arguments.plot:
        draw(figures, arguments.plot)
    print(json.dumps(figures | {"seeds": arguments.seeds} | shared.machine()))


if __name__ == "__main__":
    main()
