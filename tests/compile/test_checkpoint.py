"""checkpoint=: the same values and gradients in less memory, of any order and with recordings."""

from __future__ import annotations

import gc
import re
import tracemalloc
from functools import cache
from typing import Any

import numpy as np
import pytest
from compile.agree import PLAIN, assert_agree, close, outcome
from compile.test_windows import problem

import minigrad as mg
from minigrad import nn
from minigrad.compile import checkpoint, schedule
from minigrad.compile.schedule import Part, Schedule
from minigrad.kernels import arena
from minigrad.tree import leaves, map_leaves

F64 = np.float64
MODES = ("fused", "tape")


# -- which steps are kept ------------------------------------------------------------------------


@cache
def revolve(n: int, snapshots: int) -> int:
    """The fewest steps forward that reverse n steps: the recursion of Griewank and Walther."""
    if n == 1:
        return 0
    if snapshots == 0:
        return 1 << 40
    rest = range(1, n)
    return min(k + revolve(k, snapshots) + revolve(n - k, snapshots - 1) for k in rest)


def alive(parts: tuple[Part, ...]) -> int:
    """The most states kept at a time, beside the first: those before a part, and those inside."""
    return max((k + alive(part.parts) for k, part in enumerate(parts)), default=0)


@pytest.mark.parametrize("snapshots", [1, 2, 3, 5])
def test_no_schedule_takes_fewer_steps(snapshots: int) -> None:
    for n in range(2, 41 if snapshots > 1 else 11):
        # a step takes 10 bytes and a state 1, so that segments are of one step
        found = schedule.within(f"{10 + snapshots} B", n, 1, 10)
        if found is None:
            assert 10 * n <= 10 + snapshots
            continue
        assert [s.begin for s in found.segments] == list(range(n))
        assert alive(found.parts) <= found.snapshots <= snapshots
        assert found.computed == n + revolve(n, snapshots)


@pytest.mark.parametrize("budget", ["13 B", "40 B", "100 B", "1 kB", "1.5 KiB", "20 kB"])
@pytest.mark.parametrize("steps", [1, 2, 3, 50, 997])
def test_a_schedule_covers_all_steps_within_its_budget(budget: str, steps: int) -> None:
    nbytes = schedule.budget_of(budget)
    try:
        found = schedule.within(budget, steps, 3, 10)
    except ValueError:
        assert nbytes < 100
        return
    if found is None:
        assert steps * 10 <= nbytes
        return
    ends = [s.end for s in found.segments]
    assert [s.begin for s in found.segments] == [0, *ends[:-1]]
    assert ends[-1] == steps
    assert alive(found.parts) * 3 + found.longest * 10 <= found.nbytes <= nbytes


def test_auto_computes_no_step_more_than_twice() -> None:
    for steps, state, step in ((100_000, 1 << 18, 1 << 21), (10**6, 64, 700), (977, 1 << 20, 1)):
        found = schedule.within("auto", steps, state, step)
        assert found is None or found.computed < 2 * steps
    least = schedule.within("auto", 10_000, 1 << 20, 1 << 20)
    assert least is not None
    assert least.nbytes == 199 << 20  # 99 states and a segment of 100 steps: 2 sqrt(T) - 1


def test_too_small_a_budget_names_one_that_will_do() -> None:
    with pytest.raises(ValueError, match="'9 kB' is too little for 10000 steps") as caught:
        schedule.within("9 kB", 10_000, 1024, 8192)
    will_do = re.search(r"Give it ([\d.]+ KiB) or more", str(caught.value))
    assert will_do is not None
    found = schedule.within(will_do[1], 10_000, 1024, 8192)
    assert found is not None
    assert found.computed <= (schedule.ROUNDS + 1) * 10_000
    with pytest.raises(ValueError, match=r"too little for 1 steps.* Give it 8 KiB or more"):
        schedule.within("5 kB", 1, 1024, 8192)


