"""Values and derivatives near the edge: right wherever they are normal numbers, NaN never hidden.

The oracle is mpmath at 120 digits, through Taylor coefficients of a closed form.
"""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest

import minigrad as mg

F32, F64 = np.float32, np.float64
NAN = math.nan

# name -> (function here, the same in mpmath)
SATURATING: dict[str, tuple[Any, Any]] = {
    "tanh": (mg.tanh, mpmath.tanh),
    "sigmoid": (mg.sigmoid, lambda x: 1 / (1 + mpmath.exp(-x))),
    "expm1": (mg.expm1, mpmath.expm1),
    "softplus": (mg.softplus, lambda x: mpmath.log1p(mpmath.exp(x))),
    "erf": (mg.erf, mpmath.erf),
    "gelu": (mg.gelu, lambda x: x * mpmath.ncdf(x)),
    "silu": (lambda x: x * mg.sigmoid(x), lambda x: x / (1 + mpmath.exp(-x))),
    "log1p": (mg.log1p, mpmath.log1p),
}
POINTS = [-85.0, -40.0, -20.0, -9.5, -5.0, -0.5, 1e-20, 2.0, 8.25, 12.5, 17.5, 40.0, 85.0]


def derivatives(f: Any, x: Any, orders: int) -> list[np.ndarray]:
    """y, y', y'', ... of an elementwise f, each by the tape of the one before."""
    t = mg.tensor(x, requires_grad=True)
    y = f(t)
    found = [y.numpy()]
    for _ in range(orders):
        y = mg.grad(y.sum() + 0.0 * t.sum(), t, create_graph=True)
        found.append(y.numpy())
    return found


def exact(f: Any, x: float, orders: int) -> list[mpmath.mpf]:
    with mpmath.workdps(120):
        c = mpmath.taylor(f, mpmath.mpf(x), orders)
        return [v * mpmath.factorial(k) for k, v in enumerate(c)]


def assert_close(got: np.ndarray, expected: list[mpmath.mpf], scale: float, what: str) -> None:
    """Within `scale` rounding errors wherever the exact value is a normal number."""
    info = np.finfo(got.dtype)
    for g, e in zip(got, expected, strict=True):
        if float(info.tiny) <= abs(e) <= float(info.max):
            error = float(abs(mpmath.mpf(float(g)) - e) / abs(e)) / float(info.eps)
            assert error <= scale, f"{what}: {g!r} for {mpmath.nstr(e, 12)}, off by {error:.3g} eps"
        else:
            assert abs(float(g)) <= 2 * float(info.tiny), what


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("name", SATURATING)
def test_derivatives_of_every_order_are_right_where_they_are_normal_numbers(name, dtype):
    f, reference = SATURATING[name]
    low, high = {"log1p": (-1, 99), "erf": (-13, 13), "gelu": (-13, 13)}.get(name, (-99, 99))
    points = [x for x in POINTS if low < x < high]  # those of the normal distribution end sooner
    x = np.array(points, dtype)
    rows = derivatives(f, x, 3)
    expected = [exact(reference, float(v), 3) for v in x]
    for order, got in enumerate(rows):
        column = [e[order] for e in expected]
        # near a root of a derivative only the terms it is made of are exact
        keep = [k for k, e in enumerate(column) if abs(e) > 1e-2 or abs(x[k]) > 5]
        assert_close(got[keep], [column[k] for k in keep], 400.0, f"{name}, order {order}")


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_a_slope_is_exactly_even_and_reaches_the_denormal_numbers(name, dtype):
    f = SATURATING[name][0]
    end = 103.0 if dtype is F32 else 745.0
    x = np.linspace(0.0, end / 2 if name == "tanh" else end, 997).astype(dtype)
    slope = derivatives(f, x, 1)[1]
    np.testing.assert_array_equal(slope, derivatives(f, -x, 1)[1])
    assert (slope > 0).all()
    assert (np.diff(slope) < 0).mean() > 0.9


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("mode", ["fused", "tape"])
def test_a_saturated_rnn_passes_on_what_is_left(mode, dtype):
    w = mg.tensor(np.ones((1, 1), dtype), requires_grad=True)

    def cell(h, x):
        h = mg.tap("h", mg.tanh(x + h @ w))
        return h, h

    for x in (10.0, 20.0, 9.0):
        xs = mg.tensor(np.full((3, 1, 1), x, dtype), requires_grad=True)
        init = mg.tensor(np.zeros((1, 1), dtype), requires_grad=True)
        result = mg.scan(cell, init, xs, record=["h"], mode=mode)
        result.ys[-1].sum().backward()
        e = math.exp(-2 * (x + math.tanh(x + math.tanh(x))))
        slope = 4 * e / (1 + e) ** 2
        np.testing.assert_allclose(xs.grad.numpy()[-1], slope, rtol=2e-5 if dtype is F32 else 1e-12)
        np.testing.assert_allclose(
            result.record.norms["h"][-2:], [slope, 1.0], rtol=2e-5 if dtype is F32 else 1e-12
        )


