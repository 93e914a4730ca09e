"""What a trial shows of itself: files that any Optuna reads."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from xml.etree import ElementTree

import optuna
import pytest
from conftest import SHORT, compose_config
from optuna.artifacts import (
    FileSystemArtifactStore,
    download_artifact,
    get_all_artifact_meta,
    upload_artifact,
)
from optuna.trial import FrozenTrial

from nas_optuna.artifacts import Store, TrialArtifacts, attach, draw_curve, tabulate_curve
from nas_optuna.artifacts import trial as of_trials
from nas_optuna.search import search
from nas_optuna.space import Architecture, Block, Stem

FILES = {"network.svg", "curve.svg", "curve.csv"}
QUICK = (*SHORT, "estimation.epochs=2", "estimation.data_share=0.2", "final.finalists=1", "strategy=random")
NETWORK = Architecture(Stem(8), (Block("conv", 8, choices={"kernel": 3}),))


def load(folder: Path) -> optuna.Study:
    return optuna.load_study(
        study_name="study", storage=f"sqlite:///{folder / 'runs' / 'study' / 'study.db'}"
    )


def read_all(study: optuna.Study, trial: FrozenTrial, folder: Path, tmp_path: Path) -> dict[str, str]:
    """A trial's artifacts by name, as plain Optuna finds them."""
    store = FileSystemArtifactStore(folder / "runs" / "study" / "artifacts")
    found = {}
    for meta in get_all_artifact_meta(trial, storage=study._storage):
        path = tmp_path / meta.artifact_id
        download_artifact(artifact_store=store, artifact_id=meta.artifact_id, file_path=str(path))
        found[meta.filename] = path.read_text(encoding="utf-8")
    return found


