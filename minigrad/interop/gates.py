"""Gate orders, and the weights of one cell as every library lays them out: the one table of both.

Letters as in minigrad's cells: LSTM i input, f forget, g what may be written (Keras and ONNX call
it c), o output; GRU r reset, z update, n the new state (Keras and ONNX: h).

    library   weights          biases                      LSTM     GRU     GRU's update
    minigrad  (G*H, I)         b_ih, b_hh (G*H,)           i f g o  r z n   keep, or write
    torch.nn  (G*H, I)         b_ih, b_hh (G*H,)           i f g o  r z n   z*h + (1-z)*n: keep
    Keras 3   (I, G*H)         b (G*H,); GRU with          i f c o  z r h   keep
                               reset_after: b (2, G*H)
    CuDNN of  each gate's blocks   b (2*G*H,)              i f c o  z r h   keep
    Keras 2   transposed
    ONNX      (D, G*H, I)      B (D, 2*G*H): b_ih, b_hh    i o f c  z r h   keep

Everything here is exact: blocks of rows change places, and a GRU that writes becomes one that keeps
by negating the rows of z, as 1 - sigmoid(a) = sigmoid(-a). Where one bias stands for two, it is
b_ih + b_hh in the weights' own dtype, the very sum that minigrad's cells compute in each step.
Between the libraries, weights travel as `Weights`: minigrad's layout, of a GRU that keeps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..nn.cells import GatedCell, GRUCell, LSTMCell, RNNCell
from .base import Array, ConversionError, as_dtype

Weights = dict[str, Array]  # weight_ih (G*H, I), weight_hh (G*H, H), and bias_ih, bias_hh or none

ORDERS: dict[str, dict[str, str]] = {
    "RNN": {"minigrad": "h", "torch": "h", "keras": "h", "onnx": "h"},
    "LSTM": {"minigrad": "ifgo", "torch": "ifgo", "keras": "ifgo", "onnx": "iofg"},
    "GRU": {"minigrad": "rzn", "torch": "rzn", "keras": "zrn", "onnx": "zrn"},
}
# ONNX's input_forget couples the gates of an LSTM: minigrad's CoupledLSTMCell has no rows for f.
PEEPHOLES = {"minigrad": "ifo", "onnx": "iof"}
KINDS: dict[type, str] = {RNNCell: "RNN", LSTMCell: "LSTM", GRUCell: "GRU"}


def reorder(w: Array, old: str, new: str, axis: int = 0) -> Array:
    """Blocks along an axis, one for each letter of `old`, in the order of `new`.

    A letter that `new` leaves out is dropped.

    >>> reorder(np.array([1, 2, 3, 4]), "ifgo", "iofg").tolist()
    [1, 4, 2, 3]
    """
    blocks = dict(zip(old, np.split(np.asarray(w), len(old), axis=axis), strict=True))
    return np.concatenate([blocks[gate] for gate in new], axis=axis)


def kind_of(cell: Any) -> str | None:
    """RNN, LSTM or GRU, as a text, for the cells that every library has; None for any other."""
    return KINDS.get(type(cell))


# -------------------------------------------------------------------------------- minigrad's cells


def flip_update(w: Array) -> Array:
    """The rows r, z, n of a GRU that keeps, for one that writes, and the other way round."""
    r, z, n = np.split(np.asarray(w), 3)
    return np.concatenate([r, -z, n])


def weights_of(cell: GatedCell) -> Weights:
    """Copies of the weights of an RNNCell, LSTMCell or GRUCell, of a GRU that keeps."""
    found = {
        name: getattr(cell, name).numpy().copy()
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        if getattr(cell, name) is not None
    }
    if getattr(cell, "update", "keep") == "write":
        found = {name: flip_update(w) for name, w in found.items()}
    return found


def fitted(what: str, cell: GatedCell, weights: Weights) -> Weights:
    """The entries for `cell.load_state_dict`, checked: shapes, dtype, biases, update.

    Biases that are not there are zeros in a cell that has them.
    Raises ConversionError for anything that would not be the same function.
    """
    if cell.bias_ih is None and "bias_ih" in weights:
        raise ConversionError(f"{what} has no bias and the weights have one; make it bias=True.")
    ready = {}
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        parameter = getattr(cell, name)
        if parameter is None:
            continue
        array = weights.get(name, np.zeros(parameter.shape, parameter.dtype))
        if array.shape != parameter.shape:
            raise ConversionError(
                f"{what}: {name} is {list(parameter.shape)} here and {list(array.shape)} there "
                f"(in minigrad's layout)."
            )
        array = as_dtype(f"{what}: {name}", array, parameter.dtype)
        write = getattr(cell, "update", "keep") == "write"
        ready[name] = flip_update(array) if write else array
    return ready


def one_bias(weights: Weights) -> Array:
    """b_ih + b_hh; b_ih itself, to the sign of its zeros, where b_hh is zero."""
    b_ih, b_hh = weights["bias_ih"], weights["bias_hh"]
    return b_ih if not b_hh.any() else b_ih + b_hh


# ------------------------------------------------------------------------------------------- Keras


def to_keras(kind: str, weights: Weights, reset_after: bool = False) -> list[Array]:
    """[kernel (I, G*H), recurrent_kernel (H, G*H), bias], the order of `layer.get_weights()`."""
    turned = {
        name: reorder(w, ORDERS[kind]["minigrad"], ORDERS[kind]["keras"])
        for name, w in weights.items()
    }
    arrays = [np.ascontiguousarray(turned[name].T) for name in ("weight_ih", "weight_hh")]
    if "bias_ih" not in turned:
        return arrays
    both = kind == "GRU" and reset_after
    bias = np.stack([turned["bias_ih"], turned["bias_hh"]]) if both else one_bias(turned)
    return [*arrays, bias]


def from_keras(what: str, kind: str, arrays: list[Array], reset_after: bool = False) -> Weights:
    """Weights from [kernel, recurrent_kernel] or [kernel, recurrent_kernel, bias].

    Raises ConversionError if they are those of another layer, or of a GRU with the other reset.
    """
    shapes = ", ".join(str(list(np.shape(a))) for a in arrays)
    gates = len(ORDERS[kind]["keras"])
    if not 2 <= len(arrays) <= 3 or any(np.ndim(a) != 2 for a in arrays[:2]):
        raise ConversionError(
            f"{what}: expected kernel (I, {gates}*H), recurrent_kernel (H, {gates}*H) and perhaps "
            f"a bias; got {len(arrays)} arrays: {shapes}."
        )
    rows, columns = np.shape(arrays[1])
    if columns != gates * rows or np.shape(arrays[0])[1] != columns:
        raise ConversionError(
            f"{what}: a {kind} has kernel (I, {gates}*H) and recurrent_kernel (H, {gates}*H); got "
            f"{shapes}."
        )
    cudnn = of_cudnn(kind, arrays)
    if cudnn:
        arrays = from_cudnn(what, kind, arrays, reset_after)
    found = {"weight_ih": np.asarray(arrays[0]).T, "weight_hh": np.asarray(arrays[1]).T}
    if len(arrays) == 3:
        bias, both = np.asarray(arrays[2]), cudnn or (kind == "GRU" and reset_after)
        if bias.shape != ((2, columns) if both else (columns,)):
            raise ConversionError(f"{what}: {wrong_bias(kind, both, bias, columns)}")
        found["bias_ih"], found["bias_hh"] = bias if both else (bias, np.zeros_like(bias))
    order = ORDERS[kind]
    return {name: reorder(w, order["keras"], order["minigrad"]) for name, w in found.items()}


def of_cudnn(kind: str, arrays: list[Array]) -> bool:
    """Whether they are those of a CuDNNLSTM or CuDNNGRU (Keras 2): all biases in one row."""
    return (
        kind != "RNN" and len(arrays) == 3 and np.shape(arrays[2]) == (2 * np.shape(arrays[0])[1],)
    )


def from_cudnn(what: str, kind: str, arrays: list[Array], reset_after: bool) -> list[Array]:
    """[kernel, recurrent_kernel, bias (2, G*H)]: CuDNN keeps each gate's block transposed.

    Source: _convert_rnn_weights in Keras 2's saving/legacy/hdf5_format.py.
    """
    if kind == "GRU" and not reset_after:
        raise ConversionError(
            f"{what}: these are the weights of a CuDNNGRU, which resets after the product; the "
            f"layer has reset_after=False."
        )
    gates = len(ORDERS[kind]["keras"])
    kernels, recurrent = (np.split(np.asarray(w), gates, axis=1) for w in arrays[:2])
    return [
        np.concatenate([k.T.reshape(k.shape, order="F") for k in kernels], axis=1),
        np.concatenate([k.T for k in recurrent], axis=1),
        np.reshape(arrays[2], (2, -1)),
    ]


def wrong_bias(kind: str, both: bool, bias: Array, columns: int) -> str:
    """What a message says of a bias whose shape is not the layer's."""
    if kind == "GRU" and bias.shape in ((2, columns), (columns,)):
        theirs = bias.ndim == 2
        return (
            f"these are the weights of a GRU with reset_after={theirs} and the layer has "
            f"reset_after={both}; reset before and after cannot be converted into each other."
        )
    expected = [2, columns] if both else [columns]
    return f"expected a bias {expected}, got {list(bias.shape)}."


