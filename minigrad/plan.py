"""What a node keeps, and how the gradients of its inputs are computed from that.

A `Plan` is worked out once for each op and each choice of inputs that need a gradient. For
elementwise ops it holds compiled calls, for the others the declared rules and where each finds
what it asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import expr
from .kernels import elementwise as kernels

if TYPE_CHECKING:
    from .op import Op

Array = np.ndarray
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class Pullback(NamedTuple):
    """How the gradient of one input is computed: `fn` called with the values it names."""

    input: int  # which one
    fn: Callable[..., Any]
    names: tuple[str, ...]  # what the rule asks for besides g, in its order
    facts: tuple[tuple[str, Any], ...] = ()  # where each of them is: ("saved", place), ...


class Plan(NamedTuple):
    """What a node keeps, and computes in the backward pass, when the inputs in `mask` need it."""

    needs: tuple[int, ...]  # the inputs that get a gradient
    saves: tuple[int, ...]  # what is kept: positions in the inputs; -1 is the output
    names: tuple[str, ...]  # the same by name
    pullbacks: tuple[Pullback, ...]
    fused: tuple[tuple[int, Callable[..., Array] | None], ...]  # elementwise: (input, kernel call)


NO_GRADIENT = Plan((), (), (), (), ())


def kernel_call(source: expr.Source, saved_names: Sequence[str]) -> Callable[..., Array]:
    """(g, saved) -> the rule `source` on arrays, with each argument picked from its place."""
    picks = ["g" if n == "g" else f"saved[{saved_names.index(n)}]" for n in source.inputs]
    text = f"lambda g, saved: loops[g.dtype]({', '.join(picks)})"
    return eval(text, {"loops": Loops(source)})


class Loops(dict):
    """dtype -> compiled ufunc, made on first use."""

    def __init__(self, source: expr.Source):
        super().__init__()
        self.source = source

    def __missing__(self, dtype: np.dtype) -> Callable[..., Any]:
        if dtype not in FLOATS and "f" in self.source.signature:
            raise KeyError(dtype)
        kernel_dtype = dtype if dtype in FLOATS else FLOATS[0]  # purely boolean: any will do
        loop = self[dtype] = kernels.loop(self.source.text, self.source.signature, kernel_dtype)
        return loop


class Plans(dict):
    """mask of the inputs that need a gradient -> Plan, made on first use."""

    def __init__(self, op: Op):
        super().__init__({0: NO_GRADIENT})
        self.op = op

    def __missing__(self, mask: int) -> Plan:
        plan = self[mask] = self.op.make_plan(mask)
        return plan
