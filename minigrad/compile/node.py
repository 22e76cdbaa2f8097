"""The scan on the eager tape: one node, with one further node for each of its results.

BPTT runs when the gradients of all results that anything reads have arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..backward import Partial
from ..errors import describe
from ..memory import kept, readable
from ..op import Op
from ..plan import Plan
from ..tape import Node, listen, state, tick
from ..tensors import Tensor, in_place_of, wrap
from .compiled import Compiled, Forward, full_shape
from .explain import Explanation
from .program import Value
from .result import Record
from .storage import Storage
from .taps import StepTaps

Array = np.ndarray


def _scan(inputs: Any) -> Any:
    """(carry, xs, weights) -> (carry, ys): a compiled loop over all steps."""
    raise TypeError("scan is recorded by mg.scan, not called as an op")


class _ScanOp(Op):
    """What stands on the tape for a whole scan."""

    kind = "scan"

    def pull(self, node: Node, g: Any, recorded: bool) -> list[tuple[int, Any]]:
        """(input, its gradient) for each input that needs one."""
        run: Run = node.params["run"]
        return run.recorded_backward(node, g) if recorded else run.backward(node, g)

    def release(self, node: Node) -> None:
        """Lets go of what backward needed."""
        node.params["run"].release()


class _OutputOp(Op):
    """One of the results of a scan."""

    kind = "scan"

    def pull(self, node: Node, g: Any, recorded: bool) -> list[tuple[int, Any]]:
        return [(0, Output(node.params["k"], g))]


SCAN = _ScanOp(_scan, {"name": "scan", "variadic": True, "method": False})
OUTPUT = _OutputOp(_scan, {"name": "scan_output", "variadic": True, "method": False})


class Output(Partial):
    """The gradient of the k-th result of a scan, on its way to the scan's node."""

    __slots__ = ("g", "k")

    def __init__(self, k: int, g: Any):
        self.k, self.g = k, g

    def add_to(self, total: Any) -> Any:
        total = {} if total is None else total
        total[self.k] = total[self.k] + self.g if self.k in total else self.g
        return total


def make_node(op: Op, inputs: Sequence[Any], params: dict[str, Any], y: Array) -> Node:
    """A node that is not made by tensors.apply."""
    made = Node.__new__(Node)
    made.op, made.params, made.scope, made.position = op, params, state.scope, tick()
    made.shape, made.dtype = y.shape, y.dtype
    made.inputs = [
        (t._node or t) if isinstance(t, Tensor) and t.requires_grad else t if isinstance(t, Node)
        else t if state.tape is not None else None
        for t in inputs
    ]  # fmt: skip
    made.in_shapes = tuple(t.shape for t in inputs)
    made._saved = ()
    return made


def output(node: Node, k: int, array: Array, needs: bool) -> Tensor:
    """The Tensor of the k-th result of a scan."""
    needs = needs and array.dtype.kind == "f"
    picked = make_node(OUTPUT, [node], {"k": k}, array)
    picked.plan = Plan((0,) if needs else (), (), (), (), ())
    if state.tape is not None:
        state.tape.record(picked, array)
    return wrap(array, picked, needs)


