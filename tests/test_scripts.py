"""The scripts that measure."""

from __future__ import annotations

import importlib
import itertools
import json
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from conftest import command_environment
from optuna.trial import FrozenTrial, TrialState
from PIL import Image
from postgres import needs_postgres, running_postgres

from nas_optuna.attributes import PROMOTES, RETRY_OF

PROJECT = Path(__file__).parent.parent
TASKS = ("fashion_mnist", "covertype", "higgs", "airlines")


@pytest.fixture
def tiny_cifar(tmp_path: Path) -> Path:
    return write_images(tmp_path, contrast=150)


def write_images(tmp_path: Path, *, contrast: int) -> Path:
    """Images bright above or below, in CIFAR's layout and size: flips leave the two classes apart."""
    random = np.random.default_rng(0)
    for split, count in (("train", 300), ("test", 30)):
        for label in range(2):
            folder = tmp_path / "CIFAR" / split / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 90, (32, 32, 3), dtype=np.uint8)
                pixels[16 * label : 16 * label + 16] += contrast
                Image.fromarray(pixels).save(folder / f"{index}.jpg")
    return tmp_path / "CIFAR"


def run_script(name: str, *arguments: str) -> dict[str, Any]:
    """The figures of a script's last line."""
    command = [sys.executable, str(PROJECT / "scripts" / name), *arguments]
    result = subprocess.run(
        command, env=command_environment() | {"PYTHONWARNINGS": ""}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    figures: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    assert figures["hardware"]
    return figures


@pytest.mark.slow
def test_benchmark_of_training_compares_both_sides(tiny_cifar: Path, tmp_path: Path) -> None:
    sizes = ("--repeats", "1", "--images", "128", "--epochs", "1", "--cache", str(tmp_path / "cache"))
    figures = run_script("benchmark_training.py", "--data", str(tiny_cifar), *sizes)
    ratios = ("bare_cifar", "bare_digits", "handwritten_conv", "handwritten_dwsep", "throughput_two_workers")
    assert all(figures[name] > 0 for name in (*ratios, "two_workers_over_one"))
    assert all(0 < figures[f"overhead_{name}"] < 1 for name in ("cifar", "digits"))


@pytest.mark.slow
def test_benchmark_of_a_search_tests_both_sides(tiny_cifar: Path, tmp_path: Path) -> None:
    # so much time that a slow machine ends its trials as well
    limits = ("--seconds", "900", "--trials", "2", "--seeds", "1", "--out", str(tmp_path / "out"))
    settings = ("estimation.epochs=2", "final.epochs=2", "final.finalists=1")
    figures = run_script(
        "benchmark_search.py", "--data", str(tiny_cifar), *limits, "--epochs", "1", *settings
    )
    (run,) = figures["runs"]
    for side in ("ours", "handwritten"):
        assert 0 < run[side]["tested"] <= 1
        assert run[side]["history"]


@pytest.mark.slow
def test_benchmark_of_storages_lets_workers_share_a_study(macro_table: Path) -> None:
    short = ("--seconds", "1", "--window", "6", "--workers", "2", "--storages", "sqlite,journal")
    figures = run_script("benchmark_storages.py", "--table", str(macro_table), *short)
    for storage in ("sqlite", "journal"):
        found = figures[storage]["2"]
        assert found["n"] > 0
        assert 0 < found["training"] <= 1
        assert found["workers_cpu"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("part", ["ablation", "epochs"])
def test_benchmark_of_the_recipe_trains_every_variant(tiny_cifar: Path, tmp_path: Path, part: str) -> None:
    short = ("--images", "600", "--seeds", "1", "--accuracy", "0.5", "--cache", str(tmp_path / "cache"))
    figures = run_script("benchmark_recipe.py", "--data", str(tiny_cifar), "--part", part, *short)
    assert len(figures[part]) == (13 if part == "ablation" else 2)


@pytest.mark.slow
def test_benchmark_of_the_recipe_judges_rungs_both_ways(tmp_path: Path) -> None:
    faint = write_images(tmp_path, contrast=30)
    short = ("--networks", "3", "--epochs", "4", "--data-share", "1", "--cache", str(tmp_path / "cache"))
    figures = run_script("benchmark_recipe.py", "--data", str(faint), "--part", "rungs", *short)["rungs"]
    last, mean = figures["last weights"], figures["mean of the weights"]
    assert len(last["spearman"]) == len(mean["spearman"]) == 3
    # the end is the same, the way there is not
    assert last["median_accuracy"][-1] == mean["median_accuracy"][-1]
    assert last["median_accuracy"] != mean["median_accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("table", ["macro", "macro_options", "macro_front", "plain"])
def test_benchmark_of_strategies_compares_them(macro_table: Path, tmp_path: Path, table: str) -> None:
    (tmp_path / "nas-bench-macro_cifar10.json").write_text(macro_table.read_text())
    few = ("--seeds", "2", "--queries", "50", "--strategies", "default,random", "--workers", "2")
    figures = run_script("benchmark_strategies.py", "--data", str(tmp_path), "--tables", table, *few)
    for strategy in ("default", "random"):
        assert list(figures[table][strategy]) == ["20", "50", "named", "queries_to"]
        mean, error = figures[table][strategy]["50"]
        assert mean >= 0
        assert error >= 0


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A folder of curves in the files of those that others recorded."""
    random = np.random.default_rng(0)
    curves = 100 * np.minimum(0.99, random.random((120, 1)) * (1 - 1 / np.arange(2, 14)))
    arrays = {f"{name}_valacc_x100": curves for name in TASKS}
    arrays |= {f"{name}_time_s": random.random((120, 2)) for name in TASKS}
    np.savez(tmp_path / "lcbench_surrogate.npz", **arrays)
    losses = [[None if epoch > 9 else 1 / (1 + epoch) for epoch in range(12)]]
    losses += [[1 / (1 + epoch * end) for epoch in range(12)] for end in random.random(20)]
    networks = [{"val_losses": curve, "params": 10 + index} for index, curve in enumerate(losses)]
    (tmp_path / "nasbench_nlp_wikitext2_curves.json").write_text(json.dumps(networks))
    return tmp_path


@pytest.mark.slow
def test_benchmark_of_pruners_compares_them(recorded: Path) -> None:
    figures = run_script("benchmark_pruners.py", "--data", str(recorded), "--seeds", "1", "--budgets", "5,10")
    for name in (*TASKS, "nlp"):
        assert set(figures[name]) == {
            *("default", "promotion", "none", "median", "percentile", "halving", "halving_3_3", "hyperband"),
        }
        for cells in figures[name].values():
            assert list(cells) == ["5", "10"]
            assert all(-1e-9 <= mean <= 1.5 for mean, _ in cells.values())
        assert figures[name]["default"]["10"][0] <= figures[name]["none"]["10"][0]


@pytest.mark.slow
def test_benchmark_of_fronts_replays_recorded_curves(recorded: Path) -> None:
    figures = run_script("benchmark_fronts.py", "--recorded", str(recorded), "--seeds", "2")
    for name in (*TASKS, "nlp"):
        assert list(figures[name]) == ["20", "50", "100"]
        for told in figures[name].values():
            # these curves never cross: nothing on a front is stopped, and the oracle is not beaten
            assert told["oracle_share"][0] <= told["share"][0] < 1
            assert told["front"] >= 2
            assert told["front_stopped"] == 0


@pytest.mark.slow
def test_benchmark_of_fronts_compares_both_sides(tiny_cifar: Path, tmp_path: Path) -> None:
    short = ("--seconds", "25", "--seeds", "1", "--epochs", "3", "--out", str(tmp_path / "out"))
    figures = run_script("benchmark_fronts.py", "--data", str(tiny_cifar), "--data-share", "0.5", *short)
    (run,) = figures["runs"]
    assert run["front"] > 0
    assert all(run["complete"][side] > 0 for side in ("curves", "full"))
    assert len(run["front_stopped"]) <= run["front"]
    for told in run["replayed"].values():
        assert 0 < told["share"] <= 1
        assert told["front_stopped"] <= told["front"]
    assert 0 < run["oracle_share"] <= 1
    assert list(run["rung_correlations"]) == ["1", "2"]


def test_oracle_lets_train_what_is_on_the_front_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PROJECT / "scripts"))
    oracle_share = importlib.import_module("benchmark_fronts").oracle_share
    study = optuna.create_study(directions=["maximize", "minimize"])
    # the third costs more than the second and is no better; the first is on the front until the second ends
    for minute, values in enumerate([(0.5, 20.0), (0.6, 10.0), (0.6, 15.0), (0.7, 30.0)]):
        trial = optuna.trial.create_trial(
            values=values, user_attrs={"curve": {str(epoch): 0.5 for epoch in range(1, 5)}}
        )
        trial.datetime_start = datetime(2026, 1, 1) + timedelta(minutes=minute)
        trial.datetime_complete = trial.datetime_start + timedelta(minutes=1)
        study.add_trial(trial)
    assert oracle_share(study) == round((3 + 1 / 4) / 4, 3)


@pytest.mark.slow
def test_benchmark_of_distillation_trains_every_student(tiny_cifar: Path, tmp_path: Path) -> None:
    short = ("--seeds", "1", "--epochs", "1", "--teacher-epochs", "1", "--cache", str(tmp_path / "cache"))
    figures = run_script("benchmark_distillation.py", "--data", str(tiny_cifar), *short)
    students = [figures[name] for name in figures if name.startswith(("dwsep", "conv"))]
    assert len(students) == 3
    for student in students:
        assert all(0 <= student[loss][0] <= 1 for loss in ("cross_entropy", "kl", "distillation"))


@pytest.mark.slow
def test_benchmark_of_fidelities_goes_on_and_ranks_every_one(tiny_cifar: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"
    short = ("--epochs", "2", "--data-share", "0.5", "--keep", str(kept), "--cache", str(tmp_path / "cache"))
    run_script("benchmark_fidelities.py", "--data", str(tiny_cifar), *short, "--networks", "3")
    before = kept.read_text()
    found = run_script("benchmark_fidelities.py", "--data", str(tiny_cifar), *short, "--networks", "4")
    assert kept.read_text().startswith(before)
    assert len(kept.read_text().splitlines()) == 1 + 4 * (2 + 8 + 6)
    figures = found["figures"]
    assert {"full", "rung 0.5", "epochs 0.25", "resolution 0.5", "width 0.25", "synflow"} < set(figures)
    for row in figures.values():
        assert all(-1 <= row[name][0] <= 1 for name in ("spearman", "kendall", "spearman_best_half"))
    assert -1 <= figures["synflow"]["partial_parts"][0] <= 1
    assert all(-1 <= figures["synflow"][name][0] <= 1 for name in ("gate", "gate_least"))
    # both make the same steps on the same images, and are judged at other times
    assert figures["epochs 0.5"]["spearman"] == figures["data_share 0.5"]["spearman"]


@pytest.mark.slow
@pytest.mark.parametrize("networks", ["table", "digits"])
@pytest.mark.parametrize("storage", ["sqlite", "journal", pytest.param("postgres", marks=needs_postgres)])
def test_nothing_is_lost_where_workers_are_killed(storage: str, networks: str, macro_table: Path) -> None:
    few = ("--kills", "6", "--workers", "3", "--every", "0.7", "--lease", "3")
    table = ("--table", str(macro_table), "--trials", "150") if networks == "table" else ("--trials", "12")
    if storage == "postgres":
        with running_postgres() as server:
            figures = run_script("check_crashes.py", "--storage", server.address, *few, *table)
    else:
        figures = run_script("check_crashes.py", "--storage", storage, *few, *table)
    assert figures["found"] == 0
    assert figures["kills"] > 0
    assert figures["checked"] >= (150 if networks == "table" else 12)


def test_check_of_crashes_tells_a_second_end_from_a_promotion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PROJECT / "scripts"))
    check_retries = importlib.import_module("check_crashes").check_retries
    fail, pruned, complete = TrialState.FAIL, TrialState.PRUNED, TrialState.COMPLETE

    def trials_of(*each: tuple[TrialState, dict[str, int]]) -> list[FrozenTrial]:
        study = optuna.create_study()
        for state, attributes in each:
            value = 0.0 if state == complete else None
            study.add_trial(optuna.trial.create_trial(state=state, value=value, user_attrs=attributes))
        return study.get_trials()

    cut_off, retried = (fail, {}), (pruned, {RETRY_OF: 0})
    promoted = [(fail, {PROMOTES: 1}), (complete, {PROMOTES: 1, RETRY_OF: 2})]
    assert check_retries(trials_of(cut_off, retried, *promoted)) == []
    twice = trials_of(cut_off, retried, (complete, {RETRY_OF: 0}))
    assert check_retries(twice) == ["trial 0 was retried to 2 ends"]


@pytest.mark.slow
def test_check_spaces_compares_with_tables(tmp_path: Path) -> None:
    # two published rows of each, one of them changed, and one with the parameters of its twin
    macro = {
        "00000000": {"params": 387_882, "flops": 7_713_280},
        "11111221": {"params": 1, "flops": 65_012_224},
    }
    (tmp_path / "nas-bench-macro_cifar10.json").write_text(json.dumps(macro))
    (tmp_path / "nb201_acc.csv").write_text("idx,ops\n0,421211\n1,133300\n2,331010\n")
    (tmp_path / "nb201_hw.csv").write_text(
        "idx,params_M,flops_M\n0,0.129306,15.65\n1,0.559386,78.5\n2,0.559386,78.5\n"
    )
    script = [sys.executable, str(PROJECT / "scripts" / "check_spaces.py"), "--data", str(tmp_path)]
    result = subprocess.run(
        [*script, "--count", "20"], env=command_environment(), capture_output=True, text=True, check=True
    )
    figures = json.loads(result.stdout.splitlines()[-1])
    assert (figures["macro_entries"], figures["macro_params_equal"], figures["macro_macs_within_1pct"]) == (
        2,
        1,
        2,
    )
    assert (figures["nb201_entries"], figures["nb201_params_equal"]) == (3, 2)
    assert figures["nb201_params_of_a_twin"] == 1
    assert set(figures["seconds_by_space"]) >= {"resconv", "nasbench201"}
    assert figures["seconds_per_10000"] == max(figures["seconds_by_space"].values())


@pytest.mark.slow
def test_check_of_latencies_says_how_they_repeat_and_rank() -> None:
    short = ("--networks", "3", "--rounds", "2", "--seconds", "0.05")
    figures = run_script("check_latency.py", "--forms", "eager", "onnx", *short)
    for form in ("eager", "onnx"):
        assert figures[form]["largest_difference"] >= 0
        assert -1 <= figures[form]["spearman"] <= 1
        assert figures[form]["under_load"]["factor"]["mean"] > 0
    assert list(figures["spearman_between"]) == ["eager, onnx"]


def test_gate_gains_what_the_best_of_all_fours_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PROJECT / "scripts"))
    best_of = importlib.import_module("benchmark_fidelities").best_of
    values, truth = np.random.default_rng(0).random((2, 7))
    gains = [
        truth[max(chosen, key=lambda index: values[index])] - truth.mean()
        for chosen in itertools.combinations(range(7), 4)
    ]
    assert best_of(values, truth) == pytest.approx(np.mean(gains))


def test_equal_accuracies_leave_a_proxy_nothing_to_add(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PROJECT / "scripts"))
    add_to = importlib.import_module("benchmark_fidelities").add_to
    values, truth = np.array([1.0, 2.0, 3.0]), np.ones(3)
    assert add_to(values, truth, [np.array([3.0, 1.0, 2.0])]) == ([0.0, 0.0], 0.0)
