"""The equations of every cell in plain NumPy, for one row: slow, obvious, complex where they are.

STEPS: name in cells.CELLS -> step(w, state, x, **options) -> (state, y), with w the arrays by name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from reference import gru_step, sigmoid

Array = np.ndarray
Weights = dict[str, Array]


def biases(w: Weights) -> Any:
    return w.get("bias_ih", 0.0) + w.get("bias_hh", 0.0)


def sums(w: Weights, fed_back: Array, x: Array) -> Array:
    return w["weight_ih"] @ x + w["weight_hh"] @ fed_back + biases(w)


def project(w: Weights, h: Array) -> Array:
    return w["weight_hr"] @ h if "weight_hr" in w else h


def normalised(v: Array, gain: Array, shift: Any = 0.0) -> Array:
    return (v - v.mean()) / np.sqrt(v.var() + 1e-5) * gain + shift


def relu(v: Array) -> Array:
    return np.where(v > 0, v, 0.0)


def rnn(w: Weights, h: Array, x: Array, f: Callable[[Array], Array] = np.tanh) -> Any:
    h = f(sums(w, h, x))
    return h, h


def lstm(w: Weights, state: Any, x: Array) -> Any:
    h, c = state
    i, f, g, o = np.split(sums(w, h, x), 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = project(w, sigmoid(o) * np.tanh(c))
    return (h, c), h


def gru(w: Weights, h: Array, x: Array, after: bool = True, update: str = "keep") -> Any:
    zero = np.zeros(3 * len(h))
    h = gru_step({"bias_ih": zero, "bias_hh": zero} | w, h, x, after, update)
    return h, h


def elman(w: Weights, h: Array, x: Array) -> Any:
    h = np.tanh(sums(w, h, x))
    return h, w["weight_ho"] @ h + w.get("bias_o", 0.0)


def jordan(w: Weights, s: Array, x: Array, decay: float = 0.0) -> Any:
    y = w["weight_ho"] @ np.tanh(sums(w, s, x)) + w["bias_o"]
    return decay * s + y, y


def peephole(w: Weights, state: Any, x: Array) -> Any:
    h, c = state
    a_i, a_f, a_g, a_o = np.split(sums(w, h, x), 4)
    p_i, p_f, p_o = w["weight_peephole"]
    new = sigmoid(a_f + p_f * c) * c + sigmoid(a_i + p_i * c) * np.tanh(a_g)
    h = project(w, sigmoid(a_o + p_o * new) * np.tanh(new))
    return (h, new), h


def coupled(w: Weights, state: Any, x: Array) -> Any:
    h, c = state
    i, g, o = np.split(sums(w, h, x), 3)
    c = c + sigmoid(i) * (np.tanh(g) - c)
    h = sigmoid(o) * np.tanh(c)
    return (h, c), h


def layernorm(w: Weights, state: Any, x: Array) -> Any:
    h, c = state
    a = normalised(w["weight_hh"] @ h, w["norm_hh.weight"])
    a = a + normalised(w["weight_ih"] @ x, w["norm_ih.weight"]) + biases(w)
    i, f, g, o = np.split(a, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(normalised(c, w["norm_c.weight"], w["norm_c.bias"]))
    return (h, c), h


def zoneout(w: Weights, state: Any, x: Any) -> Any:
    x, d = x if isinstance(x, tuple) else (x, {"h": 0.3, "c": 0.5})
    (h, c), _ = lstm(w, state, x)
    h = d["h"] * state[0] + (1 - d["h"]) * h
    return (h, d["c"] * state[1] + (1 - d["c"]) * c), h


def minimal(w: Weights, h: Array, x: Array) -> Any:
    W_f, W_n = np.split(w["weight_ih"], 2)
    U_f, U_n = np.split(w["weight_hh"], 2)
    b_f, b_n = np.split(biases(w), 2)
    f = sigmoid(W_f @ x + U_f @ h + b_f)
    h = h + f * (np.tanh(W_n @ x + U_n @ (f * h) + b_n) - h)
    return h, h


def mingru(w: Weights, h: Array, x: Array) -> Any:
    z, n = np.split(w["weight_ih"] @ x + biases(w), 2)
    h = h + sigmoid(z) * (n - h)
    return h, h


def unitary(w: Weights, state: Any, x: Array) -> Any:
    B_re, B_im = np.split(w["weight_ih"], 2)
    h = state["re"] + 1j * state["im"]
    z = np.exp(1j * w["theta"]) * h + (B_re + 1j * B_im) @ x
    size = np.sqrt(np.abs(z) ** 2 + 1e-8)
    h = relu(size + w["bias"]) * z / size
    return {"re": h.real, "im": h.imag}, np.concatenate([h.real, h.imag])


def lru(w: Weights, state: Any, x: Array) -> Any:
    B_re, B_im = np.split(w["weight_ih"], 2)
    C_re, C_im = np.split(w["weight_ho"], 2, axis=1)
    h = state[0] + 1j * state[1]
    h = np.exp(-np.exp(w["nu"]) + 1j * np.exp(w["theta"])) * h
    h = h + np.exp(w["gamma"]) * ((B_re + 1j * B_im) @ x)
    return (h.real, h.imag), ((C_re - 1j * C_im) @ h).real + w["weight_io"] @ x


def indrnn(w: Weights, h: Array, x: Array, f: Callable[[Array], Array] = relu) -> Any:
    h = f(w["weight_ih"] @ x + w["u"] * h + biases(w))
    return h, h


def cornn(w: Weights, state: Any, x: Array, implicit: bool = True) -> Any:
    y, z = state
    dt, gamma, epsilon = 0.3, 0.7, 1.3
    a = np.tanh(w["weight_hh"] @ y + w["weight_zh"] @ z + w["weight_ih"] @ x + w["bias_ih"])
    if implicit:
        z = (z + dt * a - dt * gamma * y) / (1 + dt * epsilon)
    else:
        z = z + dt * a - dt * gamma * y - dt * epsilon * z
    y = y + dt * z
    return (y, z), y


def lem(w: Weights, state: Any, x: Array) -> Any:
    y, z = state
    V_1, V_2, V_z, V_y = np.split(w["weight_ih"], 4)
    W_1, W_2, W_z, W_y = np.split(w["weight_hh"], 4)
    b_1, b_2, b_z, b_y = np.split(w["bias_ih"], 4)
    short = 0.8 * sigmoid(W_1 @ y + V_1 @ x + b_1)
    long = 0.8 * sigmoid(W_2 @ y + V_2 @ x + b_2)
    z = (1 - short) * z + short * np.tanh(W_z @ y + V_z @ x + b_z)
    y = (1 - long) * y + long * np.tanh(W_y @ z + V_y @ x + b_y)
    return (y, z), y


def antisymmetric(w: Weights, h: Array, x: Array) -> Any:
    A = w["weight_hh"] - w["weight_hh"].T - 0.2 * np.eye(len(h))
    gate = sigmoid(A @ h + w["weight_iz"] @ x + w["bias_iz"]) if "weight_iz" in w else 1.0
    h = h + 0.4 * gate * np.tanh(A @ h + w["weight_ih"] @ x + w["bias_ih"])
    return h, h


def cfc(w: Weights, h: Array, x: Array, t: float = 1.0) -> Any:
    b = 1.7159 * np.tanh(0.666 * sums(w, h, x))
    f, g, k = np.split(w["weight_bh"] @ b + w["bias_bh"], 3)
    h = sigmoid(-f * t) * np.tanh(g) + (1 - sigmoid(-f * t)) * np.tanh(k)
    return h, h


def slstm(w: Weights, state: Any, x: Array, forget: Any = sigmoid) -> Any:
    h, c, n, m = state
    i, f, z, o = np.split(sums(w, h, x), 4)
    new = np.maximum(np.log(forget(f)) + m, i)
    i, f = np.exp(i - new), np.exp(np.log(forget(f)) + m - new)
    c, n = f * c + i * np.tanh(z), f * n + i
    h = sigmoid(o) * c / n
    return (h, c, n, new), h


def attention(w: Weights, state: Any, x: Array) -> Any:
    h, c = state
    q = w["weight_query"] @ h
    scores = []
    for m in w["memory"]:
        key = w["weight_memory"] @ m
        dot = q @ key / np.sqrt(len(q))
        scores.append(w["weight_score"] @ np.tanh(q + key) if "weight_score" in w else dot)
    weights = np.exp(scores) / np.exp(scores).sum()
    context = np.zeros(w["memory"].shape[1])
    for weight, m in zip(weights, w["memory"], strict=True):
        context = context + weight * m
    i, f, g, o = np.split(sums(w, h, x) + w["weight_ch"] @ context, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return (h, c), h


_with = functools.partial
STEPS: dict[str, Callable[..., Any]] = {
    "rnn-tanh": rnn,
    "rnn-relu": _with(rnn, f=relu),
    "rnn-no-bias": rnn,
    "lstm": lstm,
    "lstm-no-bias": lstm,
    "lstm-projected": lstm,
    "gru-after-keep": gru,
    "gru-after-write": _with(gru, update="write"),
    "gru-before-keep": _with(gru, after=False),
    "gru-before-write": _with(gru, after=False, update="write"),
    "gru-no-bias": gru,
    "gru-before-no-bias": _with(gru, after=False),
    "irnn": _with(rnn, f=relu),
    "elman": elman,
    "elman-no-bias": elman,
    "jordan": jordan,
    "jordan-decay": _with(jordan, decay=0.5),
    "peephole": peephole,
    "peephole-projected": peephole,
    "coupled": coupled,
    "layernorm": layernorm,
    "layernorm-no-bias": layernorm,
    "zoneout": zoneout,
    "zoneout-eval": zoneout,
    "minimal": minimal,
    "mingru": mingru,
    "mingru-no-bias": mingru,
    "unitary": unitary,
    "lru": lru,
    "indrnn": indrnn,
    "indrnn-tanh": _with(indrnn, f=np.tanh),
    "cornn": cornn,
    "cornn-explicit": _with(cornn, implicit=False),
    "lem": lem,
    "antisymmetric": antisymmetric,
    "antisymmetric-gated": antisymmetric,
    "cfc": cfc,
    "slstm": slstm,
    "slstm-exp": _with(slstm, forget=np.exp),
    "attention": attention,
    "attention-dot": attention,
}
