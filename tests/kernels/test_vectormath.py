"""Vector maths against mpmath: within 4 ulp everywhere, exact where the result is special."""

from __future__ import annotations

import math
from collections.abc import Callable

import mpmath
import numpy as np
import pytest

from minigrad.kernels import elementwise

DTYPES = (np.float32, np.float64)
INF, NAN = math.inf, math.nan

# A reference for finite x, and the values at 0, -0, Inf and -Inf.
FUNCTIONS: dict[str, tuple[Callable[..., mpmath.mpf], tuple[float, float, float, float]]] = {
    "exp": (mpmath.exp, (1.0, 1.0, INF, 0.0)),
    "expm1": (mpmath.expm1, (0.0, -0.0, INF, -1.0)),
    "log": (mpmath.log, (-INF, -INF, INF, NAN)),
    "log1p": (mpmath.log1p, (0.0, -0.0, INF, NAN)),
    "tanh": (mpmath.tanh, (0.0, -0.0, 1.0, -1.0)),
    "sigmoid": (lambda x: 1 / (1 + mpmath.exp(-x)), (0.5, 0.5, 1.0, 0.0)),
    "sech2": (lambda x: mpmath.sech(x) ** 2, (1.0, 1.0, 0.0, 0.0)),
    "sigmoid_slope": (lambda x: mpmath.sech(x / 2) ** 2 / 4, (0.25, 0.25, 0.0, 0.0)),
    "gauss": (lambda x: mpmath.exp(-x * x), (1.0, 1.0, 0.0, 0.0)),
    "bell": (lambda x: mpmath.exp(-x * x / 2), (1.0, 1.0, 0.0, 0.0)),
    "ndtr": (lambda x: mpmath.ncdf(min(max(x, -1000), 1000)), (0.5, 0.5, 1.0, 0.0)),
    "erf": (mpmath.erf, (0.0, -0.0, 1.0, -1.0)),
    "sin": (mpmath.sin, (0.0, -0.0, NAN, NAN)),
    "cos": (mpmath.cos, (1.0, 1.0, NAN, NAN)),
    "sqrt": (mpmath.sqrt, (0.0, -0.0, INF, NAN)),
}


def kernel(name: str, dtype: type) -> Callable[..., np.ndarray]:
    return elementwise.loop(f"def element(x): return {name}(x)", "f->f", dtype)


def ulps(got: np.floating, exact: mpmath.mpf) -> float:
    """Distance in units of the last place of `exact`, which may round to Inf."""
    info = np.finfo(got.dtype)
    limit = mpmath.ldexp(2 - mpmath.ldexp(1, -info.nmant - 1), info.maxexp - 1)
    if abs(exact) >= limit or math.isinf(got):
        close = abs(exact) > mpmath.mpf(float(info.max)) * (1 - 4 * mpmath.mpf(float(info.eps)))
        return 0.0 if close and got == mpmath.sign(exact) * INF else INF
    _, exponent = mpmath.frexp(exact)
    last = mpmath.ldexp(1, max(exponent - 1, info.minexp) - info.nmant)
    return float(abs(mpmath.mpf(float(got)) - exact) / last)


def numbers(dtype: type, rng: np.random.Generator) -> np.ndarray:
    """Log-spaced from the smallest denormal up, random ones, edges; of both signs."""
    info = np.finfo(dtype)
    spaced = np.exp2(np.linspace(math.log2(info.smallest_subnormal), info.maxexp - 1e-3, 120))
    random = np.abs(rng.standard_normal(160)) * np.repeat([0.1, 1.0, 10.0, 60.0], 40)
    overflow = info.maxexp * math.log(2.0)
    underflow = (info.maxexp + info.nmant) * math.log(2.0)
    edges = np.concatenate(
        [
            np.array([info.tiny, info.smallest_subnormal, info.max, info.eps, 1.0, 0.5, 2.0]),
            # Where arguments are reduced to: ends of those ranges are where polynomials are worst.
            np.linspace(0.7, 1.42, 60),
            np.sqrt(0.5) * 2.0 ** np.arange(-4, 5) * (1.0 + 1e-6),
            np.arange(1, 40, 2) * math.log(2.0) / 2.0,
            1.0 + rng.standard_normal(40) * 10.0 ** rng.uniform(-8, -1, 40),
            overflow + rng.uniform(-1.0, 1.0, 20),
            underflow + rng.uniform(-3.0, 1.0, 20),
        ]
    )
    positive = np.concatenate([spaced, random, edges])
    return np.concatenate([positive, -positive]).astype(dtype)


