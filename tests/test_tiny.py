"""minigrad in one file: each feature once, small, against a known answer. Read this first."""

import numpy as np
import pytest
import reference

import minigrad as mg
from minigrad.kinds import elementwise
from minigrad.op import REGISTRY

T, B, I, H = 5, 2, 3, 7  # steps, batch, inputs, hidden units
F64 = dict(dtype=np.float64)
close = np.testing.assert_allclose


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape)


# -- tensors, the tape, derivatives ----------------------------------------------------------------


def test_a_tensor_is_an_array_that_remembers_how_it_was_computed():
    x, w = mg.tensor([[0.5, -1.0]], requires_grad=True), mg.tensor([[2.0], [1.0]])
    with mg.Tape() as tape:
        mg.tanh(x @ w + 0.5).backward()  # of tanh(0.5)
    close(x.grad.numpy(), (1 - np.tanh(0.5) ** 2) * np.array([[2.0, 1.0]]))
    assert str(tape).split("\n")[3].split()[:2] == ["%2", "tanh"]  # a table of what ran


def test_a_gradient_is_computed_by_ops_and_has_gradients_itself():
    x = mg.tensor(2.0, requires_grad=True)
    first = mg.grad(x**3, x, create_graph=True)
    assert (first.item(), mg.grad(first, x).item()) == (12.0, 12.0)  # 3 x^2, 6 x
    close(mg.jacobian(lambda x: x * x, [1.0, 2.0]).numpy(), np.diag([2.0, 4.0]))
    close(mg.hessian(lambda x: x[0] * x[1], [1.0, 2.0]).numpy(), [[0, 1], [1, 0]])
    mg.gradcheck(mg.softmax, numbers(2, 3))  # against central differences


def test_what_needs_a_gradient_does_not_leave_the_tape_silently():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    assert np.stack([x, x]).requires_grad  # NumPy's function records
    with pytest.raises(mg.GradientError, match="detach"):
        np.asarray(x)
    with mg.no_grad():
        x -= 1.0
    assert x.tolist() == [0.0, 1.0]


def test_an_op_of_your_own_is_an_equation_and_its_derivative():
    @elementwise
    def cube(x):
        """y = x^3."""
        return x * x * x

    @cube.vjp("x")
    def _(g, x):
        return g * (3.0 * x * x)

    mg.gradcheck(cube, numbers(4))
    assert cube(mg.tensor(2.0)).item() == 8.0
    del REGISTRY["cube"]  # the package as it was


# -- recurrent nets --------------------------------------------------------------------------------


def decay(h, x):
    """A cell is (state, x) -> (state, y). In this one a gradient halves at each step."""
    h = mg.tap("h", 0.5 * h + x)
    return h, h


@pytest.mark.parametrize("mode", ["fused", "tape"])  # one compiled loop, or eager operations
def test_a_scan_runs_a_cell_and_its_gradient_goes_back_through_time(mode):
    xs = mg.tensor(np.ones((T, 1, 1)), requires_grad=True)
    final, ys = mg.scan(decay, mg.tensor([[0.0]]), xs, mode=mode)
    close(ys.numpy()[:, 0, 0], [1, 1.5, 1.75, 1.875, 1.9375])
    final.backward()
    close(xs.grad.numpy()[:, 0, 0], 0.5 ** np.arange(T)[::-1])


LAYERS = {
    "RNN": (mg.nn.RNN, reference.rnn_step),
    "LSTM": (mg.nn.LSTM, reference.lstm_step),
    "GRU": (mg.nn.GRU, lambda w, h, x: reference.gru_step(w, h, x, True, "keep")),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_compute_their_equations_in_both_directions_and_skip_padding(name):
    make, step = LAYERS[name]
    layer = make(I, H, bidirectional=True, **F64)
    xs, lengths = numbers(T, B, I), [T, 3]
    xs[3:, 1] = np.nan  # padding is not read
    ys, _ = layer(xs, lengths=lengths)  # (T, B, 2 H)
    zero = (np.zeros(H),) * 2 if name == "LSTM" else np.zeros(H)
    for way, suffix in enumerate(("_l0", "_l0_reverse")):
        part = layer.state_dict().items()
        weights = {k.removesuffix(suffix): w for k, w in part if k.endswith(suffix)}
        for b, length in enumerate(lengths):
            one = lambda h, x, w=weights: step(w, h, x)  # noqa: E731
            _, states = reference.run(one, zero, xs[:, b], length, way == 1)
            hs = [s[0] if name == "LSTM" else s for s in states[:length]]
            close(ys.numpy()[:length, b, way * H : (way + 1) * H], hs, rtol=0, atol=1e-14)
    assert not ys.numpy()[3:, 1].any()


def test_a_small_net_learns_to_add_up_its_inputs_in_a_jitted_step():
    mg.seed(0)
    net = mg.nn.Sequential(mg.nn.Linear(2, 8, **F64), mg.tanh, mg.nn.Linear(8, 1, **F64))
    optimizer = mg.optim.Adam(net.parameters(), lr=0.05)
    x = numbers(32, 2)

    @mg.jit
    def step(x, y):
        loss = mg.nn.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        mg.optim.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        return loss

    losses = [step(x, x.sum(axis=1, keepdims=True)).item() for _ in range(100)]
    assert (losses[-1] < 0.01 < losses[0], step.replayed) == (True, 98)
    close(mg.nn.cross_entropy(mg.tensor(np.zeros((4, 10))), [0, 1, 2, 3]).item(), np.log(10))


def test_a_recording_says_how_far_the_gradient_reaches_and_draws_it(tmp_path):
    with mg.flow.record() as recording:
        mg.scan(decay, mg.tensor([[0.0]], requires_grad=True), np.ones((20, 1, 1))).final.backward()
    flow = recording[""]
    close(flow.norms["h"], 0.5 ** np.arange(20)[::-1])  # |dL/dh_t|
    assert flow.verdict.kind == "vanishing"
    close((flow.verdict.rate, flow.verdict.half_life), (0.5, 1.0))
    assert mg.flow.draw(recording).save(tmp_path / "net.svg").read_text().startswith("<?xml")


# -- in and out ------------------------------------------------------------------------------------


def test_weights_go_to_a_file_and_to_torch_and_come_back_bit_for_bit(tmp_path):
    lstm, other = mg.nn.LSTM(I, H, **F64), mg.nn.LSTM(I, H, **F64)
    mg.train.save(tmp_path / "lstm.ckpt", {"model": lstm.state_dict()})
    other.load_state_dict(mg.train.load(tmp_path / "lstm.ckpt")["model"])
    for name, w in mg.interop.to_torch_state_dict(other).items():  # names and gates as in torch.nn
        np.testing.assert_array_equal(w, lstm.state_dict()[name])
    xs = numbers(T, B, I)
    np.testing.assert_array_equal(lstm(xs)[0].numpy(), other(xs)[0].numpy())
