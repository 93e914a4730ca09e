"""The command that compares searches, on the folders of searches."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import SHORT, compose_config, run_command
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.compare import main
from nas_optuna.comparison import plots
from nas_optuna.search import search
from nas_optuna.study import CONFIGURATION

STRATEGIES = {
    "random": {"_target_": "optuna.samplers.RandomSampler", "seed": 0},
    "tpe": {"_target_": "optuna.samplers.TPESampler", "multivariate": True, "seed": 0},
    "predictor": {"_target_": "nas_optuna.strategy.PredictorSampler", "goal": "best", "seed": 0},
}
# every point of a test is at 0 s, its first network ends after 10 s, the next one after 20 s
SECONDS_OF_A_NETWORK = 10

Make = Callable[..., Path]
Compare = Callable[..., str]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real search, for what its study says of how it was made."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder = tmp_path_factory.mktemp("template") / "study"
    options = ("objective=accuracy_macs", "estimation.data_share=0.2", "final.data_share=0.2")
    search(compose_config(*SHORT, *options, "n_trials=1", "strategy=random", f"study_dir={folder}"))
    return folder


@pytest.fixture(scope="module")
def empty(template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Databases with a study like the real one's before its first trial, by how many objectives it has."""
    known = open_study(template)
    made = {}
    for count, directions in ((1, ["maximize"]), (2, ["maximize", "minimize"])):
        made[count] = tmp_path_factory.mktemp("empty") / "study.db"
        study = optuna.create_study(
            study_name="study", storage=f"sqlite:///{made[count]}", directions=directions
        )
        for key, value in known.user_attrs.items():
            study.set_user_attr(key, value)
    return made


@pytest.fixture
def make(template: Path, empty: dict[int, Path], tmp_path: Path) -> Make:
    """Writes the study of a search like the real one, with other results."""
    known = open_study(template)

    def make(
        name: str,
        accuracies: Sequence[float],
        *,
        strategy: str = "random",
        seed: int = 0,
        tested: float | None = 0.9,
        macs: Sequence[float] | None = None,
        change: Callable[[dict[str, Any]], None] | None = None,
        **attributes: Any,
    ) -> Path:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        shutil.copy(empty[2 if macs else 1], folder / "study.db")
        study = open_study(folder)
        config = json.loads(known.user_attrs[CONFIGURATION])
        config |= {"strategy": STRATEGIES[strategy] | {"seed": seed}, "seed": seed, "study_dir": str(folder)}
        if macs is None:
            del config["objective"]["directions"]["macs"]
        if change is not None:
            change(config)
        final = {"test": {"accuracy": tested}} if tested is not None else {}
        for key, value in {**attributes, "final": final, CONFIGURATION: json.dumps(config)}.items():
            study.set_user_attr(key, value)
        values = list(zip(accuracies, macs, strict=True)) if macs else [(value,) for value in accuracies]
        study.add_trials(list(trials(known, values)))
        return folder

    return make


def trials(known: optuna.Study, values: Sequence[tuple[float, ...]]) -> list[FrozenTrial]:
    first = known.trials[0]
    runs = known.user_attrs.get("runs")
    began = datetime.fromisoformat(runs[0]["began"]) if runs else first.datetime_start
    assert began is not None
    made = []
    for index, one in enumerate(values):
        trial = optuna.trial.create_trial(
            params=first.params,
            distributions=first.distributions,
            user_attrs=first.user_attrs,
            values=one,
            state=TrialState.COMPLETE,
        )
        trial.datetime_start = began + timedelta(seconds=SECONDS_OF_A_NETWORK * index)
        trial.datetime_complete = began + timedelta(seconds=SECONDS_OF_A_NETWORK * (index + 1))
        made.append(trial)
    return made


def open_study(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="study", storage=f"sqlite:///{folder / 'study.db'}")


@pytest.fixture
def compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Compare:
    """What the command prints."""

    def compare(*arguments: str | Path) -> str:
        assert main([*map(str, arguments), f"out={tmp_path / 'out'}"]) == 0
        return capsys.readouterr().out

    return compare


