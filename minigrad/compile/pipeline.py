"""The pipeline: all that is done to a program between the trace of a cell and its kernels, in
order.

    trace.py                 a cell becomes the Program of its step
    PASSES                   Program -> Program, one after the other, as listed here
    lower.py                 what is left becomes loops and products over buffers
    codegen.py, kernel.py    text, and machine code

Four programs run through it: the "step" as it was traced; the step of BPTT, which `reverse` makes
of it (in two parts, as BPTT tells what forward has to store); and what then runs "forward" and
"backward". The column at the right says which of them a pass works on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from . import passes
from .program import Program, Value
from .reversing import reverse
from .trace import Trace


@dataclass
class Setting:
    """What passes are told beside the program.

    trace: makes new values. step: the forward step, for the passes of BPTT. wanted: the xs and
    weights whose gradients are asked for; with_ys: whether gradients of ys come in; states: the
    taps whose gradient is shown. kept: what BPTT reads of the step.
    """

    trace: Trace
    step: Program | None = None
    wanted: Sequence[Value] = ()
    with_ys: bool = True
    states: Collection[str] = ()
    kept: Sequence[Value] = ()


class Pass(NamedTuple):
    """name; what it does, in a sentence; the function; the programs that it works on."""

    name: str
    says: str
    run: Callable[[Program, Setting], Program]
    on: tuple[str, ...]


def _recompute(program: Program, given: Setting) -> Program:
    assert given.step is not None
    return passes.recompute(program, given.step)


STEP, BPTT, FORWARD, BACKWARD = "step", "bptt", "forward", "backward"
RUNS = (FORWARD, BACKWARD)
# fmt: off
PASSES = (
    Pass("prune", "what nothing reads is not computed",
         lambda p, given: passes.prune(p), (STEP,)),
    Pass("hoist", "what does not depend on the state is done for the whole sequence at once",
         lambda p, given: passes.hoist(given.trace, p), (STEP,)),
    Pass("merge", "products of one value with several weights become one product",
         lambda p, given: passes.merge(given.trace, p), (STEP,)),
    Pass("reverse", "the rules of the ops, last to first, make the backward step",
         lambda p, at: reverse(at.trace, p, at.wanted, at.with_ys, at.states), (BPTT,)),
    Pass("recompute", "what is cheap is computed again in BPTT rather than stored for it",
         _recompute, (BPTT,)),
    Pass("keep", "what BPTT reads of the step is stored",
         lambda p, given: replace(p, kept={v: v for v in given.kept}), (FORWARD,)),
    Pass("fold", "reductions that loops do not know become trees of what joins two parts",
         lambda p, given: passes.fold(given.trace, p), RUNS),
    Pass("share", "equal computations are done once",
         lambda p, given: passes.share(given.trace, p), RUNS),
    Pass("push_slices", "slices move ahead of elementwise ops, so that gates share one loop",
         lambda p, given: passes.push_slices(given.trace, p), RUNS),
    Pass("share", "equal slices are taken once",
         lambda p, given: passes.share(given.trace, p), RUNS),
    Pass("order", "each product comes as soon as it can, so that one loop follows it",
         lambda p, given: passes.order(p), RUNS),
    Pass("sink", "products summed over time are one product over all steps, behind the loop",
         lambda p, given: passes.sink(p), (BACKWARD,)),
    Pass("batch", "products that no state runs through are done for a chunk of steps at once",
         lambda p, given: passes.batch(p, given.step), RUNS),
    Pass("accumulate", "a product that is added to something adds itself to where that lies",
         lambda p, given: passes.accumulate(p), RUNS),
)
# fmt: on


class Done(NamedTuple):
    """A pass that ran on one of the four programs."""

    on: str
    made_by: Pass
    before: Program
    after: Program

    @property
    def changed(self) -> str:
        """What it changed, counted: `matmul 4 -> 1, getitem 3 -> 6`; "" for nothing."""
        return _changes(self.before, self.after)

    def __str__(self) -> str:
        return f"{self.on:<9}{self.made_by.name:<12}{self.changed or 'nothing'}"


def run(on: str, program: Program, given: Setting) -> tuple[Program, list[Done]]:
    """The program after the passes that work on it, and what each of them did."""
    done = []
    given.trace.forward = False
    for made_by in PASSES:
        if on in made_by.on:
            before, program = program, made_by.run(program, given).check()
            done.append(Done(on, made_by, before, program))
    return program, done


def _changes(before: Program, after: Program) -> str:
    was, now = _counts(before), _counts(after)
    if before.name != after.name:
        return f"{len(after.body)} ops"
    found = [
        f"{what} {was[what]} -> {now[what]}"
        for what in dict.fromkeys([*was, *now])
        if was[what] != now[what]
    ]
    if not found and [*before.body] != [*after.body]:
        found = [f"{sum(a is not b for a, b in zip(before.body, after.body, strict=True))} moved"]
    return ", ".join(found)


def _counts(program: Program) -> Counter[str]:
    found = Counter(v.op.name for v in program.body if v.op)
    found["hoisted"] = sum(bool(v.inputs) for v in program.xs if v.role == "x")
    found["stored"] = len({*program.kept.values()})
    found["for a chunk of steps"] = len(program.early) + len(program.late)
    found["added in place"] = len(program.onto)
    return found
