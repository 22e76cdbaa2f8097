"""A file of a package, and what the functions that read such files need."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple
from unittest import mock

import numpy as np

Array = np.ndarray
# How far outputs may be from each other, relative to the largest, where nothing is wrong: roundings
# of float32, and what 8 bits would have rounded.
EXACT, ROUNDED = 1e-4, 0.1


class Found(NamedTuple):
    """What was read: whole, layers or weights; and pairs of outputs: minigrad's and the other's."""

    read: str
    pairs: list[tuple[Array, Array]]


class Case(NamedTuple):
    """One file of a package, and the net in it.

    against: what computes the same; "" for a file that is refused. within: how far they may be from
    each other, relative to the largest output.
    """

    package: str
    version: str
    file: str
    net: str
    against: str
    compare: Callable[[Path], Found]
    registry: str = "PyPI"
    within: float = EXACT

    def run(self, folder: Path) -> Found:
        return self.compare(folder / self.file)


def values(*shape: int) -> Array:
    """Random numbers, the same at each call."""
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def indices(n: int, *shape: int) -> Array:
    """Random indices of n rows, but for row 0, which is padding in most nets."""
    return np.random.default_rng(0).integers(1, n, shape)


def package(path: Path, name: str, without: Sequence[str] = ()) -> ModuleType:
    """A module of the package that `path` lies in; its __init__ and the modules `without`, which
    the net does not need, are not imported.
    """
    top = name.partition(".")[0]
    above = next(parent for parent in path.parents if (parent / top).is_dir())
    bare = ModuleType(top)
    bare.__path__ = [str(above / top)]
    sys.modules[top] = bare
    for other in without:
        sys.modules.setdefault(other, mock.MagicMock())
    return importlib.import_module(name)
