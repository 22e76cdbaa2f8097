"""Losses equal torch's, stay finite where naive formulas do not, and refuse what does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from golden.store import cases, weighted_loss

import minigrad as mg
from minigrad import nn

LOSSES = cases("losses")
NAMES = {"l1_loss": "mae_loss", "binary_cross_entropy_with_logits": "bce_with_logits"}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_equals_torch(name: str) -> None:
    case = LOSSES[name]
    options = dict(case.options)
    function = options.pop("function")
    loss_of = getattr(nn, NAMES.get(function, function))
    inputs = {k: mg.tensor(case.arrays[k], requires_grad=True) for k in "xy" if k in case.arrays}
    targets = options.pop("targets", inputs.get("y"))
    loss = loss_of(inputs["x"], targets, **options)
    np.testing.assert_allclose(loss.data, case.arrays["loss"], rtol=1e-10, atol=1e-12)
    weighted_loss(case, {"loss": loss}).backward()
    for k, x in inputs.items():
        expected = case.arrays[f"grad.{k}"]
        np.testing.assert_allclose(x.grad.data, expected, rtol=1e-10, atol=1e-12, err_msg=k)


def test_sequences_of_logits_give_the_loss_of_their_steps(rng: np.random.Generator) -> None:
    logits, targets = rng.normal(size=(5, 3, 4)), rng.integers(0, 4, (5, 3))
    targets[2, 1] = -100
    flat = nn.cross_entropy(logits.reshape(15, 4), targets.reshape(15))
    assert nn.cross_entropy(logits, targets).item() == pytest.approx(flat.item(), rel=1e-14)
    each = nn.cross_entropy(logits, targets, reduction="none")
    assert each.shape == (5, 3)
    assert each.data[2, 1] == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_losses_are_finite_at_extreme_logits(dtype: Any) -> None:
    x = mg.tensor(np.array([[1e4, -1e4], [-1e4, 1e4]], dtype), requires_grad=True)
    loss = nn.cross_entropy(x, [1, 1], reduction="none")
    np.testing.assert_array_equal(loss.data, np.array([2e4, 0], dtype))
    loss.sum().backward()
    np.testing.assert_array_equal(x.grad.data, [[1, -1], [0, 0]])
    x = mg.tensor(np.array([1e4, -1e4, 0], dtype), requires_grad=True)
    loss = nn.bce_with_logits(x, np.array([0, 0, 1], dtype), reduction="none")
    np.testing.assert_allclose(loss.data, [1e4, 0, np.log(2)], rtol=1e-6)
    loss.sum().backward()
    np.testing.assert_allclose(x.grad.data, [1, 0, -0.5])
    assert loss.dtype == dtype


def test_a_small_bce_loss_keeps_its_digits() -> None:
    loss = nn.bce_with_logits(mg.tensor([-40.0]), mg.tensor([0.0]))
    assert loss.item() == pytest.approx(np.exp(-40.0), rel=1e-12)


def test_gradients_by_finite_differences(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(3, 5)), rng.normal(size=(3, 5))
    for loss in (nn.mse_loss, nn.mae_loss, nn.huber_loss, nn.bce_with_logits):
        assert mg.gradcheck(loss, x, y, full=True)
    assert mg.gradcheck(lambda z: nn.cross_entropy(z, [0, 4, 1], ignore_index=4), x, full=True)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_hessian_of_cross_entropy_is_that_of_the_closed_form(
    reduction: str, rng: np.random.Generator
) -> None:
    x, targets = rng.normal(size=(4, 3)), np.array([2, -100, 0, 1])
    x[2, 0] = 60.0  # p rounds to 1: its row of the Hessian is no difference
    e = np.exp(x - x.max(-1, keepdims=True))
    p = e / e.sum(-1, keepdims=True)
    expected = np.einsum("bi,ij->bij", p, np.eye(3)) - p[:, :, None] * p[:, None, :]
    rest = p[2, 1] + p[2, 2]
    expected[2, 0, 0] = p[2, 0] * rest
    expected[1] = 0
    w = np.array([1.0, 2.0, 3.0, 4.0]) if reduction == "none" else np.ones(4)
    expected *= w[:, None, None] / (3 if reduction == "mean" else 1)

    def loss(t: Any) -> Any:
        each = nn.cross_entropy(t, targets, reduction=reduction)
        return (each * w).sum() if reduction == "none" else each

    hessian = np.asarray(mg.hessian(loss, x)).reshape(4, 3, 4, 3)
    for row in range(4):
        np.testing.assert_allclose(hessian[row, :, row], expected[row], rtol=1e-12, atol=1e-40)
        assert not hessian[row][:, [r for r in range(4) if r != row]].any()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_second_derivatives_of_cross_entropy_by_finite_differences(
    reduction: str, rng: np.random.Generator
) -> None:
    x, weight = rng.normal(size=(3, 2, 4)), rng.normal(size=(3, 2))

    def slope(t: Any, v: Any) -> Any:
        each = nn.cross_entropy(t, [[0, 3], [1, 9], [2, 2]], ignore_index=9, reduction=reduction)
        y = (each * v).sum() if reduction == "none" else each * v.sum()
        return mg.grad(y, t, create_graph=True)

    assert mg.gradcheck(slope, x, weight, full=True)


def test_targets_may_change_after_the_loss_and_before_backward() -> None:
    x = mg.tensor(np.zeros((2, 2)), requires_grad=True)
    targets = np.array([0, 1])
    loss = nn.cross_entropy(x, targets, reduction="sum")
    targets[:] = 0
    loss.backward()
    np.testing.assert_array_equal(x.grad.data, [[-0.5, 0.5], [0.5, -0.5]])


@pytest.mark.parametrize("mode", ["fused", "tape"])
def test_a_cell_may_compute_the_loss_of_its_step(mode: Any, rng: np.random.Generator) -> None:
    targets = np.array([0, 2, -100])

    def cell(h: Any, x: Any) -> Any:
        h = mg.tanh(h + x)
        return h, nn.cross_entropy(h, targets, reduction="none")

    xs, h0 = rng.normal(size=(4, 3, 5)), rng.normal(size=(3, 5))
    t = mg.tensor(xs, requires_grad=True)
    losses = mg.scan(cell, mg.tensor(h0), t, mode=mode).ys
    h, expected = h0, []
    for x in xs:
        h = np.tanh(h + x)
        log_p = h - np.log(np.exp(h).sum(-1, keepdims=True))
        expected.append([-log_p[0, 0], -log_p[1, 2], 0.0])
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-12)
    losses.sum().backward()

    def total(x: Any) -> Any:
        return mg.scan(cell, mg.tensor(h0), x, mode="tape").ys.sum()

    np.testing.assert_allclose(
        t.grad.data, mg.grad(total(u := mg.tensor(xs, requires_grad=True)), u).data
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda x: nn.cross_entropy(x, [0, 3]),
            mg.ShapeError,
            "targets: expected .* 0 to 2, got .* 3",
        ),
        (lambda x: nn.cross_entropy(x, [0, -1]), mg.ShapeError, "from 0 to 2, got some from -1"),
        (
            lambda x: nn.cross_entropy(x, [0, 1, 2]),
            mg.ShapeError,
            r"targets should be \[2\], got int64\[3\]",
        ),
        (lambda x: nn.cross_entropy(x, [0.0, 1.0]), mg.DTypeError, "class numbers, integers"),
        (lambda x: nn.cross_entropy(x, [-100, -100]), ValueError, "every target is ignore_index"),
        (lambda x: nn.nll_loss(x, [0, 1], reduction="avg"), ValueError, "'mean', 'sum' or 'none'"),
        (
            lambda x: nn.mse_loss(x, np.ones(3)),
            mg.ShapeError,
            r"one shape, got float64\[2, 3\] and",
        ),
        (lambda x: nn.bce_with_logits(x, 1.0), mg.ShapeError, "no broadcasting"),
        (lambda x: nn.huber_loss(x, x, delta=0.0), ValueError, "delta must be > 0"),
    ],
)
def test_errors_say_what_to_do(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call(mg.tensor(np.zeros((2, 3))))
