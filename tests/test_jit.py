"""mg.jit: a replay gives the bits of the plain step, and refuses what it could not replay."""

from __future__ import annotations

import copy
import math
import os
import re
import struct
import threading
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn

F32 = np.float32


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


class Net(nn.Module):
    """Everything small: an embedding, dropout, a hidden layer, an output."""

    def __init__(self) -> None:
        self.embed = nn.Embedding(7, 4, padding_idx=2, generator=rng(1))
        self.drop = nn.Dropout(0.3, generator=rng(2))
        self.hidden = nn.Linear(4, 5, generator=rng(3))
        self.out = nn.Linear(5, 3, generator=rng(4))

    def forward(self, index: Any) -> Any:
        return self.out(mg.tanh(self.hidden(self.drop(self.embed(index)))))


OPTIMISERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda ps: mg.optim.SGD(ps, 0.1, momentum=0.9, weight_decay=0.01),
    "adam": lambda ps: mg.optim.Adam(ps, 0.01),
    "adamw": lambda ps: mg.optim.AdamW(ps, 0.01),
    "rmsprop": lambda ps: mg.optim.RMSprop(ps, 0.01, momentum=0.5, centered=True),
    "adagrad": lambda ps: mg.optim.Adagrad(ps, 0.01),
}


def trainer(kind: str = "adam") -> tuple[Any, Any, Callable[..., Any]]:
    net = Net()
    optimizer = OPTIMISERS[kind](list(net.parameters()))

    def step(index: Any, target: Any, scale: float) -> Any:
        optimizer.zero_grad()
        loss = nn.mse_loss(net(index), target) * scale
        loss = loss + 1e-3 * (net.out.weight * net.out.weight).sum()
        loss.backward()
        norm = mg.optim.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
        return {"loss": loss, "norm": norm}

    return net, optimizer, step


def batches(n: int, seed: int = 5) -> list[tuple[Any, Any, float]]:
    draw = rng(seed)
    return [
        (draw.integers(0, 7, (3, 2)), draw.normal(size=(3, 2, 3)).astype(F32), 1.0 + k / 3)
        for k in range(n)
    ]


def same(a: Any, b: Any) -> bool:
    return bool(np.array_equal(np.asarray(a), np.asarray(b)))


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_many_steps_give_the_bits_of_the_plain_step(kind: str) -> None:
    net, optimizer, step = trainer(kind)
    other, its, plain = trainer(kind)
    jitted = mg.jit(step)
    for batch in batches(7):
        got, expected = jitted(*batch), plain(*batch)
        assert got["loss"].item() == expected["loss"].item()
        assert got["norm"] == expected["norm"]
        for p, q in zip(net.parameters(), other.parameters(), strict=True):
            assert same(p.numpy(), q.numpy())
            assert same(p.grad.numpy(), q.grad.numpy())
        state, expected_state = optimizer.state_dict(), its.state_dict()
        assert all(same(state[k], expected_state[k]) for k in expected_state)
    assert (jitted.recorded, jitted.replayed) == (2, 5)


def test_an_optimiser_may_step_twice_and_two_may_share_parameters() -> None:
    def trainer() -> tuple[Any, Any, Callable[..., Any]]:
        w = mg.tensor([1.0, 2.0], requires_grad=True)
        groups = [{"params": [w], "lr": 0.1}]
        one, other = mg.optim.Adam(groups), mg.optim.SGD([w], 0.1, momentum=0.9)

        def step(x: Any) -> Any:
            for optimizer in (one, other, one):
                w.grad = None
                ((w - x) ** 2).sum().backward()
                optimizer.step()
            other.step()
            return w.detach().copy()

        return one, other, step

    (one, other, step), (its, others, plain) = trainer(), trainer()
    jitted = mg.jit(step)
    for k in range(5):
        x = np.array([3.0, 4.0]) * k
        assert same(jitted(x), plain(x))
        for optimizer, expected in ((one, its), (other, others)):
            found = optimizer.state_dict()
            assert all(same(found[k], v) for k, v in expected.state_dict().items())
    assert jitted.replayed == 3


def test_a_checkpoint_between_two_replays_goes_on_to_the_same_bits() -> None:
    net, optimizer, step = trainer()
    jitted = mg.jit(step)
    data = batches(9)
    for batch in data[:5]:
        jitted(*batch)
    kept = {k: np.array(v) for k, v in net.state_dict().items()}, optimizer.state_dict()
    masks = net.drop.generator.bit_generator.state
    expected = [jitted(*batch)["loss"].item() for batch in data[5:]]
    net.load_state_dict(kept[0])
    optimizer.load_state_dict(kept[1])
    net.drop.generator.bit_generator.state = masks
    assert [jitted(*batch)["loss"].item() for batch in data[5:]] == expected


