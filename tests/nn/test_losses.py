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


def closed_form(
    x: Any, targets: Any, w: Any, smoothing: float, reduction: str, soft: bool
) -> np.ndarray:
    """torch's formula: class weights, smoothing, ignored targets, said with one-hot rows."""
    log_p = x - np.log(np.exp(x).sum(-1, keepdims=True))
    kept = np.ones(x.shape[:-1]) if soft else (targets != -100).astype(float)
    t = targets if soft else np.eye(x.shape[-1])[targets * (targets >= 0)]
    each = -((t * (1 - smoothing) + smoothing / x.shape[-1]) * w * log_p).sum(-1) * kept
    counted = x[..., 0].size if soft else ((t * w).sum(-1) * kept).sum()
    return {"none": each, "sum": each.sum(), "mean": each.sum() / counted}[reduction]  # type: ignore


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("kind", ["classes", "soft"])
def test_weights_smoothing_and_soft_targets_are_those_of_the_closed_form(
    kind: str, smoothing: float, reduction: str, rng: np.random.Generator
) -> None:
    x, w = rng.normal(size=(3, 2, 4)), np.array([0.5, 2.0, 0.0, 1.0])
    targets: Any = np.array([[0, 3], [-100, 1], [2, 2]])
    if kind == "soft":
        targets = rng.dirichlet(np.ones(4), (3, 2))
    for weight in (None, w, w.tolist(), mg.tensor(w)):
        wanted = closed_form(
            x, targets, 1.0 if weight is None else w, smoothing, reduction, kind == "soft"
        )

        def loss(t: Any, weight: Any = weight, targets: Any = targets) -> Any:
            options = {"reduction": reduction, "weight": weight, "label_smoothing": smoothing}
            return nn.cross_entropy(t, targets, **options)

        np.testing.assert_allclose(loss(mg.tensor(x)).numpy(), wanted, 1e-12)
        if weight is w:
            assert mg.gradcheck(loss, x, full=True)
            single = loss(mg.tensor(x, np.float32))
            np.testing.assert_allclose(single.numpy(), wanted, 1e-5)
            if kind == "classes":
                assert single.dtype == np.float32
        if kind == "classes" and not smoothing:
            log_p = mg.log_softmax(mg.tensor(x))
            by_hand = nn.nll_loss(log_p, targets, reduction=reduction, weight=weight)
            np.testing.assert_allclose(by_hand.numpy(), wanted, 1e-12)


def test_a_gradient_goes_to_the_weights_of_the_classes() -> None:
    x, soft = np.log([[1.0, 2, 1], [1, 1, 2]]), [[0.5, 0.5, 0], [0.1, 0.2, 0.7]]
    w = np.array([1.0, 2.0, 0.5])
    for t in ([0, 2], soft):

        def loss(weight: Any, t: Any = t) -> Any:
            return nn.cross_entropy(x, t, weight=weight, label_smoothing=0.2)

        assert mg.gradcheck(loss, w, full=True)
    assert mg.gradcheck(lambda w: nn.nll_loss(np.log(soft[1:]), [1], weight=w) * w.sum(), w)


@pytest.mark.parametrize("options", [{}, {"weight": np.ones(3)}, {"label_smoothing": 0.1}])
@pytest.mark.parametrize("rows", [0, 2])
def test_a_mean_of_ignored_targets_is_nan_and_its_gradient_zero(options: Any, rows: int) -> None:
    x = mg.tensor(np.ones((rows, 3)), requires_grad=True)
    targets = np.full(rows, -100)
    loss = nn.cross_entropy(x, targets, **options)
    assert np.isnan(loss.item())
    np.testing.assert_array_equal(mg.grad(loss, x).numpy(), np.zeros((rows, 3)))
    assert nn.cross_entropy(x, targets, reduction="sum", **options).item() == 0
    if "label_smoothing" not in options:
        loss = nn.nll_loss(x, targets, **options)
        assert np.isnan(loss.item())
        np.testing.assert_array_equal(mg.grad(loss, x).numpy(), np.zeros((rows, 3)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pos_weight_counts_positives_and_targets_may_be_integers(
    dtype: Any, rng: np.random.Generator
) -> None:
    x, y = rng.normal(size=(4, 3)), rng.random((4, 3)) < 0.5
    for w in (2.5, 3, np.array([0.5, 2.0, 4.0]), rng.random((4, 3))):
        p = 1 / (1 + np.exp(-x))
        wanted = -np.where(y, w * np.log(p), np.log(1 - p)).mean()
        for target in (y, y.astype(int), y.astype(dtype)):
            loss = nn.bce_with_logits(mg.tensor(x, dtype), target, pos_weight=w)
            assert loss.dtype == dtype
            assert loss.item() == pytest.approx(wanted, rel=1e-5)
    assert nn.mse_loss(mg.tensor(x, dtype), y).dtype == dtype
    assert mg.gradcheck(lambda t: nn.bce_with_logits(t, y, pos_weight=3.0), x)


def test_a_jitted_loss_reads_the_targets_of_each_call(rng: np.random.Generator) -> None:
    w = np.array([0.5, 2.0, 1.0])

    def loss(x: Any, targets: Any) -> Any:
        return nn.cross_entropy(x, targets, weight=w, label_smoothing=0.1)

    jitted = mg.jit(loss)
    for k in range(4):
        x, targets = rng.normal(size=(5, 3)), rng.integers(0, 3, 5)
        targets[: k + 2] = -100
        np.testing.assert_array_equal(jitted(x, targets).item(), loss(x, targets).item())


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
        (
            lambda x: nn.cross_entropy(x, [0, 1], weight=[1.0, 2.0]),
            mg.ShapeError,
            "of the 3 classes",
        ),
        (lambda x: nn.cross_entropy(x, [0, 1], label_smoothing=1.5), ValueError, "label_smoothing"),
        (lambda x: nn.cross_entropy(x, [0, 7], weight=np.ones(3)), mg.ShapeError, "from 0 to 2"),
        (
            lambda x: nn.bce_with_logits(x, x, pos_weight=np.ones((4, 2, 3))),
            mg.ShapeError,
            r"pos_weight is float64\[4, 2, 3\]",
        ),
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
