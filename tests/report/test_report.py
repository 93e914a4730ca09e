"""What a report says is what the study says, and nothing else gets into it."""

from __future__ import annotations

import json
import shutil
import tempfile
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import optuna
import pytest
from conftest import SHORT, compose_config, make_space, run_command
from optuna.trial import TrialState
from pages import Page, tables_of_markdown
from test_statistics import make_trial

import nas_optuna
from nas_optuna.data import Digits
from nas_optuna.errors import NothingFound
from nas_optuna.estimation import COSTS, Objectives, Table
from nas_optuna.report import describe_study, figures, gather, write_page, write_report
from nas_optuna.search import search
from nas_optuna.space import NasBenchMacro, measure_costs
from nas_optuna.space.diagram import draw
from nas_optuna.study import open_storage

HOSTILE = "<script>alert(1)</script> <img src=https://evil.example/x> [click](javascript:alert(1)) | `x` ${1}"


@pytest.fixture(scope="session")
def finished() -> Iterator[Path]:
    """The folder of a search that was done, of six networks of which some were stopped."""
    folder = Path(tempfile.mkdtemp())
    words = ["estimation.epochs=3", "n_trials=9", "estimation=median", "strategy=random", "study_name=study"]
    result = run_command("nas_optuna", *SHORT, *words, folder=folder)
    assert result.returncode == 0, result.stderr
    yield folder / "runs" / "study"
    shutil.rmtree(folder)


def open_study(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name=None, storage=f"sqlite:///{folder / 'study.db'}")


def read(folder: Path) -> tuple[Page, dict[str, Any]]:
    markdown = (folder / "report.md").read_text()
    return Page((folder / "report.html").read_text()), tables_of_markdown(markdown)


def pairs(rows: list[list[str]]) -> dict[str, str]:
    return {row[0]: row[1] for row in rows if len(row) == 2}


def test_numbers_of_the_page_and_of_the_text_are_the_studys(finished: Path) -> None:
    study, summary = open_study(finished), json.loads((finished / "summary.json").read_text())
    page, markdown = read(finished)
    for tables in (page.tables, markdown):
        found = pairs(tables["What was found"][0])
        winner = study.trials[summary["best"]["number"]]
        assert found["winner"] == f"trial {winner.number}"
        assert found["network"] == winner.user_attrs["network"]
        assert found["MACs"] == f"{winner.user_attrs['macs']:,}"
        assert found["parameters"] == f"{winner.user_attrs['params']:,}"
        assert found["validation accuracy in the search"] == f"{winner.value:.4f}"
        assert found["test accuracy"].startswith(f"{summary['test']['accuracy']:.4f} ")
        asked = pairs(tables["What was asked"][0])
        assert asked["seed"] == "0"
        assert asked["objective"] == "maximize accuracy"
        assert asked["plan"].startswith("3 epochs of 30.0% of the images")
        counts = {row[0]: int(row[1]) for row in tables["How the search went on"][0][1:]}
        assert counts == summary["trials"]
        fresh = {int(row[0]): row[3] for row in tables["What was found"][1][1:]}
        assert fresh == {
            number: ", ".join(f"{value:.4f}" for value in study.user_attrs[f"fresh:{number}"])
            for number in fresh
        }
        assert len(fresh) == 2
        versions = pairs(tables["To repeat it"][0])
        assert {name: versions[name] for name in summary["versions"]} == summary["versions"]


def test_best_networks_are_listed_with_their_own_numbers(finished: Path) -> None:
    study = open_study(finished)
    complete = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    page, markdown = read(finished)
    for tables in (page.tables, markdown):
        rows = tables["The best networks"][0][1:]
        assert {int(row[0]) for row in rows} == {trial.number for trial in complete}
        for row in rows:
            trial = study.trials[int(row[0])]
            assert row[1] == f"{trial.value:.4f}"
            assert row[3] == f"{trial.user_attrs['macs']:,}"
            assert row[-1] == trial.user_attrs["network"]