def test_results_and_gradients_are_the_callers_own() -> None:
    net, _, step = trainer()
    jitted = mg.jit(step)
    seen = []
    for batch in batches(6):
        result = jitted(*batch)
        seen.append((result["loss"], result["loss"].item(), net.out.weight.grad))
    values = [g.numpy().copy() for _, _, g in seen]
    jitted(*batches(1, seed=9)[0])
    for (loss, number, g), value in zip(seen, values, strict=True):
        assert loss.item() == number
        assert same(g.numpy(), value)
    assert not same(values[-1], values[-2])


def test_each_kind_of_arguments_has_a_program_of_its_own() -> None:
    w = mg.tensor([1.0, 2.0], requires_grad=True)

    @mg.jit
    def f(x: Any, flag: bool = False, names: Any = ("a",)) -> Any:
        with mg.no_grad():
            return {"y": x * w * (2.0 if flag else 3.0), "names": names}

    for _ in range(3):
        for n in (0, 1, 3):
            for flag in (True, False):
                x = rng().normal(size=(n, 2))
                found = f(x, flag=flag)
                assert same(found["y"].numpy(), x * [1.0, 2.0] * (2.0 if flag else 3.0))
                assert found["names"] == ("a",)
    assert (f.recorded, f.replayed) == (12, 6)


def test_arguments_by_name_may_come_in_any_order() -> None:
    f = mg.jit(lambda x, y, scale: mg.tensor(x) * scale - mg.tensor(y))
    for k in range(6):
        a, b, c = rng(k).normal(size=3)
        given = {"y": np.array([b]), "scale": float(c), "x": np.array([a])}
        names = sorted(given, reverse=bool(k % 2))
        found = f(**{name: given[name] for name in names}).item()
        assert abs(found - (a * c - b)) < 1e-14
    assert (f.recorded, f.replayed) == (2, 4)


def test_a_program_whose_parameters_have_moved_is_dropped() -> None:
    w = mg.tensor(np.ones(2), requires_grad=True)
    f = mg.jit(lambda x: w.detach() * x)
    for k in range(1, 4):
        w.data = np.full(2, float(k))
        assert [f(np.ones(2)).tolist() for _ in range(3)] == [[float(k)] * 2] * 3
        assert len(f.all_programs()) == 1


def test_tensors_lists_and_states_go_in_and_come_out() -> None:
    @mg.jit
    def f(state: Any, xs: Any) -> Any:
        h = mg.tanh(state["h"] + xs[0] - xs[1])
        return {"h": h}, [h * 2.0, xs[0]]

    state, h = {"h": mg.tensor(np.zeros(3))}, np.zeros(3)
    for k in range(5):
        x = rng(k).normal(size=(2, 3))
        state, (twice, first) = f(state, [x[0], mg.tensor(x[1])])
        h = np.tanh(h + x[0] - x[1])
        np.testing.assert_allclose(state["h"].numpy(), h, rtol=1e-14)
        np.testing.assert_allclose(twice.numpy(), 2 * h, rtol=1e-14)
        assert same(first, x[0])


def test_slices_of_arguments_are_views_of_them() -> None:
    f = mg.jit(lambda x: mg.tanh(mg.tensor(x[1:, ::2])) + mg.tensor(x)[0, 0] + x[..., :2][:2])
    for k in range(4):
        x = rng(k).normal(size=(3, 4))
        expected = np.tanh(x[1:, ::2]) + x[0, 0] + x[:2, :2]
        np.testing.assert_allclose(f(x).numpy(), expected, rtol=1e-14)
    assert f.replayed == 2


def test_masks_that_a_cell_draws_are_drawn_in_every_replay() -> None:
    def made() -> Any:
        draws = rng(4)
        layer = nn.Recurrent(
            lambda size: nn.ZoneoutLSTMCell(size, 4, generator=draws, dtype=np.float64), 3
        )
        for p in layer.parameters():
            p.data = rng(p.size).normal(size=p.shape)
        return layer

    plain, other = made(), made()
    step = mg.jit(lambda x: other(x)[0].detach())
    for k in range(4):
        x = rng(k).normal(size=(5, 2, 3))
        assert same(step(x).numpy(), plain(x)[0].numpy())
    assert step.replayed == 2


def test_a_float_argument_may_change_and_be_computed_with() -> None:
    w = mg.tensor([1.0], requires_grad=True)
    optimizer = mg.optim.SGD([w], 1.0)

    @mg.jit
    def step(x: Any, rate: float) -> Any:
        optimizer.zero_grad()
        optimizer.lr = 0.5 * rate
        loss = (w * x * (1.0 - rate) ** 2).sum()
        loss.backward()
        optimizer.step()
        return loss

    value = 1.0
    for rate in (0.5, 0.25, 0.125, 0.75, 0.5):
        assert step(np.array([2.0]), rate).item() == value * 2.0 * (1 - rate) ** 2
        value -= 0.5 * rate * 2.0 * (1 - rate) ** 2
        assert (w.item(), optimizer.lr) == (value, 0.5 * rate)