@pytest.mark.parametrize(
    "asked", ["64", "64 mib", "lots", "", "0 B", "-1 MiB", 0, -3, 2.5, True, "auto "]
)
def test_what_is_no_number_of_steps_and_no_size_is_refused(asked: Any) -> None:
    match = r"checkpoint is 'auto', a size with its unit \('64 MiB'"
    with pytest.raises(ValueError, match=f"scan: {match}"):
        mg.scan(lambda h, x: (h + x, h), np.ones((1, 1)), np.ones((3, 1, 1)), checkpoint=asked)
    with pytest.raises(ValueError, match=f"GRU: {match}"):
        nn.GRU(1, 1, checkpoint=asked)


# -- values and gradients --------------------------------------------------------------------------


@pytest.fixture
def binomial(monkeypatch: Any) -> str:
    """A size for which sequences are cut into 9 segments, with 2 snapshots at a time."""

    def within(asked: Any, steps: int, state: int, step: int) -> Schedule:
        n = min(9, steps)
        parts = schedule._parts(0, n, 2, [i * steps // n for i in range(n + 1)])
        assert alive(parts) == 2
        assert any(inner.parts for part in parts for inner in part.parts)
        return Schedule(steps, parts, 2, asked, 1, state, step)

    monkeypatch.setattr(checkpoint, "within", within)
    return "1 B"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"lengths": (23, 4)}])
def test_a_budget_changes_no_bit_of_what_does_not_add_up_steps(
    options: Any, mode: str, binomial: str, rng: Any
) -> None:
    w, init, xs, cell = problem(rng, time=23)
    inputs = [w, init, xs]
    want = outcome(lambda m: mg.scan(cell, init, xs, mode=m, **options), inputs, mode)
    for asked in (binomial, 5, 22):
        got = outcome(
            lambda m, asked=asked: mg.scan(cell, init, xs, mode=m, checkpoint=asked, **options),
            inputs, mode,
        )  # fmt: skip
        for name in want:
            if name != "gradient of W":
                np.testing.assert_array_equal(got[name], want[name], err_msg=name)
        close("W", got["gradient of W"], want["gradient of W"], 1e-14)


@pytest.mark.parametrize("mode", MODES)
def test_derivatives_of_any_order_are_the_closed_forms(mode: str, binomial: str) -> None:
    # h_t = a h_{t-1} + x_t, so that h_T = a^T h_0 + sum_t a^(T-1-t) x_t
    time, a = 9, mg.tensor([0.7], requires_grad=True)
    h0, x = mg.tensor([[1.3]], requires_grad=True), np.linspace(-1, 2, time)
    xs = mg.tensor(x.reshape(time, 1, 1), requires_grad=True)
    power = np.polynomial.Polynomial([*x[::-1], 1.3])  # in a

    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        new = h * a + x
        return new, new

    for asked in (1, 4, binomial):
        final, _ = mg.scan(cell, h0, xs, mode=mode, checkpoint=asked)
        found: Any = final
        for order in range(1, 4):
            (found,) = mg.grad(found.sum(), [a], create_graph=True)
            close(f"order {order}", found.item(), power.deriv(order)(0.7), 1e-12)
        (mixed,) = mg.grad(mg.grad(final.sum(), [a], create_graph=True)[0].sum(), [h0])
        close("d2/da dh0", mixed.item(), time * 0.7 ** (time - 1), 1e-13)


@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"lengths": (7, 4)}])
def test_second_derivatives_are_those_without_checkpoints(
    options: Any, binomial: str, rng: Any
) -> None:
    w, init, xs, cell = problem(rng, time=9)
    inputs, weight = [w, init, xs], rng.normal(size=xs.shape)

    def second(**more: Any) -> list[Any]:
        final, ys = mg.scan(cell, init, xs, **options, **more)
        first = mg.grad((ys * weight).sum() + (final**3).sum(), inputs, create_graph=True)
        return [g.numpy() for g in mg.grad(sum((g * g).sum() for g in first), inputs)]

    want = second(mode="tape")
    for asked in (4, binomial):
        for got, expected in zip(second(checkpoint=asked), want, strict=True):
            close("second", got, expected, 1e-12)


def test_a_second_derivative_is_that_of_the_values_at_the_time(rng: Any) -> None:
    w, init, xs, cell = problem(rng)
    found = []
    for _ in range(3):
        for spoil in (False, True):
            before = w.numpy().copy()
            _, ys = mg.scan(cell, init, xs, checkpoint=2)
            if spoil:
                w.data.fill(0.0)
            (g,) = mg.grad((ys**2).sum(), [init], create_graph=True)
            found.append(mg.grad((g**2).sum(), [w])[0].numpy())
            w.data = before
        close("d2", found[-1], found[-2], 1e-13)
        w.data = before * 0.9