def test_figures_show_the_studys_values(finished: Path) -> None:
    study = open_study(finished)
    facts = gather(
        study, objectives=Objectives(directions={"accuracy": "maximize"}), space=make_space(), folder=finished
    )
    drawn = figures(facts)
    complete = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    points = {
        float(x): float(y)
        for trace in drawn["front"].data
        if trace.name == "trained to the end"
        for x, y in zip(trace.x, trace.y, strict=True)
    }
    macs = {float(f"{trial.user_attrs['macs']:.5g}"): float(f"{trial.value:.5g}") for trial in complete}
    assert points == macs
    best = drawn["seconds"].data[-1].y
    assert best[-1] == pytest.approx(max(trial.value for trial in complete), abs=1e-4)
    curves = {trace.name: list(trace.y) for trace in drawn["curves"].data}
    winner = facts.winner
    assert winner is not None
    shown = curves[f"trial {winner.number} (winner)"]
    assert shown == pytest.approx(list(study.trials[winner.number].intermediate_values.values()), abs=1e-4)


def test_confusion_matrix_has_all_test_images_and_the_test_accuracy_on_its_diagonal(finished: Path) -> None:
    final = open_study(finished).user_attrs["final"]
    counts = np.array(final["confusion"])
    data = Digits(test_share=0.2, validation_share=0.2)
    data.prepare()
    test = data.split("test")
    assert counts.sum() == len(test)
    assert counts.trace() / counts.sum() == pytest.approx(final["test"]["accuracy"])
    assert counts.sum(axis=1).tolist() == np.bincount(test.labels.numpy()).tolist()
    # what the saved network says of each image
    network = nas_optuna.load(finished / "final")
    taken = network(test.inputs / 255).argmax(dim=1).numpy()
    again = np.zeros_like(counts)
    np.add.at(again, (test.labels.numpy(), taken), 1)
    assert counts.tolist() == again.tolist()
    page, markdown = read(finished)
    for tables in (page.tables, markdown):
        rows = tables["The test, class by class"][0][1:]
        assert [[int(cell) for cell in row[1:]] for row in rows] == counts.tolist()


def test_page_refers_to_nothing_outside_of_itself(finished: Path) -> None:
    page, _ = read(finished)
    assert page.references
    for reference in page.references:
        assert reference.startswith(("#", "data:"))
    assert page.tags.keys() & {"link", "iframe", "object", "embed", "base", "form"} == set()
    assert page.tags["script"] == 3


def test_winner_is_drawn(finished: Path) -> None:
    study = open_study(finished)
    facts = gather(
        study, objectives=Objectives(directions={"accuracy": "maximize"}), space=make_space(), folder=finished
    )
    assert facts.input_shape == (1, 8, 8)
    assert facts.class_names == [str(digit) for digit in range(10)]
    assert facts.images == {"train": 1150, "validation": 288}
    page, _ = read(finished)
    assert any(reference.startswith("data:image/svg+xml") for reference in page.references)