COMPUTED: dict[str, Callable[..., Any]] = {  # of an array x and a float a
    "times": lambda x, a: (x * a).sum(),
    "powers": lambda x, a: (x**a + a**x).sum(),
    "arithmetic": lambda x, a: (x * (2.0 / (1.0 - a) + a**0.5 - -a)).sum(),
    "of NumPy's number": lambda x, a: (x * (np.float64(2.0) * a + a * np.float32(0.5))).sum(),
    "sum": lambda x, a: (x * sum([a, a])).sum(),
    "stack": lambda x, a: mg.stack([x.sum(), a]).sum(),
    "clip": lambda x, a: mg.clip(x, -a, a).sum(),
    "where": lambda x, a: mg.where(mg.greater(x, a), x, a).sum(),
    "integers": lambda x, a: (mg.greater(mg.tensor([0, 1, 2]), a) * 1.0).sum(),
    "a Tensor": lambda x, a: (x * mg.sqrt(mg.tensor(a))).sum(),
    "a Tensor of a dtype": lambda x, a: (x * mg.tensor(a, dtype=F32)).sum(),
    "a view": lambda x, a: (x * mg.broadcast_to(a, (2,))).sum(),
    "of floats alone": lambda x, a: x.sum() * mg.maximum(a, 0.3),
}


@pytest.mark.parametrize("dtype", [float, np.float64, np.float32])
@pytest.mark.parametrize("name", COMPUTED)
def test_what_is_computed_of_a_float_argument_is_computed_anew(name: str, dtype: Any) -> None:
    f = COMPUTED[name]
    jitted = mg.jit(f)
    for kind in (np.float64, F32):
        for k, a in enumerate((0.5, 0.5, 0.5, 0.25, 0.75, -0.0, 0.1)):
            x = mg.tensor(np.array([1.0 + k, 2.0], kind))
            got, want = jitted(x, dtype(a)), f(x, dtype(a))
            assert np.array_equal(got.numpy(), want.numpy(), equal_nan=True)
            assert got.dtype == want.dtype
    assert (jitted.recorded, jitted.replayed) == (6, 8)  # one when it is another for the first time


MADE: dict[str, Callable[..., Any]] = {
    "math": lambda x, a: x * math.sqrt(a),
    "text": lambda x, a: x * float(repr(a)),
    "C": lambda x, a: x * struct.unpack("d", struct.pack("d", a))[0],
    "complex": lambda x, a: x * abs(a * 1j),
    "a branch": lambda x, a: mg.exp(x) if math.isclose(a, 0.5) else mg.tanh(x),
    "a parameter": lambda x, a: mg.flip(x, math.ceil(math.fabs(a) - 1.0) - 1),
    "returned": lambda x, a: (x * 1.0, math.sqrt(a)),
}


@pytest.mark.parametrize("name", MADE)
def test_what_python_makes_of_a_float_argument_holds_for_that_value_alone(name: str) -> None:
    jitted, x = mg.jit(MADE[name]), mg.tensor([[1.0, 2.0]])
    for a in (0.5, 0.5, 0.5):
        jitted(x, a)
    with pytest.raises(mg.JitError, match=r"call before|returned 0\.7"):
        jitted(x, 1.5)
    assert jitted.replayed == 1
    jitted(x, 0.5)
    assert jitted.replayed == 2


@pytest.mark.filterwarnings("ignore::minigrad.jitting.JitWarning")
def test_ever_other_kinds_of_arguments_do_not_drop_a_program_that_is_used() -> None:
    step = mg.jit(lambda x, n: (x * 1.0).sum())
    x = mg.tensor([1.0])
    for k in range(60):
        step(x, "same" if k % 2 else k)
    assert step.replayed == 28


def test_each_float_argument_is_known_to_vary_once_it_has() -> None:
    jitted = mg.jit(lambda x, a, b: (x * a + b).sum())
    x = np.array([1.0, 2.0])
    for k, (a, b) in enumerate(
        [(1.0, 1.0), (1.0, 1.0), (2.0, 1.0), (2.0, 2.0), (3.0, 3.0), (1.0, 5.0), (np.nan, np.inf)]
    ):
        want = (x * a + b).sum()
        assert np.array_equal(jitted(mg.tensor(x), a, b).numpy(), want, equal_nan=True), k
    assert (jitted.recorded, jitted.replayed) == (4, 3)


