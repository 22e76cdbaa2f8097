"""What backward reads cannot be changed unseen: by no write of NumPy, by nobody who keeps an array.

Every gradient here is checked after the caller has written over all that he can reach; the right
one is that of what was computed.
"""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from engine.writers import MISSED, OLD, SIZE, WRITERS, functions, ufuncs

import minigrad as mg
from minigrad import memory, nn
from minigrad.op import REGISTRY

Array = np.ndarray


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What the writers compute is of no interest, only that they write."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield
    gc.collect()
    assert not memory.lent, "a handle outlived everybody who held it"


def leaf(value: Any) -> mg.Tensor:
    return mg.tensor(value, requires_grad=True)


# -- writes through .data ------------------------------------------------------------------------


def test_the_list_of_writers_is_complete() -> None:
    assert len(WRITERS) > 450
    assert len([*functions()]) > 90
    assert len([*ufuncs()]) > 90
    # NumPy does not pass their `out` on; ma.dot takes masked arrays only
    ignored = {"numpy.fft.hfft", "numpy.fft.ifft2", "numpy.fft.irfft2", "numpy.ma.dot"}
    assert set(MISSED) <= ignored, "find arguments for these in writers.py"


def square_of_a_leaf(v: Array) -> tuple[mg.Tensor, mg.Tensor, mg.Tensor, Array]:
    """(what is written to, the loss, the leaf, its gradient) of a computation on v."""
    x = leaf(v)
    return x, (x * x).sum(), x, 2 * v


def square_of_what_was_computed(v: Array) -> Any:
    x = leaf(v)
    h = x * 3.0
    return h, (h * h).sum(), x, 18 * v


def an_output_that_the_rule_reads(v: Array) -> Any:
    x = leaf(v)
    y = mg.exp(x)
    return y, y.sum(), x, np.exp(v)


def a_detached_tensor(v: Array) -> Any:
    x = leaf(v)
    d = x.detach()
    return d, (x * d).sum(), x, v


def what_a_detached_tensor_came_from(v: Array) -> Any:
    x = leaf(v)
    d = x.detach()
    return x, (x * d).sum(), x, v


def a_view(v: Array) -> Any:
    x = leaf(v)
    r = x[::-1]
    return r, (r * r).sum(), x, 2 * v


def what_a_view_came_from(v: Array) -> Any:
    x = leaf(v)
    r = x.reshape(2, 2)
    return x, (r * r).sum(), x, 2 * v


def a_repeated_array(v: Array) -> Any:
    x = leaf(v[:1])
    r = mg.broadcast_to(x, (SIZE,))
    return r, (r * r).sum(), x, 8 * v[:1]


def a_matrix(v: Array) -> Any:
    x = leaf(v.reshape(2, 2))
    w = mg.tensor(np.array([[1.0], [3.0]]))
    return x, (mg.square(x) @ w).sum(), x, 2 * v.reshape(2, 2) * [1.0, 3.0]


def a_constant(v: Array) -> Any:
    x, c = leaf(v), mg.tensor(v + 1)
    return c, (x * c).sum(), x, v + 1


def a_mask(v: Array) -> Any:
    x = leaf(v)
    on = mg.tensor(np.arange(32) % 3 == 0)  # as many bytes as four float64
    y = mg.where(on, mg.broadcast_to(x.sum(), (32,)), 0.0)
    return on, y.sum(), x, np.full(SIZE, 11.0)


def an_index(v: Array) -> Any:
    x = leaf(v)
    i = mg.tensor(np.array([0, 0, 3, 1]))
    return i, (x[i] * mg.tensor([1.0, 2.0, 3.0, 4.0])).sum(), x, np.array([3.0, 4.0, 0.0, 3.0])


EAGER = [
    square_of_a_leaf, square_of_what_was_computed, an_output_that_the_rule_reads,
    a_detached_tensor, what_a_detached_tensor_came_from, a_view, what_a_view_came_from,
    a_repeated_array, a_matrix, a_constant, a_mask, an_index,
]  # fmt: skip


def as_floats(a: Array) -> Array:
    """The memory of any array of 32 bytes, as the writers want it."""
    return a if a.dtype == np.float64 else a.view(np.float64)


@pytest.mark.parametrize("case", EAGER, ids=lambda f: f.__name__)
def test_no_write_of_numpy_changes_a_gradient(case: Any, rng: Any) -> None:
    for name, write in WRITERS.items():
        t, loss, x, expected = case(rng.uniform(0.2, 2.0, SIZE))
        plain = t.numpy().copy()
        write(as_floats(plain).reshape(SIZE))
        write(as_floats(t.data).reshape(SIZE))
        np.testing.assert_array_equal(t.numpy(), plain, err_msg=name)
        loss.backward()
        np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-14, err_msg=name)


