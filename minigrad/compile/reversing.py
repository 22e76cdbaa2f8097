"""Reverse: the backward step of a Program, from the vjp rules of its ops run under the tracer.

The result is another Program: it carries dL/dcarry from step to step, reads dL/dys and what the
forward step computed, and gives dL/dxs of the step and, summed over time, dL/dweights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from .. import ops
from ..axes import indexed
from ..errors import DTypeError, GradientError
from .program import AFTER, BEFORE, STEP, Program, Value, used
from .taps import carried
from .trace import Trace, Tracer


def reverse(
    trace: Trace,
    program: Program,
    wanted: Iterable[Value],
    with_ys: bool = True,
    states: Iterable[str] = (),
) -> Program:
    """The BPTT step of `program`.

    wanted: the xs and weights whose gradients are asked for. with_ys: whether gradients of the ys
    come in, too, or only that of the last carry. states: names of taps whose gradient is shown, and
    `carried(k)` for that of the state that enters the step.
    """
    return _Reverse(trace, program, wanted).run(with_ys, states)


class _Reverse:
    def __init__(self, trace: Trace, program: Program, wanted: Iterable[Value]):
        self.trace, self.program = trace, program
        self.wanted = [v for v in wanted if v.dtype.kind == "f"]
        self.found: dict[int, list[Tracer]] = {}  # id of a value -> parts of its gradient
        self.names = {id(v): v.name for v in (*program.inputs, *program.body)}
        for v in program.body:  # what goes into a gate i is i_pre
            if v.name and len(v.inputs) == 1 and not self.names.get(id(v.inputs[0]), "?"):
                self.names[id(v.inputs[0])] = f"{v.name}_pre"
        self.needs = {id(v) for v in (*program.carry, *self.wanted) if v.dtype.kind == "f"}
        for v in program.body:
            if v.dtype.kind == "f" and any(
                id(i) in self.needs for k, i in enumerate(v.inputs) if k not in v.cut
            ):
                self.needs.add(id(v))

    def run(self, with_ys: bool, states: Iterable[str]) -> Program:
        program, trace = self.program, self.trace
        for v in program.carry:
            if v.dtype.kind != "f":
                raise DTypeError(
                    f"scan: the carry {v.name or 'of the cell'} is {v.type()}, and BPTT runs along "
                    f"a state of floats; keep it as floats, compute it ahead and pass it in xs, "
                    f"or scan with mode='tape'."
                )
        first = len(trace.values)
        carry = [self._input("carry", v, old) for v, old in zip(program.carry_out, program.carry)]
        ys = [v for v in program.ys if v.dtype.kind == "f" and with_ys]
        dys = [self._input("x", v, v) for v in ys]
        for v, g in zip([*program.carry_out, *ys], [*carry, *dys], strict=True):
            if v.dtype.kind == "f":
                self._add(v, g)
        shown = self._shown(states)
        taps: dict[str, Value] = {}

        def show(v: Value) -> None:
            for name in shown.get(id(v), ()) if id(v) in self.found else ():
                taps[name] = norm(self._total(v))._value

        for v in reversed(program.body):
            total: Any = self._total(v) if id(v) in self.found else None
            show(v)
            if total is not None and id(v) in self.needs:
                for i, part in self._pull(v, total):
                    self._add(v.inputs[i], part)
        carry_out = [self._or_zero(v, d) for v, d in zip(program.carry, carry)]
        for v in (*program.carry, *program.xs):
            show(v)
        for k, entering in enumerate(carry_out):
            if carried(k) in states:
                taps[carried(k)] = norm(Tracer(trace, entering))._value
        xs, sums = [], {}
        for v in self.wanted:
            if id(v) not in self.found:
                continue
            if v.role == "x":
                xs.append((v, self._total(v)._value))
            else:
                sums[v] = self._total(v)._value
        results = [*carry_out, *(d for _, d in xs), *sums.values(), *taps.values()]
        own = [v for v in used(results) if v.index >= first]
        reads = self._reads(own, results, first)
        return Program(
            carry=[t._value for t in carry],
            xs=[*(t._value for t in dys), *(v for v in reads if v.stage == STEP)],
            weights=[v for v in reads if v.stage == BEFORE],
            body=own,
            carry_out=carry_out,
            ys=[d for _, d in xs],
            sums=sums,
            taps=taps,
            gradients_of=[v for v, _ in xs],
            name="backward step",
        )

    def _shown(self, states: Iterable[str]) -> dict[int, list[str]]:
        """id of a value -> the taps of which it is the gradient.

        What enters as a carry is what left the step before: its whole gradient is known there.
        """
        program = self.program
        left = dict(zip(program.carry, program.carry_out, strict=True))
        shown: dict[int, list[str]] = {}
        for name, v in program.taps.items():
            if name in states:
                shown.setdefault(id(left.get(v, v)), []).append(name)
        return shown

    @staticmethod
    def _reads(body: Sequence[Value], results: Sequence[Value], first: int) -> list[Value]:
        """Values of the forward step that the backward step reads."""
        read = [*(i for v in body for i in v.inputs if type(i) is Value), *results]
        found = {id(i): i for i in read if i.index < first}
        return sorted(found.values(), key=lambda v: v.index)

    def _input(self, role: str, v: Value, like: Value) -> Tracer:
        tracer = self.trace.input(role, v.shape, v.dtype, f"d{like.name}" if like.name else "")
        tracer._value.batch, tracer._value.many = v.batch, v.many
        tracer._value.from_x = False
        return tracer

    def _or_zero(self, v: Value, like: Tracer) -> Value:
        """The gradient of a carry; zeros if nothing reads it."""
        if id(v) in self.found:
            return self._total(v)._value
        never = ops.logical_and(ops.equal(like, like), ops.not_equal(like, like))
        return ops.where(never, like, 0.0)._value

    def _add(self, v: Any, g: Tracer) -> None:
        if v.stage == BEFORE or v.role == "rows":
            g = Tracer(self.trace, self._summed(v, g))
        self.found.setdefault(id(v), []).append(g)

    def _total(self, v: Value) -> Tracer:
        """The gradient of v: the sum of its parts, slices put side by side where they fill it."""
        parts = self.found[id(v)]
        if len(parts) > 1:
            parts = _joined(v, parts)
        total: Any = parts[0]
        for part in parts[1:]:
            total = total + part
        name = self.names.get(id(v))
        if name and v.stage == STEP and not total._value.name:
            total._value.name = f"d{name}"
        self.found[id(v)] = [total]
        return total

    def _pull(self, v: Value, g: Tracer) -> list[tuple[int, Tracer]]:
        """(input, its gradient) for each input that needs one, by the rules of the op."""
        op = v.op
        assert op is not None
        wants = [
            i
            for i, x in enumerate(v.inputs)
            if type(x) is Value and id(x) in self.needs and i not in v.cut
        ]
        if op.variadic:
            rule = op.rules[op.inputs[0]]
            grads = rule(g, *self._facts(v, rule))
            return [(i, self._fitted(grads[i], v.inputs[i])) for i in wants]
        found = []
        for i in wants:
            one = op.rules.get(op.inputs[i])
            if one is None:
                raise GradientError(
                    f"scan: no gradient is declared for {op.inputs[i]} of {op.name}."
                )
            found.append((i, self._fitted(one(g, *self._facts(v, one)), v.inputs[i])))
        return found

    def _facts(self, v: Value, rule: Any) -> list[Any]:
        """What a rule asks for besides g."""
        assert v.op is not None
        found: list[Any] = []
        for kind, key in v.op.facts(rule):
            x = v.inputs[key] if type(key) is int else None
            if kind == "y":
                found.append(Tracer(self.trace, v))
            elif kind == "input":  # cut off in the step, so in its derivative, too
                found.append(Tracer(self.trace, x, key in v.cut) if type(x) is Value else x)
            elif kind == "parameter":
                found.append(v.params[key])
            elif kind in ("shapes", "dtypes"):
                found.append([i.shape if kind == "shapes" else i.dtype for i in v.inputs])
            elif kind == "shape":
                found.append(x.shape if type(x) is Value else ())
            else:
                found.append(x.dtype if type(x) is Value else v.dtype)
        return found

    def _fitted(self, part: Any, x: Value) -> Tracer:
        if not isinstance(part, Tracer):  # a rule that gives a plain number
            part = Tracer(self.trace, x, cut=True) * 0.0 + part
        return part if part.shape == x.shape else ops.sum_to(part, x.shape)

    def _summed(self, v: Value, g: Tracer) -> Value:
        """A gradient of a weight, summed over the batch (unless it has a row for each) and time."""
        total = g._value
        if total.stage == AFTER:
            return total
        if v.stage == BEFORE and total.batch is not None:
            return ops.sum(g, axis=total.batch, keepdims=True).reshape(v.shape)._value
        params, axis = {"axis": (), "keepdims": True}, (total.batch, total.many)
        return self.trace.after(ops.sum, (total,), total.shape, params, axis)


def norm(g: Any) -> Any:
    """The Euclidean norm of each row, (B, 1).

    Scaled by its largest element, so that neither 1e-30 nor 1e30 is lost to its square.
    """
    g = g.reshape(g.shape[0], -1)
    peak = ops.max(ops.abs(g), axis=1, keepdims=True)
    usual = ops.logical_and(ops.greater(peak, 0.0), ops.less(peak, math.inf))
    scale = ops.where(usual, peak, 1.0)
    return scale * ops.sqrt(ops.sum(ops.square(g / scale), axis=1, keepdims=True))


def _joined(v: Value, parts: list[Tracer]) -> list[Tracer]:
    """Parts with those that are slices of zeros along one axis, and fill it, made one."""
    cuts: dict[int, dict[tuple[int, int], list[Tracer]]] = {}
    rest: list[Tracer] = []
    for part in parts:
        found = _cut_of(part, v)
        if found is None:
            rest.append(part)
        else:
            axis, begin, end, inside = found
            cuts.setdefault(axis, {}).setdefault((begin, end), []).append(inside)
    for axis, places in cuts.items():
        borders = sorted(places)
        ends = [0, *(end for _, end in borders)]
        if [begin for begin, _ in borders] != ends[:-1] or ends[-1] != v.shape[axis]:
            return parts
        pieces = []
        for border in borders:
            piece: Any = places[border][0]
            for other in places[border][1:]:
                piece = piece + other
            pieces.append(piece)
        rest.append(pieces[0] if len(pieces) == 1 else ops.concatenate(pieces, axis=axis))
    return rest


def _cut_of(part: Tracer, v: Value) -> tuple[int, int, int, Tracer] | None:
    """(axis, begin, end, what stands there) of a scatter to a slice along one axis."""
    value = part._value
    if value.op is not ops.scatter or value.stage != STEP:
        return None
    found = None
    inside = Tracer(part._trace, value.inputs[0])
    for axis, item, _ in indexed(value.params["index"], len(v.shape)):
        if axis is None:
            return None
        if isinstance(item, int):
            item = slice(item % v.shape[axis], item % v.shape[axis] + 1)
            inside = ops.expand_dims(inside, axis)
        elif not isinstance(item, slice):
            return None
        begin, end, step = item.indices(v.shape[axis])
        if (begin, end, step) == (0, v.shape[axis], 1):
            continue
        if found is not None or step != 1:
            return None
        found = axis, begin, end
    return None if found is None else (*found, inside)
