"""A study's note and figures in optuna-dashboard."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import SHORT, compose_config
from optuna.artifacts import get_all_artifact_meta
from optuna_dashboard import get_note, save_note

from nas_optuna.dashboard import Fresh, fresh
from nas_optuna.reopen import Reopened, reopen
from nas_optuna.search import search

PLOTS = "dashboard:plot_data:"


@pytest.fixture(scope="module", params=["accuracy", "accuracy_macs"])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short search."""
    folder = tmp_path_factory.mktemp("search")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        quick = ("n_trials=3", "estimation.data_share=0.2", "strategy=random", f"objective={request.param}")
        search(compose_config(*SHORT, *quick))
    return folder / "runs" / "study"


@pytest.fixture
def reopened(finished: Path, tmp_path: Path) -> Reopened:
    return reopen(shutil.copytree(finished, tmp_path / "study"))


def make_fresh(reopened: Reopened, *, say: Callable[[str], None] = pytest.fail) -> Fresh:
    return Fresh(
        reopened.study,
        objectives=reopened.objectives,
        space=reopened.space,
        folder=reopened.folder,
        say=say,
    )


def attributes(study: optuna.Study) -> dict[str, Any]:
    return study._storage.get_study_system_attrs(study._study_id)


def test_note_names_the_winner_the_test_and_what_was_searched(reopened: Reopened) -> None:
    note = get_note(reopened.study)
    winner = reopened.ranking()[0]
    (row,) = [line for line in note.splitlines() if line.startswith("| ★")]
    cells = [cell.strip() for cell in row.split("|")][2:-1]
    costs = [f"{winner.user_attrs[name]:,}" for name in ("macs", "params")]
    assert cells[0] == f"[{winner.number}](trials?numbers={winner.number})"
    assert cells[1] == f"{reopened.objectives.accuracy(winner):.4f}"
    assert cells[-3:] == [*costs, f"`{winner.user_attrs['network']}`"]
    test = reopened.study.user_attrs["final"]["test"]
    assert f"**Test accuracy {test['accuracy']:.4f}**: trial {test['number']}" in note
    assert "Digits, 10 classes, inputs of 1 × 8 × 8" in note
    assert "3 complete" in note


def test_note_shows_the_winner(reopened: Reopened) -> None:
    study = reopened.study
    names = {meta.filename: meta.artifact_id for meta in get_all_artifact_meta(study)}
    number = reopened.ranking()[0].number
    for name in (f"trial-{number}-network.svg", f"trial-{number}-curve.svg"):
        assert f"(/artifacts/{study._study_id}/{names[name]})" in get_note(study)
        assert (reopened.folder / "artifacts" / names[name]).is_file()


def test_pictures_are_added_once_and_again_where_they_were_deleted(reopened: Reopened) -> None:
    def names() -> list[str]:
        return sorted(meta.filename for meta in get_all_artifact_meta(reopened.study))

    before = names()
    make_fresh(reopened).finish()
    assert names() == before
    for artifact in reopened.study.user_attrs["pictures"].values():
        (reopened.folder / "artifacts" / artifact).unlink()
    make_fresh(reopened).finish()
    for artifact in reopened.study.user_attrs["pictures"].values():
        assert (reopened.folder / "artifacts" / artifact).is_file()


def test_every_network_of_the_ranking_stands_in_the_note(reopened: Reopened) -> None:
    note = get_note(reopened.study)
    for trial in reopened.ranking():
        assert f"`{trial.user_attrs['network']}`" in note


def test_figures_are_saved_under_ids_that_stay(reopened: Reopened) -> None:
    before = attributes(reopened.study)
    ids = {name.split(":")[2] for name in before if name.startswith(PLOTS)}
    assert {"front", "seconds", "evaluations", "time"} <= ids
    # one that knows nothing of what is saved already
    make_fresh(reopened).finish()
    after = attributes(reopened.study)
    assert after.keys() == before.keys()


def test_figures_are_whole_and_have_a_title(reopened: Reopened) -> None:
    saved = attributes(reopened.study)
    for name in {name.split(":")[2] for name in saved if name.startswith(PLOTS)}:
        parts = [saved[key] for key in sorted(saved, key=_order) if key.startswith(f"{PLOTS}{name}:")]
        figure = json.loads("".join(parts))
        assert figure["data"]
        assert figure["layout"]["title"]["text"]
        assert figure["layout"]["height"] <= 450


def _order(key: str) -> int:
    return int(key.rsplit(":", 1)[-1]) if key.startswith(PLOTS) else 0


def test_what_says_the_same_is_not_written_again(reopened: Reopened) -> None:
    kept = make_fresh(reopened)
    kept.finish()
    before = attributes(reopened.study)
    for name in [name for name in before if name.startswith(PLOTS)]:
        reopened.study._storage.set_study_system_attr(reopened.study._study_id, name, "")
    kept.finish()
    after = attributes(reopened.study)
    assert not any(value for name, value in after.items() if name.startswith(PLOTS))
    assert after["dashboard:note_ver"] == before["dashboard:note_ver"]


def test_what_the_user_wrote_below_stays(reopened: Reopened) -> None:
    study = reopened.study
    save_note(study, get_note(study) + "try wider stems")
    study.set_user_attr("seconds", 12_345)
    make_fresh(reopened).finish()
    note = get_note(study)
    assert note.endswith("\ntry wider stems")
    assert "3 h 25 min" in note
    assert note.count("## Best networks") == 1


def test_a_note_of_the_users_own_is_kept_whole(reopened: Reopened) -> None:
    save_note(reopened.study, "all mine")
    make_fresh(reopened).finish()
    make_fresh(reopened).finish()
    note = get_note(reopened.study)
    assert note.endswith("all mine")
    assert note.count("all mine") == note.count("## Best networks") == 1


def test_failure_is_one_line_and_ends_nothing(reopened: Reopened) -> None:
    said: list[str] = []
    kept = make_fresh(reopened, say=said.append)
    optuna.delete_study(study_name="study", storage=reopened.study._storage)
    kept.finish()
    kept.finish()
    assert len(said) == 1
    assert said[0].startswith("the dashboard's note and figures rest (KeyError: ")


def test_note_is_written_where_there_is_no_place_for_pictures(reopened: Reopened) -> None:
    said: list[str] = []
    shutil.rmtree(reopened.folder / "artifacts")
    (reopened.folder / "artifacts").write_text("in the way")
    reopened.study.set_user_attr("seconds", 7200)
    make_fresh(reopened, say=said.append).finish()
    assert len(said) == 1
    note = get_note(reopened.study)
    assert "2 h 0 min" in note
    assert "![" not in note


def test_nothing_is_due_before_its_share_of_the_time_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(fresh.time, "monotonic", lambda: now[0])
    turn = fresh._Turn(share=0.01, guess=2.0)
    now[0] = 299.0
    assert not turn.is_due()
    now[0] = 300.0
    assert turn.is_due()
    turn.took(3.0)
    now[0] = 599.0
    assert not turn.is_due()
    now[0] = 600.0
    assert turn.is_due()


def test_search_refreshes_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fresh, "NOTE_SECONDS", 0.0)
    seen: list[str] = []
    monkeypatch.setattr(Fresh, "finish", lambda self: seen.append(get_note(self._study)))
    search(compose_config(*SHORT, "estimation.data_share=0.2", "final.finalists=1", "strategy=random"))
    assert "1 complete" in seen[0] or "2 complete" in seen[0]
