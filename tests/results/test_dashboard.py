"""optuna-dashboard, as an application, on a study of ours."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from conftest import SHORT, compose_config

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the dashboard imports is its own affair
    import optuna_dashboard

from nas_optuna.search import search


def get(application: Any, path: str) -> Any:
    answer: list[str] = []
    body = application(
        {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": path,
            "QUERY_STRING": "after=0",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": io.StringIO(),
            "wsgi.url_scheme": "http",
        },
        lambda status, headers: answer.append(status),
    )
    assert answer[0].startswith("200"), answer
    return json.loads(b"".join(body))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_dashboard_lists_values_parameters_and_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    search(compose_config(*SHORT, "estimation.epochs=2"))
    application = optuna_dashboard.wsgi("sqlite:///runs/study/study.db")
    studies = get(application, "/api/studies")["study_summaries"]
    assert [study["study_name"] for study in studies] == ["study"]
    detail = get(application, f"/api/studies/{studies[0]['study_id']}")
    assert len(detail["trials"]) == 2
    for trial in detail["trials"]:
        assert trial["state"] == "Complete"
        assert {"stage1.depth", "stage1.block1.layer"} <= {parameter["name"] for parameter in trial["params"]}
        assert [point["step"] for point in trial["intermediate_values"]] == [1, 2]
        assert trial["values"] == [trial["intermediate_values"][-1]["value"]]
        assert {"network", "macs", "params"} <= {attribute["key"] for attribute in trial["user_attrs"]}
