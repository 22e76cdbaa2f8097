"""The problems: the same seeded arrays for every peer and for the oracles."""

import numpy as np

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
CHAIN = 64  # recorded ops in a chain


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


def sequence(cell, batch, steps, inputs, hidden):
    """xs (T, B, I) and the weights of one layer, named and laid out as in torch.nn."""
    rng = np.random.default_rng(5)
    rows, bound = GATES[cell] * hidden, 1 / np.sqrt(hidden)
    shapes = {
        "weight_ih_l0": (rows, inputs),
        "weight_hh_l0": (rows, hidden),
        "bias_ih_l0": (rows,),
        "bias_hh_l0": (rows,),
    }
    weights = {
        name: rng.uniform(-bound, bound, shape).astype(np.float32) for name, shape in shapes.items()
    }
    return rng.standard_normal((steps, batch, inputs)).astype(np.float32), weights
