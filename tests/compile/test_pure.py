"""mg.pure: whose trace is remembered, and until when."""

from __future__ import annotations

import copy
import dataclasses
import gc
import pickle
from inspect import signature
from typing import Any

import numpy as np
import pytest
from compile.again import F64, XS, H, right, traces

import minigrad as mg
from minigrad import nn
from minigrad.compile import remember
from minigrad.listener import Listener


def reused(cell: Any, state: Any = H) -> bool:
    """Whether a call is not traced; its results are right."""
    with traces() as counted:
        result = mg.scan(cell, state, XS)
    right(cell, state)
    assert str(result.explain()).count("  reused") == (not counted)
    return not counted


def settled(cell: Any, state: Any = H) -> None:
    """Calls the cell until its trace is remembered."""
    right(cell, state)
    right(cell, state)
    assert reused(cell, state), str(mg.scan(cell, state, XS).explain())


def why(cell: Any, state: Any = H) -> str:
    for _ in range(4):
        found = str(mg.scan(cell, state, XS).explain()).splitlines()[1]
    return found


ZOO = [
    nn.RNNCell, nn.LSTMCell, nn.GRUCell, nn.CoupledLSTMCell, nn.ElmanCell, nn.IRNNCell,
    nn.LayerNormLSTMCell, nn.LRUCell, nn.MinGRUCell, nn.MinimalGatedCell, nn.PeepholeLSTMCell,
    nn.UnitaryCell, nn.CoRNNCell, nn.SLSTMCell,
]  # fmt: skip


@pytest.mark.parametrize("kind", ZOO)
def test_a_cell_of_nn_is_traced_twice_and_then_no_more(kind: Any) -> None:
    cell = kind(3, 4, dtype=F64)
    settled(cell, cell.init_state(2))


def test_other_values_of_weights_and_inputs_need_no_new_trace(rng: Any) -> None:
    cell = nn.LSTMCell(3, 3, dtype=F64, generator=rng)
    settled(cell, cell.init_state(2))
    for _ in range(3):
        for p in cell.parameters():
            p.data = rng.normal(size=p.shape)
        xs = mg.tensor(rng.normal(size=(4, 2, 3)), requires_grad=True)
        state = nn.LSTMState(*(mg.tensor(rng.normal(size=(2, 3))) for _ in "hc"))
        found = []
        for mode in ("fused", "tape"):
            for t in (xs, *cell.parameters()):
                t.grad = None
            result = mg.scan(cell, state, xs, mode=mode)
            (result.ys * result.ys).sum().backward()
            found.append([result.ys.numpy(), *(t.grad.numpy() for t in (xs, *cell.parameters()))])
            assert mode == "tape" or "reused" in str(result.explain())
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def _forward(self: Any, h: Any, x: Any) -> tuple[Any, Any]:
    return h * 0.5, h


