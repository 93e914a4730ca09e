"""The command that opens a study in the browser."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import SHORT, compose_config, run_command
from optuna_dashboard import get_note
from served import serve

from nas_optuna.dashboard import server
from nas_optuna.dashboard.server import newest, show_study
from nas_optuna.errors import InputError
from nas_optuna.search import search

Run = Callable[..., str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a short search ran."""
    folder = tmp_path_factory.mktemp("search")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        search(compose_config(*SHORT, "n_trials=1"))
    return folder


@pytest.fixture
def run(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """The command in a folder with one study, ended as soon as it would wait for a browser."""
    shutil.copytree(finished / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)

    def interrupt(self: server._Server) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(server._Server, "serve_forever", interrupt)

    def command(*overrides: str) -> str:
        show_study(_config(*overrides))
        return capsys.readouterr().out

    return command


def _config(*overrides: str) -> Any:
    # "study_name=study" is what compose_config sets for every test
    return compose_config("port=0", *overrides, name="dashboard")


def ask(address: str, **headers: str) -> tuple[bytes, Any]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(address, headers=headers), timeout=20) as response:
        return response.read(), response.headers


def test_newest_study_is_shown_without_a_word(run: Run) -> None:
    assert run().startswith("study: http://127.0.0.1:")


def test_note_and_figures_are_made_before_it_is_shown(run: Run) -> None:
    address = "sqlite:///runs/study/study.db"
    study = optuna.load_study(study_name="study", storage=address)
    study.set_user_attr("seconds", 7200)
    run("study_dir=runs/study")
    assert "2 h 0 min" in get_note(optuna.load_study(study_name="study", storage=address))


def test_study_that_found_nothing_yet_is_shown_all_the_same(run: Run) -> None:
    Path("runs/empty").mkdir()
    optuna.create_study(study_name="study", storage="sqlite:///runs/empty/study.db")
    lines = run("study_dir=runs/empty").splitlines()
    assert lines[0].startswith("note and figures as the search left them: study_dir: the study 'study'")
    assert lines[1].startswith("study: http://127.0.0.1:")


@pytest.mark.parametrize(("host", "warns"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)])
def test_a_place_that_others_reach_is_warned_of_in_one_line(run: Run, host: str, warns: bool) -> None:
    lines = run(f"host={host}").splitlines()
    warnings = [line for line in lines if "warning" in line]
    assert len(warnings) == warns
    assert all("can delete studies" in line for line in warnings)


def test_taken_port_is_one_line(run: Run) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"port: {port} on '127.0.0.1' can't be opened .* Give another"):
            run(f"port={port}")


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("study_dir=nowhere", "study_dir: 'nowhere' holds no study"),
        ("study_dir=runs", "study_dir: 'runs' holds no study"),
        ("study_dir=runs/study study_name=other", "study_name: 'other' is not the one study"),
        ("port=-1", "port: -1 must be a whole number"),
        ("port=word", "port: 'word' must be a whole number"),
        ("host=no.such.host.invalid", "can't be opened"),
        ("storage=nonsense", "storage: 'nonsense' can't be opened"),
    ],
)
def test_wrong_request_is_one_line(run: Run, override: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        run(*override.split())
    assert "\n" not in str(caught.value)


def test_folder_without_any_study_is_one_line(tmp_path: Path) -> None:
    result = run_command("nas_optuna.dashboard", folder=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: study_dir: there is no study in 'runs' here.")
    assert len(result.stderr.splitlines()) == 1


def test_newest_is_what_was_written_last_its_log_included(tmp_path: Path) -> None:
    for age, name in enumerate(("third", "second", "first")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.db").write_text("")
        then = time.time() - 100 * age
        os.utime(tmp_path / name / "study.db", (then, then))
    assert newest(tmp_path).name == "third"
    (tmp_path / "first" / "study.db-wal").write_text("")
    assert newest(tmp_path).name == "first"


def test_pages_and_artifacts_are_served(finished: Path) -> None:
    with serve(finished) as address:
        root = address.partition("/dashboard")[0]
        meta = json.loads(ask(f"{root}/api/meta")[0])
        assert meta["artifact_is_available"]
        page, headers = ask(address)
        assert b"img.MuiCardMedia-img" in page
        assert int(headers["Content-Length"]) == len(page)
        # what a browser has from elsewhere is not taken for this
        assert ask(address, **{"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"})[0] == page
        detail = json.loads(ask(f"{root}/api/studies/1?after=0")[0])
        assert detail["note"]["body"].startswith("# `study`")
        assert {"front", "time"} <= {figure["id"] for figure in detail["plotly_graph_objects"]}
        (trial,) = detail["trials"]
        files = {each["filename"]: each["artifact_id"] for each in trial["artifacts"]}
        picture, headers = ask(f"{root}/artifacts/1/{trial['trial_id']}/{files['network.svg']}")
        assert picture.startswith(b"<svg")
        assert headers["Content-Type"] == "image/svg+xml"
        for name in ("..%2Fstudy.db", "../study.db", "..%2f..%2f..%2fetc%2fpasswd"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                ask(f"{root}/artifacts/1/{trial['trial_id']}/{name}")
