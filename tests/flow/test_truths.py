"""What theory says about gradients through time, reproduced with the public API, to the figure.

Nothing here is trained. Sources: Bengio, Simard, Frasconi 1994; Hochreiter and Schmidhuber 1997;
Pascanu, Mikolov, Bengio 2013; Sompolinsky, Crisanti, Sommers 1988; Engelken, Wolf, Abbott 2023;
Arjovsky, Shah, Bengio 2016.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from modes import each_mode

import minigrad as mg
from minigrad import nn

Array = np.ndarray
T = 100


class LinearCell(nn.Module):
    """h_t = W h_{t-1} + x_t."""

    def __init__(self, W: Array):
        self.weight_hh = nn.Parameter(W)

    def forward(self, h: Any, x: Any) -> Any:
        h = mg.tap("h", h @ self.weight_hh.T + x)
        return h, h

    def init_state(self, batch: int) -> Any:
        return mg.tensor(np.zeros((batch, len(self.weight_hh))))


class SigmoidCell(LinearCell):
    """h_t = sigmoid(W h_{t-1} + x_t)."""

    def forward(self, h: Any, x: Any) -> Any:
        h = mg.tap("h", mg.sigmoid(h @ self.weight_hh.T + x))
        return h, h


class TanhCell(LinearCell):
    """h_t = tanh(W h_{t-1} + x_t)."""

    def forward(self, h: Any, x: Any) -> Any:
        h = mg.tap("h", mg.tanh(h @ self.weight_hh.T + x))
        return h, h


def layer(cell: Any, size: int, mode: str) -> nn.Recurrent:
    return nn.Recurrent(lambda _: cell, size, mode=mode)


def recorded(net: nn.Recurrent, xs: Array, w: Array) -> Any:
    """The flow of a loss <w, h_T>."""
    with mg.flow.record() as rec:
        hs, _ = net(xs)
        (hs[-1] * w).sum().backward()
    (flow,) = rec.values()
    return flow


def orthogonal(rng: np.random.Generator, n: int) -> Array:
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


def within(verdict: Any, rate: float) -> bool:
    """Whether the rate lies in the verdict's interval, up to rounding."""
    return bool(verdict.fit.low * (1 - 1e-9) <= rate <= verdict.fit.high * (1 + 1e-9))


# -- linear networks -----------------------------------------------------------------------------


@each_mode
def test_an_orthogonal_linear_rnn_keeps_every_gradient_to_1e_12(
    mode: str, rng: np.random.Generator
) -> None:
    W, w, xs = orthogonal(rng, 7), rng.normal(size=7), rng.normal(size=(T, 1, 7))
    cell = LinearCell(W)
    flow = recorded(layer(cell, 7, mode), xs, w)
    np.testing.assert_allclose(flow.norms["h"], np.linalg.norm(w), rtol=1e-12)
    assert flow.verdict.kind == "healthy"
    assert within(flow.verdict, 1.0)
    J = flow.jacobians()
    np.testing.assert_allclose(J.steps, np.broadcast_to(W, J.steps.shape), atol=1e-15)
    np.testing.assert_allclose(J.log_singular_values(), 0.0, atol=1e-12)
    np.testing.assert_allclose(mg.flow.lyapunov(cell, xs=xs).exponents, 0.0, atol=1e-12)


@each_mode
@pytest.mark.parametrize(
    ("w", "kind"),
    [(0.5, "vanishing"), (0.875, "vanishing"), (1.0, "healthy"), (1.5, "exploding")],
)
def test_a_diagonal_linear_rnn_multiplies_by_exactly_w_a_step(
    w: float, kind: str, mode: str
) -> None:
    cell, xs = LinearCell(w * np.eye(3)), np.ones((T, 1, 3))
    flow = recorded(layer(cell, 3, mode), xs, np.array([1.0, 0.0, 0.0]))
    lags = np.arange(T - 1, -1, -1)
    np.testing.assert_allclose(flow.norms["h"], w**lags, rtol=1e-14)
    assert flow.verdict.kind == kind
    assert within(flow.verdict, w)
    J = flow.jacobians()
    assert (J.steps == w * np.eye(3)).all()
    for k in (1, 7, T):
        np.testing.assert_allclose(J.between(k, 0).value[0], w**k * np.eye(3), rtol=1e-14)
    exponents = mg.flow.lyapunov(cell, xs=xs).exponents
    np.testing.assert_allclose(exponents, np.log(w), atol=1e-14)


