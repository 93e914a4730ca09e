#!/usr/bin/env python3
"""How soon strategies find good networks, on tables of networks that others trained.

    python scripts/benchmark_strategies.py --data benchmarks --tables macro,nb201,macro_front \
        --strategies default,tpe,evolution,local,random --seeds 30 --queries 200 --plot regret.png
    python scripts/benchmark_strategies.py --data benchmarks --tables macro --workers 8
    python scripts/benchmark_strategies.py --ask --strategies default,tpe

Each run is a search as ``python -m nas_optuna`` makes it: space, objective, strategy and table, in a study
in memory. A strategy is a file of ``conf/strategy``, with changes after colons (``predictor:goal=fast``);
``default`` is the command's own. Tables: ``macro`` (NAS-Bench-Macro), ``nb201``, ``nb201_cifar100``,
``nb201_imagenet16`` (NAS-Bench-201), each also with ``_options`` behind it: the same in a plain Optuna
study of categorical parameters, without what our spaces tell and with equal networks judged again;
``plain`` (interacting options, made here, no network); and of two objectives ``macro_front`` (accuracy,
MACs) and ``nb201_latency`` (CIFAR-100, latency on a Raspberry Pi 4).

With one objective, the figure is the regret of the best query: of the network whose noisy accuracy is the
highest so far, how far its mean is from the best there is, in percentage points (``plain``: in parts of
its range times 100). ``named`` is the regret of the network that a search of so many queries in all names, as
the command does it: its best three are queried again with fresh seeds, and these queries count among the so
many. With two objectives, the figure is the share of the hypervolume that the queries' front leaves out.
The last line is one JSON object: ``{table: {strategy: {"50": [mean, standard error], ...,
"named": {"50": [mean, standard error], ...},
"queries_to": {"0.1": the first multiple of five at which the mean is so low, ...}}}}``.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import statistics
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import shared
from omegaconf import DictConfig

from nas_optuna.configuration import build, build_sampler, build_space
from nas_optuna.description import NetworkDescription
from nas_optuna.estimation import Fidelity, Objectives, Table
from nas_optuna.objective import Objective
from nas_optuna.results import Race, leader, plan_race
from nas_optuna.space import Space, measure_costs
from nas_optuna.study import derive_seed

AT = (20, 50, 100, 150, 200, 300, 500)
LEVELS = (0.3, 0.2, 0.1, 0.05)  # of the figure, whose first query is told
SIZES = (100, 1_000, 10_000)  # finished trials when an ask is timed
ASKED_PARAMETERS, ASKED_OPTIONS, ASKS = 25, 4, 10
MACRO, CELLS, LATENCIES = "nas-bench-macro_cifar10.json", "nb201_acc.csv", "nb201_hw.csv"
MACRO_REFERENCE, LATENCY_REFERENCE = (0.8, 106e6), (0.5, 80.0)  # of the hypervolume: accuracy, cost

Judge = Callable[[optuna.Trial], tuple[float, ...]]


class Networks:
    """A table with the space that it was made for."""

    def __init__(self, data: Path, table: str) -> None:
        kind, _, rest = table.partition("_")
        is_macro = kind == "macro"
        self.has_names = not rest.endswith("options")
        rest = rest.removesuffix("options").removesuffix("_")
        self.config = shared.configuration("nasbench_macro" if is_macro else "nasbench201")
        self.config.estimation.table = str(data / (MACRO if is_macro else CELLS))
        self.cost = {"front": "macs", "latency": "latency"}.get(rest)
        if rest in ("cifar100", "imagenet16"):
            self.config.estimation.dataset = rest
        if rest == "latency":
            self.config.estimation.dataset = "cifar100"
            self.config.estimation.latencies = str(data / LATENCIES)
        if self.cost:
            self.config.objective.directions = {"accuracy": "maximize", self.cost: "minimize"}
        self.named: Space = build_space(self.config)
        self.space: Any = self.named if self.has_names else Options(self.named)
        self.table: Table = build(self.config, "estimation")
        self.objectives: Objectives = build(self.config, "objective")
        self.data = build(self.config, "data")
        self.best = max(row.test for row in self.table.rows.values())

    @functools.cached_property
    def whole_front(self) -> float:
        """Hypervolume of all networks."""
        names = list(self.named.decisions)
        points = itertools.product(*(self.named.decisions[name].options for name in names))
        networks = {self.named.at(dict(zip(names, point, strict=True))).canonical() for point in points}
        return shared.hypervolume(
            [(self.truth(network), self.price(network)) for network in networks], self.reference
        )

    @property
    def reference(self) -> tuple[float, float]:
        return MACRO_REFERENCE if self.cost == "macs" else LATENCY_REFERENCE

    @property
    def directions(self) -> list[str]:
        return list(self.objectives.directions.values())

    def describe(self) -> NetworkDescription | None:
        if not self.has_names:
            return None
        shape, classes = self.data.input_shape, len(self.data.classes)
        return NetworkDescription(self.named, self.objectives, self.table, input_shape=shape, classes=classes)

    def judge(self, seed: int) -> Judge:
        if not self.has_names:
            return lambda trial: self.look_up(trial, seed)
        return Objective(
            space=self.space,
            data=self.data,
            training=self.table,
            objectives=self.objectives,
            fidelity=Fidelity(self.table.epochs),
            seed=seed,
            progress=Silent(),
            stop_reason=lambda: None,
        )

    def look_up(self, trial: optuna.Trial, seed: int) -> tuple[float, ...]:
        """What a plain objective does: equal networks are judged again, another seed each time."""
        accuracy = self.look_again(trial, derive_seed(seed, trial.number))
        return (accuracy,) if self.cost is None else (accuracy, self.price(self.network(trial)))

    def truth(self, network: Any) -> float:
        return self.table.rows[self.table.key(network)].test

    def price(self, network: Any) -> float:
        if self.cost == "latency":
            return self.table.measure(network)["latency"]
        shape = self.data.input_shape
        return float(measure_costs(network, input_shape=shape, classes=len(self.data.classes)).macs)

    def grade(self, trials: Sequence[optuna.trial.FrozenTrial]) -> float:
        """Regret in percentage points, or the share of the hypervolume that is missing."""
        if self.cost is None:
            return self.regret(max(trials, key=lambda trial: trial.values[0]))
        front = [(self.truth(self.network(trial)), trial.values[1]) for trial in trials]
        return 1 - shared.hypervolume(front, self.reference) / self.whole_front

    def network(self, trial: optuna.Trial | optuna.trial.FrozenTrial) -> Any:
        return self.space.at(trial.params).canonical()

    def regret(self, trial: optuna.trial.FrozenTrial) -> float:
        return 100 * (self.best - self.truth(self.network(trial)))

    def look_again(self, trial: optuna.Trial | optuna.trial.FrozenTrial, seed: int) -> float:
        fidelity = Fidelity(self.table.epochs)
        return float(self.table.fit(self.network(trial), self.data, fidelity=fidelity, seed=seed).curve[-1])


class Options:
    """A space as a plain Optuna study has it: numbered options, without names for what they mean."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.decisions = space.decisions

    def __call__(self, trial: optuna.Trial) -> Any:
        for index, choice in enumerate(self.decisions.values()):
            trial.suggest_categorical(f"x{index}", list(range(len(choice.options))))
        return self.at(trial.params)

    def at(self, values: dict[str, Any]) -> Any:
        """The architecture of a point."""
        named = enumerate(self.decisions.items())
        return self.space.at({name: choice.options[values[f"x{index}"]] for index, (name, choice) in named})


