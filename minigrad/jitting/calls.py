"""A recorded step as a flat list of calls over the memory that it ran in.

Each call is a function and its arguments: a ufunc of ours with the array it writes, the loop of a
scan, a copy. They were looked up once; a replay goes down the list, in C where it can
(kernels/flat.py). Steps whose results nothing
reads are left out, and neighbouring elementwise ones become one kernel (fusing.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .. import ops, versions
from ..kernels import index as tables
from ..kernels import jit, linear, reduce
from ..kernels import multiplying as products
from ..kernels import probabilities as logits
from ..kernels.elementwise import loop
from ..kernels.flat import Call, Check, view_at
from ..kernels.work import Work, call
from ..kinds import FLOATS
from .arguments import memory_of
from .fusing import fused
from .recording import Recording
from .steps import Step

Array = np.ndarray


class Listed(NamedTuple):
    """A part of the program: what it does, in the words of `explain`, and its calls.

    kind: "product", "loop", "kernel", "update" or "other". reads, writes: ids of the memory.
    movable: whether it does no more than compute. owner: the step's.
    """

    says: str
    where: str
    calls: list[Call]
    kind: str
    reads: list[int]
    writes: list[int]
    movable: bool = False
    owner: Any = None


def listed(steps: Sequence[Step], results: Sequence[Array]) -> list[Listed]:
    """The parts of the program, in order. results: arrays that are read after the last call."""
    parts: list[Listed] = []
    for group in fused(steps, _read_by_others(steps, results)):
        read: list[Array] = [*group.inputs]
        movable, owner = True, None
        if isinstance(group, Step):
            name, calls, where, kind = group.name, calls_of(group), group.where, _kind(group)
            read += group.arrays
            movable, owner = group.op is not None or kind in ("copy", "loop"), group.owner
        else:
            run = loop(group.text, group.signature, group.dtype)
            calls = [(run, (*group.inputs, *group.outputs))]
            name, where, kind = " + ".join(group.names), group.steps[0].where, "kernel"
        says = f"{name}: {_shapes(group.inputs)} -> {_shapes(group.outputs)}"
        reads, writes = ([id(versions.owner(a)) for a in x] for x in (read, group.outputs))
        parts.append(Listed(says, where, calls, kind, reads, writes, movable, owner))
    return parts


def _kind(step: Step) -> str:
    if step.op is None:
        return step.what
    return {"matmul": "product", "elementwise": "kernel"}.get(step.op.kind, "other")


def _shapes(arrays: Sequence[Array]) -> str:
    shown = ["x".join(map(str, a.shape)) or "1" for a in arrays[:4]]
    return ", ".join(shown + ["..."] * (len(arrays) > 4)) or "nothing"


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
    if step.faster is not None and (calls := step.faster()):
        return calls
    if step.again is not None:
        found = _MADE[step.name](step) if step.name in _MADE else []
        return found or [(step.again, ())]
    assert step.op is not None
    y = step.outputs[0]
    if step.elementwise:
        dtype = step.inputs[-1].dtype
        integers = getattr(step.op, "integers", None)
        if integers is not None and not all(x.dtype in FLOATS for x in step.inputs):
            return [(integers, (*step.inputs, y))]
        return [(step.op.loops[dtype], (*step.inputs, y))]
    found = _MADE.get(step.op.name, _no_calls)(step)
    return found or [(partial(_again, step.op, step.inputs, step.params, y), ())]


def _again(op: Any, inputs: list[Array], params: dict[str, Any], y: Array) -> None:
    y[...] = op.forward(inputs, params)


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
    return _looked_up(step) or [(x.take, (memory_of(index), 0, y, "raise"))]


def _looked_up(step: Step) -> list[Call]:
    """Rows of a table by an index of int64; the index is looked at before."""
    x, y, index = step.inputs[0], step.outputs[0], memory_of(step.params["index"])
    if not _plain_rows(x, index, y):
        return []
    works = tables.take_rows_work(x, index, y)
    return _checked(step, works, lambda: step.op.forward([x], {"index": index}))  # type: ignore[union-attr]


def _added_at(step: Step) -> list[Call]:
    """The same the other way round: rows added to those of a table; or an array to a view."""
    index, part, into = memory_of(step.params["index"]), step.inputs[0], step.outputs[0]
    view = view_at(into, index)
    if view is not None:
        if part.dtype not in FLOATS or part.dtype != into.dtype:
            return []
        return [(ops.add.loops[into.dtype], (view, part, view))]
    if not _plain_rows(into, index, part):
        return []
    return _checked(step, tables.scatter_add_work(into, index, part), step.again)


def _plain_rows(table: Array, index: Any, rows: Array) -> bool:
    return (
        jit.mode() == "native"
        and isinstance(index, np.ndarray)
        and index.dtype == np.int64
        and table.dtype in FLOATS
        and table.dtype == rows.dtype
        and rows.shape == index.shape + table.shape[1:]
        and all(a.flags.c_contiguous and a.size for a in (table, index, rows))
    )


def _checked(step: Step, works: list[Work], again: Any) -> list[Call]:
    """Work that begins by counting, in the last word of its job, what is wrong with an index."""
    counted, *others = _calls(step, works)
    return [counted, (Check(works[0].job, 0, again), ()), *others]


def _calls(step: Step, works: list[Work], *arrays: Array) -> list[Call]:
    """Calls of prepared work; the step keeps the words that it reads, and arrays of its own."""
    step.owner = step.owner, works, arrays
    return [call(work) for work in works]


def _cross_entropy(step: Step) -> list[Call]:
    x, y, targets = step.inputs[-1], step.outputs[0], memory_of(step.params["index"])
    arrays = [*step.inputs, targets, y]
    if jit.mode() != "native" or targets.dtype != np.int64:
        return []
    if not all(a.flags.c_contiguous and a.size for a in arrays):
        return []
    ignored, reduction = step.params["ignore_index"], step.params["reduction"]
    if len(step.inputs) == 2:  # its gradient, behind it: the targets are those
        g = step.inputs[0]
        works = logits.cross_entropy_pull_work(g, x, targets, ignored, reduction, y)
        return _calls(step, works)
    losses = y if reduction == "none" else np.empty(targets.shape, x.dtype)
    works = logits.cross_entropy_work(x, targets, ignored, reduction, losses, y)
    counted, *others = _calls(step, works, losses)
    again = partial(_again, step.op, step.inputs, step.params, y)
    return [counted, (Check(works[0].job, -1, again), ()), *others]


def _linear(step: Step) -> list[Call]:
    (x, weight, bias), y = step.inputs, step.outputs[0]
    rows, out = _same_memory(x, (-1, x.shape[-1])), _same_memory(y, (-1, y.shape[-1]))
    if jit.mode() != "native" or rows is None or out is None or not out.flags.c_contiguous:
        return []
    if not bias.flags.c_contiguous or not bias.size:
        return []
    product: Call = products.product(x.dtype), (rows, weight.T, out)
    return [product, *_calls(step, [linear.add_to_rows_work(out, bias)])]


def _rows(step: Step) -> list[Call]:
    """Softmax and its kin along the last axis."""
    x, y = step.inputs[0], step.outputs[0]
    arrays = [*step.inputs, y]
    if jit.mode() != "native" or step.params["axis"] != (x.ndim - 1,) or y.shape != x.shape:
        return []
    if not all(a.flags.c_contiguous and a.size for a in arrays):
        return []
    return _calls(step, [logits.rows_work(step.name, x, step.inputs[-1], y)])


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
    "add at an index": _added_at,
    "cross_entropy": _cross_entropy,
    "cross_entropy_pull": _cross_entropy,
    "linear": _linear,
    "softmax": _rows,
    "log_softmax": _rows,
    "softmax_pull": _rows,
    "log_softmax_pull": _rows,
    "sum": _fold,
    "max": _fold,
    "min": _fold,
    "stack": _stack,
    "concatenate": _concatenate,
}
