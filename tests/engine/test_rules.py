"""Rules for every op, hook and gradient: dtypes, shapes, memory, threads."""

import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad.backward import Look
from minigrad.kinds import view
from minigrad.op import REGISTRY

F32, F64 = np.float32, np.float64


def leaf(*values, dtype=F64):
    return mg.tensor(np.array(values, dtype), requires_grad=True)


@pytest.fixture
def own_ops():
    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


# -- dtypes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("join", [mg.concatenate, mg.stack])
@pytest.mark.parametrize("kinds", [(F32, F64), (F64, F32, F32), (F32, F32), (F64,)])
def test_joined_arrays_take_one_dtype_and_gradients_come_back_in_their_own(join, kinds):
    for factor in (1.0, 2.0, 3.0):
        parts = [leaf(factor, 2.0, dtype=d) for d in kinds]
        y = join([mg.tanh(p) for p in parts])
        assert y.dtype == np.result_type(*kinds)
        (y * y).sum().backward()
        for p in parts:
            t = np.tanh(p.numpy().astype(F64))
            assert p.grad.dtype == p.dtype
            np.testing.assert_allclose(p.grad.numpy(), 2 * t * (1 - t * t), rtol=1e-4)


def test_joined_numbers_are_weak_and_integers_do_not_mix_in():
    one = mg.tensor(1.0, dtype=F32)
    for number in (0.0, 2, True):
        assert mg.stack([one, number]).dtype == F32
    assert mg.stack([one, F64(2.0)]).dtype == F64
    assert mg.concatenate([mg.tensor([1]), np.array([2], np.int32)]).dtype == np.int64
    with pytest.raises(mg.DTypeError, match=r"array 1 is int64\[2\] among floats"):
        mg.concatenate([leaf(1.0), np.arange(2)])
    with pytest.raises(mg.DTypeError, match="no dtype in common"):
        mg.stack([mg.tensor(1), 0.5])
    with pytest.raises(mg.DTypeError, match="no dtype in common"):
        mg.concatenate([mg.tensor(np.ones(1, np.uint64)), mg.tensor([1])])


@pytest.mark.parametrize("dtype", [np.float16, complex, object, "U3", "M8[s]", "nonsense"])
def test_no_way_makes_a_tensor_of_a_dtype_that_tensors_do_not_have(dtype):
    x = mg.tensor([1.0])
    ways = [
        lambda: x.astype(dtype),
        lambda: mg.astype(x, dtype),
        lambda: mg.nn.Linear(2, 2).to(dtype),
    ]
    for way in ways:
        with pytest.raises(mg.DTypeError):
            way()


def test_arrays_in_the_other_byte_order_are_taken_by_value():
    swapped = np.array([0.5, 2.0], np.dtype(F64).newbyteorder())
    x = mg.tensor(swapped, requires_grad=True)
    mg.tanh(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 1 - np.tanh([0.5, 2.0]) ** 2)
    assert mg.tensor([1.0]).astype(swapped.dtype).dtype == np.dtype(F64)


def test_padding_does_not_cut_its_value():
    np.testing.assert_array_equal(mg.pad(mg.tensor([1]), 1, 7).numpy(), [7, 1, 7])
    with pytest.raises(mg.DTypeError, match=r"cannot hold value=0\.5"):
        mg.pad(mg.tensor([1]), 1, 0.5)
    with pytest.raises(mg.GradientError, match="value requires a gradient"):
        mg.pad(leaf(1.0), 1, mg.tensor(0.5, requires_grad=True))


