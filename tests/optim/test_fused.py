"""A step is one call over all parameters, and has the bits of NumPy's arithmetic one at a time."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import memory, optim

Array = np.ndarray


def leaf(data: Any) -> mg.Tensor:
    return mg.tensor(data, requires_grad=True)


# -- oracles: the formulas as NumPy has them, with Python's numbers --------------------------------


def sgd(o: Any, x: Array, g: Array, s: dict[str, Any]) -> None:
    if o.weight_decay:
        g = g + o.weight_decay * x
    if o.momentum:
        v = s["velocity"]
        if s["step"] == 1:
            v[...] = g
        else:
            v *= o.momentum
            v += (1 - o.dampening) * g
        g = g + o.momentum * v if o.nesterov else v
    x -= o.lr * g


def adam(o: Any, x: Array, g: Array, s: dict[str, Any]) -> None:
    if o.weight_decay and type(o) is optim.AdamW:
        x *= 1 - o.lr * o.weight_decay
    elif o.weight_decay:
        g = g + o.weight_decay * x
    t, m, v = s["step"], s["mean"], s["square"]
    m += (1 - o.betas[0]) * (g - m)
    v *= o.betas[1]
    v += (1 - o.betas[1]) * (g * g)
    scale = np.sqrt(v)
    scale /= (1 - o.betas[1] ** t) ** 0.5
    scale += o.eps
    x -= o.lr / (1 - o.betas[0] ** t) * (m / scale)


def rmsprop(o: Any, x: Array, g: Array, s: dict[str, Any]) -> None:
    if o.weight_decay:
        g = g + o.weight_decay * x
    v = s["square"]
    v *= o.alpha
    v += (1 - o.alpha) * (g * g)
    if o.centered:
        m = s["mean"]
        m += (1 - o.alpha) * (g - m)
        v = np.maximum(v - m * m, 0.0)
    g = g / (np.sqrt(v) + o.eps)
    if o.momentum:
        u = s["velocity"]
        u *= o.momentum
        u += g
        g = u
    x -= o.lr * g


def adagrad(o: Any, x: Array, g: Array, s: dict[str, Any]) -> None:
    if o.weight_decay:
        g = g + o.weight_decay * x
    s["sum"] += g * g
    rate = o.lr / (1 + (s["step"] - 1) * o.lr_decay)
    x -= rate * (g / (np.sqrt(s["sum"]) + o.eps))


CASES: list[tuple[Any, dict[str, Any], Callable[..., None]]] = [
    (optim.SGD, {"lr": 0.1}, sgd),
    (optim.SGD, {"momentum": 0.8, "dampening": 0.1, "weight_decay": 0.2}, sgd),
    (optim.SGD, {"lr": 0.1, "momentum": 0.8, "nesterov": True}, sgd),
    (optim.Adam, {"lr": 0.1}, adam),
    (optim.Adam, {"betas": (0.5, 0.6), "eps": 1e-3, "weight_decay": 0.1}, adam),
    (optim.AdamW, {"weight_decay": 0.5}, adam),
    (optim.RMSprop, {"alpha": 0.5, "centered": True, "momentum": 0.5}, rmsprop),
    (optim.RMSprop, {"weight_decay": 0.1}, rmsprop),
    (optim.Adagrad, {"lr_decay": 0.5, "initial_accumulator_value": 2.0}, adagrad),
]
each = pytest.mark.parametrize(("kind", "options", "rule"), CASES)
SHAPES = ((), (0,), (1,), (7,), (0, 3), (1, 5), (3, 1), (17, 300), (5, 3, 2), (33, 65))


class Twin:
    """An optimiser and its oracle: the same start, the same gradients, and the same bits."""

    def __init__(self, kind: Any, options: dict[str, Any], rule: Any, arrays: list[Array]):
        self.params = [leaf(a) for a in arrays]
        self.optimizer, self.rule = kind(self.params, **options), rule
        self.arrays = [a.copy("K") for a in arrays]
        self.states = [{"step": 0} | self.optimizer.slots(a) for a in arrays]

    def step(self, gradients: list[Array | None]) -> None:
        for p, g in zip(self.params, gradients, strict=True):
            p.grad = None if g is None else mg.tensor(g)
        self.optimizer.step()
        self.follow(gradients)

    def follow(self, gradients: list[Array | None]) -> None:
        """The oracle's step, and the comparison."""
        with np.errstate(all="ignore"):
            for x, g, s in zip(self.arrays, gradients, self.states, strict=True):
                if g is not None:
                    s["step"] += 1
                    self.rule(self.optimizer, x, g.astype(x.dtype), s)
        for i, (p, s) in enumerate(zip(self.params, self.optimizer.state, strict=True)):
            np.testing.assert_array_equal(p.numpy(), self.arrays[i], err_msg=f"parameter {i}")
            for name, value in self.states[i].items():
                np.testing.assert_array_equal(s[name], value, err_msg=f"{name} of {i}")


