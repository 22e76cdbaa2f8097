"""Where the arrays of a call lie, and the words that kernels are called with, for given sizes.

All that is known before a call is worked out once: of every array the piece of memory that holds
it and its place there, of every word the constant that is added to where its piece begins. A call
fills in where the pieces begin.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..kernels.arena import LINE

Array = np.ndarray


class Span(NamedTuple):
    """An array in a piece of memory; offset and strides in bytes."""

    piece: int
    offset: int
    shape: tuple[int, ...]
    dtype: Any
    strides: tuple[int, ...] | None = None

    def of(self, pieces: Sequence[Any]) -> Array:
        return np.ndarray(self.shape, self.dtype, pieces[self.piece], self.offset, self.strides)

    def begins(self, beginnings: Sequence[int]) -> int:
        """Its address, where pieces begin there."""
        return beginnings[self.piece] + self.offset

    def row(self, index: int, shape: tuple[int, ...] | None = None) -> Span:
        """The array at one index of the first axis, perhaps in another shape."""
        inner = self.shape[1:]
        size = math.prod(inner) * self.dtype.itemsize
        return Span(self.piece, self.offset + index * size, shape or inner, self.dtype)

    def rows(self, begin: int, count: int) -> Span:
        """`count` of them, from `begin` on."""
        return self.row(begin, (count, *self.shape[1:]))


def views(spans: Iterable[Span], pieces: Sequence[Any]) -> list[Array]:
    """Where each of several arrays is."""
    found = []
    for piece, offset, shape, dtype, strides in spans:
        found.append(np.ndarray(shape, dtype, pieces[piece], offset, strides))
    return found


class Room:
    """A piece of memory in which arrays lie side by side, each from a cache line on."""

    def __init__(self, piece: int):
        self.piece, self.size = piece, 0

    def add(self, shape: tuple[int, ...], dtype: Any) -> Span:
        span = Span(self.piece, self.size, shape, dtype)
        self.size += -(-math.prod(shape) * dtype.itemsize // LINE) * LINE
        return span


class Words:
    """Numbers that are a constant plus where a piece of memory begins; piece 0 begins at 0."""

    def __init__(self) -> None:
        self._constants: list[int] = []
        self._pieces: list[int] = []
        self._ready: tuple[Array, Array] | None = None

    def __len__(self) -> int:
        return len(self._constants)

    def add(self, constant: int, piece: int = 0) -> None:
        self._constants.append(constant)
        self._pieces.append(piece)

    def place(self, span: Span) -> None:
        """The address of an array."""
        self.add(span.offset, span.piece)

    def pieces(self) -> set[int]:
        """The pieces of memory that the words point into."""
        return set(self._pieces)

    def at(self, beginnings: Sequence[int]) -> Array:
        if self._ready is None:
            self._ready = np.array(self._constants, np.int64), np.array(self._pieces)
        constants, pieces = self._ready
        words: Array = np.array(beginnings, np.int64).take(pieces)
        words += constants
        return words
