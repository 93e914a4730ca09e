#!/usr/bin/env python3
"""What a network gains that begins with the weights of a trained relative, and whether ranking suffers.

    OMP_NUM_THREADS=1 python scripts/benchmark_inheritance.py --data FOLDER --keep kept.jsonl

Random networks of a space are trained; from each, children are made by changing one to three decisions, as
a search strategy does. Every child is trained from scratch, twice with different seeds, and from its
parent's weights, skipping each of some parts of the schedule; all with `estimation.inherit`'s own code.
Reported for each part: seconds of the processor over those from scratch, the gain in accuracy, and
Spearman's and Kendall's rank correlation over all children with the mean of both trainings from scratch,
with bootstrap standard errors. `scratch` is the noise ceiling: one seed against the other. `within` ranks
the children of one parent only, mean over parents: inherited luck of a parent can't help there.
The last line is one JSON object. With --keep, a run that was killed goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import shared
from benchmark_fidelities import Keep, kendall, spearman, with_error
from optuna.distributions import BaseDistribution

from nas_optuna.data import ImageFolder, LabelledData
from nas_optuna.estimation import Fidelity, Parent, likeness
from nas_optuna.space import Architecture, Space
from nas_optuna.strategy.parameters import Parameter

SKIPS = (0.5, 0.7)
MOST_CHANGES = 3
MOST_TRIES = 1000

Array = np.ndarray[Any, np.dtype[np.float64]]
Record = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """A network and others that differ from it in a few decisions."""

    parent: Architecture
    children: Sequence[Architecture]


def draw_families(space: Space, *, parents: int, children: int) -> list[Family]:
    """Distinct networks, the same ones for every run."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    random = np.random.default_rng(0)
    families, seen = [], set()
    for _ in range(parents):
        trial = study.ask()
        parent = space(trial).canonical()
        seen.add(parent.hash)
        found: list[Architecture] = []
        for _ in range(MOST_TRIES):
            child = space.at(change(trial.params, trial.distributions, random)).canonical()
            if child.hash not in seen and len(found) < children:
                seen.add(child.hash)
                found.append(child)
        families.append(Family(parent, found))
    return families


def change(
    values: dict[str, Any], distributions: dict[str, BaseDistribution], random: np.random.Generator
) -> dict[str, Any]:
    """The same decisions but for a few."""
    chosen = random.choice(sorted(values), size=int(random.integers(1, MOST_CHANGES + 1)), replace=False)
    changed = {}
    for name in map(str, chosen):
        distribution = distributions[name]
        other = Parameter(distribution).change(distribution.to_internal_repr(values[name]), random)
        changed[name] = distribution.to_external_repr(other)
    return values | changed


class Bench:
    """Trains networks on one set of images."""

    def __init__(self, data: LabelledData, arguments: argparse.Namespace) -> None:
        self._data = data
        self._execution = arguments.execution
        self._fidelity = Fidelity(arguments.epochs, arguments.data_share, arguments.validation_images)
        self._weights: dict[str, Parent] = {}

    def parent(self, network: Architecture) -> Parent:
        """The trained network; trained anew in each run, since only results are kept."""
        if network.hash not in self._weights:
            module = self._fit(network, seed=0)
            self._weights[network.hash] = Parent(network, module.network.state_dict(), 0)
        return self._weights[network.hash]

    def jobs(self, child: Architecture, parent: Architecture) -> dict[str, Callable[[], Record]]:
        """All that is measured of a child."""
        scratch = {f"scratch {seed}": lambda seed=seed: self._time(child, seed=seed) for seed in (1, 2)}
        inherited = {
            f"skips {part:g}": lambda part=part: self._time(
                child, seed=3, parent=self.parent(parent), skips=part
            )
            for part in SKIPS
        }
        return scratch | inherited

    def likeness(self, child: Architecture, parent: Architecture) -> float:
        """Of a child to its parent."""
        channels, classes = self._data.input_shape[0], len(self._data.classes)
        return likeness(child, parent, channels=channels, classes=classes)

    def _time(self, network: Architecture, **options: Any) -> Record:
        started = time.process_time()
        module = self._fit(network, **options)
        seconds = time.process_time() - started
        return {"accuracy": 0.0 if module.diverged else module.curve[-1], "seconds": seconds}

    def _fit(
        self, network: Architecture, *, seed: int, parent: Parent | None = None, skips: float = 0.5
    ) -> Any:
        training = shared.make_training(execution=self._execution, inherit_skips=skips)
        return training.fit(network, self._data, fidelity=self._fidelity, seed=seed, parent=parent)


