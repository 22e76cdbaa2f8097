"""ONNX, out: what a model computes, as one .onnx file that onnxruntime runs.

The model runs on an example and what it does is noted (`onnx_trace.py`), at several sizes where
axes are to change (`onnx_sizes.py`). A recurrent layer becomes one node RNN, LSTM or GRU for each
of its layers, any other cell over time a Scan (`onnx_recurrent.py`), every other op what
`onnx_ops.py` says. https://onnx.ai/onnx/operators has the operators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import describe
from ..nn.module import Module
from ..tape import state
from ..tensors import Tensor, wrap
from ..tree import leaves, named_leaves, rebuild
from ..untrusted import read_bytes
from .base import Array, ConversionError, need, only_over, version, write_whole
from .onnx_examples import Axes, called, chain, is_array, leaves_of, listed
from .onnx_noted import memory_of, noted
from .onnx_ops import write
from .onnx_recurrent import loop, whole
from .onnx_sizes import computed, runs_at
from .onnx_trace import Graph, Node, Trace

OPSET, IR_VERSION = 17, 8  # LayerNormalization came with 17; an onnxruntime of 2022 reads both
PRODUCER = "minigrad"


def export_onnx(
    path: str | Path,
    model: Module | Sequence[Any],
    lengths: bool = False,
    states: bool = False,
    *,
    inputs: Any = None,
    axes: Axes | None = None,
    unroll: bool = False,
) -> Path:
    """Writes a model as it computes in eval mode, atomically.

    model: any Module whose forward is made of minigrad's ops, with an example of its `inputs`: one
        array or Tensor, a tuple of what forward takes, or a dict by the names of its arguments.
        Arrays, and those in tuples and dicts (a state), become inputs of the file, called as
        forward calls them (`x`, `state.h`); numbers, texts and None stay as they are.
    axes: name of an input -> names of its axes that may have another size in the file, from the
        first: {"x": ("T", "B"), "lengths": ("B",)}, None for one that is fixed, or as in torch.onnx
        {"x": {0: "T", 1: "B"}}. Axes of one name have one size. The model then runs at several
        sizes, and what differs has to be a function of them: that is checked at these sizes, not
        at all. Axes without a name have the size of the example.
    The outputs are `y`, or `y[0]`, `y[1].h` or the keys of what forward returns.
    A cell over time that ONNX has no operator for becomes a Scan; unroll=True writes its steps one
    after the other, for a runtime without Scan, and then T is fixed.

    Without `inputs`, model: a layer, or layers one after the other, a Chain, an nn.Sequential or a
    list of layers and of functions such as mg.tanh. Then the file has the input `x`, (T, B,
    features), (B, T, features) where the first recurrent layer is batch_first, (B, features)
    without one, or integers without the features for an Embedding; and the output `y`, what `Chain`
    gives; T and B may change.
    lengths=True: an input `lengths` (B,), int32. states=True: for the recurrent layer at index i
    of the chain inputs `i.h_0` and, of an LSTM, `i.c_0`, (layers*directions, B, H). Its final
    states are always there, as the outputs `i.h_n` and `i.c_n`.
    Raises ConversionError, with the line, for what ONNX has no operator for, and where Python reads
    a value of an input (`item()`, `if`); FormatError where `path` is a file that minigrad has not
    written.

    >>> import tempfile
    >>> import minigrad as mg
    >>> class Last(mg.nn.Module):
    ...     def __init__(self):
    ...         self.gru, self.head = mg.nn.GRU(3, 4), mg.nn.Linear(4, 2)
    ...     def forward(self, x, lengths):
    ...         return self.head(self.gru(x, None, lengths)[1][-1])
    >>> example = {"x": np.ones((5, 2, 3), np.float32), "lengths": np.array([5, 3])}
    >>> axes = {"x": ("T", "B"), "lengths": ("B",)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = mg.interop.export_onnx(f"{folder}/a.onnx", Last(), inputs=example, axes=axes)
    ...     list(mg.interop.import_onnx(file).layers)
    ['gru_l0_GRU', 'head_MatMul']
    """
    onnx = need("onnx", "onnx", "ONNX files")
    if isinstance(path, Module) or not isinstance(lengths, bool):
        raise ConversionError(
            "export_onnx: expected export_onnx(path, model), and an example as inputs=(x, ...)."
        )
    path = Path(path)
    if path.exists():
        only_over(path, _ours(onnx, path), "ONNX file")
    if inputs is None:
        if axes is not None:
            raise ConversionError("export_onnx: axes= names the axes of inputs=, an example.")
        run, example, axes = chain(model, lengths, states)
    else:
        if not isinstance(model, Module):
            raise ConversionError(
                "export_onnx: inputs= is an example for one Module; got layers. Make them an "
                "nn.Sequential."
            )
        if lengths or states:
            raise ConversionError(
                "export_onnx: lengths and states are for a chain of layers; with inputs= they are "
                "among the inputs."
            )
        run, example = called(model, inputs)
    made = _File(onnx, model, run, example, axes or {}, unroll).build()
    try:
        onnx.checker.check_model(made, full_check=True)
        return write_whole(path, made.SerializeToString(deterministic=True))
    except ValueError as error:  # protobuf's limit of 2 GiB
        raise ConversionError(f"export_onnx: {error}") from None


# -- the file --------------------------------------------------------------------------------------


class _File:
    """A model, traced and written. axes: input -> names of its axes."""

    def __init__(
        self, onnx: Any, model: Any, run: Any, example: dict[str, Any], axes: Axes, unroll: bool
    ):
        self.onnx, self.run, self.unroll = onnx, run, unroll
        modules = [model] if isinstance(model, Module) else list(model)
        self.parameters = [
            (f"{i}.{name}" if modules != [model] else name, p._data)
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


def _ours(onnx: Any, path: Path) -> bool:
    DecodeError = need("google.protobuf.message", "onnx", "ONNX files").DecodeError

    try:
        return bool(onnx.load_model_from_string(read_bytes(path)).producer_name == PRODUCER)
    except (DecodeError, OSError, ValueError):
        return False
