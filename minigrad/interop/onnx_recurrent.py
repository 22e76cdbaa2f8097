"""What is written whole: recurrent layers as RNN, LSTM and GRU, any other cell over time as a Scan.

What minigrad does at the edges of a layer (layouts, merging the directions, stacking the states)
becomes Transpose, Reshape, Add, Mul, Gather and Concat around the nodes.
"""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np

from .. import nn
from ..compile.padding import Episodic, Padded
from ..compile.result import ScanResult
from ..compile.unrolling import (
    check_carry,
    check_lengths,
    check_mask,
    check_resets,
    sizes,
    unroll,
)
from ..tape import scope, state
from ..tensors import Tensor, as_tensor, wrap
from ..tree import leaves, map_leaves, rebuild
from .gates import PEEPHOLES, kind_of, reorder, to_onnx, weights_of
from .onnx_noted import memory_of
from .onnx_trace import Graph, Trace
from .onnx_views import place

_CALL = inspect.signature(nn.Recurrent.forward)


def whole(t: Trace, module: Any, args: Any, kwargs: Any) -> Any:
    """The result of a module that has nodes of its own; None for others, which are looked into.

    Values belong to the example and nobody may read them, so those of a layer's first step stand
    for all steps.
    """
    if isinstance(module, nn.Recurrent):
        given = dict(_CALL.bind(module, *args, **kwargs).arguments)
        x, initial, lengths = (given.get(name) for name in ("x", "state", "lengths"))
        stated = given.get("return_states")
        stated = module.return_states if stated is None else stated
        plain = given.get("mask") is None and given.get("resets") is None and not stated
        if not plain or not _has_nodes(module) or not hasattr(x, "dtype"):
            return None
        lengths = np.asarray(lengths) if isinstance(lengths, (list, tuple)) else lengths
        write = partial(_Layer(t, module).write, x, initial, lengths)
        return _run(t, module, _first_step(module, x, initial, lengths), write)
    if kwargs or len(args) != 1 or not hasattr(args[0], "dtype"):
        return None
    if (written := _WRITTEN.get(type(module))) is None:
        return None
    compute = partial(module.forward, *_plain(args))
    return _run(t, module, compute, lambda: [written(t, module, args[0])])


def _run(t: Trace, module: Any, compute: Any, write: Any) -> Any:
    """What `compute` gives, which is not noted; `write` gives the names of its leaves."""
    with scope(module.scope_name) if module.scope_name else nullcontext():
        with t.off():
            result = compute()
        for leaf, name in zip(leaves(result), write(), strict=True):
            t.give(leaf._array, name, True)
    return result


def _plain(tree: Any) -> Any:
    """With Tensors that are not watched."""
    return map_leaves(lambda v: wrap(memory_of(v), None, False), tree)


def _first_step(layer: nn.Recurrent, x: Any, initial: Any, lengths: Any) -> Any:
    """A function: the layer's result, of one step, repeated over all."""
    array = memory_of(x)
    axis = int(layer.batch_first and array.ndim == 3)

    def compute() -> Any:
        steps = array.shape[axis] if array.ndim > axis else 0
        if lengths is not None:
            rows = array.shape[1 - axis] if array.ndim == 3 else 0
            check_lengths(type(layer).__name__, memory_of(lengths), steps, rows, least=0)
        mode, vars(layer)["mode"] = layer.mode, "tape"  # nothing is compiled for the example
        try:
            y, final = layer.forward(wrap(array.take([0], axis), None, False), _plain(initial))
        finally:
            vars(layer)["mode"] = mode
        y = np.repeat(y._array, steps if layer.return_sequences else 1, axis)
        return wrap(y, None, False), map_leaves(lambda s: wrap(s._array.copy(), None, False), final)

    return compute


def _rows(t: Trace, module: nn.Embedding, indices: Any) -> str:
    return t.node("Gather", [t.name(module.weight), place(t, indices)], axis=0)


def _norm(t: Trace, module: nn.LayerNorm, x: Any) -> str:
    names = [t.name(x)]
    for held, empty in ((module.weight, np.ones), (module.bias, np.zeros)):
        shape, dtype = module.normalized_shape, memory_of(x).dtype
        names.append(t.constant(empty(shape, dtype)) if held is None else t.name(held))
    axis = -len(module.normalized_shape)
    return t.node("LayerNormalization", names, axis=axis, epsilon=float(module.eps))


_WRITTEN: dict[type, Any] = {nn.Embedding: _rows, nn.LayerNorm: _norm}


# -- a cell over time ------------------------------------------------------------------------------


def loop(unrolled: bool) -> Any:
    """What a Trace does with a scan: a Scan, or all steps one after the other."""

    def run(
        t: Trace, cell: Any, init: Any, xs: Any, lengths: Any, reverse: bool, mask: Any, resets: Any
    ) -> ScanResult:
        init, xs = map_leaves(as_tensor, init), map_leaves(as_tensor, xs)
        time, batch = sizes("scan", xs)
        real = check_mask("scan", lengths, mask, time, batch)
        begins = check_resets("scan", resets, real, time, batch, reverse)
        if begins is not None:
            cell, xs = Episodic(cell, init), (xs, as_tensor(begins))
        if real is not None:
            cell, xs = Padded(cell, False), (xs, as_tensor(real))
        if unrolled:
            return ScanResult(*unroll(cell, init, xs, None, reverse))
        return _scan(t, cell, init, xs, reverse)

    return run


