"""Writing down: what becomes of an op that a cell applies to values of its step.

What an op is asked here it carries itself (op.py): where the batch axis goes (`batch`), how two
parts of a reduction join (`fold`), what it is in other ops (`expand`). An op that does not say so
is refused by its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import ops
from ..axes import canonical_axes
from ..errors import DTypeError, ShapeError, TraceError
from ..op import Op
from ..tape import state
from ..tensors import Tensor, as_tensor
from . import batch
from .inferring import infer, is_same
from .program import AFTER, BEFORE, STEP, Value, freeze
from .tracer import Abstract, Tracer, trace_of

if TYPE_CHECKING:
    from .trace import Trace

Cut = tuple[int, ...]


def write(trace: Trace, op: Op, args: Sequence[Any], params: dict[str, Any]) -> Any:
    """op(*args, **params) as a value of the step: its Tracer."""
    inputs: list[Any] = []
    cut: Cut = ()
    for i, a in enumerate(args):
        if type(a) is Tracer:
            if a._trace is not trace:
                trace_of(args, params)  # says so
            inputs.append(a._value)
            if a._cut:
                cut += (i,)
        elif isinstance(a, np.generic) or (type(a) is np.ndarray and a.ndim == 0):
            inputs.append(a.item())
        elif isinstance(a, (bool, int, float)):
            inputs.append(a)
        else:
            inputs.append(trace.weight(a))
    if trace.recording and trace.forward and not state.recording:  # a no_grad in the cell
        args = [a.detach() if type(a) is Tracer else a for a in args]
        cut = tuple([i for i, a in enumerate(args) if type(a) is Tracer])
    if op.kind == "elementwise":
        value = _alike(trace, op, inputs) or _broadcast(trace, op, _as_floats(trace, op, inputs))
        value.cut = cut
        return Tracer(trace, value)
    if any(isinstance(p, (Abstract, Tracer)) for p in params.values()):
        return _chosen(trace, op, args, params)
    tracers = [
        a if type(a) is Tracer else Tracer(trace, v) if type(v) is Value else v
        for a, v in zip(args, inputs, strict=True)
    ]
    if op is ops.matmul:
        return _matmul(trace, op, inputs, tracers, cut)
    return _arrays(trace, op, inputs, tracers, params, cut)


def refused(op: Op, why: str) -> TraceError:
    """The error for an op of a user's that is no loop yet."""
    return TraceError(
        f"scan: {op.name} cannot be compiled: {why}. Or write it with ops of minigrad (a function "
        f"of Tensors needs no op of its own), apply it ahead of the scan or to what scan returns, "
        f"or run this cell with mode='tape'."
    )


def _no_sums(op: Op, values: Sequence[Any]) -> None:
    if any(type(v) is Value and v.stage == AFTER for v in values):
        raise TraceError(f"scan: {op.name} mixes a value of a step with a sum over all steps.")


# -- element by element ----------------------------------------------------------------------------


def _as_floats(trace: Trace, op: Any, inputs: list[Any]) -> list[Any]:
    """The inputs, integers and masks among floats converted to the step's dtype, as eagerly."""
    kinds = {v.dtype.kind for v in inputs if type(v) is Value}
    if "f" not in kinds or len(kinds) < 2 or not op.differentiable:
        return inputs
    found = list(inputs)
    for i, (name, v) in enumerate(zip(op.inputs, inputs, strict=True)):
        if type(v) is not Value or v.dtype.kind == "f" or name in op.bools:
            continue
        if v.role == "weight":  # a step reads weights where they are
            found[i] = trace.weight(ops.astype(trace.tensors[v], trace.dtype))
        else:
            found[i] = ops.astype(Tracer(trace, v), trace.dtype)._value
    return found


def _alike(trace: Trace, op: Any, inputs: list[Any]) -> Value | None:
    """The usual case, in few steps: floats of one type, and numbers; else None."""
    first = None
    for v in inputs:
        if type(v) is not Value:
            continue
        if first is None:
            first = v
            if v.stage != STEP or v.dtype != trace.dtype:
                return None
        elif (
            v.shape != first.shape or v.batch != first.batch or v.stage != STEP
            or v.dtype != first.dtype
        ):  # fmt: skip
            return None
    if first is None or op.bools:
        return None
    dtype = _MASK if op.masked else first.dtype
    return trace.step(op, inputs, first.shape, dtype, (first.batch, first.many))