def test_command_makes_the_same_report_from_the_study_alone(finished: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(finished, moved)
    before = {name: (moved / name).read_text() for name in ("report.html", "report.md")}
    for name in before:
        (moved / name).unlink()
    shutil.rmtree(moved / "final")
    result = run_command("nas_optuna.report", "study_dir=elsewhere", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert result.stdout == "report: elsewhere/report.html\nreport: elsewhere/report.md\n"
    assert {name: (moved / name).read_text() for name in before} == before


@pytest.mark.slow
def test_report_says_the_command_and_one_that_repeats_it(finished: Path, tmp_path: Path) -> None:
    text = (finished / "report.md").read_text()
    given = next(line for line in text.splitlines() if line.startswith("python -m nas_optuna"))
    again = next(line for line in text.splitlines() if line.endswith("study_name=study-again"))
    assert given.split()[3:] == [
        *SHORT,
        "estimation.epochs=3",
        "n_trials=9",
        "estimation=median",
        "strategy=random",
        "study_name=study",
    ]
    # a search of the same commands, but for how it is computed, which this machine measured
    result = run_command("nas_optuna", *again.split()[3:], folder=tmp_path)
    assert result.returncode == 0, result.stderr
    first, second = open_study(finished), open_study(tmp_path / "runs" / "study-again")
    assert [trial.params for trial in second.trials] == [trial.params for trial in first.trials]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["study_dir=nowhere"], "study_dir: 'nowhere' holds no study"),
        (["study_dir=empty"], "study_dir: 'empty' holds no study"),
        ([], "study_dir is missing"),
        (["study_dir=unfinished"], "has no network that was trained to the end within its limits"),
    ],
)
def test_what_can_not_be_reported_is_one_clear_line(
    words: list[str], said: str, finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    if "study_dir=unfinished" in words:
        make_unfinished(finished, tmp_path / "unfinished")
    result = run_command("nas_optuna.report", *words, folder=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr


def make_unfinished(finished: Path, folder: Path) -> None:
    """A study with the attributes of another, and a trial that was stopped."""
    folder.mkdir()
    study = optuna.create_study(
        study_name="unfinished", direction="maximize", storage=f"sqlite:///{folder / 'study.db'}"
    )
    attributes = open_study(finished).user_attrs
    for name in ("configuration", "fingerprint", "plan"):
        study.set_user_attr(name, attributes[name])
    study.add_trial(make_trial(0, None, state=optuna.trial.TrialState.PRUNED))


def change_configuration(study: optuna.Study, **groups: Any) -> None:
    config = json.loads(study.user_attrs["configuration"])
    for group, values in groups.items():
        config[group] |= values
    study.set_user_attr("configuration", json.dumps(config))


@pytest.mark.slow
def test_report_runs_no_code_of_a_strangers_study(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "theirs")
    study = open_study(tmp_path / "theirs")
    # what a report does not need is not looked at
    change_configuration(study, data={"_target_": "theirs.Data"}, estimation={"_target_": "os.system"})
    assert run_command("nas_optuna.report", "study_dir=theirs", folder=tmp_path).returncode == 0
    change_configuration(
        study, space={"layers": {"conv": {"_target_": "os.system", "command": "touch evil"}}}
    )
    result = run_command("nas_optuna.report", "study_dir=theirs", folder=tmp_path)
    assert result.returncode == 2
    assert "configuration.space.layers.conv._target_: the study names 'os.system'" in result.stderr
    assert not (tmp_path / "evil").exists()


def test_search_that_finds_nothing_leaves_a_report_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # so high that nothing is learnt
    with pytest.raises(NothingFound):
        search(compose_config(*SHORT, "estimation.learning_rate=1e30", "estimation.optimizer=sgd"))
    page, markdown = read(tmp_path / "runs" / "study")
    assert "No network was trained to the end within the limits" in page.text
    assert pairs(markdown["What was found"][0])["diverged"] == "2"
    assert "The winner's network" not in markdown


def test_several_objectives_are_told_as_a_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # one beyond the limit as well, with this seed
    search(
        compose_config(
            *SHORT, "objective=accuracy_macs", "objective.limits.macs=9e5", "n_trials=5", "strategy=random"
        )
    )
    folder = tmp_path / "runs" / "study"
    study = open_study(folder)
    summary = json.loads((folder / "summary.json").read_text())
    page, markdown = read(folder)
    for tables in (page.tables, markdown):
        rows = tables["The Pareto front"][0][1:]
        assert {int(row[0]) for row in rows} == {found["number"] for found in summary["front"]}
        for row in rows:
            trial = study.trials[int(row[0])]
            assert row[1] == f"{trial.values[0]:.4f}"
            assert row[3] == f"{trial.values[1]:,.0f}"
        asked = pairs(tables["What was asked"][0])
        assert asked["objective"] == "maximize accuracy, minimize MACs, MACs at most 900,000"
        counts = {row[0]: int(row[1]) for row in tables["How the search went on"][0][1:]}
        assert counts == summary["trials"]
        assert counts["infeasible"] > 0
    assert '"Pareto front"' in page.source
    assert '"infeasible, so not judged"' in page.source


@pytest.mark.slow
def test_table_is_reported_without_the_table(
    macro_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "macro.json"
    shutil.copy(macro_table, mine)
    search(compose_config("+experiment=nasbench_macro", f"estimation.table={mine}", "n_trials=30"))
    mine.unlink()
    folder = tmp_path / "runs" / "study"
    before = (folder / "report.md").read_text()
    result = run_command("nas_optuna.report", "study_dir=runs/study", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (folder / "report.md").read_text() == before
    page, markdown = read(folder)
    test = open_study(folder).user_attrs["final"]["test"]
    assert pairs(markdown["What was found"][0])["test accuracy"] == f"{test['accuracy']:.4f}"
    assert "The test, class by class" not in page.tables
    # which layers stand where, as the space has identities that no network keeps
    assert '"mbconv' in page.source


def test_series_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    labels = np.arange(120) % 2
    signals = random.normal(size=(120, 2, 32)) + np.sin(np.arange(32) * (1 + labels[:, None, None]))
    np.savez("signals.npz", x=signals.astype(np.float32), y=labels)
    search(
        compose_config(
            "+experiment=series",
            "data.path=signals.npz",
            *SHORT[1:],
            "timeout=null",
            "estimation.data_share=1",
        )
    )
    page, markdown = read(tmp_path / "runs" / "study")
    assert pairs(markdown["What was asked"][0])["inputs"].startswith("2 × 32, 2 classes")
    assert any(reference.startswith("data:image/svg+xml") for reference in page.references)


def test_texts_of_a_hostile_study_are_words_and_nothing_more(tmp_path: Path) -> None:
    study = optuna.create_study(study_name=HOSTILE, direction="maximize")
    for index in range(30):
        trial = make_trial(index, 0.5 + index / 100, curve={1: 0.3, 2: 0.5 + index / 100}, params=10)
        trial.set_user_attr("network", HOSTILE)
        trial.set_user_attr("execution", HOSTILE)
        study.add_trial(trial)
    study.add_trial(make_trial(30, 0.1, infeasible=HOSTILE, network=HOSTILE, params=10))
    version = {"python": HOSTILE, HOSTILE: HOSTILE}
    run = {
        "began": "2026-01-01T00:00:00",
        "spent": 0.0,
        "command": HOSTILE,
        "device": HOSTILE,
        "versions": version,
    }
    configuration = {
        group: {"_target_": f"x.{HOSTILE}", HOSTILE: HOSTILE} for group in ("data", "strategy", "space")
    }
    study.set_user_attr("configuration", json.dumps(configuration | {"storage": HOSTILE, "seed": HOSTILE}))
    study.set_user_attr("runs", [run])
    study.set_user_attr("class_names", [HOSTILE, "b"])
    study.set_user_attr("fingerprint", {"data": {"input_shape": [3, 16, 16], "classes": 2}})
    test = {"accuracy": 0.75, "epochs": HOSTILE, "seed": HOSTILE, "number": 29}
    study.set_user_attr("final", {"test": test, "confusion": [[3, 1], [1, 3]]})
    facts = gather(
        study, objectives=Objectives(directions={"accuracy": "maximize"}), space=make_space(), folder=tmp_path
    )
    html, markdown = write_report(facts, tmp_path)
    page = Page(html.read_text())
    assert page.text.count(HOSTILE) > 10
    assert page.tags["script"] == 3
    assert page.tags["img"] == 1
    assert all(reference.startswith(("#", "data:")) for reference in page.references)
    drawn = html.read_text().split('id="figures:json">')[1].split("</script>")[0]
    assert "<" not in drawn
    # plotly takes some tags for markup: nor are there any in what it is given
    said = json.dumps(json.loads(drawn)["confusion"])
    assert "&lt;script" in said
    assert "<script" not in json.dumps(json.loads(drawn))
    text = markdown.read_text()
    outside = text.split("```")[::2]
    assert not any("<" in part.replace("\\<", "") for part in outside)
    assert not any("](" in part.replace("\\](", "") for part in outside)
    assert tables_of_markdown(text)["The best networks"][0][1][-1] == " ".join(HOSTILE.split())


def test_report_says_what_inheriting_saved_and_whether_heirs_were_favoured() -> None:
    study = optuna.create_study(direction="maximize")
    study.add_trial(make_trial(0, 0.6, curve={epoch: 0.1 * epoch for epoch in range(1, 7)}))
    study.add_trial(
        make_trial(1, 0.7, curve={4: 0.5, 5: 0.6, 6: 0.7}, seconds=(0, 4), inherits=0, likeness=0.9)
    )
    study.add_trial(
        make_trial(2, None, curve={4: 0.1}, state=TrialState.PRUNED, seconds=(0, 2), inherits=0, likeness=0.8)
    )
    study.set_user_attr("fresh:0", [0.58, 0.60])
    study.set_user_attr("fresh:1", [0.61, 0.63])
    facts = gather(
        study,
        objectives=Objectives(directions={"accuracy": "maximize"}),
        space=make_space(),
        folder=Path("nowhere"),
    )
    page = Page(write_page(describe_study(facts)))
    heirs, others = page.tables["Weights that were inherited"][0][1:]
    assert heirs == ["a relative's weights", "2", "6", "4", "3.0 s"]
    assert others == ["new weights", "1", "0", "6", "1.0 s"]
    assert "Likeness to the relative: 0.85 on average." in page.text
    assert (
        "heirs among them (1) +8.00 points above what they then reached, and the others (1) +1.00"
        in page.text
    )


def test_report_without_heirs_has_no_word_on_them(finished: Path) -> None:
    page, markdown = read(finished)
    assert "Weights that were inherited" not in {*page.tables, *markdown}


def test_diagram_is_an_image_and_no_part_of_the_page() -> None:
    document = describe_study(
        gather(
            make_winner(),
            objectives=Objectives(directions={"accuracy": "maximize"}),
            space=make_space(),
            folder=Path("nowhere"),
        )
    )
    page = Page(write_page(document))
    assert "svg" not in page.tags
    assert page.tags["img"] == 1
    network = make_space().at(make_trial(0, 0.5).params).canonical()
    (source,) = (reference for reference in page.references if reference.startswith("data:"))
    assert b64decode(source.partition(",")[2]).decode() == draw(network, input_shape=(3, 16, 16), classes=2)


def make_winner() -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    study.add_trial(make_trial(0, 0.5))
    study.set_user_attr("fingerprint", {"data": {"input_shape": [3, 16, 16], "classes": 2}})
    return study


def add_rows_of_the_table(table: Path, folder: Path, *, count: int) -> None:
    """More trials, as a search would have told them, without the time that it takes."""
    space, looked_up = NasBenchMacro(), Table(table=str(table), pruner=optuna.pruners.NopPruner())
    study = optuna.load_study(study_name="study", storage=open_storage(f"sqlite:///{folder / 'study.db'}"))
    random, distributions = Random(0), space.distributions()
    known = {trial.user_attrs["hash"] for trial in study.trials}
    while len(known) < count + 5:
        point = {name: random.choice(space.decisions[name].options) for name in distributions}
        network = space.at(point).canonical()
        if network.hash in known:
            continue
        known.add(network.hash)
        costs = measure_costs(network, input_shape=(3, 32, 32), classes=10)
        accuracy = looked_up.rows[looked_up.key(network)].seeds[0]
        study.add_trial(
            optuna.trial.create_trial(
                values=[accuracy, costs.macs],
                params=point,
                distributions=distributions,
                user_attrs={"network": str(network), "hash": network.hash}
                | {name: getattr(costs, name) for name in COSTS},
                system_attrs={"constraints:limits": -1.0, "constraints:trained": 0.0},
            )
        )


@pytest.mark.slow
def test_study_of_two_thousand_networks_is_reported(
    macro_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [f"estimation.table={macro_table}", "strategy=random", "n_trials=5", "objective=accuracy_macs"]
    search(compose_config("+experiment=nasbench_macro", *words))
    add_rows_of_the_table(macro_table, tmp_path / "runs" / "study", count=2000 - 5)
    result = run_command("nas_optuna.report", "study_dir=runs/study", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "runs" / "study"
    page, markdown = read(folder)
    counts = {row[0]: int(row[1]) for row in markdown["How the search went on"][0][1:]}
    assert counts["complete"] == 2000
    # of which 4.8 million are plotly's own
    assert len(page.source) < 6e6
