"""A recurrent layer one step at a time, for inputs that arrive one by one: `layer.stream(batch)`.

A step runs what the layer runs over a sequence, on one row of time: the same kernels, so the same
bits. Once the traces of the cells are remembered, their loops are prepared on memory that stays,
and a step is a handful of calls. It is checked at every step that they are still what they were
prepared for; else they are prepared again, and where cells have to be traced at every call, or
somebody listens, each step is a scan of its own.
"""

from __future__ import annotations

from operator import is_
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import checks, versions
from ..border import plain
from ..compile.ahead import Call
from ..compile.prepared import Prepared, arranged
from ..compile.recall import Noted, Watch, noted
from ..errors import DTypeError, ShapeError, describe
from ..tape import no_grad
from ..tape import state as switches
from ..tensors import Tensor, wrap
from ..tree import map_leaves
from .states import stacked

if TYPE_CHECKING:
    from .recurrent import Recurrent

Array = np.ndarray


class Stream:
    """state, y_t = layer's step(state, x_t), once for each call; the state is kept in here.

        stream = layer.stream(batch)
        for x_t in arriving:          # (batch, I)
            y_t = stream(x_t)         # (batch, O)

    The y of all steps are the output of the layer over the whole sequence, bit for bit. Works for
    layers of several cells on top of one another, and for any cell; nothing is recorded, as inside
    `no_grad`. Parameters may change between steps. A stream belongs to one thread at a time.

    state: as the layer returns it, a copy. reset(state): begins anew, from zeros or from a state of
        that layout.
    Raises ShapeError and DTypeError for an x that does not fit; ValueError for a layer that is
    bidirectional, or that draws random numbers (dropout in training): call `layer.eval()` first.

    >>> from minigrad.nn import LSTM
    >>> layer, xs = LSTM(3, 5), np.ones((4, 2, 3), np.float32)
    >>> stream = layer.stream(2)
    >>> ys = [stream(x) for x in xs]
    >>> np.array_equal(layer(xs)[0].numpy(), np.stack([y.numpy() for y in ys]))
    True
    >>> stream.state.h.shape
    (1, 2, 5)
    """

    def __init__(self, layer: Recurrent, batch: int = 1):
        who = type(layer).__name__
        if layer.bidirectional:
            raise ValueError(
                f"{who}.stream: the layer is bidirectional, and its reverse direction begins at "
                f"the last step, which has not arrived yet; call the layer on whole sequences."
            )
        self.layer, self.batch = layer, checks.size(f"{who}.stream: batch", batch)
        self._ready: _Ready | None = None
        self.reset()

    def reset(self, state: Any = None) -> None:
        """Begins anew: from zeros, or from a state (layers, batch, ...)."""
        with no_grad():
            self._keep(self.layer._initial_states(state, self.batch, True))
        self._ready = None

    @property
    def state(self) -> Any:
        """As the layer returns it, each component (layers, batch, ...): a copy."""
        return stacked(map_leaves(_copy, self._states))

    def _keep(self, states: list[Any]) -> None:
        """The states of all cells from now on, in memory of our own."""
        self._states = map_leaves(_copy, states)

    def __call__(self, x: Any) -> Tensor:
        array = x._array if isinstance(x, Tensor) else plain(x)
        ready = self._ready
        if ready is not None and ready.takes(array) and ready.holds(self.layer):
            return ready.step(array)
        self._check(x, array)
        return self._whole(array)

    def _whole(self, x: Array) -> Tensor:
        """The step as a sequence of one; then the next is prepared, if that can be."""
        layer = self.layer
        self._ready = None
        with no_grad():
            xs = x[:, None] if layer.batch_first else x[None]
            y, final = layer(xs, stacked(self._states), return_states=False)
            self._keep(layer._initial_states(final, self.batch, True))
            watched = switches.mode == 2 or switches.listeners or switches.intervening is not None
            if layer.mode == "fused" and not watched:
                self._ready = _prepared(layer, self._states, x)
        if layer.return_sequences:
            y = y[:, 0] if layer.batch_first else y[0]
        return wrap(y._array.copy(), None, False)

    def _check(self, x: Any, array: Array) -> None:
        layer, who = self.layer, f"{type(self.layer).__name__}.stream"
        if array.shape != (self.batch, layer.input_size):
            raise ShapeError(
                f"{who}: expected x of shape (batch, I) = ({self.batch}, {layer.input_size}), one "
                f"step; got {describe(x)}. A whole sequence is the layer's: layer(xs)."
            )
        wanted = layer._dtype() or array.dtype
        if array.dtype != wanted:
            raise DTypeError(
                f"{who}: x is {describe(x)} and the weights are {wanted}; use "
                f"x.astype(np.{wanted})."
            )
        if layer.training and (
            (layer.dropout and layer.num_layers > 1)
            or layer.weight_dropout
            or any(map(_draws, layer.cells))
        ):
            raise ValueError(
                f"{who}: the layer is in training and draws random numbers, for a whole sequence "
                f"at once; call layer.eval() first."
            )


