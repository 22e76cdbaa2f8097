"""The memory of one call of a scan: arrays by name, some of their own, the rest in one block."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..kernels import arena
from ..kernels.arena import LINE, address

Array = np.ndarray


class Storage:
    """name -> array. What only kernels read lies side by side in blocks, without an array object
    until somebody asks for it: making fifty of them would take as long as a small kernel runs.

    before: storage whose names are found here too.
    """

    def __init__(self, before: Storage | None = None):
        self.arrays: dict[str, Array] = dict(before.arrays) if before else {}
        self.spans: dict[str, tuple[Array, int, tuple[int, ...], Any]] = (
            dict(before.spans) if before else {}
        )
        self.addresses: dict[str, int] = dict(before.addresses) if before else {}

    def put(self, name: str, array: Array) -> Array:
        """Keeps an array that is there already."""
        self.arrays[name] = array
        self.addresses[name] = address(array)
        return array

    def make(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """A new array of its own."""
        return self.put(name, arena.empty(shape, dtype))

    def block(self, wanted: Iterable[tuple[str, tuple[int, ...], Any]]) -> None:
        """New arrays in one block of memory."""
        places, total = [], 0
        for name, shape, dtype in wanted:
            places.append((name, total, shape, dtype))
            total += -(-math.prod(shape) * dtype.itemsize // LINE) * LINE
        if not places:
            return
        memory = arena.empty((total,), np.uint8)
        start = address(memory)
        for name, offset, shape, dtype in places:
            self.spans[name] = memory, offset, shape, dtype
            self.addresses[name] = start + offset

    def __getitem__(self, name: str) -> Array:
        if name not in self.arrays:
            memory, offset, shape, dtype = self.spans[name]
            self.arrays[name] = np.ndarray(shape, dtype, memory, offset)
        return self.arrays[name]

    def __contains__(self, name: str) -> bool:
        return name in self.addresses

    def owners(self) -> list[Array]:
        """Each piece of memory once."""
        found = {id(a): a for a in self.arrays.values()}
        found |= {id(memory): memory for memory, *_ in self.spans.values()}
        return list(found.values())
