"""sink: products that are summed over time become one product over all steps, behind the loop.

What they multiply is stored for every step. Other sums over time add up in the loop, row by row.
"""

from __future__ import annotations

from dataclasses import replace

from ..program import AFTER, STEP, Program, Value
from ..views import place_of


def sink(program: Program) -> Program:
    """The factors of the products behind the loop are kept, where they are not there anyway."""
    body = {v for v in program.body if v.stage == STEP}
    there = {v for v in program.xs if v.role != "rows"}
    factors = [i for v in sunk(program) for i in v.inputs]
    roots = dict.fromkeys(place_of(i, body)[0] for i in factors)
    return replace(program, kept={root: root for root in roots if root not in there})


def sunk(program: Program) -> list[Value]:
    """The products over all steps."""
    return [
        v for v in program.body
        if v.stage == AFTER and v.kind == "matmul" and any(i.stage == STEP for i in v.inputs)
    ]  # fmt: skip
