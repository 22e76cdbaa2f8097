"""The browser that the tests of the explorer share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import explorer_browser
import pytest
from explorer_pages import default_run, network

from minigrad.flow import explorer


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if why := explorer_browser.missing():
        pytest.skip(why)
    found = explorer_browser.start(tmp_path_factory.mktemp("profile"))
    yield found
    found.quit()


@pytest.fixture
def tab(driver: Any, tmp_path: Path) -> Iterator[explorer_browser.Tab]:
    """A tab; its console must hold no error and no warning when the test is over."""
    found = explorer_browser.Tab(driver, tmp_path)
    found.reset()
    yield found
    assert found.said() == []


@pytest.fixture(scope="session")
def four() -> str:
    """The page of four cells over 20 steps, before and after training."""
    cells = default_run(steps=20, units=7, batch=2)
    text = dict.fromkeys(cells, "abcdefghijklmnopqrstuvwxyzabcdefghijklmno")
    return explorer.page(cells, title="Four cells", text=text, notes="a note")


@pytest.fixture(scope="session")
def lstm() -> str:
    """The page of one LSTM over 9 steps."""
    return explorer.page({"LSTM": network("lstm", steps=9)}, text="gradients")