@pytest.fixture
def refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Compare:
    """The one line of a wrong request."""

    def refuse(*arguments: str | Path) -> str:
        assert main([*map(str, arguments), f"out={tmp_path / 'out'}"]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("error: ")
        assert printed.err.count("\n") == 1
        return printed.err

    return refuse


def two_groups(make: Make, *, gain: float, seeds: int) -> list[Path]:
    """Random searches, and others that are better by so much in every seed."""
    folders = []
    for seed in range(seeds):
        best = 0.8 + 0.01 * (seed % 3)
        folders.append(make(f"random-{seed}", [0.5, 0.6, best], seed=seed, tested=best - 0.02))
        other, tested = [0.5, best + gain, 0.7], best - 0.02 + gain * (1 + seed / 100)
        folders.append(make(f"tpe-{seed}", other, strategy="tpe", seed=seed, tested=tested))
    return folders


def test_clear_difference_is_called_one(make: Make, compare: Compare) -> None:
    said = compare(*two_groups(make, gain=0.05, seeds=6))
    assert "With 6 seeds each, tpe's best validation accuracy after 3 networks is 5.00 points higher" in said
    assert "tpe's best validation accuracy after 30 s is 5.00 points higher" in said
    assert re.search(r"tpe's tested accuracy is 5\.1\d points higher than random's on average", said)
    assert said.count("more than luck explains (p = 0.031)") == 3


def test_equal_searches_are_called_luck(make: Make, compare: Compare) -> None:
    said = compare(*two_groups(make, gain=0.0, seeds=6))
    assert said.count("could be luck (p = 1)") == 3
    assert "more than luck explains" not in said


def test_three_seeds_are_said_to_be_too_few(make: Make, compare: Compare) -> None:
    said = compare(*two_groups(make, gain=0.05, seeds=3))
    assert said.count("could be luck (p = 0.25)") == 3
    # once, not for each measure
    assert said.count("With 3 seeds each p is 0.25 at the least") == 1


def test_one_seed_each_concludes_nothing(make: Make, compare: Compare) -> None:
    said = compare(*two_groups(make, gain=0.05, seeds=1))
    assert "Nothing can be concluded about tpe and random" in said
    assert "p =" not in said


def test_time_to_the_other_s_final_value_is_told(make: Make, compare: Compare) -> None:
    said = compare(*two_groups(make, gain=0.05, seeds=2))
    assert (
        "tpe had random's final mean (0.8050) after 2 networks, random after 3 networks: 1.50 times as soon"
        in said
    )
    assert "tpe had random's final mean (0.8050) after 20 s, random after 30 s: 1.50 times as soon" in said
    assert "random did not reach tpe's final mean (0.8550) in the same networks" in said


def test_searches_are_compared_at_the_budget_that_all_have(make: Make, compare: Compare) -> None:
    long = make("long", [0.5, 0.6, 0.7, 0.8], strategy="tpe")
    said = compare(long, make("short", [0.5, 0.55]))
    assert "validation, 2 networks" in said
    assert f"Compared after 2 networks, all that {long.parent / 'short'} has; {long} has 4 networks." in said
    assert "0.6000" in said


def test_networks_that_were_not_trained_are_no_evaluations(make: Make, compare: Compare) -> None:
    folder = make("tpe", [0.5, 0.6], strategy="tpe")
    study = open_study(folder)
    reused, failed, infeasible = study.ask(), study.ask(), study.ask()
    for trial in (reused, failed, infeasible):
        for name, value in study.trials[0].user_attrs.items():
            trial.set_user_attr(name, value)
    reused.set_user_attr("untrained", True)
    reused.set_user_attr("reused", 0)
    study.tell(reused, 0.5)
    study.tell(failed, state=TrialState.FAIL)
    infeasible.set_constraint("limits", 1.0)
    study.tell(infeasible, 0.99)
    said = compare(folder, make("random", [0.5, 0.6, 0.65]))
    # the infeasible one was trained, and is not the best
    assert "validation, 3 networks" in said
    assert "0.9900" not in said


def test_several_objectives_are_measured_by_hypervolume(make: Make, compare: Compare) -> None:
    worse = make("random", [0.5, 0.6], macs=[100.0, 200.0])
    better = make("tpe", [0.5, 0.8], macs=[50.0, 200.0], strategy="tpe")
    said = compare(worse, better)
    assert "hypervolume, 2 networks" in said
    assert "accuracy 0.1, macs 220" in said
    # parts of the box above guessing, below 1.1 times the costliest
    slices = [(0.4 * 170 + 0.3 * 20) / (0.9 * 220), (0.4 * 120 + 0.1 * 20) / (0.9 * 220)]
    assert all(f"{volume:.4f}" in said for volume in slices)


def test_choices_are_named_as_on_the_command_line(make: Make, compare: Compare) -> None:
    def halving(config: dict[str, Any]) -> None:
        config["estimation"]["pruner"] = {
            "_target_": "nas_optuna.estimation.SuccessiveHalvingPruner",
            "min_resource": 2,
            "reduction_factor": 3,
        }

    said = compare(
        make("a", [0.5, 0.6]),
        make("b", [0.5, 0.7], strategy="predictor"),
        make("c", [0.5, 0.7], change=halving),
    )
    rows = [line.split("  ")[0] for line in said.splitlines()[1:4]]
    assert rows == ["random, curves", "predictor, curves", "random, halving"]
    assert "seconds, not networks, are the fair measure" in said


def test_other_settings_of_one_choice_are_named(make: Make, compare: Compare) -> None:
    def fast(config: dict[str, Any]) -> None:
        config["strategy"]["goal"] = "fast"

    said = compare(
        make("a", [0.5, 0.6], strategy="predictor"), make("b", [0.5, 0.7], strategy="predictor", change=fast)
    )
    assert "strategy.goal=fast" in said
    assert "No group searches at random" in said


def test_page_says_what_the_terminal_says(make: Make, compare: Compare, tmp_path: Path) -> None:
    said = compare(*two_groups(make, gain=0.05, seeds=6))
    page = (tmp_path / "out" / "compare.html").read_text()
    for line in said.splitlines():
        if line.startswith("With 6 seeds"):
            assert line.replace("'", "&#x27;") in page
    assert "://" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert page.count('class="plot"') == 5
    # two of one id, and the page's script finds the wrong one
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_plots_are_drawn(make: Make, compare: Compare, tmp_path: Path) -> None:
    said = compare(*two_groups(make, gain=0.05, seeds=2))
    assert f"plots: {tmp_path / 'out' / 'progress.png'}" in said
    for name in ("progress.png", "scores.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_plots_that_lack_matplotlib_are_said_to(
    make: Make, compare: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not plots.can_plot()
    said = compare(*two_groups(make, gain=0.05, seeds=1))
    assert "no PNG plots: they need matplotlib, pip install 'nas-optuna[benchmark]'" in said
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["compare.html"]


def test_pattern_names_folders_and_leaves_an_earlier_comparison_out(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_groups(make, gain=0.05, seeds=1)
    (tmp_path / "runs" / ".multirun").mkdir()
    arguments = [f"{tmp_path}/runs/*", "--out", f"{tmp_path}/runs/compare"]
    assert main(arguments) == 0
    assert main(arguments) == 0
    assert "tpe" in capsys.readouterr().out


def test_data_need_not_be_there(make: Make, compare: Compare) -> None:
    def elsewhere(config: dict[str, Any]) -> None:
        config["data"] = {"_target_": "nas_optuna.data.ImageFolder", "root": "nowhere"}

    assert "tpe" in compare(
        make("a", [0.5, 0.6], change=elsewhere), make("b", [0.5, 0.7], strategy="tpe", change=elsewhere)
    )


def fingerprint_of(template: Path, group: str, **changes: Any) -> dict[str, Any]:
    known = open_study(template).user_attrs["fingerprint"]
    return {**known, group: {**known[group], **changes}}


def test_other_data_is_refused(make: Make, refusal: Compare, template: Path) -> None:
    other = fingerprint_of(template, "data", images="another")
    said = refusal(make("a", [0.5]), make("b", [0.6], strategy="tpe", fingerprint=other))
    assert said.startswith("error: data.images: ")
    assert "across" not in said


def test_other_space_is_refused_unless_it_is_the_question(
    make: Make, refusal: Compare, template: Path, tmp_path: Path
) -> None:
    def narrow(config: dict[str, Any]) -> None:
        config["space"]["block"]["layer"] = ["dwsep"]

    block = {**open_study(template).user_attrs["fingerprint"]["space"]["block"], "layer": ["dwsep"]}
    other = fingerprint_of(template, "space", block=block)
    folders = [make("a", [0.5]), make("b", [0.6], change=narrow, fingerprint=other)]
    said = refusal(*folders)
    assert said.startswith("error: space.block.layer: ")
    assert "across=space" in said
    assert main([*map(str, folders), "across=space", f"out={tmp_path / 'out'}"]) == 0


def test_other_objectives_are_refused(make: Make, refusal: Compare) -> None:
    said = refusal(make("a", [0.5]), make("b", [0.6], macs=[10.0], strategy="tpe"))
    assert said.startswith("error: objective.directions: ")
    assert "across" not in said


def test_other_limits_are_refused(make: Make, refusal: Compare) -> None:
    def limit(config: dict[str, Any]) -> None:
        config["objective"]["limits"]["macs"] = 1e9

    assert "objective.limits.macs" in refusal(make("a", [0.5]), make("b", [0.6], change=limit))


def test_trainings_of_another_length_are_refused(make: Make, refusal: Compare, template: Path) -> None:
    plan = open_study(template).user_attrs["plan"]
    longer = make("b", [0.6], strategy="tpe", plan={**plan, "epochs": 4})
    said = refusal(make("a", [0.5]), longer)
    assert said.startswith("error: estimation.epochs: ")
    assert "across=estimation" in said


def test_lengths_that_plans_made_nearly_equal_are_compared(
    make: Make, compare: Compare, template: Path
) -> None:
    plan = open_study(template).user_attrs["plan"]
    longer = make("b", [0.6], strategy="tpe", plan={**plan, "data_share": 1.1 * plan["data_share"]})
    assert "times over the images" in compare(make("a", [0.5]), longer)


def test_equal_searches_with_one_seed_are_refused(make: Make, refusal: Compare) -> None:
    folders = [make("a", [0.5]), make("b", [0.6]), make("c", [0.6], strategy="tpe")]
    assert "the same search with the same seed" in refusal(*folders)


def test_seeds_alone_are_nothing_to_compare(make: Make, refusal: Compare) -> None:
    assert "differ in nothing but their seeds" in refusal(make("a", [0.5]), make("b", [0.6], seed=1))


def test_folder_that_is_no_study_is_refused(make: Make, refusal: Compare, tmp_path: Path) -> None:
    assert "holds no study" in refusal(make("a", [0.5]), tmp_path)


def test_study_without_a_finished_trial_is_refused(make: Make, refusal: Compare) -> None:
    assert "no network that was trained to the end" in refusal(
        make("a", [0.5]), make("b", [], strategy="tpe")
    )


def test_one_folder_alone_is_refused(make: Make, refusal: Compare) -> None:
    folder = make("a", [0.5])
    assert "two or more searches are compared, not 1" in refusal(folder, folder)


def test_pattern_without_a_match_is_refused(refusal: Compare) -> None:
    assert "matches no folder" in refusal("nowhere/*")


@pytest.mark.parametrize(
    ("option", "message"),
    [("across=everything", "across: 'everything' is unknown"), ("--fast", "'--fast' is unknown")],
)
def test_unknown_option_is_refused(make: Make, refusal: Compare, option: str, message: str) -> None:
    assert message in refusal(make("a", [0.5]), make("b", [0.6], strategy="tpe"), option)


def test_study_of_another_origin_is_refused(make: Make, refusal: Compare, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    study = optuna.create_study(storage=f"sqlite:///{folder / 'study.db'}", study_name="plain")
    study.tell(study.ask(), 1.0)
    assert "does not say how it was made" in refusal(make("a", [0.5]), folder)


def test_study_of_a_stranger_runs_none_of_their_code(make: Make, refusal: Compare, tmp_path: Path) -> None:
    def evil(config: dict[str, Any]) -> None:
        config["space"]["layers"] = {"evil": {"_target_": "os.mkdir", "path": str(tmp_path / "evil")}}

    assert "os.mkdir" in refusal(make("a", [0.5]), make("b", [0.6], strategy="tpe", change=evil))
    assert not (tmp_path / "evil").exists()


def test_comparison_reads_only(make: Make, compare: Compare) -> None:
    folders = two_groups(make, gain=0.05, seeds=1)
    before = [open_study(folder).user_attrs for folder in folders]
    compare(*folders)
    assert [open_study(folder).user_attrs for folder in folders] == before


@pytest.mark.slow
def test_multirun_is_compared(tmp_path: Path) -> None:
    many = ("strategy=auto,random", "seed=0,1", "n_trials=3", "estimation.data_share=0.2")
    result = run_command("nas_optuna", "-m", *SHORT, *many, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    compared = run_command("nas_optuna.compare", "runs/*", folder=tmp_path)
    assert compared.returncode == 0, compared.stderr
    assert "With 2 seeds each, auto's best validation accuracy after 3 networks" in compared.stdout
    assert (tmp_path / "runs" / "compare" / "compare.html").is_file()
    shutil.rmtree(tmp_path / "runs")
