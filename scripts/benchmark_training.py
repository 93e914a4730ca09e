#!/usr/bin/env python3
"""Images a second through our trial path, beside a bare PyTorch loop and a hand-written objective.

    python scripts/benchmark_training.py --data CIFAR [--repeats 5]

Each comparison alternates the two sides in one run, on the same networks, images and number of
processes. Each time of ours is set against the mean of theirs just before and just after it, since a machine
shared with others drifts. Reported is the median over `--repeats` of ours over theirs:

- `bare_cifar`, `bare_digits`: one process of all threads; a whole trial of ours from ask to tell, with its
  validations and everything it writes to the study, against a loop of plain PyTorch that only trains
  and validates: tensors in memory, crop and flip by batch, a fused optimiser, the best of both precisions
  and memory formats. The network is the one with the median MACs among 101 random ones of the
  experiment's space. Both train with SGD on full-size images, so that images are equal work.
- `handwritten_conv`, `handwritten_dwsep`: a standard-convolution and a depthwise-separable network; ours
  with its own recipe as a user gets it, against `handwritten.py`.
- `throughput_two_workers`: trained epochs an hour of a search by two workers against two processes of the
  hand-written objective, on both networks in turn.
- `two_workers_over_one`: trials an hour of two workers of one thread against one of two.
- `overhead_cifar`, `overhead_digits`: part of a trial's time, ask to tell, outside the training steps and
  their batches, from the timing of our trials above: 4 epochs of 22,500 images, 20 of all digits.

The last line is one JSON object. Reads CIFAR-10 from a folder of `train/class/*`, `test/class/*` images.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import psutil
import shared
import torch
import torch.nn.functional as F
from torch import Tensor

from nas_optuna.artifacts import make_artifacts
from nas_optuna.claims import Claims
from nas_optuna.configuration import build_space
from nas_optuna.cores import count_cores, tune_process
from nas_optuna.data import Digits, LabelledData
from nas_optuna.estimation import Execution, Fidelity, Objectives
from nas_optuna.kept import make_kept
from nas_optuna.member import run_trial
from nas_optuna.objective import Objective
from nas_optuna.space import Architecture, Network, Space, Stages, measure_costs
from nas_optuna.storages import open_storage, settle
from nas_optuna.study import keep_budget, read_trials

HERE = Path(__file__).parent
COMPARISONS = (
    "bare_cifar",
    "bare_digits",
    "handwritten_conv",
    "handwritten_dwsep",
    "throughput_two_workers",
    "two_workers_over_one",
)
# the bare loop's recipe: images are then equal work
PLAIN = {"optimizer": "sgd", "learning_rate": 0.15, "small_share": 0.0}


@dataclass(frozen=True)
class Task:
    """One network, and where a trial finds it.

    Attributes:
        space: The search's space.
        values: Its decisions that lead to the network.
    """

    space: Space
    values: dict[str, Any]

    @property
    def architecture(self) -> Architecture:
        """The network."""
        return self.space.at(self.values).canonical()


def network(layer: str) -> Task:
    """A stem, and a residual block of one kind at each of three widths."""
    stages = {
        f"stage{index + 1}": {"depth": 1, "width": width, "stride": stride}
        for index, (width, stride) in enumerate(((24, 1), (48, 2), (96, 2)))
    }
    block = {"layer": [layer], "kernel": 3, "residual": True}
    return Task(Stages(stem={"width": 16, "kernel": 3, "stride": 1}, stages=stages, block=block), {})


def typical(experiment: str, data: LabelledData) -> Task:
    """The network with the median MACs among 101 random ones of an experiment's space."""
    space = build_space(shared.configuration(experiment))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    costs = {}
    for _ in range(101):
        trial = study.ask()
        shape, classes = data.input_shape, len(data.classes)
        costs[trial.number] = measure_costs(space(trial).canonical(), input_shape=shape, classes=classes).macs
    median = sorted(costs, key=lambda number: costs[number])[len(costs) // 2]
    return Task(space, study.trials[median].params)


class Silent:
    """Hears everything, shows nothing."""

    def running(self, what: str) -> None:
        """A training begins."""

    def epoch(self, epoch: int, accuracy: float | None, epochs: int) -> None:
        """An epoch ended."""


def ours(
    task: Task, data: LabelledData, fidelity: Fidelity, **recipe: Any
) -> Callable[[int], tuple[float, dict[str, float]]]:
    """A function that runs one real trial in a study of its own.

    It takes a seed and returns the validation accuracy and the seconds of each span.

    The storage is opened once, as by a worker. The pruner is the command's: it is asked, and a first
    trial is never stopped. The trial claims its part of a budget, and keeps its state, its diagram and its
    curve, as the command lets it.
    """
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    address = f"sqlite:///{folder}/study.db"
    storage = open_storage(address)
    objectives = Objectives(directions={"accuracy": "maximize"})
    defaults = shared.configuration("cifar")
    artifacts = make_artifacts(
        folder, defaults.dashboard, input_shape=data.input_shape, classes=len(data.classes), say=print
    )

    def run(repeat: int) -> tuple[float, dict[str, float]]:
        # new ones each time: like every network of a search, this one has never been measured
        training = shared.make_training(**recipe)
        study = optuna.create_study(storage=storage, direction="maximize", pruner=training.pruner)
        keep_budget(study, n_trials=1, deadline=None)
        study.enqueue_trial(task.values)
        objective = Objective(
            space=task.space,
            data=data,
            training=training,
            objectives=objectives,
            fidelity=fidelity,
            seed=repeat,
            progress=Silent(),
            stop_reason=lambda: None,
            kept=make_kept(folder, defaults.checkpoints, training),
            artifacts=artifacts,
            lease=defaults.lease,
            claims=Claims(study),
        )
        trial, seconds = run_trial(study, objective, read_trials(study))
        started = time.perf_counter()
        settle(address)
        seconds["tell"] += time.perf_counter() - started
        assert trial.value is not None
        return trial.value, seconds

    return run


def bare(
    architecture: Architecture, data: LabelledData, fidelity: Fidelity, *, execution: Execution
) -> Callable[[int], float]:
    """A function that trains the network in plain PyTorch and returns the seconds it took."""
    train, validation = data.split("train"), data.split("validation")
    mean, std = data.normalization
    is_colour = data.input_shape[0] == 3
    crop, batch_size = (3 if is_colour else 1), 64

    def augment(images: Tensor) -> Tensor:
        count, _, height, width = images.shape
        padded = F.pad(images.float(), (crop,) * 4, mode="reflect")
        top, left = torch.randint(2 * crop + 1, (2, count, 1, 1))
        rows = top + torch.arange(height).view(1, -1, 1)
        columns = left + torch.arange(width).view(1, 1, -1)
        if is_colour:
            columns = torch.where(torch.rand(count, 1, 1) < 0.5, columns.flip(2), columns)
        pixels = padded.permute(0, 2, 3, 1)[torch.arange(count)[:, None, None], rows, columns]
        return pixels.permute(0, 3, 1, 2).mul_(1 / 255)

    def run(repeat: int) -> float:
        started = time.perf_counter()
        torch.manual_seed(repeat)
        model = execution.arrange(Network(architecture, classes=len(data.classes), mean=mean, std=std))
        optimizer = torch.optim.SGD(
            model.parameters(), lr=0.15, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True
        )
        steps = int(fidelity.data_share * len(train)) // batch_size
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.15, total_steps=steps * fidelity.epochs)
        cpu = torch.device("cpu")
        for epoch in range(fidelity.epochs):
            model.train()
            order = torch.randperm(len(train))
            for step in range(steps):
                chosen = order[step * batch_size : (step + 1) * batch_size]
                images = augment(train.inputs[chosen])
                with execution.autocast(cpu):
                    loss = F.cross_entropy(model(execution.lay_out(images)), train.labels[chosen])
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
            model.eval()
            is_last = epoch + 1 == fidelity.epochs
            judged = len(validation) if is_last else fidelity.validation_images or len(validation)
            hits = 0
            with torch.inference_mode(), execution.autocast(cpu):
                for start in range(0, judged, 128):
                    images = validation.inputs[start : start + 128].float().mul_(1 / 255)
                    answer = model(execution.lay_out(images)).argmax(dim=1)
                    hits += int((answer == validation.labels[start : start + 128]).sum())
        return time.perf_counter() - started

    return run


