"""Optimisers and schedules: what they refuse, and that they go on exactly where they stopped."""

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim


def leaf(data: Any) -> mg.Tensor:
    return mg.tensor(data, requires_grad=True)


OPTIONS: list[tuple[Any, dict[str, Any]]] = [
    (optim.SGD, {"lr": 0.1}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.8, "dampening": 0.1, "weight_decay": 0.2}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.8, "nesterov": True}),
    (optim.Adam, {"lr": 0.1, "betas": (0.5, 0.6), "eps": 1e-3, "weight_decay": 0.1}),
    (optim.AdamW, {"lr": 0.1, "betas": (0.5, 0.6), "eps": 1e-3, "weight_decay": 0.5}),
    (optim.Adam, {"lr": 0.1, "amsgrad": True}),
    (optim.RMSprop, {"lr": 0.1, "alpha": 0.5, "eps": 0.1, "centered": True, "momentum": 0.5}),
    (optim.Adagrad, {"lr": 0.1, "lr_decay": 0.5, "initial_accumulator_value": 2.0, "eps": 0.1}),
]
each = pytest.mark.parametrize(("kind", "options"), OPTIONS)


def steps(optimizer: Any, count: int, schedule: Any = None) -> list[float]:
    rates = []
    for t in range(count):
        for p in optimizer.params:
            p.grad = mg.tensor(np.cos(p.numpy() + t).astype(p.dtype))
        optimizer.step()
        if isinstance(schedule, optim.ReduceLROnPlateau):
            schedule.step(np.cos(t))
        elif schedule is not None:
            schedule.step()
        rates.append(optimizer.lr)
    return rates


@each
@pytest.mark.parametrize("stored", [False, True])
def test_a_default_optimizer_that_loads_a_state_takes_the_same_path(kind, options, stored) -> None:
    p = leaf([1.0, -2.0])
    first = kind([p], **options)
    steps(first, 3)
    state, copy = first.state_dict(), leaf(p.numpy())
    if stored:
        state = {k: np.asarray(v) for k, v in state.items()}  # as np.load gives it back
    second = kind([copy])
    second.load_state_dict(state)
    for name, value in options.items():
        assert getattr(second, name) == value
        assert type(getattr(second, name)) is type(value)
    steps(first, 3)
    steps(second, 3)
    np.testing.assert_array_equal(copy.numpy(), p.numpy())


@each
def test_a_state_with_a_wrong_hyperparameter_changes_nothing(kind, options) -> None:
    optimizer = kind([leaf([1.0])], **options)
    before = optimizer.state_dict()
    for name, bad in (("lr", -1.0), ("lr", "fast"), ("base_lr", np.nan), ("lr", [1.0, 2.0])):
        with pytest.raises(mg.StateDictError):
            optimizer.load_state_dict(before | {name: bad})
    with pytest.raises(mg.StateDictError, match=r"'0\.step' is complex128, expected numbers"):
        optimizer.load_state_dict(before | {"0.step": 1j})
    assert optimizer.state_dict() == before


@each
def test_the_state_follows_the_dtype_of_the_parameters(kind, options) -> None:
    net = mg.nn.Linear(2, 2)
    optimizer = kind(net.parameters(), **options)
    steps(optimizer, 2)
    for dtype in (np.float64, np.float32):
        net.to(dtype)
        steps(optimizer, 2)
        assert {p.dtype for p in net.parameters()} == {np.dtype(dtype)}
        arrays = [v for s in optimizer.state for v in s.values() if isinstance(v, np.ndarray)]
        assert {v.dtype for v in arrays} <= {np.dtype(dtype)}


SCHEDULES: list[Any] = [
    lambda o: optim.StepLR(o, 2, 0.5),
    lambda o: optim.ExponentialLR(o, 0.9),
    lambda o: optim.CosineAnnealingLR(o, 9, 0.01),
    lambda o: optim.LinearWarmup(o, 3, 0.1),
    lambda o: optim.LinearWarmup(o, 3, 0.1, then=optim.CosineAnnealingLR(o, 5)),
    lambda o: optim.LambdaLR(o, lambda t: 1 / (1 + t)),
    lambda o: optim.OneCycleLR(o, 0.5, total_steps=12),
    lambda o: optim.OneCycleLR(o, 0.5, epochs=3, steps_per_epoch=4, anneal_strategy="linear"),
    lambda o: optim.ReduceLROnPlateau(o, factor=0.5, patience=1, cooldown=1),
]


