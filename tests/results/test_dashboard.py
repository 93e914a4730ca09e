"""The real optuna-dashboard on a study of ours."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SHORT, compose_config

from nas_optuna.search import search

Get = Callable[[str], Any]


@pytest.fixture
def get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Get]:
    """Asks a dashboard that shows a finished study."""
    monkeypatch.chdir(tmp_path)
    search(compose_config(*SHORT, "estimation.epochs=2"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dashboard = [str(Path(sys.executable).parent / "optuna-dashboard"), "--quiet", "--port", str(port)]
    server = subprocess.Popen([*dashboard, "sqlite:///runs/study/study.db"])
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(path: str) -> Any:
        with opener.open(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            return json.load(response)

    try:
        _wait_until_open(port, server)
        yield ask
    finally:
        server.kill()
        server.wait()


def _wait_until_open(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert server.poll() is None, "optuna-dashboard ended"
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail("optuna-dashboard did not answer within a minute")


def test_dashboard_lists_values_parameters_and_curves(get: Get) -> None:
    studies = get("/api/studies")["study_summaries"]
    assert [study["study_name"] for study in studies] == ["study"]
    detail = get(f"/api/studies/{studies[0]['study_id']}?after=0")
    assert len(detail["trials"]) == 2
    for trial in detail["trials"]:
        assert trial["state"] == "Complete"
        assert {"stage1.depth", "stage1.block1.layer"} <= {parameter["name"] for parameter in trial["params"]}
        assert [point["step"] for point in trial["intermediate_values"]] == [1, 2]
        assert trial["values"] == [trial["intermediate_values"][-1]["value"]]
        assert {"network", "macs", "params"} <= {attribute["key"] for attribute in trial["user_attrs"]}