def alternate(
    ours: Callable[[int], float], theirs: Callable[[int], float], repeats: int
) -> list[tuple[float, float]]:
    """Seconds of ours, and the mean of theirs before and after, so often."""
    pairs = []
    before = theirs(0)
    for repeat in range(repeats):
        took, after = ours(repeat), theirs(repeat + 1)
        pairs.append((took, (before + after) / 2))
        before = after
    return pairs


def ratios_of(pairs: list[tuple[float, float]], *, scale: float = 1.0) -> dict[str, Any]:
    """How many times as fast ours is: the median, and each."""
    ratios = [scale * theirs / ours for ours, theirs in pairs]
    return {
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
    }


def compare_with_bare(task: Task, data: LabelledData, fidelity: Fidelity, repeats: int) -> dict[str, Any]:
    """Ours over the better of the bare loop's executions."""
    trial, architecture = ours(task, data, fidelity, **PLAIN), task.architecture
    short = Fidelity(1, min(1.0, fidelity.data_share), 500)
    candidates = [
        Execution(precision=precision, memory_format=memory_format)
        for precision in ("32-true", "bf16-mixed")
        for memory_format in ("channels_last", "contiguous")
    ]

    def seconds(execution: Execution) -> float:
        loop = bare(architecture, data, short, execution=execution)
        return min(loop(0), loop(1))

    best = min(candidates, key=seconds)
    loop = bare(architecture, data, fidelity, execution=best)
    trial(0)
    spans: dict[str, float] = {}
    overheads = []

    def of_trial(repeat: int) -> float:
        spans.update(trial(repeat)[1])
        total = sum(spans.values())
        overheads.append(1 - (spans["data"] + spans["step"]) / total)
        return total

    pairs = alternate(of_trial, loop, repeats)
    images = fidelity.epochs * int(fidelity.data_share * len(data.split("train")))
    rates = [(images / mine, images / theirs) for mine, theirs in pairs]
    return {
        **ratios_of(pairs),
        "images_a_second": [round(statistics.median(side)) for side in zip(*rates, strict=True)],
        "overhead": round(statistics.median(overheads), 3),
        "spans": {name: round(value, 3) for name, value in spans.items()},
        "bare_execution": str(best),
    }