def test_an_array_that_was_handed_out_before_the_forward_pass_cannot_reach_what_it_keeps(
    rng: Any,
) -> None:
    for name, write in WRITERS.items():
        v = rng.uniform(0.2, 2.0, SIZE)
        x = leaf(v)
        held = x.data
        d, r = x.detach(), x.reshape(2, 2)
        y = (x * x).sum() + (x * d).sum() + (r * r).sum()
        with mg.no_grad():
            z = x.reshape(4)  # a constant from now on
        y = y + (x * z).sum()
        write(held)
        changed = held.copy()
        np.testing.assert_array_equal(x.numpy(), changed, err_msg=name)
        y.backward()
        np.testing.assert_allclose(x.grad.numpy(), 6 * v, rtol=1e-14, err_msg=name)
        np.testing.assert_array_equal(z.numpy(), v)
        again = (x * 2.0).numpy()  # and what is computed next reads the new values
        np.testing.assert_array_equal(again, changed * 2.0)
        del held


@pytest.mark.parametrize("hold", [
    lambda a: a, lambda a: a[1:], lambda a: a.flat, memoryview, lambda a: np.asarray(a)[None],
    lambda a: a.view(np.uint8), lambda a: np.nditer(a, op_flags=["readwrite"]),
    lambda a: np.frombuffer(a), lambda a: a.reshape(2, 2).T, lambda a: a.__setitem__,
    lambda a: np.ma.array(a, copy=False), lambda a: np.from_dlpack(a), lambda a: a.data.cast("B"),
])  # fmt: skip
def test_whoever_holds_a_view_of_data_is_known(hold: Any) -> None:
    x = leaf(OLD)
    assert memory.kept(x) is x._array
    holder = hold(x.data)
    snapshot = memory.kept(x)
    assert not np.shares_memory(snapshot, x._array)
    del holder
    gc.collect()
    assert memory.kept(x) is x._array


def test_data_is_the_same_memory_as_long_as_it_is_held() -> None:
    x = leaf(OLD)
    first = x.data
    y = x * x
    second = x.data
    second[0] = 7.0
    assert first[0] == x.numpy()[0] == 7.0
    assert np.shares_memory(first, second)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 2 * OLD)


@pytest.mark.parametrize("value", [
    np.array(3.0), np.zeros((0, 3)), np.array([True, False]), np.arange(6, dtype=np.int32),
    np.ones((3, 4), order="F"), np.ones((5, 5), np.float32)[::2, 1:].T, np.array(7), np.array(True),
    np.ones(1, ">f8"),
])  # fmt: skip
def test_data_of_every_shape_and_dtype_can_be_written_to(value: Array) -> None:
    t = mg.tensor(value)
    assert t.data.dtype == value.dtype.newbyteorder("=")
    assert t.data.shape == value.shape
    assert type(t.data) is np.ndarray
    for k in (0, 1, 0):
        t.data[...] = k
        np.testing.assert_array_equal(t.numpy(), np.full(value.shape, k))
    view = mg.tensor(np.ones((3, 1, 3)))[:, 0].T  # not contiguous
    view.data[0, 1] = 5.0
    assert view.numpy()[0, 1] == 5.0


def test_assignment_to_data_keeps_the_tensor_and_copies_the_array() -> None:
    p = leaf([1.0, 2.0])
    same, g = p, mg.tensor([1.0, 10.0])
    (p * p).sum().backward()
    p.data += -0.5 * p.grad
    np.testing.assert_array_equal(p.numpy(), [0.0, 0.0])
    p.data -= g
    p.data *= 2.0
    np.testing.assert_array_equal(p.numpy(), [-2.0, -20.0])
    mine = np.array([3.0, 4.0])
    p.data = mine
    mine[0] = 99.0
    np.testing.assert_array_equal(p.numpy(), [3.0, 4.0])
    p.data = p.data[::-1]
    np.testing.assert_array_equal(p.numpy(), [4.0, 3.0])
    held = p.data
    p.data = [5.0, 6.0]
    held[0] = 99.0  # the array of before
    np.testing.assert_array_equal(p.numpy(), [5.0, 6.0])
    assert same is p
    assert p.is_leaf
    assert p.requires_grad
    for k in (0.0, 1.0, 2.0):
        s = mg.tensor(k)
        s.data += 1.0
        assert s.item() == k + 1


