#!/usr/bin/env python3
"""How well, and for what price, a cheaper look at a network foretells its accuracy: on your own images.

    OMP_NUM_THREADS=1 python scripts/benchmark_fidelities.py --data FOLDER --networks 24 --keep kept.jsonl

Random networks of a space are trained in full, with several seeds, and at each lower fidelity: a shorter
schedule, a smaller share of the images in an epoch, smaller images, narrower networks; zero-cost proxies
look at them untrained. Reported for each: Spearman's and Kendall's rank correlation with a full training
of another seed (mean over these; bootstrap standard error over networks), the same within the half that
is best there, and its price: seconds of the processor as a share of the full training's, in the same run.
`full` is the noise ceiling: one seed against another. Rungs are epochs of the full training, which stopped
there. For proxies also what they add to MACs and parameters, and to these with depth, residual connections
and layers counted: partial rank correlation, and how much of the squared leave-one-out error of a linear
regression on ranks goes when they join; and what a gate by them gains in accuracy, the largest or the least
of four networks against any of these, which for `full` is a gate by another seed. The last line is one JSON
object. With --keep, a run that was killed goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import shared
import torch
from scipy.stats import rankdata

from nas_optuna.data import ImageFolder, LabelledData
from nas_optuna.estimation import EpochCallback, Fidelity, Scale
from nas_optuna.estimation.proxies import PROXIES, measure_proxies
from nas_optuna.space import Architecture, measure_costs

BOOTSTRAPS = 500
CANDIDATES = 4  # of a gate
ROUNDING = 1e-12  # an error of ranks that is none
PROXY_IMAGES = 64
LOW_SEED = 1000  # of the low fidelities: none of the full trainings'
COSTS = ("macs", "params")

Array = np.ndarray[Any, np.dtype[np.float64]]
Record = dict[str, Any]


def fidelities(epochs: int, share: float, judged: int) -> dict[str, tuple[Fidelity, Scale]]:
    """The cheaper trainings by their names."""
    full = Fidelity(epochs, share, judged)
    shorter = {part: Fidelity(max(1, round(epochs * part)), share, judged) for part in (0.25, 0.5)}
    fewer = {part: Fidelity(epochs, share * part, judged) for part in (0.25, 0.5)}
    return {
        **{f"epochs {part:g}": (fidelity, Scale()) for part, fidelity in shorter.items()},
        **{f"data_share {part:g}": (fidelity, Scale()) for part, fidelity in fewer.items()},
        **{f"resolution {part:g}": (full, Scale(resolution=part)) for part in (0.5, 0.75)},
        **{f"width {part:g}": (full, Scale(width=part)) for part in (0.25, 0.5)},
    }


def draw_networks(space: Callable[[Any], Architecture], count: int) -> list[Architecture]:
    """Distinct random networks, the same ones for every run."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found: dict[str, Architecture] = {}
    for _ in range(100 * count):
        network = space(study.ask()).canonical()
        found.setdefault(network.hash, network)
        if len(found) == count:
            break
    return list(found.values())


class Keep:
    """Results so far, a JSON line for each; the first line says with what settings."""

    def __init__(self, path: Path | None, settings: Record) -> None:
        self._path = path
        self.records: dict[tuple[str, str], Record] = {}
        lines = path.read_text().splitlines() if path and path.is_file() else []
        for line in lines[1:]:
            record = json.loads(line)
            self.records[record["network"], record["what"]] = record
        if lines and json.loads(lines[0]) != settings:
            raise SystemExit(f"--keep: {path} was made with {lines[0]}. Give another file.")
        if path and not lines:
            path.write_text(json.dumps(settings) + "\n")

    def get(self, network: str, what: str, measure: Callable[[], Record]) -> Record:
        """A result that is known, or measured now."""
        if (network, what) not in self.records:
            record = {"network": network, "what": what, **measure()}
            self.records[network, what] = record
            if self._path:
                with self._path.open("a") as file:
                    file.write(json.dumps(record) + "\n")
        return self.records[network, what]


