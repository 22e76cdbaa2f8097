"""First names: to sample new ones letter by letter, or to tell who bears them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .sources import SOURCES, read_table

Array = np.ndarray


@dataclass(frozen=True)
class Names:
    """names: N different ones, lower-case letters a-z, sorted. shares: float64 (N, 2), how many of
    100 women and of 100 men bear it. labels: int64 (N,), which of the two shares is larger:
    0 in `classes` is "female", 1 is "male". 331 names are borne by both.
    """

    names: tuple[str, ...]
    shares: Array
    labels: Array
    classes: tuple[str, ...]
    source: str
    licence: str

    def __len__(self) -> int:
        return len(self.names)


def names() -> Names:
    """The 5,163 most frequent first names in the 1990 census of the United States.

    >>> found = names()
    >>> len(found), found.names[:3], found.classes[found.labels[0]]
    (5163, ('aaron', 'abbey', 'abbie'), 'male')
    """
    _, rows = read_table("names")
    shares = np.array([[float(share or 0) for share in row[1:]] for row in rows])
    source = SOURCES["names"]
    return Names(
        names=tuple(row[0].lower() for row in rows),
        shares=shares,
        labels=shares.argmax(axis=1).astype(np.int64),
        classes=("female", "male"),
        source=source.origin,
        licence=source.licence,
    )
