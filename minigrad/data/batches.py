"""Sequences of different lengths as padded batches, in an order that can be taken up again.

    batches = mg.data.Batches(xs, labels, batch=32, seed=0, pool=20)
    for epoch in range(10):
        for xs, lengths, ys in batches:                 # one epoch: (T, B, ...), (B,), (B,)
            out, _ = lstm(mg.tensor(xs), lengths=lengths)
    saved = batches.state_dict()                        # ... and later, in another process:
    batches.load_state_dict(saved)                      # goes on with the batch that came next

Arrays are (T, B, ...) as everywhere: time first; `batch_first=True` gives (B, T, ...), for layers
that are made so. With `left=True` padding comes before a sequence, and a mask in place of lengths:

    for xs, mask, ys in mg.data.Batches(xs, labels, left=True):
        out, _ = lstm(mg.tensor(xs), mask=mask)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, overload

import numpy as np

from .datasets import rows_of
from .sources import DataError
from .splits import shuffled

Array = np.ndarray


class Padded(NamedTuple):
    """values: (T, B, ...), T the longest of them; lengths: int64 (B,), how many steps count."""

    values: Array
    lengths: Array


class LeftPadded(NamedTuple):
    """values: (T, B, ...), T the longest of them; mask: bool (T, B), which steps count.

    No lengths: taken for those of a layer, they would count padding and leave out what is real.
    """

    values: Array
    mask: Array


class Batch(NamedTuple):
    """x: (T, B, ...); lengths: int64 (B,); y: (B, ...), or Padded if targets are sequences."""

    x: Array
    lengths: Array
    y: Array | Padded


class LeftBatch(NamedTuple):
    """x: (T, B, ...); mask: bool (T, B); y: (B, ...), or LeftPadded if targets are sequences."""

    x: Array
    mask: Array
    y: Array | LeftPadded


@overload
def pad(
    sequences: Sequence[Any],
    value: float = 0,
    *,
    batch_first: bool = False,
    left: Literal[False] = False,
) -> Padded: ...
@overload
def pad(
    sequences: Sequence[Any], value: float = 0, *, batch_first: bool = False, left: Literal[True]
) -> LeftPadded: ...
def pad(
    sequences: Sequence[Any], value: float = 0, *, batch_first: bool = False, left: bool = False
) -> Padded | LeftPadded:
    """Sequences (T_i, ...) side by side, each followed by `value` up to the longest.

    batch_first: values (and a mask) are (B, T, ...). left: `value` comes before each sequence, and
        a mask says where it begins, for `layer(x, mask=mask)`.
    Raises DataError if there is none, or they differ in more than their length.

    >>> pad([[1, 2, 3], [4]])
    Padded(values=array([[1, 4], [2, 0], [3, 0]]), lengths=array([3, 1]))
    >>> pad([[1, 2, 3], [4]], batch_first=True, left=True).values.tolist()
    [[1, 2, 3], [0, 0, 4]]
    """
    arrays = [np.asarray(sequence) for sequence in sequences]
    if not arrays:
        raise DataError("pad: expected at least one sequence, got none.")
    first = arrays[0]
    for i, array in enumerate(arrays):
        _check_numbers("pad", i, array)
        if not array.ndim or array.shape[1:] != first.shape[1:]:
            raise DataError(
                f"pad: sequence {i} has shape {array.shape}, sequence 0 {first.shape}; they may "
                f"differ in their first axis only."
            )
    lengths = np.array([len(array) for array in arrays], np.int64)
    # An empty list has no dtype of its own: it must not turn a batch of numbers into floats.
    dtype = np.result_type(*[a.dtype for a in arrays if a.size] or [first.dtype])
    # NumPy would cut 0.5 to 0 among whole numbers, and refuses NaN with no word of padding.
    if dtype.kind in "iub" and not _fits(value, dtype):
        raise DataError(
            f"pad: {value} does not fit sequences of {dtype}; pad with a whole number in its range."
        )
    longest = int(lengths.max())
    values = np.full((longest, len(arrays), *first.shape[1:]), value, dtype)
    for i, array in enumerate(arrays):
        begin = longest - len(array) if left else 0
        values[begin : begin + len(array), i] = array
    real = np.arange(longest)[:, None] >= longest - lengths
    if batch_first:  # a view: a layer with batch_first turns it back, and copies nothing
        values, real = values.swapaxes(0, 1), real.T
    return LeftPadded(values, real) if left else Padded(values, lengths)


def _fits(value: float, dtype: np.dtype) -> bool:
    """Whether whole numbers of this dtype have the value among them."""
    least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return bool(least <= value <= most and value == int(value))


class Batches:
    """Iterable over one epoch of batches; the next `for` is the next epoch, in another order.

    xs: N sequences, each (T_i, ...). ys: an array (N, ...), one entry for each, or a list of N
        sequences, which are padded too; without ys, y is the index of each item.
        xs may also be a data set, which is read whole: rows that are pairs (x, y), as those of
        torch.utils.data, or dictionaries, as those of HuggingFace.
    columns: of rows that are dictionaries, the names of x and y, or of x alone.
    batch: items in a batch; the last of an epoch may have fewer.
    seed: the order of epoch e depends on (seed, e) alone. None: the order given, in each epoch.
    pool: batches are made of items of like length, out of `pool` batches' worth of them in random
        order, and come in random order. 1: no sorting. More: less padding, less randomness.
    pad, pad_y: the values behind the end of a sequence in xs and in ys.
    batch_first: x, and y where it is padded, are (B, T, ...), as layers with batch_first take it.
    left: padding comes before the sequences, in ys too, and a batch is (x, mask, y), a LeftBatch,
        for `layer(x, mask=mask)`; the last step is then every row's last real one.

    A `for` that is left early leaves the position in the epoch: the next one goes on from there.

    >>> batches = Batches([[1], [2, 2], [3, 3, 3]], batch=2, seed=None)
    >>> [(x.shape, lengths.tolist(), y.tolist()) for x, lengths, y in batches]
    [((2, 2), [1, 2], [0, 1]), ((3, 1), [3], [2])]
    """

    def __init__(
        self,
        xs: Sequence[Any],
        ys: Sequence[Any] | Array | None = None,
        batch: int = 32,
        seed: int | None = 0,
        pool: int = 1,
        pad: float = 0,
        pad_y: float = 0,
        *,
        batch_first: bool = False,
        left: bool = False,
        columns: str | Sequence[str] | None = None,
    ):
        if batch < 1 or pool < 1:
            raise DataError(f"Batches: batch and pool are 1 or more, got {batch} and {pool}.")
        if ys is None:
            xs, ys = rows_of(xs, columns)
        elif columns is not None:
            raise DataError(
                "Batches: ys are given, so columns= has nothing to name; leave one out."
            )
        if not len(xs):
            raise DataError("Batches: expected at least one sequence, got none.")
        if ys is not None and len(ys) != len(xs):
            raise DataError(f"Batches: {len(xs)} xs need as many ys, got {len(ys)}.")
        self.xs = [np.asarray(x) for x in xs]
        for i, x in enumerate(self.xs):
            _check_numbers("Batches", i, x)
            if not x.ndim:
                raise DataError(f"Batches: item {i} is {x}; expected a sequence, (T, ...).")
        self.ragged = ys is not None and _is_ragged(ys)
        self.ys: Any = np.arange(len(xs)) if ys is None else ys if self.ragged else np.asarray(ys)
        self.sizes = np.array([len(x) for x in self.xs])
        self.batch, self.seed, self.pool = batch, seed, pool
        self.pad, self.pad_y = pad, pad_y
        self.batch_first, self.left = batch_first, left
        self.epoch, self.position = 0, 0

    def __len__(self) -> int:
        """Batches in an epoch."""
        return (len(self.xs) + self.batch - 1) // self.batch

    def __iter__(self) -> Iterator[Batch | LeftBatch]:
        order = self.order(self.epoch)
        while self.position < len(order):
            items = order[self.position]
            # Counted before it is handed out: a state saved in the loop's body has it behind it.
            self.position += 1
            yield self.make(items)
        self.epoch, self.position = self.epoch + 1, 0

    def order(self, epoch: int) -> list[Array]:
        """The indices of the items of each batch of an epoch."""
        everyone = np.arange(len(self.xs))
        if self.seed is None:
            items = everyone
        else:
            items = shuffled(len(self.xs), self.seed, epoch)
        if self.pool > 1:
            pools = np.split(items, everyone[:: self.batch * self.pool][1:])
            items = np.concatenate([p[np.argsort(self.sizes[p], kind="stable")] for p in pools])
        cut = np.split(items, everyone[:: self.batch][1:])
        if self.seed is None or self.pool == 1:
            return cut
        return [cut[i] for i in shuffled(len(cut), self.seed, epoch, 1)]

    def make(self, items: Array) -> Batch | LeftBatch:
        """The batch of the items with these indices."""
        kind: Any = LeftBatch if self.left else Batch
        x, real = self._padded(self.xs, items, self.pad)
        y = self._padded(self.ys, items, self.pad_y) if self.ragged else self.ys[items]
        return kind(x, real, y)

    def _padded(self, sequences: Any, items: Array, value: float) -> Any:
        chosen = [sequences[i] for i in items]
        if self.left:
            return pad(chosen, value, batch_first=self.batch_first, left=True)
        return pad(chosen, value, batch_first=self.batch_first)

    def padding(self, epoch: int = 0) -> float:
        """The share of an epoch's steps that are padding: what a larger pool saves."""
        steps = sum(int(self.sizes[items].max()) * len(items) for items in self.order(epoch))
        return 1 - int(self.sizes.sum()) / max(steps, 1)

    def state_dict(self) -> dict[str, int | None]:
        """Where the iteration is, and what its order depends on: whole numbers, fit for JSON."""
        return self._settings() | {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int | None]) -> None:
        """Goes on from there. Raises DataError if the order would be another one."""
        for key, mine in self._settings().items():
            if key not in state or state[key] != mine:
                raise DataError(
                    f"Batches.load_state_dict: the state was saved with {key} = {state.get(key)}, "
                    f"this has {mine}; the order would be another."
                )
        epoch, position = state.get("epoch"), state.get("position")
        if not isinstance(epoch, int) or not isinstance(position, int) or epoch < 0:
            raise DataError(
                f"Batches.load_state_dict: epoch and position are whole numbers, got {epoch} and "
                f"{position}."
            )
        if not 0 <= position <= len(self):
            raise DataError(
                f"Batches.load_state_dict: position {position} is not among the {len(self)} "
                f"batches of an epoch."
            )
        self.epoch, self.position = epoch, position

    def _settings(self) -> dict[str, int | None]:
        return {"items": len(self.xs), "batch": self.batch, "pool": self.pool, "seed": self.seed}


def _check_numbers(who: str, i: int, array: Array) -> None:
    if array.dtype.kind in "OSUT":
        raise DataError(
            f"{who}: sequence {i} is of {array.dtype}, not of numbers; encode texts first, for "
            f"example with mg.data.Tokenizer."
        )


def _is_ragged(ys: Any) -> bool:
    """Whether ys are sequences to be padded, and not an array with an entry for each x."""
    return not hasattr(ys, "__array__") and any(np.ndim(y) for y in ys)