def _broadcast(trace: Trace, op: Any, inputs: list[Any]) -> Value:
    values = [v for v in inputs if type(v) is Value]
    no_floats = all(v.dtype.kind != "f" for v in values)
    if op.bools and not op.masked and no_floats and trace.forward and trace.dtype == np.float32:
        raise DTypeError(  # where(mask, 1.0, 0.0): eager numbers alone make float64
            f"{op.name}: of two numbers it is float64, in a step of float32. Say "
            "mask.astype(x.dtype) for ones and zeros, or give one of the two as a tensor of "
            "float32."
        )
    if any(v.dtype.kind in "iu" for v in values) and all(v.from_x for v in values):
        # of integers of the input, such as `index != 0`: that is hoisted, as loops know none
        _, axis, _ = batch.broadcast(values)
        shape, made = infer(op, inputs, {})
        trace._one_dtype(made, f"{op.name} of integers")
        return trace.step(op, inputs, shape, made, axis)
    for name, v in zip(op.inputs, inputs, strict=True):
        wanted = "b" if name in op.bools else "f"
        if type(v) is Value and v.dtype.kind != wanted:
            raise DTypeError(
                f"{op.name}: {name} is {v.type()} in a step; expected "
                f"{'a mask' if wanted == 'b' else 'floats'}. Convert it with .astype first."
            )
    dtype = _MASK if op.masked else trace.dtype
    first = values[0]
    shape, row = first.shape, first.batch
    if row is not None and all(
        v.shape == shape and v.batch == row and v.stage == first.stage for v in values[1:]
    ):
        value = trace.step(op, inputs, shape, dtype, (row, first.many))
        value.stage = first.stage  # AFTER: gradients of what has a row for each of the batch
        return value
    stages = {v.stage for v in values}
    if STEP not in stages:
        return trace.outside(op, inputs, {}, AFTER if AFTER in stages else BEFORE)
    _no_sums(op, values)
    shape, axis, rows = batch.broadcast(values)
    assert axis is not None
    for i in rows:
        old = values[i]
        at = axis.at - (len(shape) - len(old.shape))
        new = trace.with_rows(old, at, axis.many)
        inputs = [new if v is old else v for v in inputs]
    return trace.step(op, inputs, shape, dtype, axis)


_MASK = np.dtype(bool)


# -- views and reductions --------------------------------------------------------------------------


def _arrays(
    trace: Trace, op: Op, inputs: list[Any], tracers: list[Any], params: dict[str, Any], cut: Cut
) -> Any:
    values: list[Any] = [v if type(v) is Value else trace.weight(np.asarray(v)) for v in inputs]
    stages = {v.stage for v in values}
    params = op.prepared(values, params)
    if STEP not in stages:
        if op.shaped and not op.assembles and values[0].shape == params[op.shaped]:
            return Tracer(trace, values[0], bool(cut))
        value = trace.outside(op, values, params, AFTER if AFTER in stages else BEFORE)
        value.cut = cut
        return Tracer(trace, value)
    _no_sums(op, values)
    if op.expansion is not None:
        written = op.expansion(*([tracers] if op.variadic else tracers), **params)
        if written is not None:
            return written
    if op.kind == "view":
        return _view(trace, op, values, params, cut)
    if op.kind == "reduce":
        return _reduce(trace, op, values[0], params, cut)
    raise refused(
        op,
        f"loops know the product matmul alone; declare what it is in other ops, @{op.name}.expand",
    )


def _view(trace: Trace, op: Op, values: list[Value], params: dict[str, Any], cut: Cut) -> Any:
    if op.batch_rule is None:
        raise refused(
            op,
            f"it does not say where the rows of the batch go; declare that with @{op.name}.batch",
        )
    if op.variadic and not op.assembles:
        raise refused(op, "of several arrays a view is new memory; declare it with assembles=True")
    if op.variadic:
        values = _joined(trace, op, values)
    v = values[0]
    types = tuple([(w.shape, w.dtype) for w in values])
    key = (op, types, v.batch, v.many, trace.rows, freeze(params))
    known = _VIEWS.get(key)
    if known is None:
        if len(_VIEWS) >= _MOST:
            _VIEWS.clear()
        known = _VIEWS[key] = _looked_at(trace, op, values, params)
    if known.same:
        return Tracer(trace, v, bool(cut))  # the input as it is
    if known.axis is None:
        return _cast(trace, op, v, params, known.dtype, cut)
    return Tracer(
        trace, trace.step(op, values, known.shape, known.dtype, known.axis, known.params, cut)
    )


