#!/usr/bin/env python3
"""A search of ours beside a hand-written objective: the same space, images, cores and wall clock.

    python scripts/benchmark_search.py --data CIFAR --seconds 600 --seeds 3

For each seed both have so many seconds from the start of their process, imports and all. Ours is the
command `python -m nas_optuna +experiment=cifar`, test included. The other is the objective of
`handwritten.py` under Optuna's TPE and median pruner: it trains networks of `--epochs` epochs on
`--data-share` of the images, and tests the weights of its best trial after its time, as such scripts do;
choose the two numbers that serve it best.
With `--cores 1` on a machine of two cores, both run at the same time, each on a core of its own.

Reported for each seed: tested accuracies, best validation accuracy over time, and when ours reached the
hand-written one's last best validation accuracy. Ours judges networks on all validation images at the
end of their trainings only; that is the value that counts here. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import shared

HERE = Path(__file__).parent


def handwritten(arguments: argparse.Namespace) -> None:
    """The other side, in a process of its own."""
    started = arguments.started
    import handwritten as theirs
    import torch

    from nas_optuna.configuration import build_space

    torch.set_num_threads(arguments.cores)
    space = build_space(shared.configuration("cifar"))
    images = theirs.Images(Path(arguments.data), processes=arguments.loaders, batch_size=64)
    deadline = started + arguments.seconds
    best: dict[str, Any] = {"accuracy": -1.0, "module": None}
    history: list[tuple[float, float]] = []

    def objective(trial: optuna.Trial) -> float:
        architecture = space(trial).canonical()
        module, report = theirs.train(
            architecture,
            images,
            epochs=arguments.epochs,
            data_share=arguments.data_share,
            trial=trial,
            deadline=deadline,
        )
        if not report.curve:
            raise optuna.TrialPruned
        if report.curve[-1] > best["accuracy"]:
            best.update(accuracy=report.curve[-1], module=module)
            history.append((round(time.time() - started, 1), report.curve[-1]))
        if report.pruned or time.time() > deadline:
            raise optuna.TrialPruned
        return report.curve[-1]

    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=arguments.seed),
        pruner=optuna.pruners.MedianPruner(),
    )
    study.optimize(objective, n_trials=arguments.trials, timeout=deadline - time.time())
    test = theirs.InMemory(Path(arguments.data) / "test", theirs.transforms.ToTensor())
    module = best["module"].eval()
    with torch.inference_mode():
        hits = sum(
            int((module.network(batch).argmax(dim=1) == labels).sum())
            for batch, labels in theirs.DataLoader(test, batch_size=128)
        )
    result = {
        "tested": hits / len(test),
        "validation": best["accuracy"],
        "history": history,
        "trials": len(study.trials),
        "seconds": round(time.time() - started, 1),
    }
    print(json.dumps(result))


def start(
    side: str, seed: int, arguments: argparse.Namespace, cores: set[int]
) -> tuple[subprocess.Popen[str], float]:
    """One side of one seed, on some cores."""
    started = time.time()
    environment = os.environ | {"OMP_NUM_THREADS": str(len(cores)), "GOMP_SPINCOUNT": "1000"}
    if side == "ours":
        folder = arguments.out / f"seed{seed}"
        command = [
            *(sys.executable, "-m", "nas_optuna", "+experiment=cifar", f"data.root={arguments.data}"),
            *(
                f"timeout={arguments.seconds}",
                f"seed={seed}",
                f"study_dir={folder}",
                f"cache_dir={folder}/cache",
            ),
        ]
        command += [f"n_trials={arguments.trials}"] if arguments.trials else []
        command += arguments.settings
    else:
        command = [sys.executable, __file__, f"--started={started}", f"--seed={seed}"]
        for name in ("data", "seconds", "epochs", "data_share", "loaders"):
            command.append(f"--{name.replace('_', '-')}={getattr(arguments, name)}")
        command.append(f"--cores={len(cores)}")
        command += [f"--trials={arguments.trials}"] if arguments.trials else []
    with (arguments.out / f"{side}{seed}.log").open("w") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
    return process, started


def read_ours(seed: int, started: float, arguments: argparse.Namespace) -> dict[str, Any]:
    """What our command left in its study."""
    folder = arguments.out / f"seed{seed}"
    summary = json.loads((folder / "summary.json").read_text())
    study = optuna.load_study(study_name=summary["study_name"], storage=f"sqlite:///{folder}/study.db")
    complete = sorted(
        (trial.datetime_complete.timestamp() - started, trial.value)
        for trial in study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    )
    best = itertools.accumulate((accuracy for _, accuracy in complete), max)
    history = [(round(at, 1), value) for (at, _), value in zip(complete, best, strict=True)]
    return {
        "tested": summary["test"]["accuracy"],
        "validation": history[-1][1],
        "history": history,
        "trials": sum(summary["trials"].values()),
        "seconds": summary["seconds"],
    }


def read_theirs(seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """The last line of the hand-written script."""
    result: dict[str, Any] = json.loads(
        (arguments.out / f"handwritten{seed}.log").read_text().strip().splitlines()[-1]
    )
    return result


def run_seed(seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Both sides, at once where there are cores for both."""
    available = sorted(os.sched_getaffinity(0))
    first, second = set(available[: arguments.cores]), set(available[-arguments.cores :])
    if first & second:
        process, started = start("ours", seed, arguments, first)
        process.wait()
        start("handwritten", seed, arguments, first)[0].wait()
    else:
        process, started = start("ours", seed, arguments, first)
        other, _ = start("handwritten", seed, arguments, second)
        process.wait()
        other.wait()
    ours, theirs = read_ours(seed, started, arguments), read_theirs(seed, arguments)
    reached = next((at for at, accuracy in ours["history"] if accuracy >= theirs["validation"]), None)
    when = "never reached" if reached is None else f"reached after {reached} of {arguments.seconds:.0f} s"
    print(
        f"seed {seed}: tested {ours['tested']:.4f} (hand-written {theirs['tested']:.4f}); its validation "
        f"accuracy {theirs['validation']:.4f} {when}",
        flush=True,
    )
    return {"seed": seed, "ours": ours, "handwritten": theirs, "seconds_to_their_validation": reached}