def _copy(t: Tensor) -> Tensor:
    return wrap(t._array.copy(), None, False)


def _draws(cell: Any) -> bool:
    draw = getattr(cell, "draw", None)
    return draw is not None and draw(1, 1) is not None


class _Ready:
    """The loops of all cells, prepared for one step on the memory of the stream."""

    def __init__(self, layer: Recurrent, x: Array):
        self.x = x  # (1, B, I)
        self.cells = list(layer.cells)
        self.mode, self.training = layer.mode, layer.training
        self.watches: list[tuple[Any, Watch]] = []
        self.weights: list[tuple[Tensor, Array]] = []  # held, so that `.data` gives other memory
        self.calls: list[Call] = []
        self.runs: list[Prepared] = []  # which own the memory that the calls name
        self.clock = versions.latest
        self.y = x

    def add(self, cell: Any, known: Noted, run: Prepared, state: list[Array]) -> None:
        """One more cell, on the y of those before."""
        self.runs.append(run)
        self.watches.append((cell, known.watch))
        self.weights += [(t, t._array) for t in known.known.held]
        for call, arguments in run.weight_calls:
            call(*arguments)
        self.calls += run.step_calls
        for kept, final in zip(state, run.outputs, strict=False):
            self.calls.append((kept.__setitem__, (..., final)))
        self.y = run.outputs[len(state)]

    def takes(self, x: Array) -> bool:
        return x.shape == self.x.shape[1:] and x.dtype == self.x.dtype

    def holds(self, layer: Recurrent) -> bool:
        """Whether a step would still run these loops, on these weights."""
        if (
            switches.mode == 2
            or switches.listeners
            or switches.intervening is not None
            or layer.mode != self.mode
            or layer.training is not self.training
            or len(layer.cells) != len(self.cells)
            or not all(map(is_, layer.cells, self.cells))
        ):
            return False
        for t, array in self.weights:
            if t._array is not array:
                return False
        if versions.latest != self.clock and not self._unedited():
            return False
        for cell, watch in self.watches:  # noqa: SIM110, a generator is a call more
            if not watch.holds(cell):
                return False
        return True

    def _unedited(self) -> bool:
        """Whether all edits since then were of something else."""
        now = versions.latest
        if any(versions.edited_at(array) > self.clock for _, array in self.weights):
            return False
        self.clock = now
        return True

    def step(self, x: Array) -> Tensor:
        self.x[0] = x
        for call, arguments in self.calls:
            call(*arguments)
        return wrap(self.y[0].copy(), None, False)


def _prepared(layer: Recurrent, states: list[Any], x: Array) -> _Ready | None:
    """A step of all cells on arrays that stay; None if one of them is not known well enough."""
    ready = _Ready(layer, np.ascontiguousarray(x)[None].copy())
    for i, cell in enumerate(layer.cells):
        known = noted(cell, states[i], wrap(ready.y, None, False))
        if known is None or (outside := known[0].outside) is None or known[0].known.outputs[1] != 0:
            return None
        found, given = known
        raw = [t._array for t in (*given, *found.known.held)]
        arrays = outside.forward(raw).given
        at = arranged(found.known.compiled, arrays, 1, len(x), False, ())
        ready.add(cell, found, Prepared(at, arrays), raw[: at.carries])
    return ready