def test_a_float_that_stays_does_not_keep_a_parameter_from_being_frozen() -> None:
    w, v = (mg.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))

    def plain(x: Any, rate: float) -> Any:
        w.grad = v.grad = None
        loss = ((w * x + v) ** 2).sum() * rate
        loss.backward()
        return loss

    step, x = mg.jit(plain), np.array([0.5, -1.0])
    for k, rate in enumerate((0.5, 0.5, 0.5, 0.5, 0.25, 0.5, 0.5, 0.75, 0.75)):
        v.requires_grad = k not in (3, 4, 5)
        assert step(mg.tensor(x), rate).item() == plain(mg.tensor(x), rate).item()
        step(mg.tensor(x), rate)
        assert (v.grad is None) is not v.requires_grad
        assert w.grad.tolist() == (2 * rate * (np.array([1.0, 2.0]) * (x + 1)) * x).tolist()


def test_an_array_in_another_byte_order_is_read_as_it_is() -> None:
    jitted = mg.jit(lambda x: mg.tanh(mg.tensor(x)).sum())
    for k in range(4):
        x = np.array([0.5, float(k)])
        assert jitted(x.astype(">f8")).item() == mg.tanh(mg.tensor(x)).sum().item()
    assert jitted.replayed == 2


def each(step: Any, arguments: Iterable[Any]) -> None:
    for value in arguments:
        step(value)


def test_who_passes_ever_other_kinds_of_arguments_is_warned() -> None:
    def of(n: Any) -> Any:
        return mg.tensor([1.0]).sum()

    step = mg.jit(of)
    with pytest.warns(mg.jitting.JitWarning, match=r"kinds, 15 and then 16; pass what changes"):
        each(step, range(20))
    step = mg.jit(of)
    with pytest.warns(mg.jitting.JitWarning, match=r"float64\[15\] and then float64\[16\]"):
        each(step, map(np.zeros, range(20)))
    step = mg.jit(of)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        each(step, [k % 4 for k in range(200)])


def test_a_number_that_the_step_computes_is_that_of_the_same_call() -> None:
    w = mg.tensor([1.0, 2.0], requires_grad=True)

    def step(x: Any) -> Any:
        w.grad = None
        (w * x).sum().backward()
        norm = mg.optim.clip_grad_norm_([w], 1.0)  # |x|
        with mg.no_grad():
            return {"times": mg.tensor(x) * norm, "more": mg.tensor(x) * (2.0 * norm + 1.0)}

    jitted = mg.jit(step)
    for k in range(5):
        x = np.array([3.0, 4.0]) * (k + 1)
        found = jitted(x)
        assert found["times"].tolist() == (x * 5 * (k + 1)).tolist()
        assert found["more"].tolist() == (x * (10 * (k + 1) + 1)).tolist()
    assert jitted.replayed == 3


def test_a_schedule_outside_and_inside_moves_the_learning_rate() -> None:
    for inside in (True, False):
        w = mg.tensor([1.0], requires_grad=True)
        optimizer = mg.optim.SGD([w], 1.0)
        schedule = mg.optim.ExponentialLR(optimizer, 0.5)

        def plain(optimizer: Any = optimizer, w: Any = w, schedule: Any = schedule,
                  inside: bool = inside) -> None:  # fmt: skip
            optimizer.zero_grad()
            w.sum().backward()
            optimizer.step()
            if inside:
                schedule.step()

        step = mg.jit(plain)
        for _ in range(5):
            step()
            if not inside:
                schedule.step()
        assert w.item() == 1 - (1 + 0.5 + 0.25 + 0.125 + 0.0625)
        assert optimizer.lr == 0.5**5


def test_train_and_eval_are_two_programs_and_both_stay() -> None:
    net = Net()

    @mg.jit
    def f(index: Any) -> Any:
        with mg.no_grad():
            return net(index)

    other = Net()
    for k in range(6):
        index = rng(k).integers(0, 7, (3, 2))
        for mode in (True, False):
            net.train(mode)
            other.train(mode)
            with mg.no_grad():
                assert same(f(index).numpy(), other(index).numpy())
    assert f.recorded == 4


def test_a_setting_of_a_module_may_change_and_not_in_the_step() -> None:
    drop = nn.Dropout(0.5, generator=rng(0))
    f = mg.jit(lambda x: drop(x))
    for p in (0.5, 0.0, 0.5, 1.0):
        drop.p = p
        for _ in range(3):
            mean = f(mg.tensor(np.ones(1000))).numpy().mean()
            assert abs(mean - (p < 1.0)) < (0.2 if p else 1e-12)
    assert f.recorded == 6

    class Counting(nn.Module):
        calls = 0

        def forward(self, x: Any) -> Any:
            self.calls = self.calls + 1
            return x * 2.0

    counting = mg.jit(Counting())
    with pytest.raises(mg.JitError, match=r"sets \.calls of a Counting"):
        counting(mg.tensor([1.0]))


