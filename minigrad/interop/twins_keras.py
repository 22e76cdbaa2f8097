"""minigrad's cell for a recurrent layer of Keras, with the weights that it has now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..nn.module import Module
from .gates import KINDS, fitted, from_keras

CELLS: dict[str, Any] = {kind: cell for cell, kind in KINDS.items()}


class Stack(Module):
    """Cells one on the other in one loop; the state is the tuple of theirs."""

    def __init__(self, cells: list[Any]):
        self.cells, self.output_size = cells, cells[-1].output_size

    def forward(self, states: Any, x: Any) -> tuple[Any, Any]:
        new = []
        for cell, state in zip(self.cells, states, strict=True):
            state, x = cell(state, x)
            new.append(state)
        return tuple(new), x

    def init_state(self, batch: int) -> Any:
        return tuple(cell.init_state(batch) for cell in self.cells)


def twin_of(
    keras: Any, layer: Any, name: str, training: bool, cells: Mapping[str, Any]
) -> tuple[Any, str]:
    """(the cell, "") or (None, why there is none)."""
    if name in cells:
        return cells[name], ""
    cell = layer.cell
    found, why = _cell(keras, cell, training)
    return found, why and (
        f"{name}: {why}; pass your own cell of minigrad, record_keras(cells={{{name!r}: cell}})"
    )


def _cell(keras: Any, cell: Any, training: bool) -> tuple[Any, str]:
    layers = keras.layers
    if type(cell) is layers.StackedRNNCells:
        parts = [_cell(keras, one, training) for one in cell.cells]
        why = next((why for _, why in parts if why), "")
        return (None, why) if why else (Stack([one for one, _ in parts]), "")
    if training and any(getattr(cell, n, 0.0) for n in ("dropout", "recurrent_dropout")):
        return None, "its cell drops out at random, and the masks are not known (training=False)"
    names = ("activation", "recurrent_activation")
    acts = [keras.activations.serialize(getattr(cell, n)) for n in names if hasattr(cell, n)]
    options: dict[str, Any] = {}
    kind = ""
    if type(cell) is layers.SimpleRNNCell and acts[0] in ("tanh", "relu"):
        kind, options = "RNN", {"nonlinearity": acts[0]}
    elif type(cell) is layers.LSTMCell and acts == ["tanh", "sigmoid"]:
        kind = "LSTM"
    elif type(cell) is layers.GRUCell and acts == ["tanh", "sigmoid"]:
        kind, options = "GRU", {"reset_after": bool(cell.reset_after)}
    if not kind:
        with_acts = f" with activations {', '.join(map(str, acts))}" if acts else ""
        return None, f"minigrad has no {type(cell).__name__}{with_acts}"
    arrays = [cell.kernel, cell.recurrent_kernel, *([cell.bias] if cell.bias is not None else [])]
    arrays = [keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(a)) for a in arrays]
    dtype = np.float64 if cell.compute_dtype == "float64" else np.float32
    arrays = [a.astype(dtype, copy=False) for a in arrays]
    sizes = {"input_size": arrays[0].shape[0], "hidden_size": cell.units}
    options |= {"bias": len(arrays) == 3, "dtype": dtype, "generator": np.random.default_rng(0)}
    twin = CELLS[kind](**sizes, **options)
    weights = from_keras(cell.name, kind, arrays, options.get("reset_after", False))
    for name, array in fitted(cell.name, twin, weights).items():
        getattr(twin, name).data = array
    return twin, ""
