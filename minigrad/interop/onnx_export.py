"""ONNX, out: what a model computes, as one .onnx file that onnxruntime runs.

The model runs on an example and what it does is noted (`onnx_trace.py`), at several sizes where
axes are to change (`onnx_sizes.py`). A recurrent layer becomes one node RNN, LSTM or GRU for each
of its layers, any other cell over time a Scan (`onnx_recurrent.py`), every other op what
`onnx_ops.py` says. https://onnx.ai/onnx/operators has the operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..nn.module import Module
from ..untrusted import read_bytes
from .base import ConversionError, need, only_over, write_whole

if TYPE_CHECKING:
    from .onnx_examples import Axes


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
    >>> import minigrad as mg, numpy as np
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
    from .onnx_examples import called, chain  # all of it is for those alone who export
    from .onnx_file import File

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
    made = File(onnx, model, run, example, axes or {}, unroll).build()
    try:
        onnx.checker.check_model(made, full_check=True)
        return write_whole(path, made.SerializeToString(deterministic=True))
    except ValueError as error:  # protobuf's limit of 2 GiB
        raise ConversionError(f"export_onnx: {error}") from None


def _ours(onnx: Any, path: Path) -> bool:
    from .onnx_file import PRODUCER

    DecodeError = need("google.protobuf.message", "onnx", "ONNX files").DecodeError

    try:
        return bool(onnx.load_model_from_string(read_bytes(path)).producer_name == PRODUCER)
    except (DecodeError, OSError, ValueError):
        return False
