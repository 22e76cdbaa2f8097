"""The Program of one step: what a cell computes, as typed values in order.

A `Value` is data: the op that makes it, its inputs, its parameters, its type. Shapes are those of a
step, (B, ...); the program itself does not depend on B: where the batch axis lies is part of the
type, and parameters that hold a shape hold it for one row. A value has a stage:

    before   it depends on weights alone: computed once, ahead of the loop (W.T)
    step     it has a batch axis: computed in every step
    after    summed over the batch and over time: computed once, behind the loop (dL/dW)

    >>> from minigrad.compile import trace_step
    >>> import minigrad as mg, numpy as np
    >>> w = mg.tensor(np.ones((3, 3), np.float32), name="w")
    >>> h = mg.tensor(np.zeros((2, 3), np.float32))
    >>> print(trace_step(lambda h, x: (mg.tanh(x + h @ w), h), h, h).program)
    step:
      carry %0                                 float32[B, 3]
      x %1 x                                   float32[B, 3]
      weight %2 w                              float32[3, 3]
      %3 = matmul(%0, %2)                      float32[B, 3]
      %4 = add(%1, %3)                         float32[B, 3]
      %5 = tanh(%4)                            float32[B, 3]
      return carry: %5; ys: %0
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import MinigradError
from ..op import Op

BEFORE, STEP, AFTER = "before", "step", "after"


class ProgramError(MinigradError, RuntimeError):
    """A Program that is not well formed: a bug of a pass, never of a user."""


class Value:
    """One value of a step. `role` says where it comes from: "carry", "x", "weight", "rows" or "op".

    shape: as the cell sees it; the axis `batch` (None: no batch axis) has B * many elements, `many`
    being 1 unless a reshape merged features into it. inputs: Values and Python numbers.
    cut: positions of inputs that pass no gradient on (detach). from_x: whether it depends on xs and
    weights alone, no state. An "x" with inputs is computed from these ahead of the loop, for all
    steps at once (`passes/hoisting.py`).
    """

    __slots__ = (
        "batch", "cut", "dtype", "from_x", "index", "inputs", "many", "name", "op", "params",
        "role", "scope", "shape", "stage",
    )  # fmt: skip

    def __init__(
        self,
        index: int,
        role: str,
        shape: tuple[int, ...],
        dtype: np.dtype,
        batch: int | None = 0,
        many: int = 1,
        op: Op | None = None,
        inputs: tuple[Any, ...] = (),
        params: dict[str, Any] | None = None,
        stage: str = STEP,
    ):
        self.index, self.role, self.shape, self.dtype = index, role, shape, dtype
        self.batch, self.many, self.stage = batch, many, stage
        self.op, self.inputs, self.params = op, inputs, params or {}
        self.cut: tuple[int, ...] = ()
        self.from_x = role == "x"
        self.scope = self.name = ""

    @property
    def kind(self) -> str:
        """The kind of its op; "" for what comes in."""
        return self.op.kind if self.op else ""

    @property
    def assembles(self) -> bool:
        """Whether its op puts its inputs to their places in new memory."""
        return self.op is not None and self.op.assembles

    @property
    def is_view(self) -> bool:
        """Whether it is its input, looked at in another way."""
        return self.kind == "view" and not self.assembles

    @property
    def row(self) -> tuple[int, ...]:
        """The shape with one row in the batch: what does not depend on B."""
        if self.batch is None:
            return self.shape
        return (*self.shape[: self.batch], self.many, *self.shape[self.batch + 1 :])

    @property
    def size_here(self) -> int:
        """Elements of all rows."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Elements of one row (of all of it, without a batch axis)."""
        return math.prod(self.row)

    def type(self) -> str:
        """`float32[B, 16]`."""
        sizes = [str(n) for n in self.shape]
        if self.batch is not None:
            sizes[self.batch] = "B" if self.many == 1 else f"B*{self.many}"
        return f"{self.dtype}[{', '.join(sizes)}]"

    def key(self) -> tuple[Any, ...]:
        """All that the compiler reads, hashable; inputs by index."""
        inputs = tuple([v.index if type(v) is Value else ("n", repr(v)) for v in self.inputs])
        params = freeze(self.params) if self.params else ()
        what = (self.role, self.op)
        return (what, self.row, self.dtype.char, self.batch, inputs, params, self.cut, self.index)

    def __repr__(self) -> str:
        return f"%{self.index}"


def freeze(value: Any) -> Any:
    """A parameter as something hashable."""
    if isinstance(value, dict):
        return tuple([(k, freeze(v)) for k, v in value.items()])
    if isinstance(value, (tuple, list)):
        return tuple([freeze(v) for v in value])
    if isinstance(value, slice):
        return ("slice", value.start, value.stop, value.step)
    if isinstance(value, np.ndarray):
        return (value.shape, value.dtype.str, value.tobytes())
    if isinstance(value, (bool, float)):  # True is no 1 here, and -0.0 no 0.0
        return (type(value), repr(value))
    return value


def params_for(value: Value, batch: int) -> dict[str, Any]:
    """The parameters of the op with `batch` rows, for running it on arrays."""
    if value.op is None or not value.op.shaped or value.batch is None:
        return value.params
    shape = list(value.params[value.op.shaped])
    shape[value.batch] = value.many * batch
    return {**value.params, value.op.shaped: tuple(shape)}


def computed(value: Value, inputs: Sequence[Any], batch: int) -> Any:
    """Its op on arrays or Tensors with `batch` rows."""
    assert value.op is not None
    params = params_for(value, batch)
    return value.op(list(inputs), **params) if value.op.variadic else value.op(*inputs, **params)


