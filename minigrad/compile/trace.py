"""Tracing: a cell called once on Tracers leaves the Program of its step.

A Tracer is a Tensor without values: ops applied to it are written down instead of run. What a cell
does with Tensors alone (`W.T`, `b_ih + b_hh`) runs eagerly, ahead of the loop and on the tape; the
results, and whatever else the cell closes over, are the step's weights.

A product of a weight with something that does not depend on the carry is not part of the step: it
is done for the whole sequence at once, as an eager op on (T, B, ...) (`hoist.py`), and the step
reads its t-th row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..axes import canonical_axis
from ..errors import DTypeError, TraceError, describe
from ..op import Op
from ..tape import state
from ..tensors import Tensor, as_tensor
from . import batch, hoist
from .indices import as_tuple, is_all, listed
from .names import made_of, name_of
from .program import AFTER, BEFORE, STEP, Value, infer
from .tracer import Abstract, Tracer, trace_of

Array = np.ndarray
Shape = tuple[int, ...]


class Trace:
    """One cell being traced: the values so far, and how each op is written down."""

    def __init__(self, rows: int):
        self.rows = rows
        self.forward = True  # False while a backward step is traced: that sums over the batch
        self.values: list[Value] = []
        self.weights: dict[int, Value] = {}
        self.per_row: dict[int, Value] = {}  # index of a weight -> the same with a batch axis
        self.dtype: np.dtype | None = None  # of all floats in the step
        self.taps: dict[str, Value] = {}
        self.kept: list[Any] = []  # what `weights` names by id
        self.recording = state.recording  # outside of the cell, which may say no_grad inside
        self.reads = ""  # why the trace holds for these inputs alone, if it read their values

    # -- inputs

    def input(self, role: str, shape: Shape, dtype: np.dtype, name: str = "") -> Tracer:
        """A carry or an x of the step, (B, ...)."""
        self._one_dtype(dtype, f"the {role} {name}".rstrip())
        return Tracer(self, self._new(Value(len(self.values), role, shape, dtype), name))

    def _new(self, value: Value, name: str = "") -> Value:
        value.name, value.scope = name, state.scope
        self.values.append(value)
        return value

    def _one_dtype(self, dtype: np.dtype, what: str) -> None:
        if dtype.kind != "f":
            return
        if self.dtype is None:
            self.dtype = dtype
        elif dtype != self.dtype:
            raise DTypeError(
                f"scan: {what} is {dtype} in a step of {self.dtype}; a step has one float dtype. "
                f"Convert it: .astype(np.{self.dtype})."
            )

    def weight(self, t: Any) -> Value:
        """What the cell closes over, as an input of the step."""
        known = self.weights.get(id(t))
        if known is not None:
            return known
        tensor = as_tensor(t)
        self._one_dtype(tensor.dtype, f"a weight {describe(tensor)} {tensor.name}".rstrip())
        value = Value(len(self.values), "weight", tensor.shape, tensor.dtype, None, stage=BEFORE)
        value.tensor = tensor
        self.weights[id(t)] = self._new(value, name_of(tensor))
        self.kept.append(t)
        return value

    def with_rows(self, v: Value, at: int, many: int) -> Value:
        """A weight that has a row for each of the batch."""
        if v.index not in self.per_row:
            if v.role != "weight":
                raise TraceError(f"scan: {v.type()} meets the batch, but is no input of the step.")
            value = Value(len(self.values), "rows", v.shape, v.dtype, at, many)
            value.inputs = (v,)
            value.tensor = v.tensor
            self.per_row[v.index] = self._new(value, v.name)
        return self.per_row[v.index]

    # -- ops

    def apply(self, op: Op, args: Sequence[Any], params: dict[str, Any]) -> Any:
        """Writes down op(*args, **params) and returns its Tracer."""
        try:
            return self._apply(op, args, params)
        except TraceError as error:
            where = f" (scope {state.scope})" if state.scope else ""
            if op.name in str(error):
                raise
            raise TraceError(f"{error} In {op.name}{where}.") from None

    def _apply(self, op: Op, args: Sequence[Any], params: dict[str, Any]) -> Any:
        inputs: list[Any] = []
        cut: tuple[int, ...] = ()
        for i, a in enumerate(args):
            if type(a) is Tracer:
                if a._trace is not self:
                    trace_of(args, params)  # says so
                inputs.append(a._value)
                if a._cut:
                    cut += (i,)
            elif isinstance(a, np.generic) or (type(a) is np.ndarray and a.ndim == 0):
                inputs.append(a.item())
            elif isinstance(a, (bool, int, float)):
                inputs.append(a)
            else:
                inputs.append(self.weight(a))
        if self.recording and self.forward and not state.recording:  # a no_grad in the cell
            args = [a.detach() if type(a) is Tracer else a for a in args]
            cut = tuple([i for i, a in enumerate(args) if type(a) is Tracer])
        if op.kind == "elementwise":
            if op is ops.where and self.forward and not any(_is_float(v) for v in inputs):
                self._two_numbers()
            value = self._elementwise(op, inputs, cut)
        elif op is ops.matmul:
            return self._matmul(op, inputs, args)
        elif op.kind not in ("view", "reduce"):
            raise self._unknown(op, "products other than matmul are not known to the compiler")
        elif op.name == "getitem" and isinstance(params["index"], (Abstract, Tracer)):
            return self._lookup(args[0], params["index"].tracer)
        elif op.name == "cumsum":
            return self._cumsum(args[0], params)
        else:
            first = len(self.values)
            value = self._other(op, inputs, params, cut)
            if isinstance(value, Value) and value.index < first:  # the input as it is
                return Tracer(self, value, bool(cut))
        if isinstance(value, Value):
            value.cut = cut
            return Tracer(self, value)
        return value

    def _two_numbers(self) -> None:
        """Refuses where(mask, 1.0, 0.0) in float32: eager numbers alone make float64."""
        if self.dtype == np.float32:
            raise DTypeError(
                "where: of two numbers it is float64, in a step of float32. Say "
                "mask.astype(x.dtype) for ones and zeros, or give one of the two as a tensor of "
                "float32."
            )

    def again(self, v: Value, inputs: tuple[Any, ...]) -> Value:
        """v with other inputs of the same types."""
        value = Value(
            len(self.values), v.role, v.shape, v.dtype, v.batch, v.many, v.op, inputs, v.params,
            v.stage,
        )  # fmt: skip
        value.cut, value.from_x = v.cut, v.from_x
        return self._new(value, v.name)

    def _step(self, op: Op, inputs: Sequence[Any], shape: Shape, dtype: Any, axis: Any) -> Value:
        at, many = axis
        value = Value(len(self.values), "op", shape, dtype, at, many, op, tuple(inputs))
        value.from_x = all(v.from_x or v.stage == BEFORE for v in inputs if type(v) is Value)
        return self._new(value)

    def _elementwise(self, op: Any, inputs: list[Any], cut: tuple[int, ...]) -> Value:
        values = [v for v in inputs if type(v) is Value]
        floats = self.dtype
        if any(v.dtype.kind in "iu" for v in values) and all(v.from_x for v in values):
            return self._hoisted(op, inputs, {})  # of the input alone, such as `index != 0`
        for name, v in zip(op.inputs, inputs, strict=True):
            wanted = "b" if name in op.bools else "f"
            if type(v) is Value and v.dtype.kind != wanted:
                raise DTypeError(
                    f"{op.name}: {name} is {v.type()} in a step; expected "
                    f"{'a mask' if wanted == 'b' else 'floats'}. Convert it with .astype first."
                )
        dtype = np.dtype(bool) if op.source.signature.endswith("b") else floats
        first = values[0]
        shape, row = first.shape, first.batch
        if row is not None and all(
            v.shape == shape and v.batch == row and v.stage == first.stage for v in values[1:]
        ):
            value = self._step(op, inputs, shape, dtype, (row, first.many))
            value.stage = first.stage  # AFTER: gradients of what has a row for each of the batch
            return value
        stages = {v.stage for v in values}
        if STEP not in stages:
            return self.outside(op, inputs, {}, AFTER if AFTER in stages else BEFORE)
        self._no_sums(op, values)
        shape, axis, rows = batch.broadcast(values)
        assert axis is not None
        for i in rows:
            old = values[i]
            at = axis.at - (len(shape) - len(old.shape))
            new = self.with_rows(old, at, axis.many)
            inputs = [new if v is old else v for v in inputs]
        return self._step(op, inputs, shape, dtype, axis)

    def _no_sums(self, op: Op, values: Sequence[Value]) -> None:
        if any(v.stage == AFTER for v in values):
            raise TraceError(f"scan: {op.name} mixes a value of a step with a sum over all steps.")

    def outside(self, op: Op, inputs: Sequence[Any], params: dict[str, Any], stage: str) -> Value:
        """An op on values without a batch axis."""
        shape, dtype = infer(op, inputs, params)
        value = Value(
            len(self.values), "op", shape, dtype, None, 1, op, tuple(inputs), params, stage
        )
        return self._new(value, made_of(op, inputs))

    def _other(
        self, op: Op, inputs: list[Any], params: dict[str, Any], cut: tuple[int, ...]
    ) -> Any:
        """Views and reductions."""
        values = [v for v in inputs if type(v) is Value]
        if len(values) != len(inputs):
            inputs = values = [
                v if type(v) is Value else self.weight(np.asarray(v)) for v in inputs
            ]
        params = op.prepared(inputs, params)
        stages = {v.stage for v in values}
        if STEP not in stages:
            if op.name == "reshape" and params["shape"] == values[0].shape:
                return values[0]
            return self.outside(op, inputs, params, AFTER if AFTER in stages else BEFORE)
        self._no_sums(op, values)
        if op.name == "getitem" and (split := listed(params["index"], values[0])):
            return self._listed_index(Tracer(self, values[0], bool(cut)), *split)
        if op.kind == "reduce":
            if op not in _FOLDS:
                raise self._unknown(op, "the loops know the reductions sum, max and min")
            return self._reduce(op, values[0], params)
        if op.name == "astype":
            return self._astype(op, values[0], params)
        if op.name not in batch.KNOWN:
            raise self._unknown(op, "how it treats the rows of the batch is not declared")
        if op.variadic:
            inputs = values = self._joined(op, values, params)
        v = values[0]
        shape, dtype = infer(op, values, params)
        axis = batch.follow(op.name, v, params, shape, self.rows, state.scope)
        if op.name == "getitem" and shape == v.shape and axis.at == v.batch:
            items = zip(as_tuple(params["index"]), v.shape, strict=False)
            if all(is_all(item, n) for item, n in items):
                return v  # x[...] of everything
        if op.name in ("reshape", "broadcast_to") and shape == v.shape:
            return v
        if "shape" in params and op.name in ("reshape", "broadcast_to", "scatter"):
            row = list(params["shape"])
            row[axis.at] = axis.many
            params = {**params, "shape": tuple(row)}
        value = self._step(op, inputs, shape, dtype, axis)
        value.params = params
        return value

    def _unknown(self, op: Op, why: str) -> TraceError:
        """The error for an op of a user's that is no loop yet."""
        return TraceError(
            f"scan: {op.name} cannot be compiled: {why}. Write it with ops of minigrad (a function "
            f"of Tensors needs no op of its own), apply it ahead of the scan or to what scan "
            f"returns, or run this cell with mode='tape'."
        )

    def _joined(self, op: Op, values: list[Value], params: dict[str, Any]) -> list[Value]:
        """What is joined, all with a batch axis: weights are repeated for the rows."""
        main = next(v for v in values if v.stage == STEP)
        like = np.dtype(main.dtype)
        found = []
        for v in values:
            if v.dtype != like:
                raise DTypeError(f"{op.name}: {v.type()} beside {main.type()}; expected one dtype.")
            if v.stage == STEP:
                if (v.batch, v.many) != (main.batch, main.many):
                    raise batch.mixes(op.name, v, state.scope, "the batch lies on different axes")
                found.append(v)
            else:  # a constant, the same for all rows or not
                assert main.batch is not None
                shape = list(v.shape)
                shape[main.batch] = self.rows * main.many
                if v.role != "weight":
                    raise TraceError(f"scan: {op.name} of {v.type()}, which is no input.")
                if tuple(shape) != v.shape:
                    v = self.weight(ops.broadcast_to(v.tensor, tuple(shape)))
                found.append(self.with_rows(v, main.batch, main.many))
        return found

    def tracer(self, value: Value) -> Tracer:
        return Tracer(self, value)

    def _astype(self, op: Op, v: Value, params: dict[str, Any]) -> Any:
        wanted = params["dtype"]
        if wanted == v.dtype:
            return v
        if v.dtype.kind == "b" and wanted == self.dtype:
            one = _ONES.setdefault(wanted, as_tensor(np.ones((), wanted)))
            return self.apply(ops.where, (self.tracer(v), one, 0.0), {})
        if v.role == "x" and v.from_x and v.tensor is not None:
            return self._hoisted(op, [v], params)
        raise TraceError(
            f"scan: astype from {v.type()} to {wanted}: a step has one float dtype, "
            f"{self.dtype}; convert what comes in before the scan."
        )

    def _reduce(self, op: Op, v: Any, params: dict[str, Any]) -> Any:
        axes, keep = params["axis"], params["keepdims"]
        if v.batch not in axes:
            shape, dtype = infer(op, [v], params)
            at = v.batch if keep else v.batch - sum(a < v.batch for a in axes)
            value = self._step(op, [v], shape, dtype, (at, v.many))
            value.params = params
            return value
        if op.name != "sum" or self.forward:
            raise batch.mixes(op.name, v, state.scope, "it reduces over the batch axis")
        rest = tuple(a for a in axes if a != v.batch)
        if v.many > 1:  # features that were merged into the batch axis come out of it first
            at = v.batch
            apart = (*v.shape[:at], self.rows, v.many, *v.shape[at + 1 :])
            inner = self.tracer(v).reshape(apart)
            moved = tuple(a + (a > at) for a in axes) + (at + 1,)
            total = ops.sum(inner, axis=tuple(sorted(moved)), keepdims=False)
            return total.reshape(infer(op, [v], params)[0])
        x = ops.sum(self.tracer(v), axis=rest, keepdims=True)._value if rest else v
        total = Value(
            len(self.values), "op", tuple(1 if i == v.batch else n for i, n in enumerate(x.shape)),
            v.dtype, None, 1, op, (x,), {"axis": (v.batch,), "keepdims": True}, AFTER,
        )  # fmt: skip
        return self.tracer(self._new(total)).reshape(infer(op, [v], params)[0])

    # -- products

    def _matmul(self, op: Op, inputs: list[Any], args: Sequence[Any]) -> Any:
        if any(type(v) is not Value for v in inputs):
            raise TraceError("scan: matmul with a number; use *.")
        a, b = inputs
        op.prepared(inputs, {})
        stages = {a.stage, b.stage}
        for name, v in zip(op.inputs, inputs, strict=True):
            if v.dtype.kind != "f":
                raise DTypeError(f"matmul: {name} is {v.type()} in a step; expected floats.")
        if STEP not in stages:
            return self.tracer(self.outside(op, inputs, {}, AFTER if AFTER in stages else BEFORE))
        self._no_sums(op, inputs)
        x, y = (arg if type(arg) is Tracer else self.tracer(v) for arg, v in zip(args, inputs))
        last = len(a.shape) - 1
        if b.batch is None and len(b.shape) == 2 and a.batch != last:
            # Of an input itself the loop does it, for a chunk of steps at once.
            if a.from_x and a.role == "op" and self.forward:
                cut = tuple(i for i, t in enumerate((x, y)) if t._cut)
                return self.tracer(self._hoisted(op, [a, b], {}, cut))
            if a.batch:  # rows first, as the gradient of b will want them
                product = ops.swapaxes(x, 0, a.batch) @ y
                return ops.swapaxes(product, 0, a.batch)
            shape = (*a.shape[:-1], b.shape[1])
            value = self._step(op, [a, b], shape, a.dtype, (a.batch, a.many))
            value.cut = tuple(i for i, t in enumerate((x, y)) if t._cut)
            return self.tracer(value)
        if a.batch == last and b.batch == len(b.shape) - 2 and len(a.shape) == len(b.shape) == 2:
            if self.forward:
                raise batch.mixes("matmul", a, state.scope, "it sums over the batch")
            shape = a.shape[0], b.shape[1]
            value = Value(len(self.values), "op", shape, a.dtype, None, 1, op, (a, b), {}, AFTER)
            value.cut = tuple(i for i, t in enumerate((x, y)) if t._cut)
            return self.tracer(self._new(value))
        if a.batch is None and len(a.shape) == 2 and b.batch == len(b.shape) - 1 > 0:
            return ops.swapaxes(ops.swapaxes(y, -1, -2) @ ops.swapaxes(x, 0, 1), -1, -2)
        inner = (a.batch == last, b.batch == max(len(b.shape) - 2, 0))
        if any(inner):
            v = a if inner[0] else b
            raise batch.mixes("matmul", v, state.scope, "it sums over the batch")
        # The rest is products of elements, summed: (M, K, 1) * (1, K, N) over K.
        if len(b.shape) == 1:
            return ops.sum(x * y, axis=-1)
        if len(a.shape) == 1:
            return ops.sum(ops.expand_dims(x, -1) * y, axis=-2)
        return ops.sum(ops.expand_dims(x, -1) * ops.expand_dims(y, -3), axis=-2)

    # -- what is not written down op by op

    def _hoisted(
        self, op: Op, inputs: Sequence[Value], params: dict[str, Any], cut: Sequence[int] = ()
    ) -> Value:
        """An x of the step, (T, B, ...) being computed by one eager op."""
        whole = as_tensor(hoist.run(op, inputs, params, self.rows, cut))
        v = next(i for i in inputs if type(i) is Value and i.from_x)
        value = Value(len(self.values), "x", whole.shape[1:], whole.dtype, v.batch, v.many, op)
        value.tensor = whole
        return self._new(value, f"{op.name}({', '.join(self._named(i) for i in inputs)})")

    @staticmethod
    def _named(v: Any) -> str:
        return (v.name or repr(v)) if type(v) is Value else repr(v)

    def _lookup(self, table: Any, index: Tracer) -> Tracer:
        """table[index], with integers that are part of the input: an embedding."""
        v = index._value
        if not isinstance(table, Tensor) or isinstance(table, Tracer) or not v.from_x:
            instead = "choose with mg.where" if v.dtype.kind == "b" else "index a Tensor with xs"
            index._no_value("it was used as an index", instead)
        if v.dtype.kind == "b":
            index._no_value("it was used as an index", "choose with mg.where")
        return self.computed(table.name or "table", table[index.all_steps()], v)

    def computed(self, name: str, whole: Any, of: Value) -> Tracer:
        """An input of the step of which all steps are there: made of another, `of`."""
        whole = as_tensor(whole)
        self._one_dtype(whole.dtype, name)
        value = Value(len(self.values), "x", whole.shape[1:], whole.dtype, of.batch, 1, ops.getitem)
        value.tensor = whole
        return self.tracer(self._new(value, f"{name}[{of.name}]"))

    def _cumsum(self, x: Tracer, params: dict[str, Any]) -> Tracer:
        """y_i = sum of x_j over j <= i, as a masked sum: the kernels know no running sum."""
        axis = canonical_axis(params["axis"], x.ndim)
        if axis == x._value.batch:
            raise batch.mixes("cumsum", x._value, state.scope, "it works along the batch axis")
        n = x.shape[axis]
        after = x.ndim - 1 - axis
        mask = (np.arange(n)[:, None] >= np.arange(n)).reshape(n, n, *(1,) * after)
        key = ("cumsum", n, after)
        mask = _MASKS.setdefault(key, as_tensor(mask))
        return ops.sum(ops.where(mask, ops.expand_dims(x, axis), 0.0), axis=axis + 1)

    def _listed_index(self, x: Tracer, axis: int, places: Array, index: tuple[Any, ...]) -> Value:
        """x[..., [2, 0, 1]], as slices joined."""
        v = x._value
        if axis == v.batch:
            raise batch.mixes("getitem", v, state.scope, "it chooses among the rows")
        lead = (slice(None),) * axis
        n = v.shape[axis]
        parts = [x[(*lead, slice(i % n, i % n + 1))] for i in map(int, places)]
        joined = parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=axis)
        rest = tuple(slice(None) if i == axis else item for i, item in enumerate(index))
        return joined[rest]._value if rest else joined._value


_FOLDS = (ops.sum, ops.max, ops.min)
_MASKS: dict[Any, Any] = {}
_ONES: dict[Any, Any] = {}


def _is_float(v: Any) -> bool:
    return type(v) is Value and v.dtype.kind == "f"
