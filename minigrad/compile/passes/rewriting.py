"""How a pass changes a program: values replaced in order, and what nothing reads left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from ..program import BEFORE, Program, Value, used
from ..trace import Trace

Rule = Callable[[Value, tuple[Any, ...]], Value | None]


def rewrite(trace: Trace, program: Program, rule: Rule) -> Program:
    """The program with rule(value, its new inputs) in place of each value where that is not None;
    what reads a value that changed reads the new one.
    """
    new: dict[Value, Value] = {}
    for v in program.body:
        inputs = tuple([new.get(i, i) if type(i) is Value else i for i in v.inputs])
        made = rule(v, inputs)
        if made is None and inputs != v.inputs:
            made = trace.again(v, inputs)
        if made is not None:
            new[v] = made
    if not new:
        return program

    def now(values: Iterable[Value]) -> list[Value]:
        return [new.get(v, v) for v in values]

    changed = replace(
        program,
        carry_out=now(program.carry_out),
        ys=now(program.ys),
        sums=dict(zip(program.sums, now(program.sums.values()), strict=True)),
        taps=dict(zip(program.taps, now(program.taps.values()), strict=True)),
        kept=dict(zip(program.kept, now(program.kept.values()), strict=True)),
    )
    return prune(changed)


def prune(program: Program) -> Program:
    """Without what nothing reads, and with the weights that something does."""
    body = used(program.results, program.inputs)
    read = inputs_of([*body, *program.results])
    given = dict.fromkeys([*program.weights, *(v for v in read if v.stage == BEFORE)])
    return replace(program, body=body, weights=[w for w in given if w in read])


def inputs_of(values: Sequence[Value]) -> dict[Value, None]:
    """What they read that is not computed in the step, or are themselves, in order."""
    found: dict[Value, None] = {}
    for v in values:
        for i in (*v.inputs, v) if v.role == "op" else (v,):
            if type(i) is Value and i.role != "op":
                found[i] = None
    return found