def test_a_parameter_that_is_replaced_or_written_to_is_read_where_it_is() -> None:
    w = mg.tensor([1.0, 2.0], requires_grad=True)
    f = mg.jit(lambda x: (w.detach() * x).sum())
    x = np.array([1.0, 10.0])
    assert [f(x).item() for _ in range(4)] == [21.0] * 4
    w.data = [2.0, 3.0]
    assert [f(x).item() for _ in range(4)] == [32.0] * 4
    with mg.no_grad():
        w[0] = 0.0
    assert f(x).item() == 30.0
    w.data *= 2
    assert [f(x).item() for _ in range(4)] == [60.0] * 4


def test_a_part_that_is_replaced_and_a_parameter_that_is_frozen_are_noticed() -> None:
    net = Net().eval()

    @mg.jit
    def step(index: Any) -> Any:
        for p in net.parameters():
            p.grad = None
        loss = (net(index) ** 2).sum()
        loss.backward()
        return loss

    def check() -> None:
        for k in range(4):
            index = rng(k).integers(0, 7, (3, 2))
            value = step(index).item()
            grads = [p.grad for p in net.parameters()]
            assert value == step.function(index).item()
            for p, g in zip(net.parameters(), grads, strict=True):
                assert (g is None) == (p.grad is None)
                assert g is None or same(g.numpy(), p.grad.numpy())

    check()
    net.out = nn.Linear(5, 3, generator=rng(9))
    check()
    net.hidden.weight.requires_grad_(False)
    check()
    assert step.replayed == 6


def test_who_reads_p_data_all_the_time_is_warned() -> None:
    w = mg.tensor([1.0], requires_grad=True)
    step = mg.jit(lambda x: (w.detach() * x).sum())

    def use() -> None:
        for k in range(30):
            assert step(np.array([float(k)])).item() == k
            assert w.data[0] == 1.0

    with pytest.warns(mg.jitting.JitWarning, match=r"other memory .*p.numpy\(\)"):
        use()


def test_a_gradient_of_a_gradient_is_replayed() -> None:
    w = mg.tensor([0.5, -0.3], requires_grad=True)

    @mg.jit
    def step(x: Any) -> Any:
        w.grad = None
        y = mg.tanh(w * x).sum()
        (slope,) = mg.grad(y, [w], create_graph=True)
        penalty = (slope * slope).sum()
        penalty.backward()
        return penalty

    for k in range(4):
        x = rng(k).normal(size=2)
        value, found = step(x).item(), w.grad.numpy()
        y = np.tanh(w.numpy() * x)
        assert abs(value - (((1 - y * y) * x) ** 2).sum()) < 1e-12
        np.testing.assert_allclose(found, -4 * x**3 * y * (1 - y * y) ** 2, rtol=1e-10)
    assert step.replayed == 2


VIEWS: dict[str, Callable[..., Any]] = {
    "columns": lambda x, a, b: x @ mg.concatenate([a, b], 1),
    "a stack": lambda x, a, b: (mg.stack([a, b], 2) ** 2).sum(0),
    "a padding": lambda x, a, b: mg.pad(a, ((1, 1), (2, 0))) ** 3 * b.sum(),
    "between others": lambda x, a, b: mg.concatenate([a[:, :3] * 2.0, b, a[:, 3:]], 1) ** 2,
    "backwards": lambda x, a, b: mg.flip(a, 1) * b,
    "a slice": lambda x, a, b: (x @ a[:, ::2]).sum() * b[1:],
    "a transpose": lambda x, a, b: a.T @ b,
    "a broadcast": lambda x, a, b: mg.broadcast_to(a.sum(), (2, 3)) + b.mean(),
}


