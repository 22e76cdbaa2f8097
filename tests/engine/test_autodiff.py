"""Derivatives of functions, against closed forms."""

import numpy as np
import pytest

import minigrad as mg


def test_grad_touches_no_leaf_and_takes_computed_tensors():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    z = (y * 3.0).sum()
    gx, gy = mg.grad(z, [x, y])
    np.testing.assert_array_equal(gx.numpy(), [6, 12])
    np.testing.assert_array_equal(gy.numpy(), [3, 3])
    assert x.grad is None


def test_grad_names_inputs_that_are_unused_or_need_nothing():
    x, other = (mg.tensor(1.0, requires_grad=True) for _ in range(2))
    with pytest.raises(mg.GradientError, match=r"does not depend on input 1, float64\[\]"):
        mg.grad(x * 2.0, [x, other])
    assert mg.grad(x * 2.0, [x, other], allow_unused=True)[1] is None
    with pytest.raises(mg.GradientError, match=r"input 0, 1\.5, does not require a gradient"):
        mg.grad(x * 2.0, [1.5])


def test_derivatives_of_any_order():
    x = mg.tensor(0.7, requires_grad=True)
    y = mg.sin(x)
    for k in range(1, 6):
        y = mg.grad(y, x, create_graph=True)
        assert y.item() == pytest.approx(np.sin(0.7 + k * np.pi / 2), abs=1e-14)


def test_third_derivative_of_tanh_agrees_with_the_closed_form():
    x = mg.tensor(0.3, requires_grad=True)
    y = mg.tanh(x)
    for _ in range(3):
        y = mg.grad(y, x, create_graph=True)
    t = np.tanh(0.3)
    assert y.item() == pytest.approx(-2 * (1 - t * t) * (1 - 3 * t * t), rel=1e-13)


def test_jacobian_hessian_vjp_and_jvp_of_a_quadratic(rng):
    a = rng.normal(size=(4, 4))
    x, v = rng.normal(size=4), rng.normal(size=4)
    matrix = mg.tensor(a)

    def linear(t):
        return matrix @ t

    np.testing.assert_allclose(mg.jacobian(linear, x).numpy(), a, rtol=1e-13)
    np.testing.assert_allclose(mg.jvp(linear, x, v)[1].numpy(), a @ v, rtol=1e-12)
    y, pull = mg.vjp(linear, x)
    np.testing.assert_allclose(y.numpy(), a @ x, rtol=1e-13)
    np.testing.assert_allclose(pull(v).numpy(), a.T @ v, rtol=1e-13)
    np.testing.assert_allclose(pull(2 * v).numpy(), 2 * a.T @ v, rtol=1e-13)
    quadratic = mg.hessian(lambda t: t @ (matrix @ t), x)
    np.testing.assert_allclose(quadratic.numpy(), a + a.T, rtol=1e-12)


def test_jacobian_of_a_tanh_step_is_diag_times_w(rng):
    w, h = rng.normal(size=(5, 5)), rng.normal(size=5)
    got = mg.jacobian(lambda t: mg.tanh(t @ mg.tensor(w)), h).numpy()
    np.testing.assert_allclose(got, (1 - np.tanh(h @ w) ** 2)[:, None] * w.T, rtol=1e-12)


def test_several_inputs_give_blocks(rng):
    a, b = rng.normal(size=2), rng.normal(size=3)

    def f(x, y):
        return (x[:, None] * y).sum() ** 2

    ja, jb = mg.jacobian(lambda x, y: x[:, None] * y, a, b)
    assert (ja.shape, jb.shape) == ((2, 3, 2), (2, 3, 3))
    (haa, hab), (hba, hbb) = mg.hessian(f, a, b)
    np.testing.assert_allclose(hab.numpy(), hba.numpy().T, rtol=1e-12)
    np.testing.assert_allclose(haa.numpy(), np.full((2, 2), 2 * b.sum() ** 2), rtol=1e-12)
    np.testing.assert_allclose(hbb.numpy(), np.full((3, 3), 2 * a.sum() ** 2), rtol=1e-12)
    _, tangent = mg.jvp(f, (a, b), (np.ones(2), np.zeros(3)))
    assert tangent.item() == pytest.approx(2 * a.sum() * b.sum() * 2 * b.sum(), rel=1e-12)


def test_constant_and_linear_functions_have_zero_derivatives():
    x = [1.0, 2.0]
    np.testing.assert_array_equal(mg.hessian(lambda t: t.sum(), x).numpy(), np.zeros((2, 2)))
    constant = mg.tensor([3.0])
    np.testing.assert_array_equal(mg.jacobian(lambda t: constant, x).numpy(), np.zeros((1, 2)))
    np.testing.assert_array_equal(mg.jvp(lambda t: constant, x, x)[1].numpy(), [0])


def test_functions_that_cannot_be_differentiated_say_why():
    with pytest.raises(mg.GradientError, match=r"f returned 3\.0; expected one Tensor"):
        mg.jacobian(lambda t: 3.0, [1.0])
    with pytest.raises(mg.GradientError, match=r"input 0 is int64\[2\]"):
        mg.jacobian(lambda t: t, [1, 2])
    with pytest.raises(mg.ShapeError, match=r"hessian: f returned float64\[2\]"):
        mg.hessian(lambda t: t, [1.0, 2.0])
    with pytest.raises(mg.ShapeError, match="must match inputs"):
        mg.jvp(lambda t: t, [1.0, 2.0], [1.0])


def test_gradcheck_finds_planted_faults_in_both_modes(rng):
    def wrong(x):
        return mg.where(x.numpy() > 100, x, x.detach() * 2.0) * x  # forgets half of d(2x^2)

    x = rng.normal(size=(3, 2)) + 3
    with pytest.raises(mg.GradientError, match="a random projection"):
        mg.gradcheck(wrong, x)
    with pytest.raises(
        mg.GradientError, match=r"input 0: the gradient is .* \(6 of 6 entries differ\)"
    ):
        mg.gradcheck(wrong, x, full=True)


def test_gradcheck_refuses_nan_float32_and_functions_without_gradient():
    with pytest.raises(mg.NumericalError, match=r"input 0, float64\[2\], holds nan at index \[1\]"):
        mg.gradcheck(mg.exp, np.array([1.0, np.nan]))
    with pytest.raises(mg.NumericalError, match=r"the gradient of input 0, .* holds inf"):
        mg.gradcheck(mg.sqrt, np.array([0.0]))
    with pytest.raises(mg.DTypeError, match="differences need float64"):
        mg.gradcheck(mg.exp, np.ones(2, np.float32))
    with pytest.raises(mg.GradientError, match="depends on none of its inputs"):
        mg.gradcheck(lambda x: mg.tensor(1.0), np.ones(2))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("size", [1e-30, 1e-9, 1.0, 1e6])
def test_gradcheck_finds_a_factor_2_in_a_gradient_of_any_size(size, full):
    def right(x):
        return mg.tanh(x) * size

    def wrong(x):
        return right(x) + (right(x) - right(x).detach())

    x = np.array([0.3, -0.5, 1.0])
    assert mg.gradcheck(right, x, full=full)
    with pytest.raises(mg.GradientError, match="differences give"):
        mg.gradcheck(wrong, x, full=full)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("x", [1e-9, 1e-3, 1.0, 1e6, 1e12])
def test_gradcheck_passes_right_gradients_at_points_of_any_size(x, full):
    for f in (lambda t: t * t, mg.log, lambda t: 1.0 / t, lambda t: t - t.mean()):
        assert mg.gradcheck(f, np.array([x, 2 * x, 3 * x]), full=full)