# -- hooks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("computed", [False, True])
def test_what_a_hook_returns_comes_in_the_dtype_of_the_tensor(computed, create_graph):
    x = leaf(2.0, dtype=F32)
    y = mg.tanh(x) if computed else x
    y.register_hook(lambda g: g * F64(0.5))
    (y * y).sum().backward(create_graph=create_graph)
    t = np.tanh(2.0)
    assert x.grad.dtype == F32
    assert x.grad.item() == pytest.approx(t * (1 - t * t) if computed else 2.0, rel=1e-5)


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (np.ones(2, int), mg.DTypeError, r"hook: returned int64\[2\] for a gradient of float64"),
        (np.ones(2, bool), mg.DTypeError, "expected floats"),
        (np.ones(2, complex), mg.DTypeError, "cannot hold complex128"),
        (np.ones((1, 2)), mg.ShapeError, r"hook: returned float64\[1, 2\]"),
        (1.0, mg.ShapeError, "the shape of its tensor"),
    ],
)
@pytest.mark.parametrize("computed", [False, True])
def test_what_is_no_gradient_is_refused_from_a_hook(returned, error, message, computed):
    x = leaf(1.0, 2.0)
    y = x * 1.0 if computed else x
    y.register_hook(lambda g: returned)
    with pytest.raises(error, match=message):
        (y * 2.0).sum().backward()


@pytest.mark.parametrize("reads", [lambda t: t.sum(), lambda t: (t * t).sum(), lambda t: t.mean()])
def test_a_hook_that_writes_changes_the_gradient_of_its_tensor_only(reads):
    a, b = leaf(1.0, 2.0), leaf(1.0, 2.0)
    u, v = a * 2.0, b * 3.0
    reads(u + v).backward()
    expected = a.grad.numpy().copy()
    a.grad = b.grad = None
    u, v = a * 2.0, b * 3.0

    def zero(g):
        g.data[...] = 0.0

    v.register_hook(zero)
    reads(u + v).backward()
    np.testing.assert_array_equal(a.grad.numpy(), expected)
    np.testing.assert_array_equal(b.grad.numpy(), [0.0, 0.0])


def test_a_hook_may_keep_its_gradient_and_write_later():
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    held = []

    def spoil(g):
        for earlier in held:
            earlier.data[...] = np.nan

    y = a + b
    u = a * 1.0
    (y + u).register_hook(held.append)
    y = (y + u) * 1.0
    y.register_hook(held.append)
    u.register_hook(spoil)
    a.register_hook(spoil)
    y.sum().backward()
    np.testing.assert_array_equal(a.grad.numpy(), [2.0, 2.0])
    np.testing.assert_array_equal(b.grad.numpy(), [1.0, 1.0])
    mask = mg.tensor([5.0, 6.0])
    a.grad = None
    a._hooks.clear()
    a.register_hook(lambda g: mask)
    (a * 1.0).sum().backward()
    a.grad.data[...] = 0.0
    np.testing.assert_array_equal(mask.numpy(), [5.0, 6.0])


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_hook_that_only_looks_shares_the_gradient_and_cannot_write(create_graph):
    x = leaf(1.0, 2.0)
    y = x * x
    seen = []
    y.register_hook(Look(seen.append))
    y.register_hook(lambda g: g * 2.0)
    y.register_hook(Look(seen.append))
    y.sum().backward(create_graph=create_graph)
    np.testing.assert_array_equal(seen, [[1.0, 1.0], [2.0, 2.0]])
    np.testing.assert_array_equal(x.grad.numpy(), [4.0, 8.0])
    for array in seen:
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0.0


@pytest.mark.parametrize("before", [False, True])
def test_a_hook_of_others_beside_one_that_looks_has_a_copy_of_its_own(before):
    x = leaf(1.0, 2.0)
    y = x * 3.0
    seen, held = [], []
    hooks = [Look(lambda g: seen.append(g.copy())), held.append]
    for hook in reversed(hooks) if before else hooks:
        y.register_hook(hook)
    y.register_hook(lambda g: held[0].data.fill(np.nan))
    y.register_hook(lambda g: mg.tensor([1.0, 1.0]))
    z = y * 1.0
    z.register_hook(Look(lambda g: seen.append(g.copy())))
    z.sum().backward()
    np.testing.assert_array_equal(seen, [[1.0, 1.0]] * 2)
    np.testing.assert_array_equal(x.grad.numpy(), [3.0, 3.0])


def test_a_write_into_a_gradient_that_is_recorded_is_refused():
    x = leaf(1.0, 2.0)
    y = x * x

    def half(g):
        g.data[...] *= 0.5

    y.register_hook(half)
    with pytest.raises(mg.GradientError, match="wrote into a gradient that is being recorded"):
        y.sum().backward(create_graph=True)


# -- retained and returned gradients -------------------------------------------------------------