LARGEST = {"sech2": 4.3, "sigmoid_slope": 4.3, "ndtr": 6.1}  # found by tools/ulp.py; of others 2.7


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_are_what_the_page_on_accuracy_says(name, dtype, rng):
    reference, _ = FUNCTIONS[name]
    x = numbers(dtype, rng)
    if name in ("log", "sqrt"):
        x = x[x > 0]
    if name == "log1p":
        x = x[x > -1]
    got = kernel(name, dtype)(x)
    assert got.dtype == dtype
    with mpmath.workprec(200):
        worst = max((ulps(y, reference(mpmath.mpf(float(v)))), v) for v, y in zip(x, got))
    assert worst[0] <= LARGEST.get(name, 2.7), f"{name}({worst[1]!r}) is off by {worst[0]:.1f} ulp"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_at_zero_infinity_and_nan(name, dtype):
    _, expected = FUNCTIONS[name]
    x = np.array([0.0, -0.0, INF, -INF, NAN], dtype)
    expected = np.array([*expected, NAN], dtype)
    got = kernel(name, dtype)(x)
    np.testing.assert_array_equal(got, expected)
    zeros = expected == 0.0
    assert np.array_equal(np.signbit(got[zeros]), np.signbit(expected[zeros]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_logarithms_outside_of_their_domain(dtype):
    x = np.array([-1.0, -2.0, -np.finfo(dtype).max, -np.finfo(dtype).smallest_subnormal], dtype)
    assert np.isnan(kernel("log", dtype)(x)).all()
    np.testing.assert_array_equal(kernel("log1p", dtype)(x[:3]), np.array([-INF, NAN, NAN], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_odd_functions_are_exactly_odd(dtype, rng):
    x = numbers(dtype, rng)
    for name in ("tanh", "erf"):
        np.testing.assert_array_equal(kernel(name, dtype)(-x), -kernel(name, dtype)(x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_tiny_arguments_pass_through_unchanged(dtype):
    """tanh(x) = expm1(x) = log1p(x) = x to the last bit where x**2 is below the precision."""
    info = np.finfo(dtype)
    x = np.exp2(np.linspace(math.log2(info.smallest_subnormal), -info.nmant - 3, 50)).astype(dtype)
    for name in ("tanh", "expm1", "log1p"):
        for signed in (x, -x):
            np.testing.assert_array_equal(kernel(name, dtype)(signed), signed)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pow_against_mpmath_and_at_special_values(dtype, rng):
    pow = elementwise.loop("def element(x, y): return pow(x, y)", "ff->f", dtype)
    x = np.exp(rng.uniform(-5.0, 5.0, 100)).astype(dtype)
    y = rng.uniform(-12.0, 12.0, 100).astype(dtype)
    got = pow(x, y)
    with mpmath.workprec(200):
        exact = [mpmath.power(mpmath.mpf(float(a)), mpmath.mpf(float(b))) for a, b in zip(x, y)]
        assert max(map(ulps, got, exact)) <= 4.0
    cases = [
        (0.0, 0.0, 1.0),
        (NAN, 0.0, 1.0),
        (1.0, NAN, 1.0),
        (-2.0, 3.0, -8.0),
        (-2.0, 0.5, NAN),
        (0.0, -1.0, INF),
        (-0.0, 3.0, -0.0),
        (INF, -2.0, 0.0),
        (0.5, INF, 0.0),
    ]
    base, exponent, expected = np.array(cases, dtype).T
    np.testing.assert_array_equal(pow(base.copy(), exponent.copy()), expected)
