"""The whole way, by the real command."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pytest
import torch
from conftest import PATIENCE, SHORT, command_environment, compose_config, make_images
from optuna.trial import TrialState

import nas_optuna
from nas_optuna.conclude import plan_comparison
from nas_optuna.data import Digits
from nas_optuna.estimation import Fidelity, Training
from nas_optuna.interrupt import Interrupt
from nas_optuna.objective import OUT_OF_TIME
from nas_optuna.results import Race
from nas_optuna.schedule import Schedule
from nas_optuna.search import Search, search
from nas_optuna.space import Architecture
from nas_optuna.study import count_trained, derive_seed

if TYPE_CHECKING:
    from conftest import Command

NAME = "digits-resconv_small-accuracy-auto-curves-seed0"


def summary(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return content


def load_study(folder: Path, name: str) -> optuna.Study:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder / 'study.db'}")


def test_command_leaves_a_tested_network_and_nothing_else(command: Command, tmp_path: Path) -> None:
    result = command(*SHORT)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    folder = tmp_path / "runs" / NAME
    assert sorted(path.name for path in folder.iterdir()) == [
        "artifacts",
        "final",
        "report.html",
        "report.md",
        "study.db",
        "summary.json",
        "timing.json",
    ]
    assert sorted(path.name for path in (folder / "final").iterdir()) == [
        "architecture.json",
        "weights.safetensors",
    ]

    said = summary(folder)
    assert said["study_name"] == NAME
    assert said["trials"] == {"complete": 2, "pruned": 0, "failed": 0, "infeasible": 0, "reused": 0}
    assert said["storage"] == f"sqlite:///runs/{NAME}/study.db"
    assert said["seed"] == 0
    assert said["seconds"] > 0
    assert said["versions"]["optuna"] == optuna.__version__
    assert set(said["best"]) >= {"number", "values", "params", "macs", "architecture"}
    assert said["test"]["epochs"] == 1
    assert said["test"]["params"] == said["best"]["params"]
    assert f"{said['test']['accuracy']:.4f}" in result.stdout
    assert f"python -m nas_optuna.dashboard study_dir=runs/{NAME}\n" in result.stdout

    network = nas_optuna.load(folder / "final")
    assert network.architecture == Architecture.from_dict(said["best"]["architecture"])
    data = Digits()
    data.prepare()
    test = data.split("test")
    with torch.no_grad():
        hits = network(test.inputs / 255).argmax(dim=1) == test.labels
    assert hits.float().mean().item() == pytest.approx(said["test"]["accuracy"])


@pytest.mark.slow
def test_same_command_runs_nothing_and_a_larger_budget_goes_on(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / NAME
    assert command(*SHORT).returncode == 0
    first = summary(folder)
    again = command(*SHORT)
    assert again.returncode == 0, again.stderr
    assert "final training" not in again.stdout
    assert summary(folder)["trials"] == first["trials"]
    assert summary(folder)["test"] == first["test"]
    assert summary(folder)["seconds"] > first["seconds"]

    assert command(*SHORT, "n_trials=4").returncode == 0
    trials = load_study(folder, NAME).trials
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    # a resumed sampler does not repeat its first networks
    assert len({trial.user_attrs["hash"] for trial in trials}) == 4


# no file reaches the disk whole; what sqlite writes does
FULL_DISK = """
import errno, os
def fail(descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
os.fsync = fail
from nas_optuna.cli import main
main()
"""


@pytest.mark.slow
def test_search_on_a_full_disk_says_so_and_goes_on_when_there_is_room(
    command: Command, tmp_path: Path
) -> None:
    full = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *SHORT],
        cwd=tmp_path,
        env=command_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert full.returncode == 3
    assert full.stderr.splitlines()[-1].startswith("error: ")
    assert full.stderr.splitlines()[-1].endswith(
        ": no space left. All that was found is kept: make room and give the same command again."
    )
    folder = tmp_path / "runs" / NAME
    found = [trial.values for trial in load_study(folder, NAME).trials]
    assert len(found) == 2
    assert all(found)
    assert command(*SHORT).returncode == 0
    assert [trial.values for trial in load_study(folder, NAME).trials] == found
    assert summary(folder)["test"]["accuracy"] > 0


@pytest.mark.slow
def test_timeout_is_for_everything_and_is_not_given_twice(command: Command, tmp_path: Path) -> None:
    timed = ("+experiment=digits", "n_trials=null", "timeout=40", "estimation.epochs=null")
    started = time.monotonic()
    result = command(*timed)
    assert result.returncode == 0, result.stderr
    # far from the hour that no limit would take, and with room for a busy machine
    assert time.monotonic() - started < 100
    folder = tmp_path / "runs" / NAME
    plan = load_study(folder, NAME).user_attrs["plan"]
    assert "plan: " in result.stdout
    assert plan["trial_seconds"] > 0
    trials = summary(folder)["trials"]
    assert command(*timed).returncode == 0
    assert summary(folder)["trials"] == trials
    assert load_study(folder, NAME).user_attrs["plan"] == plan


@pytest.mark.slow
def test_more_time_is_more_trials_however_long_the_final_training_took(
    command: Command, tmp_path: Path
) -> None:
    assert command(*SHORT, "n_trials=1").returncode == 0
    study = load_study(tmp_path / "runs" / NAME, NAME)
    assert study.user_attrs["search_seconds"] < study.user_attrs["seconds"]
    study.set_user_attr("seconds", 2000.0)
    result = command(*SHORT, "n_trials=2", "timeout=1000")
    assert result.returncode == 0, result.stderr
    assert len(study.trials) == 2


@pytest.mark.slow
def test_multirun_runs_each_study_in_its_own_folder(command: Command, tmp_path: Path) -> None:
    result = command("-m", *SHORT, "strategy=random,tpe", "seed=0,1", "n_trials=1", timeout=300)
    assert result.returncode == 0, result.stderr
    names = {
        f"digits-resconv_small-accuracy-{strategy}-curves-seed{seed}"
        for strategy in ("random", "tpe")
        for seed in (0, 1)
    }
    assert {path.name for path in (tmp_path / "runs").iterdir() if not path.name.startswith(".")} == names
    for name in names:
        assert summary(tmp_path / "runs" / name)["trials"]["complete"] == 1


@pytest.mark.slow
def test_folder_of_mixed_images_from_search_to_tested_winner(command: Command, tmp_path: Path) -> None:
    make_images(tmp_path / "images", count=40)
    result = command(
        "+experiment=folder",
        "data.root=images",
        "data.image_size=16",
        "data.augmentation.flip=0",
        "timeout=null",
        "n_trials=2",
        "estimation.epochs=6",
        "study_name=photos",
    )
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "runs" / "photos"
    assert summary(folder)["test"]["accuracy"] >= 0.9
    network = nas_optuna.load(folder)
    assert network.classes == ("left", "right")
    assert network.input_shape == (3, 16, 16)


@pytest.mark.slow
def test_two_objectives_list_a_front_and_train_its_most_accurate(command: Command, tmp_path: Path) -> None:
    result = command(*SHORT, "objective=accuracy_macs", "strategy=random", "n_trials=5", "study_name=front")
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "runs" / "front"
    study = load_study(folder, "front")
    said = summary(folder)
    numbers = {found["number"] for found in said["front"]}
    assert numbers <= {trial.number for trial in study.best_trials}
    assert [found["values"] for found in said["front"]] == sorted(
        (found["values"] for found in said["front"]), reverse=True
    )
    assert said["test"]["number"] == said["best"]["number"]
    assert said["test"]["number"] in numbers
    assert study.metric_names == ["accuracy", "macs"]
    # learning curves stay visible although Optuna takes no intermediate values here
    assert all(len(trial.user_attrs["curve"]) == 1 for trial in study.trials)


@pytest.mark.slow
def test_limit_keeps_large_networks_untrained(command: Command, tmp_path: Path) -> None:
    limit = 300_000
    result = command(
        *SHORT, f"objective.limits.macs={limit}", "strategy=random", "n_trials=3", "study_name=small"
    )
    assert result.returncode == 0, result.stderr
    said = summary(tmp_path / "runs" / "small")
    assert said["trials"]["complete"] == 3
    assert said["trials"]["infeasible"] > 0
    assert said["test"]["macs"] <= limit
    study = load_study(tmp_path / "runs" / "small", "small")
    assert study.best_trial.user_attrs["macs"] <= limit
    for trial in study.trials:
        assert ("infeasible" in trial.user_attrs) == (trial.user_attrs["macs"] > limit)
        assert trial.user_attrs["macs"] <= limit or not trial.intermediate_values


def test_trial_can_be_repeated_alone(command: Command, tmp_path: Path) -> None:
    assert command(*SHORT).returncode == 0
    trial = load_study(tmp_path / "runs" / NAME, NAME).trials[1]
    config = compose_config(*SHORT)
    from hydra.utils import instantiate

    space, training = (
        instantiate(config.space, _convert_="all"),
        instantiate(config.estimation, _convert_="all"),
    )
    data = instantiate(config.data, _convert_="all")
    data.prepare()
    architecture = space(optuna.trial.FixedTrial(trial.params))
    assert architecture.hash == trial.user_attrs["hash"]
    seed = derive_seed(0, trial.number)
    assert seed == trial.user_attrs["seed"]
    module = training.fit(architecture, data, fidelity=Fidelity(1, 0.3), seed=seed)
    assert module.curve[-1] == trial.value


class Running:
    """The command in the background."""

    def __init__(self, folder: Path, *overrides: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nas_optuna", *overrides],
            cwd=folder,
            env=command_environment() | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, text: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if text in line:
                return
        pytest.fail(f"the command ended without {text!r}")

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


LONG = (*SHORT, "n_trials=1000", "estimation.epochs=3", "estimation=full")


@pytest.mark.slow
def test_interrupt_ends_in_order_with_what_is_known(tmp_path: Path) -> None:
    running = Running(tmp_path, *LONG, "study_name=stopped")
    running.wait_for("trial 2/1000")
    running.process.send_signal(signal.SIGINT)
    code, out, err = running.end()
    assert code == 130
    assert "Traceback" not in err
    folder = tmp_path / "runs" / "stopped"
    said = summary(folder)
    assert said["trials"]["complete"] >= 2
    assert said["test"] is None
    assert "not tested" in (folder / "report.md").read_text()
    assert "nas_optuna.dashboard study_dir=runs/stopped" in out
    # the network that was running is not lost: it is queued
    study = load_study(folder, "stopped")
    stopped = [trial for trial in study.trials if trial.user_attrs.get("stopped") == "interrupted"]
    queued = study.get_trials(states=(TrialState.WAITING,))
    assert len(stopped) == len(queued) <= 1
    assert not study.get_trials(states=(TrialState.RUNNING,))


@pytest.mark.slow
def test_failing_search_does_not_end_a_multirun(command: Command, tmp_path: Path) -> None:
    result = command(
        "-m", *SHORT, "n_trials=1", "data.test_share=0.9999,0.2", "study_dir=runs/${data.test_share}"
    )
    assert result.returncode == 2
    assert "data.test_share=0.9999" in result.stderr
    assert summary(tmp_path / "runs" / "0.2")["test"] is not None


@pytest.mark.slow
def test_search_that_finds_nothing_says_so(command: Command, tmp_path: Path) -> None:
    result = command(*SHORT, "estimation.learning_rate=1e12", "study_name=diverging")
    assert result.returncode == 1
    assert "No network was trained to the end" in result.stdout
    said = summary(tmp_path / "runs" / "diverging")
    assert said["best"] is None
    assert said["trials"]["infeasible"] == 2


def test_failure_of_the_final_training_keeps_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = Training.fit

    def fail_at_last(self: Training, *args: Any, **options: Any) -> Any:
        if options.get("with_validation"):
            raise RuntimeError("CUDA error: device-side assert")
        return fit(self, *args, **options)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Training, "fit", fail_at_last)
    search(compose_config(*SHORT))
    assert "device-side assert" in capsys.readouterr().out
    said = summary(tmp_path / "runs" / "study")
    assert said["best"] is not None
    assert said["test"] is None


def test_limit_can_be_added_to_a_study_of_every_sampler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    gp = ("strategy=gp", "strategy.n_startup_trials=1", "final.finalists=1")
    search(compose_config(*SHORT, *gp))
    search(compose_config(*SHORT, *gp, "n_trials=3", "objective.limits.macs=2e6"))
    study = load_study(tmp_path / "runs" / "study", "study")
    assert not study.get_trials(states=(TrialState.FAIL,))


@pytest.mark.slow
def test_killed_trial_is_ended_and_its_network_tried_first(tmp_path: Path, command: Command) -> None:
    running = Running(tmp_path, *LONG, "study_name=killed")
    running.wait_for("trial 2/1000")
    running.process.kill()
    running.end()
    folder = tmp_path / "runs" / "killed"
    left = load_study(folder, "killed").get_trials(states=(TrialState.RUNNING,))
    done = len(load_study(folder, "killed").get_trials(states=(TrialState.COMPLETE,)))
    assert command(*LONG, "study_name=killed", f"n_trials={done + 1}").returncode == 0
    study = load_study(folder, "killed")
    assert not study.get_trials(states=(TrialState.RUNNING,))
    assert summary(folder)["trials"]["complete"] == done + 1
    if left:
        retried = study.trials[-1]
        assert retried.user_attrs["retry_of"] == left[0].number
        assert left[0].params.items() <= retried.params.items()


def test_only_the_final_evaluation_reads_the_test_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    read, fit = Digits.read, Training.fit

    def spy_read(self: Digits, name: Any) -> Any:
        events.append(f"read {name}")
        return read(self, name)

    def spy_fit(self: Training, *args: Any, **options: Any) -> Any:
        events.append("final training" if options.get("with_validation") else "training")
        return fit(self, *args, **options)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Digits, "read", spy_read)
    monkeypatch.setattr(Training, "fit", spy_fit)
    search(compose_config(*SHORT))
    assert events.count("read test") == 1
    # two trials, two comparisons, one final training, and only then the test
    assert events[-6:] == ["training"] * 4 + ["final training", "read test"]


def test_values_do_not_depend_on_the_test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Digits.read

    def blank_test(self: Digits, name: Any) -> Any:
        split = read(self, name)
        if name == "test":
            split.inputs.zero_()
        return split

    monkeypatch.chdir(tmp_path)
    search(compose_config(*SHORT))
    honest = summary(tmp_path / "runs" / "study")
    monkeypatch.setattr(Digits, "read", blank_test)
    search(compose_config(*SHORT, "study_name=blank"))
    blank = summary(tmp_path / "runs" / "blank")
    assert blank["best"]["values"] == honest["best"]["values"]
    assert blank["finalists"] == honest["finalists"]
    assert blank["test"]["accuracy"] < 0.2


def end(study: optuna.Study, trial: optuna.Trial, word: str) -> None:
    """As a worker leaves a trial whose training failed (error), or that needed none (untrained)."""
    trial.set_user_attr(word, "why")
    study.tell(trial, state=TrialState.FAIL if word == "error" else TrialState.PRUNED)


def test_failures_in_a_row_stop_a_search_whatever_runs_or_was_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Search(compose_config(*SHORT, "n_trials=50"), Interrupt())
    study = load_study(tmp_path / "runs" / "study", "study")
    *trials, _ = (study.ask() for _ in range(6))
    answers = []
    for trial, word in zip(trials, ("error", "untrained", "error", "error", "untrained"), strict=True):
        end(study, trial, word)
        run.ended(trial.number, {})
        answers.append(run.may_start(asking=0))
    assert answers == [True, True, True, False, False]


def test_what_failed_before_a_search_goes_on_does_not_stop_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Search(compose_config(*SHORT, "n_trials=50"), Interrupt())
    study = load_study(tmp_path / "runs" / "study", "study")
    for _ in range(3):
        end(study, study.ask(), "error")
    known = study.ask()
    end(study, known, "untrained")
    run.ended(known.number, {})
    assert run.may_start(asking=0)


def test_search_without_a_finished_network_may_use_all_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Search(compose_config(*SHORT, "timeout=1000"), Interrupt())
    reasons = []
    for seconds in (100, 700, 1001):
        monkeypatch.setattr(Schedule, "search_seconds", lambda _, seconds=seconds: seconds)
        reasons.append((run.may_start(asking=0), run.stop_reason()))
    # the search's part is 630 seconds: then what runs may end, and where nothing runs another one begins
    assert reasons == [(True, None), (True, None), (False, OUT_OF_TIME)]


def test_search_without_a_finished_network_begins_one_at_a_time_when_its_part_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Search(compose_config(*SHORT, "timeout=1000", "n_trials=null"), Interrupt())
    answers = []
    for seconds in (100, 700):
        monkeypatch.setattr(Schedule, "search_seconds", lambda _, seconds=seconds: seconds)
        answers.append(run.may_start(asking=1))
    run._study.ask()
    answers.append(run.may_start(asking=0))
    assert answers == [True, None, None]


@pytest.fixture(scope="module")
def timed_search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    """One that has a thousand seconds, a tenth of which may go into the comparison."""
    folder = tmp_path_factory.mktemp("timed")
    free = ("timeout=1000", "final.finalists=3", "final.seeds=null", f"study_dir={folder}")
    return Search(compose_config(*SHORT, *free), Interrupt())


@pytest.mark.parametrize(
    ("full_seconds", "comparison"),
    [
        (1, (3, Race(fewest=2, most=5, trainings=100))),
        (10, (3, Race(fewest=2, most=5, trainings=10))),
        (40, (2, Race(fewest=1, most=1, trainings=2))),
        (60, (1, Race(fewest=1, most=1, trainings=1))),
        # of two trials a tenth is nothing
        (None, (3, Race(fewest=2, most=2, trainings=6))),
    ],
)
def test_comparison_is_what_its_part_of_the_time_affords(
    timed_search: Search,
    monkeypatch: pytest.MonkeyPatch,
    full_seconds: float | None,
    comparison: tuple[int, Race],
) -> None:
    plan = dataclasses.replace(timed_search._parts.plan, full_seconds=full_seconds)
    monkeypatch.setattr(timed_search, "_parts", dataclasses.replace(timed_search._parts, plan=plan))
    assert plan_comparison(timed_search._parts, best=[finished(reused=0)] * 7) == comparison


def finished(*, seconds: float = 1.0, **attributes: int) -> optuna.trial.FrozenTrial:
    """A trial that took so long."""
    trial = optuna.trial.create_trial(
        value=1.0, user_attrs=attributes | {"untrained": True} if attributes else {}
    )
    assert trial.datetime_start is not None
    trial.datetime_complete = trial.datetime_start + timedelta(seconds=seconds)
    return trial


def test_comparison_knows_how_long_its_networks_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = Search(compose_config(*SHORT, "timeout=1000", "final.seeds=null"), Interrupt())
    # the space holds slow ones, the limits may not; in full a network takes twice its trial's time
    plan = dataclasses.replace(run._parts.plan, trial_seconds=100.0, full_seconds=200.0)
    run._parts = dataclasses.replace(run._parts, plan=plan)
    finalists, race = plan_comparison(run._parts, best=[finished(seconds=10)] * 7)
    assert (finalists, race.trainings) == (2, 5)


def test_comparison_keeps_to_the_time_where_the_length_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ("estimation.epochs=6", "estimation.data_share=0.5", "final.finalists=3", "final.seeds=null")
    run = Search(compose_config(*SHORT, *given, "timeout=200"), Interrupt())
    assert plan_comparison(run._parts, best=[finished(seconds=15)] * 7)[0] == 1
    assert plan_comparison(run._parts, best=[finished(seconds=5)] * 7) == (3, Race(1, 2, 4))


def test_network_that_can_not_be_trained_to_its_end_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Search(compose_config(*SHORT, "timeout=1000", "n_trials=null"), Interrupt())
    end = 1000 * run._parts.settings.search_share
    answers = {}
    for trained in (None, 100.0, 60.0):
        if trained is not None:
            run._schedule.take_in(finished(seconds=trained))
        for left in (29, 31, 51):
            monkeypatch.setattr(Schedule, "search_seconds", lambda _, left=left: end - left)
            answers[trained, left] = run.may_start(asking=0)
    assert answers == {
        (None, 29): True,
        (None, 31): True,
        (None, 51): True,
        (100.0, 29): False,
        (100.0, 31): False,
        (100.0, 51): True,
        (60.0, 29): False,
        (60.0, 31): True,
        (60.0, 51): True,
    }


def test_network_that_can_hardly_be_trained_to_its_end_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Search(compose_config(*SHORT, "timeout=1000", "n_trials=null"), Interrupt())
    monkeypatch.setattr(run._schedule, "_trial_seconds", 100.0)
    end = 1000 * run._parts.settings.search_share
    answers = {}
    for trained in (None, 20.0):
        if trained is not None:
            run._schedule.take_in(finished(seconds=trained))
        for left in (74, 76):
            monkeypatch.setattr(Schedule, "search_seconds", lambda _, left=left: end - left)
            answers[trained, left] = run.may_start(asking=0)
    # the first one is begun whatever the time: without it there is no winner
    assert answers == {(None, 74): True, (None, 76): True, (20.0, 74): False, (20.0, 76): True}


def test_search_with_a_finished_network_ends_with_its_part_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    search(compose_config(*SHORT, "n_trials=1"))
    run = Search(compose_config(*SHORT, "timeout=1000"), Interrupt())
    monkeypatch.setattr(Schedule, "search_seconds", lambda _: 700)
    assert run.stop_reason() == OUT_OF_TIME


@pytest.mark.slow
def test_default_job_finds_a_good_network(command: Command, tmp_path: Path) -> None:
    result = command("+experiment=digits")
    assert result.returncode == 0, result.stderr
    said = summary(tmp_path / "runs" / NAME)
    # what was stopped and taken up again counts once
    assert count_trained(load_study(tmp_path / "runs" / NAME, NAME).trials) == 30
    assert said["trials"]["pruned"] > 0
    assert said["test"]["accuracy"] >= 0.97