@pytest.mark.parametrize("first", ["retain", "hook"])
def test_a_retained_gradient_is_what_flows_on_after_the_hooks(first):
    for factor in (10.0, 0.0, -1.0):
        x = leaf(1.0)
        y = x * 2.0
        if first == "retain":
            y.retain_grad()
        y.register_hook(lambda g, f=factor: g * f)
        y.retain_grad()
        (y * y).sum().backward()
        assert y.grad.item() == 4.0 * factor
        assert x.grad.item() == 2.0 * y.grad.item()


@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_that_are_kept_share_no_memory_and_can_be_clipped(create_graph):
    a, b = leaf(1.0, 2.0), leaf(1.0, 2.0)
    u, v, w = a * 1.0, b * 1.0, (a + b).reshape((2, 1))
    kept = [t.retain_grad() for t in (u, v, w)]
    (u + v + w.reshape((2,)).sum()).sum().backward(create_graph=create_graph)
    kept += [a, b]
    for i, t in enumerate(kept):
        for other in kept[:i]:
            assert not np.shares_memory(t.grad.numpy(), other.grad.numpy())
    before = [t.grad.numpy().copy() for t in kept]
    for t, g in zip(kept, before, strict=True):
        mg.optim.clip_grad_value_([t], 0.25)
        np.testing.assert_array_equal(t.grad.numpy(), np.clip(g, -0.25, 0.25))


def test_retained_gradients_add_up_as_those_of_leaves_do():
    x = leaf(3.0)
    y = (x * 2.0).retain_grad().retain_grad()
    for k in (1, 2, 3):
        (y * 5.0).sum().backward(retain_graph=True)
        assert y.grad.item() == 5.0 * k
        assert x.grad.item() == 10.0 * k
    y.zero_grad()
    assert mg.grad((y * 5.0).sum(), y, retain_graph=True).item() == 5.0
    assert y.grad is None, "mg.grad leaves every .grad alone"
    with pytest.raises(mg.GradientError, match="retain_grad: this tensor needs no gradient"):
        mg.tensor([1.0]).retain_grad()


@pytest.mark.parametrize("create_graph", [False, True])
def test_mg_grad_gives_each_its_own_memory(create_graph):
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = a + b
    seed = mg.tensor([1.0, 10.0])
    found = mg.grad(y * 1.0, [a, b, a, y], seed, create_graph=create_graph)
    for i, g in enumerate(found):
        g.data[...] = -1.0 - i
    assert [g.tolist() for g in found] == [[-1.0 - i] * 2 for i in range(4)]
    assert seed.tolist() == [1.0, 10.0]


# -- .grad and cotangents ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.ones(3, F32), mg.ShapeError, r"float32\[3\] is no gradient of float32\[2, 3\]"),
        (np.float32(1.0), mg.ShapeError, "expected the same shape"),
        (np.ones((2, 3)), mg.DTypeError, r"float64\[2, 3\] .* \.astype\(np\.float32\)"),
        (np.ones((2, 3), int), mg.DTypeError, "expected the same dtype"),
        ("text", mg.DTypeError, "cannot hold"),
    ],
)
def test_grad_is_assigned_only_what_is_a_gradient_of_the_tensor(value, error, message):
    p = mg.tensor(np.zeros((2, 3), F32), requires_grad=True)
    for given in (value, value if isinstance(value, str) else mg.tensor(value)):
        with pytest.raises(error, match=message):
            p.grad = given
    assert p.grad is None


def test_an_array_assigned_to_grad_is_copied_and_can_be_written():
    p = mg.tensor(np.zeros((2, 3)), requires_grad=True)
    given = np.ones((2, 3))
    p.grad = given
    given[...] = 7.0
    mg.optim.SGD([p], lr=1.0).step()
    np.testing.assert_array_equal(p.numpy(), -np.ones((2, 3)))
    p.grad = mg.broadcast_to(mg.tensor([1.0, 2.0, 3.0]), (2, 3))
    mg.optim.clip_grad_value_([p], 1.5)
    np.testing.assert_array_equal(p.grad.numpy(), [[1.0, 1.5, 1.5]] * 2)


