"""Cuts through time and depth, against NumPy: products of the Jacobians of one whole step.

The reference knows one function, step(S, x) -> (S, y) with S the state of all layers as one vector.
Its Jacobians come from a complex step (f(x + ih) = f(x) + ih f'(x), exact to the last digit), and

    dL/dS_{t-1} = (dS_t/dS_{t-1})^T dL/dS_t

with the parts of S as independent coordinates, which is what a cut is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.flow.apart import HOW_TO_TELL
from minigrad.flow.cuts import Measured, aligned

Array = np.ndarray
Step = Callable[[Array, Array], tuple[Array, Array]]
each_mode = pytest.mark.parametrize("mode", ["fused", "tape"])


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def rnn_step(layer: nn.RNN, k: int) -> Step:
    def step(s: Array, x: Array) -> tuple[Array, Array]:
        a = x @ weights["weight_ih"].T + weights["bias_ih"] + weights["bias_hh"]
        h = np.tanh(a + s @ weights["weight_hh"].T)
        return h, h

    weights = of(layer, k)
    return step


def lstm_step(layer: nn.LSTM, k: int) -> Step:
    def step(s: Array, x: Array) -> tuple[Array, Array]:
        h, c = np.split(s, 2)
        a = x @ weights["weight_ih"].T + weights["bias_ih"] + weights["bias_hh"]
        i, f, g, o = np.split(a + h @ weights["weight_hh"].T, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        return np.concatenate([h, c]), h

    weights = of(layer, k)
    return step


def of(layer: Any, k: int) -> dict[str, Array]:
    return {
        name: getattr(layer, f"{name}_l{k}").numpy()
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }


def stacked(steps: list[Step], size: int) -> Step:
    """All layers as one step; size: of the state of each."""

    def step(s: Array, x: Array) -> tuple[Array, Array]:
        new = []
        for k, one in enumerate(steps):
            part, x = one(s[k * size : (k + 1) * size], x)
            new.append(part)
        return np.concatenate(new), x

    return step


def whole(layer: Any) -> tuple[Step, int]:
    one = lstm_step if isinstance(layer, nn.LSTM) else rnn_step
    size = layer.cells[0].hidden_size * (2 if isinstance(layer, nn.LSTM) else 1)
    return stacked([one(layer, k) for k in range(layer.num_layers)], size), size * layer.num_layers


def jacobian(f: Callable[[Array], Array], at: Array) -> Array:
    columns = [f(at + 1e-30j * e).imag / 1e-30 for e in np.eye(len(at))]
    return np.stack(columns, axis=1)


def carried(step: Step, n: int, xs: Array, read: Callable[[Array, Array], Any]) -> Array:
    """dL/dS_t by lag, (T, n), of L = read(S_T, y_T) after xs (T, I), S_0 = 0."""
    states = [np.zeros(n)]
    for x in xs[:-1]:
        states.append(step(states[-1], x)[0])
    last, _ = step(states[-1], xs[-1])

    def loss_of(s: Array) -> Array:  # the output that is read is a function of the last state
        return np.atleast_1d(read(s, s))

    g = jacobian(loss_of, last)[0]
    found = [g]
    for x, s in zip(xs[:0:-1], states[:0:-1], strict=True):
        found.append(g := jacobian(lambda s, x=x: step(s, x)[0], s).T @ g)
    return np.array(found)


def made(kind: str, layers: int = 1, mode: str = "fused", seed: int = 0, size: int = 3) -> Any:
    rng = np.random.default_rng(seed)
    options = dict(num_layers=layers, dtype=np.float64, generator=rng, mode=mode)
    return getattr(nn, kind)(2, size, **options)


def inputs(steps: int, rows: int = 2, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(size=(steps, rows, 2))


def reference(layer: Any, xs: Array, lengths: list[int] | None = None) -> list[Array]:
    """For each row dL/dS by lag, L = the sum of squares of the topmost h at its last step."""
    step, n = whole(layer)
    size = layer.cells[0].hidden_size
    top = slice(n - (2 * size if isinstance(layer, nn.LSTM) else size), None)
    rows = range(xs.shape[1])
    ends = [len(xs)] * len(rows) if lengths is None else lengths
    return [
        carried(step, n, xs[:end, b], lambda s, _: (s[top][:size] ** 2).sum())
        for b, end in zip(rows, ends, strict=True)
    ]


def total(rows: list[Array]) -> Array:
    return np.sqrt(sum((g**2).sum(axis=1) for g in rows))


# -- one stack ------------------------------------------------------------------------------------


@each_mode
@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize(("kind", "layers"), [("RNN", 1), ("LSTM", 1), ("RNN", 3), ("LSTM", 2)])
def test_a_cut_is_the_product_of_jacobians_of_all_layers(
    kind: str, layers: int, steps: int, mode: str
) -> None:
    layer, xs = made(kind, layers, mode), inputs(steps)
    with mg.flow.record() as rec:
        (layer(xs)[0][-1] ** 2).sum().backward()
    (cut,) = rec.cuts
    want = reference(layer, xs)
    np.testing.assert_allclose(cut.profile, total(want), rtol=1e-10)
    np.testing.assert_allclose(
        cut.per_sample, np.sqrt([(g**2).sum(axis=1) for g in want]).T, rtol=1e-10
    )
    squares = sum(g.reshape(steps, -1, 3) ** 2 for g in want).sum(axis=2)
    np.testing.assert_allclose(
        cut.shares, squares / squares.sum(axis=1, keepdims=True), rtol=1e-9, atol=1e-15
    )
    states = ["h", "c"] if kind == "LSTM" else ["h"]
    paths = [f"{kind.lower()}/l{k}/fwd" for k in range(layers)]
    assert cut.labels == [(path, state) for path in paths for state in states]
    assert cut.paths == paths
    assert sum(cut.verdict.path.values()) == pytest.approx(1)


@each_mode
@pytest.mark.parametrize(("kind", "layers"), [("LSTM", 1), ("RNN", 2), ("LSTM", 2)])
def test_a_loss_at_every_step_is_judged_by_its_last_output_through_all_layers(
    kind: str, layers: int, mode: str
) -> None:
    layer, xs = made(kind, layers, mode), inputs(9)
    with mg.flow.record() as rec:
        (layer(xs)[0] ** 2).sum().backward()
    (cut,) = rec.cuts
    np.testing.assert_allclose(cut.profile, total(reference(layer, xs)), rtol=1e-10)
    assert (cut.summed[2:] > cut.profile[2:]).all()
    assert "the last output alone" in cut.verdict.reason


def test_a_layer_of_a_stack_is_judged_by_its_own_last_output() -> None:
    """h_t = h_{t-1}/2 + x_t in each: the layer above reads all steps of the one below."""
    net = nn.RNN(1, 1, num_layers=2, nonlinearity="relu", dtype=np.float64)
    for p in net.parameters():
        p.data = np.zeros(p.shape)
    for k in range(2):
        getattr(net, f"weight_ih_l{k}").data = np.ones((1, 1))
        getattr(net, f"weight_hh_l{k}").data = np.full((1, 1), 0.5)
    with mg.flow.record() as rec:
        net(np.ones((30, 1, 1)))[0][-1].sum().backward()
    lags = np.arange(30)
    for flow in rec.values():
        np.testing.assert_allclose(flow.profile(), 0.5**lags, rtol=1e-12)
    np.testing.assert_allclose(  # but the net's state holds (lag + 1) paths of that length
        rec["rnn/l0/fwd"].norms["h"][::-1], (lags + 1) * 0.5**lags, rtol=1e-12
    )
    np.testing.assert_allclose(rec.cuts[0].profile, np.hypot(1, lags) * 0.5**lags, rtol=1e-12)


def test_the_last_state_and_the_last_output_are_one_loss() -> None:
    layer, xs = made("LSTM"), inputs(8)
    profiles = []
    for read in (lambda ys, h: ys[-1], lambda ys, h: h[0]):
        with mg.flow.record() as rec:
            ys, (h, _) = layer(xs)
            (read(ys, h) ** 2).sum().backward()
        profiles.append(rec.cuts[0].profile)
    np.testing.assert_allclose(*profiles, rtol=1e-12)


def test_with_no_weight_between_states_the_cell_state_carries_everything() -> None:
    lstm = made("LSTM", size=8)
    nn.init.forget_bias_(lstm, 40.0)  # f = 1
    lstm.weight_hh_l0.data = 0 * lstm.weight_hh_l0.numpy()
    with mg.flow.record() as rec:
        _, (h, _) = lstm(0.1 * inputs(40))
        h.mean().backward()
    (cut,) = rec.cuts
    np.testing.assert_allclose(cut.profile[1:], cut.profile[1], rtol=1e-12)
    assert rec.verdict.path == {"h": 0.0, "c": 1.0}
    assert rec.verdict.kind == "healthy"


def test_a_dead_lower_layer_does_not_make_a_net_that_reaches_back_vanish() -> None:
    """h_t = h_{t-1} + x_t above a layer that forgets within a step."""
    net = nn.RNN(3, 3, num_layers=2, nonlinearity="relu", dtype=np.float64)
    for p in net.parameters():
        p.data = np.zeros(p.shape)
    net.weight_ih_l0.data = net.weight_ih_l1.data = net.weight_hh_l1.data = np.eye(3)
    with mg.flow.record() as rec:
        net(np.ones((50, 2, 3)))[0][-1].sum().backward()
    assert rec.verdict.kind == "healthy"
    np.testing.assert_allclose(rec.cuts[0].profile[1:], rec.cuts[0].profile[0], rtol=1e-12)
    assert rec.verdict.path == {"rnn/l0/fwd:h": 0.0, "rnn/l1/fwd:h": 1.0}


def test_each_direction_has_a_cut_along_its_own_states() -> None:
    """Of the forward one: the backward layers' outputs are inputs, and what they read is not."""
    rng = np.random.default_rng(0)
    layer = nn.RNN(2, 3, num_layers=2, bidirectional=True, dtype=np.float64, generator=rng)
    xs = inputs(6, rows=1)
    with mg.flow.record() as rec:
        ys, _ = layer(xs)
        (ys[-1][:, :3] ** 2 + ys[0][:, 3:] ** 2).sum().backward()
    cuts = {cut.name: cut for cut in rec.cuts}
    assert list(cuts) == ["rnn/fwd", "rnn/rev"]
    backward = layer.cells[1]
    h, back = np.zeros(3), []
    for x in xs[::-1, 0]:
        a = x @ backward.weight_ih.numpy().T + backward.both_biases().numpy()
        back.append(h := np.tanh(a + h @ backward.weight_hh.numpy().T))
    lower, upper = rnn_step(layer, 0), rnn_step(layer, 1)

    def step(s: Array, x: Array) -> tuple[Array, Array]:
        first, y = lower(s[:3], x[:2])
        second, y = upper(s[3:], np.concatenate([y, x[2:]]))
        return np.concatenate([first, second]), y

    both = np.concatenate([xs[:, 0], back[::-1]], axis=1)
    want = carried(step, 6, both, lambda s, _: (s[3:] ** 2).sum())
    np.testing.assert_allclose(cuts["rnn/fwd"].profile, total([want]), rtol=1e-10)


