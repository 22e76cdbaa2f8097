"""Whole sequences: an op of the step run eagerly on (T, B, ...), for all steps at once.

What does not depend on the state has a whole, of which the step at t sees the t-th row: of an x it
is the Tensor that scan was given, of what is computed from that the same op on wholes, with its
axes moved up by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import ops
from ..op import Op
from ..tape import state
from .program import Value, params_for

Known = dict[Value, Any]  # weights, and xs as whole sequences -> Tensor


def whole(v: Value, known: Known, rows: int) -> Any:
    """The Tensor behind a value: of a weight itself, of what depends on xs all its steps."""
    if v in known:
        return known[v]
    missing: set[Value] = set()
    stack = [v]
    while stack:
        w = stack.pop()
        if w not in known and w not in missing:
            missing.add(w)
            stack.extend(i for i in w.inputs if type(i) is Value)
    for w in sorted(missing, key=lambda w: w.index):  # a value is made after its inputs
        assert w.op is not None
        scope, state.scope = state.scope, w.scope
        try:
            known[w] = _run(w.op, w.inputs, params_for(w, rows), w.cut, known)
        finally:
            state.scope = scope
    return known[v]


def _run(
    op: Op, inputs: Sequence[Any], params: dict[str, Any], cut: Sequence[int], known: Known
) -> Any:
    """The Tensor (T, B, ...) of op(*inputs, **params) for every step; of weights alone, the op's
    own result. cut: positions of inputs that pass no gradient on.
    """
    wholes = [known[v] if type(v) is Value else v for v in inputs]
    for i in cut:
        wholes[i] = wholes[i].detach()
    steps = next((w.shape[0] for w, v in zip(wholes, inputs, strict=True) if _timed(v)), None)
    if steps is not None:
        if op.broadcasts:
            wholes = _aligned(op, inputs, wholes, params)
        if op.time_rule is not None:
            params = params | op.time_rule(*op.asked(op.time_rule, steps=steps, **params))
    return op(list(wholes), **params) if op.variadic else op(*wholes, **params)


def _aligned(op: Op, inputs: Sequence[Any], wholes: list[Any], params: dict[str, Any]) -> list[Any]:
    """Wholes with axes of one behind that of time, as many as broadcasting adds in front."""
    ndim = max(len(v.shape) for v in inputs if type(v) is Value)
    ndim = len(params[op.shaped]) if op.shaped else ndim
    return [
        w.reshape(w.shape[0], *(1,) * (ndim - len(v.shape)), *w.shape[1:])
        if _timed(v) and len(v.shape) < ndim else w
        for v, w in zip(inputs, wholes, strict=True)
    ]  # fmt: skip


def _timed(v: Any) -> bool:
    return type(v) is Value and v.from_x


def can_run(v: Value) -> bool:
    """Whether an op is known on whole sequences: it has said how its parameters change there."""
    op = v.op
    assert op is not None
    return op.kind == "elementwise" or op is ops.matmul or op.time_rule is not None