def plot(results: list[dict[str, Any]], path: Path, seconds: float) -> None:
    """Best validation accuracy over time, one step line a run; a dot for what was tested at its end."""
    sides = {"ours": ("nas_optuna", "tab:blue"), "handwritten": ("hand-written", "tab:gray")}
    with shared.axes_of(path, size=(7, 4)) as axes:
        for side, (label, colour) in sides.items():
            for result in (run[side] for run in results):
                times, values = zip(*result["history"], strict=True)
                end = max(seconds, result["seconds"])
                axes.step([*times, end], [*values, values[-1]], where="post", color=colour)
                axes.plot(result["seconds"], result["tested"], "o", color=colour)
            axes.plot([], [], "o-", color=colour, label=f"{label}: validation, tested at the end")
        axes.set(xlabel="seconds", ylabel="accuracy", xlim=(0, None))
        axes.legend(loc="upper left")
        axes.grid(alpha=0.3)


def main() -> None:
    """Read the command line, run the seeds, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="*", help="of our side, as on its command line: strategy=local")
    parser.add_argument("--data", required=True, help="folder of CIFAR-10 images")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--trials", type=int, help="end a side earlier, after so many: to try this script")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cores", type=int, default=1, help="of each side")
    parser.add_argument("--epochs", type=int, default=4, help="of a hand-written training")
    parser.add_argument("--data-share", type=float, default=1.0, help="of the images in one of its epochs")
    parser.add_argument("--loaders", type=int, default=0, help="processes of its DataLoader")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_search"))
    parser.add_argument("--plot", type=Path, help="a png of validation accuracy over time; needs matplotlib")
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if arguments.started:
        handwritten(arguments)
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = [run_seed(seed, arguments) for seed in range(arguments.seeds)]
    if arguments.plot:
        plot(results, arguments.plot, arguments.seconds)
    print(
        json.dumps(
            {
                "runs": results,
                "seconds": arguments.seconds,
                "cores_each": arguments.cores,
                "handwritten": {"epochs": arguments.epochs, "data_share": arguments.data_share},
                **shared.machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
