"""Processes that a test starts end with it, also when it fails."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest
from lab import sweeping


@pytest.fixture
def start() -> Iterator[Callable[[list[str]], subprocess.Popen[str]]]:
    """Starts a command in the background; killed at the end, which ends its workers too."""
    started: list[subprocess.Popen[str]] = []

    def begin(words: list[str]) -> subprocess.Popen[str]:
        started.append(sweeping.popen(words))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()
