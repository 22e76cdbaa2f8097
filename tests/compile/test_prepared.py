"""Prepared calls: what was decided for one call serves another, and only where it still holds.

mode="tape", which prepares nothing, is the oracle throughout.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cells import CELLS, inputs, learned, random_state
from compile.agree import PLAIN, close, wide

import minigrad as mg
from minigrad import nn
from minigrad.compile import recall
from minigrad.compile.prepared import Prepared
from minigrad.tree import leaves

F64 = np.float64
ENOUGH = 5  # calls after which one is had again


def layer_of(kind: str, rng: np.random.Generator, **options: Any) -> Any:
    return getattr(nn, kind)(3, 4, dtype=F64, generator=rng, **options)


def leaf(rng: np.random.Generator, *shape: int) -> mg.Tensor:
    return mg.tensor(rng.normal(size=shape), requires_grad=True)


def gradients(layer: Any, x: mg.Tensor, mode: str) -> list[np.ndarray]:
    """Results, and the gradients of a loss that reads all of them."""
    before, layer.mode = layer.mode, mode
    layer.zero_grad()
    x.grad = None
    output, final = layer(x)
    loss = (output * output).sum()
    for t in leaves(final):
        loss = loss + (t * t * t).sum()
    found = [t.numpy().copy() for t in (output, *leaves(final))]
    if loss.requires_grad:
        loss.backward()
        wanted = [x, *layer.parameters()]
        found += [t.grad.numpy().copy() for t in wanted if t.grad is not None]
    layer.mode = before
    return found


def right(layer: Any, x: mg.Tensor) -> None:
    fused, tape = gradients(layer, x, "fused"), gradients(layer, x, "tape")
    assert len(fused) == len(tape)
    for k, (got, want) in enumerate(zip(fused, tape, strict=True)):
        close(f"result {k}", got, want, 1e-11)


def prepared(layer: Any, rng: np.random.Generator, *shape: int) -> None:
    """Calls the layer until a call is had again."""
    for _ in range(ENOUGH):
        gradients(layer, leaf(rng, *shape), "fused")
    for cell in layer.cells:
        assert recall._NOTED.get(cell), "the cell is asked everything at every call"


# -- for whoever keeps it --------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", wide([False, True], [True]))
@pytest.mark.parametrize(
    "name", wide(["lstm-projected", "gru-before-keep", "lru", "mingru", "attention"], ["lstm"])
)
def test_a_kept_scan_runs_again_on_what_was_written_into_its_inputs(
    name: str, reverse: bool, rng: np.random.Generator
) -> None:
    cell = CELLS[name](3, 4, F64, rng)
    xs, state = inputs(cell, 5, 2, rng), random_state(cell, 2, rng)
    seen: list[Any] = []
    for t in leaves((state, xs)):
        if isinstance(t, mg.Tensor) and t.dtype.kind == "f":
            t.requires_grad_()
    final, ys = mg.scan(cell, state, xs, reverse=reverse)
    node = next(t._node for t in leaves((final, ys)) if t._node is not None).inputs[0]
    run = node._saved.of.run
    arrays = [np.array(a) if a.flags.c_contiguous else a for a in run.inputs]
    compiled = run.at.compiled
    kept = Prepared.of(compiled, arrays, 5, 2, reverse, run.at.needs)
    for _ in range(3):
        for a in arrays:
            if a.dtype.kind == "f" and a.flags.writeable:
                a[...] = rng.normal(size=a.shape)
        for g in kept.output_gradients.values():
            g[...] = rng.normal(size=g.shape)
        kept.forward()
        kept.backward()
        fresh = Prepared.of(compiled, [a.copy("K") for a in arrays], 5, 2, reverse, run.at.needs)
        for k, g in fresh.output_gradients.items():
            g[...] = kept.output_gradients[k]
        fresh.forward()
        fresh.backward()
        for got, want in zip(kept.outputs, fresh.outputs, strict=True):
            np.testing.assert_array_equal(got, want)
        assert kept.input_gradients.keys() == fresh.input_gradients.keys()
        for i, g in kept.input_gradients.items():
            np.testing.assert_array_equal(g, fresh.input_gradients[i])
        seen.append([y.copy() for y in kept.outputs])
    assert not any(np.array_equal(a, b) for a, b in zip(seen[0], seen[2], strict=True))


def test_a_kept_scan_is_the_scan(rng: np.random.Generator) -> None:
    """Against the tape, on other values than those that it was made for."""
    cell = nn.LSTMCell(3, 4, dtype=F64, generator=rng)
    h, c, xs = leaf(rng, 2, 4), leaf(rng, 2, 4), leaf(rng, 5, 2, 3)
    (last, _), _ = mg.scan(cell, nn.LSTMState(h, c), xs)
    run = last._node.inputs[0]._saved.of.run
    arrays = [np.array(a) if a.flags.c_contiguous else a for a in run.inputs]
    kept = Prepared.of(run.at.compiled, arrays, 5, 2, False, run.at.needs)
    names = ["h", "c", "x"]
    for _ in range(3):
        for a in arrays[:3]:
            a[...] = rng.normal(size=a.shape)
        other = [mg.tensor(a, requires_grad=True) for a in arrays[:3]]
        final, ys = mg.scan(cell, nn.LSTMState(*other[:2]), other[2], mode="tape")
        seeds = [rng.normal(size=t.shape) for t in (*final, ys)]
        for p in cell.parameters():
            p.grad = None
        sum((t * g).sum() for t, g in zip((*final, ys), seeds, strict=True)).backward()
        kept.forward()
        for k, g in enumerate(seeds):
            kept.output_gradients[k][...] = g
        kept.backward()
        for k, t in enumerate((*final, ys)):
            close(f"output {k}", kept.outputs[k], t.numpy(), 1e-12)
        for i, (name, t) in enumerate(zip(names, other, strict=True)):
            close(name, kept.input_gradients[i], t.grad.numpy(), 1e-11)
        sums = [g for i, g in kept.input_gradients.items() if i > 2]
        weights = {g.shape: g for g in sums}
        close("W_ih", weights[3, 16].T, cell.weight_ih.grad.numpy(), 1e-11)
        close("b", weights[16,], cell.bias_ih.grad.numpy(), 1e-11)


# -- nothing outlives its conditions ---------------------------------------------------------------


def other_sizes(layer: Any, rng: Any) -> tuple[int, ...]:
    return 4, 5, 3


def one_step(layer: Any, rng: Any) -> tuple[int, ...]:
    return 1, 2, 3


def new_values(layer: Any, rng: Any) -> None:
    for p in layer.parameters():
        p.data = rng.normal(size=p.shape)


def edited(layer: Any, rng: Any) -> None:
    with mg.no_grad():
        for p in layer.parameters():
            p[...] = p * 0.5 + 0.1


def written_by_numpy(layer: Any, rng: Any) -> None:
    for p in layer.parameters():
        p.data[...] = rng.normal(size=p.shape)


def optimised(layer: Any, rng: Any) -> None:
    optimizer = mg.optim.SGD(layer.parameters(), lr=0.1)
    gradients(layer, leaf(rng, 3, 2, 3), "fused")
    optimizer.step()


def replaced(layer: Any, rng: Any) -> None:
    layer.cells[0].weight_hh = nn.Parameter(rng.normal(size=layer.cells[0].weight_hh.shape))


def frozen(layer: Any, rng: Any) -> None:
    layer.cells[0].weight_ih.requires_grad_(False)


def without_bias(layer: Any, rng: Any) -> None:
    layer.cells[0].bias_ih = layer.cells[0].bias_hh = None


def another_cell(layer: Any, rng: Any) -> None:
    layer.cells[0] = type(layer.cells[0])(3, 4, dtype=F64, generator=rng)


def one_thread(layer: Any, rng: Any) -> None:
    mg.set_num_threads(1)


def shared(layer: Any, rng: Any) -> None:
    cell = layer.cells[0]
    cell.bias_hh = cell.bias_ih


CHANGES = [
    other_sizes, one_step, new_values, edited, written_by_numpy, optimised, replaced, frozen,
    without_bias, another_cell, one_thread, shared,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", wide(["LSTM", "GRU", "RNN"], ["LSTM"]))
def test_what_changed_since_is_seen(
    kind: str, change: Callable[..., Any], rng: np.random.Generator
) -> None:
    layer, threads = layer_of(kind, rng), mg.get_num_threads()
    prepared(layer, rng, 3, 2, 3)
    shape = change(layer, rng) or (3, 2, 3)
    try:
        for _ in range(ENOUGH):
            right(layer, leaf(rng, *shape))
    finally:
        mg.set_num_threads(threads)


def test_an_option_of_a_cell_that_changed_is_seen(rng: np.random.Generator) -> None:
    layer = layer_of("RNN", rng)
    prepared(layer, rng, 3, 2, 3)
    layer.cells[0].nonlinearity = "relu"
    for _ in range(ENOUGH):
        right(layer, leaf(rng, 3, 2, 3))


def test_a_method_replaced_in_a_class_is_seen(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = layer_of("RNN", rng)
    prepared(layer, rng, 3, 2, 3)
    real = nn.RNNCell.forward

    def halved(self: Any, state: Any, x: Any) -> Any:
        h, y = real(self, state, x)
        return h * 0.5, y * 0.5

    monkeypatch.setattr(nn.RNNCell, "forward", halved)
    for _ in range(3):
        right(layer, leaf(rng, 3, 2, 3))


def test_each_call_has_the_dtype_of_its_layer(rng: np.random.Generator) -> None:
    layer = layer_of("LSTM", rng)
    prepared(layer, rng, 3, 2, 3)
    layer.to(np.float32)
    x = rng.normal(size=(3, 2, 3)).astype(np.float32)
    for _ in range(ENOUGH):
        assert layer(x)[0].dtype == np.float32
    layer.to(F64)
    for _ in range(ENOUGH):
        right(layer, leaf(rng, 3, 2, 3))


def test_inputs_and_states_may_need_a_gradient_or_not(rng: np.random.Generator) -> None:
    layer = layer_of("LSTM", rng)
    prepared(layer, rng, 3, 2, 3)
    for k in range(8):
        x = mg.tensor(rng.normal(size=(3, 2, 3)), requires_grad=k % 2 == 0)
        right(layer, x)
        with mg.no_grad():
            assert not layer(x)[0].requires_grad


def test_dropout_follows_the_switch_of_training(rng: np.random.Generator) -> None:
    layer = layer_of("LSTM", rng, num_layers=2, dropout=0.5)
    prepared(layer, rng, 3, 2, 3)
    x = leaf(rng, 3, 2, 3)
    layer.eval()
    for _ in range(ENOUGH):
        right(layer, x)
    layer.train()
    first, second = (layer(x)[0].numpy() for _ in range(2))
    assert not np.array_equal(first, second)


def test_a_weight_with_gaps_is_read_and_computed_with(rng: np.random.Generator) -> None:
    """A slice of every other number: it is copied for the loop, and its logarithm is taken."""
    w = mg.tensor(rng.uniform(0.5, 2.0, size=8), requires_grad=True)

    @mg.pure
    def cell(h: Any, x: Any) -> Any:
        v = w[::2]
        h = v ** mg.tanh(h + x) * v
        return h, h

    xs, h = leaf(rng, 3, 2, 4), leaf(rng, 2, 4)
    for _ in range(ENOUGH):
        w.data = rng.uniform(0.5, 2.0, size=8)
        found = []
        for mode in ("fused", "tape"):
            _, ys = mg.scan(cell, h, xs, mode=mode)
            found.append(mg.grad((ys * ys).sum(), [w, h, xs]))
        for got, want in zip(*found, strict=True):
            close("gradient", got.numpy(), want.numpy(), 1e-11)


# -- memory ----------------------------------------------------------------------------------------


def test_two_calls_before_their_backward_share_no_memory(rng: np.random.Generator) -> None:
    layer = layer_of("LSTM", rng)
    prepared(layer, rng, 3, 2, 3)
    xs = [leaf(rng, 3, 2, 3) for _ in range(3)]
    outputs = [layer(x)[0] for x in xs]
    values = [y.numpy().copy() for y in outputs]
    layer.zero_grad()
    for y in reversed(outputs):
        (y * y).sum().backward()
    for x, y, value in zip(xs, outputs, values, strict=True):
        np.testing.assert_array_equal(y.numpy(), value)
        apart = mg.tensor(x.numpy(), requires_grad=True)
        layer.mode = "tape"
        again = layer(apart)[0]
        layer.mode = "fused"
        (again * again).sum().backward()
        close("x", x.grad.numpy(), apart.grad.numpy(), 1e-11)


def test_backward_runs_as_often_as_the_graph_is_kept(rng: np.random.Generator) -> None:
    layer = layer_of("GRU", rng)
    prepared(layer, rng, 3, 2, 3)
    x = leaf(rng, 3, 2, 3)
    output, _ = layer(x)
    seeds = [rng.normal(size=output.shape) for _ in range(3)]
    found = []
    for seed in seeds:
        layer(leaf(rng, 3, 2, 3))[0].sum().backward()  # runs in between, on memory of its own
        x.grad = None
        output.backward(seed, retain_graph=True)
        found.append(x.grad.numpy().copy())
    layer.mode = "tape"
    for seed, got in zip(seeds, found, strict=True):
        x.grad = None
        layer(x)[0].backward(seed)
        close("x", got, x.grad.numpy(), 1e-11)


def test_a_weight_edited_before_backward_is_refused(rng: np.random.Generator) -> None:
    layer = layer_of("LSTM", rng)
    prepared(layer, rng, 3, 2, 3)
    output, _ = layer(leaf(rng, 3, 2, 3))
    with mg.no_grad():
        layer.weight_hh_l0[0, 0] = 1.0
    with pytest.raises(mg.GradientError, match="edited in place"):
        output.sum().backward()


def test_what_is_written_through_data_reaches_no_gradient(rng: np.random.Generator) -> None:
    layer = layer_of("LSTM", rng)
    prepared(layer, rng, 3, 2, 3)
    x = leaf(rng, 3, 2, 3)
    want = gradients(layer, x, "fused")
    layer.zero_grad()
    x.grad = None
    output, final = layer(x)
    for p in layer.parameters():
        p.data[...] = 7.0
    loss = (output * output).sum() + sum((t * t * t).sum() for t in final)
    loss.backward()
    for got, expected in zip([x, *layer.parameters()], want[3:], strict=True):
        np.testing.assert_array_equal(got.grad.numpy(), expected)


# -- second derivatives ----------------------------------------------------------------------------


def scaled(h: Any, x: Any) -> Any:
    """A cell whose ops on weights are more than transposes."""
    h = mg.tanh(x @ mg.exp(W["in"]).T + h @ (W["h"] * W["size"]) + W["b"][1:5])
    return h, h


W: dict[str, Any] = {}


def test_second_derivatives_of_a_call_that_is_had_again(rng: np.random.Generator) -> None:
    """Through ops on weights, too: broadcast, sliced, and of a leaf that is used twice."""
    shapes = {"in": (4, 3), "h": (4, 4), "size": (4,), "b": (6,)}
    W.update({name: leaf(rng, *shape) for name, shape in shapes.items()})
    cell = mg.pure(scaled)
    h, xs = leaf(rng, 2, 4), leaf(rng, 3, 2, 3)
    wanted = [h, xs, *W.values()]

    def found(mode: str) -> list[np.ndarray]:
        final, ys = mg.scan(cell, h, xs, mode=mode)
        first = mg.grad((final * final).sum() + (ys**3).sum(), wanted, create_graph=True)
        second = mg.grad(sum((g * g).sum() for g in first), wanted)
        return [g.numpy().copy() for g in (*first, *second)]

    for _ in range(ENOUGH):
        for t in wanted:
            t.data = rng.normal(size=t.shape)
        for k, (got, want) in enumerate(zip(found("fused"), found("tape"), strict=True)):
            close(f"gradient {k}", got, want, 1e-9)
    assert recall._NOTED.get(cell)


def test_weights_inside_of_no_grad_need_none(rng: np.random.Generator) -> None:
    w, v = leaf(rng, 4, 3), leaf(rng, 4, 4)

    @mg.pure
    def cell(h: Any, x: Any) -> Any:
        with mg.no_grad():
            inside = w.T * 1.0
        h = mg.tanh(x @ inside + h @ v.T)
        return h, h

    h = mg.tensor(np.zeros((2, 4)))
    for k in range(ENOUGH + 3):
        v.requires_grad_(k != ENOUGH)
        w.grad = v.grad = None
        xs = mg.tensor(rng.normal(size=(3, 2, 3)))
        _, ys = mg.scan(cell, h, xs)
        assert ys.requires_grad == v.requires_grad
        if ys.requires_grad:
            ys.sum().backward()
            got = v.grad.numpy().copy()
            assert w.grad is None
            v.grad = None
            mg.scan(cell, h, xs, mode="tape")[1].sum().backward()
            close("v", got, v.grad.numpy(), 1e-12)
    assert recall._NOTED.get(cell)


@pytest.mark.skipif(not PLAIN, reason="each scan would compile kernels of its own")
@pytest.mark.parametrize(
    "name", ["lstm-projected", "gru-before-write", "lru", "layernorm", "attention", "zoneout"]
)
def test_a_cell_that_is_had_again_has_its_gradients_and_theirs(
    name: str, rng: np.random.Generator
) -> None:
    """With other values, and the other way round, in every call."""
    cell = CELLS[name](3, 4, F64, rng)
    xs, state = inputs(cell, 4, 2, rng), random_state(cell, 2, rng)
    every = [t for t in leaves((xs, state, learned(cell))) if isinstance(t, mg.Tensor)]
    wanted = [t for t in every if t.requires_grad]

    def found(mode: str, call: int) -> list[Any]:
        final, ys = mg.scan(cell, state, xs, mode=mode, reverse=call % 2 == 1)
        results = [t for t in leaves((final, ys)) if t.dtype.kind == "f"]
        seeds = np.random.default_rng(call)
        loss = sum((t * seeds.normal(size=t.shape)).sum() for t in results)
        first = mg.grad(loss, wanted, create_graph=True)
        second = mg.grad(sum((g * g).sum() for g in first), wanted, allow_unused=True)
        return [*results, *first, *second]

    for call in range(ENOUGH):
        for t in wanted:
            t.data = 0.5 * rng.normal(size=t.shape)
        for got, want in zip(found("fused", call), found("tape", call), strict=True):
            assert (got is None) == (want is None)
            if got is not None:
                close(f"call {call}", got.numpy(), want.numpy(), 1e-10)
    assert recall._NOTED.get(cell)


# -- who listens -----------------------------------------------------------------------------------


def test_a_recording_hears_a_layer_that_ran_before_and_leaves_no_trace(
    rng: np.random.Generator,
) -> None:
    layer = layer_of("LSTM", rng)
    prepared(layer, rng, 3, 2, 3)
    heard: list[str] = []
    for _ in range(3):
        right(layer, leaf(rng, 3, 2, 3))
        with mg.listen(lambda name, tensor, scope: heard.append(name)):
            layer(leaf(rng, 3, 2, 3))
        assert heard.count("c") == 3
        heard.clear()
        with mg.Tape() as tape:
            layer(leaf(rng, 3, 2, 3))
        assert [n.op.name for n in tape.nodes].count("transpose") == 2


def test_explain_says_that_a_trace_was_reused(rng: np.random.Generator) -> None:
    layer = layer_of("LSTM", rng)
    prepared(layer, rng, 3, 2, 3)
    layer(leaf(rng, 3, 2, 3))
    assert "reused: the cell is pure" in layer.explain().replace("reused     ", "reused: ")


# -- threads and processes -------------------------------------------------------------------------


def test_threads_that_call_one_layer_at_once_get_results_of_their_own(
    rng: np.random.Generator,
) -> None:
    layer = layer_of("LSTM", rng)
    prepared(layer, rng, 3, 2, 3)
    xs = [leaf(rng, 3, 2, 3) for _ in range(4)]
    found: dict[int, list[np.ndarray]] = {}
    start = threading.Barrier(len(xs))

    def work(k: int) -> None:
        start.wait()
        for _ in range(20):
            y, _ = layer(xs[k])
            (g,) = mg.grad((y * y).sum(), [xs[k]])
            found.setdefault(k, []).append(np.concatenate([y.numpy(), g.numpy()], -1))

    workers = [threading.Thread(target=work, args=(k,)) for k in range(len(xs))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    layer.mode = "tape"
    for k, x in enumerate(xs):
        y, _ = layer(x)
        (g,) = mg.grad((y * y).sum(), [x])
        want = np.concatenate([y.numpy(), g.numpy()], -1)
        assert len(found[k]) == 20
        for got in found[k]:
            close(f"thread {k}", got, want, 1e-11)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_calls_on_and_so_does_its_parent(rng: np.random.Generator) -> None:
    layer = layer_of("LSTM", rng)
    prepared(layer, rng, 3, 2, 3)
    x = leaf(rng, 3, 2, 3)
    want = gradients(layer, x, "fused")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            got = gradients(layer, x, "fused")
            code = int(not all(map(np.array_equal, got, want)))
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    for got, expected in zip(gradients(layer, x, "fused"), want, strict=True):
        np.testing.assert_array_equal(got, expected)


# -- planted faults --------------------------------------------------------------------------------


@pytest.mark.skipif(not PLAIN, reason="once is enough")
@pytest.mark.parametrize("change", [replaced, without_bias, another_cell])
def test_a_watch_that_always_holds_is_seen(
    change: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall.Watch, "holds", lambda self, cell: True)
    if change is another_cell:  # which is another key
        test_what_changed_since_is_seen("LSTM", change, rng)
        return
    with pytest.raises(AssertionError):
        test_what_changed_since_is_seen("LSTM", change, rng)
