#!/usr/bin/env python3
"""Compares our NAS-Bench spaces with the published tables, and times how fast architectures are costed.

    .venv/bin/python scripts/check_spaces.py --data DIR [--count 10000]

DIR holds `nas-bench-macro_cifar10.json` (eight digits to `params` and `flops`; from the authors'
repository, xiusu/NAS-Bench-Macro) and, of NAS-Bench-201, `nb201_acc.csv` (`idx`, `ops`: a digit for each
of the edges 0-1, 0-2, 1-2, 0-3, 1-3, 2-3; none, skip, conv1x1, conv3x3, avgpool3x3) and `nb201_hw.csv`
(`idx`, `params_M`, `flops_M`). Every entry is built, counted and hashed. Then, for every space of conf/,
`count` architectures are sampled, hashed and costed, by one worker a core, from a cold start.

The benchmark NAS-Bench-201 trained cells once that are one by its own text, in which a convolution whose
output is used twice reads like two convolutions. So some entries have the parameters of such a twin, with
a convolution more or less than the cell they stand for: those are counted as `nb201_params_of_a_twin`.

The last line is one JSON object: `macro_params_equal`, `macro_macs_within_1pct`, `nb201_params_equal`,
`nb201_macs_within_1pct` (entries), `macro_distinct`, `nb201_distinct` (hashes), `seconds_per_10000` (the
slowest space), `seconds_by_space`, and the hardware.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import platform
import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_module

from nas_optuna.configuration import build
from nas_optuna.space import Architecture, NasBench201, NasBenchMacro, Space, measure_costs
from nas_optuna.space.cells import EDGES, OPERATIONS

IMAGES, SERIES, CLASSES = (3, 32, 32), (2, 128), 10
SPACES = ("resconv", "mobile", "plain", "conv1d", "nasbench_macro", "nasbench201")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, required=True, help="folder of the published tables")
    options.add_argument("--count", type=int, default=10_000, help="architectures that are timed")
    given = options.parse_args()
    workers = os.cpu_count() or 1
    with multiprocessing.get_context("spawn").Pool(workers, _one_thread) as pool:
        # imports are not what is timed
        pool.map(_nothing, range(workers))
        macro = check("macro", pool.map(_count_macro, slices(read_macro(given.data), workers)))
        entries = read_nb201(given.data)
        parts = pool.map(_count_nb201, slices(entries, workers))
        nb201 = check("nb201", parts) | {"nb201_params_of_a_twin": count_twins(entries, parts)}
    seconds = {space: time_space(space, given.count, workers) for space in SPACES}
    print(
        json.dumps(
            macro
            | nb201
            | {
                "seconds_per_10000": max(seconds.values()),
                "seconds_by_space": seconds,
                "count": given.count,
                "cores": workers,
                "machine": platform.machine(),
                "torch": torch.__version__,
            }
        )
    )


Entry = tuple[Any, int, float, float]
"""A point, its parameters and MACs as published (MACs in units of `scale`), and that unit."""
Found = tuple[Any, str, int, int, bool]
"""The point, its hash, our parameters, the published ones, and whether MACs are within 1 %."""


def read_macro(folder: Path) -> list[Entry]:
    table = json.loads((folder / "nas-bench-macro_cifar10.json").read_text())
    return [(digits, row["params"], row["flops"], 1.0) for digits, row in table.items()]


def read_nb201(folder: Path) -> list[Entry]:
    with (folder / "nb201_acc.csv").open() as file:
        operations = {row["idx"]: row["ops"] for row in csv.DictReader(file)}
    with (folder / "nb201_hw.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [
        (operations[row["idx"]], round(float(row["params_M"]) * 1e6), float(row["flops_M"]), 1e6)
        for row in rows
    ]


def _count_macro(entries: Iterable[Entry]) -> list[Found]:
    space = NasBenchMacro()
    return _count(entries, lambda digits: space.at(dict(zip(space.decisions, map(int, digits), strict=True))))


def _count_nb201(entries: Iterable[Entry]) -> list[Found]:
    space = NasBench201()
    return _count(
        entries,
        lambda digits: space.at(
            dict(zip(space.decisions, (OPERATIONS[int(digit)] for digit in digits), strict=True))
        ),
    )


def _count(entries: Iterable[Entry], decode: Callable[[str], Architecture]) -> list[Found]:
    found = []
    for point, params, macs, scale in entries:
        architecture = decode(point)
        costs = measure_costs(architecture, input_shape=IMAGES, classes=CLASSES)
        close = abs(costs.macs / scale - macs) <= 0.01 * macs
        found.append((point, architecture.hash, costs.params, params, close))
    return found


def check(name: str, parts: list[list[Found]]) -> dict[str, int]:
    found = [entry for part in parts for entry in part]
    figures = {
        f"{name}_entries": len(found),
        f"{name}_params_equal": sum(ours == published for _, _, ours, published, _ in found),
        f"{name}_macs_within_1pct": sum(close for *_, close in found),
        f"{name}_distinct": len({hashed for _, hashed, *_ in found}),
    }
    for line in [
        f"{point}: {ours:,} parameters, published {published:,}"
        for point, _, ours, published, _ in found
        if ours != published
    ][:5]:
        print(line)
    print(figures)
    return figures


def count_twins(entries: list[Entry], parts: list[list[Found]]) -> int:
    """Entries whose published parameters are those of another cell of the same text."""
    found = {point: (ours, published) for part in parts for point, _, ours, published, _ in part}
    by_text: dict[str, set[int]] = {}
    for point, *_ in entries:
        by_text.setdefault(text_of(point), set()).add(found[point][0])
    return sum(
        ours != published and published in by_text[text_of(point)]
        for point, (ours, published) in found.items()
    )


def text_of(digits: str) -> str:
    """A cell as the benchmark writes it to find equal ones: skips followed, sums in order."""
    nodes = ["x"]
    for node in (1, 2, 3):
        terms = [
            nodes[start] if digit == "1" else f"({nodes[start]})@{digit}"
            for (start, end), digit in zip(EDGES, digits, strict=True)
            if end == node
        ]
        nodes.append("+".join(sorted(terms)))
    return nodes[-1]


def time_space(name: str, count: int, workers: int) -> float:
    """Seconds until `count` random architectures have a hash and costs, imports left out."""
    with multiprocessing.get_context("spawn").Pool(workers, _one_thread) as pool:
        pool.map(_nothing, range(workers))
        started = time.perf_counter()
        pool.starmap(_sample, [(name, count // workers, seed) for seed in range(workers)])
        seconds = round(time.perf_counter() - started, 2)
    print(f"{name}: {count} architectures sampled, hashed and costed in {seconds} s")
    return seconds


def _sample(name: str, count: int, seed: int) -> None:
    with initialize_config_module("nas_optuna.conf", version_base="1.3"):
        space: Space = build(compose("config", overrides=["study_name=none", f"space={name}"]), "space")
    drawn = random.Random(seed)
    shape = SERIES if space.dimensions == 1 else IMAGES
    for _ in range(count):
        point = {key: drawn.choice(choice.options) for key, choice in space.decisions.items()}
        architecture = space.at(point).canonical()
        assert architecture.hash
        measure_costs(architecture, input_shape=shape, classes=CLASSES)


def slices(entries: list[Entry], workers: int) -> list[list[Entry]]:
    return [entries[start::workers] for start in range(workers)]


def _one_thread() -> None:
    torch.set_num_threads(1)


def _nothing(_: int) -> None:
    time.sleep(0.2)


if __name__ == "__main__":
    main()