# -- padding --------------------------------------------------------------------------------------


@each_mode
@pytest.mark.parametrize("often", [False, True])
@pytest.mark.parametrize("kind", ["RNN", "LSTM"])
def test_rows_are_aligned_at_their_own_last_step(kind: str, often: bool, mode: str) -> None:
    layer, xs, lengths = made(kind, 2, mode), inputs(9, rows=3), [4, 9, 1]
    with mg.flow.record() as rec:
        ys, state = layer(xs, lengths=lengths)
        h = state[0] if kind == "LSTM" else state
        ((ys if often else h[-1]) ** 2).sum().backward()
    (cut,) = rec.cuts
    want = reference(layer, xs, lengths)
    for b, end in enumerate(lengths):
        np.testing.assert_allclose(
            cut.per_sample[:end, b], np.linalg.norm(want[b], axis=1), rtol=1e-10
        )
        assert np.isnan(cut.per_sample[end:, b]).all()


def test_rows_that_end_leave_the_profile_as_the_others_go_on() -> None:
    rnn = nn.RNN(1, 1, dtype=np.float64)
    for p in rnn.parameters():
        p.data = np.zeros(p.shape)
    rnn.weight_hh_l0.data = np.full((1, 1), 0.5)
    for lengths in ([20] + 15 * [3], 15 * [3] + [20]):
        with mg.flow.record() as rec:
            rnn(np.zeros((20, 16, 1)), lengths=lengths)[1].sum().backward()
        (cut,) = rec.cuts
        np.testing.assert_allclose(cut.profile, 4 * 0.5 ** np.arange(20), rtol=1e-12)
        assert rec.verdict.kind == "vanishing"
        assert rec.verdict.rate == pytest.approx(0.5)


