"""What the benchmarks have in common: the command's own configuration, CIFAR-10 and the machine."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from omegaconf import DictConfig

from nas_optuna import comparison
from nas_optuna.configuration import build_space, plain
from nas_optuna.cores import count_cores, processor
from nas_optuna.data import TorchvisionData
from nas_optuna.estimation import Training
from nas_optuna.space import Space

CACHE = Path("~/.cache/nas_optuna").expanduser()


def configuration(experiment: str) -> DictConfig:
    """What `python -m nas_optuna +experiment=...` has."""
    with initialize_config_module("nas_optuna.conf", version_base="1.3"):
        return compose("config", overrides=[f"+experiment={experiment}", "study_name=benchmark"])


def strategy(name: str) -> DictConfig:
    """What `strategy=...` chooses."""
    with initialize_config_module("nas_optuna.conf", version_base="1.3"):
        return compose("config", overrides=[f"strategy={name}", "study_name=benchmark"]).strategy


def space(name: str) -> Space:
    """What `space=...` chooses."""
    with initialize_config_module("nas_optuna.conf", version_base="1.3"):
        return build_space(compose("config", overrides=[f"space={name}", "study_name=benchmark"]))


def make_training(kind: type[Training] = Training, **changes: Any) -> Training:
    """The command's training on the CPU, with its pruner, which stops no first trial, and some changes."""
    config = configuration("cifar")
    config.estimation.epochs = 20
    settings = plain(config, "estimation") | {"device": "cpu", **changes}
    settings["pruner"] = instantiate(settings["pruner"])
    del settings["_target_"]
    return kind(**settings)


def load_cifar(root: str, cache_dir: Path, *, flip: float = 0.5) -> TorchvisionData:
    """CIFAR-10 with the experiment's augmentation, decoded once for all processes."""
    data = TorchvisionData(
        name="CIFAR10", root=root, image_size=32, channels=3, augmentation={"crop": 3, "flip": flip}
    )
    data.cache_dir = cache_dir
    data.prepare()
    data.share()
    return data


def hypervolume(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
    """Area between accuracies (more is better), costs (less is better) and the reference."""
    losses = [(-accuracy, cost) for accuracy, cost in points]
    return comparison.hypervolume(losses, (-reference[0], reference[1]))


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error, to four digits."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return round(float(statistics.mean(values)), 4), round(float(error), 4)


@contextmanager
def axes_of(path: Path, *, size: tuple[float, float]) -> Iterator[Any]:
    """Axes to draw on, written to a png at the end; needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=size)
    yield axes
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def draw_panels(
    path: Path, figures: Mapping[str, Mapping[str, Mapping[int, Any]]], *, x: str, y: str, log: str
) -> None:
    """Lines with their standard errors, a panel for each entry, written to a png; needs matplotlib.

    Args:
        path: The png.
        figures: By panel and line: means and standard errors by x.
        x, y: What the axes show.
        log: The axes that are logarithmic, such as ``y``.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    canvas, panels = pyplot.subplots(1, len(figures), figsize=(5.2 * len(figures), 4), squeeze=False)
    for panel, (title, named) in zip(panels[0], figures.items(), strict=True):
        for index, (name, spreads) in enumerate(named.items()):
            means, errors = np.array(list(spreads.values())).T
            panel.plot(list(spreads), means, label=name, color=f"C{index}")
            panel.fill_between(list(spreads), means - errors, means + errors, color=f"C{index}", alpha=0.2)
        panel.set(title=title, xlabel=x, **{f"{axis}scale": "log" for axis in log})
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel(y)
    lines, labels = panels[0][0].get_legend_handles_labels()
    canvas.legend(lines, labels, loc="lower center", ncol=len(labels), frameon=False)
    canvas.tight_layout(rect=(0, 0.06, 1, 1))
    canvas.savefig(path, dpi=110)


def machine() -> dict[str, Any]:
    """Hardware and versions, as every last line names them."""
    return {
        "hardware": f"{processor()}, {count_cores()} cores",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "optuna": optuna.__version__,
        },
    }