class Landscape:
    """Twelve options of four that interact in random threes; one landscape for each seed (Kauffman 1993)."""

    parameters, options, together, noise = 12, 4, 3, 0.02
    cost = None

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.groups = [
            random.choice(self.parameters, self.together, replace=False) for _ in range(self.parameters)
        ]
        shape = (self.options,) * self.together
        self.worth = [random.random(shape) for _ in self.groups]
        self.random = np.random.default_rng(seed + 1)
        self.config = shared.configuration("nasbench_macro")
        self.directions = ["maximize"]
        self.best = max(self.climb(random) for _ in range(20))

    def value(self, chosen: Sequence[int]) -> float:
        parts = [
            worth[tuple(chosen[index] for index in group)]
            for worth, group in zip(self.worth, self.groups, strict=True)
        ]
        return float(np.mean(parts))

    def climb(self, random: np.random.Generator) -> float:
        """The height of a summit: what the regret is measured from is the highest of many."""
        chosen = list(map(int, random.integers(self.options, size=self.parameters)))
        height, improved = self.value(chosen), True
        while improved:
            improved = False
            pairs = itertools.combinations(range(self.parameters), 2)
            for first, second in pairs:
                for one, other in itertools.product(range(self.options), repeat=2):
                    changed = list(chosen)
                    changed[first], changed[second] = one, other
                    if (higher := self.value(changed)) > height:
                        chosen, height, improved = changed, higher, True
        return height

    def describe(self) -> None:
        return None

    def space(self, trial: optuna.Trial) -> list[int]:
        return [
            int(trial.suggest_categorical(f"x{index}", range(self.options)))
            for index in range(self.parameters)
        ]

    def judge(self, seed: int) -> Judge:
        return lambda trial: (self.value(self.space(trial)) + self.noise * float(self.random.normal()),)

    def grade(self, trials: Sequence[optuna.trial.FrozenTrial]) -> float:
        return self.regret(max(trials, key=lambda trial: trial.values[0]))

    def network(self, trial: optuna.trial.FrozenTrial) -> tuple[int, ...]:
        return tuple(trial.params[f"x{index}"] for index in range(self.parameters))

    def regret(self, trial: optuna.trial.FrozenTrial) -> float:
        return 100 * (self.best - self.value(self.network(trial)))

    def look_again(self, trial: optuna.trial.FrozenTrial, seed: int) -> float:
        return self.value(self.network(trial)) + self.noise * float(np.random.default_rng(seed).normal())