def test_a_mask_in_front_and_gaps_are_no_lags() -> None:
    layer, xs = made("RNN"), inputs(8, rows=2)
    mask = np.ones((8, 2), dtype=bool)
    mask[:3, 0] = mask[4, 1] = mask[6, 1] = False
    with mg.flow.record() as rec:
        (layer(xs, mask=mask)[1] ** 2).sum().backward()
    want = [reference(layer, xs[mask[:, b]][:, [b]])[0] for b in range(2)]
    for b, g in enumerate(want):
        got = rec.cuts[0].per_sample[: len(g), b]
        np.testing.assert_allclose(got, np.linalg.norm(g, axis=1), rtol=1e-10)


def test_an_episode_ends_a_row_and_is_no_cut() -> None:
    layer, xs = made("RNN"), inputs(8, rows=2)
    resets = np.zeros((8, 2), dtype=bool)
    resets[3, 0] = resets[6, 1] = True
    with mg.flow.record() as rec:
        (layer(xs, resets=resets)[0][-1] ** 2).sum().backward()
    (cut,) = rec.cuts
    assert np.isnan(cut.per_sample[5:, 0]).all()
    assert np.isnan(cut.per_sample[2:, 1]).all()
    assert (cut.per_sample[:5, 0] > 0).all()
    assert rec.verdict.kind != "cut"