# -------------------------------------------------------------------------------------------- ONNX


def to_onnx(kind: str, directions: list[Weights]) -> list[Array]:
    """[W (D, G*H, I), R (D, G*H, H), B (D, 2*G*H)], without B where there are no biases."""
    order = ORDERS[kind]
    turned = [
        {name: reorder(w, order["minigrad"], order["onnx"]) for name, w in weights.items()}
        for weights in directions
    ]
    arrays = [np.stack([w[name] for w in turned]) for name in ("weight_ih", "weight_hh")]
    if "bias_ih" in turned[0]:
        both = [np.concatenate([w["bias_ih"], w["bias_hh"]]) for w in turned]
        arrays.append(np.stack(both))
    return arrays


def from_onnx(
    kind: str, W: Array, R: Array, B: Array | None, coupled: bool = False
) -> list[Weights]:
    """Weights of each direction. coupled: without the rows of f, for a CoupledLSTMCell."""
    order = ORDERS[kind]
    new = order["minigrad"].replace("f", "") if coupled else order["minigrad"]
    found = []
    for d in range(len(W)):
        arrays = {"weight_ih": W[d], "weight_hh": R[d]}
        if B is not None:
            arrays["bias_ih"], arrays["bias_hh"] = np.split(B[d], 2)
        found.append({name: reorder(w, order["onnx"], new) for name, w in arrays.items()})
    return found