class Bench:
    """Trains and measures networks on one set of images."""

    def __init__(self, data: LabelledData, arguments: argparse.Namespace) -> None:
        self._data = data
        self._training = shared.make_training(
            execution=arguments.execution, averaged_share=arguments.averaged_share
        )
        self._full = Fidelity(arguments.epochs, arguments.data_share, arguments.validation_images)
        self._low = fidelities(arguments.epochs, arguments.data_share, arguments.validation_images)
        self._seeds = arguments.seeds
        split = data.split("train")
        chosen = torch.arange(PROXY_IMAGES) * len(split) // PROXY_IMAGES
        self._images, self._labels = split.inputs[chosen].float() / 255, split.labels[chosen]

    def jobs(self, network: Architecture) -> dict[str, Callable[[], Record]]:
        """All that is measured of a network: the full training, the cheaper ones, the proxies."""
        jobs = {
            f"full {seed}": lambda seed=seed: self._train(network, self._full, Scale(), seed)
            for seed in range(self._seeds)
        }
        jobs |= {
            name: lambda low=low: self._train(network, *low, LOW_SEED) for name, low in self._low.items()
        }
        return jobs | {name: lambda name=name: self._look(network, name) for name in PROXIES}

    def _train(self, network: Architecture, fidelity: Fidelity, scale: Scale, seed: int) -> Record:
        ends: list[float] = []
        started = time.process_time()
        module = self._training.fit(
            network,
            self._data,
            fidelity=fidelity,
            seed=seed,
            scale=scale,
            callbacks=[EpochCallback(lambda *_: ends.append(time.process_time() - started))],
        )
        seconds = time.process_time() - started
        return {"values": [0.0] if module.diverged else module.curve, "seconds": seconds, "ends": ends}

    def _look(self, network: Architecture, name: str) -> Record:
        started = time.process_time()
        found = measure_proxies(network, images=self._images, labels=self._labels, seed=0, names=[name])
        return {"values": [found[name]], "seconds": time.process_time() - started}


def spearman(first: Array, second: Array) -> float:
    """Pearson's correlation of the ranks; 0 where one of them ranks nothing."""
    return _correlation(rankdata(first), rankdata(second))


def kendall(first: Array, second: Array) -> float:
    """Tau-b; 0 where one of them ranks nothing."""
    signs = [np.sign(values[:, None] - values).ravel() for values in (first, second)]
    norm = np.linalg.norm(signs[0]) * np.linalg.norm(signs[1])
    return float(signs[0] @ signs[1] / norm) if norm > 0 else 0.0


def _correlation(first: Array, second: Array) -> float:
    if first.std() < 1e-9 or second.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _residuals(values: Array, controls: Sequence[Array]) -> Array:
    columns = np.stack([np.ones(len(values)), *map(rankdata, controls)], axis=1)
    ranks = rankdata(values)
    return np.asarray(ranks - columns @ np.linalg.lstsq(columns, ranks, rcond=None)[0])


def partial(values: Array, truth: Array, controls: Sequence[Array]) -> float:
    """Correlation of the ranks, given the ranks of others."""
    return _correlation(_residuals(values, controls), _residuals(truth, controls))


def left_out_error(features: Sequence[Array], truth: Array) -> float:
    """Squared leave-one-out error of a linear regression on ranks."""
    columns = np.stack([np.ones(len(truth)), *map(rankdata, features)], axis=1)
    hat = columns @ np.linalg.pinv(columns)
    ranks = rankdata(truth)
    errors = (ranks - hat @ ranks) / np.maximum(1e-9, 1 - np.diag(hat))
    return float((errors**2).mean())


def with_error(statistic: Callable[..., float], *columns: Array) -> list[float]:
    """A statistic of networks, and its bootstrap standard error."""
    random = np.random.default_rng(0)
    count = len(columns[0])
    drawn = [random.integers(count, size=count) for _ in range(BOOTSTRAPS)]
    values = [statistic(*(column[chosen] for column in columns)) for chosen in drawn]
    return [round(statistic(*columns), 3), round(float(np.std(values)), 3)]


def _mean(statistic: Callable[[Array, Array], float], pairs: int) -> Callable[..., float]:
    """A statistic over several pairs of columns: all first ones, then all second ones."""
    return lambda *columns: statistics.mean(
        statistic(columns[index], columns[pairs + index]) for index in range(pairs)
    )