@pytest.mark.parametrize("dtype", [F32, F64])
def test_log_softmax_keeps_small_losses_and_their_gradients(dtype):
    tolerance = 1e-5 if dtype is F32 else 1e-12
    for top in (8.0, 20.0, 40.0, 80.0):
        x = mg.tensor(np.array([[0.0, top, 1.0]], dtype), requires_grad=True)
        loss = mg.nn.cross_entropy(x, [1])
        with mpmath.workdps(60):
            rest = mpmath.exp(-top) + mpmath.exp(1 - top)
            p = [mpmath.exp(-top) / (1 + rest), mpmath.exp(1 - top) / (1 + rest)]
            value, slopes = (
                float(mpmath.log1p(rest)),
                [float(v) for v in (p[0], -p[0] - p[1], p[1])],
            )
        np.testing.assert_allclose(loss.item(), value, rtol=tolerance)
        np.testing.assert_allclose(mg.grad(loss, x).numpy()[0], slopes, rtol=tolerance)
        y = mg.softmax(x)[0, 1]
        np.testing.assert_allclose(
            mg.grad(y, x).numpy()[0, 1], -slopes[1] * (1 + slopes[1]), rtol=2 * tolerance
        )
        z = mg.logsumexp(x - top).sum()
        np.testing.assert_allclose(z.item(), value, rtol=tolerance)


def test_softmaxes_of_equal_largest_elements_have_the_right_second_derivatives(rng):
    for row in ([1.0, 1.0], [2.0, 2.0, 2.0], [0.5, 3.0, 3.0, -1.0], [7.0]):
        x = mg.tensor(row, requires_grad=True)
        p = np.exp(np.array(row) - max(row))
        p /= p.sum()
        hessian = mg.hessian(lambda t: mg.logsumexp(t), x.numpy())
        np.testing.assert_allclose(hessian.numpy() if hasattr(hessian, "numpy") else hessian,
                                   np.diag(p) - np.outer(p, p), atol=1e-15)  # fmt: skip
        jacobian = mg.jacobian(lambda t: mg.log_softmax(t), x.numpy())
        np.testing.assert_allclose(jacobian.numpy() if hasattr(jacobian, "numpy") else jacobian,
                                   np.eye(len(row)) - p, atol=1e-15)  # fmt: skip


@pytest.mark.parametrize("dtype", [F32, F64])
def test_bce_keeps_small_losses_on_both_sides(dtype):
    for x in (0.0, 0.5, 8.0, 20.0, 40.0, 80.0):
        true = math.log1p(math.exp(-x))
        for logit, target in ((x, 1.0), (-x, 0.0)):
            t = mg.tensor(np.array([logit], dtype), requires_grad=True)
            loss = mg.nn.bce_with_logits(t, np.array([target], dtype))
            np.testing.assert_allclose(loss.item(), true, rtol=1e-5 if dtype is F32 else 1e-14)
            slope = math.exp(-x) / (1 + math.exp(-x)) * (1 - 2 * target)
            np.testing.assert_allclose(
                mg.grad(loss, t).item(), slope, rtol=1e-5 if dtype is F32 else 1e-14
            )


