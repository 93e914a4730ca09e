"""The page of a comparison as people see it: on a wide and on a narrow screen, light and dark."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from browser import NARROW, WIDE, complaints, needs_browser, open_browser, overflowing, requested, screenshot
from conftest import SHORT, run_command

pytestmark = [pytest.mark.slow, needs_browser]

SCREENSHOTS = os.environ.get("NAS_OPTUNA_SCREENSHOTS")  # a folder to keep them in; else the test's own
LOOKS = list(itertools.product(("light", "dark"), ("wide", "narrow")))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two strategies with two seeds each, compared."""
    folder = tmp_path_factory.mktemp("comparison")
    many = ("strategy=auto,random", "seed=0,1", "n_trials=4", "estimation.data_share=0.2")
    searched = run_command("nas_optuna", "-m", *SHORT, *many, folder=folder)
    assert searched.returncode == 0, searched.stderr
    compared = run_command("nas_optuna.compare", "runs/*", folder=folder)
    assert compared.returncode == 0, compared.stderr
    return folder / "runs" / "compare" / "compare.html"


@pytest.mark.parametrize(("ground", "screen"), LOOKS)
def test_comparison_is_drawn_without_a_network_and_fits_the_screen(
    ground: str, screen: str, page: Path, tmp_path: Path
) -> None:
    with open_browser(WIDE if screen == "wide" else NARROW, dark=ground == "dark", offline=True) as driver:
        driver.get(page.as_uri())
        places = driver.find_elements("css selector", ".plot")
        assert [place.get_attribute("id") for place in places] == [
            "figure-progress-networks",
            "figure-progress-seconds",
            "figure-scores-networks",
            "figure-scores-seconds",
            "figure-scores-tested",
        ]
        # each has three layers
        assert len(driver.find_elements("css selector", ".plot .main-svg")) == 3 * len(places)
        assert overflowing(driver) == []
        assert requested(driver) == [page.as_uri()]
        assert complaints(driver) == []
        folder = Path(SCREENSHOTS) if SCREENSHOTS else tmp_path
        screenshot(driver, folder / f"comparison-{ground}-{screen}.png")