def arrays(rng: Any, dtypes: Any = (np.float32, np.float64)) -> list[Array]:
    """Of every shape in each dtype, the larger matrices in both orders of memory."""
    made = [rng.standard_normal(shape).astype(d) for d in dtypes for shape in SHAPES]
    return made + [np.asfortranarray(a) for a in made if a.ndim == 2 and a.size > 100]


def gradients(rng: Any, like: list[Array], turned: bool = False) -> list[Array | None]:
    made = [np.asarray(rng.standard_normal(a.shape)).astype(a.dtype) for a in like]
    return [np.array(g, order="F" if turned else "C") for g in made]


# -- the arithmetic --------------------------------------------------------------------------------


@each
def test_every_step_has_the_bits_of_numpy(kind, options, rule, rng) -> None:
    start = arrays(rng)
    twin = Twin(kind, options, rule, start)
    for k in range(4):
        g = gradients(rng, start, turned=k % 2 == 1)
        for i in range(0, len(g), 3):
            g[i + k % 3 if i + k % 3 < len(g) else i] = None  # another third of them every time
        if k == 2:
            twin.optimizer.lr = 0.37
        twin.step(g)


@each
def test_nan_inf_zeros_and_denormals_take_numpys_way(kind, options, rule) -> None:
    odd = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-44, -1e-44, 3e38, 1.0]
    x = np.array([odd] * len(odd), np.float32)
    twin = Twin(kind, options, rule, [x, x.astype(np.float64)])
    for _ in range(3):
        twin.step([x.T.copy(), x.T.astype(np.float64)])


def test_hyperparameters_that_change_the_formula_apply_from_the_next_step(rng) -> None:
    start = [rng.standard_normal((4, 3)), rng.standard_normal(5)]
    twin = Twin(optim.Adam, {"lr": 0.1}, adam, start)
    for change in ({}, {"weight_decay": 0.5}, {"betas": (0.3, 0.7)}, {"weight_decay": 0.0}):
        for name, value in change.items():
            setattr(twin.optimizer, name, value)
        for _ in range(2):
            twin.step(gradients(rng, start))


def test_momentum_that_is_switched_on_later_starts_from_a_velocity_of_zero() -> None:
    x = leaf([1.0, 2.0])
    optimizer = optim.SGD([x], lr=0.5)
    expected, velocity = np.array([1.0, 2.0]), np.zeros(2)
    for momentum in (0.0, 0.5, 0.5, 0.0, 0.5):
        optimizer.momentum = momentum
        x.grad = mg.tensor([1.0, -1.0])
        optimizer.step()
        if momentum:
            velocity = momentum * velocity + [1.0, -1.0]
        expected = expected - 0.5 * (velocity if momentum else np.array([1.0, -1.0]))
        np.testing.assert_array_equal(x.numpy(), expected)


