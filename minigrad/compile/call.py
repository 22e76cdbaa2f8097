"""One call of a compiled scan: its loops run forward, and back when the gradients have arrived."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ..backward import Look
from ..listener import Listener
from ..memory import kept, lent, readable
from ..norms import row_norms
from ..tape import Node, state
from ..tensors import Tensor, wrap
from .arrangement import Arrangement
from .compiled import Compiled
from .explain import Explanation
from .forward import Forward, full_shape
from .node import SCAN, Pulled, Saved, output, scan_node
from .outside import Outside
from .packed import PackedBack, PackedRun
from .packing import Packed, Packing
from .prepared import Back, Prepared, arranged
from .program import Value
from .records import Record
from .taps import bare, carried

Array = np.ndarray


def wanted_by(listeners: Sequence[Listener], compiled: Compiled, taps: Collection[str]) -> set[str]:
    """Of which taps, and entering states, those who listen want the norms of gradients."""
    states: set[str] = set()
    for listener in listeners:
        states |= {name for name in taps if bare(name) in listener.states}
        if listener.whole_scans and listener.states:
            states |= {carried(k) for k in range(len(compiled.program.carry))}
    return states


class Ran:
    """Which loops a call ran: forward, and BPTT once it has run. many: scans side by side."""

    backward: Any = None
    many: int = 1

    def __init__(self, kernel: Forward):
        self.kernel = kernel


class Heard:
    """What a call shows of its steps. tellers: whom to tell that norms of gradients have arrived.
    sums: whether the gradients of weights are wanted.

    Apart from Ran, which explain() keeps: those who listen may hold the layer that keeps it.
    """

    tellers: Sequence[Callable[[], None]] = ()
    sums = True

    @cached_property
    def record(self) -> Record:
        return Record()

    def arrived(self) -> None:
        for tell in self.tellers:
            tell()


class Run:
    """A compiled step on the Tensors of one call; steps, rows, reverse: how often, and which way.

    taps: the values kept of every step, by name. states: of which of them the norms of gradients
    are wanted, too, and `carried(k)` for those of the state that each step leaves. outside: makes
    the inputs of the program from the tensors, if they are not these. packing: the steps that are
    run, if these are not all; nothing is tapped then.
    """

    def __init__(
        self, compiled: Compiled, tensors: list[Tensor], steps: int, rows: int, reverse: bool,
        taps: Mapping[str, Value] | None = None, states: Collection[str] = (),
        outside: Outside | None = None, packing: Packing | None = None,
    ):  # fmt: skip
        jitting = state.jit is not None
        if jitting and outside is not None:  # it sees each op on a weight
            tensors, outside = outside.again(tensors), None
        self.compiled, self.tensors, self.program = compiled, tensors, compiled.program
        self.steps, self.rows, self.reverse, self.outside = steps, rows, reverse, outside
        raw: list[Array] = []
        needs: list[int] = []
        recording = state.recording
        for i, t in enumerate(tensors):
            raw.append(kept(t) if lent or jitting else t._array)
            if recording and t.requires_grad:
                needs.append(i)
        self.raw, self.needs = raw, tuple(needs)
        self.arrays, inner, self.made = raw, self.needs, None
        self.masks: list[int] = []
        if outside is not None:
            self.made = outside.forward(raw)
            self.arrays = self.made.given
            inner, self.masks = outside.needs(self.needs)
            self.needs = self.needs if inner else ()  # if all of it is inside of a no_grad
        self.ahead: dict[str, Tensor] = {}  # whose gradients come from eager ops, too
        shown: tuple[str, ...] = ()
        if taps:
            self.ahead = {
                name: tensors[compiled.order[v]]
                for name, v in self.program.taps.items()
                if name in taps and name in states and v.role == "x" and v in compiled.spread
            }
            leaves = map(carried, range(len(self.program.carry)))
            shown = tuple(n for n in (*taps, *leaves) if n in states and n not in self.ahead)
        self.shown = shown
        self.packing = packing
        self.packed: Packed | None = None  # what came of it
        down = reverse and packing is None  # packed steps lie in the order in which they run
        self.at = arranged(
            compiled, self.arrays, steps, rows, down, inner, shown, packed=packing is not None
        )
        self.ran, self.heard = Ran(self.at.loop), Heard()

    def arrange(self, many: int) -> Arrangement:
        """For a run beside others, `many` in all."""
        at, self.ran.many = self.at, many
        self.at = at = arranged(
            at.compiled, self.arrays, at.steps, at.rows, at.reverse, at.needs, at.shown, many
        )
        return at

    # -- forward

    def run(self) -> tuple[list[Tensor], list[Tensor]]:
        """The last carry and the ys, as Tensors on the tape."""
        if self.packing is None:
            run = Prepared(self.at, self.arrays)
            run.forward()
        else:
            run = packed = PackedRun(self.at, self.arrays, self.packing)
            run.forward()
            self.packed = packed.places.summary()
        if state.jit is not None:
            name = f"scan of {self.compiled.name}"
            state.jit.ran(name, run, run.reads, run.outputs, run.forward_calls)
        return self.outputs(*self.node(run))

    def node(self, run: Prepared) -> tuple[Node | None, list[Array]]:
        """The node of what has run, None where nothing is recorded; and the arrays it gives."""
        for name in run.at.taps:
            self.heard.record.values[name] = readable(run.tap(name))  # BPTT may read them
        for name, whole in self.ahead.items():
            if state.recording and whole.requires_grad:
                whole.register_hook(Look(self._arrival(name)))
        made = run.outputs if state.jit is not None else run.forget()
        if not self.needs and state.tape is None:
            return None, made
        params = {
            "compiled": self.compiled, "steps": self.steps, "rows": self.rows,
            "reverse": self.reverse, "shown": self.shown, "packing": self.packing, "ran": self.ran,
            "heard": self.heard,
        }  # fmt: skip
        arrays = [*self.arrays, *run.owners()] if self.needs else self.arrays
        if self.outside is not None and self.made is not None:
            arrays = [*arrays, *self.outside.saved(self.made, self.masks)]
        saved = Saved(arrays, Kept(run, self))
        return scan_node(SCAN, self.tensors, params, self.needs, saved, made[-1]), made

    def outputs(self, node: Node | None, made: list[Array]) -> tuple[list[Tensor], list[Tensor]]:
        """The last carry and the ys of what has run."""
        if node is None:
            found = [wrap(a, None, False) for a in made]
        else:
            found = [output(node, k, a) for k, a in enumerate(made)]
        return found[: self.at.carries], found[self.at.carries :]

    def _arrival(self, name: str) -> Callable[[Array], None]:
        """What notes the norms of the gradient of a whole sequence."""
        heard, shape = self.heard, (self.steps, self.rows)

        def arrived(g: Array) -> None:
            flat = g.reshape(shape[0] * shape[1], -1)
            heard.record.gradients[name] = row_norms(flat, g.dtype).reshape(shape)
            heard.arrived()

        return arrived

    # -- who listens

    def tell(self, listeners: Sequence[Listener], path: str) -> None:
        """Gives listeners the taps of all steps, and the norms once they exist."""
        order = range(self.steps - 1, -1, -1) if self.reverse else range(self.steps)
        made_by = {n: v.op.name if v.op else "" for n, v in self.program.taps.items()}
        record = self.heard.record
        self.heard.sums = any(listener.sums for listener in listeners)
        for listener in listeners:
            if listener.whole_scans:
                told = listener.sequence(path, order, record, made_by, bool(self.needs))
                self.heard.tellers = [*self.heard.tellers, told]
                continue
            for t in order:
                scope = f"{path}/t={t}" if path else f"t={t}"
                for name, values in record.values.items():
                    listener.tap(name, wrap(values[t], None, False), scope)

    def explanation(self, came: str) -> Explanation:
        """What ran, without its arrays. came: whether it was traced, and why."""
        return Explanation(
            self.compiled, self.ran, self.steps, self.rows, self.reverse, self.at.wanted, came,
            self.packed,
        )  # fmt: skip


class Kept:
    """What the way back reads: the run forward, and the inputs as they were.

    tensors, arrays: those of the scan's node. needs: the inputs of the program that need a
    gradient; made: what was made of the arrays for it, by outside. together: the nodes of the scans
    that ran side by side with it. ahead: BPTT that has run already, beside that of another, and of
    which gradients.
    """

    together: Sequence[Node | None] = ()
    ahead: tuple[dict[int, Array], Back] | None = None

    def __init__(self, run: Prepared, call: Run):
        self.run = run
        self.tensors, self.arrays = call.tensors, call.raw
        self.needs, self.outside, self.made = call.at.needs, call.outside, call.made
        self.masks = call.masks


# -- backward --------------------------------------------------------------------------------------


def backward(node: Node, g: dict[int, Array]) -> Pulled:
    """BPTT: the gradients of what needs one."""
    assert isinstance(node._saved, Saved)
    ran, heard, saved = node.params["ran"], node.params["heard"], node._saved.of
    run, needs = saved.run, saved.needs
    name = f"BPTT of {node.params['compiled'].name}"
    at = run.at
    ahead, saved.ahead = saved.ahead, None
    if ahead is not None and ahead[0].keys() == g.keys() and all(ahead[0][k] is g[k] for k in g):
        back = ahead[1]
    else:
        ahead, back = None, (PackedBack if run.at.packed else Back)(run, g, heard.sums)
        back.run()
    ran.backward = back.loop
    if state.jit is not None and ahead is None:
        read = [*run.inputs, *run.outputs, *back.output_gradients.values()]
        state.jit.ran(name, back, read, [*back.input_gradients.values()], back.calls)
    found = {name: norms.reshape(at.steps, at.rows) for name, norms in back.norms.items()}
    for k in range(at.carries):
        if (entering := found.pop(carried(k), None)) is not None:
            heard.record.carried[k] = _left(entering, g.get(k), at.reverse)
    for name, norms in found.items():
        k = at.entering.get(name)
        if k is not None:
            start = back.input_gradients[k] if k in needs else np.zeros_like(run.inputs[k])
            norms = _entered(norms, start.reshape(at.rows, -1), at.reverse)
        heard.record.gradients[name] = norms
    heard.arrived()
    return _outside(saved, back.input_gradients)


def _outside(saved: Kept, found: dict[int, Array]) -> Pulled:
    """The gradients of what came in, from those of the inputs of the program."""
    if saved.outside is not None and saved.made is not None:
        found = saved.outside.backward(saved.made, saved.masks, found)
    return list(found.items())


SCAN.pulled = backward


def _entered(norms: Array, first: Array, reverse: bool) -> Array:
    """Of what enters each step: what left the one before, and the first state."""
    start = row_norms(first, first.dtype)[None]
    return np.concatenate((norms[1:], start) if reverse else (start, norms[:-1]))


def _left(norms: Array, last: Array | None, reverse: bool) -> Array:
    """Of the state that each step leaves: what enters the next one, and the last state."""
    rows = norms.shape[1]
    end = np.zeros(rows) if last is None else row_norms(last.reshape(rows, -1), last.dtype)
    return np.concatenate((end[None], norms[:-1]) if reverse else (norms[1:], end[None]))


def zeros_like_y(node: Node, k: int) -> Array:
    """The gradient of a y that nothing reads."""
    v = node.params["compiled"].program.ys[k]
    return np.zeros((node.params["steps"], *full_shape(v, node.params["rows"])), v.dtype)