@pytest.mark.parametrize("view", VIEWS)
def test_a_parameter_may_be_read_through_a_view(view: str) -> None:
    def trained(jitted: bool) -> list[np.ndarray]:
        draw = np.random.default_rng(0)
        a, b = (mg.tensor(draw.normal(size=(4, 6)), requires_grad=True) for _ in range(2))
        optimizer = mg.optim.Adam([a, b], lr=0.1)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            loss = (VIEWS[view](mg.tensor(x), a, b) ** 2).sum()
            loss.backward()
            mg.optim.clip_grad_norm_([a, b], 0.3)
            mg.optim.clip_grad_value_([a, b], 0.1)
            optimizer.step()
            return loss

        run = mg.jit(step) if jitted else step
        losses = [run(draw.normal(size=(5, 4))).numpy() for _ in range(4)]
        return [*losses, a.numpy(), b.numpy()]

    for x, y in zip(trained(True), trained(False), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("norm_type", [2.0, np.inf, 3.0])
def test_the_limit_of_a_clipping_may_be_an_argument(norm_type: float) -> None:
    def trained(jitted: bool) -> list[Any]:
        draw = np.random.default_rng(0)
        a = mg.tensor(draw.normal(size=(4, 6)), requires_grad=True)
        optimizer = mg.optim.SGD([a], lr=0.5)

        def step(x: Any, limit: float, each: float) -> Any:
            a.zero_grad()
            (mg.tanh(mg.tensor(x) @ a) ** 2).sum().backward()
            mg.optim.clip_grad_value_(a, 2.0 * each)
            norm = mg.optim.clip_grad_norm_(a, limit, norm_type)
            rest = mg.optim.clip_grad_norm_(a, 0.5 * norm, norm_type)  # known within the step
            optimizer.step()
            return norm, rest

        run = mg.jit(step) if jitted else step
        found: list[Any] = []
        for k in range(6):
            limits = [np.inf, 1.0, 1.0, 0.25, 0.0, 2.0][k], [0.5, 0.5, 0.1, 0.3, 0.3, 0.3][k]
            found += run(draw.normal(size=(5, 4)), *limits)
        return [*found, a.numpy()]

    for x, y in zip(trained(True), trained(False), strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_limit_below_0_is_refused_in_a_replay_too() -> None:
    a = mg.tensor([3.0, 4.0], requires_grad=True)

    @mg.jit
    def step(x: Any, limit: float) -> Any:
        a.zero_grad()
        (a * x).sum().backward()
        return mg.optim.clip_grad_norm_(a, limit)

    for k in range(4):
        assert step(np.ones(2), 1.0 + k) == np.sqrt(2.0)
    with pytest.raises(ValueError, match=r"max_norm must be >= 0, got -1\.0"):
        step(np.ones(2), -1.0)
    assert step(np.ones(2), 1.0) == np.sqrt(2.0)
    np.testing.assert_allclose(a.grad.numpy(), np.full(2, np.sqrt(0.5)), 1e-5)


def test_gradients_from_before_the_step_are_added_to() -> None:
    w = mg.tensor([1.0], requires_grad=True)

    @mg.jit
    def step(x: Any) -> None:
        (w * x).sum().backward()

    total = 0.0
    for k in range(1, 7):
        step(np.array([float(k)]))
        total += k
        assert w.grad.item() == total
    w.grad = None
    step(np.array([3.0]))
    assert w.grad.item() == 3.0


def test_an_edit_inside_no_grad_is_replayed() -> None:
    w, mean = mg.tensor([1.0], requires_grad=True), mg.tensor([0.0])

    @mg.jit
    def step(x: Any, rate: float) -> Any:
        w.grad = None
        ((w * x) ** 2).sum().backward()
        with mg.no_grad():
            mean[...] = 0.5 * mean + 0.5 * w
            w[...] = w - rate * w.grad
            w[0] = w[0] + 0.0
        return mean

    value, average = 1.0, 0.0
    for rate in (0.1, 0.2, 0.05, 0.1, 0.3):
        average = 0.5 * average + 0.5 * value
        value -= rate * 2 * value * 4
        assert abs(step(np.array([2.0]), rate).item() - average) < 1e-12
        assert abs(w.item() - value) < 1e-12


def test_a_cell_may_look_up_what_comes_in_at_every_step() -> None:
    embed = nn.Embedding(7, 4, padding_idx=0, generator=rng(1))
    inner = nn.GRUCell(4, 5, generator=rng(2))
    shift = mg.tensor(rng(3).normal(size=(7, 5)).astype(F32))

    def cell(h: Any, ids: Any) -> Any:
        h, y = inner(h, embed(ids))
        return h, y + shift[ids] * mg.one_hot(ids, 5)

    jitted = mg.jit(lambda ids: mg.scan(cell, inner.init_state(3), ids).ys.detach())
    for k in range(4):
        ids = rng(k).integers(0, 5, (6, 3))
        plain = mg.scan(cell, inner.init_state(3), ids).ys
        np.testing.assert_array_equal(jitted(ids).numpy(), plain.numpy())
    with pytest.raises(mg.ShapeError, match="Embedding: expected integers from 0 to 6"):
        jitted(np.full((6, 3), 7))


def test_an_index_out_of_range_raises_in_a_replay_too() -> None:
    net = Net().eval()
    f = mg.jit(lambda index: net(index).detach())
    for k in range(3):
        f(np.array([k, 3]))
    with pytest.raises(mg.ShapeError, match="expected integers from 0 to 6, got some from 0 to 7"):
        f(np.array([0, 7]))


def test_integers_and_masks_go_through_ops() -> None:
    @mg.jit
    def f(index: Any, mask: Any) -> Any:
        return mg.where(mask, 1.0, mg.astype(index, np.float64)), mg.logical_not(mask)

    for k in range(4):
        index, mask = rng(k).integers(0, 9, 5), rng(k).random(5) < 0.5
        found, other = f(mg.tensor(index), mg.tensor(mask))
        assert same(found.numpy(), np.where(mask, 1.0, index))
        assert same(other.numpy(), ~mask)


def test_a_jitted_function_inside_another_is_part_of_it() -> None:
    inner = mg.jit(lambda x: mg.exp(x))
    outer = mg.jit(lambda x: inner(x) + 1.0)
    for k in range(4):
        assert abs(outer(mg.tensor([float(k)])).item() - (np.exp(k) + 1)) < 1e-12 * np.exp(k)
    assert (inner.recorded, outer.replayed) == (0, 2)


def test_threads_take_turns() -> None:
    w = mg.tensor(rng().normal(size=(8, 8)))
    f = mg.jit(lambda x: mg.tanh(x @ w).sum(axis=0))
    xs = [rng(k).normal(size=(5, 8)) for k in range(4)]
    expected = [np.tanh(x @ w.numpy()).sum(axis=0) for x in xs]
    for x in xs[:3]:
        f(x)
    wrong = []

    def work(k: int) -> None:
        for _ in range(50):
            if not np.allclose(f(xs[k]).numpy(), expected[k], rtol=1e-12):
                wrong.append(k)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_replays_what_another_thread_was_replaying() -> None:
    f = mg.jit(lambda x: x * 2.0)
    x = mg.tensor([1.0])
    for _ in range(3):
        f(x)
    with f._lock:
        child = os.fork()  # in the child nobody gives this lock back
        if child == 0:
            done: list[float] = []
            worker = threading.Thread(target=lambda: done.append(f(x).item()), daemon=True)
            worker.start()
            worker.join(10)
            os._exit(0 if done == [2.0] else 1)
    assert os.waitpid(child, 0)[1] == 0


# -- what cannot be replayed

W = mg.tensor([1.0, 2.0], requires_grad=True)
KEPT: list[Any] = []


def _hooked(x: Any) -> Any:
    y = W * x
    y.register_hook(lambda g: g * 2.0)
    y.sum().backward()


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "item": (lambda x: (W * x).sum().item(), r"t.item\(\) of float64\[\]"),
    "branch": (lambda x: x * 2.0 if (W * x).sum() < 0 else x, "a branch on a Tensor"),
    "float": (lambda x: float((W * x).sum()), "item"),
    "numpy": (lambda x: (W * x).numpy(), r"t.numpy\(\)"),
    "data": (lambda x: W.data, r"t.data"),
    "printing": (lambda x: print(W * x), "printing a Tensor"),
    "numpy of an argument": (lambda x: W * np.cumsum(x), "np.cumsum of an argument"),
    "ufunc of an argument": (lambda x: W * np.exp(x), "np.exp of an argument"),
    "arithmetic of an argument": (lambda x: W * (x + 1.0), "np.add of an argument"),
    "element of an argument": (lambda x: W * x[0], "an element or a choice"),
    "max of an argument": (lambda x: W * x.max(), "of an argument"),
    "repeat of an argument": (lambda x: W * x.repeat(1), r"\.repeat\(\) of an argument"),
    "sort of an argument": (lambda x: W * x.sort(), r"\.sort\(\) of an argument"),
    "flat of an argument": (lambda x: W * next(x.flat), r"\.flat of an argument"),
    "copy of an argument": (lambda x: W * copy.copy(x), r"copy\(\) of an argument"),
    "item of an argument": (lambda x: W * x.item(0), r".item\(\) of an argument"),
    "a mask of data": (lambda x: x[mg.greater(x, 3.5)], "a choice of elements"),
    "a mask of Tensors": (
        lambda x: W.detach()[mg.greater(mg.tensor(x), 3.5)],
        "the shape depends on data",
    ),
    "a hook": (_hooked, "a hook on a gradient"),
    "kept outside": (lambda x: KEPT.append(x * W.detach()), "is kept outside of it"),
    "no backward": (lambda x: (W * x).sum(), "still requires a gradient"),
}


def three(step: Any, x: Any) -> None:
    for _ in range(3):
        step(x)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_replayed_raises_and_names_the_line(name: str) -> None:
    function, message = REFUSED[name]
    step = mg.jit(function)
    with pytest.raises(mg.JitError, match=message) as caught:
        three(step, np.array([3.0, 4.0]))
    KEPT.clear()
    assert "test_jit.py:" in str(caught.value) or name == "no backward"
    assert step.replayed == 0
    assert mg.tanh(mg.tensor([0.0])).item() == 0.0  # nothing is recorded any more


READ: list[Callable[..., Any]] = [
    float, int, bool, round, str, "{:g}".format, lambda a: a > 0.0, lambda a: a == 0.5,
    lambda a: a % 1.0, lambda a: np.array([a, 1.0]), lambda a: mg.tensor([a, 1.0]),
    lambda a: a.hex(), lambda a: a.real, lambda a: a.is_integer(), lambda a: max(a, 0.1),
    lambda a: a * np.ones(2), lambda a: np.ones(2) - a, lambda a: np.linspace(0.0, a, 3),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(READ)))
