"""The .onnx file of a model: traced at all sizes, and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import describe
from ..nn.module import Module
from ..tape import state
from ..tensors import Tensor, wrap
from ..tree import leaves, named_leaves, rebuild
from .base import Array, ConversionError, version
from .onnx_examples import Axes, is_array, leaves_of, listed
from .onnx_noted import memory_of, noted
from .onnx_ops import write
from .onnx_recurrent import loop, whole
from .onnx_sizes import computed, runs_at
from .onnx_trace import Graph, Node, Trace

OPSET, IR_VERSION = 17, 8  # LayerNormalization came with 17; an onnxruntime of 2022 reads both
PRODUCER = "minigrad"


class File:
    """A model, traced and written. axes: input -> names of its axes."""

    def __init__(
        self, onnx: Any, model: Any, run: Any, example: dict[str, Any], axes: Axes, unroll: bool
    ):
        self.onnx, self.run, self.unroll = onnx, run, unroll
        modules = [model] if isinstance(model, Module) else list(model)
        self.parameters = [
            (f"{i}.{name}" if modules != [model] else name, p._array)
            for i, m in enumerate(modules)
            if isinstance(m, Module)
            for name, p in m.named_parameters()
        ]
        self.modules = [m for top in modules if isinstance(top, Module) for m in top.modules()]
        self.example = {key: listed(tree) for key, tree in example.items()}
        self.inputs = {
            name: value
            for key, tree in self.example.items()
            for name, value in leaves_of(key, tree)
        }
        if not self.inputs:
            raise ConversionError("export_onnx: among the inputs is no array and no Tensor.")
        self.axes = self.named_axes(axes)
        self.layouts: dict[Any, list[Array]] = {}

    def named_axes(self, axes: Axes) -> dict[tuple[str, int], str]:
        """(input, axis) -> its name."""
        found: dict[tuple[str, int], str] = {}
        sizes: dict[str, int] = {}
        for name, given in axes.items():
            if name not in self.inputs:
                raise ConversionError(
                    f"export_onnx: axes={{{name!r}: ...}}: the inputs are {', '.join(self.inputs)}."
                )
            shape = self.inputs[name].shape
            pairs = given.items() if isinstance(given, Mapping) else enumerate(given)
            for axis, label in pairs:
                if label is None:
                    continue
                if not isinstance(label, str) or not 0 <= axis < len(shape) or not shape[axis]:
                    raise ConversionError(
                        f"export_onnx: axes={{{name!r}: {given!r}}} for {list(shape)}; expected a "
                        f"name or None for each axis, none of them empty."
                    )
                if sizes.setdefault(label, shape[axis]) != shape[axis]:
                    raise ConversionError(
                        f"export_onnx: the axis {label!r} has {sizes[label]} elements, and "
                        f"{shape[axis]} in {name}; axes of one name have one size."
                    )
                found[name, axis] = label
        self.sizes = sizes
        return found

    def build(self) -> Any:
        runs = runs_at(self.sizes)
        training = [(m, m.training) for m in self.modules]
        for m in self.modules:
            m.name_members()
            m.training = False
        try:
            traces = [self.traced(k, run) for k, run in enumerate(runs)]
        finally:
            for m, mode in training:
                m.training = mode
        places = {label: place for place, label in reversed(self.axes.items())}
        head = computed(traces, runs, places)
        first = traces[0]
        first.graphs[0].nodes[:0] = head
        return self.written(first)

    def traced(self, k: int, sizes: dict[str, int]) -> Trace:
        """The trace of the k-th run, with values and sizes of its own."""
        t = Trace(self.parameters, write, whole, loop(self.unroll), self.layouts)
        held: dict[str, Any] = {}
        for key, tree in self.example.items():
            parts = []
            for name, value in leaves_of(key, tree):
                array = t.given(self.varied(name, memory_of(value), sizes, k), name)
                of_tape = isinstance(value, Tensor)
                parts.append(wrap(array, None, False) if of_tape else noted(array))
            filled = [parts.pop(0) if is_array(v) else v for v in leaves(tree)]
            held[key] = rebuild(tree, filled)
        before = state.switch(jit=t)
        try:
            for name, leaf in _outputs(self.run(**held)):
                t.node("Identity", [t.name(leaf)])
                while name in t.depth or name in t.constants:
                    name += "_out"
                array = memory_of(leaf)
                t.graphs[0].nodes[-1].outputs[:] = [name]
                t.graphs[0].outputs.append((name, array.dtype, array.ndim))
        except Exception as error:
            if sizes and k:
                ran = ", ".join(f"{n} = {s}" for n, s in sizes.items())
                error.add_note(f"export_onnx ran the model with {ran}: axes= says these may change")
            raise
        finally:
            state.switch(**before)
        return t

    def varied(self, name: str, array: Array, sizes: dict[str, int], k: int) -> Array:
        """The example with other sizes, by repeating it, and (k > 0) other values in its range."""
        for axis in range(array.ndim):
            if (name, axis) in self.axes:
                n = sizes[self.axes[name, axis]]
                array = np.take(array, np.arange(n) % array.shape[axis], axis)
        array = np.array(array, order="C")
        if k and array.size:
            array = np.roll(array, k).reshape(array.shape)
            if array.dtype.kind == "f":
                array *= np.array(1 - 0.03 * k, array.dtype)
            elif array.dtype.kind in "iu":
                least, most = int(array.min()), int(array.max())
                moved = (array.astype(np.int64) - least + k) % (most - least + 1)
                array = (least + moved).astype(array.dtype)
        return array

    def written(self, t: Trace) -> Any:
        helper = self.onnx.helper
        graph = t.graphs[0]
        values = []
        for name, value in self.inputs.items():
            array = memory_of(value)
            shape = [self.axes.get((name, i), n) for i, n in enumerate(array.shape)]
            values.append(helper.make_tensor_value_info(name, self.kind(array.dtype), shape))
        constants = [
            self.onnx.numpy_helper.from_array(np.array(w, order="C"), name)
            for name, w in self.used(t).items()
        ]
        nodes, outputs = [self.node(n) for n in graph.nodes], self.infos(graph.outputs)
        made = helper.make_graph(nodes, "model", values, outputs, constants)
        return helper.make_model(
            made,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name=PRODUCER,
            producer_version=version(),
        )

    def used(self, t: Trace) -> dict[str, Array]:
        """The constants that nodes read; equal integers and numbers are one."""
        first: dict[Any, str] = {}
        same: dict[str, str] = {}
        for name, w in t.constants.items():
            if w.dtype.kind != "f" or not w.ndim:
                same[name] = first.setdefault((w.dtype.str, w.shape, w.tobytes()), name)
        read = _renamed(t.graphs[0], same)
        return {name: w for name, w in t.constants.items() if name in read}

    def kind(self, dtype: Any) -> int:
        return int(self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def infos(self, values: Sequence[tuple[str, Any, int]]) -> list[Any]:
        return [
            self.onnx.helper.make_tensor_value_info(name, self.kind(dtype), [None] * rank)
            for name, dtype, rank in values
        ]

    def node(self, n: Node) -> Any:
        attributes = {
            key: self.kind(v) if isinstance(v, np.dtype) else v for key, v in n.attributes.items()
        }
        if n.body is not None:
            nodes = [self.node(inner) for inner in n.body.nodes]
            ends = self.infos(n.body.inputs), self.infos(n.body.outputs)
            attributes["body"] = self.onnx.helper.make_graph(nodes, f"{n.name}.step", *ends)
        return self.onnx.helper.make_node(n.op, n.inputs, n.outputs, name=n.name, **attributes)


def _renamed(graph: Graph, same: dict[str, str]) -> set[str]:
    """Renames what nodes read; returns all of it."""
    read: set[str] = set()
    for node in graph.nodes:
        node.inputs = [same.get(v, v) for v in node.inputs]
        read |= {*node.inputs, *(_renamed(node.body, same) if node.body else ())}
    return read


def _outputs(result: Any) -> list[tuple[str, Any]]:
    """What forward returned, by the names that it has in the file."""
    parts = result.items() if type(result) is dict else [("", result)]
    found = []
    for name, leaf in (pair for key, part in parts for pair in named_leaves(part, key)):
        if not is_array(leaf):
            raise ConversionError(
                f"export_onnx: the model returns {describe(leaf)}{' as ' + name if name else ''}; "
                f"expected Tensors."
            )
        found.append((f"y{name}" if not name or name.startswith("[") else name, leaf))
    if not found:
        raise ConversionError("export_onnx: the model returns no Tensor.")
    return found