def _scan(t: Trace, cell: Any, init: Any, xs: Any, reverse: bool) -> ScanResult:
    """A Scan, whose step is the cell called once; its values stand for those of all steps."""
    given = [t.name(s) for s in (*leaves(init), *leaves(xs))]
    with t.inside() as body:
        at = ".".join(p for p in (*state.scope.split("/"), f"step{len(t.depth)}") if p)
        h = rebuild(init, [_input(t, body, s._array, f"{at}.state{i}") for i, s in _all(init)])
        x = rebuild(xs, [_input(t, body, s._array[0], f"{at}.x{i}") for i, s in _all(xs)])
        new, y = cell(h, x)
        check_carry("scan", init, new)
        new, y = map_leaves(as_tensor, new), map_leaves(as_tensor, y)
        for leaf in (*leaves(new), *leaves(y)):
            name = t.node("Identity", [t.name(leaf)], here=True)
            body.outputs.append((name, leaf.dtype, leaf.ndim))
    n, m, k = len(leaves(xs)), len(leaves(init)), len(body.outputs)
    options: dict[str, Any] = dict(num_scan_inputs=n)
    if reverse:
        options |= dict(scan_input_directions=[1] * n, scan_output_directions=[1] * (k - m))
    outputs = [f"final{i}" for i in range(m)] + [f"ys{i}" for i in range(k - m)]
    made = t.add("Scan", given, outputs, body, **options)
    steps = len(leaves(xs)[0])
    final = map_leaves(lambda s: wrap(s._array.copy(), None, False), new)
    ys = map_leaves(lambda s: wrap(np.repeat(s._array[None], steps, 0), None, False), y)
    for leaf, name in zip((*leaves(final), *leaves(ys)), made, strict=True):
        t.give(leaf._array, name, True)
    return ScanResult(final, ys)


def _all(tree: Any) -> Any:
    return enumerate(leaves(tree))


def _input(t: Trace, body: Graph, array: Any, name: str) -> Tensor:
    own = t.given(array.copy(), name)
    body.inputs.append((name, own.dtype, own.ndim))
    return wrap(own, None, False)


# -- layers of cells that ONNX has -----------------------------------------------------------------


def _kind(cell: Any) -> str | None:
    """The operator that computes a cell; none has a projection."""
    if getattr(cell, "weight_hr", None) is not None:
        return None
    return "LSTM" if type(cell) is nn.PeepholeLSTMCell else kind_of(cell)


def _has_nodes(layer: nn.Recurrent) -> bool:
    """Whether ONNX has its cells, those of a level being alike."""
    D = layer.num_directions
    levels = [layer.cells[i : i + D] for i in range(0, len(layer.cells), D)]
    return all(map(_kind, layer.cells)) and all(len(set(map(_form, own))) == 1 for own in levels)


def _form(cell: Any) -> tuple[Any, ...]:
    options = [getattr(cell, name, None) for name in ("reset_after", "bias_ih")]
    return type(cell), cell.hidden_size, options[0], options[1] is None