def test_reading_data_records_nothing_and_copies_only_what_something_else_reads() -> None:
    x = leaf(OLD)
    before = id(x._array)
    x.data[0] = 1.0
    assert id(x._array) == before
    y = x * x
    x.data[0] = 2.0
    assert id(x._array) != before
    assert id(y._node._saved[0]) == before


def test_a_second_derivative_is_that_of_the_values_at_the_time(rng: Any) -> None:
    for _ in range(3):
        v = rng.uniform(0.5, 2.0, SIZE)
        x = leaf(v)
        y = (x * x * x).sum()
        x.data[...] = 0.0
        (g,) = mg.grad(y, [x], create_graph=True)
        np.testing.assert_allclose(g.numpy(), 3 * v**2, rtol=1e-14)
        x.data[...] = -1.0
        g.data[...] = 0.0
        (h,) = mg.grad(g, [x], grad_output=np.ones(SIZE))
        np.testing.assert_allclose(h.numpy(), 6 * v, rtol=1e-14)


def test_a_tensor_whose_data_was_handed_out_can_be_copied_and_pickled() -> None:
    t = mg.tensor(OLD)
    held = t.data
    for twin in (copy.deepcopy(t), pickle.loads(pickle.dumps(t))):
        held[0] += 1.0
        assert twin.numpy()[0] != held[0]


# -- compiled ------------------------------------------------------------------------------------


def weighted(s: Any, x: Any) -> tuple[Any, Any]:
    s = s + x * x * WEIGHT
    return s, s


WEIGHT = leaf(OLD)


@pytest.mark.parametrize("options", [{}, {"checkpoint": 2}, {"truncate": 2}, {"mode": "tape"}])
@pytest.mark.parametrize("what", ["init", "xs", "weight", "ys", "final"])
def test_no_write_of_numpy_changes_the_gradient_of_a_scan(
    what: str, options: Any, rng: Any
) -> None:
    writers = list(WRITERS.items())
    for name, write in writers if not options else writers[::40]:
        s, v, w = rng.uniform(0.5, 2, (1, 4)), rng.uniform(0.5, 2, (3, 1, 4)), rng.normal(size=4)
        init, xs = leaf(s), leaf(v)
        WEIGHT.data, WEIGHT.grad = w, None
        final, ys = mg.scan(weighted, init, xs, **options)
        loss = final.sum() + (ys[1].sum() if "truncate" in options else 0.0)  # both windows
        t = {"init": init, "xs": xs, "weight": WEIGHT, "ys": ys, "final": final}[what]
        plain = t.numpy().copy()
        write(plain.reshape(-1)[:SIZE])
        write(t.data.reshape(-1)[:SIZE])
        np.testing.assert_array_equal(t.numpy(), plain, err_msg=name)
        loss.backward()
        dw = (v**2).sum((0, 1))
        np.testing.assert_allclose(WEIGHT.grad.numpy(), dw, rtol=1e-13, err_msg=name)
        np.testing.assert_allclose(xs.grad.numpy(), 2 * v * w, rtol=1e-13, err_msg=name)


def test_a_second_derivative_of_a_scan_is_that_of_the_values_at_the_time(rng: Any) -> None:
    for _ in range(3):
        v, w = rng.uniform(0.5, 2, (3, 1, 4)), rng.normal(size=4)
        xs = leaf(v)
        WEIGHT.data, WEIGHT.grad = w, None
        final, _ = mg.scan(weighted, np.zeros((1, 4)), xs)
        WEIGHT.data.fill(0.0)
        xs.data.fill(0.0)
        (g,) = mg.grad(final.sum(), [xs], create_graph=True)
        np.testing.assert_allclose(g.numpy(), 2 * v * w, rtol=1e-13)
        (h,) = mg.grad(g.sum(), [WEIGHT])
        np.testing.assert_allclose(h.numpy(), 2 * v.sum((0, 1)), rtol=1e-13)


