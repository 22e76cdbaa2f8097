"""Singular values of long products: against exact constructions, and against mpmath at hundreds of
digits.
"""

from __future__ import annotations

import warnings

import mpmath
import numpy as np
import pytest

from minigrad.flow import PrecisionWarning, products
from minigrad.flow.graded import log_singular_values as of_graded
from minigrad.flow.jacobian import Jacobians

Array = np.ndarray


def logs(factors: Array) -> Array:
    """Of a product of factors (T, n, n)."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrecisionWarning)
        return Jacobians(factors[:, None], {}).log_singular_values()[0]


def exact(factors: Array, digits: int) -> Array:
    """The same by mpmath: the product itself, and its singular values, at so many digits."""
    with mpmath.workdps(digits):
        product = mpmath.eye(factors.shape[1])
        for factor in factors:
            product = mpmath.matrix(factor.tolist()) * product
        values = mpmath.svd_r(product, compute_uv=False)
        return -np.sort([-float(mpmath.log(v)) if v > 0 else np.inf for v in values])


def orthogonal(rng: np.random.Generator, *shape: int) -> Array:
    return np.linalg.qr(rng.normal(size=(*shape, shape[-1])))[0]


def built(rng: np.random.Generator, T: int, sizes: Array) -> tuple[Array, Array]:
    """Factors P_{k+1} diag(s_k) P_k^T, whose product is P_T diag(prod s) P_0^T; log prod s."""
    P = orthogonal(rng, T + 1, sizes.shape[1])
    return P[1:] * sizes[:, None, :] @ np.swapaxes(P[:-1], 1, 2), np.log(sizes).sum(axis=0)


@pytest.mark.parametrize("T", [0, 1, 2, 20, 1000])
@pytest.mark.parametrize("n", [1, 2, 3, 16, 64])
def test_values_that_lie_close_together_are_right_to_1e_minus_12(
    n: int, T: int, rng: np.random.Generator
) -> None:
    """Nearly orthogonal factors: gaps of 1e-9 between some values, none between others."""
    near = np.where(np.arange(n) % 3 == 0, 1.0, 1.0 + 1e-9 * np.arange(n))
    sizes = near * (1 + 1e-3 * rng.normal(size=(T, 1)))
    factors, expected = built(rng, T, sizes)
    found = logs(factors.reshape(T, n, n))
    np.testing.assert_allclose(found, -np.sort(-expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 20, 150])
@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", ["orthogonal and noise", "gaussian", "graded"])
def test_the_values_are_those_of_a_product_with_hundreds_of_digits(
    kind: str, n: int, steps: int, rng: np.random.Generator
) -> None:
    noise = rng.normal(size=(steps, n, n))
    factors = {
        "orthogonal and noise": orthogonal(rng, steps, n) + 1e-3 * noise,
        "gaussian": noise,
        "graded": orthogonal(rng, steps, n) * np.exp(-np.arange(n))[:, None],
    }[kind]
    np.testing.assert_allclose(logs(factors), exact(factors, 60 + 2 * n * steps), atol=2e-12)


@pytest.mark.parametrize(
    "factor",
    [
        [[0.1, 1.0], [0.0, 10.0]],  # e_1 shrinks alone: its direction must not come first
        [[0.1, 0.0], [1.0, 10.0]],
        [[1.0, 0.0], [0.0, 0.1]],
        [[1e-200, 1.0], [0.0, 1e200]],
        np.eye(5) + np.diag(np.ones(4), 1),  # its powers are far from normal
        np.triu(np.ones((5, 5))),
        0.5 * np.eye(4) + np.diag(np.ones(3), -1),
    ],
)
def test_triangles_and_jordan_blocks_hide_nothing(factor: list[list[float]]) -> None:
    steps = 2 if np.max(factor) > 100 else 120
    factors = np.broadcast_to(np.array(factor), (steps, len(factor), len(factor)))
    np.testing.assert_allclose(logs(factors), exact(factors, 1000), rtol=1e-13, atol=1e-11)


def test_1e_minus_400_and_clusters_stand_side_by_side(rng: np.random.Generator) -> None:
    T = 400
    sizes = np.ones((T, 6)) * np.array([1.0, 1.0, 1 + 1e-12, 0.1, 0.1, 1e-3])
    factors, expected = built(rng, T, sizes)
    assert expected.min() < -2700  # 1e-1200
    np.testing.assert_allclose(logs(factors), -np.sort(-expected), rtol=1e-14, atol=1e-12)


def test_every_row_of_a_batch_is_settled_for_itself(rng: np.random.Generator) -> None:
    near, far = orthogonal(rng, 20, 6), orthogonal(rng, 20, 6) * np.exp(-2.0 * np.arange(6))
    both = Jacobians(np.stack([near, far], axis=1), {}).log_singular_values()
    np.testing.assert_allclose(both[0], 0.0, atol=1e-13)
    np.testing.assert_allclose(both[1], logs(far), atol=1e-12)


def test_a_rank_that_is_lost_on_the_way_leaves_no_noise(rng: np.random.Generator) -> None:
    """Steps of rank 1 have one value; what rounding leaves of the others is not one."""
    factors = rng.normal(size=(6, 5, 1)) @ rng.normal(size=(6, 1, 5))
    found = logs(factors)
    assert np.isfinite(found).tolist() == [True] + [False] * 4
    assert found[0] == pytest.approx(float(exact(factors, 60)[0]), abs=1e-12)


@pytest.mark.parametrize("fault", ["rotations", "directions"])
def test_what_does_not_settle_is_said(
    fault: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "rotations":  # QR alone does not part values this close
        monkeypatch.setattr("minigrad.flow.graded.SWEEPS", 0)
        factors = orthogonal(rng, 3, 8) + 1e-3 * rng.normal(size=(3, 8, 8))
    else:  # the directions of the first pass, which would be improved by a second one
        monkeypatch.setattr(products, "PASSES", 1)
        factors = np.broadcast_to(np.eye(8) + np.diag(np.ones(7), 1), (60, 8, 8))
    with pytest.warns(PrecisionWarning, match="row 0 did not settle.*ask for fewer steps"):
        Jacobians(factors[:, None], {}).log_singular_values()


def test_rows_of_zeros_have_no_values() -> None:
    k = np.array([[5, 0, -3]])
    v = np.array([[[0.0, 0.0, 0.5], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
    values, settled = of_graded(k, v)
    assert values[0].tolist() == [np.log(16.0), np.log(0.125), -np.inf]
    assert settled.all()
