"""Ops that pass x on and change its gradient: by closed forms, and at the ends of a float."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg

INF, NAN = np.inf, np.nan


def back(op: Any, g: Any, *numbers: Any, dtype: Any = np.float64) -> np.ndarray:
    """What comes back to x where g comes to op(x, *numbers), which must be x itself."""
    g = np.asarray(g, dtype)
    x = mg.tensor(np.linspace(-1.0, 1.0, g.size).reshape(g.shape), dtype=dtype, requires_grad=True)
    y = op(x, *(n if isinstance(n, float) else mg.tensor(n, dtype=dtype) for n in numbers))
    assert np.array_equal(y.numpy(), x.numpy())
    y.backward(g)
    assert x.grad is not None
    return np.asarray(x.grad.numpy())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_longer_than_the_norm_have_it_and_others_keep_their_bits(
    dtype: Any, rng: np.random.Generator
) -> None:
    g = rng.normal(size=(7, 5)) * 10.0 ** rng.uniform(-3, 3, (7, 1))
    found, g = back(mg.clip_gradient, g, 0.5, dtype=dtype), g.astype(dtype)
    longer = np.linalg.norm(g.astype(np.float64), axis=1) > 0.5
    assert longer.any()
    assert not longer.all()
    assert np.array_equal(found[~longer], g[~longer])
    wanted = g / np.linalg.norm(g.astype(np.float64), axis=1, keepdims=True) * 0.5
    np.testing.assert_allclose(found[longer], wanted[longer], rtol=8 * np.finfo(dtype).eps)


def test_norms_are_clipped_where_their_squares_would_overflow_or_vanish() -> None:
    huge = np.full((1, 4), 3e38, np.float32)
    np.testing.assert_allclose(back(mg.clip_gradient, huge, 1.0, dtype=np.float32), 0.5, rtol=1e-6)
    tiny = np.full((1, 4), 1e-30, np.float32)
    found = back(mg.clip_gradient, tiny, [[1e-30]], dtype=np.float32)
    np.testing.assert_allclose(found, 5e-31, rtol=1e-6)
    assert np.array_equal(back(mg.clip_gradient, np.zeros((2, 3)), 0.0), np.zeros((2, 3)))
    assert np.array_equal(back(mg.clip_gradient, np.ones((2, 3)), 0.0), np.zeros((2, 3)))
    assert np.array_equal(back(mg.clip_gradient, np.ones((1, 3)), INF), np.ones((1, 3)))


def test_a_row_with_nan_or_inf_is_not_clipped_and_hides_nothing() -> None:
    g = [[3.0, NAN], [INF, 4.0], [3.0, 4.0]]
    assert np.array_equal(
        back(mg.clip_gradient, g, 1.0).round(12), [*g[:2], [0.6, 0.8]], equal_nan=True
    )


def test_gradients_are_scaled_shifted_and_clamped_element_by_element() -> None:
    g = [3.0, -2.0, 0.0, INF, NAN]
    scaled = back(mg.scale_gradient, g, [2.0, 0.0, 5.0, 0.0, 0.0])
    assert np.array_equal(scaled, [6.0, 0.0, 0.0, 0.0, 0.0])  # nothing passes by=0
    shifted = back(mg.shift_gradient, g, [1.0, 1.0, 1.0, 1.0, 1.0])
    assert np.array_equal(shifted, [4.0, -1.0, 0.0, INF, NAN], equal_nan=True)
    clamped = back(mg.clamp_gradient, g, -1.0, [1.0, 1.0, 1.0, 2.0, 1.0])
    assert np.array_equal(clamped, [1.0, -1.0, 0.0, 2.0, NAN], equal_nan=True)


def test_the_derivative_of_a_clipped_gradient_is_that_of_finite_differences(
    rng: np.random.Generator,
) -> None:
    limits, w = np.array([[0.5], [50.0]]), mg.tensor(rng.normal(size=(2, 3)), requires_grad=True)

    def wanted(w: np.ndarray) -> np.ndarray:
        g = 3 * w**2
        return g * np.minimum(1.0, limits / np.linalg.norm(g, axis=1, keepdims=True))

    x = mg.tensor(np.ones((2, 3)), requires_grad=True)
    loss = (3 * w**2 * mg.clip_gradient(x, mg.tensor(limits))).sum()
    (clipped,) = mg.grad(loss, [x], create_graph=True)
    np.testing.assert_allclose(clipped.numpy(), wanted(w.numpy()), rtol=1e-12)
    (found,) = mg.grad((clipped**2).sum(), [w])
    eps, numeric = 1e-6, np.zeros((2, 3))
    for i in np.ndindex(2, 3):
        d = np.zeros((2, 3))
        d[i] = eps
        up, down = ((wanted(w.numpy() + e) ** 2).sum() for e in (d, -d))
        numeric[i] = (up - down) / (2 * eps)
    np.testing.assert_allclose(found.numpy(), numeric, rtol=1e-5, atol=1e-7)
