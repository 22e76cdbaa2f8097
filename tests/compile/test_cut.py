"""What a step detaches passes no gradient on, in derivatives of any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compile.agree import close

import minigrad as mg

Make = Callable[[Any], Any]
LONG = [pytest.mark.slow, pytest.mark.long]


def test_second_derivatives_of_a_product_with_a_detached_factor() -> None:
    """h = sum of stop(x) x + x^2 / 2: the first derivative is stop(x) + x, the second one."""

    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        h = h + x.detach() * x + 0.5 * x * x
        return h, h

    for k in range(3):
        x = mg.tensor([[[1.5 + k]], [[0.5]], [[-2.0]]], requires_grad=True)
        final = mg.scan(cell, mg.tensor([[0.0]]), x).final
        (g,) = mg.grad(final.sum(), [x], create_graph=True)
        np.testing.assert_allclose(g.numpy(), 2.0 * x.numpy())
        (second,) = mg.grad(g.sum(), [x])
        np.testing.assert_allclose(second.numpy(), np.ones((3, 1, 1)))


def test_third_derivatives_of_a_cube_with_a_detached_factor() -> None:
    """h = sum of stop(x) x^3: 3 stop(x) x^2, 6 stop(x) x, 6 stop(x)."""

    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        return h + x.detach() * x * x * x, ()

    x = mg.tensor([[[1.5]], [[-0.5]]], requires_grad=True)
    g: Any = mg.scan(cell, mg.tensor([[0.0]]), x).final
    for want in (3 * x.numpy() ** 3, 6 * x.numpy() ** 2, 6 * x.numpy()):
        (g,) = mg.grad(g.sum(), [x], create_graph=True)
        np.testing.assert_allclose(g.numpy(), want, rtol=1e-12)


def _straight_through(w: Any) -> Any:
    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        a = mg.tanh(x + h @ w)
        h = a + (mg.sign(a) - a).detach()
        return h, h

    return cell


def _carry(w: Any) -> Any:
    return lambda h, x: (mg.tanh(h.detach() @ w + h * x), h)


def _all_of_the_carry(w: Any) -> Any:
    return lambda h, x: (mg.tanh(h.detach() @ w + x), h.detach() * x)


def _input(w: Any) -> Any:
    return lambda h, x: (mg.tanh(h @ w + x.detach() * x), mg.sigmoid(x.detach() @ w) * h)


def _weight(w: Any) -> Any:
    return lambda h, x: (mg.tanh(h @ w.detach() * x + (x * x) @ w), h)


def _joined(w: Any) -> Any:
    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        both = mg.concatenate([h.detach() * h, x, (h * x).detach()], axis=1)
        low, high = mg.split(mg.softmax(both, axis=1), 3, axis=1)[:2]
        return mg.tanh(low @ w + high * x * 3.0), mg.max(both, axis=1)

    return cell


def _whole_step(w: Any) -> Any:
    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        with mg.no_grad():
            kept = mg.tanh(h @ w * x)
        return mg.tanh(kept * x + h @ w), h

    return cell


def _weights_without(w: Any) -> Any:
    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        with mg.no_grad():
            twice = mg.tanh(w).T
        return mg.tanh(h @ twice * x + h @ w), h

    return cell


CELLS = [
    _straight_through, _carry, _all_of_the_carry, _input, _weight, _joined, _whole_step,
    _weights_without,
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "orders"),
    [
        *((make, 2) for make in (_straight_through, _carry, _whole_step)),
        *(pytest.param(make, 3, marks=LONG) for make in CELLS if make is not _joined),
        pytest.param(_joined, 2, marks=LONG),
    ],
)
def test_derivatives_of_all_orders_are_those_of_the_tape(make: Make, orders: int, rng: Any) -> None:
    w0, h0 = rng.normal(size=(3, 3)) * 0.5, rng.normal(size=(2, 3)) * 0.5
    x0 = rng.normal(size=(3, 2, 3))
    directions = [rng.normal(size=s) for s in ((3, 3), (2, 3), (3, 2, 3))]
    found = {}
    for mode in ("fused", "tape"):
        inputs = [mg.tensor(a, requires_grad=True) for a in (w0, h0, x0)]
        w, h, x = inputs
        final, ys = mg.scan(make(w), h, x, mode=mode)
        loss: Any = (final * final).sum() + (ys * ys * ys).sum()
        found[mode] = []
        for order in range(1, orders + 1):
            grads = mg.grad(loss, inputs, create_graph=True, allow_unused=True)
            grads = [t * 0.0 if g is None else g for g, t in zip(grads, inputs, strict=True)]
            found[mode] += [(f"order {order}, input {k}", g) for k, g in enumerate(grads)]
            loss = sum(((g * v).sum() for g, v in zip(grads, directions, strict=True)), h.sum() * 0)
    for (name, got), (_, want) in zip(found["fused"], found["tape"], strict=True):
        close(f"{make.__name__}, {name}", got.numpy(), want.numpy(), 1e-10)