@pytest.fixture(scope="module", params=["accuracy", "accuracy_macs"])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short search that refuses some networks."""
    folder = tmp_path_factory.mktemp("search")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        limits = ("objective.limits.macs=1e6", "n_trials=4")
        search(compose_config(*QUICK, f"objective={request.param}", *limits))
    return folder


def test_each_trained_trial_has_its_files_and_no_other_one_has(finished: Path, tmp_path: Path) -> None:
    study = load(finished)
    trained = [trial for trial in study.trials if "untrained" not in trial.user_attrs]
    assert len(trained) == 4
    for trial in study.trials:
        assert set(read_all(study, trial, finished, tmp_path)) == (FILES if trial in trained else set())


def test_diagram_names_the_networks_own_costs(finished: Path, tmp_path: Path) -> None:
    study = load(finished)
    for trial in study.trials:
        if "untrained" not in trial.user_attrs:
            picture = read_all(study, trial, finished, tmp_path)["network.svg"]
            ElementTree.fromstring(picture)
            assert f"{trial.user_attrs['params']:,} parameters · {trial.user_attrs['macs']:,} MACs" in picture


def test_table_holds_the_trials_own_curve(finished: Path, tmp_path: Path) -> None:
    study = load(finished)
    for trial in study.trials:
        if "untrained" not in trial.user_attrs:
            rows = list(csv.DictReader(io.StringIO(read_all(study, trial, finished, tmp_path)["curve.csv"])))
            curve = {int(row["epoch"]): float(row["accuracy"]) for row in rows}
            known = trial.intermediate_values or trial.user_attrs["curve"]
            assert curve
            assert curve == {int(step): value for step, value in known.items()}


def test_nothing_but_artifacts_is_left_in_their_folder(finished: Path) -> None:
    study = load(finished)
    of = [*study.trials, study]
    ids = {meta.artifact_id for each in of for meta in get_all_artifact_meta(each, storage=study._storage)}
    assert {path.name for path in (finished / "runs" / "study" / "artifacts").iterdir()} == ids


def test_time_that_goes_into_them_is_told(finished: Path) -> None:
    assert '"show"' in (finished / "runs" / "study" / "timing.json").read_text()


def test_dashboard_false_leaves_none_and_no_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    search(compose_config(*QUICK, "dashboard=false"))
    study = load(tmp_path)
    assert not (tmp_path / "runs" / "study" / "artifacts").exists()
    assert not any(get_all_artifact_meta(trial, storage=study._storage) for trial in study.trials)
    attributes = study._storage.get_study_system_attrs(study._study_id)
    assert not [name for name in attributes if name.startswith(("dashboard:", "artifacts:"))]


def test_search_goes_on_without_a_place_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "study").mkdir(parents=True)
    (tmp_path / "runs" / "study" / "artifacts").write_text("in the way")
    search(compose_config(*QUICK))
    lines = [line for line in capsys.readouterr().out.splitlines() if "FileExistsError" in line]
    assert len([line for line in lines if line.startswith("a trial's diagram and curve can't be kept")]) == 1
    study = load(tmp_path)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 2
    # no name without a file
    assert not any(get_all_artifact_meta(trial, storage=study._storage) for trial in study.trials)


def test_resumed_search_adds_to_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    search(compose_config(*QUICK))
    before = set((tmp_path / "runs" / "study" / "artifacts").iterdir())
    search(compose_config(*QUICK, "n_trials=3"))
    study = load(tmp_path)
    assert [len(get_all_artifact_meta(trial, storage=study._storage)) for trial in study.trials] == [3] * 3
    assert before < set((tmp_path / "runs" / "study" / "artifacts").iterdir())


def test_short_trials_get_none_but_the_best_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_trials, "SHARE", 0.0)
    monkeypatch.setattr(of_trials, "CREDIT", 0.0)
    study = optuna.create_study(direction="maximize")
    artifacts = TrialArtifacts(tmp_path, input_shape=(1, 8, 8), classes=10, say=pytest.fail)
    for accuracy in (0.5, 0.4, 0.6):
        trial = study.ask()
        artifacts.show(trial, NETWORK, {1: accuracy})
        study.tell(trial, accuracy)
    shown = [len(get_all_artifact_meta(trial, storage=study._storage)) for trial in study.trials]
    assert shown == [3, 0, 3]


def test_a_study_of_endless_trials_does_not_fill_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_trials, "MOST", 1)
    study = optuna.create_study(direction="maximize")
    artifacts = TrialArtifacts(tmp_path, input_shape=(1, 8, 8), classes=10, say=pytest.fail)
    for accuracy in (0.5, 0.6):
        trial = study.ask()
        artifacts.show(trial, NETWORK, {1: accuracy})
        study.tell(trial, accuracy)
    assert len(list((tmp_path / "artifacts").iterdir())) == 3


@pytest.mark.parametrize("name", ["../escaped.svg", "/tmp/escaped.svg", "a/b.svg", "..", ""])
def test_no_name_leads_out_of_the_folder(name: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "artifacts")
    trial = optuna.create_study().ask()
    with pytest.raises(ValueError, match="without slashes"):
        attach(store, {name: "text"}, trial)
    with pytest.raises(ValueError, match="without slashes"):
        store.write(name, io.BytesIO(b"text"))
    assert not get_all_artifact_meta(trial)
    assert [path.name for path in tmp_path.iterdir()] == ["artifacts"]


def test_what_a_dashboard_uploads_is_kept_as_well(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("123-abc", io.BytesIO(b"from a browser"))
    with store.open_reader("123-abc") as file:
        assert file.read() == b"from a browser"
    store.remove("123-abc")
    assert not list(tmp_path.iterdir())


def test_a_file_from_elsewhere_is_copied(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("as it was")
    study, store = optuna.create_study(), Store(tmp_path / "artifacts")
    store.folder.mkdir()
    name = upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=study)
    path.write_text("changed")
    assert (store.folder / name).read_text() == "as it was"


@pytest.mark.parametrize(
    "curve",
    [
        {1: 0.5},
        {1: 0.5, 2: 0.5, 3: 0.5},
        {1: 0.1, 2: float("nan"), 3: 0.9},
        {3: 0.9712, 9: 0.9713},
        {1: 0.0, 2: 1.0},
        {1: float("nan")},
    ],
)
def test_curve_stays_inside_its_picture(curve: dict[int, float]) -> None:
    picture = ElementTree.fromstring(draw_curve(curve, title="a < b"))
    dots = [element for element in picture.iter() if element.get("class") == "dot"]
    assert len(dots) == sum(value == value for value in curve.values())
    for dot in dots:
        assert 60 <= float(dot.get("cx", 0)) <= 545
        assert 40 <= float(dot.get("cy", 0)) <= 240


def test_curve_is_measured_against_round_numbers() -> None:
    texts = [
        element.text for element in ElementTree.fromstring(draw_curve({1: 0.22, 5: 0.91}, title="")).iter()
    ]
    assert {"0.2", "0.4", "0.6", "0.8", "1.0", "1", "5"} <= set(texts)


def test_table_of_a_curve_is_in_order() -> None:
    assert tabulate_curve({2: 0.5, 1: 0.25}) == "epoch,accuracy\n1,0.25\n2,0.5\n"
