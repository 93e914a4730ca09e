#!/usr/bin/env python3
"""What each part of the training recipe is worth, and how many epochs it saves.

    python scripts/benchmark_recipe.py --data CIFAR --seeds 3 --part ablation
    python scripts/benchmark_recipe.py --data CIFAR --seeds 3 --part epochs
    python scripts/benchmark_recipe.py --data CIFAR --networks 24 --part rungs

``ablation`` trains one network on so many images with the default recipe, with plain SGD (one-cycle,
crop and flip), and with one change at a time, and prints the validation accuracy: mean and standard
error over seeds. ``epochs`` looks for the shortest schedule whose last validation accuracy is at
least ``--accuracy``, with the default recipe and with plain SGD, on a network of two blocks at each
width. ``rungs`` trains random networks of ``resconv`` twice, which gives the same weights: once with epochs
judged by the mean of the weights over their last steps, once by their last weights; it prints how well each
epoch ranks the networks as the end does (Spearman; bootstrap standard error over networks). The test split
is not read.

The last line is one JSON object of the figures. Reads CIFAR-10 from a folder of
``train/class/*`` and ``test/class/*`` images, or downloads it there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import shared
import torch
from benchmark_fidelities import draw_networks, spearman, with_error
from torch import Tensor, nn

from nas_optuna.estimation import Classifier, Fidelity, Training
from nas_optuna.space import Architecture, Block, Network, Stem

FIRST_EPOCHS, MOST_EPOCHS = 6, 40
PLAIN = {"optimizer": "sgd", "learning_rate": 0.15, "small_share": 0.0, "norm_momentum": 0.1}
# progressive resizing makes a step cheaper: what the time that it saves buys
LONGER = 1.45


class Averaging(pl.Callback):
    """Weights averaged over the last third of the training (Izmailov et al. 2018), norms measured anew.

    Every 32 steps; the mean takes the weights' place where the last epoch is judged.
    """

    def __init__(self) -> None:
        self.mean: list[Tensor] = []
        self.count = 0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        judging = pl_module._judging

        def judge_mean(epoch: int) -> Any:
            if epoch == trainer.max_epochs:
                self._replace_weights(trainer, pl_module)
            return judging(epoch)

        pl_module._judging = judge_mean

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *rest: Any) -> None:
        if pl_module.progress < 0.7:
            return
        self.count += 1
        weights = [weight.detach() for weight in pl_module.network.parameters()]
        self.mean = self.mean or [weight.clone() for weight in weights]
        for mean, weight in zip(self.mean, weights, strict=True):
            mean.lerp_(weight, 1 / self.count)

    def _replace_weights(self, trainer: Any, module: Any) -> None:
        if not self.mean:  # a training of a few steps
            return
        with torch.inference_mode(False), torch.no_grad():
            for mean, weight in zip(self.mean, module.network.parameters(), strict=True):
                weight.copy_(mean)
            module.network.train()
            for inputs, _ in itertools.islice(trainer.datamodule.training, 50):
                module(inputs)
            module.network.eval()


class AlternatingFlip:
    """Each image flipped in every other pass, which of them drawn once (Jordan 2024)."""

    def __init__(self, augmentation: Callable[[Tensor, torch.Generator], Tensor], images: int) -> None:
        self.augmentation = augmentation
        self.images = images
        self.seen = 0

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        # the sum of its pixels decides for each image, the pass turns all of them over
        parity = inputs.flatten(1).sum(dim=1).remainder(2).bool()
        inputs = self.augmentation(inputs, generator)
        turned = parity ^ bool(self.seen // self.images % 2)
        self.seen += len(inputs)
        return torch.where(turned[:, None, None, None], inputs.flip(3), inputs)


class ZeroInitialized(Training):
    """The last norm of each residual branch starts at zero (Goyal et al. 2017)."""

    def build(self, *args: Any, **options: Any) -> Network:
        network = super().build(*args, **options)
        for module in network.modules():
            if type(module).__name__ == "Residual":
                norms = [part for part in module.layer.modules() if isinstance(part, nn.BatchNorm2d)]
                nn.init.zeros_(norms[-1].weight)
        return network


VARIANTS: dict[str, dict[str, Any]] = {
    "plain SGD": PLAIN,
    "plain SGD, learning rate doubled": {**PLAIN, "learning_rate": 0.3},
    "Muon, full size throughout": {"small_share": 0.0},
    "default: Muon, smaller images first": {},
    "default for the same time": {"images": LONGER},
    "default with 0.8 of it on smaller images": {"small_share": 0.8},
    "default with 0.8 of it on smaller images for the same time": {"small_share": 0.8, "images": 1.31},
    "default with norm statistics of momentum 0.1": {"norm_momentum": 0.1},
    "default with label smoothing 0.1": {"label_smoothing": 0.1},
    "default with averaged weights": {"callbacks": Averaging},
    "default with alternating flips": {"alternating": True},
    "default with branches that start at zero": {"training": ZeroInitialized},
    "default with batches of 128, rates up by 1.4": {
        "batch_size": 128,
        "learning_rate": 0.42,
        "muon_learning_rate": 0.34,
    },
}


def fixed_network(depth: int) -> Architecture:
    """Stem, then so many residual blocks of a 3 x 3 convolution at each of the widths 24, 48 and 96."""
    blocks = [
        Block("conv", width, stride if index == 0 else 1, residual=True, choices={"kernel": 3})
        for width, stride in ((24, 1), (48, 2), (96, 2))
        for index in range(depth)
    ]
    return Architecture(Stem(16), tuple(blocks))


def train(arguments: argparse.Namespace, depth: int, name: str, images: float, seed: int) -> dict[str, Any]:
    """One training; returns its last validation accuracy and seconds."""
    torch.set_num_threads(1)
    change = dict(VARIANTS[name])
    images *= change.pop("images", 1.0)
    alternating = change.pop("alternating", False)
    callbacks = [callback()] if (callback := change.pop("callbacks", None)) else []
    kind = change.pop("training", Training)
    data = shared.load_cifar(arguments.data, arguments.cache, flip=0.0 if alternating else 0.5)
    count = len(data.split("train"))
    if alternating:
        data.augmentation = AlternatingFlip(data.augmentation, count)
    training = shared.make_training(kind, execution=arguments.execution, **change)
    epochs = max(1, round(images / count))
    fidelity = Fidelity(epochs, data_share=min(1.0, images / count / epochs), validation_images=500)
    started = time.perf_counter()
    module: Classifier = training.fit(
        fixed_network(depth), data, fidelity=fidelity, seed=seed, callbacks=callbacks
    )
    return {"accuracy": module.curve[-1], "seconds": time.perf_counter() - started}


def ablate(pool: ProcessPoolExecutor, arguments: argparse.Namespace) -> dict[str, Any]:
    """Every variant with every seed."""
    chosen = arguments.variants.split(";") if arguments.variants else list(VARIANTS)
    jobs = {
        (name, seed): pool.submit(train, arguments, 1, name, arguments.images, seed)
        for seed in range(arguments.seeds)
        for name in chosen
    }
    figures = {}
    print(f"{'variant':<58} {'accuracy':>9} {'s.e.':>7} {'seconds':>8}")
    for name in chosen:
        results = [jobs[name, seed].result() for seed in range(arguments.seeds)]
        mean, error = shared.spread([result["accuracy"] for result in results])
        seconds = statistics.median(result["seconds"] for result in results)
        figures[name] = {"accuracy": mean, "standard_error": error, "seconds": round(seconds, 1)}
        print(f"{name:<58} {mean:9.4f} {error:7.4f} {seconds:8.1f}", flush=True)
    return figures


def count_epochs(pool: ProcessPoolExecutor, arguments: argparse.Namespace) -> dict[str, Any]:
    """The shortest schedule that reaches the accuracy, for both recipes and each seed."""
    names = ("plain SGD", "default: Muon, smaller images first")
    futures = {
        (name, seed): pool.submit(shortest, arguments, name, seed)
        for seed in range(arguments.seeds)
        for name in names
    }
    figures: dict[str, Any] = {}
    for name in names:
        found = [futures[name, seed].result() for seed in range(arguments.seeds)]
        figures[name] = {"epochs": [result["epochs"] for result in found], "runs": found}
        print(f"{name:<40} epochs to {arguments.accuracy:.0%}: {figures[name]['epochs']}", flush=True)
    return figures


def shortest(arguments: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """The number of epochs that is enough where one less is not; longer is taken to be better."""
    images = len(shared.load_cifar(arguments.data, arguments.cache).split("train"))
    too_few, enough, epochs, tried = 0, MOST_EPOCHS, FIRST_EPOCHS, {}
    while enough - too_few > 1:
        result = train(arguments, 2, name, epochs * images, seed)
        tried[epochs] = {key: round(value, 4) for key, value in result.items()}
        print(f"  {name}, seed {seed}, {epochs} epochs: {result['accuracy']:.4f}", flush=True)
        if result["accuracy"] >= arguments.accuracy:
            enough = epochs
        else:
            too_few = epochs
        # four times as long halves the errors, roughly
        guess = math.ceil(epochs * ((1 - result["accuracy"]) / (1 - arguments.accuracy)) ** 2)
        epochs = min(max(guess, too_few + 1), enough - 1)
    return {"epochs": enough, "tried": tried}


def compare_rungs(pool: ProcessPoolExecutor, arguments: argparse.Namespace) -> dict[str, Any]:
    """Rank correlation of each epoch with the last one, judged both ways."""
    changes = {"last weights": {"averaged_share": 0.0}, "mean of the weights": {}}
    futures = {
        (name, index): pool.submit(learning_curve, arguments, index, change)
        for index in range(arguments.networks)
        for name, change in changes.items()
    }
    curves = {
        name: np.array([futures[name, index].result() for index in range(arguments.networks)])
        for name in changes
    }
    figures: dict[str, Any] = {}
    for name, values in curves.items():
        *epochs, end = values.T
        ranks = [with_error(spearman, epoch, end) for epoch in epochs]
        figures[name] = {
            "spearman": ranks,
            "median_accuracy": np.median(values, axis=0).round(4).tolist(),
        }
        print(f"{name:<20} " + "  ".join(f"{rank:.2f} ({error:.2f})" for rank, error in ranks), flush=True)
    return figures | {"last_deviation": round(float(curves["last weights"][:, -1].std()), 4)}


def learning_curve(arguments: argparse.Namespace, index: int, change: dict[str, Any]) -> list[float]:
    """Of one network, from the same seed each time."""
    torch.set_num_threads(1)
    data = shared.load_cifar(arguments.data, arguments.cache)
    network = draw_networks(shared.space("resconv"), index + 1)[index]
    training = shared.make_training(execution=arguments.execution, **change)
    fidelity = Fidelity(arguments.epochs, arguments.data_share, validation_images=1000)
    curve = training.fit(network, data, fidelity=fidelity, seed=0).curve
    return curve + [0.0] * (arguments.epochs - len(curve))  # of one that diverged


@contextmanager
def workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """Processes of one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        yield pool


PARTS = {"ablation": ablate, "epochs": count_epochs, "rungs": compare_rungs}


def main() -> None:
    """Read the command line, run one part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder of CIFAR-10")
    parser.add_argument("--part", choices=tuple(PARTS), required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=180_000, help="that a training of the ablation sees")
    parser.add_argument("--variants", help="some of them only, separated by semicolons")
    parser.add_argument("--accuracy", type=float, default=0.8, help="that the schedule shall reach")
    parser.add_argument("--networks", type=int, default=24, help="of rungs")
    parser.add_argument("--epochs", type=int, default=12, help="of a training of rungs")
    parser.add_argument("--data-share", type=float, default=0.04, help="of the images in an epoch of rungs")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--execution", default="32-true", help="precision of all trainings")
    parser.add_argument("--cache", type=Path, default=shared.CACHE)
    arguments = parser.parse_args()
    shared.load_cifar(arguments.data, arguments.cache)
    with workers(arguments.processes) as pool:
        figures = PARTS[arguments.part](pool, arguments)
    print(
        json.dumps(
            {
                arguments.part: figures,
                "seeds": arguments.seeds,
                **shared.machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
