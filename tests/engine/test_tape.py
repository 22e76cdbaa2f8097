"""The tape: what is recorded, shown, kept and let go."""

import gc
import threading
import weakref

import numpy as np
import pytest

import minigrad as mg


def leaf(*values, name=""):
    return mg.tensor(list(values), requires_grad=True, name=name)


def test_a_printed_tape_shows_every_column():
    x, w = (
        mg.tensor(np.ones((2, 3)), name="x"),
        mg.tensor(np.ones((3, 1)), requires_grad=True, name="w"),
    )
    with mg.Tape() as tape:
        with mg.scope("rnn"), mg.scope("t=0"):
            h = mg.tanh(x @ w + 0.5)
        h.sum(axis=0)
    rows = str(tape).splitlines()
    assert rows[0].split() == ["#", "op", "inputs", "shape", "dtype", "scope", "kept"]
    assert rows[1].split() == ["%0", "matmul", "x,", "w", "2x1", "float64", "rnn/t=0", "48", "B"]
    assert rows[2].split() == ["%1", "add", "%0,", "0.5", "2x1", "float64", "rnn/t=0", "-"]
    assert rows[3].split() == ["%2", "tanh", "%1", "2x1", "float64", "rnn/t=0", "16", "B"]
    assert "axis=(0,)" in rows[4]
    assert rows[5] == "4 operations; 64 B kept for backward"


def test_a_tape_holds_values_and_gradients_and_constants_too():
    x = leaf(1.0, 2.0)
    with mg.Tape() as tape:
        constant = mg.exp(mg.tensor([0.0, 1.0]))
        y = (x * constant).sum()
    assert [n.op.name for n in tape.nodes] == ["exp", "multiply", "sum"]
    assert not constant.requires_grad
    assert tape.gradient(tape.nodes[2]) is None
    y.backward()
    np.testing.assert_allclose(tape.value(tape.nodes[1]), x.numpy() * np.exp([0, 1]), rtol=1e-15)
    np.testing.assert_array_equal(tape.gradient(tape.nodes[1]), [1, 1])
    assert tape.gradient(tape.nodes[0]) is None, "no gradient flows to a constant"
    assert "multiply" in str(tape), "a tape can be printed after backward has freed what was kept"


def test_a_second_tape_inside_a_tape_is_refused():
    with mg.Tape(), pytest.raises(mg.MinigradError, match="another Tape is active"), mg.Tape():
        pass


def test_only_what_a_rule_names_is_kept():
    x, y = leaf(1.0, 2.0), mg.tensor([3.0, 4.0])
    with mg.Tape() as tape:
        a = x * y  # keeps y, as x needs a gradient, but not x
        b = a + 1.0
        mg.tanh(b)
    kept = [n.nbytes for n in tape.nodes]
    assert kept == [16, 0, 16]


def test_nothing_is_recorded_without_a_need():
    x = leaf(1.0)
    with mg.no_grad():
        y = x * 2.0
    assert not y.requires_grad
    assert y._node is None
    assert not (mg.tensor([1.0]) * 2.0).requires_grad
    assert not (x > 0).requires_grad
    assert not x.detach().requires_grad


def test_scopes_nest_and_end():
    with mg.scope("lstm"):
        with mg.scope("t=3"):
            y = leaf(1.0) * 2.0
        z = y * 2.0
    assert (y._node.scope, z._node.scope, (z * 2.0)._node.scope) == ("lstm/t=3", "lstm", "")


def test_a_loop_that_never_calls_backward_does_not_leak():
    x = leaf(1.0)
    gc.disable()  # reference counting alone must do it
    try:
        y = x * 2.0
        first = weakref.ref(y._node)
        for _ in range(10):
            y = mg.tanh(leaf(1.0) * 2.0)
        assert first() is None
    finally:
        gc.enable()


def test_backward_frees_what_was_kept_as_it_walks():
    x = leaf(*np.linspace(-1, 1, 1000))
    seen = []
    a = mg.exp(x)
    kept = weakref.ref(a._node._saved[0])
    b = mg.exp(a)
    b_saved = weakref.ref(b._node._saved[0])
    a.register_hook(lambda g: seen.append(b_saved() is None))
    loss = b.sum()
    del a, b
    loss.backward()
    assert seen == [True], "what the second exp kept is gone when the walk reaches the first"
    assert kept() is None


@pytest.mark.slow
def test_long_chains_need_no_recursion():
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.backward()
    assert x.grad.item() == 1.0
    for _ in range(100_000):
        y = y * 1.0
    del y  # freeing a long record must not recurse either


def test_hooks_see_and_replace_gradients_and_can_be_removed():
    x = leaf(1.0, 2.0)
    seen = []
    x.register_hook(lambda g: seen.append(("x", g.numpy().tolist())))
    y = x * 3.0
    handle = y.register_hook(lambda g: g * 10.0)
    y.sum().backward(retain_graph=True)
    assert seen == [("x", [30.0, 30.0])]
    handle.remove()
    x.grad = None
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [3, 3])
    with pytest.raises(mg.GradientError, match="needs no gradient"):
        mg.tensor([1.0]).register_hook(print)


def test_a_hook_that_returns_another_shape_is_refused():
    x = leaf(1.0, 2.0)
    x.register_hook(lambda g: mg.tensor([1.0]))
    with pytest.raises(
        mg.ShapeError, match=r"hook: returned float64\[1\] for a gradient of float64\[2\]"
    ):
        (x * 1.0).sum().backward()


def test_retain_grad_keeps_the_gradient_of_a_computed_tensor():
    x = leaf(2.0)
    y = (x * x).retain_grad()
    (y * 3.0).sum().backward()
    assert y.grad.item() == 3.0
    assert x.grad.item() == 12.0


@pytest.mark.filterwarnings("ignore")
def test_anomaly_mode_names_the_op_and_scope_that_made_the_first_nan():
    x = mg.tensor([1.0, -1.0], requires_grad=True)
    with mg.detect_anomaly(), mg.scope("head"):
        with pytest.raises(
            mg.NumericalError, match=r"forward pass of log, scope head produced nan at index \[1\]"
        ):
            mg.exp(mg.log(x))
        zero = mg.tensor([0.0], requires_grad=True)
        y = mg.sqrt(zero) * 1.0
        with pytest.raises(
            mg.NumericalError, match=r"backward pass of sqrt at position \d+, scope head .*inf"
        ):
            y.sum().backward()
    mg.log(x)  # outside, NaN passes silently as in NumPy


def test_taps_reach_the_listener_with_their_scope():
    heard = []
    h = mg.tensor([1.0])
    assert mg.tap("h", h) is h
    with mg.listen(lambda name, t, scope: heard.append((name, t, scope))), mg.scope("rnn/t=1"):
        mg.tap("h", h)
    mg.tap("h", h)
    assert heard == [("h", h, "rnn/t=1")]


def test_each_python_thread_records_for_itself():
    results = {}

    def work(k):
        with mg.scope(f"thread{k}"), mg.Tape() as tape:
            x = mg.tensor(float(k), requires_grad=True)
            y = x
            for _ in range(50):
                y = y * 1.5 + x
            y.backward()
        results[k] = (x.grad.item(), {n.scope for n in tape.nodes}, len(tape))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    with mg.no_grad():  # this thread's switch is not theirs
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    slope = 1.0
    for _ in range(50):
        slope = slope * 1.5 + 1.0
    for k in range(4):
        assert results[k] == (pytest.approx(slope, rel=1e-12), {f"thread{k}"}, 100)
