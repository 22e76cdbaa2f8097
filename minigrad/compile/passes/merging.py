"""merge: h @ W1 and h @ W2 become one product, h @ [W1 | W2]."""

from __future__ import annotations

from typing import Any

from ... import ops
from ..program import BEFORE, STEP, Program, Value
from ..trace import Trace
from .rewriting import rewrite


def merge(trace: Trace, program: Program) -> Program:
    """Products of one value with several weights become one."""
    groups: dict[Value, list[Value]] = {}
    for v in program.body:
        product = v.op is ops.matmul and v.stage == STEP and not v.cut
        if product and v.inputs[1].role == "weight":
            groups.setdefault(v.inputs[0], []).append(v)
    groups = {a: vs for a, vs in groups.items() if len({v.inputs[1] for v in vs}) > 1}
    parts: dict[Value, Value] = {}

    def rule(v: Value, inputs: tuple[Any, ...]) -> Value | None:
        a = v.inputs[0] if v.op is ops.matmul else None
        if a not in groups or v not in groups[a]:
            return None
        if v not in parts:
            weights = list(dict.fromkeys(p.inputs[1] for p in groups[a]))
            joined = trace.outside(ops.concatenate, weights, {"axis": 1}, BEFORE)
            product = trace.tracer(inputs[0]) @ trace.tracer(joined)
            begin = 0
            cuts = {}
            for weight in weights:
                end = begin + weight.shape[1]
                cuts[weight] = product[..., begin:end]._value
                begin = end
            for p in groups[a]:
                parts[p] = cuts[p.inputs[1]]
        return parts[v]

    return rewrite(trace, program, rule) if groups else program