class _Layer:
    """A recurrent layer as nodes RNN, LSTM or GRU, one for each level."""

    def __init__(self, t: Trace, layer: nn.Recurrent):
        self.t, self.layer, self.lengths = t, layer, ""

    def write(self, x: Any, initial: Any, lengths: Any) -> list[str]:
        """The names of the output and of the final states."""
        t, layer, D = self.t, self.layer, self.layer.num_directions
        if lengths is not None:
            self.lengths = t.name(lengths)
            if memory_of(lengths).dtype != np.int32:
                self.lengths = t.node("Cast", [self.lengths], to=np.dtype(np.int32))
        batched = memory_of(x).ndim == 3
        name = t.name(x)
        if not batched:
            name = t.node("Unsqueeze", [name, t.integers(1)])
        elif layer.batch_first:
            name = t.node("Transpose", [name], perm=[1, 0, 2])
        starts = self.starts(initial, batched)
        finals: list[list[str]] = []  # for each level h, and of an LSTM c: (D, B, H)
        Y = Y_h = ""
        for level in range(layer.num_layers):
            with scope(f"l{level}"):
                if level:
                    name = self.merged(Y, "concat", 1)
                cells = layer.cells[D * level : D * (level + 1)]
                Y, *rest = self.node(cells, name, starts[level] if starts else [])
                Y_h, finals = rest[0], [*finals, self.kept(rest, starts, level)]
        if layer.return_sequences:
            y = self.merged(Y, layer.merge, 1)
            if not batched:
                y = t.node("Squeeze", [y, t.integers(1)])
            elif layer.batch_first:
                y = t.node("Transpose", [y], perm=[1, 0, 2])
        else:  # after the last real step, and of the reverse after step 0
            y = self.merged(Y_h, layer.merge, 0)
            y = y if batched else t.node("Squeeze", [y, t.integers(0)])
        return [y, *self.ends(finals, batched)]

    def kept(self, finals: list[str], starts: list[list[str]], level: int) -> list[str]:
        """The final states, of a row without a step its initial one; onnxruntime's is zero."""
        if not self.lengths or not starts:
            return finals
        t = self.t
        real = t.node("Greater", [self.lengths, t.constant(np.array(0, np.int32))])
        real = t.node("Unsqueeze", [real, t.integers(0, 2)])
        pairs = zip(finals, starts[level], strict=True)
        return [t.node("Where", [real, final, start]) for final, start in pairs]

    def alike(self) -> bool:
        """Whether the states of all cells are stacked."""
        forms = {(_kind(cell), cell.hidden_size) for cell in self.layer.cells}
        return len(forms) == 1

    def starts(self, initial: Any, batched: bool) -> list[list[str]]:
        """For each level the initial states that a node reads, (D, B, H)."""
        if initial is None:
            return []
        t, D, levels = self.t, self.layer.num_directions, self.layer.num_layers
        rows = [t.name(s) for s in leaves(initial)]
        if not batched:
            axis = 1 if self.alike() else 0
            rows = [t.node("Unsqueeze", [s, t.integers(axis)]) for s in rows]
        if self.alike():
            cut = [[self.rows(s, D * i, D * i + D) for s in rows] for i in range(levels)]
            return cut if levels > 1 else [rows]
        found, given = [], iter(rows)
        for level in range(levels):
            cells = self.layer.cells[D * level : D * (level + 1)]
            own = [[next(given) for _ in leaves(cell.init_state(1))] for cell in cells]
            wide = [[t.node("Unsqueeze", [s, t.integers(0)]) for s in each] for each in own]
            parts = zip(*wide, strict=True)
            found.append([t.node("Concat", [*p], axis=0) if D > 1 else p[0] for p in parts])
        return found

    def ends(self, finals: list[list[str]], batched: bool) -> list[str]:
        """The final states as the layer returns them."""
        t = self.t
        if self.alike():
            parts = zip(*finals, strict=True)
            found = [t.node("Concat", [*p], axis=0) if len(p) > 1 else p[0] for p in parts]
            return found if batched else [t.node("Squeeze", [s, t.integers(1)]) for s in found]
        found = []
        for each in finals:
            for d in range(self.layer.num_directions):
                rows = [t.node("Gather", [s, t.constant(np.array(d))], axis=0) for s in each]
                axis = t.integers(0)
                found += rows if batched else [t.node("Squeeze", [s, axis]) for s in rows]
        return found

    def rows(self, x: str, start: int, end: int) -> str:
        t = self.t
        return t.node("Slice", [x, t.integers(start), t.integers(end), t.integers(0)])

    def node(self, cells: list[Any], x: str, start: list[str]) -> list[str]:
        """The node itself: the names of Y (T, D, B, H), Y_h and of an LSTM Y_c (D, B, H)."""
        t, kind = self.t, _kind(cells[0])
        assert kind is not None
        at = ".".join(p for p in state.scope.split("/") if p)
        key = tuple(map(id, cells))
        if key not in t.layouts:
            t.layouts[key] = to_onnx(kind, [weights_of(cell) for cell in cells])
        arrays = t.layouts[key]
        names = [t.constant(w, f"{at}.{n}") for n, w in zip(("W", "R", "B"), arrays)]
        names += [""] * (3 - len(names))
        inputs = [x, *names, self.lengths, *start]
        options: dict[str, Any] = dict(hidden_size=cells[0].hidden_size)
        options["direction"] = "bidirectional" if len(cells) == 2 else "forward"
        if kind == "RNN":
            activations = {"tanh": "Tanh", "relu": "Relu"}
            options["activations"] = [activations[cell.nonlinearity] for cell in cells]
        if kind == "GRU":
            options["linear_before_reset"] = int(cells[0].reset_after)
        if isinstance(cells[0], nn.PeepholeLSTMCell):
            order = PEEPHOLES["minigrad"], PEEPHOLES["onnx"]
            P = [reorder(cell.weight_peephole.numpy().ravel(), *order) for cell in cells]
            inputs += [""] * (7 - len(inputs)) + [t.constant(np.stack(P), f"{at}.P")]
        while inputs[-1] == "":
            inputs.pop()
        return t.add(kind, inputs, ("Y", "Y_h", *(["Y_c"] if kind == "LSTM" else [])), **options)

    def merged(self, Y: str, merge: str, axis: int) -> str:
        """The axis of directions merged as minigrad does, step by step in the same order."""
        t = self.t
        if self.layer.num_directions == 1:
            return t.node("Squeeze", [Y, t.integers(axis)])
        both = [t.node("Gather", [Y, t.constant(np.array(d))], axis=axis) for d in (0, 1)]
        if merge == "concat":
            return t.node("Concat", both, axis=-1)
        y = t.node("Mul" if merge == "mul" else "Add", both)
        if merge == "mean":
            dtype = self.layer.cells[0].weight_ih.dtype
            y = t.node("Mul", [y, t.constant(np.array(0.5, dtype))])
        return y