def test_a_gradient_that_is_nan_is_not_a_row_that_ended() -> None:
    parts = np.array([[[np.nan, 1.0], [1.0, np.nan], [1.0, 2.0]]])
    found = aligned(parts, np.array([[True, True], [True, True], [True, False]]))
    np.testing.assert_array_equal(found.there, [[True, True], [True, True], [True, False]])
    np.testing.assert_array_equal(found.parts[0], [[1.0, np.nan], [1.0, 1.0], [np.nan, 0.0]])
    assert np.isnan(found.profile).tolist() == [True, False, True]


# -- runs that go on from one another -----------------------------------------------------------


@each_mode
@pytest.mark.parametrize("often", [False, True])
@pytest.mark.parametrize("size", [1, 4])
def test_windows_that_pass_the_state_on_are_one_axis(size: int, often: bool, mode: str) -> None:
    layer, xs, loss, state = made("LSTM", 2, mode), inputs(8), 0.0, None
    with mg.flow.record() as rec:
        for k in range(0, 8, size):
            ys, state = layer(xs[k : k + size], state)
            loss = loss + (ys**2).sum() if often else (ys[-1] ** 2).sum()
        loss.backward()
    (cut,) = rec.cuts
    np.testing.assert_allclose(cut.profile, total(reference(layer, xs)), rtol=1e-10)
    assert cut.paths == ["lstm/l0/fwd", "lstm/l1/fwd"]


def test_an_encoder_and_a_decoder_are_one_axis() -> None:
    encoder, decoder, xs = made("RNN"), made("RNN", seed=5), inputs(5)
    read = mg.tensor(xs)  # by both, which are not side by side for that
    with mg.flow.record() as rec:
        with mg.scope("encoder"):
            _, h = encoder(read)
        with mg.scope("decoder"):
            ys, _ = decoder(read, h)
        (ys**2).sum().backward()
    (cut,) = rec.cuts
    first, second = rnn_step(encoder, 0), rnn_step(decoder, 0)

    def step(s: Array, x: Array) -> tuple[Array, Array]:
        return (second if x[2] else first)(s, x[:2])

    for b in range(2):
        both = np.concatenate([xs[:, b], xs[:, b]])
        flag = np.repeat([0.0, 1.0], 5)[:, None]
        want = carried(step, 3, np.hstack([both, flag]), lambda s, _: (s**2).sum())
        np.testing.assert_allclose(cut.per_sample[:, b], np.linalg.norm(want, axis=1), rtol=1e-10)
    assert cut.shares[:5, 0].tolist() == [0.0] * 5  # the encoder has no part in the decoder's steps