def test_ten_steps_are_those_of_the_papers_in_closed_form(rng) -> None:
    gs = rng.standard_normal((10, 6))
    weights = 0.9 ** np.arange(9, -1, -1)  # of g_1 ... g_10 in a running mean
    start = rng.standard_normal(6)

    def ten(kind: Any, **options: Any) -> Array:
        x = leaf(start)
        optimizer = kind([x], **options)
        for g in gs:
            before = x.numpy().copy()
            x.grad = mg.tensor(g)
            optimizer.step()
        return x.numpy() - before  # the tenth

    def run(weights: Array, of: Array) -> Array:
        return (weights[:, None] * of).sum(0)

    v = 0.7 ** np.arange(9, -1, -1)
    mean, square = run(0.1 * weights, gs), run(0.3 * v, gs**2)
    adam = mean / (1 - 0.9**10) / (np.sqrt(square / (1 - 0.7**10)) + 1e-3)
    np.testing.assert_allclose(
        ten(optim.Adam, lr=0.5, betas=(0.9, 0.7), eps=1e-3), -0.5 * adam, rtol=1e-10
    )
    np.testing.assert_allclose(ten(optim.SGD, lr=0.5, momentum=0.9), -0.5 * run(weights, gs))
    np.testing.assert_allclose(
        ten(optim.RMSprop, lr=0.5, alpha=0.7, eps=0.1), -0.5 * gs[9] / (np.sqrt(square) + 0.1)
    )
    np.testing.assert_allclose(
        ten(optim.Adagrad, lr=0.5, lr_decay=0.1),
        -0.5 / 1.9 * gs[9] / (np.sqrt((gs**2).sum(0)) + 1e-10),
    )


@pytest.mark.needs_jit
def test_the_number_of_threads_changes_no_bit(rng) -> None:
    start = [rng.standard_normal(s).astype(np.float32) for s in ((300, 257), (70001,), (3,))]
    before, found = mg.get_num_threads(), []
    for threads in (1, 2, 3):
        mg.set_num_threads(threads)
        twin = Twin(optim.Adam, {"lr": 0.1}, adam, start)
        given = np.random.default_rng(1)
        for turned in (False, True, False):
            g = gradients(given, start, turned)
            twin.step(g)
            norm = optim.clip_grad_norm_(twin.params, 0.1)
        found.append((norm, [p.grad.numpy().tobytes() for p in twin.params]))
    mg.set_num_threads(before)
    assert found[0] == found[1] == found[2]


# -- what is remembered ----------------------------------------------------------------------------


@pytest.fixture
def twin(rng) -> Twin:
    """One that has made two steps."""
    start = [rng.standard_normal((4, 3)), np.ones(5), np.array(2.0)]
    made = Twin(optim.Adam, {"lr": 0.1}, adam, start)
    for _ in range(2):
        made.step(gradients(rng, made.arrays))
    return made


def new_data(t: Twin) -> None:
    t.params[0].data = np.full((4, 3), 7.0)
    t.arrays[0] = np.full((4, 3), 7.0)


def new_data_in_fortran_order(t: Twin) -> None:
    t.params[0].data = np.asfortranarray(np.full((4, 3), 7.0))
    t.arrays[0] = np.full((4, 3), 7.0)


def edited_data(t: Twin) -> None:
    t.params[1].data[2] = t.arrays[1][2] = 9.0


def held_data(t: Twin) -> None:
    t.held = t.params[0].data  # type: ignore[attr-defined]
    t.held[0] = t.arrays[0][0] = 5.0  # type: ignore[attr-defined]


def another_state(t: Twin) -> None:
    t.optimizer.state[1]["mean"] = np.full(5, 0.5)
    t.states[1]["mean"] = np.full(5, 0.5)


def a_state_of_another_dtype_and_order(t: Twin) -> None:
    t.optimizer.state[0]["square"] = np.full((4, 3), 0.5, np.float32).T.copy().T
    t.states[0]["square"] = np.full((4, 3), 0.5)


def a_loaded_state(t: Twin) -> None:
    state = t.optimizer.state_dict()
    t.optimizer.load_state_dict({k: np.asarray(v) for k, v in state.items()} | {"lr": 0.01})


def a_new_step_count(t: Twin) -> None:
    t.optimizer.state[0]["step"] = t.states[0]["step"] = 40