def one_side(arguments: argparse.Namespace) -> None:
    """In a process of its own: train networks one after another; print how long, and how well."""
    torch.set_num_threads(arguments.threads)
    tasks = [network(layer) for layer in arguments.layers.split(",")]
    data = shared.load_cifar(arguments.data, arguments.cache)
    fidelity = Fidelity(1, min(1.0, arguments.images / len(data.split("train"))))
    trials: list[Callable[[int], float]]
    if arguments.side == "ours":
        runs = [ours(task, data, fidelity) for task in tasks]
        trials = [lambda repeat, run=run: run(repeat)[0] for run in runs]
    else:
        import handwritten

        images = handwritten.Images(
            Path(arguments.data), processes=arguments.loaders, batch_size=64, limit=arguments.images
        )
        trials = [
            lambda repeat, task=task: handwritten.train(task.architecture, images, epochs=1)[1].curve[-1]
            for task in tasks
        ]
    for trial in trials:  # memory, caches and loader processes are warm
        trial(99)
    print("ready", flush=True)
    for repeat, word in enumerate(sys.stdin):
        if word.strip() == "memory":
            print(json.dumps(mapped_memory(arguments.cache)), flush=True)
            continue
        started = time.perf_counter()
        accuracies = [trial(repeat) for trial in trials]
        seconds = time.perf_counter() - started
        print(json.dumps({"seconds": seconds, "accuracies": accuracies}), flush=True)


def mapped_memory(cache_dir: Path) -> dict[str, int]:
    """Bytes of the cache that this process has mapped, and its share of them where others map them too."""
    maps = [part for part in psutil.Process().memory_maps() if part.path.startswith(str(cache_dir))]
    return {"mapped": sum(part.rss for part in maps), "share": sum(part.pss for part in maps)}


