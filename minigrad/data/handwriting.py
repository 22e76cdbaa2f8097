"""Handwritten digits, small enough to print."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .sources import SOURCES, read

Array = np.ndarray


@dataclass(frozen=True)
class Images:
    """images: uint8 (N, height, width). levels: the brightest value. labels: int64 (N,)."""

    images: Array
    labels: Array
    classes: tuple[str, ...]
    levels: int
    unit: str
    source: str
    licence: str

    def __len__(self) -> int:
        return len(self.images)

    def sequences(self) -> Array:
        """float64 (height, N, width): each image as a sequence of its rows, from 0 to 1."""
        return self.images.transpose(1, 0, 2) / float(self.levels)


def digits() -> Images:
    """1,797 digits, 8 x 8 pixels from 0 to 16, by 13 people.

    Who wrote which is not recorded: a random split has the same hands in all parts, so its error is
    lower than that on a stranger's digits.

    >>> found = digits()
    >>> found.images.shape, found.labels[:4].tolist()
    ((1797, 8, 8), [0, 1, 2, 3])
    >>> for row in found.images[0]: print("".join(".:-=+*o#%@"[v * 9 // 16] for v in row))
    ..-#*...
    ..#%*%-.
    .:%:.o+.
    .-o..++.
    .-+..*+.
    .-o..o=.
    .:#-*o..
    ..=#*...
    """
    lines = read("digits").split()[1:]
    rows = np.array([line.split(b",") for line in lines], np.int64)
    source = SOURCES["digits"]
    return Images(
        images=rows[:, 1:].astype(np.uint8).reshape(-1, 8, 8),
        labels=rows[:, 0].copy(),
        classes=tuple("0123456789"),
        levels=16,
        unit="ink, 0 to 16",
        source=source.origin,
        licence=source.licence,
    )