@pytest.mark.parametrize("mode", ["fused", "tape"])
def test_no_write_of_numpy_changes_the_gradient_of_an_lstm(mode: str, rng: Any) -> None:
    layer, twin = (nn.LSTM(2, 1, bias=False, mode=mode, dtype=np.float64) for _ in range(2))
    writers = list(WRITERS.items())
    for k, (name, write) in enumerate(writers[:: 5 if mode == "fused" else 40]):
        v = rng.normal(size=(2, 1, 2))
        arrays = {n: rng.normal(size=p.shape) for n, p in layer.named_parameters()}
        found = []
        for net in (layer, twin):
            net.load_state_dict(arrays)
            net.zero_grad()
            x = leaf(v)
            y, _ = net(x)
            loss = (y * y).sum()
            if net is layer:
                for t in [x, net.weight_ih_l0, net.weight_hh_l0, y][k % 4 :]:
                    held = t.data.reshape(-1)
                    write(held[:SIZE] if held.size >= SIZE else np.resize(held, SIZE))
            loss.backward()
            found.append([x.grad, *(p.grad for p in net.parameters())])
        for a, b in zip(*found, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=name)


# -- what the caller passes in and keeps -----------------------------------------------------------


@pytest.mark.parametrize("name", sorted(n for n, op in REGISTRY.items() if op.differentiable))
def test_operands_and_parameters_are_the_callers_own(name: str, rng: Any) -> None:
    """An op on one Tensor and arrays, lists and index arrays that are written over afterwards."""
    op = REGISTRY[name]
    if op.kind == "scan":
        return
    samples = op.samples or [([(2, 3)] * len(op.inputs), {})]
    for shapes, params in samples:
        for i in range(len(shapes)):
            if not op.variadic and op.inputs[i] in op.bools:
                continue
            arrays = [
                rng.uniform(0.2, 0.8, s) > 0.5
                if not op.variadic and op.inputs[k] in op.bools
                else rng.uniform(0.2, 0.8, s)
                for k, s in enumerate(shapes)
            ]
            gradients = []
            for spoil in (False, True):
                given, own = copy.deepcopy(arrays), copy.deepcopy(params)
                x = leaf(given[i])
                args = [x if k == i else a for k, a in enumerate(given)]
                y = op(args, **own) if op.variadic else op(*args, **own)
                if spoil:
                    for a in (*given, *own.values()):
                        overwrite(a)
                mg.grad(y, x, np.ones(y.shape), retain_graph=True)
                gradients.append(mg.grad(y, x, np.ones(y.shape)).numpy())
            np.testing.assert_array_equal(*gradients)


def overwrite(value: Any) -> None:
    """Other values in every array and list in `value`."""
    if isinstance(value, Array):
        value[...] = ~value if value.dtype.kind == "b" else 1
    elif isinstance(value, list):
        value[:] = [1] * len(value)
    elif isinstance(value, tuple):
        for v in value:
            overwrite(v)


def test_a_buffer_that_is_used_again_every_step(rng: Any) -> None:
    h, mask, expected = leaf(np.ones(4)), np.empty(4), np.ones(4)
    y = h
    for _ in range(3):
        mask[...] = rng.uniform(0.5, 1.5, 4)
        expected = expected * mask
        y = y * mask
    y.sum().backward()
    np.testing.assert_allclose(h.grad.numpy(), expected, rtol=1e-15)


INDICES = {
    "array": (lambda: np.array([0, 1]), lambda i: i.fill(2)),
    "list": (lambda: [0, 1], lambda i: i.__setitem__(slice(None), [2, 2])),
    "0-d": (lambda: np.array(1), lambda i: i.fill(2)),
    "mask": (lambda: np.array([True, False, True]), lambda i: i.fill(True)),
    "tuple": (lambda: (np.array([0, 1]), None), lambda i: i[0].fill(2)),
    "slice": (lambda: slice(np.array(0), np.array(2)), lambda i: i.stop.fill(3)),
    "tensor": (lambda: mg.tensor([0, 1]), lambda i: i.data.fill(2)),
}


@pytest.mark.parametrize("kind", INDICES)
def test_an_index_is_the_callers_own(kind: str) -> None:
    make, spoil = INDICES[kind]
    plain = make()
    plain = plain.numpy() if kind == "tensor" else plain
    for scale in (1.0, 2.0, 3.0):
        x, i = leaf([1.0, 2.0, 3.0]), make()
        z = x[i] * scale
        spoil(i)
        z.sum().backward()
        expected = np.zeros(3)
        expected[plain] = scale
        np.testing.assert_array_equal(x.grad.numpy(), expected)


