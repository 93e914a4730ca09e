#!/usr/bin/env python3
"""Checks measured latencies: do they repeat, do they rank networks rightly, what do trainings beside them do?

    .venv/bin/python scripts/check_latency.py [--forms eager exported onnx] [--networks 10] [--trainings 1]

Random networks of `space=resconv` for CIFAR-10's images, on one CPU thread, one image at a time. For each
form:

- each network is measured twice, as a search does it; reported is the largest relative difference.
- The ranking is compared with a careful measurement by plain torch or onnxruntime code of this script: rounds
  over all networks, in each round a burst of batches of each network, the median of the rounds' medians.
- Then all are measured again while other processes train, on one thread each. Reported are the factors on the
  first measurement, of what a search takes (one in twenty batches took less) and of the median, and the
  ranking.

Wants a machine that does nothing else. The last line is one JSON object: by form the largest difference,
seconds a network, Spearman's and Kendall's coefficients and the figures under load; between forms Spearman's
coefficient; the hardware.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from typing import Any

import numpy as np
import optuna
import shared
import torch
import torch.nn.functional as F
from scipy.stats import kendalltau, spearmanr
from torch import nn

from nas_optuna.configuration import build_space
from nas_optuna.latency import FORMS, LatencyMeter, LatencySettings
from nas_optuna.prepare import draw_networks
from nas_optuna.space import Architecture, Network
from nas_optuna.space.latency import Latency

SHAPE, CLASSES = (3, 32, 32), 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--forms", nargs="+", choices=tuple(FORMS), default=list(FORMS))
    parser.add_argument("--networks", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=15, help="of the careful measurement")
    parser.add_argument("--seconds", type=float, default=0.3, help="of a burst in a round")
    parser.add_argument("--trainings", type=int, default=1, help="beside the last measurement")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    networks = draw_networks(build_space(shared.configuration("cifar")), arguments.networks)
    figures: dict[str, Any] = {}
    times: dict[str, list[float]] = {}
    for form in arguments.forms:
        figures[form], times[form] = check(form, networks, arguments)
        print(form, json.dumps(figures[form]), flush=True)
    between = {
        f"{one}, {other}": rank(times[one], times[other]) for one, other in itertools.combinations(times, 2)
    }
    print(json.dumps({**figures, "spearman_between": between, **shared.machine()}))


def check(
    form: str, networks: Sequence[Architecture], arguments: argparse.Namespace
) -> tuple[dict[str, Any], list[float]]:
    """The figures of one form, and the careful milliseconds of each network."""
    meter = LatencyMeter(LatencySettings(form=form), input_shape=SHAPE, classes=CLASSES)
    started = time.perf_counter()
    first = [meter.time(network) for network in networks]
    took = time.perf_counter() - started
    second = [meter.time(network) for network in networks]
    careful = measure_carefully(form, networks, rounds=arguments.rounds, seconds=arguments.seconds)
    with trainings(networks[-1], arguments.trainings):
        loaded = [meter.time(network) for network in networks]
    found = milliseconds(first)
    return {
        "milliseconds": [round(value, 4) for value in found],
        "seconds_each": round(took / len(networks), 3),
        "largest_difference": round(largest_difference(found, milliseconds(second)), 4),
        "spearman": rank(found, careful),
        "kendall": round(float(kendalltau(found, careful)[0]), 4),
        "factor_on_careful": spread([mine / theirs for mine, theirs in zip(found, careful, strict=True)]),
        "under_load": {
            "trainings": arguments.trainings,
            "factor": spread([slow / quick for slow, quick in zip(milliseconds(loaded), found, strict=True)]),
            "factor_of_median": spread(
                [slow.median / quick.median for slow, quick in zip(loaded, first, strict=True)]
            ),
            "spearman": rank(milliseconds(loaded), found),
            "kendall": round(float(kendalltau(milliseconds(loaded), found)[0]), 4),
            "kendall_of_median": round(float(kendalltau([each.median for each in loaded], found)[0]), 4),
        },
    }, careful


def milliseconds(latencies: Sequence[Latency]) -> list[float]:
    return [latency.milliseconds for latency in latencies]


def largest_difference(ones: Sequence[float], others: Sequence[float]) -> float:
    return max(abs(one - other) / min(one, other) for one, other in zip(ones, others, strict=True))


def rank(ones: Sequence[float], others: Sequence[float]) -> float:
    return round(float(spearmanr(ones, others)[0]), 4)


def spread(factors: Sequence[float]) -> dict[str, float]:
    values = {"mean": statistics.mean(factors), "least": min(factors), "most": max(factors)}
    return {name: round(value, 4) for name, value in values.items()}


def measure_carefully(
    form: str, networks: Sequence[Architecture], *, rounds: int, seconds: float
) -> list[float]:
    """Milliseconds of each network, by code that shares nothing with the package but the networks."""
    runs = [PLAIN[form](build(network)) for network in networks]
    medians: list[list[float]] = [[] for _ in runs]
    with torch.no_grad():
        for _ in range(rounds):
            for run, known in zip(runs, medians, strict=True):
                known.append(burst(run, seconds))
    return [statistics.median(known) * 1e3 for known in medians]


def burst(run: Callable[[], object], seconds: float) -> float:
    """Median seconds of a batch."""
    times = []
    run()
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends or len(times) < 3:
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def build(architecture: Architecture) -> Network:
    torch.manual_seed(1)
    return Network(architecture, classes=CLASSES, mean=[0.5] * 3, std=[0.25] * 3).eval()


def plain_eager(network: nn.Module) -> Callable[[], object]:
    network = network.to(memory_format=torch.channels_last)
    image = torch.rand(1, *SHAPE).to(memory_format=torch.channels_last)
    return lambda: network(image)


def plain_exported(network: nn.Module) -> Callable[[], object]:
    network = network.to(memory_format=torch.channels_last)
    image = torch.rand(1, *SHAPE).to(memory_format=torch.channels_last)
    program = torch.export.export(network, (image,)).module()
    return lambda: program(image)


def plain_onnx(network: nn.Module) -> Callable[[], object]:
    import onnxruntime

    file = io.BytesIO()
    program = torch.onnx.export(
        network, (torch.rand(1, *SHAPE),), dynamo=True, input_names=["image"], verbose=False
    )
    assert program is not None
    program.save(file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).random((1, *SHAPE), dtype=np.float32)
    return lambda: session.run(None, {"image": image})


PLAIN = {"eager": plain_eager, "exported": plain_exported, "onnx": plain_onnx}


@contextmanager
def trainings(architecture: Architecture, count: int) -> Iterator[None]:
    """So many processes train a network meanwhile."""
    context = multiprocessing.get_context("spawn")
    begun = [context.Event() for _ in range(count)]
    processes = [context.Process(target=train, args=(architecture, event), daemon=True) for event in begun]
    for process in processes:
        process.start()
    for event in begun:
        event.wait()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def train(architecture: Architecture, begun: Event) -> None:
    torch.set_num_threads(1)
    network = build(architecture).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    images = torch.rand(64, *SHAPE).to(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (64,))
    while True:
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        begun.set()


if __name__ == "__main__":
    main()
