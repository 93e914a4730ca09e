#!/usr/bin/env python3
"""Small networks that learn from a large one, beside the same networks that learn from labels alone.

    python scripts/benchmark_distillation.py --data CIFAR --seeds 3

On CIFAR-10 images: a teacher is trained once on the training images, with labels. Students of different
size are trained for every seed with labels alone (``estimation.loss=cross_entropy``), with the teacher's
probabilities alone (``kl``) or with both (``distillation``), by the command's recipe otherwise. Reported:
validation accuracy, mean and standard error over the seeds. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import shared

from nas_optuna.estimation import Fidelity
from nas_optuna.space import Architecture, Block, Stem, measure_costs

LOSSES = ("cross_entropy", "kl", "distillation")


def network(*widths: int, layer: str) -> Architecture:
    """Residual 3 x 3 blocks, the size halved at each width but the first."""
    blocks = [Block(layer, width, 2 if index else 1, residual=True) for index, width in enumerate(widths)]
    return Architecture(Stem(16), tuple(blocks))


TEACHER = network(32, 64, 128, layer="conv")
STUDENTS = {
    "dwsep 16-32-64": network(16, 32, 64, layer="dwsep"),
    "conv 12-24-48": network(12, 24, 48, layer="conv"),
    "conv 16-32-64": network(16, 32, 64, layer="conv"),
}


def main() -> None:
    """Read the command line, train, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder of CIFAR-10 images")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8, help="of a student")
    parser.add_argument("--teacher-epochs", type=int, default=8)
    parser.add_argument("--data-share", type=float, default=1.0, help="of the images in an epoch")
    parser.add_argument("--teacher-share", type=float, default=1.0, help="of the images in an epoch")
    parser.add_argument("--losses", type=lambda text: text.split(","), default=list(LOSSES))
    parser.add_argument("--cache", type=Path, default=shared.CACHE, help="folder of decoded images")
    arguments = parser.parse_args()
    data = shared.load_cifar(arguments.data, arguments.cache)
    told = Fidelity(arguments.teacher_epochs, arguments.teacher_share)
    module = shared.make_training().fit(TEACHER, data, fidelity=told, seed=0)
    costs = measure_costs(TEACHER, input_shape=data.input_shape, classes=len(data.classes))
    print(f"teacher {TEACHER}: {costs.params:,} parameters, accuracy {module.curve[-1]:.4f}", flush=True)
    teacher = module.network.cpu().eval()
    length = Fidelity(arguments.epochs, arguments.data_share)
    figures: dict[str, Any] = {"teacher": {"accuracy": module.curve[-1], "params": costs.params}}
    for name, student in STUDENTS.items():
        params = measure_costs(student, input_shape=data.input_shape, classes=len(data.classes)).params
        figures[name] = {"params": params}
        for loss in arguments.losses:
            training = shared.make_training(loss=loss, teacher=None if loss == "cross_entropy" else teacher)
            accuracies = [
                training.fit(student, data, fidelity=length, seed=seed).curve[-1]
                for seed in range(arguments.seeds)
            ]
            figures[name][loss] = list(shared.spread(accuracies))
            mean, error = figures[name][loss]
            print(f"{name:16} {params:8,} parameters  {loss:14} {mean:.4f} ({error:.4f})", flush=True)
    names = ("epochs", "data_share", "teacher_epochs", "teacher_share", "seeds")
    print(json.dumps({**figures, **{name: getattr(arguments, name) for name in names}, **shared.machine()}))


if __name__ == "__main__":
    main()
