"""A node Scan: the graph that it holds, as a cell over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import ops
from ..compile.scanning import scan
from ..nn.module import Module
from ..nn.recurrent import DEFAULT_MODE
from ..tape import tap
from ..tensors import Tensor, as_tensor
from .base import ConversionError

Run = Callable[[dict[str, Any]], dict[str, Any]]  # values by name -> those and what was computed


class OnnxScan(Module):
    """A node Scan: (states, sequences, values around it) -> (final states, ys).

    run: its steps. inputs, outputs: of its graph, of which the first `states` are the state;
    captured: the values around it that the graph reads. xs, ys: for each sequence whether it runs
    from the last step to the first, and which of its axes is time.
    layers: the modules in it, by the names of their nodes. mode: as in nn.Recurrent; it is compiled
    where all states are floats (B, ...) and all sequences floats or masks (T, B, ...), and its
    states are recorded then, as h, or h0, h1, ...
    """

    def __init__(
        self,
        what: str,
        run: Run,
        layers: dict[str, Module],
        inputs: Sequence[str],
        outputs: Sequence[str],
        captured: Sequence[str],
        attributes: dict[str, Any],
    ):
        self.what, self.run, self.layers, self.mode = what, run, layers, DEFAULT_MODE
        self.inputs, self.outputs, self.captured = inputs, outputs, captured
        n = attributes["num_scan_inputs"]
        self.states = len(inputs) - n
        k = len(outputs) - self.states
        if n < 1 or self.states < 0 or k < 0:
            raise ConversionError(
                f"import_onnx: {what}: its graph has {len(inputs)} inputs and {len(outputs)} "
                f"outputs, and {n} sequences."
            )
        self.xs = _ways(what, attributes, "input", n)
        self.ys = _ways(what, attributes, "output", k)

    def forward(self, *values: Any) -> tuple[Any, ...]:
        n = len(self.inputs)
        around = dict(zip(self.captured, values[n:], strict=True))
        state = tuple(map(_value, values[: self.states]))
        reverse = all(back for back, _ in (*self.xs, *self.ys))
        given = zip(values[self.states : n], self.xs, strict=True)
        xs = tuple([
            _turned(np.moveaxis(_value(x), axis, 0), back and not reverse)
            for x, (back, axis) in given
        ])  # fmt: skip

        def cell(state: Any, x: Any) -> tuple[Any, Any]:
            held = self.run(around | dict(zip(self.inputs, (*state, *x), strict=True)))
            found = tuple(held[name] for name in self.outputs)
            return found[: self.states], found[self.states :]

        def tapped(state: Any, x: Any) -> tuple[Any, Any]:
            new, y = cell(state, x)
            names = [f"h{k}" if len(new) > 1 else "h" for k in range(len(new))]
            return tuple(map(tap, names, new)), y

        if not len(xs[0]):
            raise ConversionError(f"OnnxModel: {self.what} runs over a sequence without a step.")
        if _compiles(state, xs):
            masks = [x if isinstance(x, Tensor) else as_tensor(x) for x in xs]
            final, ys = scan(tapped, state, tuple(masks), None, reverse, self.mode)
        else:
            final, ys = _step_by_step(cell, state, xs, reverse)
        turned = [
            np.moveaxis(_turned(y, back and not reverse), 0, axis)
            for y, (back, axis) in zip(ys, self.ys, strict=True)
        ]
        return (*final, *turned)

    def describe(self) -> str:
        return f"{self.states} states, {len(self.inputs) - self.states} sequences"


def _ways(what: str, attributes: dict[str, Any], kind: str, n: int) -> list[tuple[bool, int]]:
    """(whether it runs backwards, its axis of time) for each of the inputs, or the outputs."""
    given = [attributes.get(f"scan_{kind}_{name}", [0] * n) for name in ("directions", "axes")]
    if any(len(values) != n for values in given):
        raise ConversionError(f"import_onnx: {what} has {n} sequences as {kind}s, and other axes.")
    return [(bool(back), int(axis)) for back, axis in zip(*given, strict=True)]


def _value(value: Any) -> Any:
    """Floats as a Tensor."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return as_tensor(value)
    return value


def _turned(x: Any, back: bool) -> Any:
    return x[::-1] if back else x


def _compiles(state: Sequence[Any], xs: Sequence[Any]) -> bool:
    """Whether it is what mg.scan takes: everything has a row for each of the batch."""
    rows = {s.shape[:1] for s in state} | {x.shape[1:2] for x in xs}
    kinds = {x.dtype.kind for x in xs} | {s.dtype.kind for s in state if s.dtype.kind != "f"}
    return len(rows) == 1 and all(map(len, rows)) and kinds <= {"f", "b"} and bool(state)


def _step_by_step(cell: Any, state: Any, xs: Any, reverse: bool) -> tuple[Any, Any]:
    """The loop in Python, which takes integers and states without rows, too."""
    steps = range(len(xs[0]))
    ys = []
    for t in reversed(steps) if reverse else steps:
        state, y = cell(state, tuple(x[t] for x in xs))
        ys.append(y)
    joined = [
        ops.stack(list(ys_k)) if isinstance(ys_k[0], Tensor) else np.stack(ys_k)
        for ys_k in zip(*(reversed(ys) if reverse else ys), strict=True)
    ]
    return state, joined