# -- when gradients must vanish, and what it takes for them to explode ---------------------------


@each_mode
@pytest.mark.parametrize(("make", "bound"), [(TanhCell, 1.0), (SigmoidCell, 4.0)])
def test_gradients_vanish_for_certain_below_the_bound_on_the_largest_singular_value(
    make: type, bound: float, mode: str, rng: np.random.Generator
) -> None:
    """|J| <= sigma_max(W) times the largest slope: 1 for tanh, 1/4 for sigmoid."""
    W = rng.normal(size=(5, 5))
    W *= 0.9 * bound / np.linalg.norm(W, 2)
    cell, xs = make(W), rng.normal(size=(T, 1, 5))
    flow = recorded(layer(cell, 5, mode), xs, rng.normal(size=5))
    assert flow.verdict.kind == "vanishing"
    assert (flow.norms["h"][:-1] <= 0.9 * flow.norms["h"][1:]).all()
    assert mg.flow.singular_values(cell)["weight_hh"][0] < bound
    assert (flow.jacobians().norms() <= 0.9).all()
    assert mg.flow.lyapunov(cell, xs=xs).largest <= math.log(0.9)


@each_mode
@pytest.mark.parametrize(("make", "bound"), [(TanhCell, 1.0), (SigmoidCell, 4.0)])
def test_gradients_explode_only_above_it(
    make: type, bound: float, mode: str, rng: np.random.Generator
) -> None:
    """Where every unit sits at its steepest point, the bound is reached: J = slope * W."""
    for factor, kind in [(1.0, "healthy"), (1.2, "exploding")]:
        W = factor * bound * orthogonal(rng, 5)
        cell = make(W)
        rest = 0.5 if make is SigmoidCell else 0.0
        xs = np.broadcast_to(-W @ np.full(5, rest), (T, 1, 5)).copy()
        net = layer(cell, 5, mode)
        with mg.flow.record() as rec:
            hs, _ = net(xs, mg.tensor(np.full((1, 1, 5), rest)))
            (hs[-1] * rng.normal(size=5)).sum().backward()
        verdict = rec.verdict
        assert verdict.kind == kind
        assert within(verdict, factor) or verdict.rate == pytest.approx(factor, rel=1e-6)
        assert (mg.flow.singular_values(cell)["weight_hh"] >= bound * (1 - 1e-12)).all()


# -- the LSTM ------------------------------------------------------------------------------------


@each_mode
@pytest.mark.parametrize(
    ("bias", "left", "kind"),
    [
        (0.0, 7.9e-31, "vanishing"),
        (1.0, 2.5e-14, "vanishing"),
        (2.0, 3.1e-6, "vanishing"),
        (5.0, 0.51, "healthy"),
    ],
)
def test_a_saturated_lstm_keeps_the_product_of_its_forget_gates(
    bias: float, left: float, kind: str, mode: str
) -> None:
    lstm = nn.LSTM(1, 3, dtype=np.float64, mode=mode)
    for parameter in lstm.parameters():
        parameter.data = np.zeros(parameter.shape)
    lstm.bias_ih_l0.data = np.repeat([0.0, bias, 0.0, 0.0], 3)
    with mg.flow.record() as rec:
        _, (_, c_n) = lstm(np.zeros((T + 1, 1, 1)))
        c_n.sum().backward()
    flow = rec["lstm/l0/fwd"]
    gate = 1 / (1 + math.exp(-bias))
    c = flow.norms["c"]
    assert c[0] / c[-1] == pytest.approx(gate**T, rel=1e-12)
    assert c[0] / c[-1] == pytest.approx(left, rel=0.02)
    assert flow.verdicts["c"].kind == kind
    assert within(flow.verdicts["c"], gate)
    product = flow.jacobians().between(T, 0, of="c", wrt="c").value[0]
    np.testing.assert_allclose(product, gate**T * np.eye(3), rtol=1e-12)
    assert mg.flow.lyapunov(lstm, xs=np.zeros((T, 1, 1))).largest == pytest.approx(math.log(gate))


