"""What a drawing of a Program says beside it: which loop computes a value, and what is stored."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...compile.explain import Explanation
from ...compile.lower import Loop
from ...compile.program import Program, Value, used
from .boxes import stored_reads


@dataclass
class Facts:
    """What is known of a step beside its program.

    loops: value -> the loop that computes it; sizes: how many elements of a row each loop visits.
    stored: values that are kept for BPTT; partly: of those, which in part only. states: what the
    carries are called. read: for the ys of a backward step, whose gradients they are. passes: what
    each pass of the compiler did that changed something, counted.
    """

    title: str = ""
    loops: Mapping[Value, int] = field(default_factory=dict)
    sizes: Sequence[int] = ()
    stored: Collection[Value] = ()
    partly: Collection[Value] = ()
    states: Mapping[Value, str] = field(default_factory=dict)
    read: Sequence[Value] = ()
    reverse: bool = False
    passes: Sequence[str] = ()


def of_program(program: Program) -> Facts:
    """What the program itself says."""
    return Facts(states=_states(program), stored=stored_reads(program))


def of_scan(explanation: Explanation) -> list[tuple[Program, Facts]]:
    """The traced step and, once backward has run, that of BPTT; each with how it was compiled."""
    forward, back = explanation._forward, explanation._backward
    program = explanation.program
    same = counterparts(program, forward.program)
    loops = {}
    for v, lowered in same.items():
        found = {k for w in lowered for k in _loops(forward.kernel.lowered.steps).get(w, ())}
        if len(found) == 1:
            loops[v] = found.pop()
    kept = {v for v in forward.kept if v.role != "x" or v.op is not None}  # no plain inputs
    stored = {v: [w in kept for w in lowered] for v, lowered in same.items()}
    states = _states(program)
    facts = Facts(
        "forward", loops, _sizes(forward.kernel.lowered.steps),
        {v for v, parts in stored.items() if any(parts)},
        {v for v, parts in stored.items() if any(parts) and not all(parts)},
        states, (), explanation.reverse, passes_of(explanation, "step", "forward"),
    )  # fmt: skip
    panels = [(program, facts)]
    if back is not None:
        steps = back.kernel.lowered.steps
        names = [states[v] for v in program.carry]
        states = states | dict(zip(back.program.carry, names, strict=True))
        facts = Facts(
            "BPTT, from the last step to the first", {v: k[0] for v, k in _loops(steps).items()},
            _sizes(steps), stored_reads(back.program), (), states, back.xs, explanation.reverse,
            passes_of(explanation, "bptt", "backward"),
        )  # fmt: skip
        panels.append((back.program, facts))
    return panels


def passes_of(explanation: Explanation, *programs: str) -> list[str]:
    """`merge: matmul 2 -> 1` for each pass that changed one of these programs, in order."""
    done = [d for d in explanation.passes if d.on in programs and d.changed]
    return [f"{d.made_by.name}: {d.changed}" for d in done]


def _states(program: Program) -> dict[Value, str]:
    """What each carry is called: by its own name, or by the one it leaves the step with."""
    both = zip(program.carry, program.carry_out, strict=True)
    if program.name == "backward step":
        return {v: v.name.removeprefix("d") or "state" for v, _ in both}
    own = {v: "" if v.name.startswith("[") else v.name for v in program.carry}  # [0] of a tuple
    return {v: own[v] or after.name or f"state{v.name}" for v, after in both}


def without_norms(program: Program) -> tuple[Program, dict[str, list[Value]]]:
    """A backward step without the norms that record= asked for; and of which values they are."""
    if program.name != "backward step" or not program.taps:
        return program, {}
    body = used([*program.carry_out, *program.ys, *program.sums.values()], program.inputs)
    inside = {*body, *program.inputs}
    known = {name: v for name, v in program.taps.items() if v not in inside}
    of: dict[str, list[Value]] = {}
    for name, v in known.items():
        reads = [i for w in used([v], inside) for i in w.inputs if i in inside]
        of[name] = list(dict.fromkeys(reads))
    taps = {name: v for name, v in program.taps.items() if name not in known}
    return replace(program, body=body, taps=taps), of


def counterparts(traced: Program, runs: Program) -> dict[Value, list[Value]]:
    """The values of the step that runs, for each value of the traced one that it stems from.

    The passes move slices ahead of elementwise ops; so both steps are walked from their results,
    and slices are skipped on either side.
    """
    found: dict[Value, list[Value]] = {}
    stack = [
        *zip(traced.carry_out, runs.carry_out, strict=True), *zip(traced.ys, runs.ys, strict=True),
    ]  # fmt: skip
    while stack:
        v, w = stack.pop()
        if _is_slice(v):
            stack.append((v.inputs[0], w))
        elif _is_slice(w) and v.op is not w.op:
            stack.append((v, w.inputs[0]))
        elif v is w or (v.op is w.op and len(v.inputs) == len(w.inputs)):
            known = found.setdefault(v, [])
            if w in known:
                continue
            known.append(w)
            stack += [p for p in zip(v.inputs, w.inputs, strict=True) if type(p[0]) is Value]
    return found


def _is_slice(v: Value) -> bool:
    return v.op is not None and v.op.name == "getitem"


def _loops(steps: Sequence[Any]) -> dict[Value, list[int]]:
    """For each value the loop in which it is computed, or summed up."""
    found: dict[Value, list[int]] = {}
    for k, step in enumerate(steps):
        if isinstance(step, Loop):
            for item in step.items:
                if item.value is not None and item.loads is None and not item.fold:
                    found.setdefault(item.value, []).append(k)
    return found


def _sizes(steps: Sequence[Any]) -> list[int]:
    return [math.prod(step.space) if isinstance(step, Loop) else 0 for step in steps]
