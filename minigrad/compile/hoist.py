"""Hoisting: what does not depend on the carry is done for the whole sequence at once.

A value that depends on xs and weights alone has a whole, (T, B, ...), of which the step sees one
row. Its op runs eagerly on wholes: the same op, with its axes moved up by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..op import Op
from .program import Value, params_for


def run(
    op: Op, inputs: Sequence[Any], params: dict[str, Any], rows: int, cut: Sequence[int] = ()
) -> Any:
    """The Tensor (T, B, ...) of op(*inputs, **params) for every step; of weights alone, the op's
    own result. cut: positions of inputs that pass no gradient on.
    """
    wholes = [whole(v, rows) if type(v) is Value else v for v in inputs]
    for i in cut:
        wholes[i] = wholes[i].detach()
    steps = next((w.shape[0] for w, v in zip(wholes, inputs, strict=True) if _timed(v)), None)
    if steps is not None:
        if op.kind == "elementwise" or op.name == "broadcast_to":
            wholes = _aligned(inputs, wholes, params)
        params = {name: _moved(name, value, steps) for name, value in params.items()}
    return op(list(wholes), **params) if op.variadic else op(*wholes, **params)


def _aligned(inputs: Sequence[Any], wholes: list[Any], params: dict[str, Any]) -> list[Any]:
    """Wholes with axes of one behind that of time, as many as broadcasting adds in front."""
    ndim = max(len(v.shape) for v in inputs if type(v) is Value)
    ndim = len(params["shape"]) if "shape" in params else ndim
    return [
        w.reshape(w.shape[0], *(1,) * (ndim - len(v.shape)), *w.shape[1:])
        if _timed(v) and len(v.shape) < ndim else w
        for v, w in zip(inputs, wholes, strict=True)
    ]  # fmt: skip


def _timed(v: Any) -> bool:
    return type(v) is Value and v.from_x


def whole(v: Value, rows: int) -> Any:
    """The Tensor behind a value: of a weight itself, of what depends on xs all its steps."""
    v.spread = True
    if v.tensor is None:
        assert v.op is not None
        v.tensor = run(v.op, v.inputs, params_for(v, rows), rows, v.cut)
    return v.tensor


def _moved(name: str, value: Any, steps: int) -> Any:
    if name in ("axis", "axis1", "axis2"):
        return tuple(a + 1 for a in value) if isinstance(value, tuple) else value + 1
    if name == "axes":
        return (0, *(a + 1 for a in value))
    if name == "shape":
        return (steps, *value)
    if name == "index":
        return (slice(None), *(value if isinstance(value, tuple) else (value,)))
    if name == "pad_width":
        return ((0, 0), *value)
    return value