# -- Lyapunov exponents --------------------------------------------------------------------------


@each_mode
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_gradients_decay_at_the_rate_of_the_largest_lyapunov_exponent(
    kind: type, mode: str, rng: np.random.Generator
) -> None:
    """The slope of log |dS_T/dS_t| over t, from a profile that judge() reads, is lambda_1."""
    steps = 400
    net = kind(2, 8, dtype=np.float64, generator=rng, mode=mode)
    xs = rng.normal(size=(steps, 1, 2))
    exponent = mg.flow.lyapunov(net, xs=xs, warmup=50)
    with mg.flow.record() as rec:
        hs, _ = net(xs)
        hs[-1].sum().backward()
    (flow,) = rec.values()
    norm = mg.flow.jacobians(net, xs=xs).between(steps, 50).log_norm[0]
    assert norm / (steps - 50) == pytest.approx(exponent.largest, abs=0.015)
    assert math.log(flow.verdict.rate) == pytest.approx(exponent.largest, abs=0.03)
    assert flow.verdict.kind == "vanishing"


@pytest.mark.parametrize("g", [0.8, 2.0])
def test_the_slope_of_a_long_product_is_the_largest_exponent(g: float) -> None:
    cell, h = random_network(40, g, seed=1)
    steps = 1000
    J = mg.flow.jacobians(cell, h, steps=steps)
    times = np.arange(200, steps + 1, 100)
    logs = [J.between(t, 0).log_norm[0] for t in times]
    exponent = mg.flow.lyapunov(cell, h, steps=steps).largest
    assert np.polyfit(times, logs, 1)[0] == pytest.approx(exponent, abs=5e-3)
    values = J.log_singular_values()[0] / steps
    assert values[0] == pytest.approx(exponent, abs=0.02)


def random_network(N: int, g: float, seed: int, rows: int = 1) -> tuple[Any, Any]:
    """h <- g W tanh(h), W ~ N(0, 1/N), and first states ~ N(0, 1)."""
    rng = np.random.default_rng(seed)
    W = mg.tensor((g * rng.normal(size=(N, N)) / np.sqrt(N)).T)
    return (lambda h, x: (mg.tanh(h) @ W, h)), mg.tensor(rng.normal(size=(rows, N)))


# g -> lambda_max at N = 100 after 600 steps, and how far other networks drawn alike lie from it: up
# to g = 1.1 they differ in their spectral radius by 0.03 (one standard deviation), at g = 2 by 0.02
# in when they turn chaotic. Of one network, other first states move it by 0.01 at most.
TABLE = {
    0.5: (-0.66, 0.08),
    0.8: (-0.19, 0.08),
    0.9: (-0.07, 0.08),
    1.0: (-0.02, 0.08),
    1.1: (0.00, 0.08),
    1.5: (0.04, 0.06),
    2.0: (0.14, 0.09),
    3.0: (0.30, 0.045),
}


@pytest.mark.parametrize("g", list(TABLE))
def test_random_networks_turn_chaotic_at_g_1(g: float) -> None:
    """The first of three networks has the published figures to 0.02; the others are near."""
    figure, spread = TABLE[g]
    found = []
    for seed in range(3):
        cell, h = random_network(100, g, seed, rows=4)
        found.append(mg.flow.lyapunov(cell, h, steps=600, k=1).largest)
    assert found[0] == pytest.approx(figure, abs=0.02)
    assert found == pytest.approx([figure] * 3, abs=spread)
    assert max(found) < 0.01 if g <= 1.1 else max(found) > 0.02


