"""A headless Chromium for tests of the explorer, and words for what they do in it.

Needs Chromium and its driver (Debian: chromium, chromium-driver) and selenium; `missing()` says
which of them is not there.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-quic", "--disable-dev-shm-usage", "--force-color-profile=srgb",
)  # fmt: skip


def browser() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def missing() -> str:
    """What the tests lack here; empty if they can run."""
    if importlib.util.find_spec("selenium") is None:
        return "selenium is not installed"
    if browser() is None:
        return f"no browser: none of {', '.join(BROWSERS)}"
    if shutil.which("chromedriver") is None:
        return "no chromedriver (Debian: chromium-driver)"
    return ""


def start(profile: Path) -> Any:
    """A browser with a profile of its own; the driver is the one that is installed."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = browser() or ""
    for option in (*OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = shutil.which("chromedriver")
    return webdriver.Chrome(options=options, service=Service(executable_path=driver))


class Tab:
    """The browser, with words for what the tests do."""

    def __init__(self, driver: Any, folder: Path):
        self.driver, self.folder = driver, folder

    def emulate(self, width: int = 1280, dark: bool = False, still: bool = False) -> None:
        command = self.driver.execute_cdp_cmd
        metrics = dict(width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        command("Emulation.setDeviceMetricsOverride", metrics)
        features = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "reduce" if still else "no-preference",
        }
        found = [{"name": name, "value": value} for name, value in features.items()]
        command("Emulation.setEmulatedMedia", {"features": found})

    def open(self, page: str) -> Tab:
        path = self.folder / "page.html"
        path.write_bytes(page.encode())
        self.driver.get(path.as_uri())
        self.until(lambda: self.js("return document.documentElement.dataset.ready === 'true'"))
        return self

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, true: Callable[[], Any]) -> Any:
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, 5, 0.02).until(lambda _: true())

    def find(self, css: str) -> Any:
        return self.driver.find_element("css selector", css)

    def all(self, css: str) -> list[Any]:
        return self.driver.find_elements("css selector", css)

    def text(self, css: str) -> str:
        return " ".join(
            self.js("return document.querySelector(arguments[0]).innerText", css).split()
        )

    def count(self, css: str) -> int:
        return self.js("return document.querySelectorAll(arguments[0]).length", css)

    def node(self, label: str) -> Any:
        return self.find(f'.node[aria-label^="{label}"]')

    def slide(self, value: int) -> None:
        self.js(
            "const s = document.getElementById('time'); s.value = arguments[0];"
            "s.dispatchEvent(new Event('input', {bubbles: true}))",
            value,
        )

    def choose(self, css: str, value: str) -> None:
        self.js(
            "const s = document.querySelector(arguments[0]); s.value = arguments[1];"
            "s.dispatchEvent(new Event('change', {bubbles: true}))",
            css, value,
        )  # fmt: skip

    def press(self, key: str, css: str = "body") -> None:
        self.find(css).send_keys(key)

    def said(self) -> list[str]:
        """What the console holds: errors, warnings, blocked requests."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Everything that was asked for since the last call."""
        found = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(message["params"]["request"]["url"])
        return found

    def reset(self) -> None:
        """A light desktop with nothing stored, and nothing said so far."""
        everything = {"origin": "*", "storageTypes": "all"}
        self.driver.execute_cdp_cmd("Storage.clearDataForOrigin", everything)
        self.emulate()
        self.said()
        self.requests()
