"""batch: products that no state runs through are done for a chunk of steps at once.

The rows of several steps make one product that keeps all registers busy: of inputs ahead of the
chunk, for outputs behind it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from ..program import STEP, Program, Value
from ..views import given_a_place, place_of, rows_follow


def batch(program: Program, step: Program | None = None) -> Program:
    """step: the forward step, if this is the backward one: its states lie at other times."""
    states = set() if step is None else {*step.carry, *step.carry_out}
    whole = {v for v in program.xs if v.role != "rows"}  # in memory for all steps
    given = whole - states
    whole |= _stored(program, step is None)
    body = {v for v in program.body if v.stage == STEP}
    read = {i for v in program.body for i in v.inputs if type(i) is Value}
    fixed = {*program.results} | given_a_place(program)
    outputs = {*program.ys} - {*program.carry_out}
    early, late = [], []
    for v in program.body:
        if v not in body or v.kind != "matmul":
            continue
        root = _operand(v, body)
        if root in given and v not in fixed:
            early.append(v)
        elif root in whole and v in outputs and v not in read:
            late.append(v)
    return replace(program, early=early, late=late)


def _operand(product: Value, body: Collection[Value]) -> Value | None:
    """What the left factor is a view of, if a product can read it there, row by row."""
    a, weight = product.inputs
    root, place = place_of(a, body)
    return root if rows_follow(place, weight.shape[0]) else None


def _stored(program: Program, forward: bool) -> set[Value]:
    """What the program itself stores for every step."""
    found = {*program.ys, *program.taps.values(), *program.kept.values()}
    if forward:
        pairs = zip(program.carry, program.carry_out, program.whole_carries(), strict=True)
        for before, after, whole in pairs:
            found = found | {before, after} if whole else found - {before, after}
    return found
