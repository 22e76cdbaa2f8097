"""truncate=: what gradients it keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compile.agree import close, outcome

import minigrad as mg

MODES = ("fused", "tape")


def problem(rng: Any, time: int = 7, batch: int = 2, hidden: int = 3) -> tuple[Any, Any, Any, Any]:
    """(W, init, xs, cell): h = tanh(h W + x), y = h."""
    w = mg.tensor(rng.normal(size=(hidden, hidden)) * 0.7, requires_grad=True, name="W")
    init = mg.tensor(rng.normal(size=(batch, hidden)), requires_grad=True, name="h0")
    xs = mg.tensor(rng.normal(size=(time, batch, hidden)), requires_grad=True, name="xs")

    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        new = mg.tanh(h @ w + x)
        return new, new

    return w, init, xs, cell


def kept_lags(w: Any, h0: Any, xs: Any, g: Any, window: int) -> tuple[Any, Any, Any]:
    """Gradients of sum_t g_t . h_t by explicit sums over lags, those kept that stay in a window.

    dh_t/dh_s is a product of Jacobians; a pair (t, s) counts where no window begins in between.
    """
    time, batch, n = xs.shape
    dw, dh0, dx = np.zeros_like(w), np.zeros_like(h0), np.zeros_like(xs)
    for b in range(batch):
        h = [h0[b]]
        for t in range(time):
            h.append(np.tanh(h[-1] @ w + xs[t, b]))
        slope = [1 - h[t + 1] ** 2 for t in range(time)]
        for t in range(time):
            v = g[t, b].copy()  # dL/dh_t, carried back lag by lag
            for s in range(t, t // window * window - 1, -1):
                dz = v * slope[s]
                dx[s, b] += dz
                dw += np.outer(h[s], dz)
                v = w @ dz
            if t < window:
                dh0[b] += v
    assert n == w.shape[0]
    return dw, dh0, dx


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("window", [1, 2, 3, 7, 10])
def test_truncated_bptt_is_the_sum_of_the_kept_lags(window: int, mode: str, rng: Any) -> None:
    w, init, xs, cell = problem(rng)
    g = rng.normal(size=xs.shape)
    _, ys = mg.scan(cell, init, xs, truncate=window, mode=mode)
    (ys * g).sum().backward()
    wanted = kept_lags(w.numpy(), init.numpy(), xs.numpy(), g, window)
    for t, want in zip((w, init, xs), wanted, strict=True):
        close(t.name, t.grad.numpy(), want, 1e-12)


@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"lengths": (7, 4)}])
def test_truncation_is_a_detached_state_between_windows(
    window: int, options: Any, rng: Any
) -> None:
    w, init, xs, cell = problem(rng)

    def by_hand(mode: str) -> Any:
        time, down = xs.shape[0], options.get("reverse", False)
        lengths = np.array(options.get("lengths", (time, time)))
        state, parts = init, []
        for k, begin in enumerate(range(0, time, window)):
            end = min(begin + window, time)
            a, b = (time - end, time - begin) if down else (begin, end)
            state = state.detach() if k else state
            here = np.clip(lengths - a, 0, b - a)
            active = here > 0
            assert not down or active.all()
            new, ys = mg.scan(cell, state, xs[a:b], np.maximum(here, 1), down, mode)
            state = mg.where(active[:, None], new, state)
            parts.append(mg.where(active[None, :, None], ys, 0.0))
        return state, mg.concatenate(parts[::-1] if down else parts)

    want = outcome(by_hand, [w, init, xs], "tape")
    for mode in MODES:
        got = outcome(
            lambda m: mg.scan(cell, init, xs, truncate=window, mode=m, **options),
            [w, init, xs], mode,
        )  # fmt: skip
        for name in want:
            close(name, got[name], want[name], 1e-12)


def test_truncation_leaves_the_values_alone(rng: Any) -> None:
    _, init, xs, cell = problem(rng)
    whole, cut = mg.scan(cell, init, xs), mg.scan(cell, init, xs, truncate=2)
    np.testing.assert_array_equal(whole.ys.numpy(), cut.ys.numpy())
    np.testing.assert_array_equal(whole.final.numpy(), cut.final.numpy())
