"""Optimisers, clipping and schedules take torch's path, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from golden.store import Case, cases

import minigrad as mg
from minigrad import optim

STORED = cases("optim")


def stored(kind: str) -> list[Any]:
    groups = {"clip": "clip", "schedule": "LR"}
    chosen = []
    for name, case in STORED.items():
        group = next((g for g, mark in groups.items() if mark in case.options["kind"]), "optimizer")
        chosen += [pytest.param(case, id=name)] * (group == kind)
    return chosen


def leaf(data: Any) -> mg.Tensor:
    return mg.tensor(data, requires_grad=True)


@pytest.mark.parametrize("case", stored("optimizer"))
def test_ten_steps_equal_torch(case: Case) -> None:
    params = [leaf(case.arrays[f"start.{j}"]) for j in range(2)]
    optimizer = getattr(optim, case.options["kind"])(params, **case.options["arguments"])
    for t in range(10):
        for j, p in enumerate(params):  # the second parameter has no gradient at step 3
            p.grad = None if (t, j) == (3, 1) else mg.tensor(case.arrays[f"gradient.{j}"][t])
        optimizer.step()
        for j, p in enumerate(params):
            expected = case.arrays[f"path.{j}"][t]
            np.testing.assert_allclose(
                p.data, expected, rtol=1e-10, atol=1e-12, err_msg=f"step {t}"
            )


@pytest.mark.parametrize("case", stored("optimizer"))
def test_an_optimizer_restored_from_its_state_goes_on_the_same_path(case: Case) -> None:
    def go_on(optimizer: Any, params: list[mg.Tensor], steps: range) -> None:
        for t in steps:
            for j, p in enumerate(params):
                p.grad = mg.tensor(case.arrays[f"gradient.{j}"][t])
            optimizer.step()

    make = getattr(optim, case.options["kind"])
    params = [leaf(case.arrays[f"start.{j}"]) for j in range(2)]
    first = make(params, **case.options["arguments"])
    go_on(first, params, range(4))
    saved, copies = first.state_dict(), [leaf(p.data) for p in params]
    go_on(first, params, range(4, 10))
    second = make(copies, **{**case.options["arguments"], "lr": 9.0})
    second.load_state_dict({k: np.asarray(v) for k, v in saved.items()})  # as np.load gives it
    go_on(second, copies, range(4, 10))
    for p, q in zip(params, copies):
        np.testing.assert_array_equal(p.data, q.data)


@pytest.mark.parametrize("case", stored("clip"))
def test_clipping_equals_torch(case: Case) -> None:
    params = [leaf(np.zeros(case.arrays[f"gradient.{j}"].shape)) for j in range(2)]
    for j, p in enumerate(params):
        p.grad = mg.tensor(case.arrays[f"gradient.{j}"])
    if "clip_value" in case.options["arguments"]:
        optim.clip_grad_value_(params, **case.options["arguments"])
    else:
        norm = optim.clip_grad_norm_(params, **case.options["arguments"])
        assert norm == pytest.approx(float(case.arrays["norm"]), rel=1e-12)
    for j, p in enumerate(params):
        np.testing.assert_allclose(p.grad.data, case.arrays[f"clipped.{j}"], rtol=1e-12)


@pytest.mark.parametrize("case", stored("schedule"))
def test_schedule_equals_torch(case: Case) -> None:
    optimizer = optim.SGD([leaf([0.0])], lr=0.3)
    arguments = case.options["arguments"]
    if case.options["kind"] == "LinearLR":
        steps, start = arguments["total_iters"], arguments["start_factor"]
        schedule: optim.Schedule = optim.LinearWarmup(optimizer, steps, start=start)
    else:
        schedule = getattr(optim, case.options["kind"])(optimizer, **arguments)
    rates = [optimizer.lr]
    for _ in range(8):
        schedule.step()
        rates.append(optimizer.lr)
    np.testing.assert_allclose(rates, case.arrays["lr"], rtol=1e-12)


def test_warmup_hands_over_to_another_schedule() -> None:
    optimizer = optim.SGD([leaf([0.0])], lr=1.0)
    then = optim.CosineAnnealingLR(optimizer, T_max=4, eta_min=0.1)
    schedule = optim.LinearWarmup(optimizer, steps=2, then=then)
    rates = [optimizer.lr]
    for _ in range(8):
        schedule.step()
        rates.append(optimizer.lr)
    half = 0.1 + 0.9 * (1 + np.cos(np.pi / 4)) / 2
    np.testing.assert_allclose(rates[:4], [0.0, 0.5, 1.0, half])
    np.testing.assert_allclose(rates[6:], 0.1)  # at its end and after it


def test_amsgrad_divides_by_the_largest_mean_square_so_far() -> None:
    for kind, decay in ((optim.Adam, 0.0), (optim.AdamW, 0.1)):
        p = leaf([1.0, -2.0])
        optimizer = kind([p], lr=0.1, weight_decay=decay, amsgrad=True)
        x, m, v, top = np.array([1.0, -2.0]), 0.0, 0.0, 0.0
        for t in range(1, 9):
            g = np.array([3.0, 0.5]) / t**2
            p.grad = mg.tensor(g)
            optimizer.step()
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            top = np.maximum(top, v)
            x = x * (1 - 0.1 * decay)
            x = x - 0.1 * m / (1 - 0.9**t) / (np.sqrt(top / (1 - 0.999**t)) + 1e-8)
            np.testing.assert_allclose(p.numpy(), x, 1e-12)


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_groups_move_as_optimizers_of_their_own(kind: str) -> None:
    make = getattr(optim, kind)
    own = [{"lr": 0.5}, {"weight_decay": 0.3}, {}]
    params, twins = ([leaf([[1.0, -2.0]]) for _ in own] for _ in range(2))
    grouped = make([{"params": [p], **o} for p, o in zip(params[:2], own)], lr=0.1)
    grouped.add_param_group({"params": params[2:]})
    alone = [make([p], **{"lr": 0.1, **o}) for p, o in zip(twins, own)]
    assert [id(p) for p in grouped.params] == [id(p) for p in params]
    for t in range(4):
        for p, q in zip(params, twins):
            p.grad, q.grad = (mg.tensor([[np.cos(t), 1.0]]) for _ in range(2))
        if t == 2:
            grouped.lr = alone[1].lr = alone[2].lr = 0.2  # of those that have none of their own
            grouped.param_groups[0]["lr"] *= 0.1
            alone[0].lr *= 0.1
        for optimizer in (grouped, *alone):
            optimizer.step()
        for p, q in zip(params, twins):
            np.testing.assert_array_equal(p.numpy(), q.numpy())
    grouped.zero_grad()
    assert all(p.grad is None for p in params)


def test_a_jitted_step_moves_groups() -> None:
    def train(wrap: Any) -> list[Any]:
        p, q = leaf([1.0, 2.0]), leaf([3.0])
        optimizer = optim.Adam([{"params": [p], "lr": 0.5}, {"params": [q]}], lr=0.1)
        schedule = optim.ExponentialLR(optimizer, 0.9)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            loss = (p * x).sum() * q.sum()
            loss.backward()
            optimizer.step()
            schedule.step()
            return loss

        step = wrap(step)
        losses = [step(np.array([1.0, t])).item() for t in range(4)]
        return [losses, p.tolist(), q.tolist(), [g.lr for g in optimizer.param_groups]]

    assert train(mg.jit) == train(lambda step: step)


def test_groups_say_what_they_cannot_be() -> None:
    p, q = leaf([1.0]), leaf([2.0])
    with pytest.raises(mg.GradientError, match="listed twice"):
        optim.SGD([{"params": [p]}, {"params": [p]}])
    with pytest.raises(TypeError, match="a group has no 'learning_rate'; it may have lr, "):
        optim.SGD([{"params": [p], "learning_rate": 0.1}])
    with pytest.raises(ValueError, match="lr must be >= 0"):
        optim.SGD([{"params": [p], "lr": -0.1}])
    optimizer = optim.SGD([p], lr=0.1)
    with pytest.raises(KeyError, match="gamma"):
        optimizer.param_groups[0]["gamma"]
    with pytest.raises(KeyError, match="params"):
        optimizer.param_groups[0]["params"] = []
    optimizer.param_groups[0]["lr"] = 0.3
    assert optimizer.lr == 0.3
    optimizer.add_param_group({"params": [q], "lr": 0.7})
    assert [g["lr"] for g in optimizer.param_groups] == [0.3, 0.7]
    with pytest.raises(AttributeError, match=r"'lr_scheduler' is another.* mg\.optim\.StepLR"):
        optim.lr_scheduler  # noqa: B018


def test_one_cycle_and_plateau_are_at_their_corners() -> None:
    optimizer = optim.SGD([leaf([0.0])])
    for strategy in ("cos", "linear"):
        schedule = optim.OneCycleLR(optimizer, 0.4, 10, pct_start=0.4, anneal_strategy=strategy)
        rates = [optimizer.lr]
        for _ in range(12):
            schedule.step()
            rates.append(optimizer.lr)
        np.testing.assert_allclose([rates[0], rates[3]], [0.4 / 25, 0.4])
        np.testing.assert_allclose(rates[9:], [0.4 / 25 / 1e4] * 4)
        assert (np.diff(rates[:4]) > 0).all()
        assert (np.diff(rates[3:10]) < 0).all()
    optimizer.lr = 1.0
    plateau = optim.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, cooldown=1, min_lr=0.3)
    rates = []
    for metric in (3.0, 2.0, 2.0, 2.0, np.nan, 2.0, mg.tensor(5.0), 1.0, 1.0, 1.0, 1.0, 1.0):
        plateau.step(metric)
        rates.append(optimizer.lr)
    assert rates == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]
    rising = optim.ReduceLROnPlateau(optimizer, "max", 0.5, 0, 0.1, "abs")
    for metric in (1.0, 1.05, 1.2):
        rising.step(metric)
    assert (rising.best, rising.cuts) == (1.2, 1)


def test_float32_parameters_stay_float32() -> None:
    for kind in (optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad):
        p = leaf(np.ones(3, np.float32))
        p.grad = mg.tensor(np.ones(3, np.float32))
        kind([p]).step()
        assert p.dtype == np.float32
        assert (p.data < 1).all()


def test_a_step_between_forward_and_backward_is_noticed() -> None:
    p = leaf([1.0, 2.0])
    p.grad = mg.tensor([1.0, 1.0])
    loss = (p * p).sum()
    optim.SGD([p], lr=0.1).step()
    with pytest.raises(mg.GradientError, match="edited in place"):
        loss.backward()


def test_clipping_float32_gradients_does_not_overflow() -> None:
    p = leaf(np.zeros(2, np.float32))
    p.grad = mg.tensor(np.array([3e30, 4e30], np.float32))
    assert optim.clip_grad_norm_([p], 5.0) == pytest.approx(5e30, rel=1e-6)
    np.testing.assert_allclose(p.grad.data, [3.0, 4.0], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_norm_that_is_not_finite_is_reported_and_nothing_scaled(bad: float) -> None:
    p = leaf([0.0, 0.0])
    p.grad = mg.tensor([bad, 1.0])
    assert not np.isfinite(optim.clip_grad_norm_(p, 1.0))
    np.testing.assert_array_equal(p.grad.data, [bad, 1.0])
    with pytest.raises(mg.NumericalError, match="cannot be scaled"):
        optim.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)


def test_clipping_without_gradients_gives_norm_0() -> None:
    assert optim.clip_grad_norm_([leaf([1.0])], 1.0) == 0.0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: optim.SGD([]), mg.GradientError, "no parameters"),
        (lambda: optim.SGD([mg.tensor([1.0])]), mg.GradientError, "parameter 0 is float64"),
        (lambda: optim.SGD([leaf([1.0]) * 2.0]), mg.GradientError, "not computed from others"),
        (lambda: optim.SGD([leaf([1.0])] * 2), mg.GradientError, "listed twice"),
        (lambda: optim.SGD([leaf([1.0])], lr=-1.0), ValueError, "lr must be >= 0"),
        (lambda: optim.SGD([leaf([1.0])], nesterov=True), ValueError, "needs momentum > 0"),
        (lambda: optim.Adam([leaf([1.0])], betas=(0.9, 1.0)), ValueError, r"betas\[1\] must be"),
        (lambda: optim.clip_grad_norm_([], -1.0), ValueError, "max_norm must be >= 0"),
        (lambda: optim.clip_grad_value_([], -1.0), ValueError, "clip_value must be >= 0"),
        (lambda: optim.StepLR(optim.SGD([leaf([1.0])]), 0), ValueError, "step_size is a number of"),
    ],
)
def test_errors_say_what_to_do(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    optimizer = optim.Adam([leaf([1.0, 2.0])], lr=0.1)
    state = optimizer.state_dict()
    state["0.mean"] = np.zeros(3)
    state["0.velocity"] = state.pop("0.square")
    state["lr"] = 0.5
    with pytest.raises(
        ValueError, match=r"missing '0.square'; unexpected '0.velocity'; '0.mean' is \[3\]"
    ):
        optimizer.load_state_dict(state)
    assert optimizer.lr == 0.1


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 3.0, np.inf])
@pytest.mark.parametrize("size", [1e-310, 1e-200, 1.0, 1e200])
def test_a_norm_is_lost_to_no_power(p, size):
    a, b = mg.tensor([1.0, 1.0], requires_grad=True), mg.tensor([1.0], requires_grad=True)
    a.grad, b.grad = mg.tensor([3.0 * size, 4.0 * size]), mg.tensor([-12.0 * size])
    rows = np.array([3.0, 4.0, 12.0])
    true = 12.0 if p == np.inf else np.sum(rows**p) ** (1 / p)
    norm = mg.optim.clip_grad_norm_([a, b], 1.0, norm_type=p)
    assert norm / size == pytest.approx(true, rel=1e-12)
    after = np.concatenate([a.grad.numpy(), b.grad.numpy()])
    expected = np.array([3.0, 4.0, -12.0]) * (size if size < 1e-6 else 1.0 / (true + 1e-6 / size))
    np.testing.assert_allclose(after, expected, rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_gradients_are_clipped_to_max_norm(dtype):
    top = np.finfo(dtype).max
    x = mg.tensor(np.ones(4, dtype), requires_grad=True)
    x.grad = mg.tensor(np.full(4, top, dtype))
    mg.optim.clip_grad_norm_([x], 1.0)
    np.testing.assert_allclose(x.grad.numpy(), 0.5, rtol=1e-6)


@pytest.mark.parametrize("p", [1.0, 2.0, np.inf])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("first", [True, False])
def test_a_nan_or_inf_in_any_gradient_is_in_the_norm(p, bad, first):
    params = [mg.tensor([1.0, 1.0], requires_grad=True) for _ in range(2)]
    values = [[bad, 1.0], [3.0, 4.0]][:: 1 if first else -1]
    for x, value in zip(params, values, strict=True):
        x.grad = mg.tensor(value)
    norm = mg.optim.clip_grad_norm_(params, 1.0, norm_type=p)
    np.testing.assert_equal(norm, bad)
    with pytest.raises(mg.NumericalError, match=r"norm of the gradients is (nan|inf)"):
        mg.optim.clip_grad_norm_(params, 1.0, norm_type=p, error_if_nonfinite=True)