def fed_back(layer: Any, xs: Array) -> mg.Tensor:
    x, state = mg.tensor(xs[:1]), None
    for _ in range(6):
        x, state = layer(x, state)
    return x


def test_decoding_that_reads_its_own_output_is_one_axis() -> None:
    layer, xs = made("RNN", size=2), inputs(1, rows=1)
    with mg.flow.record() as rec:
        (fed_back(layer, xs) ** 2).sum().backward()
    (cut,) = rec.cuts
    one = rnn_step(layer, 0)
    h, states = xs[0, 0], []
    h = one(np.zeros(2), h)[0]
    for _ in range(5):
        states.append(h)
        h = one(h, h)[0]
    g, want = 2 * h, [np.linalg.norm(2 * h)]
    for s in reversed(states):  # the state comes back by weight_hh and by weight_ih
        g = jacobian(lambda s: one(s, s)[0], s).T @ g
        want.append(np.linalg.norm(g))
    np.testing.assert_allclose(cut.profile, want, rtol=1e-10)


@each_mode
def test_a_detach_between_windows_is_a_cut_of_known_reach(mode: str) -> None:
    w = mg.tensor(np.eye(2), requires_grad=True)

    def cell(h: Any, x: Any) -> Any:
        h = mg.tap("h", h @ w + x)
        return h, h

    xs = mg.tensor(0.1 * inputs(30))
    for truncate in (None, 10):
        with mg.flow.record() as rec:
            h, loss = mg.tensor(np.zeros((2, 2))), 0.0
            if truncate:
                loss = mg.scan(cell, h, xs, mode=mode, truncate=10)[1].sum()
            else:
                for k in range(0, 30, 10):
                    h, ys = mg.scan(cell, h.detach(), xs[k : k + 10], mode=mode)
                    loss = loss + ys.sum()
            loss.backward()
        (cut,) = rec.cuts
        np.testing.assert_allclose(cut.profile, [2.0] * 10 + [0.0] * 20)
        assert (rec.verdict.kind, rec.verdict.reach) == ("cut", 10)
        assert "truncated BPTT" in rec.verdict.reason


@pytest.mark.parametrize(("factor", "kind", "reach"), [(0.5, "cut", 6), (0.1, "vanishing", 4)])
def test_a_window_is_what_ends_a_gradient_that_would_have_gone_on(
    factor: float, kind: str, reach: int
) -> None:
    w = mg.tensor(np.full((1, 1), factor), requires_grad=True)

    def cell(h: Any, x: Any) -> Any:
        h = mg.tap("h", h @ w + x)
        return h, h

    with mg.flow.record() as rec:
        xs = mg.tensor(np.ones((30, 1, 1)))
        mg.scan(cell, mg.tensor(np.zeros((1, 1))), xs, truncate=6)[1].sum().backward()
    assert (rec.verdict.kind, rec.verdict.reach) == (kind, reach)
    assert "truncated BPTT" in rec.verdict.reason


def test_calls_that_have_nothing_to_do_with_each_other_are_axes_of_their_own() -> None:
    layer = made("LSTM")
    with mg.flow.record() as rec:
        (_, (a, _)), (_, (b, _)) = layer(inputs(9)), layer(inputs(4, seed=2))
        ((a - b) ** 2).sum().backward()
    assert [len(cut.profile) for cut in rec.cuts] == [9, 4]


