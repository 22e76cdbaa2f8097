"""record_jax: any step of JAX, against jax.grad of the loop with a zero added to every state."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.flow import FlowError
from minigrad.interop import ConversionError

jax = pytest.importorskip("jax", reason="JAX is not installed")
jnp = jax.numpy

T, B, I, H = 5, 2, 3, 4


@pytest.fixture(autouse=True, scope="module")
def double() -> Iterator[None]:
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def step(params: Any, carry: Any, x: Any) -> Any:
    """An LSTM, as a user of JAX writes it: a dict of arrays, the state as (c, h)."""
    c, h = carry
    i, f, g, o = jnp.split(x["in"] @ params["W"] + h @ params["cell"]["U"], 4, axis=-1)
    c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (c, h), {"h": h, "sum": c + h}


def loss(final: Any, ys: Any) -> Any:
    return jnp.sum(final[0] ** 2) + jnp.sum(ys["sum"][2] ** 2) + jnp.sum(ys["h"][-1])


@pytest.mark.parametrize("reverse", [False, True])
def test_states_and_weights_have_the_gradients_that_jax_computes(
    reverse: bool, rng: np.random.Generator
) -> None:
    params = {"W": rng.normal(size=(I, 4 * H)), "cell": {"U": rng.normal(size=(H, 4 * H))}}
    xs, init = {"in": rng.normal(size=(T, B, I))}, (np.zeros((B, H)), rng.normal(size=(B, H)))

    def whole(nudges: Any, weights: Any) -> Any:
        def nudged(carry: Any, given: Any) -> Any:
            x, dh, w = given
            (c, h), y = step(w, carry, x)
            return (c, h + dh), y | {"h": h + dh}  # the sum is part of the step that made h

        return loss(*jax.lax.scan(nudged, init, (xs, nudges, weights), reverse=reverse))

    nudges = np.zeros((T, B, H))
    each = jax.tree.map(lambda w: np.stack([w] * T), params)  # a weight of its own for each step
    at_h, by_step = jax.jit(jax.grad(whole, argnums=(0, 1)))(nudges, each)
    rec = mg.flow.record_jax(
        step, init, xs, loss, params=params, reverse=reverse, names=("c", "h"), name="lstm"
    )
    flow = rec["lstm"]
    order = np.arange(T)[:: -1 if reverse else 1]
    norms = np.linalg.norm(np.asarray(at_h), axis=2)
    np.testing.assert_allclose(flow.per_sample["h"], norms[order], rtol=1e-10)
    assert sorted(flow.weights) == ["W", "cell.U"]
    for name, g in (("W", by_step["W"]), ("cell.U", by_step["cell"]["U"])):
        np.testing.assert_allclose(flow.weight_terms("step")[name], g[order], rtol=1e-9, atol=1e-14)
        total = flow.weight_terms("lag")[name].sum(0)
        np.testing.assert_allclose(total, np.sum(g, axis=0), rtol=1e-9, atol=1e-14)
    (said,) = rec.missing
    assert said.startswith("the loss reads a y that is no state as it stands")
    assert str(rec)


def test_a_step_without_params_has_gradients_jacobians_and_a_verdict() -> None:
    def decay(h: Any, x: Any) -> Any:
        h = 0.5 * h + x
        return h, h

    g = np.zeros((T, B, 1))
    g[-1] = 1.0
    rec = mg.flow.record_jax(decay, np.ones((B, 1)), np.ones((T, B, 1)), grad_ys=g)
    np.testing.assert_allclose(rec[""].per_sample["h"][:, 0], 0.5 ** np.arange(T)[::-1])
    np.testing.assert_allclose(rec[""].jacobians().steps, 0.5)
    assert rec.verdict.kind == rec.cuts[0].verdict.kind


def test_what_does_not_fit_is_said() -> None:
    one = np.ones((B, 1))
    with pytest.raises(FlowError, match="pass either loss or gradients"):
        mg.flow.record_jax(lambda h, x: (h, h), one, np.ones((T, B, 1)))
    with pytest.raises(ConversionError, match="names has 2 names, and the carry 1 leaves: h"):
        mg.flow.record_jax(
            lambda h, x: (h, h), one, np.ones((T, B, 1)), grad_final=one, names=("h", "c")
        )


def test_without_jax_the_command_that_installs_it_is_named() -> None:
    code = (
        "import sys; sys.modules['jax'] = None\n"
        "import minigrad as mg\n"
        "mg.flow.record_jax(None, None, None, grad_final=0)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "recordings of steps of JAX need the package jax: pip install jax" in told.stderr
