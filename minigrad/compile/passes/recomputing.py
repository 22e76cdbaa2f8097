"""recompute: what is cheap to compute again is not stored for BPTT."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..program import BEFORE, Program, Value, used
from .rewriting import inputs_of

_DEPTH = 4  # ops in a row


def recompute(program: Program, forward: Program) -> Program:
    """A backward step that computes again what is cheap, from what it reads anyway."""
    own = set(program.body) | set(program.carry)
    reads = sorted((v for v in program.xs if v not in own), key=lambda v: v.index)
    inside = set(forward.body) | set(forward.inputs)
    again: set[Value] = set()
    known = {v for v in reads if v.role != "op"}

    def ready(i: Any, depth: int) -> bool:
        if type(i) is not Value or i.stage == BEFORE or i in known:
            return True
        if i.role in ("x", "rows") and i.op is None:  # the caller has it anyway
            return True
        return depth > 0 and cheap(i, depth)

    def cheap(v: Value, depth: int = _DEPTH) -> bool:
        if v not in inside or v.op is None or not v.op.cheap:
            return False
        return all(ready(i, depth - 1) for i in v.inputs)

    for v in reads:
        if v.role == "op" and cheap(v):
            again.add(v)
        known.add(v)
    xs = [v for v in program.xs if v not in again]
    body = used(program.results, [*program.carry, *xs])
    read = inputs_of([*body, *program.results])
    xs += [v for v in read if v.role in ("x", "rows") and v in inside and v not in xs]
    return replace(program, xs=xs, body=body, weights=[v for v in read if v.role == "weight"])