@pytest.mark.parametrize("make", SCHEDULES)
@pytest.mark.parametrize("order", ["load first", "make first", "both made"])
def test_a_schedule_resumes_in_any_order(make, order) -> None:
    first = optim.SGD([leaf([1.0])], lr=1.0)
    schedule = make(first)
    steps(first, 4, schedule)
    states = first.state_dict(), schedule.state_dict()
    expected = steps(first, 6, schedule)
    second = optim.SGD([leaf([1.0])], lr=0.7)
    if order == "load first":
        second.load_state_dict(states[0])
        again = make(second)
        again.load_state_dict(states[1])
    elif order == "make first":
        again = make(second)
        again.load_state_dict(states[1])
        second.load_state_dict(states[0])
    else:
        again = make(second)
        second.load_state_dict(states[0])
        again.load_state_dict(states[1])
    assert second.lr == states[0]["lr"]
    assert steps(second, 6, again) == expected
    assert make(second).base == 1.0, "a new one starts from the rate that no schedule has set"
    second.lr = 0.25
    assert make(second).base == 0.25


@pytest.mark.parametrize("make", SCHEDULES)
def test_groups_resume_with_their_own_rates_and_are_scheduled_from_them(make) -> None:
    def groups() -> list[dict[str, Any]]:
        return [{"params": [leaf([1.0])], "lr": 2.0}, {"params": [leaf([1.0]), leaf([2.0])]}]

    first = optim.Adam(groups(), lr=1.0)
    schedule = make(first)
    alone = optim.Adam([leaf([1.0])], lr=2.0)
    its = make(alone)
    for _ in range(2):
        steps(alone, 2, its)
    steps(first, 2, schedule)
    first.param_groups[1]["weight_decay"] = 0.1
    steps(first, 2, schedule)
    assert first.param_groups[0].lr == alone.lr, "a group of its own rate begins from that"
    second = optim.Adam(groups(), lr=0.3)
    second.load_state_dict({k: np.asarray(v) for k, v in first.state_dict().items()})
    again = make(second)
    again.load_state_dict(schedule.state_dict())
    for p, q in zip(first.params, second.params):
        with mg.no_grad():
            q[...] = p
    first.weight_decay = second.weight_decay = 0.3  # of the group that has none of its own
    steps(first, 3, schedule)
    steps(second, 3, again)
    assert [g["lr"] for g in second.param_groups] == [g["lr"] for g in first.param_groups]
    assert [g["weight_decay"] for g in second.param_groups] == [0.3, 0.1]
    for p, q in zip(first.params, second.params):
        np.testing.assert_array_equal(p.numpy(), q.numpy())
    with pytest.raises(mg.StateDictError, match=r"groups\.0\.size' is 1, expected 2"):
        optim.Adam([*groups()[::-1]]).load_state_dict(first.state_dict())
    with pytest.raises(mg.StateDictError, match=r"unexpected 'groups\.0\.lr'"):
        optim.Adam([p for g in groups() for p in g["params"]]).load_state_dict(first.state_dict())


def test_a_state_of_before_amsgrad_is_one_without() -> None:
    old = optim.Adam([leaf([1.0])]).state_dict()
    del old["amsgrad"]
    optim.Adam([leaf([1.0])]).load_state_dict(old)


def test_a_schedule_s_state_that_does_not_fit_changes_nothing() -> None:
    optimizer = optim.SGD([leaf([1.0])], lr=1.0)
    schedule = optim.StepLR(optimizer, 2, 0.5)
    before = schedule.state_dict()
    for bad in (
        {k: v for k, v in before.items() if k != "t"},
        before | {"more": 1},
        before | {"t": -1},
        before | {"gamma": "half"},
    ):
        with pytest.raises(mg.StateDictError, match=r"StepLR\.load_state_dict: "):
            schedule.load_state_dict(bad)
    assert schedule.state_dict() == before