class Run:
    """One call of a compiled scan: its arrays, forward and backward.

    taps: the values kept of every step, by name. states: of which of them the norms of the
    gradients are wanted, too.
    """

    def __init__(
        self,
        compiled: Compiled,
        tensors: list[Tensor],
        steps: int,
        rows: int,
        reverse: bool,
        taps: dict[str, Value],
        states: Collection[str],
    ):
        self.compiled, self.tensors, self.rows, self.reverse = compiled, tensors, rows, reverse
        program = compiled.program
        self.carries = len(program.carry)
        self.xs = len(program.xs)
        self.arrays = [kept(t) for t in tensors]
        self.steps = steps
        recording = state.recording
        self.needs = tuple(i for i, t in enumerate(tensors) if recording and t.requires_grad)
        self.wanted = tuple(i for i in self.needs if i >= self.carries)
        inside = compiled.program.taps
        self.outside = {  # whose gradients come from eager ops on whole sequences, too
            name: tensors[compiled.order[inside[name]]]
            for name in taps
            if name in states and inside[name].spread and inside[name].role == "x"
        }
        self.states = tuple(n for n in taps if n in states and n not in self.outside)
        self.record = Record()
        self.memory: Storage | None = None
        self.scope = state.scope
        self.ran: dict[str, Any] = {}  # for explain()
        self.tellers: list[Any] = []

    # -- forward

    def forward(self) -> tuple[list[Tensor], list[Tensor]]:
        """The last carry and the ys, as Tensors on the tape."""
        if self.needs:
            kernel = self.compiled.training(self.wanted, self.states)
        else:
            kernel = self.compiled.inference()
        self.kernel: Forward = kernel
        c, x = self.carries, self.carries + self.xs
        weights = dict(zip(self.compiled.program.weights, self.arrays[x:], strict=True))
        memory = kernel.run(
            self.arrays[:c], self.arrays[c:x], weights, self.steps, self.rows, self.reverse
        )
        carry = kernel.program.carry
        finals = [
            a.copy().reshape(self.arrays[i].shape)
            for i, a in enumerate(kernel.final(memory, self.steps, self.reverse))
        ]
        assert len(carry) == c
        ys, taken = [], set()
        for v in kernel.program.ys:
            y = kernel.over_time(v, memory, self.rows, self.reverse)
            buffer = kernel.of[v].name
            ys.append(y.copy() if buffer in taken else y)  # each y may be edited by itself
            taken.add(buffer)
        for name, v in kernel.program.taps.items():
            values = kernel.over_time(v, memory, self.rows, self.reverse)
            self.record.values[name] = readable(values)  # BPTT may read them
        for name, whole in self.outside.items():
            if state.recording and whole.requires_grad:
                whole.register_hook(self._arrived(name))
        if not self.needs and state.tape is None:
            return [wrap(a, None, False) for a in finals], [wrap(a, None, False) for a in ys]
        self.memory = memory if self.needs else Storage()
        node = self._node([*finals, *ys])
        needs = bool(self.needs)
        outputs = [output(node, k, a, needs) for k, a in enumerate([*finals, *ys])]
        return outputs[:c], outputs[c:]

    def _node(self, results: list[Array]) -> Node:
        node = make_node(SCAN, self.tensors, {"run": self}, results[-1])
        assert self.memory is not None
        owners = self.memory.owners()
        arrays = list({id(a): a for a in (*self.arrays, *owners)}.values())
        node._saved = tuple(arrays)
        names = tuple("an array of the scan" for _ in arrays)
        node.plan = Plan(self.needs, (), names, (), ())
        if state.tape is not None:
            state.tape.record(node, results[-1])
        return node

    # -- backward

    def backward(self, node: Node, g: dict[int, Array]) -> list[tuple[int, Array]]:
        """BPTT: the gradients of what needs one."""
        assert self.memory is not None
        program = self.compiled.program
        c, x = self.carries, self.carries + self.xs
        ys = [k for k, v in enumerate(program.ys, start=c) if v.dtype.kind == "f"]
        with_ys = any(k in g for k in ys)
        back = self.ran["backward"] = self.compiled.backward(self.wanted, with_ys, self.states)
        dcarry = [
            g[k] if k in g else np.zeros(self.arrays[k].shape, self.arrays[k].dtype)
            for k in range(c)
        ]
        dys = []
        if with_ys:
            dys = [g[k] if k in g else self.zeros_like_y(k - c)._data for k in ys]
        weights = dict(zip(program.weights, self.arrays[x:], strict=True))
        first, found, taps = back.run(
            self.memory, dcarry, dys, weights, self.steps, self.rows, self.reverse
        )
        entering = {v: k for k, v in enumerate(program.carry)}
        for name, norms in taps.items():
            norms = norms.reshape(self.steps, self.rows)
            k = entering.get(program.taps[name])
            if k is not None:
                norms = self._entered(
                    norms, first[k] if k in self.needs else np.zeros_like(first[k])
                )
            self.record.gradients[name] = norms
        for tell in self.tellers:
            tell()
        gradients = []
        for i in self.needs:
            if i < c:
                gradients.append((i, first[i].reshape(self.arrays[i].shape)))
                continue
            v = program.inputs[i]
            if v in found:
                gradients.append((i, np.asarray(found[v]).reshape(self.arrays[i].shape)))
        return gradients

    def _entered(self, norms: Array, first: Array) -> Array:
        """Of what enters each step: what left the one before, and the first state."""
        start = row_norms(first.reshape(self.rows, -1))[None]
        parts = (norms[1:], start) if self.reverse else (start, norms[:-1])
        return np.concatenate(parts)

    def _arrived(self, name: str) -> Callable[[Tensor], None]:
        """A hook that notes the norms of the gradient of a whole sequence."""
        record, steps, rows = self.record, self.steps, self.rows
        tellers = self.tellers

        def arrived(g: Tensor) -> None:
            flat = g._data.reshape(steps * rows, -1)
            record.gradients[name] = row_norms(flat).reshape(steps, rows)
            for tell in tellers:
                tell()

        return arrived

    @property
    def dtype(self) -> np.dtype:
        """Of the floats in the step."""
        return next(a.dtype for a in self.arrays if a.dtype.kind == "f")

    def zeros_like_y(self, k: int) -> Tensor:
        shape = (self.steps, *full_shape(self.kernel.program.ys[k], self.rows))
        return wrap(np.zeros(shape, self.dtype), None, False)

    def zeros_like_carry(self, k: int) -> Tensor:
        return wrap(np.zeros(self.arrays[k].shape, self.arrays[k].dtype), None, False)

    def release(self) -> None:
        """Lets go of all arrays; what explain() says remains."""
        self.memory, self.tensors, self.arrays = None, [], []

    def recorded_backward(self, node: Node, g: dict[int, Tensor]) -> list[tuple[int, Tensor]]:
        """The same on Tensors, so that it can be differentiated: BPTT as a scan of its own."""
        from .higher import gradient_as_scan

        for i, (t, array) in enumerate(zip(self.tensors, self.arrays, strict=True)):
            if t._data is not array:  # it has other values by now
                self.tensors[i] = in_place_of(t, array)
        return gradient_as_scan(self, node, g)

    # -- who listens

    def tell(self, listeners: Sequence[Any]) -> None:
        """Gives listeners of `mg.tap` the values of all steps, and the norms once they exist."""
        order = range(self.steps - 1, -1, -1) if self.reverse else range(self.steps)
        for listener in listeners:
            whole = getattr(listener, "sequence", None)
            if whole is not None:
                self.tellers.append(
                    whole(self.scope, order, self.record, self._made_by(), bool(self.needs))
                )
                continue
            for t in order:
                scope = f"{self.scope}/t={t}" if self.scope else f"t={t}"
                for name, values in self.record.values.items():
                    listener(name, wrap(values[t], None, False), scope)

    def _made_by(self) -> dict[str, str]:
        """name -> the op that made a tapped value."""
        taps = self.compiled.program.taps
        return {name: v.op.name if v.op else "" for name, v in taps.items()}

    def explanation(self, came: str) -> Explanation:
        """What ran, without its arrays. came: whether it was traced, and why."""
        return Explanation(
            self.compiled, self.kernel, self.steps, self.rows, self.reverse, self.wanted,
            self.ran, came,
        )  # fmt: skip