@pytest.mark.parametrize("every", [1, 2, 3, 7, 9])
@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"lengths": (7, 4)}])
def test_checkpoints_change_no_result_and_no_gradient(every: int, options: Any, rng: Any) -> None:
    w, init, xs, cell = problem(rng)
    inputs = [w, init, xs]
    want = outcome(lambda m: mg.scan(cell, init, xs, mode=m, **options), inputs, "tape")
    for mode in MODES:
        got = outcome(
            lambda m: mg.scan(cell, init, xs, checkpoint=every, mode=m, **options), inputs, mode
        )
        for name in want:
            close(name, got[name], want[name], 1e-12)


def test_checkpoints_of_an_lstm_with_an_embedding_and_a_loss_on_a_part(rng: Any) -> None:
    cell = nn.LSTMCell(3, 4, dtype=F64, generator=rng)
    table = nn.Embedding(5, 3, dtype=F64, generator=rng)
    tokens = mg.tensor(rng.integers(0, 5, (6, 2)))
    scale = mg.tensor(rng.normal(size=3), requires_grad=True)
    inputs = [*cell.parameters(), *table.parameters(), scale]

    def run(part: str, **options: Any) -> Any:
        def step(state: Any, x: Any) -> Any:
            return cell(state, table(x) * scale)

        (h, c), ys = mg.scan(step, cell.init_state(2), tokens, **options)
        return {"h": (h,), "c": (c,), "ys": (ys[:3],)}[part]

    for part in ("h", "c", "ys"):
        want = outcome(lambda m, part=part: run(part, mode=m), inputs, "tape")
        got = outcome(lambda m, part=part: run(part, mode=m, checkpoint=4), inputs, "fused")
        for name in want:
            close(name, got[name], want[name], 1e-12)


def test_checkpoints_inside_windows(rng: Any) -> None:
    w, init, xs, cell = problem(rng)
    assert_agree(
        lambda mode: mg.scan(cell, init, xs, mode=mode, truncate=4, checkpoint=2),
        [w, init, xs], F64,
    )  # fmt: skip


def test_weights_that_are_computed_get_their_gradient_through_checkpoints(rng: Any) -> None:
    a = mg.tensor(rng.normal(size=(3, 3)), requires_grad=True, name="a")
    init = mg.tensor(rng.normal(size=(2, 3)), requires_grad=True)
    xs = rng.normal(size=(5, 2, 3))

    def run(mode: str) -> Any:
        w, context = mg.tanh(a @ a), init * 2.0  # made before the scan
        return mg.scan(
            lambda h, x: (mg.tanh(h @ w + x + context), h @ a.T), init, xs, mode=mode, checkpoint=2
        )

    assert_agree(run, [a, init], F64)
    plain = mg.scan(lambda h, x: (mg.tanh(h @ mg.tanh(a @ a) + x + init * 2.0), h @ a.T), init, xs)
    a.grad = None
    plain.ys.sum().backward()
    want = a.grad.numpy()
    a.grad = None
    run("fused")[1].sum().backward()
    close("a", a.grad.numpy(), want, 1e-12)


def test_any_state_may_be_checkpointed(rng: Any) -> None:
    init = {"a": mg.tensor(rng.normal(size=(2, 3)), requires_grad=True),
            "b": (mg.tensor(rng.normal(size=2), requires_grad=True),)}  # fmt: skip
    xs = mg.tensor(rng.normal(size=(5, 2, 3)), requires_grad=True)

    def cell(s: Any, x: Any) -> tuple[Any, Any]:
        a, (b,) = s["a"], s["b"]
        return {"a": mg.tanh(a * x), "b": (b + (a * x).sum(1),)}, {"y": a + b[:, None]}

    inputs = [*leaves(init), xs]
    want = outcome(lambda m: mg.scan(cell, init, xs, mode=m), inputs, "tape")
    got = outcome(lambda m: mg.scan(cell, init, xs, mode=m, checkpoint=2), inputs, "fused")
    for name in want:
        close(name, got[name], want[name], 1e-12)
    final, ys = mg.scan(cell, map_leaves(lambda t: t.detach(), init), xs.detach(), checkpoint=2)
    assert not any(t.requires_grad for t in leaves((final, ys)))


