"""What a recurrent layer should compute: sum(h**2) and the gradient of it, in float64."""

from __future__ import annotations

from functools import cache

import numpy as np
from harness import must_agree
from peers import inputs
from peers.inputs import Sizes

TOLERANCE = 2e-4  # float32 against float64 after a hundred steps


def check(
    who: str,
    got: dict[str, np.ndarray],
    cell: str,
    sizes: Sizes,
    bidirectional: bool = False,
    forward: bool = False,
    ragged: bool = False,
) -> None:
    """The loss, and unless `forward` the gradient along one random direction.

    That direction goes through all inputs and weights together. Raises BenchError where they are
    wrong.
    """
    want = dict(zip(("loss", "gradient"), truth(cell, sizes, bidirectional, ragged), strict=True))
    if forward:
        del want["gradient"]
    elif "gradient" not in got:
        along = inputs.along(cell, sizes, got, bidirectional)
        got = got | {"gradient": np.asarray(along)}
    must_agree(f"{who}, {cell} {tuple(sizes)}", got, want, TOLERANCE)


@cache
def truth(
    cell: str, sizes: Sizes, bidirectional: bool = False, ragged: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The loss, and by central differences d loss(x + eps v) / d eps, which is <gradient, v>."""
    xs, weights = inputs.sequence(cell, *sizes, bidirectional)
    point = {name: array.astype(np.float64) for name, array in (weights | {"xs": xs}).items()}
    ways = inputs.direction(cell, *sizes, bidirectional)
    eps = 1e-5

    def at(distance: float) -> float:
        return loss(cell, {name: point[name] + distance * ways[name] for name in point}, ragged)

    return np.asarray(at(0.0)), np.asarray((at(eps) - at(-eps)) / (2 * eps))


def loss(cell: str, p: dict[str, np.ndarray], ragged: bool = False) -> float:
    """sum(h**2) over all steps, and over both directions where there are weights for two.

    ragged: over each row's own steps, those of inputs.lengths.
    """
    steps, rows = p["xs"].shape[:2]
    lengths = inputs.lengths(rows, steps) if ragged else np.full(rows, steps)
    total = one_way(cell, p, p["xs"], "l0", lengths)
    if "weight_ih_l0_reverse" in p:
        total += one_way(cell, p, p["xs"][::-1], "l0_reverse", lengths)
    return total


def one_way(
    cell: str, p: dict[str, np.ndarray], xs: np.ndarray, suffix: str, lengths: np.ndarray
) -> float:
    """By the equations in the documentation of torch.nn; peepholes as Gers et al. 2002."""
    if cell in ("peephole", "own_lstm"):
        W, U, b_x, b_h = p["W"], p["U"], p["b"], np.zeros_like(p["b"])
    else:
        W, U = p[f"weight_ih_{suffix}"].T, p[f"weight_hh_{suffix}"].T
        b_x, b_h = p[f"bias_ih_{suffix}"], p[f"bias_hh_{suffix}"]
    p_i, p_f, p_o = (p.get(name, 0.0) for name in ("p_i", "p_f", "p_o"))
    h = c = np.zeros((xs.shape[1], U.shape[0]))
    total = 0.0
    for t, x in enumerate(xs):
        from_x, from_h = x @ W + b_x, h @ U + b_h
        if cell == "rnn":
            h = np.tanh(from_x + from_h)
        elif cell == "gru":
            (rx, zx, nx), (rh, zh, nh) = np.split(from_x, 3, axis=1), np.split(from_h, 3, axis=1)
            z = sigmoid(zx + zh)
            h = (1 - z) * np.tanh(nx + sigmoid(rx + rh) * nh) + z * h
        else:
            i, f, g, o = np.split(from_x + from_h, 4, axis=1)
            i, f = sigmoid(i + p_i * c), sigmoid(f + p_f * c)
            c = f * c + i * np.tanh(g)
            h = sigmoid(o + p_o * c) * np.tanh(c)
        total += float((h[t < lengths] ** 2).sum())
    return total


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