class Side:
    """Some processes that train the same, at the same time, when told to.

    Attributes:
        accuracies: Validation accuracies of all that was trained.
    """

    def __init__(
        self, side: str, arguments: argparse.Namespace, *, processes: int, threads: int, **options: Any
    ) -> None:
        given = {
            "data": arguments.data,
            "cache": arguments.cache,
            "repeats": arguments.repeats,
            "images": arguments.images,
            "threads": threads,
        }
        words = [f"--{name}={value}" for name, value in (given | options).items()]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        if side == "ours":  # as the command does
            environment.setdefault("GOMP_SPINCOUNT", "1000")
        self.accuracies: list[float] = []
        self.processes = [
            subprocess.Popen(
                [sys.executable, __file__, f"--side={side}", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
                bufsize=1,
            )
            for _ in range(processes)
        ]

    def seconds(self) -> float:
        """One repeat of every process, side by side; seconds of the slowest."""
        answers = [json.loads(line) for line in self._ask("go")]
        for answer in answers:
            self.accuracies += answer["accuracies"]
        return max(float(answer["seconds"]) for answer in answers)

    def memory(self) -> dict[str, float]:
        """MiB of the cache that each has mapped, and that all of them take together."""
        answers = [json.loads(line) for line in self._ask("memory")]
        return {
            "mapped_by_each": round(answers[0]["mapped"] / 2**20),
            "taken_by_all": round(sum(answer["share"] for answer in answers) / 2**20),
        }

    def _ask(self, word: str) -> list[str]:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(f"{word}\n")
        return [self._line(process) for process in self.processes]

    def wait_ready(self) -> None:
        """Until every process is warm."""
        for process in self.processes:
            assert self._line(process) == "ready"

    def end(self) -> None:
        """Let them end."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()

    @staticmethod
    def _line(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline().strip()


def compare(
    arguments: argparse.Namespace, first: Side, second: Side, *, scale: float = 1.0
) -> dict[str, Any]:
    """Seconds of the second over those of the first, in alternation, and the mean accuracy of each."""
    first.wait_ready()
    second.wait_ready()
    pairs = alternate(lambda _: first.seconds(), lambda _: second.seconds(), arguments.repeats)
    memory = first.memory()
    first.end()
    second.end()
    return {
        **ratios_of(pairs, scale=scale),
        "accuracies": [round(statistics.mean(side.accuracies), 4) for side in (first, second)],
        "memory": memory,
    }


def best_loaders(arguments: argparse.Namespace) -> int:
    """With how many DataLoader processes the hand-written objective is fastest here."""
    seconds = {}
    for loaders in (0, 1, 2):
        side = Side(
            "handwritten",
            arguments,
            processes=1,
            threads=count_cores(),
            layers="dwsep",
            images=min(4000, arguments.images),
            loaders=loaders,
        )
        side.wait_ready()
        seconds[loaders] = min(side.seconds() for _ in range(2))
        side.end()
    return min(seconds, key=lambda loaders: seconds[loaders])


def run(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One of the comparisons."""
    if name == "bare_cifar":
        images = shared.load_cifar(arguments.data, arguments.cache)
        fidelity = Fidelity(arguments.epochs or 4, 0.5, 500)
        return compare_with_bare(typical("cifar", images), images, fidelity, arguments.repeats)
    if name == "bare_digits":
        digits = Digits(augmentation={"crop": 1})
        digits.prepare()
        # a trial of a second or two: more repeats against the noise
        fidelity = Fidelity(arguments.epochs or 20)
        return compare_with_bare(typical("digits", digits), digits, fidelity, 6 * arguments.repeats)

    def side(kind: str, processes: int, layers: str, loaders: int = 0) -> Side:
        threads = max(1, count_cores() // processes)
        return Side(kind, arguments, processes=processes, threads=threads, layers=layers, loaders=loaders)

    if name.startswith("handwritten"):
        layer = name.removeprefix("handwritten_")
        theirs = side("handwritten", 1, layer, arguments.loaders)
        return compare(arguments, side("ours", 1, layer), theirs)
    two = side("ours", 2, "conv,dwsep")
    if name == "throughput_two_workers":
        return compare(arguments, two, side("handwritten", 2, "conv,dwsep"))
    # two workers train two networks in the time that one takes for one: twice as many trials
    return compare(arguments, two, side("ours", 1, "conv,dwsep"), scale=2.0)


def plot(details: dict[str, dict[str, Any]], path: Path) -> None:
    """A bar for each comparison, its repeats as points."""
    names = list(details)[::-1]
    with shared.axes_of(path, size=(7, 3)) as axes:
        axes.barh(names, [details[name]["ratio"] for name in names], color="tab:blue", alpha=0.5)
        for name in names:
            axes.plot(details[name]["ratios"], [name] * len(details[name]["ratios"]), "k.", markersize=3)
        axes.axvline(1.0, color="k", linewidth=0.8)
        axes.set(xlabel="speed of nas_optuna over the other side's")


def main() -> None:
    """Read the command line, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder of CIFAR-10")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="beside the bare loop, instead of 4 and of 20 of digits")
    parser.add_argument("--cache", type=Path, default=shared.CACHE)
    parser.add_argument("--only", nargs="+", choices=COMPARISONS, default=COMPARISONS, help="these ratios")
    parser.add_argument("--plot", type=Path, help="a png of the ratios; needs matplotlib")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--layers", default="conv", help=argparse.SUPPRESS)
    parser.add_argument("--images", type=int, default=10_000, help=argparse.SUPPRESS)
    parser.add_argument("--loaders", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    tune_process()  # as the command does; the bare loop gains as much
    if arguments.side:
        one_side(arguments)
        return
    figures: dict[str, Any] = {}

    def show(name: str, result: dict[str, Any]) -> None:
        figures[name] = result["ratio"]
        figures.setdefault("details", {})[name] = result
        print(f"{name:<24} {result['ratio']:6.3f}   {result['ratios']}", flush=True)

    if any(name.startswith("handwritten") for name in arguments.only):
        figures["handwritten_loaders"] = arguments.loaders = best_loaders(arguments)
    for name in arguments.only:
        show(name, run(name, arguments))
    for name in ("cifar", "digits"):
        if f"bare_{name}" in figures:
            figures[f"overhead_{name}"] = figures["details"][f"bare_{name}"]["overhead"]
    if arguments.plot:
        plot(figures["details"], arguments.plot)
    figures |= {"n": arguments.repeats, **shared.machine()}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
