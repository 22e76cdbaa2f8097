"""record=: the values and the norms of gradients that the compiled loops keep, against hooks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cells import CELLS, inputs, random_state
from compile.agree import close, wide

import minigrad as mg
from minigrad import nn
from minigrad.listener import Listener
from minigrad.tape import listen
from minigrad.tree import leaves

F64 = np.float64
NAMES = {
    "rnn-tanh": {"h"}, "lstm": {"h", "c", "i", "f", "g", "o"},
    "gru-after-keep": {"h", "r", "z", "n"}, "gru-before-write": {"h", "r", "z", "n"},
}  # fmt: skip


def loss_of(result: Any) -> Any:
    final, ys = result
    return (ys * ys).sum() + sum((t * t * t).sum() for t in leaves(final))


def by_hooks(cell: Any, state: Any, xs: Any, reverse: bool = False) -> tuple[Any, Any]:
    """(values, norms): name -> (T, B, ...), name -> (T, B), from hooks on each step of a tape."""
    time = leaves(xs)[0].shape[0]
    seen: dict[str, list[Any]] = {}
    norms: dict[str, Any] = {}

    def hear(name: str, tensor: Any, scope: str) -> None:
        steps = seen.setdefault(name, [])
        k = len(steps)
        steps.append(tensor.numpy().copy())

        def arrived(g: Any) -> None:
            rows = np.sqrt((g.numpy().reshape(len(g.numpy()), -1) ** 2).sum(1))
            norms.setdefault(name, np.zeros((time, len(rows))))[k] = rows

        if tensor.requires_grad:
            tensor.register_hook(arrived)

    with listen(hear):
        result = mg.scan(cell, state, xs, reverse=reverse, mode="tape")
    loss_of(result).backward()
    turn = slice(None, None, -1) if reverse else slice(None)
    values = {n: np.stack(s)[turn] for n, s in seen.items()}
    return values, {n: v[turn] for n, v in norms.items()}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", wide(list(NAMES), ["lstm"]))
def test_values_and_norms_are_those_that_hooks_see(name: str, reverse: bool, rng: Any) -> None:
    cell = CELLS[name](3, 4, F64, rng)
    xs, state = inputs(cell, 5, 2, rng), random_state(cell, 2, rng)
    values, norms = by_hooks(cell, state, xs, reverse)
    result = mg.scan(cell, state, xs, reverse=reverse, record=True)
    loss_of(result).backward()
    record = result.record
    assert set(record.values) == set(record.gradients) == set(values) == NAMES[name]
    for n in values:
        close(f"values of {n}", record.values[n], values[n], 1e-12)
        close(f"norms of {n}", record.gradients[n], norms[n], 1e-12)
        close(f"over the batch, {n}", record.norms[n], np.sqrt((norms[n] ** 2).sum(1)), 1e-12)


@pytest.mark.parametrize("name", wide(list(CELLS), []))
def test_every_cell_records_the_same_in_both_modes(name: str, rng: Any) -> None:
    agree(CELLS[name](3, 4, F64, rng), rng)


@pytest.mark.parametrize(
    "options",
    wide(
        [{"lengths": (5, 2)}, {"lengths": (3, 5), "reverse": True}, {"truncate": 2},
         {"truncate": 2, "reverse": True}, {"truncate": 3, "lengths": (4, 2)}],
        [{"lengths": (5, 2), "truncate": 2}],
    ),
)  # fmt: skip
def test_lengths_and_windows_record_the_same_in_both_modes(options: Any, rng: Any) -> None:
    agree(CELLS["lstm"](3, 4, F64, rng), rng, **options)


def agree(cell: Any, rng: Any, **options: Any) -> None:
    xs, state = inputs(cell, 5, 2, rng), random_state(cell, 2, rng)
    records = []
    for mode in ("fused", "tape"):
        result = mg.scan(cell, state, xs, mode=mode, record=True, **options)
        loss_of(result).backward()
        records.append(result.record)
    fused, tape = records
    assert set(fused.values) == set(tape.values)
    assert set(fused.gradients) == set(tape.gradients)
    for n in tape.values:
        close(f"values of {n}", fused.values[n], tape.values[n], 1e-12)
    for n in tape.gradients:
        close(f"norms of {n}", fused.gradients[n], tape.gradients[n], 1e-12)
        close(f"norms of {n}", fused.norms[n], tape.norms[n], 1e-12)


def own(h: Any, x: Any) -> tuple[Any, Any]:
    gate = mg.tap("gate", mg.sigmoid(h + x))
    mg.tap("matrix", mg.stack([h, x], axis=1))
    new = mg.tap("h", gate * h + x)
    mg.tap("input", x)
    mg.tap("before", h)
    return new, mg.tap("out", new * new)


@pytest.mark.parametrize("mode", ["fused", "tape"])
def test_names_of_a_users_cell(mode: str, rng: Any) -> None:
    h = mg.tensor(rng.normal(size=(2, 3)), requires_grad=True)
    xs = mg.tensor(rng.normal(size=(4, 2, 3)), requires_grad=True)
    result = mg.scan(own, h, xs, record=["gate", "h", "out", "input", "before"], mode=mode)
    final, ys = result
    (ys.sum() + final.sum()).backward()
    record = result.record
    np.testing.assert_array_equal(record.values["out"], ys.numpy())
    np.testing.assert_array_equal(record.values["input"], xs.numpy())
    np.testing.assert_array_equal(record.values["before"][1:], record.values["h"][:-1])
    np.testing.assert_allclose(record.gradients["out"], np.sqrt(3.0), rtol=1e-14)
    np.testing.assert_allclose(record.gradients["input"], norm(xs.grad), rtol=1e-12)
    np.testing.assert_allclose(record.gradients["before"][0], norm(h.grad), rtol=1e-12)
    assert "matrix" not in record.values


def norm(t: Any) -> Any:
    return np.sqrt((t.numpy() ** 2).sum(-1))


def test_names_may_be_one_string_a_list_or_true(rng: Any) -> None:
    h, xs = mg.tensor(rng.normal(size=(2, 3))), mg.tensor(rng.normal(size=(4, 2, 3)))
    for record, names in (("h", {"h"}), (["h", "out"], {"h", "out"}), (("gate",), {"gate"}),
                          (True, {"gate", "matrix", "h", "input", "before", "out"})):  # fmt: skip
        assert set(mg.scan(own, h, xs, record=record).record.values) == names
    assert mg.scan(own, h, xs).record is None
    assert mg.scan(own, h, xs, record=True).record.values["matrix"].shape == (4, 2, 2, 3)


def test_gradients_come_with_backward(rng: Any) -> None:
    h = mg.tensor(rng.normal(size=(2, 3)), requires_grad=True)
    result = mg.scan(own, h, rng.normal(size=(4, 2, 3)), record="h")
    assert not result.record.gradients
    assert "nothing yet" in repr(result.record)
    result.final.sum().backward()
    assert set(result.record.gradients) == {"h"}
    with mg.no_grad():
        assert not mg.scan(own, h, rng.normal(size=(4, 2, 3)), record="h").record.gradients


@pytest.mark.parametrize("scale", [1e-30, 1e-200, 1e150, 0.0])
def test_no_gradient_is_too_small_or_too_large_to_be_seen(scale: float, rng: Any) -> None:
    """|g| = scale * sqrt(3), though its square is no number of the dtype."""
    dtype = np.float32 if scale == 1e-30 else F64
    h = mg.tensor(np.ones((2, 3)), dtype, requires_grad=True)
    xs = mg.tensor(np.zeros((3, 2, 3)), dtype)
    result = mg.scan(lambda h, x: (mg.tap("h", h + x), h), h, xs, record="h")
    (result.final * scale).sum().backward()
    want = np.full((3, 2), np.sqrt(3.0) * scale)
    np.testing.assert_allclose(result.record.gradients["h"], want, rtol=1e-6)
    np.testing.assert_allclose(result.record.norms["h"], want[:, 0] * np.sqrt(2), rtol=1e-6)


def test_gradients_that_are_nan_or_infinite_are_shown_as_they_are() -> None:
    h = mg.tensor(np.ones((2, 3)), requires_grad=True)
    result = mg.scan(lambda h, x: (mg.tap("h", h + x), h), h, np.zeros((3, 2, 3)), record="h")
    g = np.ones((2, 3))
    g[0, 1], g[1, 2] = np.nan, np.inf
    result.final.backward(g)
    assert np.isnan(result.record.gradients["h"][:, 0]).all()
    assert np.isinf(result.record.gradients["h"][:, 1]).all()


def test_recording_changes_no_result_and_no_gradient(rng: Any) -> None:
    layer = nn.LSTMCell(3, 4, dtype=F64, generator=rng)
    xs = mg.tensor(rng.normal(size=(5, 2, 3)), requires_grad=True)
    found = []
    for record in (None, True):
        xs.grad = layer.weight_hh.grad = None
        result = mg.scan(layer, layer.init_state(2), xs, record=record)
        loss_of(result).backward()
        found.append([t.numpy() for t in (result.ys, xs.grad, layer.weight_hh.grad)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-15)


def test_what_was_recorded_can_not_be_edited(rng: Any) -> None:
    """BPTT reads the same memory."""
    h = mg.tensor(rng.normal(size=(2, 3)), requires_grad=True)
    record = mg.scan(own, h, rng.normal(size=(4, 2, 3)), record=True).record
    with pytest.raises(ValueError, match="read-only"):
        record.values["h"][0] = 0.0


def _of_inputs(w: Any) -> Any:
    """Values that no state runs through, hoisted and not; what enters; the same value twice."""

    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        v = mg.tap("v", x)
        e = mg.tap("e", mg.tanh(v) * 2.0)  # read by a product, which is done ahead of the loop
        u = mg.tap("u", mg.tanh(e @ w))
        mg.tap("again", u)
        mg.tap("enters", h)
        late = mg.tap("late", mg.exp(h) @ w)  # computed behind the loop
        cut = mg.tap("cut", h.detach() * x)
        mg.tap("mask", h > 0.0)
        new = mg.tap("new", mg.tanh(h * u + cut * 0.5 + e))
        return new, (late, h * x)

    return cell


@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"truncate": 3}, {"lengths": [5, 2]}])
def test_every_tapped_value_has_the_gradient_that_the_tape_gives_it(options: Any, rng: Any) -> None:
    w = mg.tensor(rng.normal(size=(3, 3)), requires_grad=True)
    cell = _of_inputs(w)
    for _ in range(3):
        found = []
        arrays = rng.normal(size=(2, 3)), rng.normal(size=(5, 2, 3))
        for mode in ("fused", "tape"):
            h, xs = (mg.tensor(a, requires_grad=True) for a in arrays)
            result = mg.scan(cell, h, xs, mode=mode, record=True, **options)
            late, y = result.ys
            ((late**2).sum() + (y**3).sum() + (result.final**2).sum()).backward()
            found.append((result.record, xs.grad, w.grad))
            w.grad = None
        (fused, *grads), (tape, *wants) = found
        assert set(fused.values) == set(tape.values)
        assert set(fused.gradients) == set(tape.gradients) == set(fused.values) - {"mask"}
        for n in tape.values:
            close(f"values of {n}", fused.values[n], tape.values[n], 1e-12)
        for n in tape.gradients:
            close(f"gradients of {n}", fused.gradients[n], tape.gradients[n], 1e-11)
        for got, want in zip(grads, wants, strict=True):
            close("gradient", got.numpy(), want.numpy(), 1e-12)


@pytest.mark.parametrize("mode", ["fused", "tape"])
def test_what_cannot_be_recorded_is_named(mode: str) -> None:
    h, xs, a = mg.tensor(np.zeros((2, 3))), np.ones((4, 2, 3)), mg.tensor(np.ones(3))

    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        keeps = mg.tap("keeps", mg.sigmoid(a))
        h = mg.tap("h", mg.tap("h", h * keeps) + x)
        return h, h

    with pytest.raises(ValueError, match=r"record='keeps', but it is .*without a row"):
        mg.scan(cell, h, xs, mode=mode, record=["keeps"])


@pytest.mark.parametrize("mode", ["fused", "tape"])
def test_two_values_of_a_step_under_one_name_are_both_recorded(mode: str) -> None:
    """h -> 2 h, then + 1: from 0 the values after each are 0, 2, 6 and 1, 3, 7."""

    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        h = mg.tap("h", mg.tap("h", h * 2.0) + x)
        return h, h

    found = mg.scan(cell, mg.tensor(np.zeros((1, 1))), np.ones((3, 1, 1)), mode=mode, record=True)
    assert found.record.values["h"].ravel().tolist() == [0.0, 2.0, 6.0]
    assert found.record.values["h#2"].ravel().tolist() == [1.0, 3.0, 7.0]


def test_a_tap_that_nobody_keeps_changes_no_other_cell(rng: Any) -> None:
    """Two cells that differ in a tap of what nothing else reads are two programs."""
    w, u = (mg.tensor(rng.normal(size=(3, 3)), requires_grad=True) for _ in "wu")
    h, xs = mg.tensor(rng.normal(size=(2, 3))), mg.tensor(rng.normal(size=(4, 2, 3)))

    def taps(h: Any, x: Any) -> tuple[Any, Any]:
        mg.tap("aside", x @ u)
        return mg.tanh(h * x @ w), h

    def does_not(h: Any, x: Any) -> tuple[Any, Any]:
        x @ u
        return mg.tanh(h * x @ w), h

    for cell in (taps, does_not, taps, does_not):
        fused, tape = (mg.scan(cell, h, xs, mode=m).final.numpy() for m in ("fused", "tape"))
        close("final", fused, tape, 1e-12)


class Hearing(Listener):
    """Notes what it hears of scans."""

    states = ("h",)

    def __init__(self, whole: bool):
        self.whole_scans, self.heard = whole, []  # type: ignore[var-annotated]

    def tap(self, name: str, tensor: Any, scope: str) -> None:
        self.heard.append((name, scope))

    def sequence(self, path: str, order: Any, record: Any, made_by: Any, wants: bool) -> Any:
        self.heard.append(("sequence", path, list(order), made_by, wants))
        return lambda: self.heard.append(record.gradients["h"].tolist())

    def ran(self, path: str, call: Any) -> None:
        self.heard.append(("ran", path, call.steps))


def heard_of_a_scan(whole: bool) -> list[Any]:
    listener = Hearing(whole)
    h = mg.tensor(np.ones((1, 1)), requires_grad=True)
    with listen(listener), mg.scope("loop"):
        final = mg.scan(lambda h, x: (mg.tap("h", h * x), ()), h, np.full((3, 1, 1), 2.0)).final
    final.sum().backward()
    return listener.heard


def test_a_listener_of_whole_scans_hears_one_sequence_and_its_gradients() -> None:
    gradients = [[4.0], [2.0], [1.0]]  # dh_T/dh_t = 2^(T - t), a row for each t
    whole = ("sequence", "loop", [0, 1, 2], {"h": "multiply"}, True)
    assert heard_of_a_scan(True) == [whole, ("ran", "loop", 3), gradients]


def test_a_listener_of_steps_hears_each_tap() -> None:
    assert heard_of_a_scan(False) == [("h", f"loop/t={t}") for t in range(3)]
