"""optuna-dashboard on a search of ours, in a real browser.

Pictures of its pages are kept where NAS_OPTUNA_SCREENSHOTS says, else with the test's files.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from browser import complaints, needs_browser, open_browser, screenshot
from conftest import SHORT, compose_config
from optuna.artifacts import get_all_artifact_meta
from optuna.trial import TrialState
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from served import serve

from nas_optuna.search import search

pytestmark = [pytest.mark.slow, needs_browser]

SECONDS = 60
TALL = (1280, 1900)  # these pages scroll inside
COLOURS = 128  # of a kept picture: a page has few, and a file in the documentation shall be small
PICTURES = 'img.MuiCardMedia-img[src*="/artifacts/"]'
FIGURES = '[id^="user-defined-plot:"]'

Keep = Callable[..., None]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a search of a few seconds ran."""
    folder = tmp_path_factory.mktemp("search")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        search(
            compose_config(
                *SHORT, "n_trials=24", "estimation.epochs=5", "final.epochs=5", "study_name=digits", "seed=1"
            )
        )
    return folder


@pytest.fixture(scope="module")
def address(finished: Path) -> Iterator[str]:
    with serve(finished) as place:
        yield place


@pytest.fixture
def study(finished: Path) -> optuna.Study:
    return optuna.load_study(study_name="digits", storage=f"sqlite:///{finished}/runs/digits/study.db")


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    folder = Path(os.environ.get("NAS_OPTUNA_SCREENSHOTS", tmp_path)).absolute()

    def take(driver: Any, name: str, *, whole: bool = True) -> None:
        path = folder / f"dashboard_{name}.png"
        if whole:
            screenshot(driver, path)
        else:
            driver.save_screenshot(str(path))
        picture = Image.open(io.BytesIO(path.read_bytes())).convert("RGB")
        picture.quantize(COLOURS).save(path, optimize=True)

    return take


def wait(driver: Any, condition: Callable[[Any], Any]) -> Any:
    return WebDriverWait(driver, SECONDS).until(condition)


def all_of(driver: Any, selector: str) -> list[Any]:
    return list(driver.find_elements(By.CSS_SELECTOR, selector))


def has_loaded(driver: Any, selector: str) -> Callable[[Any], list[Any]]:
    """Pictures, once there are some and all of them are there."""

    def look(_: Any) -> list[Any]:
        found = all_of(driver, selector)
        sizes = [driver.execute_script("return arguments[0].naturalWidth", each) for each in found]
        return found if sizes and all(sizes) else []

    return look


def grounds(driver: Any) -> tuple[float, float]:
    """How bright the page and its text are, 0 to 255."""
    script = """
    const colours = [...document.querySelectorAll("div")]
      .filter((part) => part.offsetHeight >= innerHeight)
      .map((part) => getComputedStyle(part).backgroundColor)
      .filter((colour) => !colour.startsWith("rgba"));
    return [colours[0], getComputedStyle(document.body).color];
    """
    ground, text = driver.execute_script(script)
    return _brightness(ground), _brightness(text)


def _brightness(colour: str) -> float:
    numbers = [float(word) for word in colour.partition("(")[2].strip(")").split(",")[:3]]
    return sum(numbers) / 3


@pytest.mark.parametrize("dark", [False, True])
def test_trial_page_shows_the_network_and_its_curve(
    address: str, study: optuna.Study, keep: Keep, dark: bool
) -> None:
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    # the best that has something to say under a block
    trial = max(complete, key=lambda trial: ("dwsep" in trial.user_attrs["network"], trial.value))
    names = {meta.filename: meta.artifact_id for meta in get_all_artifact_meta(trial, storage=study._storage)}
    with open_browser(TALL, dark=dark) as driver:
        driver.get(f"{address}/trials?numbers={trial.number}")
        pictures = wait(driver, has_loaded(driver, PICTURES))
        shown = {picture.get_attribute("src").rpartition("/")[2]: picture for picture in pictures}
        assert set(shown) == {names["network.svg"], names["curve.svg"]}
        # large enough to be read: the dashboard's own cards are 200 pixels wide
        assert shown[names["network.svg"]].size["width"] > 600
        assert shown[names["network.svg"]].size["height"] > 400
        keep(driver, f"trial{'_dark' if dark else ''}")
        button = driver.find_element(By.CSS_SELECTOR, '[aria-label="show artifact table"]')
        driver.execute_script("arguments[0].click()", button)
        wait(
            driver,
            lambda _: len(all_of(driver, ".MuiModal-root table tbody tr")) >= len(trial.intermediate_values),
        )
        cells = [cell.text for cell in all_of(driver, ".MuiModal-root table tbody td")]
        for epoch, accuracy in trial.intermediate_values.items():
            assert [str(epoch), str(accuracy)] in [
                cells[index : index + 2] for index in range(0, len(cells), 2)
            ]
        keep(driver, f"curve{'_dark' if dark else ''}")
        assert not complaints(driver)