def test_targets_lengths_and_inputs_of_layers_are_the_callers_own(rng: Any) -> None:
    layer = nn.LSTM(2, 3, dtype=np.float64)
    table = nn.Embedding(5, 2, dtype=np.float64)
    arrays = {
        "words": rng.integers(0, 5, (4, 2)), "x": rng.normal(size=(4, 2, 2)),
        "h": rng.normal(size=(1, 2, 3)), "c": rng.normal(size=(1, 2, 3)),
        "lengths": np.array([4, 2]), "classes": rng.integers(0, 3, (4, 2)),
        "aim": rng.normal(size=(4, 2, 3)), "soft": rng.uniform(size=(4, 2, 3)),
    }  # fmt: skip
    found = []
    for spoil in (False, True):
        a = copy.deepcopy(arrays)
        layer.zero_grad()
        table.zero_grad()
        y, _ = layer(table(a["words"]), (a["h"], a["c"]), lengths=a["lengths"])
        z, _ = layer(a["x"], lengths=list(a["lengths"]))
        loss = nn.cross_entropy(y, a["classes"], ignore_index=1) + nn.mse_loss(z, a["aim"])
        loss = loss + nn.huber_loss(y, a["aim"]) + nn.bce_with_logits(z, a["soft"])
        loss = loss + nn.mae_loss(y * z, a["aim"])
        if spoil:
            for value in a.values():
                value[...] = 1
        loss.backward()
        found.append([p.grad.numpy() for p in (*layer.parameters(), *table.parameters())])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("mode", ["fused", "tape"])
def test_what_a_cell_closes_over_is_the_callers_own(mode: str, rng: Any) -> None:
    k, v = np.empty(1), leaf([[0.5]])
    constant = mg.tensor([1.0])

    def cell(s: Any, x: Any) -> tuple[Any, Any]:
        s = s + (x @ v) * k * constant
        return s, s

    for scale in (2.0, 3.0, 4.0):
        k[...], v.grad = scale, None
        constant.data[...] = 5.0
        xs, init = np.ones((3, 1, 1)), np.zeros((1, 1))
        final, _ = mg.scan(cell, init, xs, mode=mode)
        k[...], xs[...], init[...], constant.data[...] = 9.0, 9.0, 9.0, 9.0
        final.sum().backward()
        assert v.grad.item() == 15 * scale


@pytest.mark.parametrize("mode", ["fused", "tape"])
def test_a_checkpointed_cell_whose_constants_have_changed_is_refused(mode: str) -> None:
    k, v = np.ones(1), leaf([[0.5]])

    def cell(s: Any, x: Any) -> tuple[Any, Any]:
        return s + x @ v, s * k

    for scale in (2.0, 3.0, 4.0):
        k[...], v.grad = scale, None
        for spoil in (False, True):
            _, ys = mg.scan(cell, np.zeros((1, 1)), np.ones((5, 1, 1)), mode=mode, checkpoint=2)
            if spoil:
                k[...] = 9.0
                with pytest.raises(mg.GradientError, match="computed again for checkpoint="):
                    ys.sum().backward()
            else:
                ys.sum().backward()
                assert v.grad.item() == 10 * scale


# -- what comes out ------------------------------------------------------------------------------


def test_what_is_given_out_to_read_stays_read_only(rng: Any) -> None:
    x = leaf(rng.uniform(1, 2, (2, 3)))
    with mg.Tape() as tape:
        y = mg.exp(x * 2.0)
        loss = (y * y).sum()
    loss.backward(retain_graph=True)
    nodes = [tape.value(n) for n in tape.nodes] + [tape.gradient(n) for n in tape.nodes]
    saved = [a for n in tape.nodes for a in n.saved]
    record = mg.scan(tapped, leaf(rng.normal(size=(2, 3))), x.numpy()[None], record=True).record
    for a in (x.numpy(), y.numpy(), x.grad.numpy(), *nodes, *saved, *record.values.values()):
        for view in (a, a[...], a.view(), a.reshape(a.shape), np.asarray(a)):
            with pytest.raises(ValueError, match="read-only"):
                view[...] = 0.0
            with pytest.raises(ValueError, match="WRITEABLE"):
                view.setflags(write=True)


def tapped(s: Any, x: Any) -> tuple[Any, Any]:
    s = mg.tap("s", s * x)
    return s, s


def test_lists_and_elements_are_copies() -> None:
    x = leaf([[1.0, 2.0]])
    y = (x * x).sum()
    x.tolist()[0][0] = 9.0
    for row in x:
        row.data[...] = 9.0
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [[2.0, 4.0]])