def test_layers_side_by_side_on_one_input_are_one_state() -> None:
    """One forgets at once; the other keeps everything, so the net does."""
    x, kept = mg.tensor(np.ones((40, 2, 3))), {}
    for name, keep in (("forgets", 0.0), ("keeps", 1.0)):
        layer = kept[name] = nn.RNN(3, 3, nonlinearity="relu", dtype=np.float64)
        for p in layer.parameters():
            p.data = np.zeros(p.shape)
        layer.weight_ih_l0.data, layer.weight_hh_l0.data = np.eye(3), keep * np.eye(3)
    with mg.flow.record() as rec:
        both = []
        for name, layer in kept.items():
            with mg.scope(name):
                both.append(layer(x)[0][-1])
        mg.concatenate(both, axis=1).sum().backward()
    (cut,) = rec.cuts
    assert (rec.verdict.kind, len(cut.labels)) == ("healthy", 2)
    assert rec.verdict.path == {"forgets/rnn/l0/fwd:h": 0.0, "keeps/rnn/l0/fwd:h": 1.0}


# -- what lies between layers ---------------------------------------------------------------------


class Between(nn.Module):
    """Two layers with a residual, a norm, a product and a nonlinearity between them."""

    def __init__(self, mode: str):
        rng = np.random.default_rng(0)
        options: Any = dict(dtype=np.float64, generator=rng, mode=mode)
        self.embed = nn.Linear(2, 4, dtype=np.float64, generator=rng)
        self.lower, self.upper = nn.LSTM(4, 4, **options), nn.GRU(4, 4, **options)
        self.norm, self.head = nn.LayerNorm(4, dtype=np.float64), nn.Linear(4, 4, dtype=np.float64)

    def forward(self, xs: Any) -> mg.Tensor:
        x = self.embed(xs)
        y = self.norm(x + self.lower(x)[0])
        return x + self.upper(mg.tanh(self.head(y)) * y)[0]


@each_mode
def test_the_last_output_alone_is_walked_through_whatever_lies_between(mode: str) -> None:
    """The same as a loss that does read nothing else; weights edited since then do no harm."""
    net, xs = Between(mode), mg.tensor(inputs(7))
    with mg.flow.record() as once:
        (net(xs)[-1] ** 2).sum().backward()
    with mg.flow.record() as rec:
        (net(xs) ** 2).sum().backward()
    for p in net.parameters():
        p.numpy()
        p.data = p.numpy() * 3
    (want,), (got,) = once.cuts, rec.cuts
    np.testing.assert_allclose(got.profile, want.profile, rtol=1e-10)
    np.testing.assert_allclose(got.shares, want.shares, rtol=1e-8, atol=1e-14)
    assert (got.summed[2:] > got.profile[2:]).all()


def test_a_lower_layer_that_the_loss_reads_too_is_read_at_many_steps() -> None:
    lower, upper, xs = made("RNN", size=2), made("RNN", size=2, seed=3), inputs(8)
    with mg.flow.record() as rec:
        ys, _ = lower(xs)
        zs, _ = upper(ys)
        ((ys**2).sum() + (zs[-1] ** 2).sum()).backward()
    with mg.flow.record() as once:
        ys, _ = lower(xs)
        zs, _ = upper(ys)
        ((ys[-1] ** 2).sum() + (zs[-1] ** 2).sum()).backward()
    np.testing.assert_allclose(rec.cuts[0].profile, once.cuts[0].profile, rtol=1e-9)
    assert (rec.cuts[0].summed[2:] > rec.cuts[0].profile[2:]).all()


def test_an_axis_that_other_axes_read_is_judged_by_what_they_read() -> None:
    """The loss reads a forward layer; below it runs a layer in both directions."""
    layer = nn.RNN(2, 3, bidirectional=True, dtype=np.float64, generator=np.random.default_rng(0))
    top = nn.RNN(6, 3, dtype=np.float64, generator=np.random.default_rng(1))
    with mg.flow.record() as rec:
        ys, _ = layer(inputs(6))
        (top(ys)[0][-1] ** 2).sum().backward(retain_graph=True)
    ahead, back = rec.cuts
    assert back.paths == ["rnn/l0/rev"]
    assert ahead.verdict.kind != "none"
    assert back.verdict.kind != "none"
    again = mg.tensor(ys.numpy(), requires_grad=True)
    g = mg.grad((top(again)[0][-1] ** 2).sum(), again).numpy()[0, :, 3:]  # what is read last: y_0
    want = [g]
    for y in ys.numpy()[:-1, :, 3:]:
        want.append(g := (g * (1 - y**2)) @ layer.weight_hh_l0_reverse.numpy())
    np.testing.assert_allclose(back.per_sample, np.linalg.norm(want, axis=2), rtol=1e-10)


