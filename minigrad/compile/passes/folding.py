"""fold: a reduction that loops have no accumulator for becomes a tree of the op that joins two
parts.

prod([a, b, c, d, e])  =  ((a c) (b d)) e
"""

from __future__ import annotations

from typing import Any

from ... import ops
from ...axes import canonical_axes
from ...errors import TraceError
from ..program import STEP, Program, Value
from ..trace import Trace
from .rewriting import rewrite

# What joins two parts -> what the accumulator of a loop is called.
ACCUMULATORS = {ops.add: "sum", ops.maximum: "max", ops.minimum: "min"}


def fold(trace: Trace, program: Program) -> Program:
    """Halves of an axis are joined until one element is left."""

    def rule(v: Value, inputs: tuple[Any, ...]) -> Value | None:
        op = v.op
        if v.stage != STEP or op is None or v.kind != "reduce" or op.fold in ACCUMULATORS:
            return None
        x: Any = trace.tracer(inputs[0])
        for axis in canonical_axes(v.params["axis"], x.ndim):
            x = _joined(op.fold, x, axis)
        found: Value = ops.reshape(x, v.shape)._value
        return found

    return rewrite(trace, program, rule)


def _joined(op: Any, x: Any, axis: int) -> Any:
    if not x.shape[axis]:
        raise TraceError(f"scan: a reduction by {op.name} over an empty axis is not compiled.")
    lead = (slice(None),) * axis
    while (n := x.shape[axis]) > 1:
        half = n // 2
        joined = op(x[(*lead, slice(0, half))], x[(*lead, slice(half, 2 * half))])
        if n % 2:  # what is left over joins once more
            last = x[(*lead, slice(n - 1, n))]
            if half == 1:
                joined = op(joined, last)
            else:
                joined = ops.concatenate([joined, last], axis=axis)
        x = joined
    return x
