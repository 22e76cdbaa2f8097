"""hoist: what does not depend on the state is done once, for the whole sequence.

Its op runs eagerly on whole sequences (T, B, ...), on the tape, and the loop reads the t-th row.
That is worth it for products of what is computed from the input (of an input itself the loop does
them, for a chunk of steps at once), and needed for integers, which loops do not compute with.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ... import ops
from ...errors import TraceError
from ..program import STEP, Program, Value
from ..sequences import can_run
from ..trace import Trace
from .rewriting import inputs_of, rewrite


def hoist(trace: Trace, program: Program) -> Program:
    """Products of what is computed from xs alone become xs, computed ahead of the loop."""
    moved: set[Value] = set()
    for v in program.body:
        if v.stage != STEP or not v.from_x:
            continue
        if _is_integer(v) or _is_product(v, moved):
            unknown = next(
                (w for w in _ancestors({v}) | {v} if w.role == "op" and not can_run(w)), None
            )
            if unknown is None:
                moved.add(v)
            elif _is_integer(v):
                raise _refused(unknown)
    if not moved:
        return program
    read = _ancestors(moved)
    # A value that eager ops read and that is tapped is there for all steps: so all read it there.
    moved |= {v for v in program.taps.values() if v in read and v.role == "op"}

    def rule(v: Value, inputs: tuple[Any, ...]) -> Value | None:
        return trace.ahead(v, inputs) if v in moved else None

    changed = rewrite(trace, program, rule)
    needed = inputs_of([*changed.body, *changed.results])
    xs = [v for v in changed.xs if v in needed]
    return replace(changed, xs=xs + [v for v in needed if v.role == "x" and v not in xs])


def _refused(v: Value) -> TraceError:
    assert v.op is not None
    return TraceError(
        f"scan: {v.op.name} cannot be compiled: integers are computed with ahead of the loop, "
        f"and it does not say how its parameters change where time is an axis in front; declare "
        f"that with @{v.op.name}.over_time, or run this cell with mode='tape'."
    )


def _is_product(v: Value, moved: set[Value]) -> bool:
    return v.op is ops.matmul and v.inputs[0].role == "op" and v.inputs[0] not in moved


def _is_integer(v: Value) -> bool:
    return any(i.dtype.kind in "iu" for i in (v, *v.inputs) if type(i) is Value)


def _ancestors(values: set[Value]) -> set[Value]:
    """What they are computed from."""
    found: set[Value] = set()
    stack = [i for v in values for i in v.inputs]
    while stack:
        v = stack.pop()
        if type(v) is Value and v not in found:
            found.add(v)
            stack.extend(v.inputs)
    return found


def read_ahead(program: Program) -> set[Value]:
    """What is read ahead of the loop, so that not all of its gradient comes from the step."""
    return _ancestors({v for v in program.xs if v.inputs})
