"""The Trace: the values of one step, as they are written down while a cell is called on Tracers.

A Tracer is a Tensor without values: ops applied to it are written down (`writing.py`) instead of
run. What a cell does with Tensors alone (`W.T`, `b_ih + b_hh`) runs eagerly, ahead of the loop and
on the tape; the results, and whatever else the cell closes over, are the step's weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..errors import DTypeError, TraceError, describe
from ..op import Op
from ..tape import state
from ..tensors import as_tensor
from . import sequences, writing
from .inferring import infer
from .names import made_of, name_of
from .padding import cleaned
from .program import AFTER, BEFORE, Value
from .tracer import Tracer

Shape = tuple[int, ...]


class Trace:
    """One cell being traced: the values so far, and how new ones come about.

    tensors: what stands for weights and xs in the call that is traced. reads: why the trace holds
    for these inputs alone, if their values were read.
    """

    def __init__(self, rows: int):
        self.rows = rows
        self.forward = True  # False once passes make values: those may sum over the batch
        self.values: list[Value] = []
        self.weights: dict[int, Value] = {}
        self.per_row: dict[int, Value] = {}  # index of a weight -> the same with a batch axis
        self.dtype: np.dtype | None = None  # of all floats in the step
        self.tensors: dict[Value, Any] = {}
        self.kept: list[Any] = []  # what `weights` names by id
        self.recording = state.recording  # outside of the cell, which may say no_grad inside
        self.reads = ""
        self.real: Any = None  # (T, B), if some steps of xs are padding

    def forget(self) -> None:
        """Lets go of the Tensors of the call that was traced."""
        constants = set(map(id, writing.CONSTANTS.values()))
        self.weights = {i: v for i, v in self.weights.items() if i in constants}
        self.tensors, self.kept = {}, []

    # -- inputs

    def input(self, role: str, shape: Shape, dtype: np.dtype, name: str = "") -> Tracer:
        """A carry or an x of the step, (B, ...)."""
        self._one_dtype(dtype, f"the {role} {name}".rstrip())
        return Tracer(self, self._new(Value(len(self.values), role, shape, dtype), name))

    def weight(self, t: Any) -> Value:
        """What the cell closes over, as an input of the step."""
        known = self.weights.get(id(t))
        if known is not None:
            return known
        tensor = as_tensor(t)
        if not self.forward:
            raise TraceError(
                f"scan: {describe(tensor)} comes up in a gradient rule only; in a step a rule is "
                f"made of g, of what it names, and of numbers."
            )
        self._one_dtype(tensor.dtype, f"a weight {describe(tensor)} {tensor.name}".rstrip())
        value = Value(len(self.values), "weight", tensor.shape, tensor.dtype, None, stage=BEFORE)
        self.tensors[value] = tensor
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
            if v in self.tensors:
                self.tensors[value] = self.tensors[v]
            self.per_row[v.index] = self._new(value, v.name)
        return self.per_row[v.index]

    def computed(self, name: str, whole: Any, of: Value) -> Tracer:
        """An input of the step of which all steps are there: made of another, `of`, in this
        call.
        """
        whole = as_tensor(whole)
        self._one_dtype(whole.dtype, name)
        value = Value(len(self.values), "x", whole.shape[1:], whole.dtype, of.batch, 1, ops.getitem)
        self.tensors[value] = whole
        return self.tracer(self._new(value, f"{name}[{of.name}]"))

    def whole(self, v: Value) -> Any:
        """The Tensor (T, B, ...) of what depends on xs alone, in this call."""
        if self.real is not None:
            for x, t in self.tensors.items():
                if x.role == "x" and x.dtype.kind == "f" and not x.op:
                    self.tensors[x] = cleaned(self.real, t)
            self.real = None
        return sequences.whole(v, self.tensors, self.rows)

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

    # -- computed values

    def apply(self, op: Op, args: Sequence[Any], params: dict[str, Any]) -> Any:
        """Writes down op(*args, **params) and returns its Tracer."""
        try:
            return writing.write(self, op, args, params)
        except TraceError as error:
            where = f" (scope {state.scope})" if state.scope else ""
            if op.name in str(error):
                raise
            raise TraceError(f"{error} In {op.name}{where}.") from None

    def tracer(self, value: Value) -> Tracer:
        return Tracer(self, value)

    def step(
        self, op: Op, inputs: Sequence[Any], shape: Shape, dtype: Any, axis: Any,
        params: dict[str, Any] | None = None, cut: tuple[int, ...] = (),
    ) -> Value:  # fmt: skip
        """An op on values with a batch axis; axis: (its place, its size / B) in the result."""
        at, many = axis
        value = Value(len(self.values), "op", shape, dtype, at, many, op, tuple(inputs), params)
        value.cut, value.from_x = cut, True
        for v in inputs:
            if type(v) is Value and not v.from_x and v.stage is not BEFORE:
                value.from_x = False
                break
        return self._new(value)

    def outside(self, op: Op, inputs: Sequence[Any], params: dict[str, Any], stage: str) -> Value:
        """An op on values without a batch axis."""
        shape, dtype = infer(op, inputs, params)
        value = Value(
            len(self.values), "op", shape, dtype, None, 1, op, tuple(inputs), params, stage
        )
        return self._new(value, made_of(op, inputs))

    def after(
        self, op: Op, inputs: tuple[Value, ...], shape: Shape, params: dict[str, Any],
        axis: tuple[int | None, int] = (None, 1),
    ) -> Value:  # fmt: skip
        """A sum over all steps, and over the batch unless it keeps that `axis`."""
        dtype, index = inputs[0].dtype, len(self.values)
        return self._new(Value(index, "op", shape, dtype, *axis, op, inputs, params, AFTER))

    def again(self, v: Value, inputs: tuple[Any, ...]) -> Value:
        """v with other inputs of the same types."""
        value = Value(
            len(self.values), v.role, v.shape, v.dtype, v.batch, v.many, v.op, inputs, v.params,
            v.stage,
        )  # fmt: skip
        value.cut, value.from_x = v.cut, v.from_x
        return self._new(value, v.name)

    def ahead(self, v: Value, inputs: tuple[Any, ...]) -> Value:
        """v as an x of the step: all its steps are computed ahead of the loop."""
        value = Value(
            len(self.values), "x", v.shape, v.dtype, v.batch, v.many, v.op, inputs, v.params
        )
        assert v.op is not None
        names = [(i.name or repr(i)) if type(i) is Value else repr(i) for i in inputs]
        self._new(value, v.name or f"{v.op.name}({', '.join(names)})")
        value.cut, value.scope = v.cut, v.scope
        return value

    def _new(self, value: Value, name: str = "") -> Value:
        value.name, value.scope = name, state.scope
        self.values.append(value)
        return value