@pytest.mark.parametrize("dark", [False, True])
def test_note_shows_the_best_networks_and_the_winner(
    address: str, study: optuna.Study, keep: Keep, dark: bool
) -> None:
    with open_browser(TALL, dark=dark) as driver:
        driver.get(f"{address}/note")
        wait(driver, has_loaded(driver, 'img[alt$="of the winner"]'))
        assert len(all_of(driver, 'img[alt$="of the winner"]')) == 2
        text = driver.find_element(By.TAG_NAME, "body").text
        test = study.user_attrs["final"]["test"]
        for words in (f"Test accuracy {test['accuracy']:.4f}", "Best networks", "Go on", "nas_optuna.export"):
            assert words in text
        assert study.trials[test["number"]].user_attrs["network"] in text
        keep(driver, f"note{'_dark' if dark else ''}")
        # the trials are linked
        driver.find_element(By.LINK_TEXT, str(test["number"])).click()
        wait(driver, lambda _: f"Trial {test['number']} (" in driver.find_element(By.TAG_NAME, "body").text)
        assert not complaints(driver)


@pytest.mark.parametrize("dark", [False, True])
def test_study_page_shows_the_figures(address: str, study: optuna.Study, keep: Keep, dark: bool) -> None:
    saved = study._storage.get_study_system_attrs(study._study_id)
    ids = {name.split(":")[2] for name in saved if name.startswith("dashboard:plot_data:")}
    with open_browser((1280, 1180), dark=dark) as driver:
        driver.get(address)
        wait(driver, lambda _: len(all_of(driver, f"{FIGURES} .main-svg")) >= len(ids))
        figures = all_of(driver, FIGURES)
        assert {each.get_attribute("id").partition(":")[2] for each in figures} == ids
        boxes = [each.rect for each in figures]
        for figure, box in zip(figures, boxes, strict=True):
            drawn = figure.find_element(By.CSS_SELECTOR, ".main-svg").rect
            # neither cut off nor over its neighbour
            assert drawn["height"] <= box["height"]
            assert drawn["width"] <= box["width"] + 1
        page, text = grounds(driver)
        assert (page < 60 < 180 < text) if dark else (text < 60 < 180 < page)
        label = driver.find_element(By.CSS_SELECTOR, f"{FIGURES} text.gtitle")
        assert _brightness(label.value_of_css_property("fill")) == pytest.approx(text, abs=1)
        keep(driver, f"study{'_dark' if dark else ''}")
        driver.execute_script("arguments[0].scrollIntoView()", figures[0])
        driver.execute_script("window.scrollBy(0, -90)")  # the page's own bar
        keep(driver, f"figures{'_dark' if dark else ''}", whole=False)
        assert not complaints(driver)


def test_figures_follow_the_dashboards_own_switch(address: str) -> None:
    with open_browser() as driver:
        driver.get(address)
        wait(driver, lambda _: all_of(driver, f"{FIGURES} text.gtitle"))
        driver.find_element(By.CSS_SELECTOR, '[title="Dark Mode"] [role="button"]').click()
        label = driver.find_element(By.CSS_SELECTOR, f"{FIGURES} text.gtitle")
        wait(driver, lambda _: _brightness(label.value_of_css_property("fill")) > 180)
