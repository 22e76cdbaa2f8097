"""The recurrent equations in plain NumPy, one row and one step at a time: slow, obvious truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray
Weights = dict[str, Array]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def rnn_step(w: Weights, h: Array, x: Array) -> Array:
    return np.tanh(w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"])


def lstm_step(w: Weights, state: tuple[Array, Array], x: Array) -> tuple[Array, Array]:
    h, c = state
    gates = w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"]
    i, f, g, o = np.split(gates, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru_step(w: Weights, h: Array, x: Array, reset_after: bool, update: str) -> Array:
    W_r, W_z, W_n = np.split(w["weight_ih"], 3)
    U_r, U_z, U_n = np.split(w["weight_hh"], 3)
    b_r, b_z, b_n = np.split(w["bias_ih"], 3)
    d_r, d_z, d_n = np.split(w["bias_hh"], 3)
    r = sigmoid(W_r @ x + b_r + U_r @ h + d_r)
    z = sigmoid(W_z @ x + b_z + U_z @ h + d_z)
    memory = r * (U_n @ h + d_n) if reset_after else U_n @ (r * h) + d_n
    n = np.tanh(W_n @ x + b_n + memory)
    return z * h + (1 - z) * n if update == "keep" else (1 - z) * h + z * n


def run(
    step: Callable[[Any, Array], Any], state: Any, xs: Array, length: int, reverse: bool
) -> tuple[Any, list[Any]]:
    """One row: the state after its last step, and the states by position (None in the padding)."""
    states: list[Any] = [None] * len(xs)
    for t in reversed(range(length)) if reverse else range(length):
        state = states[t] = step(state, xs[t])
    return state, states
