"""accumulate: a product that is added to something adds itself to where that lies.

Of v = e + a @ w the loop that computes e stores it at v's place, and the product adds to that: no
loop has to read both. It is worth it where e needs no loop of its own for that: where one of its
shape stands before the product anyway.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from ... import ops
from ..program import STEP, Program, Value, used
from ..views import given_a_place


def accumulate(program: Program) -> Program:
    """Sums with a product that nobody else reads; what they add it to is computed before it."""
    body = [v for v in program.body if v.stage == STEP]
    after = _products_before(program, body)
    read = Counter(i for v in program.body for i in v.inputs if type(i) is Value)
    places = given_a_place(program)
    fixed = {*program.results, *program.early, *program.late} | places
    onto: dict[Value, Value] = {}
    first: dict[Value, Value] = {}  # a product -> what has to be computed before it
    for v in body:
        if v.op is not ops.add or v in places:
            continue
        for p, e in (v.inputs, v.inputs[::-1]):
            if not (_is(p, "matmul") and _is(e, "elementwise") and e.row == v.row):
                continue
            alone = p in after and p not in fixed and read[p] == 1
            if alone and e in after and e not in onto and after[e] < after[p]:
                onto[v], first[p] = p, e
                break
    return replace(program, body=_reordered(program, first), onto=onto)


def _is(v: Any, kind: str) -> bool:
    return type(v) is Value and v.kind == kind and v.stage == STEP


def _products_before(program: Program, body: list[Value]) -> dict[Value, int]:
    """How many products stand before what computes a value, if each goes to the first loop of its
    shape that there is (as `lower.py` does).
    """
    apart = {*program.early, *program.late}
    count = 0
    loops: dict[tuple[int, ...], list[int]] = {}
    found: dict[Value, int] = {}
    for v in body:
        ready = max((found[i] for i in v.inputs if type(i) is Value and i in found), default=0)
        if v.kind == "matmul" and v not in apart:
            count += 1
            ready = count
        elif v.kind in ("elementwise", "reduce"):
            row = v.row if v.kind == "elementwise" else v.inputs[0].row
            there = loops.setdefault(tuple([n for n in row if n != 1]), [])
            ready = next((k for k in there if k >= ready), count)
            if ready not in there:
                there.append(ready)
        found[v] = ready
    return found


def _reordered(program: Program, first: dict[Value, Value]) -> list[Value]:
    """The body with each key of `first` behind its value."""
    found: dict[Value, None] = {}
    for v in program.body:
        before = used([first[v]], program.inputs) if v in first else []
        found |= dict.fromkeys([*before, v])
    return list(found)
