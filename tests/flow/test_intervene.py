"""Interventions, against loops in NumPy: compiled, on the tape and in loops written by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import cells
import modes
import numpy as np
import pytest

import minigrad as mg
from minigrad.compile import fusing
from minigrad.compile.looking import look
from minigrad.flow import FlowError, intervene
from minigrad.tree import leaves

T, B, H = 6, 3, 4
Array = np.ndarray


def lstm(mode: str, dtype: Any = np.float64, **options: Any) -> Any:
    generator = np.random.default_rng(1)
    return mg.nn.LSTM(2, H, dtype=dtype, mode=mode, generator=generator, **options)


@pytest.fixture
def xs(rng: np.random.Generator) -> Array:
    return rng.normal(size=(T, B, 2))


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def lstm_in_numpy(layer: Any, xs: Array, edit: Callable[[str, int, Array], Array]) -> Array:
    """hs (T, B, H); edit(name, t, value) -> what the step goes on with."""
    w = cells.arrays(layer.cells[0])
    h = c = np.zeros((xs.shape[1], H))
    hs = []
    for t, x in enumerate(xs):
        a = x @ w["weight_ih"].T + h @ w["weight_hh"].T + w["bias_ih"] + w["bias_hh"]
        i, f, g, o = np.split(a, 4, axis=1)
        i, f, o = edit("i", t, sigmoid(i)), edit("f", t, sigmoid(f)), edit("o", t, sigmoid(o))
        c = edit("c", t, f * c + i * edit("g", t, np.tanh(g)))
        h = edit("h", t, o * np.tanh(c))
        hs.append(h)
    return np.stack(hs)


def rnn_backwards(
    w: Array, hs: Array, dhs: Array, edit: Callable[[int, Array], Array]
) -> tuple[Array, Array, Array]:
    """(dL/dw, dL/dxs, dL/dh_t as edited) of h_t = tanh(x_t + h_{t-1} w), by BPTT in NumPy."""
    dw, dxs, carried = np.zeros_like(w), np.zeros_like(hs), np.zeros_like(hs[0])
    seen = np.zeros_like(hs)
    for t in reversed(range(len(hs))):
        seen[t] = edit(t, dhs[t] + carried)
        dxs[t] = seen[t] * (1 - hs[t] ** 2)
        dw += (hs[t - 1] if t else np.zeros_like(hs[0])).T @ dxs[t]
        carried = dxs[t] @ w.T
    return dw, dxs, seen


def clipped(g: Array) -> Array:
    return g * np.minimum(1.0, 0.2 / np.linalg.norm(g, axis=1, keepdims=True))


@modes.each_mode
def test_values_and_gradients_are_changed_in_the_loop_as_in_numpy(
    mode: str, rng: np.random.Generator
) -> None:
    w = mg.tensor(rng.normal(size=(H, H)), requires_grad=True)
    x = mg.tensor(rng.normal(size=(T, B, H)), requires_grad=True)
    a = rng.normal(size=(T, B, H))

    def cell(h: Any, x: Any) -> Any:
        h = mg.tap("h", mg.tanh(x + h @ w))
        return h, h

    for step, value in ((2, 0.25), (4, -0.5)):  # the second in the same loop, if that is compiled
        with intervene("h", patch=value, steps=step, units=1), intervene("h", clip_norm=0.2):
            _, hs = mg.scan(cell, mg.tensor(np.zeros((B, H))), x, mode=mode)
        found = mg.grad((hs * mg.tensor(a)).sum(), [w, x])
        h, wanted = np.zeros((B, H)), []
        for t in range(T):
            h = np.tanh(x.numpy()[t] + h @ w.numpy())
            h[:, 1] = value if t == step else h[:, 1]
            wanted.append(h)
        np.testing.assert_allclose(hs.numpy(), wanted, rtol=1e-12)

        def edit(t: int, g: Array, step: int = step) -> Array:
            return np.where((t == step) & (np.arange(H) == 1), 0.0, clipped(g))

        dw, dx, _ = rnn_backwards(w.numpy(), hs.numpy(), a, edit)
        np.testing.assert_allclose(found[0].numpy(), dw, rtol=1e-11)
        np.testing.assert_allclose(found[1].numpy(), dx, rtol=1e-11, atol=1e-15)


# -- values


@modes.each_mode
def test_clamped_patched_scaled_and_noisy_values_are_those_of_a_numpy_loop(
    mode: str, xs: Array
) -> None:
    layer = lstm(mode)
    patch = np.arange(2 * B * 2.0).reshape(2, B, 2) / 10
    noise = np.random.default_rng(5).standard_normal((1, 1, H)) * 0.3

    def edit(name: str, t: int, v: Array) -> Array:
        v = v.copy()
        if name == "f":
            v = np.maximum(v, 0.9)
        if name == "c" and t in (4, 1):
            v[:, [0, 3]] = patch[0 if t == 4 else 1]
        if name == "o" and t >= 2:
            v *= np.array([0.5, 2.0, 1.0, 0.0])
        if name == "h" and t == T - 1:
            v[1] += noise[0, 0]
        return v

    with (
        intervene("f", clamp=(0.9, None)),
        intervene("c", patch=patch, steps=[4, 1], units=[0, 3]),
        intervene("o", scale=[0.5, 2.0, 1.0, 0.0], steps=slice(2, None)),
        intervene("h", noise=0.3, steps=-1, rows=1, seed=5),
    ):
        found = layer(xs)[0].numpy()
    np.testing.assert_allclose(found, lstm_in_numpy(layer, xs, edit), rtol=1e-13, atol=1e-15)


@modes.each_mode
def test_gradients_of_changed_values_are_those_of_finite_differences(mode: str, xs: Array) -> None:
    layer = lstm(mode)

    def edit(name: str, t: int, v: Array) -> Array:
        if name == "f":
            return np.clip(v, 0.45, 0.55)
        if name == "c" and t == 3:
            return np.where(np.arange(B)[:, None] == 1, 0.25, v)
        return v

    x = mg.tensor(xs, requires_grad=True)
    with intervene("f", clamp=(0.45, 0.55)), intervene("c", patch=0.25, steps=3, rows=1):
        (layer(x)[0] ** 2).sum().backward()
    assert x.grad is not None
    eps = 1e-6
    for i in [(0, 1, 0), (3, 1, 1), (3, 0, 0), (5, 2, 1), (1, 0, 1)]:
        d = np.zeros_like(xs)
        d[i] = eps
        up, down = ((lstm_in_numpy(layer, xs + e, edit) ** 2).sum() for e in (d, -d))
        np.testing.assert_allclose(x.grad.numpy()[i], (up - down) / (2 * eps), rtol=1e-6, atol=1e-9)


# -- gradients


EDITS: dict[str, tuple[dict[str, Any], Callable[[int, Array], Array]]] = {
    "clip_norm": ({"clip_norm": 0.2}, lambda t, g: clipped(g)),
    "clip_norm at some steps": (
        {"clip_norm": 0.2, "steps": [1, 4]}, lambda t, g: clipped(g) if t in (1, 4) else g,
    ),
    "scale": (
        {"scale": -0.5, "of": "gradient", "units": 1}, lambda t, g: g * [1, -0.5, 1, 1],
    ),
    "clamp": ({"clamp": (-0.1, 0.3), "of": "gradient"}, lambda t, g: np.clip(g, -0.1, 0.3)),
    "detach": (
        {"detach": True, "steps": 2, "rows": [0, 2]},
        lambda t, g: g * [[0], [1], [0]] if t == 2 else g,
    ),
    "noise": (
        {"noise": 0.1, "of": "gradient", "steps": 3, "seed": 7},
        lambda t, g: (
            g + 0.1 * np.random.default_rng(7).standard_normal((1, B, H))[0] if t == 3 else g
        ),
    ),
}  # fmt: skip


@modes.each_mode
@pytest.mark.parametrize("what", EDITS)
def test_changed_gradients_are_those_of_bptt_in_numpy(
    what: str, mode: str, rng: np.random.Generator
) -> None:
    given, edit = EDITS[what]
    w = mg.tensor(rng.normal(size=(H, H)), requires_grad=True)
    x = mg.tensor(rng.normal(size=(T, B, H)), requires_grad=True)
    a = rng.normal(size=(T, B, H))

    def cell(h: Any, x: Any) -> Any:
        h = mg.tap("h", mg.tanh(x + h @ w))
        return h, h

    with intervene("h", **given), mg.flow.record() as rec:
        _, hs = mg.scan(cell, mg.tensor(np.zeros((B, H))), x, mode=mode)
    (hs * mg.tensor(a)).sum().backward()  # the block need not be open for it
    dw, dx, dh = rnn_backwards(w.numpy(), hs.numpy(), a, edit)
    assert w.grad is not None
    assert x.grad is not None
    np.testing.assert_allclose(w.grad.numpy(), dw, rtol=1e-11)
    np.testing.assert_allclose(x.grad.numpy(), dx, rtol=1e-11, atol=1e-15)
    layer = rec[""]  # which has the gradients as they were changed
    np.testing.assert_allclose(layer.per_sample["h"], np.linalg.norm(dh, axis=2), rtol=1e-11)
    np.testing.assert_allclose(layer.gradients["h"], dh, rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(layer.weight_terms()["weight0"].sum(0), dw, rtol=1e-11)
    jacobian = layer.jacobians().steps[2, 0]  # of values: what is done to gradients is no part
    values = (1 - hs.numpy()[2, 0] ** 2)[:, None] * w.numpy().T
    np.testing.assert_allclose(jacobian, values, rtol=1e-11)


def test_the_first_that_is_entered_is_the_first_that_a_gradient_meets() -> None:
    x = mg.tensor([[3.0, 4.0]], requires_grad=True)
    with intervene("x", clip_norm=1.0), intervene("x", of="gradient", scale=2.0):
        (mg.tap("x", x) * mg.tensor([[3.0, 4.0]])).sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), [[1.2, 1.6]])


def test_gradients_that_are_clipped_have_no_parts_by_lag_and_say_so(xs: Array) -> None:
    for given, adds_up in (({"clip_norm": 0.01}, False), ({"detach": True, "steps": 3}, True)):
        layer = lstm("tape")
        with intervene("h", **given), mg.flow.record() as rec:
            (layer(xs)[0] ** 2).sum().backward()
        flow = rec["lstm/l0/fwd"]
        assert np.isnan(flow.weights["weight_hh_l0"].by_lag).any() != adds_up
        if adds_up:
            whole = flow.weight_terms("lag")["weight_hh_l0"].sum(0)
            np.testing.assert_allclose(whole, layer.cells[0].weight_hh.grad.numpy(), rtol=1e-11)
        else:
            with pytest.raises(FlowError, match="do not add up to its gradient"):
                flow.weight_terms("lag")


# -- everywhere


def everywhere(cell: Any, state: Any, xs: Any) -> Iterator[intervene]:
    """An intervention of one kind or another at every tap of a cell."""
    kinds: list[dict[str, Any]] = [
        {"scale": 0.7, "steps": [1, 3]}, {"noise": 0.1}, {"clip_norm": 0.05, "rows": 0},
        {"scale": -0.5, "of": "gradient"}, {"clamp": (-0.2, 0.3), "steps": 2},
        {"detach": True, "steps": 4, "rows": 1}, {"patch": 0.1, "steps": 0},
    ]  # fmt: skip
    taps = [seen for seen in look(cell, state, xs) if seen.used]  # an sLSTM shows an f that it
    for k, seen in enumerate(taps):  # has as a logarithm only: that cannot be changed
        yield intervene("/".join(filter(None, seen.place)), **kinds[k % len(kinds)])


@pytest.mark.parametrize("name", cells.CELLS)
def test_every_tap_of_every_cell_gives_the_same_compiled_and_on_the_tape(
    name: str, rng: np.random.Generator
) -> None:
    cell = cells.CELLS[name](3, 4, np.float64, rng)
    xs = cells.inputs(cell, 5, 2, rng)
    state = cells.random_state(cell, 2, rng)
    wanted = [*cell.parameters(), *leaves(state)]
    for lengths, reverse in ((None, False), ([5, 3], True)):
        found = []
        for mode in modes.MODES:
            with ExitStack() as stack:
                for each in everywhere(cell, state, xs):
                    stack.enter_context(each)
                outputs = leaves(tuple(modes.run(cell, state, xs, lengths, reverse, mode)))
            loss = sum(((y**2).sum() for y in outputs), mg.tensor(0.0))
            gradients = mg.grad(loss, wanted, allow_unused=True)
            found.append([t.numpy() for t in (*outputs, *gradients) if t is not None])
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)


WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lengths": ({}, {"lengths": [6, 1, 4]}),
    "mask": ({}, {"mask": np.arange(T * B).reshape(T, B) % 4 != 2}),
    "resets": ({}, {"resets": np.arange(T * B).reshape(T, B) % 5 == 3}),
    "checkpoint": ({"checkpoint": 2}, {}),
    "layers and directions": ({"num_layers": 2, "bidirectional": True}, {}),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_a_layer_can_do_it_does_with_interventions(way: str, xs: Array) -> None:
    options, given = WAYS[way]
    found = []
    for mode in modes.MODES:
        layer = lstm(mode, **options)
        with intervene("c", patch=0.3, steps=[2, 5]), intervene("h", clip_norm=0.05) as done:
            output, _ = layer(xs, **given)
        gradients = mg.grad((output**2).sum(), list(layer.parameters()))
        found.append([output.numpy(), *(g.numpy() for g in gradients)])
        assert len(done.met) == len(layer.cells)
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14)


@modes.each_mode
def test_windows_see_the_steps_of_the_whole_sequence(mode: str, xs: Array) -> None:
    cell = lstm(mode).cells[0]
    with intervene("c", patch=np.arange(T)[:, None, None] / 10):
        final, ys = mg.scan(cell, cell.init_state(B), mg.tensor(xs), mode=mode, truncate=4)
    np.testing.assert_allclose(final.c.numpy(), 0.5)
    assert len(np.unique(np.sign(ys.numpy()[0]))) == 1  # o * tanh(0) at the first step
    assert not ys.numpy()[0].any()


@modes.each_mode
def test_second_derivatives_pass_interventions(mode: str, xs: Array) -> None:
    layer, x = lstm("tape"), mg.tensor(xs, requires_grad=True)

    def derivative(mode: str) -> Array:
        layer.mode = mode
        with intervene("f", scale=0.5, of="gradient"), intervene("c", clamp=(-0.1, 0.1), steps=2):
            (g,) = mg.grad((layer(x)[0] ** 2).sum(), [x], create_graph=True)
        (second,) = mg.grad((g**2).sum(), [layer.cells[0].weight_hh])
        return np.asarray(second.numpy())

    np.testing.assert_allclose(derivative(mode), derivative("tape"), rtol=1e-9, atol=1e-15)


def by_hand(cell: Any, xs: Array, steps: bool = True) -> Any:
    state, ys = cell.init_state(B), []
    for t, x in enumerate(xs):
        with mg.scope(f"t={t}" if steps else "loop"):
            state, y = cell(state, x)
        ys.append(y)
    return mg.stack(ys)


def test_a_loop_by_hand_is_changed_as_a_scan_is(xs: Array) -> None:
    cell = lstm("tape").cells[0]
    values = np.arange(2 * B * H).reshape(2, B, H) / 10
    edits: list[dict[str, Any]] = [
        {"name": "c", "patch": values, "steps": [4, 1]},
        {"name": "h", "scale": np.linspace(0, 1, T)[:, None, None]},
        {"name": "f", "clip_norm": 0.01, "steps": slice(1, None, 2)},
        {"name": "o", "noise": 0.1},
    ]
    found = []
    for run in (lambda: by_hand(cell, xs), lambda: mg.scan(
        cell, cell.init_state(B), mg.tensor(xs), mode="tape")[1]):  # fmt: skip
        with ExitStack() as stack:
            for given in edits:
                stack.enter_context(intervene(**given))
            ys = run()
        gradients = mg.grad((ys**2).sum(), list(cell.parameters()))
        found.append([ys.numpy(), *(g.numpy() for g in gradients)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-16)
    with pytest.raises(FlowError, match=r"outside of a scope `t=...`"), intervene(
        "c", patch=0.0, steps=1
    ):  # fmt: skip
        by_hand(cell, xs, steps=False)
    with pytest.raises(FlowError, match="counts from the end"), intervene("c", patch=0.0, steps=-1):
        by_hand(cell, xs)


@modes.each_mode
def test_where_nothing_is_chosen_every_bit_stays(mode: str, xs: Array) -> None:
    layer = lstm(mode, np.float32)
    x = xs.astype(np.float32)
    plain = layer(x)[0].numpy()
    with (
        intervene("h", patch=np.nan, steps=[]), intervene("c", noise=1.0, rows=[]),
        intervene("f", clamp=(2, 3), units=[]), intervene("h", scale=np.inf, steps=[]),
    ):  # fmt: skip
        assert np.array_equal(layer(x)[0].numpy(), plain)
    assert np.array_equal(layer(x)[0].numpy(), plain)


def test_a_patched_nan_spreads_as_it_does_in_the_net(xs: Array) -> None:
    for mode in modes.MODES:
        layer = lstm(mode)
        with intervene("c", patch=np.nan, steps=2, rows=1, units=0):
            ys = layer(xs)[0].numpy()
        assert np.isnan(ys[2, 1]).tolist() == [True, False, False, False]
        assert np.isnan(ys[3:, 1]).all()
        assert np.isfinite(ys[:, [0, 2]]).all()


def test_other_steps_rows_and_numbers_compile_nothing(xs: Array) -> None:
    layer = lstm("fused")

    def run(**given: Any) -> None:
        with intervene("c", patch=given.pop("patch"), **given):
            (layer(xs)[0] ** 2).sum().backward()

    for _ in range(3):  # until its trace is remembered
        run(patch=0.0, steps=1)
    before = set(fusing._COMPILED)
    for given in (
        {"patch": 1.0, "steps": [2, 3]}, {"patch": np.ones(H)}, {"patch": 0.5, "rows": 1},
        {"patch": np.zeros((1, B, 2)), "steps": -1, "units": [1, 3]},
    ):  # fmt: skip
        run(**given)
        assert "reused" in layer.explain()
    assert set(fusing._COMPILED) == before


# -- which steps, which tap


def test_steps_of_the_reverse_direction_are_those_of_the_sequence(xs: Array) -> None:
    for mode in modes.MODES:
        layer = lstm(mode, bidirectional=True)
        with intervene("h", patch=0.5, steps=1):
            ys = layer(xs)[0].numpy()
        assert (ys[1] == 0.5).all()
        assert not (np.delete(ys, 1, axis=0) == 0.5).any()


def test_taps_of_one_name_have_names_of_their_own(xs: Array) -> None:
    class Two(mg.nn.Module):
        def __init__(self) -> None:
            self.low, self.high = (lstm("tape").cells[0] for _ in range(2))
            self.high = mg.nn.LSTMCell(H, H, dtype=np.float64, generator=np.random.default_rng(2))

        def forward(self, state: Any, x: Any) -> Any:
            low, y = self.low(state[0], x)
            high, y = self.high(state[1], y)
            return (low, high), mg.tap("h", y)  # tapped before, by the cell: it is changed once

        def init_state(self, batch: int) -> Any:
            return self.low.init_state(batch), self.high.init_state(batch)

    cell = Two()
    for name, met in (("h", ["low/h", "high/h"]), ("high/h", ["high/h"])):
        found = []
        for mode in modes.MODES:
            with intervene(name, noise=1.0, steps=2) as done:
                _, ys = mg.scan(cell, cell.init_state(B), mg.tensor(xs), mode=mode)
            assert done.met == {"": met}
            found.append(ys.numpy())
        np.testing.assert_allclose(*found, rtol=1e-12)


def test_a_scan_inside_a_cell_is_part_of_its_step(xs: Array) -> None:
    def outer(h: Any, x: Any) -> Any:
        inner = lambda s, z: (mg.tap("h", mg.tanh(s + z)), s)  # noqa: E731
        h, _ = mg.scan(inner, h, mg.stack([x, x]))
        return h, h

    for name, taps in (("h", ["t=0/h", "t=1/h"]), ("t=1/h", ["t=1/h"])):
        found = []
        for mode in modes.MODES:
            with intervene(name, scale=0.5, steps=[2, 4]) as done:
                ys = mg.scan(outer, mg.tensor(np.zeros((B, 2))), mg.tensor(xs), mode=mode).ys
            assert done.met == {"": taps}
            found.append(ys.numpy())
        np.testing.assert_allclose(*found, rtol=1e-13)


def test_a_stream_is_changed_too_and_then_is_what_it_was(xs: Array) -> None:
    layer = lstm("fused")
    stream = layer.stream(B)
    wanted = layer(xs)[0].numpy()
    for t in range(4):  # until it is prepared
        assert np.array_equal(stream(xs[t]).numpy(), wanted[t])
    with intervene("h", patch=0.5):
        assert (stream(xs[4]).numpy() == 0.5).all()
    assert not (stream(xs[5]).numpy() == 0.5).any()