def test_a_float_argument_is_not_read(number: int) -> None:
    def step(x: Any, a: float) -> Any:
        READ[number](a)
        return x * a

    with pytest.raises(mg.JitError, match=r"test_jit.py:\d+: .*o[fn] a float argument"):
        mg.jit(step)(mg.tensor([1.0]), 0.5)


def test_a_reshape_of_an_argument_that_copies_it_is_refused() -> None:
    step = mg.jit(lambda x: mg.tensor(x.T.reshape(6)))
    with pytest.raises(mg.JitError, match="a reshape of an argument that copies it"):
        step(np.ones((2, 3)))


def test_what_differs_from_call_to_call_raises_and_names_the_line() -> None:
    draw, count = rng(), [0]

    def noisy(x: Any) -> Any:
        return x * mg.tensor(draw.normal(size=2))

    def counting(x: Any) -> Any:
        count[0] += 1
        return x * float(count[0])

    def branching(x: Any) -> Any:
        count[0] += 1
        return mg.exp(x) if count[0] % 2 else mg.tanh(x)

    for function in (noisy, counting, branching):
        step = mg.jit(function)
        with pytest.raises(mg.JitError, match=r"test_jit.py:\d+: .*call before"):
            three(step, mg.tensor([1.0, 2.0]))


def test_who_looks_inside_is_told_to_leave_jit_off() -> None:
    step = mg.jit(lambda x: x * 2.0)
    x = mg.tensor([1.0])
    for _ in range(3):
        step(x)
    for watching in (mg.Tape(), mg.detect_anomaly(), mg.flow.record()):
        with watching, pytest.raises(mg.JitError, match=r"\.function\("):
            step(x)
    assert step(x).item() == 2.0


