"""A cell traced: called once on abstract values, it leaves the Program of its step."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..errors import ShapeError, TraceError, describe
from ..listener import EachTap
from ..tape import state as switches
from ..tensors import Tensor, as_tensor
from ..tree import leaves, map_leaves, named_leaves, rebuild
from .program import STEP, Program, Value, used
from .taps import StepTaps
from .trace import Trace
from .tracer import Tracer
from .unrolling import Cell, check_carry


class Traced:
    """A cell traced for one call: its program, and what stands for each of its inputs.

    tapped: with what it taps. real: (T, B), if some steps of xs are padding.
    """

    def __init__(
        self, cell: Cell, init: Any, xs: Any, rows: int, tapped: bool = False, real: Any = None
    ):
        self.trace = trace = Trace(rows)
        trace.real = real
        self.eager: list[Any] = []  # ops on weights and whole sequences, if they were noted
        self.init, self.xs = leaves(init), leaves(xs)
        if tapped:  # what is done with xs in this scan gets nodes of its own
            self.xs = [ops.reshape(t, t.shape) if t.requires_grad else t for t in self.xs]
        named = [name for name, _ in named_leaves(init)]
        for name, tensor in zip(named, self.init, strict=True):
            if tensor.ndim == 0 or tensor.shape[0] != rows:
                raise ShapeError(
                    f"scan: {name or 'carry'} is {tensor.dtype}{list(tensor.shape)}, but xs have "
                    f"{rows} rows; every part of the state is (B, ...)."
                )
        carry = [
            trace.input("carry", t.shape, t.dtype, name)
            for t, name in zip(self.init, named, strict=True)
        ]
        inputs = []
        for t, (name, _) in zip(self.xs, named_leaves(xs), strict=True):
            tracer = trace.input("x", t.shape[1:], t.dtype, name or "x")
            trace.tensors[tracer._value] = t
            inputs.append(tracer)
        self.refused: dict[str, str] = {}  # taps that cannot be recorded, and why
        self._heard = StepTaps(switches.scope)
        with switches.switched(listeners=(EachTap(self._hear),)):
            final, ys = _called(cell, rebuild(init, carry), rebuild(xs, inputs))
        check_carry("scan", init, final)
        self.final, self.ys = final, ys
        self.taps: dict[str, Value] = self._heard.named()
        carry_out = [self._output(t, "the carry") for t in leaves(final)]
        y_values = [self._output(t, "y") for t in leaves(ys)]
        for into, out in zip(carry, carry_out, strict=True):
            if (into._value.batch, into._value.many) != (out.batch, out.many):
                raise TraceError("scan: the carry's batch axis has moved; it must stay axis 0.")
        results = [*carry_out, *y_values, *self.taps.values()]
        body = used(results)
        read = {id(i) for v in body for i in v.inputs} | set(map(id, results))
        given = [v for v in trace.values if id(v) in read]
        self.program = Program(
            carry=[t._value for t in carry],
            xs=[v for v in given if v.role == "x"],
            weights=[v for v in given if v.role in ("weight", "rows")],
            body=body,
            carry_out=carry_out,
            ys=y_values,
            name="step",
        )

    def _hear(self, name: str, tensor: Any, scope: str) -> None:
        if type(tensor) is not Tracer or tensor._value.stage != STEP or tensor._value.batch != 0:
            what = tensor._value.type() if type(tensor) is Tracer else describe(tensor)
            self.refused[name] = f"is {what}, without a row (axis 0) for each of the batch"
            return
        value = tensor._value
        if tensor._cut and tensor.dtype.kind == "f":  # a value that passes no gradient on
            value = (tensor * 1.0)._value
        value.name = value.name or name
        self._heard.tap(name, value, scope)

    def chosen(self, wanted: Any, recorded: Any) -> dict[str, Value]:
        """The taps that are wanted: all of them for True. recorded: what record= says."""
        asked = self.taps if recorded is True else listed(recorded)
        for name in asked:
            if name in self.refused:
                raise ValueError(f"scan: record={name!r}, but it {self.refused[name]}.")
            if name not in self.taps:
                known = ", ".join(map(repr, self.taps)) or "nothing"
                raise ValueError(
                    f"scan: record={name!r}, but the cell taps {known}; mark it by "
                    f"mg.tap({name!r}, ...) in the cell."
                )
        return self.taps if wanted is True else {name: self.taps[name] for name in asked}

    def _output(self, t: Any, what: str) -> Value:
        """What a cell returns, as a value of the step."""
        t = as_tensor(t)
        if isinstance(t, Tracer):
            if t._value.stage != STEP:
                raise TraceError(f"scan: {what} {t._value.type()} has no batch axis.")
            return (t * 1.0)._value if t._cut and t.dtype.kind == "f" else t._value
        rows = self.trace.rows
        if t.ndim == 0 or t.shape[0] != rows:
            raise TraceError(
                f"scan: {what} is a constant {list(t.shape)}; expected (B, ...) with B = {rows}."
            )
        return self.trace.with_rows(self.trace.weight(t), 0, 1)

    def tensors(self) -> list[Tensor]:
        """What stands for the inputs of the program, in its order."""
        read = [*self.program.xs, *self.program.weights]
        return [*self.init, *(self.trace.tensors[v] for v in read)]

    def key(self, taps: dict[str, Value]) -> tuple[Any, ...]:
        """What the compiler reads: all that the numbers depend on."""
        p = self.program
        outputs = tuple([v.index for v in (*p.carry_out, *p.ys)])
        reads = tuple([v.index for v in p.inputs])  # a tap that is not kept may read more
        named = tuple([(n, v.index) for n, v in taps.items()])
        return (tuple([v.key() for v in self.trace.values]), len(p.carry), reads, outputs, named)

    def known_by(self, taps: dict[str, Value]) -> tuple[Any, ...]:
        """`key`, and the names that texts show: calls for which it is equal share a program.

        Programs that differ in names alone share machine code.
        """
        return self.key(taps), tuple([v.name for v in self.program.inputs])


def _called(cell: Cell, state: Any, x: Any) -> tuple[Any, Any]:
    result = cell(state, x)
    if not isinstance(result, tuple) or len(result) != 2:
        raise TraceError(
            f"scan: the cell returned {type(result).__name__}; expected a pair (state, y)."
        )
    return result


def trace_step(cell: Cell, init: Any, x: Any) -> Traced:
    """The step of a cell, traced: `.program` prints it. init and x: trees of Tensors (B, ...)."""
    xs = map_leaves(lambda t: ops.expand_dims(as_tensor(t), 0), x)
    return Traced(cell, map_leaves(as_tensor, init), xs, leaves(xs)[0].shape[1])


def listed(record: Any) -> tuple[str, ...]:
    """The names that record= names."""
    return () if not record else (record,) if isinstance(record, str) else tuple(record)
