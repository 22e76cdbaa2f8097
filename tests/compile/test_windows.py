"""truncate= and checkpoint=: what gradients they keep, and how much memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from compile.agree import assert_agree, close, outcome

import minigrad as mg
from minigrad import nn
from minigrad.tree import leaves, map_leaves

F64 = np.float64
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


# -- checkpoints -----------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 2, 3, 7, 9])
@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"lengths": (7, 4)}])
def test_checkpoints_change_no_result_and_no_gradient(every: int, options: Any, rng: Any) -> None:
    w, init, xs, cell = problem(rng)
    inputs = [w, init, xs]
    want = outcome(lambda m: mg.scan(cell, init, xs, mode=m, **options), inputs, "tape")
    for mode in MODES:
        got = outcome(
            lambda m: mg.scan(cell, init, xs, checkpoint=every, mode=m, **options), inputs, mode
        )
        for name in want:
            close(name, got[name], want[name], 1e-12)


def test_checkpoints_of_an_lstm_with_an_embedding_and_a_loss_on_a_part(rng: Any) -> None:
    cell = nn.LSTMCell(3, 4, dtype=F64, generator=rng)
    table = nn.Embedding(5, 3, dtype=F64, generator=rng)
    tokens = mg.tensor(rng.integers(0, 5, (6, 2)))
    scale = mg.tensor(rng.normal(size=3), requires_grad=True)
    inputs = [*cell.parameters(), *table.parameters(), scale]

    def run(part: str, **options: Any) -> Any:
        def step(state: Any, x: Any) -> Any:
            return cell(state, table(x) * scale)

        (h, c), ys = mg.scan(step, cell.init_state(2), tokens, **options)
        return {"h": (h,), "c": (c,), "ys": (ys[:3],)}[part]

    for part in ("h", "c", "ys"):
        want = outcome(lambda m, part=part: run(part, mode=m), inputs, "tape")
        got = outcome(lambda m, part=part: run(part, mode=m, checkpoint=4), inputs, "fused")
        for name in want:
            close(name, got[name], want[name], 1e-12)


def test_checkpoints_inside_windows(rng: Any) -> None:
    w, init, xs, cell = problem(rng)
    assert_agree(
        lambda mode: mg.scan(cell, init, xs, mode=mode, truncate=4, checkpoint=2),
        [w, init, xs], F64,
    )  # fmt: skip


def test_weights_that_are_computed_get_their_gradient_through_checkpoints(rng: Any) -> None:
    a = mg.tensor(rng.normal(size=(3, 3)), requires_grad=True, name="a")
    init = mg.tensor(rng.normal(size=(2, 3)), requires_grad=True)
    xs = rng.normal(size=(5, 2, 3))

    def run(mode: str) -> Any:
        w, context = mg.tanh(a @ a), init * 2.0  # made before the scan
        return mg.scan(
            lambda h, x: (mg.tanh(h @ w + x + context), h @ a.T), init, xs, mode=mode, checkpoint=2
        )

    assert_agree(run, [a, init], F64)
    plain = mg.scan(lambda h, x: (mg.tanh(h @ mg.tanh(a @ a) + x + init * 2.0), h @ a.T), init, xs)
    a.grad = None
    plain.ys.sum().backward()
    want = a.grad.numpy()
    a.grad = None
    run("fused")[1].sum().backward()
    close("a", a.grad.numpy(), want, 1e-12)


def test_a_second_derivative_through_checkpoints_is_refused(rng: Any) -> None:
    w, init, xs, cell = problem(rng)
    _, ys = mg.scan(cell, init, xs, checkpoint=2)
    with pytest.raises(mg.errors.GradientError, match=r"second derivative.*mode='tape'"):
        mg.grad(ys.sum(), [w], create_graph=True)


def kept_bytes(t: Any, given: Any) -> int:
    """What the node of the scan keeps for BPTT, each piece of memory once, less what was given."""
    node = t._node.inputs[0]
    owners: dict[int, int] = {}
    for array in node._saved:
        while isinstance(array.base, np.ndarray):
            array = array.base
        if not any(np.may_share_memory(array, g.numpy()) for g in given):
            owners[id(array)] = array.nbytes
    return sum(owners.values())


def test_the_memory_that_is_kept_grows_as_the_square_root_of_the_steps() -> None:
    h = np.zeros((2, 16))
    params = [mg.tensor(np.full((16, 16), 0.01), requires_grad=True) for _ in range(2)]

    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        a = mg.tanh(h @ params[0] + x)
        b = mg.sigmoid(a @ params[1])
        return a * b, None

    kept: dict[int, int] = {}
    for time in (100, 400, 1600):
        xs = mg.tensor(np.zeros((time, 2, 16)))
        given = [*params, xs]
        every = math.isqrt(time)
        final = mg.scan(cell, h, xs, checkpoint=every).final
        segment = mg.scan(cell, h, xs[:every]).final  # what one segment keeps while it is worked on
        kept[time] = kept_bytes(final, given) + kept_bytes(segment, given)
        assert kept_bytes(mg.scan(cell, h, xs).final, given) > every / 4 * kept[time]
    assert kept[400] == pytest.approx(2 * kept[100], rel=0.15)
    assert kept[1600] == pytest.approx(2 * kept[400], rel=0.15)


def test_any_state_may_be_checkpointed(rng: Any) -> None:
    init = {"a": mg.tensor(rng.normal(size=(2, 3)), requires_grad=True),
            "b": (mg.tensor(rng.normal(size=2), requires_grad=True),)}  # fmt: skip
    xs = mg.tensor(rng.normal(size=(5, 2, 3)), requires_grad=True)

    def cell(s: Any, x: Any) -> tuple[Any, Any]:
        a, (b,) = s["a"], s["b"]
        return {"a": mg.tanh(a * x), "b": (b + (a * x).sum(1),)}, {"y": a + b[:, None]}

    inputs = [*leaves(init), xs]
    want = outcome(lambda m: mg.scan(cell, init, xs, mode=m), inputs, "tape")
    got = outcome(lambda m: mg.scan(cell, init, xs, mode=m, checkpoint=2), inputs, "fused")
    for name in want:
        close(name, got[name], want[name], 1e-12)
    final, ys = mg.scan(cell, map_leaves(lambda t: t.detach(), init), xs.detach(), checkpoint=2)
    assert not any(t.requires_grad for t in leaves((final, ys)))
