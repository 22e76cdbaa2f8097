"""A computation of which the tape keeps what goes in: it runs again when its gradient is asked for.

    y_0, y_1, ... = run(x_0, x_1, ...)

is one node on the tape. Its gradient is that of run, computed on values that come and go; and as
that is a computation of the same kind, of the x and the gradients of the y, its own gradient is
taken in the same way, to any order.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ..backward import walk
from ..errors import GradientError
from ..memory import kept
from ..tape import Node, state, tick
from ..tensors import Tensor, in_place_of, wrap
from .node import CHECKPOINTED, Pulled, Saved, output, scan_node
from .outer import Target, closed_over, standing_for

Array = np.ndarray


class Ran(NamedTuple):
    """What came out: Tensors, a number for the bits of all values behind them, and what to call
    once the gradient has come back to where the computation began.
    """

    outputs: list[Tensor]
    digest: int
    passed: Callable[[], None] = lambda: None


Run = Callable[[list[Tensor], bool], Ran]  # (inputs, whether it runs again) -> Ran


class _Again:
    """What is kept of a computation: run, its inputs as arrays, and what it read besides."""

    def __init__(self, run: Run, what: str, arrays: list[Array], needs: list[bool]):
        self.run, self.what, self.arrays, self.needs = run, what, arrays, needs
        self.outer: list[Target] = []
        self.weights: list[tuple[Tensor, Array]] = []  # the leaves of these, and their arrays
        self.digest = 0

    def inputs(self) -> list[Tensor]:
        """Tensors that nothing else knows."""
        return [wrap(a, None, need) for a, need in zip(self.arrays, self.needs, strict=True)]

    def again(self, inputs: list[Tensor]) -> Ran:
        """Runs once more, and comes out the same. Raises GradientError if it does not."""
        ran = self.run(inputs, True)
        if ran.digest != self.digest:
            raise GradientError(
                f"scan: {self.what}, computed again for checkpoint=, came out otherwise than at "
                "first: something that the cell reads has changed since, an array it closes over "
                "or a draw of random numbers. Pass it in with xs, or change it after backward."
            )
        return ran

    def targets(self, inputs: Sequence[Tensor], wanted: Sequence[int]) -> list[Tensor]:
        """Where the gradients of the wanted inputs of the node arrive."""
        n = len(inputs)
        return [inputs[i] if i < n else standing_for(self.outer[i - n]) for i in wanted]


def recomputed(run: Run, inputs: Sequence[Tensor], what: str, params: dict[str, Any]) -> Ran:
    """run(inputs), on the tape as one node. what: its name in an error; params: of the node."""
    kept_of = _Again(run, what, [kept(t) for t in inputs], [t.requires_grad for t in inputs])
    own, began = kept_of.inputs(), tick()
    with state.switched(**_UNSEEN):
        ran = run(own, False)
    if not state.recording or not any(t.requires_grad for t in ran.outputs):
        return ran
    kept_of.outer = closed_over(ran.outputs, set(map(id, own)), began)
    kept_of.weights = [(t, kept(t)) for t in kept_of.outer if isinstance(t, Tensor)]
    kept_of.digest = ran.digest
    reads = [*inputs, *kept_of.outer]
    needs = tuple(i for i, t in enumerate(reads) if isinstance(t, Node) or t.requires_grad)
    saved = Saved([*kept_of.arrays, *(a for _, a in kept_of.weights)], kept_of)
    made = scan_node(CHECKPOINTED, reads, params, needs, saved, ran.outputs[-1]._array)
    return Ran([output(made, k, t._array) for k, t in enumerate(ran.outputs)], ran.digest)


def _pulled(node: Node, g: dict[int, Array]) -> Pulled:
    assert isinstance(node._saved, Saved)
    kept_of: _Again = node._saved.of
    inputs = kept_of.inputs()
    with state.switched(**_AGAIN), _as_they_were(kept_of.weights):
        ran = kept_of.again(inputs)
    found = _gradients(kept_of, node, inputs, ran, g, recorded=False)
    ran.passed()
    return [(i, a) for i, a in zip(node.plan.needs, found, strict=True) if a is not None]


def _recorded(node: Node, g: dict[int, Tensor]) -> Pulled:
    """The gradient as a computation of its own: of the inputs, and the gradients of the outputs."""
    assert isinstance(node._saved, Saved)
    kept_of: _Again = node._saved.of
    n, names = len(kept_of.arrays), sorted(g)
    reached: list[int] = []

    def back(given: list[Tensor], _: bool) -> Ran:
        inputs, seeds = given[:n], dict(zip(names, given[n:], strict=True))
        with state.switched(**_AGAIN), _as_they_were(kept_of.weights):
            found = _gradients(kept_of, node, inputs, kept_of.again(inputs), seeds, recorded=True)
        pairs = [(i, t) for i, t in zip(node.plan.needs, found, strict=True) if t is not None]
        reached[:] = [i for i, _ in pairs]
        return Ran([t for _, t in pairs], digest_of(t for _, t in pairs))

    ours = [_source(node, i, array) for i, array in enumerate(kept_of.arrays)]
    what = f"the gradient of {kept_of.what}"
    ran = recomputed(back, [*ours, *(g[k] for k in names)], what, node.params)
    return list(zip(reached, ran.outputs, strict=True))


CHECKPOINTED.pulled, CHECKPOINTED.recorded = _pulled, _recorded


def _gradients(
    kept_of: _Again, node: Node, inputs: Sequence[Tensor], ran: Ran, g: dict[int, Any],
    recorded: bool,
) -> list[Any]:  # fmt: skip
    """Of each input of the node that needs one; None where nothing arrives."""
    reached = [k for k, t in enumerate(ran.outputs) if k in g and t.requires_grad]
    return walk(
        [ran.outputs[k] for k in reached], [g[k] for k in reached],
        kept_of.targets(inputs, node.plan.needs),
        retain_graph=recorded, create_graph=recorded, stop=True,
    )  # fmt: skip


def _source(node: Node, i: int, array: Array) -> Tensor:
    """The i-th input of a node as it was, with its place in the graph."""
    source = node.inputs[i]
    if isinstance(source, Node):
        return wrap(array, source, bool(source.plan.needs))
    if isinstance(source, Tensor) and source.requires_grad:
        return source if source._array is array else in_place_of(source, array)
    return wrap(array, None, False)


def digest_of(tensors: Any, start: int = 0) -> int:
    """A number for the bits of all values."""
    for t in tensors:
        start = zlib.crc32(np.ascontiguousarray(t._array).data, start)
    return start


# What runs inside is not changed, and no Tape or mg.jit sees more of it than its node.
_UNSEEN = {"tape": None, "intervening": None, "jit": None}
_AGAIN = {**_UNSEEN, "recording": True, "listeners": ()}


@contextmanager
def _as_they_were(weights: Sequence[tuple[Tensor, Array]]) -> Iterator[None]:
    """Leaves with the arrays that they had at first."""
    now = [t._array for t, _ in weights]
    for t, array in weights:
        t._array = array
    try:
        yield
    finally:
        for (t, _), array in zip(weights, now, strict=True):
            t._array = array
