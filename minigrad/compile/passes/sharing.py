"""share: equal computations are done once."""

from __future__ import annotations

from typing import Any

from ..program import Program, Value, freeze
from ..trace import Trace
from .rewriting import rewrite


def share(trace: Trace, program: Program) -> Program:
    """Equal values become one."""
    known: dict[Any, Value] = {}

    def rule(v: Value, inputs: tuple[Any, ...]) -> Value | None:
        ids = tuple([id(i) if type(i) is Value else ("n", repr(i)) for i in inputs])
        key = (v.op, ids, freeze(v.params), v.cut, v.row, v.batch, v.stage)
        if key in known:
            return known[key]
        known[key] = v if inputs == v.inputs else trace.again(v, inputs)
        return None if known[key] is v else known[key]

    return rewrite(trace, program, rule)