def float32(t: Twin) -> None:
    module = mg.nn.Module()
    module.all = t.params = [mg.nn.Parameter(a) for a in t.arrays]
    t.optimizer.params = t.params
    module.to(np.float32)
    t.arrays = [a.astype(np.float32) for a in t.arrays]
    t.states = [
        {k: v.astype(np.float32) if k != "step" else v for k, v in s.items()} for s in t.states
    ]


def a_copy(t: Twin) -> None:
    t.optimizer = copy.copy(t.optimizer)
    t.optimizer.state = copy.deepcopy(t.optimizer.state)


def a_pickle(t: Twin) -> None:
    t.optimizer = pickle.loads(pickle.dumps(t.optimizer))
    t.params = t.optimizer.params


@pytest.mark.parametrize("change", [
    new_data, new_data_in_fortran_order, edited_data, held_data, another_state,
    a_state_of_another_dtype_and_order, a_loaded_state, a_new_step_count, float32, a_copy, a_pickle,
], ids=lambda f: f.__name__)  # fmt: skip
def test_a_step_sees_what_has_changed_since_the_last(twin, change, rng) -> None:
    change(twin)
    for _ in range(2):
        twin.step([g.astype(a.dtype) for g, a in zip(gradients(rng, twin.arrays), twin.arrays)])
    if hasattr(twin, "held"):
        np.testing.assert_array_equal(twin.held, twin.arrays[0])
        del twin.held


def test_an_array_that_comes_to_lie_where_the_last_one_did_is_not_taken_for_it(rng) -> None:
    p = leaf(rng.standard_normal(64))
    optimizer = optim.SGD([p], lr=1.0)
    for k in range(50):  # small arrays come from a cache: soon one has the address of another
        p.data = np.full(64, float(k))
        p.grad = mg.tensor(np.ones(64))
        optimizer.step()
        np.testing.assert_array_equal(p.numpy(), np.full(64, k - 1.0))


def test_a_step_keeps_neither_parameters_nor_gradients_from_being_freed() -> None:
    p = leaf(np.ones(5))
    optimizer = optim.Adam([p])
    p.grad = mg.tensor(np.ones(5))
    optimizer.step()
    array, references = id(p._array), sys.getrefcount(p._grad._array)
    assert references == 2
    p.data[0] = 3.0
    assert id(p._array) == array, "p.data has made a copy: somebody holds the array"


def test_a_backward_pass_through_an_edited_parameter_is_refused_at_every_step() -> None:
    p = leaf([1.0, 2.0])
    optimizer = optim.SGD([p], lr=0.1)
    for _ in range(3):
        loss = (p * p).sum()
        p.grad = mg.tensor([1.0, 1.0])
        optimizer.step()
        with pytest.raises(mg.GradientError, match="edited in place"):
            loss.backward()
    p.grad = None
    (p * p).sum().backward()
    np.testing.assert_array_equal(p.grad.numpy(), 2 * p.numpy())


def test_parameters_and_gradients_may_have_gaps(rng) -> None:
    whole = rng.standard_normal((4, 6, 5))
    views = [lambda a: a[::2, :, 1], lambda a: a[1::2, ::-1, 2], lambda a: a[0, :, 3:].T]
    owner = mg.tensor(whole)
    params = [view(owner.detach()).requires_grad_() for view in views]
    expected, velocity = whole.copy(), np.zeros_like(whole)
    optimizer = optim.SGD(params, lr=0.5, momentum=0.5)
    for k in range(3):
        g = rng.standard_normal(whole.shape)
        for p, view in zip(params, views):
            p.grad = mg.tensor(view(g))
            if k:
                p._grad._array = view(g.copy())  # with its gaps
        optimizer.step()
        velocity = 0.5 * velocity + g
        for p, view in zip(params, views):
            x = view(expected)
            x -= 0.5 * view(velocity)
            np.testing.assert_allclose(p.numpy(), x, rtol=1e-14)
        np.testing.assert_allclose(owner.numpy(), expected, rtol=1e-14)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("first", [0, 1])