def compare(name: str, families: Sequence[Family], records: dict[tuple[str, str], Record]) -> dict[str, Any]:
    """One way to train children against training them from scratch."""
    children = [child.hash for family in families for child in family.children]

    def column(what: str, key: str) -> Array:
        return np.array([records[child, what][key] for child in children])

    first, second = (column(f"scratch {seed}", "accuracy") for seed in (1, 2))
    scratch_seconds = (column("scratch 1", "seconds") + column("scratch 2", "seconds")).sum() / 2
    values = first if name == "scratch" else column(name, "accuracy")
    truth = second if name == "scratch" else (first + second) / 2
    seconds = scratch_seconds if name == "scratch" else column(name, "seconds").sum()
    owner = np.repeat(np.arange(len(families)), [len(family.children) for family in families])
    within = [spearman(values[owner == index], truth[owner == index]) for index in range(len(families))]
    gain = values - (first + second) / 2
    return {
        "seconds": round(float(seconds / scratch_seconds), 3),
        "accuracy": shared.spread(list(values)),
        "gain": shared.spread(list(gain)),
        "spearman": with_error(spearman, values, truth),
        "kendall": with_error(kendall, values, truth),
        "within": shared.spread(within),
    }


def main() -> None:
    """Read the command line, train, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, type=Path, help="a folder with a folder of images a class")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--cache", type=Path, default=shared.CACHE)
    parser.add_argument("--space", default="resconv", help="space=...")
    parser.add_argument("--parents", type=int, default=6)
    parser.add_argument("--children", type=int, default=4, help="of each parent")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--data-share", type=float, default=0.25, help="of the images in an epoch")
    parser.add_argument("--validation-images", type=int, default=None)
    parser.add_argument("--execution", default="32-true", help="estimation.execution")
    parser.add_argument("--keep", type=Path, help="a file of results; a run goes on with it")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    data = ImageFolder(
        root=str(arguments.data), image_size=arguments.image_size, augmentation={"crop": 3, "flip": 0.5}
    )
    data.cache_dir = arguments.cache
    data.prepare()
    families = draw_families(
        shared.space(arguments.space), parents=arguments.parents, children=arguments.children
    )
    settings = {name: str(value) for name, value in vars(arguments).items() if name not in ("keep", "cache")}
    keep, bench = Keep(arguments.keep, settings), Bench(data, arguments)
    alike = []
    for family in families:
        for child in family.children:
            alike.append(bench.likeness(child, family.parent))
            for what, job in bench.jobs(child, family.parent).items():
                if what.startswith("skips") and (child.hash, what) not in keep.records:
                    bench.parent(family.parent)  # before the clock runs
                record = keep.get(child.hash, what, job)
                print(f"{child}  {what}: {record['accuracy']:.4f} in {record['seconds']:.1f} s", flush=True)
    names = ["scratch", *(f"skips {part:g}" for part in SKIPS)]
    results = {name: compare(name, families, keep.records) for name in names}
    for name, result in results.items():
        print(f"{name:<12} {result}", flush=True)
    print(
        json.dumps(
            {
                "results": results,
                "pairs": len(alike),
                "likeness": round(statistics.mean(alike), 3),
                **{name: getattr(arguments, name) for name in ("epochs", "data_share")},
                **shared.machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
