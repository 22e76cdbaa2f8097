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


CELLS = {"lstm": lstm, "peephole": peephole}


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


if __name__ == "__main__":
    worker.serve({"layer": layer})
