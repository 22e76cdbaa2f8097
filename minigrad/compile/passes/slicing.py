"""push_slices: (a + b)[:, :n] becomes a[:, :n] + b[:, :n], so that gates share one loop."""

from __future__ import annotations

from typing import Any

from ... import ops
from ...axes import indexed
from ..program import STEP, Program, Value, freeze
from ..trace import Trace
from .rewriting import rewrite


def push_slices(trace: Trace, program: Program) -> Program:
    """Slices move ahead of the elementwise ops whose results are only read in slices."""
    readers: dict[Value, list[Value]] = {}
    for v in program.body:
        for i in v.inputs:
            if type(i) is Value:
                readers.setdefault(i, []).append(v)
    results = set(program.results)
    pushed: set[Value] = set()
    for v in reversed(program.body):
        if v.kind != "elementwise" or v.stage != STEP or v in results:
            continue
        reads = readers.get(v, [])
        if reads and all(
            _is_slice(r) or (r in pushed and r.row == v.row and r.batch == v.batch) for r in reads
        ):
            pushed.add(v)
    made: dict[Any, Value] = {}

    def cut(v: Value, index: tuple[Any, ...]) -> Value:
        key = (v, freeze(index))
        if key not in made:
            if v in pushed:
                assert v.op is not None
                inputs = [
                    cut(i, _for_operand(index, v, i)) if type(i) is Value else i for i in v.inputs
                ]
                args = [trace.tracer(i) if type(i) is Value else i for i in inputs]
                made[key] = trace.apply(v.op, args, {})._value
                made[key].cut = v.cut
            elif all(item == slice(None) for item in index):
                made[key] = v
            else:
                made[key] = trace.apply(ops.getitem, (trace.tracer(v),), {"index": index})._value
        return made[key]

    def rule(v: Value, inputs: tuple[Any, ...]) -> Value | None:
        if _is_slice(v) and v.inputs[0] in pushed:
            source = v.inputs[0]
            items = indexed(v.params["index"], len(source.shape))
            return cut(source, tuple(item for _, item, _ in items))
        return None

    return rewrite(trace, program, rule)


def _is_slice(v: Value) -> bool:
    if v.op is not ops.getitem or v.stage != STEP:
        return False
    items = indexed(v.params["index"], len(v.inputs[0].shape))
    return all(isinstance(item, slice) for _, item, _ in items)


def _for_operand(index: tuple[Any, ...], v: Value, operand: Value) -> tuple[Any, ...]:
    """The same slices for an operand that is broadcast to v."""
    lead = len(v.shape) - len(operand.shape)
    found = []
    for axis, n in enumerate(operand.shape):
        still = n == 1 and v.shape[axis + lead] != 1
        found.append(slice(None) if still else index[axis + lead])
    return tuple(found)