def test_an_argument_that_needs_a_gradient_or_has_no_kind_is_refused() -> None:
    step = mg.jit(lambda x: x)
    with pytest.raises(mg.JitError, match="requires a gradient, and would get none"):
        step(mg.tensor([1.0], requires_grad=True))
    with pytest.raises(mg.JitError, match="an argument is a set"):
        step({1, 2})


def test_an_error_in_the_step_leaves_everything_as_it_was() -> None:
    @mg.jit
    def step(x: Any) -> Any:
        return x @ mg.tensor(np.ones((3, 3)))

    with pytest.raises(mg.ShapeError):
        step(np.ones((2, 2)))
    for _ in range(3):
        assert step(np.ones((2, 3))).tolist() == [[3.0] * 3] * 2
    with pytest.raises(mg.ShapeError):
        step(np.ones((2, 2)))
    assert step(np.ones((2, 3))).tolist() == [[3.0] * 3] * 2


def test_explain_lists_the_calls_with_their_lines() -> None:
    w = mg.tensor(np.ones((2, 2)))
    step = mg.jit(lambda x: mg.tanh(x @ w + 1.0) * 2.0)
    assert "no program yet" in step.explain()
    for _ in range(3):
        step(np.ones((3, 2)))
    text = str(step)
    assert "recorded 2, replayed 1 times" in text
    assert "matmul: 3x2, 2x2 -> 3x2" in text
    assert "add + tanh + multiply: 3x2 -> 3x2" in text
    assert text.count("test_jit.py:") == 2


def test_the_calls_of_the_walk_back_name_the_line_of_backward() -> None:
    w = mg.tensor(np.ones((2, 2)), requires_grad=True)

    @mg.jit
    def step(x):
        w.grad = None
        loss = mg.sum(mg.tanh(x @ w))
        loss.backward()
        return loss

    for _ in range(3):
        step(np.ones((3, 2)))
    first = step.function.__code__.co_firstlineno
    lines = re.findall(r"^ +(\S+):(\d+) ", str(step), re.MULTILINE)
    assert {name for name, _ in lines} == {"test_jit.py"}
    assert {int(number) - first for _, number in lines} == {3, 4}


def test_a_jitted_step_can_be_drawn_once_it_has_a_program() -> None:
    w = mg.tensor(np.ones((2, 2)))
    step = mg.jit(lambda x: mg.tanh(x @ w + 1.0) * 2.0)
    with pytest.raises(ValueError, match="has no program yet"):
        mg.flow.draw(step)
    for _ in range(3):
        step(np.ones((3, 2)))
    dot = mg.flow.draw(step).dot
    assert "matmul" in dot
    assert "add + tanh + multiply" in dot
    assert dot.count(" -> n") == 1  # from the product to the kernel behind it