@dataclass
class Program:
    """carry, xs, weights -> carry, ys; and what is summed over time, by name of the weight.

    body: the values that are computed, each after its inputs. sums: weight Value -> the "after"
    value that is its gradient (in the program of a backward step). taps: name -> value: marked by
    `mg.tap` in the cell, or, backwards, the norm of the gradient of what was marked.

    What passes decide (`pipeline.py`): gradients_of: the xs of which the ys of a backward step are
    the gradients. kept: what is stored for every step though it is no result, by the name that its
    reader knows. early, late: products done for a chunk of steps at once, ahead of these and behind
    them. onto: a sum -> the product in it, which adds itself to where the other term lies.
    """

    carry: list[Value]
    xs: list[Value]
    weights: list[Value]
    body: list[Value]
    carry_out: list[Value]
    ys: list[Value]
    sums: dict[Value, Value] = field(default_factory=dict)
    taps: dict[str, Value] = field(default_factory=dict)
    gradients_of: list[Value] = field(default_factory=list)
    kept: dict[Value, Value] = field(default_factory=dict)
    early: list[Value] = field(default_factory=list)
    late: list[Value] = field(default_factory=list)
    onto: dict[Value, Value] = field(default_factory=dict)
    name: str = "step"

    @property
    def inputs(self) -> list[Value]:
        return [*self.carry, *self.xs, *self.weights]

    @property
    def results(self) -> list[Value]:
        own = [*self.carry_out, *self.ys, *self.sums.values(), *self.taps.values()]
        return [*own, *self.kept.values()]

    def whole_carries(self) -> list[bool]:
        """For each state whether it is stored for all steps: where it is read before or after
        one.
        """
        wanted = {*self.ys, *self.kept.values()}
        pairs = zip(self.carry, self.carry_out, strict=True)
        return [before in wanted or after in wanted for before, after in pairs]

    def __str__(self) -> str:
        lines = [f"{self.name}:"]
        parts = [("carry", self.carry), ("x", self.xs), ("weight", self.weights)]
        for what, v in ((what, v) for what, values in parts for v in values):
            lines.append(f"  {f'{what} {v!r} {v.name}'.rstrip():<40} {v.type()}")
        for v in self.body:
            assert v.op is not None
            arguments = [repr(i) for i in v.inputs]
            if v.op.variadic:
                arguments = [f"[{', '.join(arguments)}]"]
            arguments += [f"{k}={_short(p)}" for k, p in v.params.items()]
            text = f"  {v!r} = {v.op.name}({', '.join(arguments)})"
            lines.append(f"{text:<42} {v.type()}{self._when(v)}")
        returned = [
            f"{what}: {', '.join(map(repr, values))}"
            for what, values in (("carry", self.carry_out), ("ys", self.ys))
            if values
        ]
        returned += [f"d{w.name or w!r}: {v!r}" for w, v in self.sums.items()]
        returned += [f"{name}: {v!r}" for name, v in self.taps.items()]
        if self.kept:
            returned.append(f"stored: {', '.join(map(repr, dict.fromkeys(self.kept.values())))}")
        lines.append(f"  return {'; '.join(returned) or 'nothing'}")
        return "\n".join(lines)

    def _when(self, v: Value) -> str:
        """Where and how a value is computed, if not simply in every step."""
        if v.stage != STEP:
            return f"  {v.stage} the loop"
        if v in self.early or v in self.late:
            when = "ahead" if v in self.early else "behind"
            return f"  for a chunk of steps, {when}"
        return f"  {self.onto[v]!r} adds itself" if v in self.onto else ""

    def check(self) -> Program:
        """Raises ProgramError unless every value is defined before it is used, once, with a type
        that its op gives; returns the program.
        """
        known = set(map(id, self.inputs))
        for v in self.body:
            for i in v.inputs:
                if isinstance(i, Value) and id(i) not in known:
                    raise ProgramError(f"{self.name}: {v!r} reads {i!r}, which is not defined yet.")
            if id(v) in known:
                raise ProgramError(f"{self.name}: {v!r} is defined twice.")
            stages = {i.stage for i in v.inputs if isinstance(i, Value)}
            if v.stage == STEP and AFTER in stages:
                raise ProgramError(f"{self.name}: {v!r} reads in a step what is summed after it.")
            known.add(id(v))
        for v in self.results:
            if id(v) not in known:
                raise ProgramError(f"{self.name}: it returns {v!r}, which nothing defines.")
        for before, after in zip(self.carry, self.carry_out, strict=True):
            if before.row != after.row or before.dtype != after.dtype:
                raise ProgramError(
                    f"{self.name}: a carry enters as {before.type()} and leaves as {after.type()}."
                )
        return self


def _short(value: Any) -> str:
    if isinstance(value, slice):
        parts = [value.start, value.stop] + ([value.step] if value.step is not None else [])
        return ":".join("" if p is None else str(p) for p in parts)
    if isinstance(value, tuple):
        inside = ", ".join(map(_short, value))
        return f"({inside}{',' if len(value) == 1 else ''})"
    return "..." if value is Ellipsis else repr(value)


def used(results: Sequence[Value], inputs: Iterable[Value] = ()) -> list[Value]:
    """The values that `results` depend on, in order; `inputs` are not looked into."""
    stop = set(map(id, inputs))
    found: dict[int, Value] = {}
    stack = list(results)
    while stack:
        v = stack.pop()
        if v.role == "op" and id(v) not in stop and id(v) not in found:
            found[id(v)] = v
            stack.extend(i for i in v.inputs if type(i) is Value)
    return sorted(found.values(), key=lambda v: v.index)  # a value is made after its inputs
