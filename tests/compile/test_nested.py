"""A scan or a layer in the cell of another scan is written out there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compile.agree import assert_agree

import minigrad as mg
from minigrad import nn

F64 = np.float64


def leaf(rng: Any, *shape: int) -> Any:
    return mg.tensor(rng.normal(size=shape) * 0.5, requires_grad=True)


def test_a_scan_in_a_cell_computes_what_the_tape_does(rng: Any) -> None:
    w, init, xs = leaf(rng, 3, 3), leaf(rng, 2, 3), leaf(rng, 4, 2, 3)

    def inner(h: Any, x: Any) -> tuple[Any, Any]:
        h = mg.tanh(h @ w + x)
        return h, h

    def outer(h: Any, x: Any) -> tuple[Any, Any]:
        final, ys = mg.scan(inner, h, mg.stack([x, x * 0.5]), reverse=True, checkpoint=1)
        return final, mg.concatenate([ys[0], ys[1]], axis=1)

    for _ in range(3):
        for t in (w, init, xs):
            t.data = rng.normal(size=t.shape) * 0.5
        assert_agree(lambda mode: mg.scan(outer, init, xs, mode=mode), [w, init, xs], F64)


def test_a_layer_in_a_cell_computes_what_the_tape_does(rng: Any) -> None:
    layer = nn.LSTM(3, 3, dtype=F64, generator=rng)
    init, xs = leaf(rng, 2, 3), leaf(rng, 4, 2, 3)

    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        ys, (last, _) = layer(mg.stack([x, h]))
        return mg.tanh(ys[-1]), last[0]

    inputs = [init, xs, *layer.parameters()]
    assert_agree(lambda mode: mg.scan(cell, init, xs, mode=mode), inputs, F64)


def test_a_scan_over_what_the_cell_closes_over_is_done_ahead(rng: Any) -> None:
    w, words = leaf(rng, 3, 3), leaf(rng, 4, 2, 3)
    init, xs = leaf(rng, 2, 3), leaf(rng, 4, 2, 3)

    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        context = mg.scan(lambda a, b: (mg.tanh(a @ w + b), ()), mg.tensor(np.zeros((2, 3))), words)
        return mg.tanh(h + x * context.final), h

    for _ in range(3):
        w.data = rng.normal(size=(3, 3))
        assert_agree(lambda mode: mg.scan(cell, init, xs, mode=mode), [w, words, init, xs], F64)


H, XS = mg.tensor(np.zeros((2, 3))), mg.tensor(np.ones((2, 2, 3)))


@pytest.mark.parametrize(
    "options",
    [
        {"lengths": [1, 2]},
        {"mask": np.ones((2, 2), bool)},
        {"resets": np.ones((2, 2), bool)},
        {"record": True},
        {"truncate": 1},
    ],
)
def test_what_a_scan_in_a_cell_cannot_do_is_said(options: Any) -> None:
    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        return mg.scan(lambda a, b: (a + b, a), h, mg.stack([x, x]), **options).final, h

    with pytest.raises(mg.TraceError, match="inside a cell takes no record=, truncate=, lengths="):
        mg.scan(cell, H, XS)


def test_a_long_scan_in_a_cell_is_refused() -> None:
    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        return mg.scan(lambda a, b: (a + b, a), h, mg.stack([x] * 65)).final, h

    with pytest.raises(mg.TraceError, match=r"a scan of 65 steps inside a cell.*64 at most"):
        mg.scan(cell, H, XS)


def test_a_value_of_the_outer_step_that_the_inner_cell_closes_over_is_refused() -> None:
    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        inner = mg.scan(lambda a, b: (a + h * b, a), mg.tensor(np.zeros((2, 3))), XS)
        return inner.final, h

    with pytest.raises(mg.TraceError, match="pass it to the inner scan as part of its state"):
        mg.scan(cell, H, XS)
