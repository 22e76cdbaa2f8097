"""Compiled: what the compiler makes of one traced step, each kernel when it is first needed.

It holds no arrays and no Tensors: the steps of all calls with the same trace share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import pipeline, sequences
from .bptt import Backward
from .forward import Forward
from .padding import cleaned
from .passes.hoisting import read_ahead
from .pipeline import Done, Setting
from .program import Program, Value
from .trace import Trace


class Compiled:
    """A traced step and all that was compiled of it.

    inputs: of the step as it was traced, for which a call has Tensors. program: after the first
    passes; its xs may be computed ahead of the loop. refused: taps that cannot be recorded: why.
    """

    def __init__(self, trace: Trace, traced: Program, name: str):
        self.trace, self.name, self.inputs = trace, name, traced.inputs
        self.program, self.done = pipeline.run(pipeline.STEP, traced, Setting(trace))
        self.spread = read_ahead(self.program)
        self.refused = self._refused()
        self.order = {v: k for k, v in enumerate(self.program.inputs)}
        self.checked: set[Any] = set()  # the code of cells that were traced twice and repeat it
        self._forward: dict[Any, Forward] = {}
        self._backward: dict[Any, Backward] = {}
        self.arrangements: dict[Any, Any] = {}  # what is known of calls, by their sizes
        self._bptt: dict[Any, tuple[Program, list[Done]]] = {}
        trace.forget()

    def _refused(self) -> dict[str, str]:
        pairs = zip(self.program.carry, self.program.carry_out, strict=True)
        ahead = {before for before, after in pairs if after in self.spread}
        why = (
            "is a state that enters the step, and that products ahead of the loop read where it is "
            "computed; tap it there"
        )
        return {name: why for name, v in self.program.taps.items() if v in ahead}

    def tensors(self, given: Sequence[Any], rows: int, real: Any = None) -> list[Any]:
        """The inputs of the program: those of the traced step, and what is computed of them.

        real: (T, B), the steps that are not padding, of which nothing may be computed.
        """
        known = dict(zip(self.inputs, given, strict=True))
        if real is not None:
            for v in self.inputs:
                if v.role == "x" and v in self.spread and v.dtype.kind == "f":
                    known[v] = cleaned(real, known[v])
        return [sequences.whole(v, known, rows) for v in self.program.inputs]

    def bptt(
        self, wanted: tuple[int, ...], with_ys: bool, states: tuple[str, ...]
    ) -> tuple[Program, list[Done]]:
        """The step of BPTT for the wanted inputs (by position)."""
        key = wanted, with_ys, states
        if key not in self._bptt:
            inputs = [self.program.inputs[i] for i in wanted]
            given = Setting(self.trace, self.program, inputs, with_ys, states)
            self._bptt[key] = pipeline.run(pipeline.BPTT, self.program, given)
        return self._bptt[key]

    def inference(self, packed: bool = False) -> Forward:
        """The loop forward that keeps nothing. packed: over packed steps."""
        return self._forward_that_keeps("inference", [], packed)

    def training(
        self, wanted: tuple[int, ...], states: tuple[str, ...], packed: bool = False
    ) -> Forward:
        """The loop forward that keeps what BPTT reads."""
        own = set(self.program.inputs) | set(self.program.body)
        back, _ = self.bptt(wanted, True, states)
        return self._forward_that_keeps((wanted, states), [v for v in back.xs if v in own], packed)

    def _forward_that_keeps(self, what: Any, kept: Sequence[Value], packed: bool) -> Forward:
        key = what, packed
        if key not in self._forward:
            given = Setting(self.trace, kept=kept)
            program, done = pipeline.run(pipeline.FORWARD, self.program, given)
            self._forward[key] = Forward(program, self.name, done, packed)
        return self._forward[key]

    def backward(
        self, wanted: tuple[int, ...], with_ys: bool, states: tuple[str, ...], packed: bool = False
    ) -> Backward:
        """The loop of BPTT."""
        key = wanted, with_ys, states, packed
        if key not in self._backward:
            program, done = self.bptt(wanted, with_ys, states)
            given = Setting(self.trace, self.program)
            program, more = pipeline.run(pipeline.BACKWARD, program, given)
            forward = self.training(wanted, states, packed)
            self._backward[key] = Backward(program, forward, self.name, done + more, packed)
        return self._backward[key]

    def __repr__(self) -> str:
        return f"<{self.name}, compiled>"
