"""The cells once more, in NumPy: one step each, of real or complex numbers.

Written from the papers' equations and not from minigrad's code, as its oracle. A step takes the
state and x, (..., n), and gives the new state, and what went into each sigmoid and tanh. All are
analytic where they are smooth, so that a derivative is Im f(x + ih) / h, exact to the last digits
(Squire and Trapp 1998).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray
Weights = dict[str, Array]
Step = tuple[dict[str, Array], dict[str, Array]]  # the new state; gate -> its argument


def sigmoid(a: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * a))


def relu(a: Array) -> Array:
    return np.where(a.real <= 0, 0.0, a)  # NaN stays


def norm(a: Array) -> Array:
    """Zero mean and unit variance over the last axis."""
    a = a - a.mean(axis=-1, keepdims=True)
    return a / np.sqrt((a * a).mean(axis=-1, keepdims=True) + 1e-5)


def times(x: Array, w: Array) -> Array:
    """x w^T for x (..., n): two real products where x is complex, which is faster."""
    flat = x.reshape(-1, x.shape[-1])
    if np.iscomplexobj(x):
        real, imag = np.ascontiguousarray(flat.real), np.ascontiguousarray(flat.imag)
        y = real @ w.T + 1j * (imag @ w.T)
    else:
        y = flat @ w.T
    return y.reshape(*x.shape[:-1], len(w))


def sums(w: Weights, h: Array, x: Array) -> Array:
    return times(x, w["weight_ih"]) + times(h, w["weight_hh"]) + w["bias_ih"] + w["bias_hh"]


def rnn(w: Weights, s: dict[str, Array], x: Array) -> Step:
    a = sums(w, s["h"], x)
    return {"h": np.tanh(a)}, {"h": a}


def relu_rnn(w: Weights, s: dict[str, Array], x: Array) -> Step:
    return {"h": relu(sums(w, s["h"], x))}, {}


def lstm(w: Weights, s: dict[str, Array], x: Array) -> Step:
    i, f, g, o = np.split(sums(w, s["h"], x), 4, axis=-1)
    c = sigmoid(f) * s["c"] + sigmoid(i) * np.tanh(g)
    return {"h": sigmoid(o) * np.tanh(c), "c": c}, {"i": i, "f": f, "g": g, "o": o}


def peephole(w: Weights, s: dict[str, Array], x: Array) -> Step:
    i, f, g, o = np.split(sums(w, s["h"], x), 4, axis=-1)
    p_i, p_f, p_o = w["weight_peephole"]
    i, f = i + p_i * s["c"], f + p_f * s["c"]
    c = sigmoid(f) * s["c"] + sigmoid(i) * np.tanh(g)
    o = o + p_o * c
    return {"h": sigmoid(o) * np.tanh(c), "c": c}, {"i": i, "f": f, "g": g, "o": o}


def coupled(w: Weights, s: dict[str, Array], x: Array) -> Step:
    i, g, o = np.split(sums(w, s["h"], x), 3, axis=-1)
    c = (1.0 - sigmoid(i)) * s["c"] + sigmoid(i) * np.tanh(g)
    return {"h": sigmoid(o) * np.tanh(c), "c": c}, {"i": i, "g": g, "o": o}


def layernorm(w: Weights, s: dict[str, Array], x: Array) -> Step:
    a = norm(times(x, w["weight_ih"])) * w["norm_ih.weight"]
    a = a + norm(times(s["h"], w["weight_hh"])) * w["norm_hh.weight"] + w["bias_ih"] + w["bias_hh"]
    i, f, g, o = np.split(a, 4, axis=-1)
    c = sigmoid(f) * s["c"] + sigmoid(i) * np.tanh(g)
    y = np.tanh(norm(c) * w["norm_c.weight"] + w["norm_c.bias"])
    return {"h": sigmoid(o) * y, "c": c}, {"i": i, "f": f, "g": g, "o": o}


def gru(w: Weights, s: dict[str, Array], x: Array) -> Step:
    x_r, x_z, x_n = np.split(times(x, w["weight_ih"]) + w["bias_ih"], 3, axis=-1)
    h_r, h_z, h_n = np.split(times(s["h"], w["weight_hh"]) + w["bias_hh"], 3, axis=-1)
    r, z = x_r + h_r, x_z + h_z
    n = x_n + sigmoid(r) * h_n
    h = sigmoid(z) * s["h"] + (1.0 - sigmoid(z)) * np.tanh(n)
    return {"h": h}, {"r": r, "z": z, "n": n}


def minimal(w: Weights, s: dict[str, Array], x: Array) -> Step:
    x_f, x_n = np.split(times(x, w["weight_ih"]) + w["bias_ih"] + w["bias_hh"], 2, axis=-1)
    w_f, w_n = np.split(w["weight_hh"], 2)
    f = x_f + times(s["h"], w_f)
    n = x_n + times(sigmoid(f) * s["h"], w_n)
    return {"h": (1.0 - sigmoid(f)) * s["h"] + sigmoid(f) * np.tanh(n)}, {"f": f, "n": n}


def mingru(w: Weights, s: dict[str, Array], x: Array) -> Step:
    z, n = np.split(times(x, w["weight_ih"]) + w["bias_ih"], 2, axis=-1)
    return {"h": (1.0 - sigmoid(z)) * s["h"] + sigmoid(z) * n}, {"z": z}


STEPS: dict[str, Callable[[Weights, Any, Array], Step]] = {
    "rnn": rnn, "relu": relu_rnn, "irnn": relu_rnn, "lstm": lstm, "gru": gru, "peephole": peephole,
    "coupled": coupled, "layernorm": layernorm, "minimal": minimal, "mingru": mingru,
}  # fmt: skip
STATES = {name: ("h", "c") if name in ("lstm", "peephole", "coupled", "layernorm") else ("h",)
          for name in STEPS}  # fmt: skip
# Gates that keep the state, and the sign of the argument with which they do.
KEEPS = {
    "lstm": {"f": 1, "i": -1}, "peephole": {"f": 1, "i": -1}, "layernorm": {"f": 1, "i": -1},
    "gru": {"z": 1}, "coupled": {"i": -1}, "minimal": {"f": -1}, "mingru": {"z": -1},
}  # fmt: skip
