"""What training a character model should compute: the losses of its first steps, in float64.

Embedding, LSTM or GRU by the equations in the documentation of torch.nn, linear, cross-entropy, the
gradient by hand, clipping and Adam (Kingma and Ba 2015).
"""

from __future__ import annotations

from functools import cache

import numpy as np
from oracle import sigmoid
from peers import inputs

Array = np.ndarray
# float32 against float64: 5e-7 was the most. A step takes 2e-4 off the loss: one that is wrong by a
# fiftieth is found.
TOLERANCE = 3e-6


@cache
def losses(cell: str, batch: int, steps: int, hidden: int) -> Array:
    """Of the first steps from the weights of `inputs.characters`."""
    tokens, weights = inputs.characters(cell, batch, steps, hidden)
    p = {name: array.astype(np.float64) for name, array in weights.items()}
    mean = {name: np.zeros_like(array) for name, array in p.items()}
    square = {name: np.zeros_like(array) for name, array in p.items()}
    found = []
    for t in range(1, inputs.STEPS + 1):
        loss, g = gradient(cell, p, tokens)
        found.append(loss)
        norm = np.sqrt(sum(np.sum(a**2) for a in g.values()))
        for name in p:
            a = g[name] * min(1.0, inputs.LIMIT / (norm + 1e-6))
            mean[name] = 0.9 * mean[name] + 0.1 * a
            square[name] = 0.999 * square[name] + 0.001 * a**2
            root = np.sqrt(square[name] / (1 - 0.999**t)) + 1e-8
            p[name] = p[name] - inputs.RATE * mean[name] / (1 - 0.9**t) / root
    return np.array(found)


def gradient(cell: str, p: dict[str, Array], tokens: Array) -> tuple[float, dict[str, Array]]:
    """(mean cross-entropy of each next token, its gradient with respect to each weight)."""
    xs, targets = tokens[:-1], tokens[1:]
    W, U = p["layer.weight_ih_l0"], p["layer.weight_hh_l0"]
    embedded = p["embed.weight"][xs]
    from_x = embedded @ W.T + p["layer.bias_ih_l0"]
    forward, backward = {"lstm": (lstm, lstm_backward), "gru": (gru, gru_backward)}[cell]
    state = [np.zeros((xs.shape[1], U.shape[1]))] * 2  # h, and c of an LSTM
    states, kept = [state], []
    for a in from_x:
        state, saved = forward(a, state[0] @ U.T + p["layer.bias_hh_l0"], state)
        states.append(state)
        kept.append(saved)
    hs = np.stack([h for h, _ in states[1:]])
    logits = hs @ p["head.weight"].T + p["head.bias"]
    logits -= logits.max(-1, keepdims=True)
    chances = np.exp(logits)
    chances /= chances.sum(-1, keepdims=True)
    at = np.expand_dims(targets, -1)
    loss = -np.log(np.take_along_axis(chances, at, -1)).mean()

    slope = chances.copy()  # of the logits
    np.put_along_axis(slope, at, np.take_along_axis(slope, at, -1) - 1, -1)
    slope /= targets.size
    g = {name: np.zeros_like(array) for name, array in p.items()}
    g["head.weight"] = np.tensordot(slope, hs, ((0, 1), (0, 1)))
    g["head.bias"] = slope.sum((0, 1))
    from_head = slope @ p["head.weight"]
    dh = dc = np.zeros_like(hs[0])
    for t in reversed(range(len(hs))):
        of_x, of_h, dh, dc = backward(dh + from_head[t], dc, states[t], kept[t])
        dh = dh + of_h @ U
        g["layer.weight_ih_l0"] += of_x.T @ embedded[t]
        g["layer.weight_hh_l0"] += of_h.T @ states[t][0]
        g["layer.bias_ih_l0"] += of_x.sum(0)
        g["layer.bias_hh_l0"] += of_h.sum(0)
        np.add.at(g["embed.weight"], xs[t], of_x @ W)
    return float(loss), g


def lstm(from_x: Array, from_h: Array, state: list[Array]) -> tuple[list[Array], list[Array]]:
    """(h and c of the next step, what the way back needs)."""
    i, f, g, o = np.split(from_x + from_h, 4, axis=1)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    c = f * state[1] + i * g
    return [o * np.tanh(c), c], [i, f, g, o, np.tanh(c)]


def lstm_backward(dh: Array, dc: Array, state: list[Array], kept: list[Array]) -> list[Array]:
    """Slopes of what came from x and from h, of h without the way through U, and of c."""
    i, f, g, o, bent = kept
    dc = dc + dh * o * (1 - bent**2)
    slopes = [dc * g * i * (1 - i), dc * state[1] * f * (1 - f), dc * i * (1 - g**2)]
    of_gates = np.concatenate([*slopes, dh * bent * o * (1 - o)], axis=1)
    return [of_gates, of_gates, np.zeros_like(dh), dc * f]


def gru(from_x: Array, from_h: Array, state: list[Array]) -> tuple[list[Array], list[Array]]:
    """As lstm; it has no c."""
    (rx, zx, nx), (rh, zh, nh) = np.split(from_x, 3, axis=1), np.split(from_h, 3, axis=1)
    r, z = sigmoid(rx + rh), sigmoid(zx + zh)
    n = np.tanh(nx + r * nh)
    return [(1 - z) * n + z * state[0], state[1]], [r, z, n, nh]


def gru_backward(dh: Array, dc: Array, state: list[Array], kept: list[Array]) -> list[Array]:
    """As lstm_backward."""
    r, z, n, nh = kept
    dn = dh * (1 - z) * (1 - n**2)
    dr, dz = dn * nh * r * (1 - r), dh * (state[0] - n) * z * (1 - z)
    of_x, of_h = np.concatenate([dr, dz, dn], 1), np.concatenate([dr, dz, dn * r], 1)
    return [of_x, of_h, dh * z, dc]
