"""The two directions of a layer run at once: nothing but the time tells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from compile.agree import PLAIN, small_parts

import minigrad as mg
from minigrad import nn
from minigrad.compile import division
from minigrad.compile import sidebyside as beside
from minigrad.compile.node import SCAN
from minigrad.kernels import host

F32 = np.float32


@contextmanager
def counted() -> Iterator[list[int]]:
    """How many loops ran at once, each time."""
    found: list[int] = []
    real = beside.AtOnce

    def noted(ready: Any) -> Any:
        found.append(len(ready))
        return real(ready)

    beside.AtOnce = noted  # type: ignore[misc,assignment]
    try:
        yield found
    finally:
        beside.AtOnce = real  # type: ignore[misc]


def layer_and_input(rng: Any, kind: Any = nn.GRU, rows: int = 1, **options: Any) -> Any:
    layer = kind(3, 5, bidirectional=True, generator=rng, **options)
    return layer, rng.normal(size=(7, rows, 3)).astype(F32)


def step(layer: Any, values: Any, loss: Any = None) -> list[bytes]:
    x = mg.tensor(values, requires_grad=True)
    layer.zero_grad()
    output, final = layer(x)
    finals = final if isinstance(final, tuple) else (final,)
    total = (output * output).sum() + sum(h.sum() for h in finals)
    (total if loss is None else loss(output, finals)).backward()
    results = [output, *finals, x.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]
    return [t.numpy().tobytes() for t in results]


@pytest.mark.parametrize("kind", [nn.GRU, pytest.param(nn.LSTM, marks=pytest.mark.long)])
@pytest.mark.parametrize("rows", [1, 3])
def test_both_directions_at_once_give_the_same_bits(kind: Any, rows: int, rng: Any) -> None:
    layer, values = layer_and_input(rng, kind, rows, num_layers=2)
    with small_parts(48), counted() as alone:
        want = [step(layer, values * k) for k in (1, 2, 3)]
    assert alone == []
    for threads in (2, 3, 5):
        with small_parts(48, threads, units=True), counted() as found:
            if not PLAIN or rows == 1:  # there, sums depend on how many rows there are at once
                assert [step(layer, values * k) for k in (1, 2, 3)] == want
        assert found == [2] * 12 or rows > 1
    with small_parts(48, 1, units=True), counted() as found:
        step(layer, values)
    assert found == []


def test_the_first_calls_and_those_that_are_listened_to_run_in_turn(rng: Any) -> None:
    layer, values = layer_and_input(rng)
    with small_parts(48, 2, units=True), counted() as found:
        first = step(layer, values)
        for _ in range(2):
            step(layer, values)
        assert found == []  # a pure cell's trace is remembered, and trusted from the third call on
        again = step(layer, values)
        assert found == [2, 2]
        with mg.Tape() as tape:
            watched = step(layer, values)
        with mg.flow.record():
            step(layer, values)
        assert found == [2, 2]
    assert first == again == watched
    scans = [node.scope for node in tape.nodes if node.op.name == "scan"]
    assert scans == ["gru/l0/fwd", "gru/l0/rev"]


def test_a_loss_on_one_direction_only_needs_no_other(rng: Any) -> None:
    layer, values = layer_and_input(rng)
    losses = [
        lambda y, h: (y[..., :5] * y[..., :5]).sum() + h[0][0].sum(),
        lambda y, h: y[3, :, 5:].sum(),
        lambda y, h: h[0][1].sum(),
    ]
    with small_parts(48):
        want = [step(layer, values, loss) for loss in losses]
    with small_parts(48, 2, units=True):
        for _ in range(2):
            assert [step(layer, values, loss) for loss in losses] == want


def test_a_graph_that_is_kept_runs_backward_again(rng: Any) -> None:
    layer, values = layer_and_input(rng)

    def gradients() -> list[bytes]:
        x, found = mg.tensor(values, requires_grad=True), []
        loss = (layer(x)[0] ** 2.0).sum()
        for retained in (True, True, False):
            x.grad = None
            loss.backward(retain_graph=retained)
            found.append(x.grad.numpy().tobytes())
        return found

    with small_parts(48):
        want = gradients()
    with small_parts(48, 2, units=True), counted() as found:
        for _ in range(3):
            assert gradients() == want
    assert found == [2, 2, 2, 2] * (len(found) // 4) != []
    assert want[0] == want[1] == want[2]


def test_a_backward_pass_that_was_stopped_leaves_nothing_behind(rng: Any, monkeypatch: Any) -> None:
    """Both BPTTs had run when it stopped; then one is asked again, for another gradient."""
    layer, values = layer_and_input(rng)

    def stopped(*arguments: Any) -> None:
        beside.joins(*arguments)
        raise InterruptedError

    with small_parts(48, 2, units=True):
        for _ in range(4):
            y, _ = layer(mg.tensor(values, requires_grad=True))
            (want,) = mg.grad((y * 3.0).sum(), [layer.weight_hh_l0])
        y, _ = layer(mg.tensor(values, requires_grad=True))
        loss, other = (y * y).sum(), (y * 3.0).sum()
        monkeypatch.setattr(SCAN, "joins", stopped)
        with pytest.raises(InterruptedError):
            loss.backward(retain_graph=True)
        (found,) = mg.grad(other, [layer.weight_hh_l0])
    np.testing.assert_array_equal(found.numpy(), want.numpy())


@pytest.mark.long
def test_it_is_differentiated_twice(rng: Any) -> None:
    layer, values = layer_and_input(rng)
    x = mg.tensor(values, requires_grad=True)

    def second() -> bytes:
        (first,) = mg.grad((layer(x)[0] ** 2.0).sum(), [x], create_graph=True)
        (found,) = mg.grad((first * first).sum(), [x])
        return found.numpy().tobytes()

    with small_parts(48):
        want = second()
    with small_parts(48, 2, units=True):
        for _ in range(4):
            assert second() == want


def test_no_grad_runs_forward_at_once(rng: Any) -> None:
    layer, values = layer_and_input(rng)
    with mg.no_grad(), small_parts(48):
        want = layer(values)[0].numpy().copy()
    with mg.no_grad(), small_parts(48, 2, units=True), counted() as found:
        for _ in range(3):
            output, _ = layer(values)
            np.testing.assert_array_equal(output.numpy(), want)
    assert found == [2] * len(found) != []
    assert "beside 1 other, each 1 thread" in layer.explain()


def test_weights_replaced_before_bptt_leave_the_gradient_as_it_was(rng: Any) -> None:
    layer, values = layer_and_input(rng)
    with small_parts(48, 2, units=True):
        for _ in range(4):
            expected = step(layer, values, lambda y, h: y.sum())
        x = mg.tensor(values, requires_grad=True)
        output, _ = layer(x)
        for p in layer.parameters():
            p.data = p.data * 2.0
        output.sum().backward()
    assert x.grad.numpy().tobytes() == expected[2]


@pytest.mark.needs_jit
@pytest.mark.parametrize(("shared", "at_once"), [(8 << 20, False), (64 << 20, True)])
def test_loops_whose_weights_do_not_fit_into_the_shared_cache_run_in_turn(
    shared: int, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4 MiB each: of one row, two threads share its units instead."""
    monkeypatch.setattr(host, "shared_cache", lambda: shared)
    before = mg.get_num_threads()
    mg.set_num_threads(2)
    try:
        cell = nn.LSTMCell(4, 512)
        ran = mg.scan(cell, cell.init_state(1), np.zeros((20, 1, 4), F32))
        work = ran.explain()._forward.kernel.work
        assert division.side_by_side([work, work], 20, 1) is at_once
    finally:
        mg.set_num_threads(before)