class Silent:
    """Hears nothing."""

    def running(self, what: str) -> None: ...
    def epoch(self, epoch: int, accuracy: float | None, epochs: int) -> None: ...


@functools.cache
def networks_of(data: Path, table: str) -> Networks:
    """Read once by each process."""
    return Networks(data, table)


def configure(strategy: str, config: DictConfig) -> DictConfig:
    """The configuration with a strategy's file, and the changes behind colons."""
    name, *changes = strategy.split(":")
    if name != "default":
        config = config.copy()
        config.strategy = shared.strategy(name)
    for change in changes:
        key, _, value = change.partition("=")
        config.strategy[key] = int(value) if value.isdigit() else value
    return config


def name_network(
    problem: Networks | Landscape,
    trials: Sequence[optuna.trial.FrozenTrial],
    race: Race,
    count: int,
    seed: int,
) -> float:
    """The regret of the network that is named when the best few of these trials have raced."""
    ranked = sorted(trials, key=lambda trial: trial.values[0], reverse=True)
    distinct = {problem.network(trial): trial for trial in reversed(ranked)}
    finalists = sorted(distinct.values(), key=lambda trial: trial.values[0], reverse=True)[:count]
    by_number = {trial.number: trial for trial in finalists}
    fresh: dict[int, list[float]] = {number: [] for number in by_number}
    while (number := race.next(fresh)) is not None:
        drawn = derive_seed(seed, number, 1 + len(fresh[number]))
        fresh[number].append(problem.look_again(by_number[number], drawn))
    return problem.regret(by_number[leader(fresh)])


def run(
    data: Path, table: str, strategy: str, seed: int, queries: int, workers: int
) -> tuple[list[float], dict[int, float]]:
    """One search; its figure after each query, and the regret of the network that it would name."""
    os.environ["OMP_NUM_THREADS"] = "1"
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    problem = Landscape(seed) if table == "plain" else networks_of(data, table)
    config = configure(strategy, problem.config)
    config.seed = seed
    sampler = build_sampler(config, existing=0, describe=problem.describe())
    study = optuna.create_study(
        sampler=sampler, pruner=optuna.pruners.NopPruner(), directions=problem.directions
    )
    judge = problem.judge(seed)
    figures: list[float] = []
    named: dict[int, float] = {}
    # how many of so many queries are for the search, the rest for the race at its end
    final, share = config.final, config.plan.finalists_share
    races = {count: plan_race(final.finalists, trials=count, share=share) for count in AT if count <= queries}
    lengths = {count - race.trainings: (count, finalists, race) for count, (finalists, race) in races.items()}
    running: deque[optuna.Trial] = deque()
    judged: list[optuna.trial.FrozenTrial] = []
    while len(figures) < queries:
        trial = study.ask()
        problem.space(trial)
        running.append(trial)
        if len(running) < workers:
            continue
        trial = running.popleft()
        ended = study.tell(trial, judge(trial))
        judged.append(ended)
        if "untrained" not in ended.user_attrs:  # nothing was queried
            figures.append(problem.grade(judged) if len(figures) % 5 == 4 else float("nan"))
            if problem.cost is None and len(figures) in lengths:
                count, finalists, race = lengths[len(figures)]
                named[count] = name_network(problem, judged, race, finalists, seed)
    return figures, named


