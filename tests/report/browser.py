"""A real browser without a screen, for the tests of what people look at."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")

needs_browser = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="needs chromium and chromedriver on the PATH"
)

WIDE, NARROW = (1280, 900), (360, 740)


@contextmanager
def open_browser(
    size: tuple[int, int] = WIDE, *, dark: bool = False, offline: bool = False
) -> Iterator[webdriver.Chrome]:
    """A browser of a screen's width and height in CSS pixels.

    Args:
        size: ``WIDE`` or ``NARROW``, which is a phone's.
        dark: Whether its user likes a dark ground.
        offline: Whether it has no network; it still opens files.
    """
    assert CHROMIUM is not None
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.set_page_load_timeout(60)
        width, height = size
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        if offline:
            driver.execute_cdp_cmd("Network.enable", {})
            nothing = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
            driver.execute_cdp_cmd("Network.emulateNetworkConditions", nothing)
        yield driver
    finally:
        driver.quit()


def screenshot(driver: webdriver.Chrome, path: Path) -> None:
    """Keep a picture of the whole page, beyond what fits on the screen."""
    size = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
    taken = driver.execute_cdp_cmd(
        "Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True, "clip": clip}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(base64.b64decode(taken["data"]))


def requested(driver: webdriver.Chrome) -> list[str]:
    """Addresses that pages asked for since this was last asked, what they hold themselves left out."""
    entries = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [entry["params"] for entry in entries if entry["method"] == "Network.requestWillBeSent"]
    return [params["request"]["url"] for params in sent if not params["request"]["url"].startswith("data:")]


def complaints(driver: webdriver.Chrome) -> list[dict[str, Any]]:
    """Errors and warnings of the page's scripts since this was last asked."""
    return [entry for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def overflowing(driver: webdriver.Chrome) -> list[str]:
    """What reaches beyond the right edge of the page, but for what scrolls in a part of its own."""
    found: list[str] = driver.execute_script(
        """
        const width = document.documentElement.clientWidth;
        const scrolls = (element) => {
          for (let part = element; part && part !== document.body; part = part.parentElement)
            if (["auto", "scroll", "hidden"].includes(getComputedStyle(part).overflowX)) return true;
          return false;
        };
        const wide = [...document.body.querySelectorAll("*")].filter((element) => {
          const box = element.getBoundingClientRect();
          return box.width > 0 && box.right > width + 1 && !scrolls(element.parentElement);
        });
        const names = wide.map((element) => element.tagName + "." + element.getAttribute("class"));
        if (document.documentElement.scrollWidth > width + 1) names.push("the page");
        return names;
        """
    )
    return found