NUMBERS = [
    (optim.SGD, ("lr", "momentum", "weight_decay", "dampening")),
    (optim.Adam, ("lr", "eps", "weight_decay")),
    (optim.AdamW, ("lr", "eps", "weight_decay")),
    (optim.RMSprop, ("lr", "alpha", "eps", "momentum", "weight_decay")),
    (optim.Adagrad, ("lr", "lr_decay", "eps", "weight_decay", "initial_accumulator_value")),
]


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k, names in NUMBERS for n in names])
@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf, "0.1", True, None, [0.1], 1j])
def test_hyperparameters_are_numbers_in_their_range(kind, name, bad) -> None:
    if (name, bad) == ("dampening", -0.1):
        return  # any finite number will do
    with pytest.raises((ValueError, TypeError), match=f"{kind.__name__}: {name}"):
        kind([leaf([1.0])], **{name: bad})
    optimizer = kind([leaf([1.0])])
    with pytest.raises((ValueError, TypeError), match=f"{kind.__name__}: {name}"):
        setattr(optimizer, name, bad)
    assert kind([leaf([1.0])], **{name: np.float32(0.5)}).__dict__[name] == 0.5


@pytest.mark.parametrize("bad", [0.9, (0.9,), (0.9, 1.0), (-0.1, 0.9), "ab", (True, 0.9), None])
def test_betas_are_two_numbers_below_1(bad) -> None:
    for kind in (optim.Adam, optim.AdamW):
        with pytest.raises((ValueError, TypeError), match="betas"):
            kind([leaf([1.0])], betas=bad)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o: optim.SGD([leaf([1.0])], momentum=0.5, nesterov=1), "True or False"),
        (lambda o: optim.RMSprop([leaf([1.0])], centered="no"), "True or False"),
        (lambda o: optim.StepLR(o, 0), "number of steps"),
        (lambda o: optim.StepLR(o, 1.5), "number of steps"),
        (lambda o: optim.StepLR(o, True), "is a number"),
        (lambda o: optim.StepLR(o, 1, -0.5), "gamma must be >= 0"),
        (lambda o: optim.ExponentialLR(o, np.nan), "gamma must be >= 0"),
        (lambda o: optim.CosineAnnealingLR(o, "5"), "is a number"),
        (lambda o: optim.CosineAnnealingLR(o, 5, -1.0), "eta_min must be >= 0"),
        (lambda o: optim.LinearWarmup(o, 5, "0"), "start is a number"),
        (lambda o: optim.LinearWarmup(o, 5, then=3), "another schedule of the same"),
        (lambda o: optim.StepLR([o], 3), "expected an optimizer"),
        (lambda o: optim.LambdaLR(o, 0.5), "lr_lambda is a function of t"),
        (lambda o: optim.OneCycleLR(o, 0.5), "how many steps"),
        (lambda o: optim.OneCycleLR(o, 0.5, 9, anneal_strategy="exp"), "'cos' or 'linear'"),
        (lambda o: optim.ReduceLROnPlateau(o, mode="less"), "mode is 'min' or 'max'"),
        (lambda o: optim.ReduceLROnPlateau(o, factor=1.0), "factor must be"),
        (lambda o: optim.ReduceLROnPlateau(o).step(), "which metric"),
        (lambda o: optim.LinearWarmup(o, 5, then=optim.ReduceLROnPlateau(o)), "never see a metric"),
    ],
)
def test_what_a_schedule_or_switch_cannot_be_is_refused(call, message) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call(optim.SGD([leaf([1.0])], lr=0.1))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ([], "no parameters"),
        ([{"params": [leaf([1.0])]}, leaf([1.0])], "a group is a dict with 'params'"),
        ([{"lr": 0.1}], "a group is a dict with 'params'.*got dict"),
        ([{"params": leaf([1.0])}], "got a Tensor"),
        ({"w": leaf([1.0])}, "got dict"),
        (leaf([1.0]), "got a Tensor"),
        (mg.nn.Linear(1, 1), "got Linear"),
        (list(mg.nn.Linear(1, 1).named_parameters()), "parameter 0 is tuple"),
        (None, "got NoneType"),
    ],
)
def test_what_are_no_parameters_is_refused(params, message) -> None:
    with pytest.raises(mg.GradientError, match=message):
        optim.Adam(params)