class _Look(NamedTuple):
    """What a view makes of a type. axis: None where it changes the dtype."""

    shape: tuple[int, ...]
    dtype: np.dtype
    axis: batch.Axis | None
    params: dict[str, Any]
    same: bool = False


_VIEWS: dict[Any, _Look] = {}
_MOST = 4096


def _looked_at(trace: Trace, op: Op, values: list[Value], params: dict[str, Any]) -> _Look:
    v = values[0]
    shape, dtype = infer(op, values, params)
    if dtype != v.dtype:
        return _Look(shape, dtype, None, params)
    axis = batch.follow(op, values, params, shape, trace.rows)
    same = not op.assembles and is_same(op, v, params) and axis == (v.batch, v.many)
    if op.shaped:
        row = list(params[op.shaped])
        row[axis.at] = axis.many
        params = {**params, op.shaped: tuple(row)}
    return _Look(shape, dtype, axis, params, same)


def _joined(trace: Trace, op: Op, values: list[Value]) -> list[Value]:
    """What is joined, all with a batch axis: weights are repeated for the rows."""
    main = next(v for v in values if v.stage == STEP)
    found = []
    for v in values:
        if v.dtype != main.dtype:
            raise DTypeError(f"{op.name}: {v.type()} beside {main.type()}; expected one dtype.")
        if v.stage == STEP:
            if (v.batch, v.many) != (main.batch, main.many):
                raise batch.mixed(op, v, "the batch lies on different axes")
            found.append(v)
            continue
        assert main.batch is not None  # a constant, the same for all rows or not
        shape = list(v.shape)
        shape[main.batch] = trace.rows * main.many
        if v.role != "weight":
            raise TraceError(f"scan: {op.name} of {v.type()}, which is no input.")
        if tuple(shape) != v.shape:
            v = trace.weight(ops.broadcast_to(trace.tensors[v], tuple(shape)))
        found.append(trace.with_rows(v, main.batch, main.many))
    return found


def _cast(
    trace: Trace, op: Op, v: Value, params: dict[str, Any], wanted: np.dtype, cut: Cut
) -> Any:
    """A view that changes the dtype."""
    if v.dtype.kind == "b" and wanted == trace.dtype:
        one = CONSTANTS.setdefault(wanted, as_tensor(np.ones((), wanted)))
        return trace.apply(ops.where, (Tracer(trace, v, bool(cut)), one, 0.0), {})
    if not v.from_x:
        raise TraceError(
            f"scan: {op.name} from {v.type()} to {wanted}: a step has one float dtype, "
            f"{trace.dtype}; convert what comes in before the scan."
        )
    return Tracer(trace, trace.step(op, [v], v.shape, wanted, (v.batch, v.many), params, cut))


CONSTANTS: dict[np.dtype, Tensor] = {}  # ones


def _reduce(trace: Trace, op: Op, v: Value, params: dict[str, Any], cut: Cut) -> Any:
    if op.fold is None or "axis" not in params:
        raise refused(
            op,
            "it does not say how two parts of it join; declare the op that does, as in "
            "@reduce(fold=multiply), and call its axes `axis`",
        )
    axes, keep = canonical_axes(params["axis"], len(v.shape)), bool(params.get("keepdims"))
    folded = tuple([
        1 if i in axes else n for i, n in enumerate(v.shape) if keep or i not in axes
    ])  # fmt: skip
    # Ours are known to keep the dtype: running one, to see, would compile it for nothing.
    ours = op in (ops.sum, ops.max, ops.min) and v.dtype.kind == "f"
    shape, dtype = (folded, v.dtype) if ours else infer(op, [v], params)
    if shape != folded:
        raise ShapeError(
            f"{op.name}: of {v.type()} it is {list(shape)}; a fold over {axes} is {list(folded)}."
        )
    assert v.batch is not None
    if v.batch not in axes:
        at = v.batch if keep else v.batch - sum(a < v.batch for a in axes)
        return Tracer(trace, trace.step(op, [v], shape, dtype, (at, v.many), params, cut))
    if op is not ops.sum or trace.forward:
        raise batch.mixed(op, v, "it reduces over the batch axis")
    return _sum_of_rows(trace, op, v, axes, shape)


