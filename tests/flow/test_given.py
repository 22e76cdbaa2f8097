"""mg.flow.replay: a recurrence by its arrays, against BPTT written out in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from modes import each_mode

import minigrad as mg
from minigrad import nn
from minigrad.errors import DTypeError, ShapeError
from minigrad.flow import FlowError
from minigrad.flow.given import replay

I, H = 3, 4


def made(rng: np.random.Generator, dtype: Any = np.float64) -> nn.RNNCell:
    return nn.RNNCell(I, H, dtype=dtype, generator=rng)


def by_hand(
    cell: Any, xs: Any, h: Any, g_ys: Any, g_h: Any, reverse: bool, real: Any
) -> tuple[Any, Any, Any]:
    """dL/dh_t (T, B, H) of h_t = tanh(W x_t + b + U h_{t-1}), dL/dx_t, and the sum of dL/dU."""
    W, U = cell.weight_ih.numpy(), cell.weight_hh.numpy()
    b = cell.bias_ih.numpy() + cell.bias_hh.numpy()
    order = range(len(xs))[:: -1 if reverse else 1]
    before, after = {}, {}
    for t in order:
        before[t] = h
        h = after[t] = np.where(real[t][:, None], np.tanh(xs[t] @ W.T + b + h @ U.T), h)
    g_hs, g_xs, g_U, g = np.zeros_like(g_ys), np.zeros_like(xs), np.zeros_like(U), g_h
    for t in reversed(order):
        g = g + g_ys[t] * real[t][:, None]
        g_hs[t] = g * real[t][:, None]
        a = g_hs[t] * (1 - after[t] ** 2)
        g_xs[t], g_U = a @ W, g_U + a.T @ before[t]
        g = np.where(real[t][:, None], a @ U, g)
    return g_hs, g_xs, g_U


@each_mode
@pytest.mark.parametrize("T", [1, 5])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [None, [1, 0, 1], "mask"])
def test_arrays_give_the_gradients_of_every_step(
    T: int, reverse: bool, lengths: Any, mode: str, rng: np.random.Generator
) -> None:
    B = 3
    real, how = np.ones((T, B), bool), {}
    if lengths == "mask":  # padding in front and a gap
        real[0, 0] = False
        real[T // 2, 1] = False
        how = {"mask": real}
    elif lengths:
        how = {"lengths": np.multiply(lengths, T)}
        real = np.arange(T)[:, None] < how["lengths"]
    cell, xs, h = made(rng), rng.normal(size=(T, B, I)), rng.normal(size=(B, H))
    for _ in range(2):  # the second time on other numbers
        g_ys, g_h = rng.normal(size=(T, B, H)), rng.normal(size=(B, H))
        rec = replay(cell, xs, h, g_ys, g_h, reverse=reverse, mode=mode, name="net/l0", **how)
        flow = rec["net/l0"]
        g_hs, g_xs, g_U = by_hand(cell, xs, h, g_ys, g_h, reverse, real)
        in_order = np.array(range(T)[:: -1 if reverse else 1])
        np.testing.assert_array_equal(flow.steps, in_order)
        norms = np.linalg.norm(g_hs[in_order], axis=2) * real[in_order]
        np.testing.assert_allclose(flow.per_sample["h"] * real[in_order], norms, rtol=1e-12)
        np.testing.assert_allclose(rec.inputs, np.linalg.norm(g_xs, axis=2), rtol=1e-12)
        np.testing.assert_allclose(
            flow.weights[cell.weight_hh.name].total, g_U, rtol=1e-11, atol=1e-14
        )
        assert all(p.grad is None for p in cell.parameters())
        xs, h = -xs, 2 * h


@pytest.mark.long
def test_an_lstm_is_recorded_as_inside_record(rng: np.random.Generator) -> None:
    cell = nn.LSTMCell(I, H, dtype=np.float64, generator=rng)
    xs, g = rng.normal(size=(6, 2, I)), rng.normal(size=(2, 2, H))
    with mg.flow.record() as rec:
        (h, c), _ = mg.scan(cell, cell.init_state(2), mg.tensor(xs))
        ((h * g[0]).sum() + (c * g[1]).sum()).backward()
    again = replay(cell, xs, None, grad_final=tuple(g))
    for name in ("h", "c"):
        np.testing.assert_allclose(again[""].norms[name], rec[""].norms[name], rtol=1e-12)
    for name, flow in rec[""].weights.items():
        np.testing.assert_allclose(again[""].weights[name].by_lag, flow.by_lag, rtol=1e-12)
    assert again.cuts[0].verdict.kind == rec.cuts[0].verdict.kind
    assert not again.missing


def test_a_cell_of_ones_own_reads_a_tree_and_gives_one(rng: np.random.Generator) -> None:
    """Weights that are plain arrays, integers among the inputs, None for the leaves unread."""
    table = rng.normal(size=(5, 1))

    def cell(state: Any, x: Any) -> Any:
        s = mg.tap("h", 0.5 * state["s"] + mg.tensor(table)[x["word"]])
        return {"s": s}, (s, 2.0 * s)

    words, init = rng.integers(0, 5, (4, 2)), {"s": np.ones((2, 1))}
    g = np.zeros((4, 2, 1))
    g[-1] = 3.0
    rec = replay(cell, {"word": words}, init, (None, g), {"s": None})
    np.testing.assert_allclose(rec[""].per_sample["h"][:, 0], 6.0 * 0.5 ** np.arange(4)[::-1])


def test_a_replay_is_heard_by_nobody_around_it(rng: np.random.Generator) -> None:
    cell, xs, g = made(rng), rng.normal(size=(3, 1, I)), np.ones((1, H))
    with mg.flow.record() as outer, mg.no_grad(), mg.scope("somewhere"), mg.detect_anomaly():
        inner = replay(cell, xs, None, grad_final=g * np.nan)
    assert list(inner) == [""]
    assert np.isnan(inner[""].norms["h"]).all()
    assert repr(outer) == "<Recording of nothing yet>"


def test_arrays_may_be_changed_afterwards(rng: np.random.Generator) -> None:
    cell, xs, g = made(rng), rng.normal(size=(5, 1, I)), np.ones((1, H))
    first = replay(cell, xs, None, grad_final=g)
    expected = {n: w.by_step for n, w in replay(cell, xs, None, grad_final=g)[""].weights.items()}
    xs[:], g[:] = 0.0, 0.0
    cell.weight_hh.data = np.zeros((H, H))
    for name, flow in first[""].weights.items():
        np.testing.assert_array_equal(flow.by_step, expected[name])


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({}, FlowError, "no gradient was given; pass grad_ys"),
        ({"grad_ys": np.ones((2, 5, H))}, ShapeError, r"grad_ys is float64\[2, 5, 4\]; expected"),
        ({"grad_final": (np.ones((2, H)),)}, ShapeError, r"grad_final is \(\*\); expected"),
        ({"grad_ys": np.ones((5, 2, H), bool)}, ShapeError, "grad_ys is bool"),
        ({"grad_ys": np.ones((5, 2, H)), "init": np.ones((3, H))}, ShapeError, "state"),
        ({"grad_ys": np.ones((5, 2, H)), "xs": np.ones((0, 2, I))}, ShapeError, "at least one"),
        ({"grad_ys": np.ones((5, 2, H)), "xs": np.ones((5, 2, I), "f4")}, DTypeError, "float32"),
        ({"grad_ys": np.ones((5, 2, H)), "cell": lambda h, x: (h, h)}, FlowError, "init_state"),
    ],
)
def test_what_does_not_fit_is_said(
    given: dict[str, Any], error: Any, said: str, rng: np.random.Generator
) -> None:
    with pytest.raises(error, match=said):
        replay(**{"cell": made(rng), "xs": np.ones((5, 2, I)), "init": None, **given})


def test_advice_on_a_net_from_elsewhere_names_no_code_of_minigrads(
    rng: np.random.Generator,
) -> None:
    cell = mg.nn.LSTMCell(2, 4, dtype=np.float64, generator=rng)
    xs, last = rng.standard_normal((40, 2, 2)), np.ones((2, 4))
    init = mg.nn.LSTMState(np.zeros((2, 4)), np.zeros((2, 4)))
    final = mg.nn.LSTMState(last, 0 * last)
    rec = mg.flow.replay(cell, xs, init, grad_final=final)
    said = rec.verdict.advice
    assert said.startswith("chrono (lowered the loss in")
    assert "mg.nn.init" not in said
    assert said.endswith("mg.flow.prescribe tries what may help, on nets of mg.nn")