@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_share_no_memory(create_graph: bool) -> None:
    given = mg.tensor([1.0, 2.0], requires_grad=create_graph)
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    (a + b).backward(given, retain_graph=True, create_graph=create_graph)
    direct = leaf([1.0, 2.0])
    direct.backward(given, create_graph=create_graph)
    y = a + b
    found = mg.grad(y, [a, b, a, y], given, create_graph=create_graph, retain_graph=True)
    arrays = [t._array for t in (given, a, b, a.grad, b.grad, direct.grad, *found)]
    for i, m in enumerate(arrays):
        assert m.flags.writeable
        for n in arrays[i + 1 :]:
            assert not np.shares_memory(m, n)
    if create_graph:  # and they are still on the tape
        for t in (a.grad, direct.grad, *found):
            slope = mg.grad(t, given, [1.0, 1.0], retain_graph=True)
            np.testing.assert_array_equal(slope.numpy(), [1.0, 1.0])


def test_a_retained_gradient_is_the_tensors_own() -> None:
    a, b = leaf([1.0, 2.0]), leaf([1.0, 2.0])
    u, v = (a * 2.0).retain_grad(), (b * 3.0).retain_grad()
    total = (a * 1.0).retain_grad()
    y = u + v
    ((y * y).sum() + total.sum()).backward()
    mg.optim.clip_grad_value_([total], 0.25)  # arrived as one number, repeated
    u.grad.data[...] = 7.0
    np.testing.assert_array_equal(v.grad.numpy(), [10.0, 20.0])
    np.testing.assert_array_equal(total.grad.numpy(), [0.25, 0.25])
    np.testing.assert_array_equal(a.grad.numpy(), [21.0, 41.0])


def test_a_hook_that_writes_to_its_gradient_changes_no_other_branch() -> None:
    a, b = leaf([1.0, 2.0]), leaf([1.0, 2.0])
    u, v = a * 2.0, b * 3.0

    def zero(g: mg.Tensor) -> None:
        g.data[...] = 0.0

    v.register_hook(zero)
    y = u + v
    (y * y).sum().backward()
    np.testing.assert_array_equal(a.grad.numpy(), [20.0, 40.0])


@pytest.mark.parametrize("function", [
    lambda f, x: mg.vjp(f, x)[1]([1.0, 1.0]), lambda f, x: mg.jvp(f, x, [1.0, 1.0])[1],
    lambda f, x: mg.jacobian(f, x), lambda f, x: mg.hessian(lambda t: f(t).sum(), x),
    lambda f, x: mg.vjp(f, x)[0],
])  # fmt: skip
def test_derivatives_of_functions_are_the_callers_own(function: Any) -> None:
    results = []
    for _ in range(3):
        x = np.array([1.0, 2.0])
        found = function(lambda t: t * t * 3.0, x)
        results.append(found.numpy().copy())
        found.data[...] = 99.0
        np.testing.assert_array_equal(x, [1.0, 2.0])
    for again in results[1:]:
        np.testing.assert_array_equal(results[0], again)


# -- our own writes --------------------------------------------------------------------------------


@pytest.mark.parametrize("edit", [
    lambda t: t.__setitem__(0, 9.0), lambda t: t.__setitem__(..., mg.tensor([1.0, 1.0])),
    lambda t: mg.optim.SGD([t], lr=0.5).step(), lambda t: mg.optim.Adam([t]).step(),
    lambda t: t[:1].__setitem__(..., 9.0), lambda t: t.detach().__setitem__(0, 9.0),
])  # fmt: skip
def test_an_edit_of_our_own_between_forward_and_backward_is_refused(edit: Any) -> None:
    x = leaf([1.0, 2.0])
    x.grad = mg.tensor([1.0, 1.0])
    y = (x * x).sum()
    with mg.no_grad():
        edit(x)
    with pytest.raises(
        mg.GradientError, match=r"multiply .* needs its input '[ab]'.* edited in place"
    ):
        y.backward()


def test_an_edit_of_our_own_is_seen_in_what_was_handed_out() -> None:
    x = leaf([1.0, 2.0])
    held = x.data
    with mg.no_grad():
        x[0] = 5.0
    x.grad = mg.tensor([1.0, 1.0])
    mg.optim.SGD([x], lr=0.5).step()
    np.testing.assert_array_equal(held, [4.5, 1.5])
    y = (x * x).sum()
    held[...] = 0.0
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [10.0, 4.0])


def test_clipping_of_a_gradient_that_repeats_one_number() -> None:
    p = leaf([1.0, 2.0])
    for clip in (mg.optim.clip_grad_norm_, mg.optim.clip_grad_value_):
        p.grad = mg.broadcast_to(mg.tensor(3.0), (2,))
        clip([p], 0.5)
        assert p.grad.numpy().max() <= 0.5
