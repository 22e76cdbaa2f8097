"""The problems: the same seeded arrays for every peer and for the oracles."""

from typing import NamedTuple

import numpy as np

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
CHAIN = 64  # recorded ops in a chain

# Of the training of a character model. The rate is low, so that the gradients of a batch that is
# seen a thousand times are still clipped.
VOCABULARY = 64
RATE, LIMIT = 1e-4, 0.25
STEPS = 4  # whose losses are compared


class Sizes(NamedTuple):
    """Of a recurrent layer's input (T, B, I) and state (B, H)."""

    batch: int
    steps: int
    inputs: int
    hidden: int


FIRST = Sizes(16, 50, 64, 64)  # of the layer whose first gradient is timed


def vector(function, dtype, size):
    rng = np.random.default_rng(1)
    x = rng.uniform(-8, 8, size)
    return (np.exp(x) if function == "log" else x).astype(dtype)


def matrices(m, k, n, dtype):
    rng = np.random.default_rng(2)
    a = rng.uniform(-1, 1, (m, k)).astype(dtype)
    b = rng.uniform(-1, 1, (k, n)).astype(dtype)
    return a, b


def chain():
    """x (4, 8), a factor near 1, an offset near 0, an orthogonal (8, 8), the output's gradient."""
    rng = np.random.default_rng(3)
    x = rng.uniform(-1, 1, (4, 8))
    factor = rng.uniform(0.99, 1.01, (4, 8))
    offset = rng.uniform(-0.01, 0.01, (4, 8))
    weight = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    g = rng.uniform(-1, 1, (4, 8))
    return [array.astype(np.float32) for array in (x, factor, offset, weight, g)]


def mlp():
    """x (32, 64), labels (32,), and w1, b1, w2, b2 of 64 -> 128 -> tanh -> 10."""
    rng = np.random.default_rng(4)
    shapes = {"x": (32, 64), "w1": (64, 128), "b1": (128,), "w2": (128, 10), "b2": (10,)}
    arrays = {name: rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}
    return arrays | {"labels": rng.integers(0, 10, 32)}


def sequence(cell, batch, steps, inputs, hidden, bidirectional=False):
    """xs (T, B, I) and the weights of one layer.

    Those of rnn, lstm and gru are named and laid out as in torch.nn; "peephole" and "own_lstm",
    cells that a user writes, have W (I, 4H), U (H, 4H), b (4H,), gates i f g o, and the peepholes
    p_i, p_f, p_o (H,). The weights of own_lstm are those of lstm.
    """
    rng = np.random.default_rng(5)
    bound = 1 / np.sqrt(hidden)

    def uniform(**shapes):
        return {n: rng.uniform(-bound, bound, s).astype(np.float32) for n, s in shapes.items()}

    if cell == "own_lstm":
        xs, torchs = sequence("lstm", batch, steps, inputs, hidden)
        return xs, own_layout(torchs)
    if cell == "peephole":
        one = (hidden,)
        weights = uniform(W=(inputs, 4 * hidden), U=(hidden, 4 * hidden), b=(4 * hidden,))
        weights |= uniform(p_i=one, p_f=one, p_o=one)
    else:
        rows = GATES[cell] * hidden
        weights = {}
        for suffix in ("l0", "l0_reverse") if bidirectional else ("l0",):
            shapes = {"weight_ih": (rows, inputs), "weight_hh": (rows, hidden)}
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
            weights |= uniform(**{f"{name}_{suffix}": shape for name, shape in shapes.items()})
    return rng.standard_normal((steps, batch, inputs)).astype(np.float32), weights


def lengths(batch, steps):
    """Of rows from 1 step to all: half of the steps on average."""
    return np.linspace(1, steps, batch).round().astype(np.int64)


def characters(cell, batch, steps, hidden):
    """tokens (T + 1, B) and the weights of a character model: embedding, layer, linear.

    The model reads all tokens but the last and predicts all but the first. Weights are named and
    laid out as in torch.nn.
    """
    layer = sequence(cell, batch, 1, hidden, hidden)[1]
    weights = {f"layer.{name}": array for name, array in layer.items()}
    rng = np.random.default_rng(7)
    shapes = {"head.weight": (VOCABULARY, hidden), "head.bias": (VOCABULARY,)}
    for name, shape in shapes.items():
        bound = 1 / np.sqrt(hidden)
        weights[name] = rng.uniform(-bound, bound, shape).astype(np.float32)
    weights["embed.weight"] = rng.standard_normal((VOCABULARY, hidden)).astype(np.float32)
    return rng.integers(0, VOCABULARY, (steps + 1, batch)), weights


def own_layout(weights):
    """torch.nn's weights of a layer, for a cell that multiplies from the right with one bias."""
    return {
        "W": np.ascontiguousarray(weights["weight_ih_l0"].T),
        "U": np.ascontiguousarray(weights["weight_hh_l0"].T),
        "b": weights["bias_ih_l0"] + weights["bias_hh_l0"],
    }


def direction(cell, batch, steps, inputs, hidden, bidirectional=False):
    """One direction in the space of xs and all weights, along which gradients are compared."""
    xs, weights = sequence(cell, batch, steps, inputs, hidden, bidirectional)
    rng = np.random.default_rng(6)
    return {n: rng.standard_normal(a.shape) for n, a in (weights | {"xs": xs}).items()}


def along(cell, sizes, gradients, bidirectional=False):
    """<gradient, v> for the direction v above."""
    ways = direction(cell, *sizes, bidirectional)
    return float(sum(np.vdot(gradients[n].astype(np.float64), way) for n, way in ways.items()))
