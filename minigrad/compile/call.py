"""One call of a compiled scan: its loops run forward, and back when the gradients have arrived."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..listener import Listener
from ..memory import kept, readable
from ..norms import row_norms
from ..tape import Node, state
from ..tensors import Tensor, wrap
from .compiled import Compiled
from .explain import Explanation
from .forward import Forward, full_shape
from .node import SCAN, Pulled, Saved, output, scan_node
from .prepared import Back, Prepared, arranged
from .program import Program, Value
from .records import Record

Array = np.ndarray


@dataclass
class Ran:
    """What is known of a call once it has run.

    record: the taps. tellers: whom to tell that norms of gradients have arrived. backward: the loop
    of BPTT, once it has run.
    """

    kernel: Forward
    record: Record = field(default_factory=Record)
    tellers: list[Callable[[], None]] = field(default_factory=list)
    backward: Any = None

    def arrived(self) -> None:
        for tell in self.tellers:
            tell()


@dataclass
class Run:
    """A compiled step on the Tensors of one call; steps, rows, reverse: how often, and which way.

    taps: the values kept of every step, by name. states: of which of them the norms of the
    gradients are wanted, too.
    """

    compiled: Compiled
    tensors: list[Tensor]
    steps: int
    rows: int
    reverse: bool
    taps: dict[str, Value]
    states: Collection[str]

    def __post_init__(self) -> None:
        self.program: Program = self.compiled.program
        self.carries = len(self.program.carry)
        self.first_weight = self.carries + len(self.program.xs)
        self.arrays = [kept(t) for t in self.tensors]
        self.needs = tuple(
            i for i, t in enumerate(self.tensors) if state.recording and t.requires_grad
        )
        self.wanted = tuple(i for i in self.needs if i >= self.carries)
        self.ahead = {  # whose gradients come from eager ops on whole sequences, too
            name: self.tensors[self.compiled.order[v]]
            for name, v in self.program.taps.items()
            if name in self.taps and name in self.states
            and v.role == "x" and v in self.compiled.spread
        }  # fmt: skip
        self.shown = tuple(n for n in self.taps if n in self.states and n not in self.ahead)
        if self.needs:
            self.ran = Ran(self.compiled.training(self.wanted, self.shown))
        else:
            self.ran = Ran(self.compiled.inference())

    # -- forward

    def run(self) -> tuple[list[Tensor], list[Tensor]]:
        """The last carry and the ys, as Tensors on the tape."""
        c = self.carries
        at = arranged(
            self.compiled, self.arrays, self.steps, self.rows, self.reverse, self.needs, self.shown
        )
        run = Prepared(at, self.arrays)
        run.forward()
        if state.jit is None:
            run.forget()
        else:
            name = f"scan of {self.compiled.name}"
            state.jit.ran(name, run, run.inputs, run.outputs, run.forward_calls)
        finals, ys = run.outputs[:c], run.outputs[c:]
        for name in at.taps:
            self.ran.record.values[name] = readable(run.tap(name))  # BPTT may read them
        for name, whole in self.ahead.items():
            if state.recording and whole.requires_grad:
                whole.register_hook(self._arrival(name))
        if not self.needs and state.tape is None:
            return [wrap(a, None, False) for a in finals], [wrap(a, None, False) for a in ys]
        node = self._node(run, [*finals, *ys])
        outputs = [output(node, k, a) for k, a in enumerate([*finals, *ys])]
        return outputs[:c], outputs[c:]

    def _node(self, run: Prepared, results: list[Array]) -> Node:
        params = {
            "compiled": self.compiled, "steps": self.steps, "rows": self.rows,
            "reverse": self.reverse, "shown": self.shown, "ran": self.ran,
        }  # fmt: skip
        owners = run.owners() if self.needs else []
        saved = Saved([*self.arrays, *owners], Kept(run, self.arrays, self.tensors))
        return scan_node(SCAN, self.tensors, params, self.needs, saved, results[-1])

    def _arrival(self, name: str) -> Callable[[Tensor], None]:
        """A hook that notes the norms of the gradient of a whole sequence."""
        ran, shape = self.ran, (self.steps, self.rows)

        def arrived(g: Tensor) -> None:
            flat = g._data.reshape(shape[0] * shape[1], -1)
            ran.record.gradients[name] = row_norms(flat, g.dtype).reshape(shape)
            ran.arrived()

        return arrived

    # -- who listens

    def tell(self, listeners: Sequence[Listener], path: str) -> None:
        """Gives listeners the taps of all steps, and the norms once they exist."""
        order = range(self.steps - 1, -1, -1) if self.reverse else range(self.steps)
        made_by = {n: v.op.name if v.op else "" for n, v in self.program.taps.items()}
        record = self.ran.record
        for listener in listeners:
            if listener.whole_scans:
                told = listener.sequence(path, order, record, made_by, bool(self.needs))
                self.ran.tellers.append(told)
                continue
            for t in order:
                scope = f"{path}/t={t}" if path else f"t={t}"
                for name, values in record.values.items():
                    listener.tap(name, wrap(values[t], None, False), scope)

    def explanation(self, came: str) -> Explanation:
        """What ran, without its arrays. came: whether it was traced, and why."""
        return Explanation(
            self.compiled, self.ran, self.steps, self.rows, self.reverse, self.wanted, came
        )


@dataclass
class Kept:
    """What the way back reads: the run forward, and the inputs as they were."""

    run: Prepared
    arrays: list[Array]
    tensors: list[Tensor]


# -- backward --------------------------------------------------------------------------------------


def backward(node: Node, g: dict[int, Array]) -> Pulled:
    """BPTT: the gradients of what needs one."""
    compiled, ran = node.params["compiled"], node.params["ran"]
    steps, rows, reverse = (node.params[k] for k in ("steps", "rows", "reverse"))
    assert isinstance(node._saved, Saved)
    run: Prepared = node._saved.of.run
    program, needs = compiled.program, node.plan.needs
    back = Back(run, g)
    back.run()
    ran.backward = back.loop
    if state.jit is not None:
        read = [*run.inputs, *run.outputs, *back.output_gradients.values()]
        made = list(back.input_gradients.values())
        state.jit.ran(f"BPTT of {compiled.name}", back, read, made, back.calls)
    entering = {v: k for k, v in enumerate(program.carry)}
    for name, norms in back.norms.items():
        norms = norms.reshape(steps, rows)
        k = entering.get(program.taps[name])
        if k is not None:
            start = back.input_gradients[k] if k in needs else np.zeros_like(run.inputs[k])
            norms = _entered(norms, start.reshape(rows, -1), reverse)
        ran.record.gradients[name] = norms
    ran.arrived()
    return list(back.input_gradients.items())


SCAN.pulled = backward


def _entered(norms: Array, first: Array, reverse: bool) -> Array:
    """Of what enters each step: what left the one before, and the first state."""
    start = row_norms(first, first.dtype)[None]
    return np.concatenate((norms[1:], start) if reverse else (start, norms[:-1]))


def zeros_like_y(node: Node, k: int) -> Array:
    """The gradient of a y that nothing reads."""
    v = node.params["compiled"].program.ys[k]
    return np.zeros((node.params["steps"], *full_shape(v, node.params["rows"])), v.dtype)
