"""How fast a machine trains a network: a few steps on the real way, timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from nas_optuna.data import Batch, LabelledData, TrainingLoader
from nas_optuna.estimation.execution import synchronize
from nas_optuna.estimation.module import Classifier
from nas_optuna.estimation.scale import FULL, Scale
from nas_optuna.estimation.training import Fidelity, Training
from nas_optuna.space import Architecture

TIMED_STEPS = 4
LONG_STEPS = 100_000  # of a training that is only imagined


@dataclass(frozen=True)
class Speed:
    """Seconds that one image takes, in a training step and in a validation batch."""

    training: float
    validation: float


def time_steps(
    training: Training, architecture: Architecture, data: LabelledData, scale: Scale = FULL
) -> Speed:
    """Train a few steps at a scale, for their time alone. Takes about a second."""
    architecture, device = scale.network(architecture), training.torch_device
    execution = training.uncompiled_execution(architecture, data, scale)
    feed = training.feed(data, Fidelity(1), seed=0)
    module = Classifier(
        training.build(architecture, data, seed=0),
        replace(training.recipe, resolution=scale.resolution),
        steps=LONG_STEPS,
        execution=execution,
    ).to(device)
    batches = _endless(feed.training)
    judged = next(iter(feed.judging("validation")))
    with execution.limited_threads():
        descend = module.descent()
        small = [_seconds(device, lambda: descend(next(batches))) for _ in range(TIMED_STEPS)]
        module.skip_to_end()
        full = [_seconds(device, lambda: descend(next(batches))) for _ in range(TIMED_STEPS)]
        module.eval()
        with torch.inference_mode():
            validation = [_seconds(device, lambda: module.infer(judged[0])) for _ in range(3)]
    return Speed(
        training=_mean(small, full, share=training.recipe.small_share) / feed.training.batch_size,
        validation=min(validation) / len(judged[1]),
    )


def _seconds(device: torch.device, work: Callable[[], object]) -> float:
    synchronize(device)
    started = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - started


def _mean(small: Sequence[float], full: Sequence[float], *, share: float) -> float:
    """Seconds of a typical step; the first of each kind warms up."""
    return share * statistics.median(small[1:]) + (1 - share) * statistics.median(full[1:])


def _endless(batches: TrainingLoader) -> Iterator[Batch]:
    while True:
        yield from batches
