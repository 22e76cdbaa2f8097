"""checkpoint=n: keep the state at every n-th step, and compute what lies between again for BPTT.

Between its ends a segment is a scan of its own, run without recording on the way forward, and
recorded and differentiated when the gradient comes back to it: what BPTT keeps is one state a
segment and the insides of one segment at a time.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..backward import walk
from ..errors import GradientError
from ..memory import kept
from ..tape import Node, state, tick
from ..tensors import Tensor, wrap
from ..tree import leaves, map_leaves, rebuild
from .node import CHECKPOINTED, Pulled, Saved, output, scan_node
from .outer import closed_over
from .result import ScanResult

Array = np.ndarray


class _Segments:
    """A scan in segments: their first states, and how each runs."""

    def __init__(
        self, run: Callable[[Any, Any], Any], init: Any, xs: Any, cuts: Sequence[tuple[int, int]]
    ):
        self.run, self.init, self.xs, self.cuts = run, init, xs, cuts
        self.arrays = [kept(x) for x in leaves(xs)]
        self.states: list[list[Array]] = []  # at the beginning of each segment
        self.outer: list[Any] = []  # what the cell closes over and needs a gradient
        self.weights: list[tuple[Tensor, Array]] = []  # the leaves of these, and their arrays
        self.digests: list[int] = []  # of what each segment computed
        self.ys: Any = None

    def segment(self, k: int) -> tuple[list[Tensor], list[Tensor], Any, Any]:
        """(state, xs, final, ys) of the k-th one, on Tensors of its own."""
        begin, end = self.cuts[k]
        state = [wrap(a, None, a.dtype.kind == "f") for a in self.states[k]]
        xs = [
            wrap(a[begin:end], None, x.requires_grad)
            for a, x in zip(self.arrays, leaves(self.xs), strict=True)
        ]
        with _as_they_were(self.weights):
            final, ys = self.run(rebuild(self.init, state), rebuild(self.xs, xs))
        return state, xs, final, ys

    def forward(self) -> tuple[list[Array], list[Array]]:
        current: Any = self.init
        parts = []
        for k, (begin, _) in enumerate(self.cuts):
            self.states.append([kept(s) for s in leaves(current)])
            # recorded, and dropped: so what runs is what will run again, and comes out the same
            _, _, current, self.ys = self.segment(k)
            self.digests.append(_digest(current, self.ys))
            parts.append((begin, [y._data for y in leaves(self.ys)]))
        parts.sort(key=lambda part: part[0])
        joined = [np.concatenate(pieces) for pieces in zip(*(ys for _, ys in parts), strict=True)]
        return [s._data for s in leaves(current)], joined

    def backward(self, node: Node, g: dict[int, Array]) -> list[tuple[int, Array]]:
        states, xs = leaves(self.init), leaves(self.xs)
        n = len(states)
        carried: list[Any] = [g.get(k) for k in range(n)]
        dxs = [np.zeros(x.shape, x.dtype) if x.requires_grad else None for x in xs]
        total: dict[int, Array] = {}
        for segment, (begin, end) in reversed(list(enumerate(self.cuts))):
            before = state.switch(recording=True)
            try:
                own_state, own_xs, final, ys = self.segment(segment)
            finally:
                state.switch(**before)
            if _digest(final, ys) != self.digests[segment]:
                raise GradientError(
                    f"scan: steps {begin} to {end - 1}, computed again for checkpoint=, came out "
                    "otherwise than at first: something that the cell reads has changed since, an "
                    "array it closes over or a draw of random numbers. Pass it in with xs, or "
                    "change it after backward."
                )
            outputs, seeds = [], []
            for k, t in enumerate([*leaves(final), *leaves(ys)]):
                seed = carried[k] if k < n else g[k][begin:end] if k in g else None
                if seed is not None and t.requires_grad:
                    outputs.append(t)
                    seeds.append(seed)
            inside = [t for t in (*own_state, *own_xs) if t.requires_grad]
            outer = [t if isinstance(t, Tensor) else wrap(_EMPTY, t, True) for t in self.outer]
            if not outputs:
                carried = [None] * n
                continue
            found = walk(
                outputs, seeds, [*inside, *outer], retain_graph=True, create_graph=False, stop=True
            )
            by_id = {id(t): a for t, a in zip(inside, found, strict=False)}
            carried = [by_id.get(id(t)) for t in own_state]
            for dx, t in zip(dxs, own_xs, strict=True):
                if dx is not None and by_id.get(id(t)) is not None:
                    dx[begin:end] += by_id[id(t)]
            for k, a in enumerate(found[len(inside) :]):
                if a is not None:
                    total[k] = a if k not in total else total[k] + a
        gradients: list[tuple[int, Array]] = []
        for i in node.plan.needs:
            if i < n + len(xs):
                part = carried[i] if i < n else dxs[i - n]
            else:
                part = total.get(i - n - len(xs))
            if part is not None:
                gradients.append((i, part))
        return gradients


def _backward(node: Node, g: dict[int, Array]) -> Pulled:
    assert isinstance(node._saved, Saved)
    segments: _Segments = node._saved.of
    return segments.backward(node, g)


def _recorded(node: Node, g: Any) -> Pulled:
    raise GradientError(
        "scan: a second derivative through checkpoint= is not recorded; scan without "
        "checkpoint, or with mode='tape'."
    )


CHECKPOINTED.pulled, CHECKPOINTED.recorded = _backward, _recorded


def _digest(final: Any, ys: Any) -> int:
    """A number for the bits of all values."""
    found = 0
    for t in (*leaves(final), *leaves(ys)):
        found = zlib.crc32(np.ascontiguousarray(t._data).data, found)
    return found


@contextmanager
def _as_they_were(weights: Sequence[tuple[Tensor, Array]]) -> Iterator[None]:
    """Leaves with the arrays that they had when the scan ran."""
    now = [t._data for t, _ in weights]
    for t, array in weights:
        t._data = array
    try:
        yield
    finally:
        for (t, _), array in zip(weights, now, strict=True):
            t._data = array


_EMPTY = np.zeros(())


def checkpointed(
    scan: Callable[..., ScanResult],
    cell: Any,
    init: Any,
    xs: Any,
    reverse: bool,
    mode: str,
    every: int,
    time: int,
) -> ScanResult:
    """scan(cell, init, xs, reverse=reverse), in segments of `every` steps."""
    cuts = [(b, min(b + every, time)) for b in range(0, time, every)]
    if reverse:
        cuts = [(time - end, time - begin) for begin, end in cuts]
    explained: list[Any] = []

    def run(current: Any, piece: Any) -> Any:
        result = scan(cell, current, piece, None, reverse, mode)
        explained[:] = [result.explanation]
        return result

    segments = _Segments(run, init, xs, cuts)
    if not state.recording:
        finals, ys = segments.forward()
        return _result(segments, finals, ys, lambda a, k: wrap(a, None, False), explained)
    segments.outer = _closed_over(run, init, xs, cuts[0])
    segments.weights = [(t, kept(t)) for t in segments.outer if isinstance(t, Tensor)]
    finals, ys = segments.forward()
    inputs = [*leaves(init), *leaves(xs), *segments.outer]
    needs = tuple(i for i, t in enumerate(inputs) if isinstance(t, Node) or t.requires_grad)
    states = [a for first in segments.states for a in first]
    saved = Saved([*states, *segments.arrays, *(a for _, a in segments.weights)], segments)
    params = {"every": every, "steps": time, "reverse": reverse}
    last = ys[-1] if ys else finals[-1]
    made = scan_node(CHECKPOINTED, inputs, params, needs, saved, last)
    return _result(segments, finals, ys, lambda a, k: output(made, k, a), explained)


def _result(
    segments: _Segments,
    finals: Any,
    ys: Any,
    made: Callable[[Array, int], Tensor],
    explained: Any,
) -> ScanResult:
    outputs = [made(a, k) for k, a in enumerate([*finals, *ys])]
    final = rebuild(segments.init, outputs[: len(finals)])
    return ScanResult(
        final,
        rebuild(segments.ys, outputs[len(finals) :]),
        None,
        explained[0] if explained else None,
    )


def _closed_over(run: Any, init: Any, xs: Any, cut: tuple[int, int]) -> list[Any]:
    """What the scan of one step reads besides its arguments: leaves, and nodes made before it."""
    start = tick()
    own_init = map_leaves(lambda s: wrap(s._data, None, s.dtype.kind == "f"), init)
    piece = map_leaves(lambda x: wrap(x._data[cut[0] : cut[0] + 1], None, x.requires_grad), xs)
    final, ys = run(own_init, piece)
    given = {id(t) for t in (*leaves(own_init), *leaves(piece))}
    return closed_over([*leaves(final), *leaves(ys)], given, start)