# -- records -------------------------------------------------------------------------------------


def row_norms(rows: Array) -> Array:
    """The Euclidean norm of each row, (n, k) -> (n,), where squares would leave the range, too."""
    peak = np.abs(rows).max(axis=1, keepdims=True, initial=0)
    scale = np.where((peak > 0) & np.isfinite(peak), peak, 1).astype(rows.dtype)
    return (scale * np.sqrt(((rows / scale) ** 2).sum(1, keepdims=True)))[:, 0]


class TapeRecord:
    """record= with mode="tape": the same arrays, put together from every step's taps."""

    def __init__(self, names: Any, reverse: bool, steps: int, rows: int):
        self.names = None if names is True else {names} if isinstance(names, str) else set(names)
        self.reverse, self.steps, self.rows = reverse, steps, rows
        self.values: dict[str, list[Array]] = {}
        self.record = Record()
        self._steps: dict[str, StepTaps] = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        self._around = f"{state.scope}/" if state.scope else ""
        with listen(self._hear):
            yield
        for step in self._steps.values():
            for name, tensor in step.named().items():
                if self.names is None or name in self.names:
                    self._keep(name, tensor)
        self._steps.clear()
        for name, steps in self.values.items():
            if len(steps) != self.steps:
                raise ValueError(
                    f"scan: record={name!r}, but it is tapped in {len(steps)} of {self.steps} "
                    f"steps; tap it in every one."
                )
            ordered = steps[::-1] if self.reverse else steps
            self.record.values[name] = np.stack(ordered)

    def _hear(self, name: str, tensor: Tensor, scope: str) -> None:
        step = self._around + scope[len(self._around) :].partition("/")[0]
        self._steps.setdefault(step, StepTaps(step)).hear(name, tensor, scope)

    def _keep(self, name: str, tensor: Tensor) -> None:
        if tensor.ndim == 0 or tensor.shape[0] != self.rows:
            if self.names is None:
                return
            raise ValueError(
                f"scan: record={name!r}, but it is {describe(tensor)}, without a row (axis 0) for "
                f"each of the batch."
            )
        steps = self.values.setdefault(name, [])
        k = len(steps)
        steps.append(tensor.numpy())
        if tensor.requires_grad:
            tensor.register_hook(lambda g: self._arrived(name, k, g._data))

    def _arrived(self, name: str, k: int, g: Array) -> None:
        shape = self.steps, self.rows
        table = self.record.gradients.setdefault(name, np.zeros(shape, g.dtype))
        table[self.steps - 1 - k if self.reverse else k] = row_norms(g.reshape(self.rows, -1))


class JoinedRecord(Record):
    """The records of windows, one after the other."""

    def __init__(self, parts: Sequence[Record]):
        self.parts = list(parts)

    @property
    def values(self) -> dict[str, Array]:  # type: ignore[override]
        return {n: np.concatenate([p.values[n] for p in self.parts]) for n in self.parts[0].values}

    @property
    def gradients(self) -> dict[str, Array]:  # type: ignore[override]
        names = {n for p in self.parts for n in p.gradients}
        found = {}
        for n in sorted(names):
            known = next(p.gradients[n] for p in self.parts if n in p.gradients)
            found[n] = np.concatenate([
                p.gradients.get(n, np.zeros((len(p.values[n]), known.shape[1]), known.dtype))
                for p in self.parts
            ])  # fmt: skip
        return found
