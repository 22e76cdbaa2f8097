"""A recorded step as a flat list of calls over the memory that it ran in.

Each call is a function and its arguments: a ufunc of ours with the array it writes, the loop of a
scan, a copy. They were looked up once; a replay goes down the list. Steps whose results nothing
reads are left out, and neighbouring elementwise ones become one kernel (fusing.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .. import versions
from ..kernels import jit, reduce
from ..kernels import matmul as products
from ..kernels.elementwise import loop
from ..kinds import FLOATS
from .arguments import memory_of
from .fusing import fused
from .recording import Recording, Step

Array = np.ndarray
Call = tuple[Callable[..., Any], tuple[Any, ...]]


class Listed(NamedTuple):
    """A part of the program: what it does, in the words of `explain`, and its calls."""

    says: str
    where: str
    calls: list[Call]


def listed(steps: Sequence[Step], results: Sequence[Array]) -> list[Listed]:
    """The parts of the program, in order. results: arrays that are read after the last call."""
    parts: list[Listed] = []
    for group in fused(steps, _read_by_others(steps, results)):
        if isinstance(group, Step):
            parts.append(Listed(f"{group.name} {_shapes(group)}", group.where, calls_of(group)))
        else:
            run = loop(group.text, group.signature, group.dtype)
            says = f"{' + '.join(group.names)} {_shapes(group)}"
            parts.append(Listed(says, group.steps[0].where, [(run, (*group.inputs, *group.outputs))]))
    return parts


def needed(recording: Recording, results: Sequence[Array]) -> list[Step]:
    """Without what computes for nobody: ops alone are left out, as others do more than compute."""
    wanted = {id(versions.owner(a)) for a in results}
    kept: list[Step] = []
    for step in reversed(recording.steps):
        if step.what != "op" or any(id(versions.owner(y)) in wanted for y in step.outputs):
            wanted |= {id(versions.owner(x)) for x in (*step.inputs, *step.arrays)}
            kept.append(step)
    return kept[::-1]


def _read_by_others(steps: Iterable[Step], results: Sequence[Array]) -> set[int]:
    """The owners of memory that something else than an elementwise op reads."""
    found = {id(versions.owner(a)) for a in results}
    for step in steps:
        if not step.elementwise:
            found |= {id(versions.owner(x)) for x in (*step.inputs, *step.arrays)}
    return found


def calls_of(step: Step) -> list[Call]:
    """The calls that compute the step's outputs from its inputs, in place."""
    if step.calls:
        return step.calls
    if step.again is not None:
        return [(step.again, ())]
    assert step.op is not None
    y = step.outputs[0]
    if step.elementwise:
        dtype = step.inputs[-1].dtype
        integers = step.op.integers
        if integers is not None and not all(x.dtype in FLOATS for x in step.inputs):
            return [(integers, (*step.inputs, y))]
        return [(step.op.loops[dtype], (*step.inputs, y))]
    found = _MADE.get(step.op.name, _no_calls)(step)
    return found or [(partial(_again, step.op, step.inputs, step.params, y), ())]


def _again(op: Any, inputs: list[Array], params: dict[str, Any], y: Array) -> None:
    np.copyto(y, op.forward(inputs, params))


def _no_calls(step: Step) -> list[Call]:
    return []


def _matmul(step: Step) -> list[Call]:
    (a, b), y = step.inputs, step.outputs[0]
    if jit.mode() != "native" or b.ndim != 2 or a.ndim < 2:
        return []
    rows = _same_memory(a, (-1, a.shape[-1])), _same_memory(y, (-1, y.shape[-1]))
    if rows[0] is None or rows[1] is None or not a.size:
        return []
    return [(products.product(a.dtype), (rows[0], b, rows[1]))]


def _same_memory(x: Array, shape: tuple[int, ...]) -> Array | None:
    """x in another shape, if that takes no copy."""
    if not x.size:
        return None
    seen = x.reshape(shape)
    return seen if np.may_share_memory(seen, x) else None


def _reshape(step: Step) -> list[Call]:
    x, y = step.inputs[0], step.outputs[0]
    return [(y.reshape(x.shape).__setitem__, (..., x))]


def _astype(step: Step) -> list[Call]:
    return [(step.outputs[0].__setitem__, (..., step.inputs[0]))]


def _stack(step: Step) -> list[Call]:
    axis, y = step.params["axis"], step.outputs[0]
    lead = (slice(None),) * axis
    return [(y.__setitem__, ((*lead, i), x)) for i, x in enumerate(step.inputs)]


def _concatenate(step: Step) -> list[Call]:
    return [(np.concatenate, (step.inputs, step.params["axis"], step.outputs[0]))]


def _getitem(step: Step) -> list[Call]:
    x, y, index = step.inputs[0], step.outputs[0], step.params["index"]
    if not isinstance(index, np.ndarray) or index.dtype.kind not in "iu":
        return []
    return [(x.take, (memory_of(index), 0, y, "raise"))]


def _fold(step: Step) -> list[Call]:
    y = step.outputs[0]
    if not y.flags.c_contiguous:
        return []
    return reduce.calls(step.name, step.inputs[0], step.params["axis"], y)


_MADE: dict[str, Callable[[Step], list[Call]]] = {
    "matmul": _matmul,
    "reshape": _reshape,
    "astype": _astype,
    "getitem": _getitem,
    "sum": _fold,
    "max": _fold,
    "min": _fold,
    "stack": _stack,
    "concatenate": _concatenate,
}


def _shapes(step: Any) -> str:
    came = ", ".join("x".join(map(str, x.shape)) or "scalar" for x in step.inputs[:4])
    gone = ", ".join("x".join(map(str, y.shape)) or "scalar" for y in step.outputs[:4])
    return f"{came} -> {gone}"