def time_asks(strategy: str, size: int) -> float:
    """Median seconds of one ask beside so many finished trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    random = np.random.default_rng(0)
    options = [f"option{index}" for index in range(ASKED_OPTIONS)]
    names = [f"block{index}.layer" for index in range(ASKED_PARAMETERS)]
    distribution = optuna.distributions.CategoricalDistribution(options)
    config = configure(strategy, shared.configuration("nasbench_macro"))
    study = optuna.create_study(sampler=build_sampler(config, existing=0), direction="maximize")
    worth = random.random((ASKED_PARAMETERS, ASKED_OPTIONS))
    trials = []
    for _ in range(size):
        chosen = random.integers(ASKED_OPTIONS, size=ASKED_PARAMETERS)
        trials.append(
            optuna.trial.create_trial(
                params={name: options[index] for name, index in zip(names, chosen, strict=True)},
                distributions=dict.fromkeys(names, distribution),
                value=float(worth[np.arange(ASKED_PARAMETERS), chosen].sum()),
            )
        )
    study.add_trials(trials)
    seconds = []
    for _ in range(1 + ASKS):
        started = time.perf_counter()
        trial = study.ask()
        for name in names:
            trial.suggest_categorical(name, options)
        seconds.append(time.perf_counter() - started)
        study.tell(trial, float(random.random()))
    return statistics.median(seconds[1:])


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every strategy on every table; prints a line for each as it ends."""
    os.environ["OMP_NUM_THREADS"] = "1"
    figures: dict[str, Any] = {}
    with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
        runs = {
            (table, strategy): [
                pool.submit(run, arguments.data, table, strategy, seed, arguments.queries, arguments.workers)
                for seed in range(arguments.seeds)
            ]
            for table in arguments.tables.split(",")
            for strategy in arguments.strategies.split(",")
        }
        for (table, strategy), futures in runs.items():
            results = [future.result() for future in futures]
            curves = np.array([figures for figures, _ in results])
            spreads = {
                count: shared.spread(curves[:, count - 1]) for count in range(5, arguments.queries + 1, 5)
            }
            told = {count: spreads[count] for count in AT if count in spreads}
            row = "  ".join(f"{count}: {mean:.3f} ({error:.3f})" for count, (mean, error) in told.items())
            print(f"{table:<16} {strategy:<24} {row}", flush=True)
            named = {count: shared.spread([names[count] for _, names in results]) for count in results[0][1]}
            if named:
                row = "  ".join(
                    f"{count}: {mean:.3f} ({error:.3f})" for count, (mean, error) in named.items()
                )
                print(f"{'':<16} {'  named':<24} {row}", flush=True)
            figures.setdefault(table, {})[strategy] = {
                **{str(count): pair for count, pair in told.items()},
                "named": {str(count): pair for count, pair in named.items()},
                "queries_to": {
                    str(level): next((count for count, (mean, _) in spreads.items() if mean <= level), None)
                    for level in LEVELS
                },
                "curve": spreads,
            }
    return figures


def draw(figures: dict[str, Any], path: Path) -> None:
    """Regret over queries, a panel for each table."""
    fronts = all(table.endswith(("front", "latency")) for table in figures)
    shared.draw_panels(
        path,
        {
            table: {name: figure["curve"] for name, figure in strategies.items()}
            for table, strategies in figures.items()
        },
        x="queries",
        y="share of the hypervolume missing" if fronts else "regret, percentage points",
        log="y",
    )


def main() -> None:
    """Read the command line, compare, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(), help="folder of the tables")
    parser.add_argument("--tables", default="macro,nb201,macro_front")
    parser.add_argument("--strategies", default="default,tpe,evolution,local,random")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--workers", type=int, default=1, help="networks that are asked for at a time")
    parser.add_argument("--processes", type=int, default=2, help="runs side by side")
    parser.add_argument("--plot", type=Path, help="a png file; needs matplotlib")
    parser.add_argument("--ask", action="store_true", help="time one ask instead")
    arguments = parser.parse_args()
    if arguments.ask:
        seconds = {
            strategy: {str(size): time_asks(strategy, size) for size in SIZES}
            for strategy in arguments.strategies.split(",")
        }
        for strategy, by_size in seconds.items():
            print(strategy, "  ".join(f"{size}: {1000 * value:.0f} ms" for size, value in by_size.items()))
        print(json.dumps({"ask_seconds": seconds, "asks": ASKS, **shared.machine()}))
        return
    figures = compare(arguments)
    if arguments.plot:
        draw(figures, arguments.plot)
    for strategies in figures.values():
        for figure in strategies.values():
            del figure["curve"]
    print(json.dumps({**figures, "seeds": arguments.seeds, "workers": arguments.workers, **shared.machine()}))


if __name__ == "__main__":
    main()