CHANGES: dict[str, Any] = {
    "an attribute": lambda cell: setattr(cell, "update", "write"),
    "an attribute, past __setattr__": lambda cell: vars(cell).update(update="write"),
    "an attribute that goes": lambda cell: delattr(cell, "extra"),
    "a parameter in place of another": lambda cell: setattr(
        cell, "weight_hh", nn.Parameter(cell.weight_hh.numpy() * 3.0)
    ),
    "forward of the object": lambda cell: setattr(cell, "forward", _forward.__get__(cell)),
    "training": lambda cell: cell.eval(),
    "what a list holds": lambda cell: cell.extra.append(1.0),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_trace_is_not_used_again_once_an_attribute_has_changed(name: str) -> None:
    cell = nn.GRUCell(3, 3, dtype=F64)
    cell.extra = [1.0]
    settled(cell)
    CHANGES[name](cell)
    assert not reused(cell)


def test_parameters_of_another_dtype_are_other_parameters() -> None:
    cell = nn.GRUCell(3, 3, dtype=F64)
    settled(cell)
    cell.to(np.float32)
    with pytest.raises(mg.DTypeError):
        mg.scan(cell, H, XS)
    h, xs = mg.tensor(H, np.float32), mg.tensor(XS, np.float32)
    assert mg.scan(cell, h, xs).ys.dtype == np.float32


@pytest.mark.parametrize("method", ["forward", "check_input", "__call__"])
def test_a_class_whose_method_was_replaced_is_not_trusted(method: str, monkeypatch: Any) -> None:
    cell = nn.GRUCell(3, 3, dtype=F64)
    settled(cell)
    real = getattr(nn.GRUCell, method)

    def other(self: Any, *args: Any) -> Any:
        return real(self, *args)

    other.__module__ = real.__module__  # functools.wraps would do so
    monkeypatch.setattr(nn.GRUCell, method, other)
    assert [reused(cell) for _ in range(4)] == [False] * 4
    monkeypatch.undo()
    settled(cell)


@pytest.mark.parametrize(
    "ask", [copy.deepcopy, copy.copy, lambda cell: pickle.loads(pickle.dumps(cell)), signature]
)
def test_what_python_itself_writes_into_a_class_is_no_change(ask: Any) -> None:
    class Fresh(nn.GRUCell):  # no other test has asked this class yet
        pass

    globals()["Fresh"] = Fresh
    Fresh.__qualname__ = "Fresh"  # where pickle finds it
    mg.pure(Fresh)
    cell = Fresh(3, 3, dtype=F64)
    settled(cell)
    ask(cell)
    assert reused(cell)


def test_what_derives_from_a_cell_of_nn_is_a_cell_of_ones_own() -> None:
    class Mine(nn.GRUCell):
        pass

    cell = Mine(3, 3, dtype=F64)
    assert not any(reused(cell) for _ in range(4))
    mg.pure(Mine)
    settled(cell)


def test_a_part_that_nobody_promised_for_is_not_remembered() -> None:
    class Norm(nn.LayerNorm):
        pass

    cell = nn.LayerNormLSTMCell(3, 3, dtype=F64)
    cell.norm_c = Norm(3, dtype=F64)
    assert "its norm_c is a Norm, and not known to be pure" in why(cell, cell.init_state(2))
    mg.pure(Norm)
    settled(cell, cell.init_state(2))
    cell.norm_c.eps = 0.5  # an attribute of a part
    assert not reused(cell, cell.init_state(2))


@dataclasses.dataclass
class Options:
    gain: float = 1.0


class Own(nn.Module):
    def __init__(self) -> None:
        self.w = nn.Parameter(np.eye(3) * 0.5)
        self.options = Options()
        self.table = np.ones(3)

    def forward(self, h: Any, x: Any) -> tuple[Any, Any]:
        return mg.tanh(h @ self.w * self.options.gain + x), h


def test_dataclasses_and_small_arrays_are_compared_by_what_they_hold() -> None:
    cell = mg.pure(Own())
    settled(cell)
    cell.options.gain = 3.0
    assert not reused(cell)
    settled(cell)
    cell.table[1] = 2.0
    assert not reused(cell)


def test_a_large_array_that_may_be_edited_is_said_to_be_the_reason() -> None:
    cell = mg.pure(Own())
    cell.table = np.zeros(10_000)
    assert "its table is an array of 80000 bytes, which may be edited" in why(cell)


def test_a_function_that_is_promised_for() -> None:
    w = mg.tensor(np.eye(3), requires_grad=True)

    @mg.pure
    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        return mg.tanh(h @ w.T + x), h

    settled(cell)
    w.data = np.eye(3) * 2.0
    assert reused(cell)
    found = []
    for mode in ("fused", "tape"):
        w.grad = None
        mg.scan(cell, H, XS, mode=mode).final.sum().backward()
        found.append(w.grad.numpy())  # type: ignore[union-attr]
    np.testing.assert_allclose(*found, rtol=1e-12)


def _detaches(w: Any) -> Any:
    return lambda h, x: (mg.tanh(h @ w.detach() + x), h)


def _makes(w: Any) -> Any:
    return lambda h, x: (mg.tanh(h @ mg.tensor(w.numpy() * 2.0) + x), h)


def _indexes(w: Any) -> Any:
    order = mg.tensor(np.array([1, 0, 2]))
    return lambda h, x: (mg.tanh(h @ w[order] + x), h)


def _scans(w: Any) -> Any:
    inner = mg.tensor(np.ones((2, 3, 3)))
    return lambda h, x: (mg.tanh(h @ mg.scan(lambda a, b: (a + b, ()), w, inner).final + x), h)


@pytest.mark.parametrize(("make", "reason"), [
    (_detaches, "makes Tensors of its own"), (_makes, "makes Tensors of its own"),
    (_indexes, "indexes by an array"), (_scans, "runs another scan"),
])  # fmt: skip
def test_a_trace_that_could_go_stale_by_itself_is_not_remembered(make: Any, reason: str) -> None:
    w = mg.tensor(np.eye(3))
    cell = mg.pure(make(w))
    assert reason in why(cell)
    w.data = np.eye(3) * 3.0
    right(cell)


def test_inputs_that_are_one_tensor_are_not_taken_for_two(rng: Any) -> None:
    w = mg.tensor(rng.normal(size=(3, 3)))

    @mg.pure
    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        a, b = x
        return h + mg.tanh(a) @ w - mg.tanh(b * 2.0) @ w, h

    x, y = mg.tensor(rng.normal(size=(4, 2, 3))), mg.tensor(rng.normal(size=(4, 2, 3)))
    for xs in ((x, x), (x, x), (x, x), (x, y), (y, x), (x, x)):
        fused, tape = (mg.scan(cell, H, xs, mode=m).final.numpy() for m in ("fused", "tape"))
        np.testing.assert_allclose(fused, tape, rtol=1e-12)


def test_an_input_that_the_cell_also_holds_is_not_taken_for_its_weight(rng: Any) -> None:
    w = mg.tensor(rng.normal(size=(2, 3)))
    cell = mg.pure(lambda h, x: (mg.tanh(h * w + x), h))
    other = mg.tensor(rng.normal(size=(2, 3)))
    for state in (w, w, w, other, other, other, w):
        right(cell, state)


def test_no_grad_inside_and_outside_are_told_apart() -> None:
    w = mg.tensor(np.eye(3) * 0.5, requires_grad=True)

    @mg.pure
    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        with mg.no_grad():
            scale = mg.tanh(w).T
            kept = mg.tanh(h) @ scale
        return mg.tanh(kept + h @ w + x), h

    for k in range(8):
        if k % 2:
            with mg.no_grad():
                mg.scan(cell, H, XS)
            continue
        found = []
        for mode in ("fused", "tape"):
            w.grad = None
            mg.scan(cell, H, XS, mode=mode).final.sum().backward()
            found.append(w.grad.numpy())  # type: ignore[union-attr]
        np.testing.assert_allclose(*found, rtol=1e-12)
    assert reused(cell)


class Hears(Listener):
    """Keeps what is told of a scan."""

    whole_scans, states = True, ("h", "c")

    def sequence(self, path: str, order: range, record: Any, made_by: Any, wants: bool) -> Any:
        self.told = path, order, made_by, wants
        self.record = record
        return lambda: None

    def ran(self, path: str, call: Any) -> None:
        self.call = call


@pytest.mark.parametrize("frozen", ["", "weight_hh", "bias_hh"])
@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.PeepholeLSTMCell, nn.LRUCell])
def test_who_listens_hears_the_same_of_a_call_that_is_not_traced(kind: Any, frozen: str) -> None:
    cell = kind(3, 4, dtype=F64)
    for p in cell.parameters():
        p.requires_grad = p.name != frozen
    heard: list[Any] = []
    for _ in range(4):
        cell.zero_grad()
        xs = mg.tensor(XS, requires_grad=True)
        who = Hears()
        with mg.listen(who), traces() as counted:
            result = mg.scan(cell, cell.init_state(2), xs)
        (result.ys**2.0).sum().backward()
        read = [*who.record.values.items(), *who.record.gradients.items()]
        read += [*who.record.carried.items(), *who.told[2].items(), ("told", who.told[:2])]
        read += [(p.name, p.grad) for p in [*cell.parameters(), xs]]
        heard.append((str(read), [p.name for p in who.call.weights]))
        assert who.call.steps == len(XS)
    assert not counted
    assert heard[0] == heard[1] == heard[2] == heard[3]


def test_a_bound_method_and_what_is_no_cell_are_refused() -> None:
    with pytest.raises(TypeError, match="pure: expected a function, a Module or a class, got a m"):
        mg.pure(Own().forward)
    with pytest.raises(TypeError, match="got a int"):
        mg.pure(3)


def test_a_tape_sees_what_a_pure_cell_runs() -> None:
    cell = nn.RNNCell(3, 3, dtype=F64)
    settled(cell)
    with mg.Tape() as tape:
        result = mg.scan(cell, H, XS)
    assert "a Tape or detect_anomaly" in str(result.explain())
    assert [n.op.name for n in tape.nodes].count("transpose") == 2


def test_a_cell_that_goes_away_is_forgotten() -> None:
    gc.collect()
    before = len(remember._KNOWN)
    cell = nn.RNNCell(3, 3, dtype=F64)
    settled(cell)
    assert len(remember._KNOWN) == before + 1
    del cell
    gc.collect()
    assert len(remember._KNOWN) <= before