@pytest.mark.parametrize("mode", MODES)
def test_a_constant_that_has_changed_is_refused_in_every_part(mode: str, binomial: str) -> None:
    k, v = np.ones(1), mg.tensor([[0.5]], requires_grad=True)

    def cell(s: Any, x: Any) -> tuple[Any, Any]:
        return s + x @ v, s * k

    given = cell, np.zeros((1, 1)), np.ones((14, 1, 1))
    for spoil in (False, True, False):
        k[...], v.grad = 1.0, None
        result = mg.scan(*given, mode=mode, checkpoint=binomial)
        if spoil:
            k[...] = 9.0
            with pytest.raises(mg.GradientError, match="computed again for checkpoint="):
                result.ys.sum().backward()
        else:
            result.ys.sum().backward()
            assert v.grad.item() == 14 * 13 / 2


# -- what is recorded ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reverse", [False, True])
def test_recorded_norms_are_those_of_all_steps(mode: str, reverse: bool, binomial: str) -> None:
    time, w = 11, mg.tensor([[0.5]], requires_grad=True)
    xs = np.random.default_rng(0).normal(size=(time, 2, 1))

    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        came = mg.tap("came", h)
        h = mg.tap("h", came @ w + x)
        return h, None

    init = mg.tensor(np.zeros((2, 1)), requires_grad=True)
    options = {"mode": mode, "reverse": reverse, "record": ["h", "came"]}
    order = slice(None, None, -1 if reverse else 1)
    plain = mg.scan(cell, init, xs, **options).record.values
    for asked in (1, 4, 10, binomial):
        result = mg.scan(cell, init, xs, **options, checkpoint=asked)
        assert not result.record.gradients
        for _ in range(2):
            result.final.sum().backward(retain_graph=True)
            after = 0.5 ** np.arange(time)[::-1]  # dh_T/dh_t = w^(T - t)
            for name, want in (("h", after), ("came", after * 0.5)):
                rows = result.record.gradients[name][order]
                np.testing.assert_array_equal(rows, np.stack([want, want], axis=1))
        for name in ("h", "came"):
            np.testing.assert_array_equal(result.record.values[name], plain[name])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"lengths": (11, 4)}])
def test_a_recording_is_the_same(mode: str, options: Any, binomial: str) -> None:
    def recorded(asked: Any) -> tuple[dict[str, Any], str]:
        rng = np.random.default_rng(3)
        cell = nn.LSTMCell(3, 4, dtype=F64, generator=rng)
        xs = mg.tensor(rng.normal(size=(11, 2, 3)), requires_grad=True)
        with mg.flow.record() as rec:
            for _ in range(2):
                init = cell.init_state(2)
                _, ys = mg.scan(cell, init, xs, mode=mode, checkpoint=asked, **options)
                (ys * rng.normal(size=ys.shape)).sum().backward()
        found: dict[str, Any] = {}
        for path, layer in rec.items():
            found[f"{path} steps"] = layer.steps
            found |= {f"{path} |dL/d{n}|": a for n, a in layer.per_sample.items()}
            found |= {f"{path} {n}": a for n, a in layer.values.items()}
            found |= {f"{path} {n} flat": a.saturation for n, a in layer.activations.items()}
            found |= {f"{path} dL/d{n}": a for n, a in layer.gradients.items()}
            found |= {f"{path} {n} lags": a.by_lag for n, a in layer.weights.items()}
        return found, str(rec)

    want, report = recorded(None)
    for asked in (4, binomial):
        got, again = recorded(asked)
        assert again == report
        assert got.keys() == want.keys()
        for name, array in want.items():
            np.testing.assert_array_equal(got[name], array, err_msg=name)


