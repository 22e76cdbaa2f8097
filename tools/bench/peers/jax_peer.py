"""JAX's side: the recurrence by jax.lax.scan under jax.jit, in an interpreter with jax and NumPy.

The product with the inputs stands before the scan, as one for all steps; arrays are float32, which
is JAX's default.
"""

import os

import inputs
import worker

# XLA's pool is as large as the set of CPUs that it may run on, and has no other setting.
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: worker.threads()])

import jax
import jax.numpy as jnp
import numpy as np


def lstm(p, xs):
    """(weights, xs (T, B, I)) -> hs (T, B, H)."""
    U = p["weight_hh_l0"].T
    before = xs @ p["weight_ih_l0"].T + (p["bias_ih_l0"] + p["bias_hh_l0"])

    def step(state, a):
        h, c = state
        i, f, g, o = jnp.split(a + h @ U, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    return scan(step, before, U.shape[0])


def gru(p, xs):
    """(weights, xs (T, B, I)) -> hs (T, B, H)."""
    U, b = p["weight_hh_l0"].T, p["bias_hh_l0"]
    before = xs @ p["weight_ih_l0"].T + p["bias_ih_l0"]

    def step(h, a):
        (rx, zx, nx), (rh, zh, nh) = jnp.split(a, 3, axis=1), jnp.split(h @ U + b, 3, axis=1)
        z = jax.nn.sigmoid(zx + zh)
        h = (1 - z) * jnp.tanh(nx + jax.nn.sigmoid(rx + rh) * nh) + z * h
        return h, h

    return jax.lax.scan(step, jnp.zeros((xs.shape[1], U.shape[0])), before)[1]


def peephole(p, xs):
    """(weights, xs (T, B, I)) -> hs (T, B, H)."""
    U = p["U"]
    before = xs @ p["W"] + p["b"]

    def step(state, a):
        h, c = state
        i, f, g, o = jnp.split(a + h @ U, 4, axis=1)
        i = jax.nn.sigmoid(i + p["p_i"] * c)
        f = jax.nn.sigmoid(f + p["p_f"] * c)
        c = f * c + i * jnp.tanh(g)
        o = jax.nn.sigmoid(o + p["p_o"] * c)
        h = o * jnp.tanh(c)
        return (h, c), h

    return scan(step, before, U.shape[0])


def scan(step, before, hidden):
    zero = jnp.zeros((before.shape[1], hidden))
    return jax.lax.scan(step, (zero, zero), before)[1]


CELLS = {"lstm": lstm, "gru": gru, "peephole": peephole}


def layer(cell, forward=False, **sizes):
    """A training step of a layer, or its forward pass alone."""
    xs, weights = inputs.sequence(cell, **sizes)
    xs, weights = jnp.asarray(xs), {name: jnp.asarray(array) for name, array in weights.items()}
    if forward:
        function = jax.jit(CELLS[cell])

        def collect(hs):
            return {"loss": (hs**2).sum()}

    else:

        def loss(p, xs):
            return (CELLS[cell](p, xs) ** 2).sum()

        function = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))

        def collect(result):
            value, (gradients, of_xs) = result
            return gradients | {"xs": of_xs, "loss": value}

    return lambda: jax.block_until_ready(function(weights, xs)), collect


def training(cell, **sizes):
    """A step of training a character model, all of it compiled; Adam and clipping by hand."""
    tokens, weights = inputs.characters(cell, **sizes)
    tokens, weights = jnp.asarray(tokens), {n: jnp.asarray(a) for n, a in weights.items()}
    beta1, beta2, eps = 0.9, 0.999, 1e-8

    def loss_of(p, xs, targets):
        layer = {n.removeprefix("layer."): a for n, a in p.items() if n.startswith("layer.")}
        hs = CELLS[cell](layer, p["embed.weight"][xs])
        logits = jax.nn.log_softmax(hs @ p["head.weight"].T + p["head.bias"])
        return -jnp.take_along_axis(logits, targets[..., None], axis=-1).mean()

    def step(state, xs, targets):
        p, means, squares, t = state
        loss, g = jax.value_and_grad(loss_of)(p, xs, targets)
        norm = jnp.sqrt(sum(jnp.sum(a * a) for a in g.values()))
        scale = jnp.minimum(1.0, inputs.LIMIT / (norm + 1e-6))
        t += 1
        new_p, new_means, new_squares = {}, {}, {}
        for n, a in g.items():
            a = a * scale
            m = beta1 * means[n] + (1 - beta1) * a
            v = beta2 * squares[n] + (1 - beta2) * a * a
            root = jnp.sqrt(v / (1 - beta2**t)) + eps
            new_p[n] = p[n] - inputs.RATE * m / (1 - beta1**t) / root
            new_means[n], new_squares[n] = m, v
        return (new_p, new_means, new_squares, t), loss

    step = jax.jit(step, donate_argnums=0)
    zeros = [{n: jnp.zeros_like(a) for n, a in weights.items()} for _ in range(2)]
    state = (weights, *zeros, jnp.zeros(()))
    xs, targets = tokens[:-1], tokens[1:]

    def run():
        nonlocal state
        state, loss = step(state, xs, targets)
        return jax.block_until_ready(loss)

    def collect(loss):
        return {"losses": np.array([loss, *(run() for _ in range(inputs.STEPS - 1))])}

    return run, collect


if __name__ == "__main__":
    worker.serve({"layer": layer, "training": training})
