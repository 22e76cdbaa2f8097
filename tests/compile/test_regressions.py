"""Cells that were compiled wrongly once, as small as they get; most were found at random."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compile.agree import assert_agree, wide
from compile.test_scan import leaf

import minigrad as mg

F32, F64 = np.float32, np.float64


def turned(m: Any) -> Any:
    return mg.swapaxes(mg.swapaxes(m, 1, 2).reshape(m.shape), 1, 2).reshape(m.shape)


# name -> cell(h (B, 4), x (B, 4), m (B, 2, 3), w): the new h, y
CELLS: dict[str, Any] = {
    "a number to the power of a value": lambda h, x, m, w: (mg.tanh(0.75**h + x), h),
    "a weight times the input, transposed": lambda h, x, m, w: (mg.tanh((w.T @ x.T).T + h), h),
    "the input as y, beside a product with it": lambda h, x, m, w: (mg.tanh(x @ w + h), x),
    "a mask of the input as numbers, in a product": lambda h, x, m, w: (
        mg.tanh(h + (x < 0.1).astype(x.dtype) @ w),
        h,
    ),
    "a product of what has the batch on another axis": lambda h, x, m, w: (
        h * x,
        mg.swapaxes(mg.swapaxes(m, 0, 1) @ w[:3, :2], 0, 1),
    ),
    "a product of a slice, scattered by its gradient": lambda h, x, m, w: (
        mg.tanh(h + (mg.tanh(h).reshape(-1, 2, 2)[:, :, 0] @ w[:2])),
        h,
    ),
    "an input that is detached, in a product": lambda h, x, m, w: (mg.tanh(x.detach() @ w + h), x),
    "a detached value seen through a view of everything": lambda h, x, m, w: (
        mg.tanh(mg.tanh(h.detach()).reshape(h.shape) + h[...]),
        mg.tanh(h).detach()[:, [2, 0, 2]] + x[:, :3],
    ),
    "a state that is detached": lambda h, x, m, w: (mg.tanh(h + x).detach(), h * x),
    "an axis in front of the input": lambda h, x, m, w: (
        mg.tanh(h + ((x + w[:, None, :]) @ w).sum(0)),
        h,
    ),
    "a row for each of the batch, read twice": lambda h, x, m, w: (
        mg.tanh(h * m[:, 0, :1] + x),
        h,
    ),
    "views of views that have no strides": lambda h, x, m, w: (h * x, turned(m)),
}


@pytest.mark.parametrize("rows", wide([2, 1, 3], [2]))
@pytest.mark.parametrize("dtype", wide([F64, F32], [F32]))
@pytest.mark.parametrize("name", wide(list(CELLS), list(CELLS)[:6]))
def test_a_cell_that_was_compiled_wrongly(name: str, dtype: Any, rows: int, rng: Any) -> None:
    h, m = leaf(rng, rows, 4, dtype=dtype), leaf(rng, rows, 2, 3, dtype=dtype)
    xs, w = leaf(rng, 3, rows, 4, dtype=dtype), leaf(rng, 4, 4, dtype=dtype)
    step = CELLS[name]

    def cell(state: Any, x: Any) -> Any:
        h, m = state
        new, y = step(h, x, m, w)
        return (new, m * 0.5), y

    def closed_over(h: Any, x: Any) -> Any:
        return step(h, x, m, w)

    assert_agree(lambda mode: mg.scan(cell, (h, m), xs, mode=mode), [h, m, xs, w], dtype)
    if name.startswith(("a row", "a number")):
        assert_agree(lambda mode: mg.scan(closed_over, h, xs, mode=mode), [h, m, xs, w], dtype)


def test_hooks_of_what_a_checkpointed_scan_closes_over_run_once(rng: Any) -> None:
    a, h = leaf(rng, 3, 3), leaf(rng, 2, 3)
    seen: list[Any] = []
    found = []
    for every in (None, 2):
        w = a * 2.0
        w.register_hook(lambda g: seen.append(1))
        final, _ = mg.scan(
            lambda h, x, w=w: (mg.tanh(h @ w + x @ a), None),
            h, np.ones((5, 2, 3)), checkpoint=every,
        )  # fmt: skip
        found.append(mg.grad(final.sum(), [a])[0].numpy())
    assert len(seen) == 2
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)
