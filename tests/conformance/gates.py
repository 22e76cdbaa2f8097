"""In which order everyone stacks the gates of the weights: the only place that says so.

Letters as in minigrad's cells: LSTM i input, f forget, g what may be written (ONNX and Keras call
it c), o output; GRU r reset, z update, n the new state (ONNX and Keras: h). test_gates.py tries
every other order against the values of whoever uses it.
"""

from __future__ import annotations

import numpy as np

ORDERS = {
    ("RNN", "torch"): "h",
    ("RNN", "onnx"): "h",
    ("RNN", "cs231n"): "h",
    ("LSTM", "torch"): "ifgo",
    ("LSTM", "onnx"): "iofg",
    ("LSTM", "cs231n"): "ifog",
    ("GRU", "torch"): "rzn",
    ("GRU", "onnx"): "zrn",
}
OURS = "torch"  # minigrad takes torch.nn's checkpoints, so it has torch.nn's orders
ONNX_PEEPHOLES = "iof"  # of the ONNX input P


def reorder(w: np.ndarray, old: str, new: str) -> np.ndarray:
    """Gates stacked on the first axis, brought from one order into another."""
    blocks = dict(zip(old, np.split(np.asarray(w), len(old)), strict=True))
    return np.concatenate([blocks[gate] for gate in new])


def to_ours(w: np.ndarray, op: str, whose: str) -> np.ndarray:
    return reorder(w, ORDERS[op, whose], ORDERS[op, OURS])