@pytest.mark.parametrize("g", [0.5, 0.8])
def test_below_g_1_the_largest_exponent_is_the_log_of_the_spectral_radius(g: float) -> None:
    """The state dies out, and J becomes g W."""
    N = 100
    cell, h = random_network(N, g, seed=0)
    W = np.random.default_rng(0).normal(size=(N, N)) / np.sqrt(N)
    radius = mg.flow.spectral_radius(g * W)
    assert radius == pytest.approx(np.abs(np.linalg.eigvals(g * W)).max())
    found = mg.flow.lyapunov(cell, h, steps=1500, k=1, warmup=500).largest
    assert found == pytest.approx(math.log(radius), abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("N", "figure", "spread"), [(50, 0.23, 0.08), (100, 0.29, 0.05), (200, 0.28, 0.03)]
)
def test_the_dimension_of_chaos_grows_with_the_network(
    N: int, figure: float, spread: float
) -> None:
    """Networks of 50 units drawn alike have 0.23 to 0.30; larger ones differ less."""
    cell, h = random_network(N, 3.0, seed=0)
    found = mg.flow.lyapunov(cell, h, steps=600)
    assert found.dimension / N == pytest.approx(figure, abs=spread)
    assert found.largest > 0
    assert found.entropy_rate > found.largest
    assert found.exponents.shape == (N,)


# -- truncated BPTT ------------------------------------------------------------------------------


@each_mode
@pytest.mark.parametrize("window", [1, 3, 7, 20])
def test_truncated_bptt_is_the_sum_of_the_kept_lags(
    window: int, mode: str, rng: np.random.Generator
) -> None:
    """h_t = w h_{t-1} + x_t, L = h_T: dL/dw = sum over lags k of w^k h_{T-1-k}, cut off."""
    steps, w = 20, 0.8
    xs = rng.normal(size=(steps, 1, 1))
    h = [0.0]
    for x in xs[:, 0, 0]:
        h.append(w * h[-1] + x)
    terms = np.array([w**k * h[steps - 1 - k] for k in range(steps)])
    kept = (steps - 1) % window + 1  # steps in the last window, where the loss is

    cell = LinearCell(np.array([[w]]))
    final, _ = mg.scan(cell, cell.init_state(1), mg.tensor(xs), mode=mode, truncate=window)
    final.sum().backward()
    assert cell.weight_hh.grad.item() == pytest.approx(terms[:kept].sum(), rel=1e-12)

    flow = recorded(layer(LinearCell(np.array([[w]])), 1, mode), xs, np.ones(1))
    (by_lag,) = flow.weight_terms("lag").values()
    np.testing.assert_allclose(by_lag.ravel(), terms, rtol=1e-12)


# -- baselines of two tasks ----------------------------------------------------------------------


def test_the_adding_problem_without_memory_leaves_a_sixth() -> None:
    """Two numbers uniform in 0 .. 1, summed: who remembers none of them says 1; the variance."""
    sums = np.random.default_rng(0).uniform(size=(400_000, 2)).sum(axis=1)
    error = nn.mse_loss(mg.tensor(np.ones(sums.shape)), mg.tensor(sums)).item()
    assert error == pytest.approx(1 / 6, abs=4 * np.std((sums - 1) ** 2) / math.sqrt(len(sums)))
    worse = nn.mse_loss(mg.tensor(np.full(sums.shape, 0.9)), mg.tensor(sums)).item()
    assert worse == pytest.approx(1 / 6 + 0.01, abs=2e-3)


@pytest.mark.parametrize(("wait", "figure"), [(100, 0.1733), (500, 0.0400), (1000, 0.0204)])
def test_copying_without_memory_costs_10_ln_8_over_t_plus_20(wait: int, figure: float) -> None:
    """10 symbols of 8, T steps later: the blanks are certain, the symbols anyone's guess."""
    steps, rng = wait + 20, np.random.default_rng(0)
    targets = np.zeros((steps, 4), dtype=np.int64)  # 0 is the blank
    targets[-10:] = rng.integers(1, 9, (10, 4))
    logits = np.full((steps, 4, 9), -1e3)
    logits[:-10, :, 0] = 0.0
    logits[-10:, :, 1:] = 0.0
    found = nn.cross_entropy(mg.tensor(logits), targets).item()
    assert found == pytest.approx(10 * math.log(8) / (wait + 20), rel=1e-12)
    assert found == pytest.approx(figure, abs=5e-5)
