"""Layers start from the same numbers on every run."""

from __future__ import annotations

import pytest

import minigrad as mg


@pytest.fixture(autouse=True)
def seeded() -> None:
    mg.seed(0)
