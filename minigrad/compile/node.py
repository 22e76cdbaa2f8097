"""The scan on the tape: one node, with one further node for each of its results.

A scan's node is data like any other's: its op, its inputs, its parameters (what was compiled, how
many steps, ...) and what it keeps. BPTT runs when the gradients of all results that anything reads
have arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from ..backward import Partial
from ..op import Op
from ..plan import Plan
from ..tape import Node, state, tick
from ..tensors import Tensor, wrap

Array = np.ndarray
Pulled = list[tuple[int, Any]]  # (input, its gradient) for each input that needs one


class WholeOp(Op):
    """What stands on the tape for all steps at once.

    pulled, recorded: (node, gradients of its results by number) -> gradients of its inputs, on
    arrays and on Tensors; set by the module that runs it.
    """

    kind = "scan"
    pulled: Callable[[Node, dict[int, Array]], Pulled]
    recorded: Callable[[Node, dict[int, Tensor]], Pulled]

    def pull(self, node: Node, g: Any, recorded: bool) -> Pulled:
        return self.recorded(node, g) if recorded else self.pulled(node, g)


class _OutputOp(Op):
    """One of the results of a scan."""

    kind = "scan"

    def pull(self, node: Node, g: Any, recorded: bool) -> Pulled:
        return [(0, Output(node.params["k"], g))]


def _scan(inputs: Any) -> Any:
    """(carry, xs, weights) -> (carry, ys): a loop over all steps."""
    raise TypeError("scan is recorded by mg.scan, not called as an op")


SCAN = WholeOp(_scan, {"name": "scan", "variadic": True, "method": False})
CHECKPOINTED = WholeOp(_scan, {"name": "scan", "variadic": True, "method": False})
REPLAYED = WholeOp(_scan, {"name": "scan", "variadic": True, "method": False})
OUTPUT = _OutputOp(_scan, {"name": "scan_output", "variadic": True, "method": False})


class Output(Partial):
    """The gradient of the k-th result of a scan, on its way to the scan's node."""

    __slots__ = ("g", "k")

    def __init__(self, k: int, g: Any):
        self.k, self.g = k, g

    def add_to(self, total: Any) -> Any:
        total = {} if total is None else total
        total[self.k] = total[self.k] + self.g if self.k in total else self.g
        return total


def arrays_of(g: dict[int, Any]) -> dict[int, Array]:
    """Gradients of results as arrays, where they come as Tensors, too."""
    return {k: v._array if isinstance(v, Tensor) else v for k, v in g.items()}


class Saved(tuple):
    """The arrays that a node keeps, and `of`, what else its way back reads: both go at once."""

    of: Any

    def __new__(cls, arrays: Sequence[Array], of: Any) -> Saved:
        self = super().__new__(cls, {id(a): a for a in arrays}.values())
        self.of = of
        return self


@cache
def _plan(needs: tuple[int, ...], saved: int) -> Plan:
    return Plan(needs, (), ("an array of the scan",) * saved, (), ())


def scan_node(
    op: Op, inputs: Sequence[Any], params: dict[str, Any], needs: tuple[int, ...], saved: Saved,
    y: Array,
) -> Node:  # fmt: skip
    """The node of a whole scan; y: one of its results."""
    made = _make_node(op, inputs, params, y)
    made._saved = saved
    made.plan = _plan(needs, len(saved))
    if state.tape is not None:
        state.tape.record(made, y)
    return made


def output(node: Node, k: int, array: Array) -> Tensor:
    """The Tensor of the k-th result of a scan."""
    needs = bool(node.plan.needs) and array.dtype.kind == "f"
    picked = _make_node(OUTPUT, [node], {"k": k}, array)
    picked.plan = _plan((0,) if needs else (), 0)
    if state.tape is not None:
        state.tape.record(picked, array)
    return wrap(array, picked, needs)


def _make_node(op: Op, inputs: Sequence[Any], params: dict[str, Any], y: Array) -> Node:
    """A node that is not made by tensor.apply."""
    made = Node.__new__(Node)
    made.op, made.params, made.scope, made.position = op, params, state.scope, tick()
    made.shape, made.dtype = y.shape, y.dtype
    found: list[Any] = []
    shapes = []
    for t in inputs:
        if isinstance(t, Node):
            shapes.append(t.shape)
            found.append(t)
            continue
        shapes.append(t._array.shape)
        if t.requires_grad:
            found.append(t._node or t)
        else:
            found.append(t if state.tape is not None else None)
    made.inputs, made.in_shapes = found, tuple(shapes)
    made._saved = ()
    return made