def _in_best_half(statistic: Callable[[Array, Array], float]) -> Callable[[Array, Array], float]:
    def within(values: Array, truth: Array) -> float:
        best = np.argsort(-truth, kind="stable")[: max(2, len(truth) // 2)]
        return statistic(values[best], truth[best])

    return within


def correlate(pairs: Sequence[tuple[Array, Array]]) -> Record:
    """Rank correlations of what was seen with the truth, mean over pairs of both."""
    columns = [values for values, _ in pairs] + [truth for _, truth in pairs]
    measures = {"spearman": spearman, "kendall": kendall}
    halves = {f"{name}_best_half": _in_best_half(measure) for name, measure in measures.items()}
    return {
        name: with_error(_mean(measure, len(pairs)), *columns)
        for name, measure in (measures | halves).items()
    }


def count_parts(networks: Sequence[Architecture]) -> list[Array]:
    """Of each network its blocks, the residual ones, and those of each layer but the first."""
    layers = sorted({block.layer for network in networks for block in network.blocks})
    counts: list[Callable[[Architecture], int]] = [
        lambda network: len(network.blocks),
        lambda network: sum(block.residual for block in network.blocks),
        *(
            lambda network, layer=layer: sum(block.layer == layer for block in network.blocks)
            for layer in layers[1:]
        ),
    ]
    return [np.array([float(count(network)) for network in networks]) for count in counts]


def add_to(values: Array, truth: Array, controls: Sequence[Array]) -> tuple[list[float], float]:
    """Partial rank correlation given the controls, and the part of their error that goes."""
    without, together = (left_out_error(known, truth) for known in (controls, [*controls, values]))
    found = with_error(
        lambda values, truth, *controls: partial(values, truth, controls), values, truth, *controls
    )
    return found, round(1 - together / without, 3) if without > ROUNDING else 0.0


def best_of(values: Array, truth: Array) -> float:
    """What a gate gains: the truth of the largest value among four networks, above the mean of all.

    The mean over all ways to draw the four.
    """
    count, candidates = len(values), min(CANDIDATES, len(values))
    # the network that has so many below it is the largest where the other candidates are among those
    chances = np.array([math.comb(below, candidates - 1) for below in range(count)], dtype=float)
    order = np.argsort(values, kind="stable")
    return float(chances @ truth[order] / math.comb(count, candidates) - truth.mean())


def analyse(
    architectures: Sequence[Architecture],
    records: dict[tuple[str, str], Record],
    arguments: argparse.Namespace,
) -> dict[str, Record]:
    """Correlations and price of everything that was measured of all networks."""
    networks = [architecture.hash for architecture in architectures]

    def column(what: str, read: Callable[[Record], float]) -> Array:
        return np.array([read(records[network, what]) for network in networks])

    def last(what: str) -> Array:
        return column(what, lambda record: record["values"][-1])

    def price(what: str, read: Callable[[Record], float]) -> float:
        # a training of this seed stands for all: what is compared ran beside one another
        whole = [column(name, lambda record: record["seconds"]).sum() for name in fulls]
        return float(column(what, read).sum() / np.mean(whole))

    fulls = [f"full {seed}" for seed in range(arguments.seeds)]
    truths = {name: last(name) for name in fulls}
    # the same seed would share its luck
    others = [(first, second) for first in fulls for second in fulls if first != second]
    figures: dict[str, Record] = {}
    if others:
        pairs = [(truths[first], truths[second]) for first, second in others]
        columns = [values for values, _ in pairs] + [truth for _, truth in pairs]
        gate = with_error(_mean(best_of, len(pairs)), *columns)
        figures["full"] = {"price": 1.0, **correlate(pairs), "gate": gate}
    for epoch in sorted({max(1, arguments.epochs // part) for part in (8, 4, 2)} - {arguments.epochs}):
        at = {name: column(name, lambda record, epoch=epoch: _at(record["values"], epoch)) for name in fulls}
        pairs = [(at[first], truths[second]) for first, second in others or [(fulls[0], fulls[0])]]
        seconds = price(fulls[0], lambda record, epoch=epoch: _at(record["ends"], epoch))
        figures[f"rung {epoch / arguments.epochs:g}"] = {"price": seconds, **correlate(pairs)}
    for name in [*fidelities(1, 1.0, 1), *PROXIES]:
        pairs = [(last(name), truth) for truth in truths.values()]
        figures[name] = {
            "price": price(name, lambda record: record["seconds"]),
            **correlate(pairs),
        }
    costs = [last(name) for name in COSTS]
    truth = np.mean(list(truths.values()), axis=0)
    known = {"costs": costs, "parts": [*costs, *count_parts(architectures)]}
    for name in PROXIES:
        figures[name]["gate"] = with_error(best_of, last(name), truth)
        figures[name]["gate_least"] = with_error(best_of, -last(name), truth)
        if name not in COSTS:
            for given, controls in known.items():
                found, gain = add_to(last(name), truth, controls)
                figures[name] |= {f"partial_{given}": found, f"gain_{given}": gain}
    return figures


def _at(values: Sequence[float], epoch: int) -> float:
    """What a curve held at an epoch; its last value where it ended before."""
    return values[min(epoch, len(values)) - 1]


def show(figures: dict[str, Record]) -> None:
    """A line for each fidelity, then what proxies add."""
    names = ["spearman", "kendall", "spearman_best_half", "kendall_best_half"]
    print(f"{'fidelity':16} {'price':>7}" + "".join(f"{name:>20}" for name in names))
    for fidelity, row in figures.items():
        print(f"{fidelity:16} {row['price']:7.4f}" + "".join(f"{_cell(row[name]):>20}" for name in names))
    _show_some(figures, ["partial_costs", "gain_costs", "partial_parts", "gain_parts"])
    _show_some(figures, ["gate", "gate_least"], digits=3)


def _show_some(figures: dict[str, Record], names: Sequence[str], *, digits: int = 2) -> None:
    print(f"{'proxy':24}" + "".join(f"{name:>20}" for name in names))
    for fidelity, row in figures.items():
        if names[0] in row:
            cells = [_cell(row[name], digits) if name in row else "" for name in names]
            print(f"{fidelity:24}" + "".join(f"{cell:>20}" for cell in cells))


def _cell(figure: float | Sequence[float], digits: int = 2) -> str:
    if isinstance(figure, float):
        return f"{figure:.{digits}f}"
    return f"{figure[0]:.{digits}f} ({figure[1]:.{digits}f})"


def draw(figures: dict[str, Record], path: Path) -> None:
    """Spearman's correlation over the price."""
    with shared.axes_of(path, size=(8, 5)) as axes:
        for index, kind in enumerate(("rung", "epochs", "data_share", "resolution", "width")):
            rows = [row for name, row in figures.items() if name.split()[0] == kind]
            _points(axes, rows, label=kind, color=f"C{index}", marker="o-")
        for index, name in enumerate(PROXIES, start=5):
            _points(axes, [figures[name]], label=name, color=f"C{index}", marker="s")
        if "full" in figures:
            height = figures["full"]["spearman"][0]
            axes.axhline(height, color="grey", linestyle=":", label="full, another seed")
        axes.set(xlabel="seconds, as a share of the full training", ylabel="Spearman's rank correlation")
        axes.set_xscale("log")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, ncol=2)


def _points(axes: Any, rows: Sequence[Record], *, label: str, color: str, marker: str) -> None:
    heights, errors = np.array([row["spearman"] for row in rows]).T
    prices = [row["price"] for row in rows]
    axes.errorbar(prices, heights, errors, fmt=marker, label=label, color=color, capsize=2)


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder of images: class/* or train/class/*")
    parser.add_argument("--networks", type=int, default=24)
    parser.add_argument("--space", default="resconv", help="as on the command line")
    parser.add_argument("--seeds", type=int, default=2, help="full trainings of a network")
    parser.add_argument("--epochs", type=int, default=8, help="of the full training")
    parser.add_argument("--data-share", type=float, default=1.0, help="of the images in an epoch of it")
    parser.add_argument("--validation-images", type=int, default=1000, help="that judge all but the last")
    parser.add_argument("--validation-share", type=float, default=0.1, help="of the training images")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--execution", default="32-true", help="precision of all trainings")
    parser.add_argument(
        "--averaged-share", type=float, default=0.1, help="estimation.averaged_share: what judges a rung"
    )
    parser.add_argument("--keep", type=Path, help="file of the results so far")
    parser.add_argument("--plot", type=Path, help="a png to draw; needs matplotlib")
    parser.add_argument("--cache", type=Path, default=shared.CACHE, help="folder of decoded images")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    data = ImageFolder(
        root=arguments.data,
        image_size=arguments.image_size,
        channels=arguments.channels,
        augmentation={"crop": 3, "flip": 0.5},
        validation_share=arguments.validation_share,
    )
    data.cache_dir = arguments.cache
    data.prepare()
    unfixed = ("networks", "seeds", "keep", "plot", "cache", "data")
    settings = {name: value for name, value in vars(arguments).items() if name not in unfixed}
    keep = Keep(arguments.keep, settings | {"images": data.fingerprint})
    bench = Bench(data, arguments)
    networks = draw_networks(shared.space(arguments.space), arguments.networks)
    started = time.perf_counter()
    for number, network in enumerate(networks, start=1):
        found = {what: keep.get(network.hash, what, job) for what, job in bench.jobs(network).items()}
        left = (time.perf_counter() - started) / number * (len(networks) - number)
        accuracies = " ".join(f"{found[f'full {seed}']['values'][-1]:.4f}" for seed in range(arguments.seeds))
        macs = measure_costs(network, input_shape=data.input_shape, classes=len(data.classes)).macs
        print(
            f"{number:3} {network}: {macs:,} MACs, accuracy {accuracies}; {left / 60:.0f} min to go",
            flush=True,
        )
    figures = analyse(networks, keep.records, arguments)
    show(figures)
    if arguments.plot:
        draw(figures, arguments.plot)
    seconds = sum(record["seconds"] for record in keep.records.values())
    closing = {"networks": len(networks), "seeds": arguments.seeds, "seconds": round(seconds), **settings}
    print(json.dumps({"figures": figures, **closing, **shared.machine()}))


if __name__ == "__main__":
    main()
