"""An op of a user's compiles, or is refused by its name with what it does not say about itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from compile.agree import assert_agree

import minigrad as mg
from minigrad import ops
from minigrad.kinds import elementwise, matmul_kind, reduce, view
from minigrad.op import REGISTRY, mixes

H, XS = mg.tensor(np.zeros((2, 4))), mg.tensor(np.ones((3, 2, 4)))
W = mg.tensor(np.full((4, 4), 0.25))


@pytest.fixture
def own() -> Iterator[dict[str, Any]]:
    """Ops of each kind, which leave the registry afterwards."""
    before = set(REGISTRY)
    _silent()
    _telling()
    _lying()
    yield {k: v for k, v in REGISTRY.items() if k not in before}
    for name in set(REGISTRY) - before:
        del REGISTRY[name]


def _silent() -> None:
    """Ops that say nothing of what the compiler would have to know."""

    @reduce(name="spread")
    def spread(x, along=1):  # type: ignore[no-untyped-def]
        """y = max x - min x."""
        return np.ptp(x, axis=along)

    @view(name="halves")
    def halves(x):  # type: ignore[no-untyped-def]
        """y = x[:, ::2]."""
        return x[:, ::2]

    @matmul_kind(name="product_and_one", inputs=2)
    def product_and_one(a, b):  # type: ignore[no-untyped-def]
        """y = a b + 1."""
        return a @ b + 1.0


def _telling() -> None:
    """Ops that say it."""

    @elementwise(name="cube", cheap=True)
    def cube(x):  # type: ignore[no-untyped-def]
        """y = x^3."""
        return x * x * x

    @cube.vjp("x")
    def _(g, x):  # type: ignore[no-untyped-def]
        return g * 3.0 * x * x

    @reduce(name="prod", fold=ops.multiply, identity=1.0)
    def prod(x, axis=None, keepdims=False):  # type: ignore[no-untyped-def]
        """y = product of x over `axis`."""
        return np.prod(x, axis=axis, keepdims=keepdims)

    @prod.vjp("x")
    def _(g, y, x, axis, keepdims):  # type: ignore[no-untyped-def]
        scaled = g * y
        return (scaled if keepdims else ops.expand_dims(scaled, axis)) / x

    @view(name="evens")
    def evens(x, along=1):  # type: ignore[no-untyped-def]
        """y = every other value of x along an axis."""
        return x[(slice(None),) * along + (slice(None, None, 2),)]

    @evens.batch
    def _(at, along):  # type: ignore[no-untyped-def]
        return at if along != at else mixes("it leaves rows out")

    @evens.over_time
    def _(along):  # type: ignore[no-untyped-def]
        return {"along": along + 1}

    @evens.vjp("x")
    def _(g, x_shape, along):  # type: ignore[no-untyped-def]
        return ops.scatter(g, (slice(None),) * along + (slice(None, None, 2),), x_shape)

    @view(name="framed", assembles=True)
    def framed(x):  # type: ignore[no-untyped-def]
        """y = x with a zero on both sides."""
        return np.pad(x, [(0, 0), (1, 1)])

    @framed.batch
    def _(at):  # type: ignore[no-untyped-def]
        return at

    @framed.vjp("x")
    def _(g):  # type: ignore[no-untyped-def]
        return g[:, 1:-1]

    @matmul_kind(name="product_twice", inputs=2)
    def product_twice(a, b):  # type: ignore[no-untyped-def]
        """y = 2 a b."""
        return 2.0 * (a @ b)

    @product_twice.vjp("a")
    def _(g, b):  # type: ignore[no-untyped-def]
        return 2.0 * (g @ b.T)

    @product_twice.vjp("b")
    def _(g, a):  # type: ignore[no-untyped-def]
        return 2.0 * (a.T @ g)

    @product_twice.expand
    def _(a, b):  # type: ignore[no-untyped-def]
        return (a @ b) * 2.0


def _lying() -> None:
    """Ops of which what they say is not so."""

    @view(name="rows_turned")
    def rows_turned(x):  # type: ignore[no-untyped-def]
        """y = x[::-1]: it mixes the rows of a batch."""
        return x[::-1]

    @rows_turned.batch
    def _(at):  # type: ignore[no-untyped-def]
        return at

    @view(name="shifted")
    def shifted(x):  # type: ignore[no-untyped-def]
        """y = x moved one place to the right, behind a zero: no view."""
        return np.concatenate([np.zeros_like(x[:, :1]), x[:, :-1]], axis=1)

    @shifted.batch
    def _(at):  # type: ignore[no-untyped-def]
        return at

    @reduce(name="first_two", fold=ops.add)
    def first_two(x, axis=1):  # type: ignore[no-untyped-def]
        """y = x[:, :2], which is no fold."""
        return x[:, :2]


REFUSED = {
    "spread": (lambda op, h: mg.expand_dims(op(h), 1), r"how two parts of it join.*fold="),
    "halves": (lambda op, h: mg.sum(op(h), axis=1, keepdims=True), r"rows.*@halves\.batch"),
    "product_and_one": (lambda op, h: op(h, W), r"@product_and_one\.expand"),
    "rows_turned": (lambda op, h: op(h), r"@rows_turned\.batch puts the rows .* not there"),
    "shifted": (lambda op, h: op(h), r"declared as a view, but .*assembles=True"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_an_op_does_not_say_or_says_wrongly_is_named(own: Any, name: str) -> None:
    call, why = REFUSED[name]
    op = own[name]

    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        return h + call(op, h + x) * 0.5, h

    with pytest.raises(mg.TraceError, match=rf"{name} cannot be compiled: .*{why}.*mode='tape'"):
        mg.scan(cell, H, XS)
    with mg.no_grad():
        mg.scan(cell, H, XS, mode="tape")


def test_a_fold_of_another_shape_is_refused(own: Any) -> None:
    with pytest.raises(mg.ShapeError, match=r"first_two: of float64\[B, 4\] it is \[2, 2\]"):
        mg.scan(lambda h, x: (h + mg.sum(own["first_two"](h, axis=1)), h), H, XS)


def test_a_view_that_would_mix_rows_is_refused_by_its_own_rule(own: Any) -> None:
    with pytest.raises(mg.TraceError, match=r"evens of .* would mix the rows .*leaves rows out"):
        mg.scan(lambda h, x: (h + mg.sum(own["evens"](h, along=0)), h), H, XS)


COMPILED = {
    "cube": lambda op, h: op(h * 0.5),
    "prod": lambda op, h: h * op(h + 1.0, axis=1, keepdims=True),
    "evens": lambda op, h: mg.concatenate([op(h), op(h) * 0.5], axis=1),
    "framed": lambda op, h: op(mg.tanh(h))[:, :4],
    "product_twice": lambda op, h: op(h, W),
}


@pytest.mark.parametrize("name", COMPILED)
def test_what_an_op_says_of_itself_lets_it_compile(own: Any, name: str, rng: Any) -> None:
    op, call = own[name], COMPILED[name]
    h, xs = (mg.tensor(rng.uniform(0.2, 0.8, s), requires_grad=True) for s in ((2, 4), (3, 2, 4)))

    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        return mg.tanh(call(op, h + x) * 0.3), h

    def agree(xs: Any) -> None:
        assert_agree(lambda mode: mg.scan(cell, h, xs, mode=mode), [h, xs], np.float64)

    agree(xs)
    agree(mg.tensor(xs.numpy() * 0.5, requires_grad=True))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_a_fold_of_a_users_own_joins_any_number_of_parts(own: Any, n: int, rng: Any) -> None:
    h, xs = mg.tensor(rng.uniform(0.5, 1.5, (2, n))), mg.tensor(rng.uniform(0.5, 1.5, (2, 2, n)))
    prod = own["prod"]
    ys = mg.scan(lambda h, x: (h, prod(h * x, axis=1)), h, xs).ys.numpy()
    np.testing.assert_allclose(ys, np.prod(h.numpy() * xs.numpy(), axis=2), rtol=1e-13)


def test_an_op_without_a_rule_for_time_stays_in_the_loop(own: Any, rng: Any) -> None:
    xs = mg.tensor(rng.normal(size=(3, 2, 4)), requires_grad=True)

    def cell(op: Any) -> Any:
        return lambda h, x: (mg.tanh(h + op(x)[:, :4] @ W), h)

    def hoisted(op: Any) -> list[str]:
        return [v.name for v in mg.scan(cell(op), H, xs).program.xs if v.op]

    wide = own["framed"]
    assert hoisted(wide) == []
    assert hoisted(lambda x: mg.pad(x, [(0, 0), (1, 1)]))
    assert_agree(lambda mode: mg.scan(cell(wide), H, xs, mode=mode), [xs], np.float64)


def test_of_weights_alone_any_op_will_do(own: Any) -> None:
    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        return mg.tanh(h + x @ own["product_and_one"](W, W) + own["spread"](W)), h

    with mg.no_grad():
        fused, tape = (mg.scan(cell, H, XS, mode=m).final.numpy() for m in ("fused", "tape"))
    np.testing.assert_allclose(fused, tape, rtol=1e-12)
