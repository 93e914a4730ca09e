#!/usr/bin/env python3
"""What the dashboard's files, note and figures cost a search, and how long its pages take to be usable.

    .venv/bin/python scripts/check_dashboard.py --trials 2000 \
        +experiment=nasbench_macro estimation.table=nas-bench-macro_cifar10.json strategy=random
    .venv/bin/python scripts/check_dashboard.py +experiment=digits

Runs the search of these overrides, with ``dashboard=true`` and with ``dashboard=false``, in folders of their
own, then opens both in Chromium (which has to be there, with chromedriver). The last line is one JSON object
with, for both: ``trial_milliseconds`` (mean, from ask to tell), ``show_share`` (of that, into a trial's
files), ``refresh_share`` (of the search, into note and figures while it ran), ``finish_seconds`` (note and
figures at its end), ``shown`` (trials that have files), ``files_megabytes``, ``database_megabytes``,
``load_seconds`` (the study's trials read by Optuna), ``answer_seconds`` and ``answer_megabytes`` (the first
answer of the dashboard's server about the study, and the next), ``page_seconds`` (until the study's page
shows its last figure) and ``trial_page_seconds``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from hydra import compose, initialize_config_module
from optuna.artifacts import get_all_artifact_meta
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from nas_optuna.cores import processor
from nas_optuna.dashboard import Fresh
from nas_optuna.search import search
from nas_optuna.storages import open_storage

PATIENCE = 300  # seconds for a page
PLOTS = ".js-plotly-plot .main-svg"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--trials", type=int, help="networks trained; default: the experiment's")
    options.add_argument("overrides", nargs="+", help="of a search")
    given = options.parse_args()
    overrides = [*given.overrides, *([f"n_trials={given.trials}"] if given.trials else [])]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for wanted in (True, False):
            place = Path(folder) / f"dashboard-{wanted}".lower()
            found[f"dashboard={wanted}".lower()] = run(overrides, place, wanted) | look(place)
    print(json.dumps(found | {"hardware": processor(), "optuna": optuna.__version__}))


def run(overrides: list[str], folder: Path, wanted: bool) -> dict[str, float]:
    """Search, and tell what it took."""
    spent = _listen()
    place = [f"study_dir={folder}", f"dashboard={wanted}", "study_name=check"]
    with initialize_config_module("nas_optuna.conf", version_base="1.3"):
        config = compose("config", overrides=[*overrides, *place])
    search(config)
    timing = json.loads((folder / "timing.json").read_text())
    seconds, trials = sum(timing["seconds"].values()), timing["trials"]
    study = optuna.load_study(study_name="check", storage=f"sqlite:///{folder / 'study.db'}")
    return {
        "trials": len(trials),
        "trial_milliseconds": round(1000 * seconds / len(trials), 2),
        "show_share": round(timing["seconds"].get("show", 0.0) / seconds, 5),
        "refresh_share": round(spent["after_trial"] / study.user_attrs["search_seconds"], 5),
        "search_seconds": study.user_attrs["search_seconds"],
        "finish_seconds": round(spent["finish"], 3),
    }


def _listen() -> dict[str, float]:
    """Seconds that note and figures take, by what asks for them."""
    spent = {"after_trial": 0.0, "finish": 0.0}

    def timed(name: str) -> Any:
        method = _METHODS[name]

        def measure(self: Fresh) -> None:
            started = time.perf_counter()
            method(self)
            spent[name] += time.perf_counter() - started

        return measure

    for name in spent:
        setattr(Fresh, name, timed(name))
    return spent


_METHODS = {name: getattr(Fresh, name) for name in ("after_trial", "finish")}


def look(folder: Path) -> dict[str, float]:
    """Open the study as its user would."""
    address = f"sqlite:///{folder / 'study.db'}"
    started = time.perf_counter()
    study = optuna.load_study(study_name="check", storage=open_storage(address))
    trials = study.get_trials(deepcopy=False)
    found = {"load_seconds": round(time.perf_counter() - started, 3)}
    shown = [trial for trial in trials if get_all_artifact_meta(trial, storage=study._storage)]
    found |= {
        "shown": len(shown),
        "files_megabytes": _megabytes(*folder.glob("artifacts/*")),
        "database_megabytes": _megabytes(*folder.glob("study.db*")),
    }
    with _serve(address, folder) as root:
        for name in ("", "next_"):
            started = time.perf_counter()
            answer = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                f"{root}/api/studies/1?after=0"
            )
            found[f"{name}answer_megabytes"] = round(len(answer.read()) / 1e6, 3)
            found[f"{name}answer_seconds"] = round(time.perf_counter() - started, 3)
        number = shown[-1].number if shown else trials[-1].number
        found |= _browse(root, number)
    return found


def _megabytes(*files: Path) -> float:
    return round(sum(file.stat().st_size for file in files) / 1e6, 3)


@contextmanager
def _serve(address: str, folder: Path) -> Iterator[str]:
    """The server of optuna-dashboard alone: the command of ours would make note and figures first."""
    code = (
        "import sys; from optuna_dashboard import wsgi; from nas_optuna.artifacts import Store; "
        "from nas_optuna.dashboard.server import Address, bind; "
        "from nas_optuna.storages import open_storage; "
        "from pathlib import Path; "
        "app = wsgi(open_storage(sys.argv[1]), artifact_store=Store(Path(sys.argv[2]))); "
        "server = bind(Address('127.0.0.1', 0), app); print(server.server_port, flush=True); "
        "server.serve_forever()"
    )
    command = [sys.executable, "-c", code, address, str(folder / "artifacts")]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
    finally:
        server.kill()
        server.wait()


def _browse(root: str, number: int) -> dict[str, float]:
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_page_load_timeout(PATIENCE)
    driver.set_script_timeout(PATIENCE)
    try:
        driver.get(f"{root}/dashboard")  # what a browser keeps is not what is timed
        pages = {
            "page_seconds": (f"{root}/dashboard/studies/1", "Best Trial (number="),
            "trial_page_seconds": (
                f"{root}/dashboard/studies/1/trials?numbers={number}",
                f"Trial {number} (",
            ),
        }
        return {name: _time_page(driver, *page) for name, page in pages.items()}
    finally:
        driver.quit()


def _time_page(driver: webdriver.Chrome, address: str, words: str) -> float:
    """Seconds until the page says these words and no more plots come."""
    started = time.perf_counter()
    driver.get(address)
    WebDriverWait(driver, PATIENCE, poll_frequency=0.1).until(
        lambda _: words in driver.find_element(By.TAG_NAME, "body").text
    )
    before, last = -1, time.perf_counter()
    while (count := len(driver.find_elements(By.CSS_SELECTOR, PLOTS))) != before:
        before, last = count, time.perf_counter()
        time.sleep(1.0)
    return round(last - started, 2)


if __name__ == "__main__":
    main()