def test_a_gradient_alone_may_have_gaps_at_any_step(order: str, first: int, rng) -> None:
    start = [np.array(rng.standard_normal((4, 6)), order=order)]
    twin = Twin(optim.SGD, {"lr": 0.1}, sgd, start)
    gaps = [
        lambda: rng.standard_normal((4, 18))[:, 6:12],
        lambda: rng.standard_normal((8, 6))[::2],
        lambda: rng.standard_normal((4, 6))[:, ::-1],
        lambda: rng.standard_normal((6, 9)).T[3:7],
        lambda: np.broadcast_to(rng.standard_normal(6), (4, 6)),
    ]
    for k in range(4 * len(gaps)):
        g = gaps[k // 2 % len(gaps)]() if k % 2 == first else rng.standard_normal((4, 6))
        twin.params[0].grad = mg.tensor(np.zeros((4, 6)))
        twin.params[0].grad._array = g
        twin.optimizer.step()
        twin.follow([g])


def test_gradients_of_three_axes_may_lie_in_any_order(rng) -> None:
    start = [rng.standard_normal((3, 4, 5))]
    twin = Twin(optim.SGD, {"lr": 0.1}, sgd, start)
    for axes in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        g = rng.standard_normal([start[0].shape[i] for i in axes]).transpose(np.argsort(axes))
        twin.params[0].grad = mg.tensor(np.zeros((3, 4, 5)))
        twin.params[0].grad._array = g
        twin.optimizer.step()
        twin.follow([g])


def test_a_broadcast_parameter_and_gradient_get_memory_of_their_own() -> None:
    p = mg.broadcast_to(mg.tensor([2.0]), (3,)).detach().requires_grad_()
    p.grad = mg.tensor([1.0, 2.0, 3.0])
    optim.SGD([p], lr=1.0).step()
    assert p.tolist() == [1.0, 0.0, -1.0]
    q = leaf(np.ones((2, 3)))
    mg.sum(q).backward()
    optim.SGD([q], lr=0.25).step()
    assert q.tolist() == [[0.75] * 3] * 2


def test_a_gradient_that_is_the_parameter_itself_is_read_as_it_was() -> None:
    p = leaf([1.0, 2.0])
    p.grad = p.detach()
    optimizer = optim.SGD([p], lr=0.5, momentum=0.5)
    optimizer.step()
    assert p.tolist() == [0.5, 1.0]


def test_a_gradient_in_the_memory_of_another_parameter_is_read_as_it_was() -> None:
    p, q = leaf(np.arange(6.0)), leaf(np.zeros(5))
    optimizer = optim.SGD([p, q], lr=1.0)
    for _ in range(3):
        before, expected = p.numpy().copy(), q.numpy() - p.numpy()[1:]
        p.grad, q.grad = mg.tensor(np.ones(6)), p.detach()[1:]
        optimizer.step()
        np.testing.assert_array_equal(q.numpy(), expected)
        np.testing.assert_array_equal(p.numpy(), before - 1.0)


# -- what is refused -------------------------------------------------------------------------------


def test_parameters_that_share_memory_are_refused() -> None:
    whole = mg.tensor(np.arange(6.0))
    a, b = whole.detach()[:4].requires_grad_(), whole.detach()[3:].requires_grad_()
    optimizer = optim.SGD([a, b], lr=0.1)
    for p in (a, b):
        p.grad = mg.tensor(np.ones(p.shape))
    with pytest.raises(mg.GradientError, match="parameters 0 and 1, or their states, share memory"):
        optimizer.step()
    apart = whole.detach()[:3].requires_grad_(), whole.detach()[3:].requires_grad_()
    for p in apart:
        p.grad = mg.tensor(np.ones(p.shape))
    optim.SGD(apart, lr=1.0).step()
    assert whole.tolist() == [-1.0, 0.0, 1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("bad", [np.zeros(3), [0.0, 0.0], None, np.zeros((2, 1))])
def test_a_state_of_another_shape_is_refused_and_nothing_moves(bad) -> None:
    p, q = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    optimizer = optim.Adam([p, q])
    for k in range(2):
        for t in (p, q):
            t.grad = mg.tensor([1.0, 1.0])
        if k:
            optimizer.state[1]["mean"] = bad
            before = p.tolist()
            with pytest.raises(mg.StateDictError, match="state 'mean' of parameter 1 is"):
                optimizer.step()
            assert p.tolist() == before
            assert optimizer.state[0]["step"] == 1
        else:
            optimizer.step()


def test_a_gradient_of_another_dtype_is_refused() -> None:
    p = leaf([1.0, 2.0])
    p.grad = mg.tensor([1.0, 1.0])
    p.grad._array = np.ones(2, np.float32)
    with pytest.raises(mg.GradientError, match=r"parameter 0 is float32\[2\]; expected float64"):
        optim.SGD([p]).step()


# -- optimisers of one's own -----------------------------------------------------------------------


class Signs(optim.Optimizer):
    """x -= lr * sign(g), with a count."""

    def slots(self, x: Array) -> dict[str, Any]:
        return {"seen": np.zeros_like(x)}

    def update(self, x: Array, g: Array, state: dict[str, Any]) -> None:
        state["seen"] += 1
        x -= self.lr * np.sign(g)


class Doubled(optim.SGD):
    """Twice the gradient."""

    def update(self, x: Array, g: Array, state: dict[str, Any]) -> None:
        super().update(x, 2 * g, state)


class Lion(optim.Optimizer):
    """By a formula: x -= lr * (m - g) with m = m / 2 + g."""

    def slots(self, x: Array) -> dict[str, Any]:
        return {"m": np.zeros_like(x)}

    def formula(self) -> str:
        return "m = c(0.5) * m + g\nx = x - lr * (m - g)"

    def numbers(self, t: int) -> dict[str, float]:
        return {"lr": self.lr}


def test_an_update_of_ones_own_goes_on_working() -> None:
    p = leaf(np.array([1.0, 2.0], np.float32))
    own = Signs([p], lr=0.5)
    for k in range(1, 4):
        p.grad = mg.tensor(np.array([3.0, -3.0], np.float32))
        own.step()
        np.testing.assert_array_equal(p.numpy(), [1.0 - 0.5 * k, 2.0 + 0.5 * k])
        np.testing.assert_array_equal(own.state[0]["seen"], [k, k])


def test_an_update_of_ones_own_may_call_that_of_its_base() -> None:
    for start in (np.ones((2, 3)), np.ones((2, 3), np.float32), np.ones((3, 2)).T):
        p = leaf(start)
        own = Doubled([p], lr=0.5, momentum=0.5)
        velocity, x = np.zeros((2, 3)), np.ones((2, 3))
        for _ in range(3):
            p.grad = mg.tensor(np.arange(6.0).reshape(2, 3).astype(start.dtype))
            own.step()
            velocity = 0.5 * velocity + 2 * np.arange(6.0).reshape(2, 3)
            x = x - 0.5 * velocity
            np.testing.assert_array_equal(p.numpy(), x)


def test_an_update_put_on_one_optimizer_is_called() -> None:
    p = leaf([1.0])
    optimizer, seen = optim.SGD([p]), []
    optimizer.update = lambda x, g, state: seen.append(state["step"])  # type: ignore[method-assign]
    for _ in range(2):
        p.grad = mg.tensor([1.0])
        optimizer.step()
    assert (seen, p.tolist()) == ([1, 2], [1.0])


def test_a_formula_of_ones_own_is_an_optimizer() -> None:
    p = leaf([1.0, 2.0])
    own = Lion([p], lr=0.5)
    m, x = np.zeros(2), np.array([1.0, 2.0])
    for _ in range(3):
        p.grad = mg.tensor([1.0, -2.0])
        own.step()
        m = 0.5 * m + [1.0, -2.0]
        x = x - 0.5 * (m - [1.0, -2.0])
        np.testing.assert_array_equal(p.numpy(), x)


def test_an_optimizer_without_a_rule_says_so() -> None:
    p = leaf([1.0])
    p.grad = mg.tensor([1.0])
    with pytest.raises(TypeError, match=r"Nothing defines no update\(\)"):
        type("Nothing", (optim.Optimizer,), {})([p], 0.1).step()


@pytest.mark.needs_jit
def test_a_step_takes_ten_python_calls_at_most(rng) -> None:
    params = [leaf(rng.standard_normal((4, 3)).astype(np.float32)) for _ in range(8)]
    optimizer = optim.Adam(params)

    def step() -> None:
        optimizer.zero_grad()
        for p in params:
            p._grad = g
        optim.clip_grad_norm_(params, 1e-3)
        optimizer.step()

    g = mg.tensor(np.ones((4, 3), np.float32))
    for run, most in ((step, 22), (optimizer.step, 10)):
        run()
        assert calls(run) <= most


def calls(f: Callable[[], None]) -> int:
    """Python functions that are called in f."""
    count = 0

    def saw(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(saw)
    try:
        f()
    finally:
        sys.setprofile(before)
    return count


def test_two_threads_may_step_one_optimizer(rng) -> None:
    params = [leaf(np.zeros(3000)) for _ in range(4)]
    optimizer = optim.SGD(params, lr=1.0)
    for p in params:
        p.grad = mg.tensor(np.ones(3000))

    def run() -> None:
        for _ in range(20):
            optimizer.step()

    threads = [threading.Thread(target=run) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for p in params:  # lost updates are the program's own fault, torn tables would be ours
        assert {-60.0} >= set(p.tolist()) or min(p.tolist()) >= -60.0


# -- clipping --------------------------------------------------------------------------------------


def with_gradients(gs: list[Array]) -> list[mg.Tensor]:
    params = [leaf(np.zeros(g.shape, g.dtype)) for g in gs]
    for p, g in zip(params, gs, strict=True):
        p.grad = mg.tensor(g)
    return params


@pytest.mark.parametrize("p", [2.0, np.inf, 1.0, 3.5])
def test_the_norm_is_exact_and_the_scaling_has_numpys_bits(p, rng) -> None:
    for k in range(3):
        gs = gradients(rng, arrays(rng), turned=k == 1)
        gs += [rng.standard_normal(20001).astype(np.float32)]
        params = with_gradients(gs)
        norm = optim.clip_grad_norm_(params, 2.5, norm_type=p)
        every = np.abs(np.concatenate([g.ravel().astype(float) for g in gs]))
        true = every.max() if p == np.inf else math.fsum(every**p) ** (1 / p)
        assert norm == pytest.approx(true, rel=1e-14)
        scale = np.float64(2.5 / (norm + 1e-6))
        for g, q in zip(gs, params, strict=True):
            np.testing.assert_array_equal(q.grad.numpy(), (g * scale).astype(g.dtype))
        again = optim.clip_grad_norm_(params, 2.5, norm_type=p)
        assert again == pytest.approx(2.5, rel=1e-6)


def test_gradients_within_the_limit_keep_their_bits_and_are_not_edited() -> None:
    x = leaf([3.0, 4.0])
    loss = (x * x).sum()
    x.grad = x.detach()
    for _ in range(3):
        assert optim.clip_grad_norm_(x, 5.1) == 5.0
        assert optim.clip_grad_norm_(x, np.inf) == 5.0
    loss.backward()  # nothing has touched what it needs
    assert optim.clip_grad_norm_([x], 0.0) > 5.0
    assert x.grad.tolist() == [0.0, 0.0]


def test_clipping_what_backward_still_needs_is_noticed() -> None:
    for clip in (optim.clip_grad_norm_, optim.clip_grad_value_):
        x = leaf([3.0, 4.0])
        loss = (x * x).sum()
        x.grad = x.detach()
        clip([x], 1.0)
        with pytest.raises(mg.GradientError, match="edited in place"):
            loss.backward()


@pytest.mark.parametrize("size", [1e-320, 1e-160, 1e160, 1e300])
def test_squares_that_leave_the_range_are_scaled(size) -> None:
    params = with_gradients([np.array([3.0 * size, -4.0 * size]), np.zeros(3, np.float32)])
    assert optim.clip_grad_norm_(params, np.inf) == pytest.approx(5.0 * size, rel=1e-12)


def test_a_norm_above_all_floats_is_infinite_and_the_gradients_are_scaled_all_the_same() -> None:
    top = np.finfo(np.float64).max
    params = with_gradients([np.full(5, top), np.full(4, -top)])
    for norm in (np.inf, 1.0):
        assert optim.clip_grad_norm_(params, 1.0, error_if_nonfinite=True) == pytest.approx(norm)
        for p in params:
            np.testing.assert_allclose(np.abs(p.grad.numpy()), 1 / 3, rtol=1e-5)


def test_a_gradient_that_several_share_counts_once() -> None:
    p, q = leaf([0.0, 0.0]), leaf([0.0, 0.0])
    p.grad = mg.tensor([3.0, 4.0])
    q.grad = p.grad
    assert optim.clip_grad_norm_([p, q, p], 1.0) == 5.0
    np.testing.assert_allclose(p.grad.numpy(), [0.6, 0.8], rtol=1e-6)


def test_gradients_that_share_memory_in_part_are_refused() -> None:
    p, q = leaf(np.zeros(4)), leaf(np.zeros(2))
    p.grad = mg.tensor([1.0, 2.0, 3.0, 4.0])
    q.grad = p.grad.detach()[1:3]
    for clip in (optim.clip_grad_norm_, optim.clip_grad_value_):
        with pytest.raises(mg.GradientError, match=r"gradients 0 and 1, float64\[4\] and float64"):
            clip([p, q], 1.0)
    q.grad = p.grad.copy()[:2]
    r = leaf(np.zeros(2))
    whole = mg.tensor(np.ones(4))
    q.grad, r.grad = whole.detach()[:2], whole.detach()[2:]
    assert optim.clip_grad_norm_([q, r], 1.0) == 2.0
    np.testing.assert_allclose(whole.numpy(), np.full(4, 0.5), rtol=1e-6)


def test_gradients_with_gaps_and_broadcast_ones_are_clipped() -> None:
    for clip, expected in ((optim.clip_grad_norm_, 1 / 3), (optim.clip_grad_value_, 1.0)):
        p, q = leaf(np.zeros((3, 2))), leaf(np.zeros(3))
        p.grad, q.grad = mg.tensor(np.zeros((3, 2))), mg.tensor(np.zeros(3))
        wide = np.full((3, 4), 2.0)
        p.grad._array = wide[:, ::2]
        q.grad._array = np.broadcast_to(np.array([2.0]), (3,))
        clip([p, q], 2.0 if clip is optim.clip_grad_norm_ else 1.0)
        scale = expected if clip is optim.clip_grad_value_ else 4 / 6
        np.testing.assert_allclose(p.grad.numpy(), np.full((3, 2), scale), rtol=1e-5)
        np.testing.assert_allclose(q.grad.numpy(), np.full(3, scale), rtol=1e-5)
        np.testing.assert_array_equal(wide[:, 1::2], 2.0)


def test_clipping_by_value_is_numpys(rng) -> None:
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 0.3, -0.3], np.float32)
    for limit in (0.25, 0.0, 0.1, np.inf):
        gs = [*gradients(rng, arrays(rng)), odd]
        params = with_gradients(gs)
        optim.clip_grad_value_(params, limit)
        for g, p in zip(gs, params, strict=True):
            found, expected = p.grad.numpy(), np.clip(g, -limit, limit)
            np.testing.assert_array_equal(found, expected)
            np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


def test_what_is_no_tensor_is_refused() -> None:
    with pytest.raises(TypeError, match="clip_grad_norm_: expected Tensors, got tuple"):
        optim.clip_grad_norm_(mg.nn.Linear(1, 1).named_parameters(), 1.0)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def nothing_lent() -> Iterator[None]:
    yield
    gc.collect()
    assert not memory.lent