# -- depth ----------------------------------------------------------------------------------------


@each_mode
@pytest.mark.parametrize(
    ("share", "kind"), [(1e-6, "vanishing"), (1.0, "healthy"), (1e6, "exploding")]
)
def test_what_is_lost_between_two_layers_is_named(share: float, kind: str, mode: str) -> None:
    """h_t = x_t in every layer, so what arrives below is `share` of what arrives above."""
    net = nn.RNN(2, 2, num_layers=4, nonlinearity="relu", dtype=np.float64, mode=mode)
    for p in net.parameters():
        p.data = np.zeros(p.shape)
    for k in range(4):
        getattr(net, f"weight_ih_l{k}").data = np.eye(2) * (share if k == 2 else 1.0)
    with mg.flow.record() as rec:
        net(np.ones((12, 3, 2)))[0].sum().backward()
    assert [(d.upper, d.lower) for d in rec.depth] == [
        ("rnn/l3", "rnn/l2"), ("rnn/l2", "rnn/l1"), ("rnn/l1", "rnn/l0")
    ]  # fmt: skip
    assert [d.ratio for d in rec.depth] == pytest.approx([1, share, 1])
    worst = rec.depth[1].verdict
    assert (worst.kind, worst.where) == (kind, "depth")
    if kind == "vanishing":
        assert "lost in depth, between layer 2 and layer 1" in worst.reason


def test_lost_in_depth_is_the_verdict_of_a_net_that_is_healthy_through_time() -> None:
    net = nn.RNN(2, 2, num_layers=3, nonlinearity="relu", dtype=np.float64)
    for p in net.parameters():
        p.data = np.zeros(p.shape)
    for k in range(3):
        getattr(net, f"weight_ih_l{k}").data = np.eye(2) * (1e-7 if k == 1 else 1.0)
        getattr(net, f"weight_hh_l{k}").data = np.eye(2)
    with mg.flow.record() as rec:
        net(np.ones((12, 3, 2)))[0][-1].sum().backward()
    assert rec.cuts[0].verdict.kind == "healthy"
    assert (rec.verdict.kind, rec.verdict.where) == ("vanishing", "depth")
    assert "between layer 1 and layer 0" in rec.verdict.reason


# -- loops written by hand ------------------------------------------------------------------------


def by_hand(layer: Any, xs: Array, often: bool, taps: str = "hc", scoped: bool = True) -> Any:
    weights = {n: getattr(layer, f"{n}_l0") for n in ("weight_ih", "weight_hh")}
    h = c = mg.tensor(np.zeros((xs.shape[1], 3)))
    loss: Any = 0.0
    lstm = isinstance(layer, nn.LSTM)
    for t, x in enumerate(xs):
        with mg.scope(f"t={t}" if scoped else "loop"):
            a = mg.tensor(x) @ weights["weight_ih"].T + layer.cells[0].both_biases()
            a = a + h @ weights["weight_hh"].T
            if lstm:
                i, f, g, o = mg.split(a, 4, axis=-1)
                c = mg.sigmoid(f) * c + mg.sigmoid(i) * mg.tanh(g)
                c = mg.tap("c", c) if "c" in taps else c
                h = mg.sigmoid(o) * mg.tanh(c)
            else:
                h = mg.tanh(a)
            h = mg.tap("h", h)
        if often or t == len(xs) - 1:
            loss = loss + (h**2).sum()
    loss.backward()


@pytest.mark.parametrize("scoped", [True, False])
@pytest.mark.parametrize("often", [False, True])
@pytest.mark.parametrize("kind", ["RNN", "LSTM"])
def test_a_loop_by_hand_that_taps_its_whole_state_is_told(
    kind: str, often: bool, scoped: bool
) -> None:
    layer, xs = made(kind), inputs(9)
    with mg.flow.record() as rec:
        by_hand(layer, xs, often, scoped=scoped)
    (cut,) = rec.cuts
    np.testing.assert_allclose(cut.profile, total(reference(layer, xs)), rtol=1e-10)
    assert cut.verdict.kind == rec.verdict.kind