@pytest.mark.parametrize("mode", MODES)
def test_whoever_listens_hears_each_step_once(mode: str, rng: Any) -> None:
    _, init, xs, _ = problem(rng)
    heard: list[tuple[str, str]] = []

    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        h = mg.tap("h", mg.tanh(h + x))
        return h, h

    with mg.listen(lambda name, t, scope: heard.append((name, scope))):
        _, ys = mg.scan(cell, init, xs, mode=mode, checkpoint=3)
        ys.sum().backward()
    assert heard == [("h", f"t={t}") for t in range(7)]


def test_a_tape_shows_the_parts_and_not_their_insides(rng: Any) -> None:
    w, init, xs, cell = problem(rng)
    with mg.Tape() as tape:
        _, ys = mg.scan(cell, init, xs, checkpoint=3)
    ys.sum().backward()
    shown = [(n.params["first"], n.params["steps"]) for n in tape.nodes if "first" in n.params]
    assert shown == [(0, 3), (3, 3)]  # the last is no part that runs again
    assert w.grad is not None


# -- layers, memory, and what is said --------------------------------------------------------------


@pytest.mark.parametrize("layer", [nn.RNN, nn.GRU, nn.LSTM])
def test_layers_take_checkpoints(layer: Any) -> None:
    x = np.random.default_rng(1).normal(size=(19, 3, 2))
    plain, less = (
        layer(2, 3, num_layers=2, bidirectional=True, dtype=F64, checkpoint=asked,
              generator=np.random.default_rng(0))
        for asked in (None, 4)
    )  # fmt: skip
    for net in (plain, less):
        y, _ = net(x, lengths=[19, 1, 8])
        (y**2).sum().backward()
    for a, b in zip(plain.parameters(), less.parameters(), strict=True):
        close(a.name, b.grad.numpy(), a.grad.numpy(), 1e-13)
    assert "checkpoint=4" in repr(less)
    assert "5 segments of 4 or less" in less.explain()
    assert "checkpoint" not in repr(plain)


@pytest.mark.skipif(PLAIN, reason="by Python, 100,000 steps take minutes")
def test_100000_steps_fit_in_16_megabytes() -> None:
    time, rows, hidden, size = 100_000, 2, 16, "16 MiB"
    cell = nn.LSTMCell(4, hidden, generator=np.random.default_rng(0))
    xs = mg.tensor(np.random.default_rng(1).normal(size=(time, rows, 4)).astype(np.float32))

    def step(state: Any, x: Any) -> Any:
        state, _ = cell(state, x)
        return state, None

    def run(asked: Any) -> tuple[list[Any], Any]:
        for p in cell.parameters():
            p.grad = None
        (h, c), _ = result = mg.scan(step, cell.init_state(rows), xs, checkpoint=asked)
        (h * c).sum().backward()
        return [h.numpy(), c.numpy(), *(p.grad.numpy() for p in cell.parameters())], result

    want, _ = run(None)
    run(size)  # what is kept for all time is there
    gc.collect()
    arena.clear()
    tracemalloc.start()
    got, result = run(size)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    said = result.explain().schedule
    assert said.nbytes <= said.budget
    assert 0.3 * said.budget < most < 1.15 * said.budget
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_array_equal(got[1], want[1])
    for g, expected in zip(got[2:], want[2:], strict=True):
        close("weights", g, expected, 1e-5)


def test_explain_says_the_schedule_the_memory_and_how_often_steps_are_computed(rng: Any) -> None:
    _, init, xs, cell = problem(rng, time=40)
    said = str(mg.scan(cell, init, xs, checkpoint=10).explain())
    assert said.startswith("checkpoint=10: 40 steps in 4 segments of 10 or less\n")
    assert "the state before 3 of them at a time" in said
    assert "3 x 48 B, and what is stored of a segment" in said
    assert "every step 1.75 times forward, one level" in said
    assert "scan of cell: 10 steps of 2 rows" in said
    _, init, xs, cell = problem(rng, time=100)
    said = str(mg.scan(cell, init, xs, checkpoint="480 B").explain())
    assert "binomial" in said
    assert re.search(r"memory +\d x 48 B \+ \d x \d+ B = \d+ B, of 480 B", said)
    said = str(mg.scan(cell, init, xs, checkpoint="auto").explain())
    assert said.startswith("checkpoint='auto': all 100 steps fit; none is computed again\nscan of")