def _sum_of_rows(
    trace: Trace, op: Op, v: Value, axes: tuple[int, ...], out: tuple[int, ...]
) -> Any:
    """A gradient summed over the batch: in the step over all other axes, the rest behind the
    loop.
    """
    assert v.batch is not None
    if v.many > 1:  # features that were merged into the batch axis come out of it first
        at = v.batch
        apart = (*v.shape[:at], trace.rows, v.many, *v.shape[at + 1 :])
        inner = trace.tracer(v).reshape(apart)
        moved = tuple(a + (a > at) for a in axes) + (at + 1,)
        total = ops.sum(inner, axis=tuple(sorted(moved)), keepdims=False)
        return total.reshape(out)
    rest = tuple(a for a in axes if a != v.batch)
    x = ops.sum(trace.tracer(v), axis=rest, keepdims=True)._value if rest else v
    shape = tuple(1 if i == v.batch else n for i, n in enumerate(x.shape))
    params = {"axis": (v.batch,), "keepdims": True}
    return trace.tracer(trace.after(op, (x,), shape, params)).reshape(out)


# -- products --------------------------------------------------------------------------------------


def _matmul(trace: Trace, op: Op, inputs: list[Any], tracers: Sequence[Any], cut: Cut) -> Any:
    if any(type(v) is not Value for v in inputs):
        raise TraceError("scan: matmul with a number; use *.")
    a, b = inputs
    x, y = tracers
    op.prepared(inputs, {})
    stages = {a.stage, b.stage}
    for name, v in zip(op.inputs, inputs, strict=True):
        if v.dtype.kind != "f":
            raise DTypeError(f"matmul: {name} is {v.type()} in a step; expected floats.")
    if STEP not in stages:
        return trace.tracer(trace.outside(op, inputs, {}, AFTER if AFTER in stages else BEFORE))
    _no_sums(op, inputs)
    last = len(a.shape) - 1
    if b.batch is None and len(b.shape) == 2 and a.batch != last:
        if a.batch:  # rows first, as the gradient of b will want them
            return ops.swapaxes(ops.swapaxes(x, 0, a.batch) @ y, 0, a.batch)
        shape = (*a.shape[:-1], b.shape[1])
        return Tracer(trace, trace.step(op, [a, b], shape, a.dtype, (0, a.many), None, cut))
    if a.batch == last and b.batch == len(b.shape) - 2 and len(a.shape) == len(b.shape) == 2:
        if trace.forward:
            raise batch.mixed(op, a, "it sums over the batch")
        value = trace.after(op, (a, b), (a.shape[0], b.shape[1]), {})
        value.cut = cut
        return trace.tracer(value)
    if a.batch is None and len(a.shape) == 2 and b.batch == len(b.shape) - 1 > 0:
        return ops.swapaxes(ops.swapaxes(y, -1, -2) @ ops.swapaxes(x, 0, 1), -1, -2)
    inner = (a.batch == last, b.batch == max(len(b.shape) - 2, 0))
    if any(inner):
        raise batch.mixed(op, a if inner[0] else b, "it sums over the batch")
    # The rest is products of elements, summed: (M, K, 1) * (1, K, N) over K.
    if len(b.shape) == 1:
        return ops.sum(x * y, axis=-1)
    if len(a.shape) == 1:
        return ops.sum(ops.expand_dims(x, -1) * y, axis=-2)
    return ops.sum(ops.expand_dims(x, -1) * ops.expand_dims(y, -3), axis=-2)


# -- values as parameters --------------------------------------------------------------------------


def _chosen(trace: Trace, op: Op, args: Sequence[Any], params: dict[str, Any]) -> Any:
    """table[index], with integers that are part of the input: an embedding."""
    name, index = next((k, p) for k, p in params.items() if isinstance(p, (Abstract, Tracer)))
    index = index.tracer
    v, table = index._value, args[0]
    if v.dtype.kind == "b":
        index._no_value("it was used as an index", "choose with mg.where")
    if not isinstance(table, Tensor) or isinstance(table, Tracer) or not v.from_x:
        index._no_value("it was used as an index", "index a Tensor with xs")
    return trace.computed(table.name or "table", op(table, **{name: index.all_steps()}), v)