WRONG = [
    (np.ones(3), mg.ShapeError),
    (np.ones((1, 2)), mg.ShapeError),
    (1.0, mg.ShapeError),
    ([1, 2], mg.DTypeError),
    ([True, False], mg.DTypeError),
    (np.ones(2, complex), mg.DTypeError),
    (["a", "b"], mg.DTypeError),
]


@pytest.mark.parametrize(("wrong", "error"), WRONG)
def test_what_is_no_gradient_of_the_output_is_refused_everywhere(wrong, error):
    x = leaf(1.0, 2.0)
    calls = [
        lambda: (x * 2.0).backward(wrong),
        lambda: mg.grad(x * 2.0, x, wrong),
        lambda: mg.vjp(lambda t: t * 2.0, [1.0, 2.0])[1](wrong),
        lambda: mg.vjp(lambda t: mg.tensor([1.0, 2.0]), [1.0, 2.0])[1](wrong),
        lambda: mg.jvp(lambda t: t * 2.0, [1.0, 2.0], wrong),
    ]
    for call in calls:
        with pytest.raises(error):
            call()
    assert x.grad is None


# -- ops that others declare ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        (lambda g: g.sum(), mg.ShapeError, r"rule vjp\('x'\): returned float64\[\]"),
        (lambda g: None, mg.MinigradError, "rule vjp"),
        (lambda g: g.reshape((1, 2)), mg.ShapeError, r"float64\[1, 2\]"),
        (lambda g: mg.astype(g, np.int64), mg.DTypeError, "expected floats"),
    ],
)
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_rule_of_a_wrong_shape_or_dtype_is_named(own_ops, rule, error, message, create_graph):
    @view(name="passed_on")
    def passed_on(x):
        """y = x."""
        return x * 1.0

    passed_on.vjp("x")(lambda g: rule(g))
    x = leaf(1.0, 2.0)
    with pytest.raises(error, match=message):
        passed_on(x).sum().backward(create_graph=create_graph)


def test_a_rule_that_promotes_comes_back_in_the_dtype_of_its_input(own_ops):
    @view(name="doubled")
    def doubled(x):
        """y = 2x, in float64."""
        return x * F64(2.0)

    @doubled.vjp("x")
    def _(g):
        return g * F64(2.0)

    x = leaf(1.0, 2.0, dtype=F32)
    mg.sin(doubled(mg.tanh(x))).sum().backward()
    assert x.grad.dtype == F32


def test_a_rule_with_too_few_gradients_is_named(own_ops):
    @view(name="joined_two", variadic=True)
    def joined_two(arrays):
        """y = all of them."""
        return np.concatenate(arrays)

    @joined_two.vjp("arrays")
    def _(g, arrays_shape):
        return [g[: arrays_shape[0][0]]]

    with pytest.raises(mg.ShapeError, match="returned 1 gradients for 2 inputs"):
        joined_two([leaf(1.0), leaf(2.0)]).sum().backward()


@pytest.mark.parametrize(
    "body",
    [
        lambda x: None,
        lambda x: [1.0, 2.0],
        lambda x: x.astype(np.float16),
        lambda x: x + 1j,
        lambda x: "y",
    ],
)
def test_a_body_that_returns_no_array_of_a_tensor_is_named(own_ops, body):
    def odd(x):
        """y = something else."""
        return body(x)

    op = view(odd)
    with pytest.raises(mg.DeclarationError, match="op odd: its body returned"):
        op(mg.tensor([1.0, 2.0]))


def test_a_body_may_return_a_numpy_scalar(own_ops):
    @view(name="first")
    def first(x):
        """y = x[0]."""
        return x[0]

    assert first(mg.tensor([3.0, 4.0])).numpy().shape == ()


# -- threads -----------------------------------------------------------------------------------


def test_threads_that_share_a_parameter_lose_no_gradient():
    w = mg.tensor(np.zeros(1000), requires_grad=True)
    h = mg.tensor(np.zeros(1000), requires_grad=True)

    def work():
        for _ in range(40):
            (w * 1.0 + h).sum().backward()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for p in (w, h):
        np.testing.assert_array_equal(p.grad.numpy(), np.full(1000, 320.0))