def test_a_loop_by_hand_with_a_state_that_is_not_tapped_cannot_be_told() -> None:
    layer, xs = made("LSTM"), inputs(30)
    with mg.flow.record() as rec:
        by_hand(layer, xs, often=True, taps="h")
    assert rec.verdict.kind == "undecided"
    assert "cannot be told from here" in rec.verdict.reason
    assert HOW_TO_TELL in rec.verdict.reason
    assert next(iter(rec.values())).verdict.kind == "undecided"


def test_a_second_backward_pass_over_a_loop_by_hand_cannot_be_told() -> None:
    w, h = mg.tensor(0.5 * np.eye(2), requires_grad=True), mg.tensor(np.ones((1, 2)))
    with mg.flow.record() as rec:
        for t in range(12):
            with mg.scope(f"t={t}"):
                h = mg.tap("h", h @ w)
        h.sum().backward(retain_graph=True)
        h.sum().backward()
    assert rec.verdict.kind == "undecided"
    assert "several backward passes" in rec.verdict.reason


def test_a_loop_by_hand_over_a_memory_that_it_does_not_carry_is_told() -> None:
    """Attention over what was computed before: no way leads through it from step to step."""
    w, v = (mg.tensor(0.5 * np.eye(2), requires_grad=True) for _ in range(2))
    memory, h = mg.tensor(np.ones((5, 2))) @ v, mg.tensor(np.ones((1, 2)))
    with mg.flow.record() as rec:
        loss: Any = 0.0
        for t in range(10):
            with mg.scope(f"t={t}"):
                h = mg.tap("h", h @ w + (mg.softmax(h @ memory.T) @ memory) * 1e-9)
            loss = loss + h.sum()
        loss.backward()
    np.testing.assert_allclose(rec.cuts[0].profile, 2**0.5 * 0.5 ** np.arange(10), rtol=1e-6)


# -- the numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "rows"), [(1, 1), (5, 3)])
def test_nothing_that_arrives_is_no_profile(steps: int, rows: int) -> None:
    zeros = np.zeros((2, steps, rows))
    measured = Measured("x", [("x", "h"), ("x", "c")], zeros, zeros, np.ones((steps, rows), bool))
    cut = measured.cut(mg.flow.Thresholds())
    assert (cut.profile.size, cut.verdict.kind, cut.verdict.path) == (0, "none", {})


def test_norms_neither_underflow_nor_overflow() -> None:
    parts = np.array([[[3e-200], [3e200]], [[4e-200], [4e200]]])
    real = np.ones((2, 1), bool)
    cut = Measured("x", [("x", "h"), ("x", "c")], parts, parts, real).cut(mg.flow.Thresholds())
    np.testing.assert_allclose(cut.profile, [5e200, 5e-200])
    np.testing.assert_allclose(cut.shares, [[0.36, 0.64]] * 2)


def test_a_monitor_has_the_cuts_and_reads_them_back(tmp_path: Any) -> None:
    layer, path = made("RNN", 2), tmp_path / "run.jsonl"
    with mg.flow.Monitor(layer, path, every=1) as monitor:
        for k in range(3):
            with monitor.step(), mg.scope("net"):
                (layer(inputs(12, seed=k))[0][-1] ** 2).sum().backward()
    (cut,) = monitor.history.cuts
    assert cut == "net/rnn/fwd"
    again = mg.flow.read_monitor(path)
    assert again.cuts == [cut]
    got, want = (h.measurements[-1].cuts[cut] for h in (again, monitor.history))
    np.testing.assert_allclose(got.profile, total(reference(layer, inputs(12, seed=2))), rtol=1e-5)
    assert got[:5] == want[:5]
    assert sum(got.path.values()) == pytest.approx(1)
    assert again.measurements[-1].depth[0].kind == "healthy"
    assert cut in again.report()