NAN_CALLS: dict[str, Any] = {
    "max": lambda x: mg.max(x, axis=-1),
    "min": lambda x: mg.min(x, axis=-1),
    "maximum": lambda x: mg.maximum(x, 0.5),
    "maximum, right": lambda x: mg.maximum(0.5, x),
    "minimum": lambda x: mg.minimum(x, 0.5),
    "minimum, right": lambda x: mg.minimum(0.5, x),
    "relu": mg.relu,
    "leaky_relu": mg.leaky_relu,
    "elu": mg.elu,
    "clip": lambda x: mg.clip(x, -1.0, 1.0),
    "clip by bounds": lambda x: mg.clip(0.0, x, 1.0) + mg.clip(0.0, -1.0, x),
    "abs": mg.abs,
    "softplus": mg.softplus,
    "gelu": mg.gelu,
    "tanh": mg.tanh,
    "sigmoid": mg.sigmoid,
    "std": lambda x: mg.std(x, axis=-1),
    "softmax": lambda x: mg.softmax(x) * x,
    "logsumexp": mg.logsumexp,
    "huber": lambda x: mg.nn.huber_loss(x, x.detach() * 0.0),
}


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("name", NAN_CALLS)
def test_a_nan_is_seen_in_the_value_and_in_the_gradient(name, dtype):
    f = NAN_CALLS[name]
    for row in ([1.0, NAN], [NAN, 1.0], [NAN], [-1.0, NAN, 0.0]):
        x = mg.tensor(np.array(row, dtype), requires_grad=True)
        y = f(x)
        assert np.isnan(y.numpy()).any(), row
        g = mg.grad(y.sum(), x).numpy()
        assert np.isnan(g[np.isnan(row)]).all(), (row, g)


@pytest.mark.parametrize("f", [mg.sign, mg.relu, mg.leaky_relu, mg.abs])
def test_infinite_and_other_gradients_pass_as_before_where_there_is_no_nan(f):
    x = mg.tensor([-2.0, 0.0, 3.0, math.inf, -math.inf], requires_grad=True)
    g = mg.grad(f(x), x, grad_output=np.full(5, math.inf)).numpy()
    low = {mg.leaky_relu: math.inf, mg.abs: -math.inf}.get(f, 0.0)
    high = 0.0 if f is mg.sign else math.inf
    np.testing.assert_array_equal(g[[0, 2, 3, 4]], [low, high, high, low])


@pytest.mark.parametrize("dtype", [F32, F64])
def test_elu_has_derivatives_of_every_order_far_from_0(dtype):
    for x, expected in ((800.0, [800, 1, 0, 0]), (89.5, [89.5, 1, 0, 0]), (-2.0, None)):
        got = [float(v[0]) for v in derivatives(mg.elu, np.array([x], dtype), 3)]
        expected = expected or [math.expm1(x), *[math.exp(x)] * 3]
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    alpha = mg.tensor(np.array([1.0], dtype), requires_grad=True)
    slope = mg.grad(mg.elu(mg.tensor(np.array([-1e-6], dtype)), alpha).sum(), alpha)
    np.testing.assert_allclose(slope.item(), math.expm1(-1e-6), rtol=1e-6)


@pytest.mark.parametrize("p", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("tensor_exponent", [False, True])
def test_powers_have_derivatives_of_every_order_at_0(p, tensor_exponent):
    exponent = mg.tensor(float(p)) if tensor_exponent else p
    got = derivatives(lambda x: mg.power(x, exponent) * 1.0, [0.0, 2.0], 6)
    for k, (at_0, at_2) in enumerate(got):
        factor = math.perm(p, k) if k <= p else 0
        assert at_0 == (factor if k == p else 0), k
        assert at_2 == pytest.approx(factor * 2.0 ** (p - k)), k


def test_the_exponent_has_no_slope_at_a_base_of_0():
    b = mg.tensor([0.0, 0.5, 2.0], requires_grad=True)
    g = mg.grad(mg.power(mg.tensor([0.0, 0.0, 0.0]), b).sum(), b, create_graph=True)
    np.testing.assert_array_equal(g.numpy(), 0.0)
    np.testing.assert_array_equal(mg.grad(g.sum(), b).numpy(), 0.0)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (3, 5)])
def test_std_of_a_constant_row_has_gradient_0_at_every_order(shape):
    x = mg.tensor(np.full(shape, 3.0), requires_grad=True)
    g = mg.grad(x.std(axis=-1).sum(), x, create_graph=True)
    np.testing.assert_array_equal(g.numpy(), 0.0)
    np.testing.assert_array_equal(mg.grad(g.sum(), x, allow_unused=True).numpy(), 0.0)
    mixed = np.array([[1.0, 1.0, 1.0], [1.0, 2.0, 3.0]])
    t = mg.tensor(mixed, requires_grad=True)
    t.std(axis=-1).sum().backward()
    expected = (mixed - mixed.mean(1, keepdims=True)) / 3 / np.maximum(mixed.std(1), 1e-9)[:, None]
    np.testing.assert_allclose(t.grad.numpy(), expected, atol=1e-15)


def test_a_square_root_that_a_mask_leaves_out_has_no_gradient():
    x = mg.tensor([0.0, 4.0], requires_grad=True)
    mg.where(x.numpy() > 0, mg.sqrt(x), 0.0).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0.0, 0.25])
