"""An op of a user's compiles, or is refused by its name with what to write instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.kinds import elementwise, matmul_kind, reduce, view
from minigrad.op import REGISTRY

H, XS = mg.tensor(np.zeros((2, 4))), mg.tensor(np.ones((3, 2, 4)))


@pytest.fixture
def own() -> Iterator[dict[str, Any]]:
    """Ops of each kind, which leave the registry afterwards."""
    before = set(REGISTRY)

    @reduce(name="prod")
    def prod(x, axis=None, keepdims=False):  # type: ignore[no-untyped-def]
        """y = product of x over `axis`."""
        return np.prod(x, axis=axis, keepdims=keepdims)

    @reduce(name="spread")
    def spread(x, along=1):  # type: ignore[no-untyped-def]
        """y = max x - min x."""
        return np.ptp(x, axis=along)

    @view(name="halves")
    def halves(x):  # type: ignore[no-untyped-def]
        """y = x[:, ::2]."""
        return x[:, ::2]

    @view(name="rows_turned", variadic=True)
    def rows_turned(xs):  # type: ignore[no-untyped-def]
        """y = x0[::-1]: it mixes the rows of a batch."""
        return xs[0][::-1]

    @matmul_kind(name="product_and_one", inputs=2)
    def product_and_one(a, b):  # type: ignore[no-untyped-def]
        """y = a b + 1."""
        return a @ b + 1.0

    @elementwise(name="cube")
    def cube(x):  # type: ignore[no-untyped-def]
        """y = x^3."""
        return x * x * x

    @cube.vjp("x")
    def _(g, x):  # type: ignore[no-untyped-def]
        return g * 3.0 * x * x

    yield {k: v for k, v in REGISTRY.items() if k not in before}
    for name in set(REGISTRY) - before:
        del REGISTRY[name]


W = mg.tensor(np.full((4, 4), 0.25))
REFUSED = {
    "prod": (lambda op, h: op(h, axis=1, keepdims=True), "the reductions sum, max and min"),
    "spread": (lambda op, h: mg.expand_dims(op(h), 1), "the reductions sum, max and min"),
    "halves": (lambda op, h: mg.sum(op(h), axis=1, keepdims=True), "rows of the batch"),
    "rows_turned": (lambda op, h: op([h, h]), "rows of the batch"),
    "product_and_one": (lambda op, h: op(h, W), "other than matmul"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_loops_do_not_know_is_refused_by_name(own: Any, name: str) -> None:
    call, why = REFUSED[name]
    op = own[name]

    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        return h + call(op, h + x) * 0.5, h

    with pytest.raises(mg.TraceError, match=rf"{name} cannot be compiled: .*{why}.*mode='tape'"):
        mg.scan(cell, H, XS)
    with mg.no_grad():
        mg.scan(cell, H, XS, mode="tape")


def test_an_elementwise_op_compiles_with_its_gradient(own: Any) -> None:
    cube = own["cube"]
    found = []
    for mode in ("fused", "tape"):
        xs = mg.tensor(XS, requires_grad=True)
        ys = mg.scan(lambda h, x: (cube(h * 0.5 + x), h), H, xs, mode=mode).ys
        ys.sum().backward()
        found.append(xs.grad.numpy())  # type: ignore[union-attr]
    np.testing.assert_allclose(*found, rtol=1e-12)


def test_of_weights_alone_any_op_will_do(own: Any) -> None:
    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        return mg.tanh(h + x @ own["product_and_one"](W, W) + own["prod"](W, axis=0)), h

    with mg.no_grad():
        fused, tape = (mg.scan(cell, H, XS, mode=m).final.numpy() for m in ("fused", "tape"))
    np.testing.assert_allclose(fused, tape, rtol=1e-12)
