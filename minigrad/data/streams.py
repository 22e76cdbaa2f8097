"""One long text or series in pieces that follow each other, for truncated BPTT.

stream = mg.data.Stream(ids, length=100, batch=16)
for xs, ys in stream:                               # (100, 16) each; ys is one step ahead
    out, state = lstm(xs, state)                    # the state goes on with the same columns
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .sources import DataError

Array = np.ndarray


class Stream:
    """Iterable over (xs, ys), each (length, batch): column b of a piece follows column b of the one
    before, so that a carried state fits. ys holds the next step for each of xs.

    values: (T, ...). The T - 1 steps that have a next one are cut in `batch` equal columns, each in
        pieces of `length`; what fits in no column (fewer than `batch` steps at the end) is left
        out. The last piece may be shorter.
    position: which piece comes next. At 0 the state begins anew.

    >>> for xs, ys in Stream(np.arange(10), length=2, batch=2): print(xs.tolist(), ys.tolist())
    [[0, 4], [1, 5]] [[1, 5], [2, 6]]
    [[2, 6], [3, 7]] [[3, 7], [4, 8]]
    """

    def __init__(self, values: Array, length: int, batch: int):
        if length < 1 or batch < 1:
            raise DataError(f"Stream: length and batch are 1 or more, got {length} and {batch}.")
        self.column = (len(values) - 1) // batch
        if self.column < 1:
            raise DataError(
                f"Stream: {len(values)} steps give {batch} columns no step each; use a longer text "
                f"or a smaller batch."
            )
        self.length, self.batch, self.position = length, batch, 0
        self.values = np.asarray(values)

    def __len__(self) -> int:
        """Pieces in an epoch."""
        return (self.column + self.length - 1) // self.length

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        starts = np.arange(self.batch) * self.column
        while self.position < len(self):
            first = self.position * self.length
            last = min(first + self.length, self.column)
            at = starts + np.arange(first, last)[:, None]
            self.position += 1  # before it is handed out, as in Batches
            yield self.values[at], self.values[at + 1]
        self.position = 0

    def state_dict(self) -> dict[str, int]:
        return self._settings() | {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on from there. Raises DataError if the pieces would be others."""
        for key, mine in self._settings().items():
            if state.get(key) != mine:
                raise DataError(
                    f"Stream.load_state_dict: the state was saved with {key} = {state.get(key)}, "
                    f"this has {mine}; the pieces would be others."
                )
        position = state.get("position")
        if not isinstance(position, int) or not 0 <= position <= len(self):
            raise DataError(
                f"Stream.load_state_dict: position {position} is not among the {len(self)} pieces."
            )
        self.position = position

    def _settings(self) -> dict[str, int]:
        return {"steps": len(self.values), "length": self.length, "batch": self.batch}
