"""The report as people see it: in a real browser, on a wide and on a narrow screen, light and dark."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import NARROW, WIDE, complaints, needs_browser, open_browser, overflowing, requested, screenshot
from conftest import SHORT, run_command

pytestmark = [pytest.mark.slow, needs_browser]

SCREENSHOTS = os.environ.get("NAS_OPTUNA_SCREENSHOTS")  # a folder to keep them in; else the test's own
LOOKS = list(itertools.product(("light", "dark"), ("wide", "narrow")))


@pytest.fixture(scope="module")
def report() -> Iterator[Path]:
    """A report of enough networks for every figure, moved away from its study."""
    folder = Path(tempfile.mkdtemp())
    words = [
        "study_name=shown",
        "n_trials=40",
        "estimation.epochs=4",
        "estimation.data_share=0.3",
        "objective=accuracy_macs",
        "objective.limits.macs=2e6",
        "final.epochs=4",
    ]
    result = run_command("nas_optuna", *SHORT, *words, "estimation=curves", folder=folder)
    assert result.returncode == 0, result.stderr
    moved = folder / "elsewhere" / "report.html"
    moved.parent.mkdir()
    shutil.move(folder / "runs" / "shown" / "report.html", moved)
    shutil.rmtree(folder / "runs")
    yield moved
    shutil.rmtree(folder)


@pytest.mark.parametrize(("ground", "screen"), LOOKS)
def test_report_is_drawn_without_a_network_and_fits_the_screen(
    ground: str, screen: str, report: Path, tmp_path: Path
) -> None:
    size = WIDE if screen == "wide" else NARROW
    with open_browser(size, dark=ground == "dark", offline=True) as driver:
        driver.get(report.as_uri())
        places = driver.find_elements("css selector", ".plot")
        drawn = driver.find_elements("css selector", ".plot .main-svg")
        assert {place.get_attribute("id") for place in places} >= {
            "figure-front",
            "figure-confusion",
            "figure-seconds",
            "figure-evaluations",
            "figure-curves",
            "figure-time",
            "figure-importance",
            "figure-kinds",
        }
        # each has three layers
        assert len(drawn) == 3 * len(places)
        for details in driver.find_elements("css selector", "details"):
            driver.execute_script("arguments[0].open = true", details)
        (picture,) = driver.find_elements("css selector", ".picture img")
        assert int(picture.get_property("naturalWidth")) == 760
        assert overflowing(driver) == []
        assert requested(driver) == [report.as_uri()]
        assert complaints(driver) == []
        ground_colour = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert ground_colour == ("rgb(20, 24, 31)" if ground == "dark" else "rgb(255, 255, 255)")
        folder = Path(SCREENSHOTS) if SCREENSHOTS else tmp_path
        screenshot(driver, folder / f"report-{ground}-{screen}.png")
