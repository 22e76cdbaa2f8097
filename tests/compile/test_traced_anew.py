"""A cell is traced whenever it is called: what it depends on may change in any way."""

from __future__ import annotations

import contextvars
import functools
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compile.again import F64, XS, H, changes, right, traces
from compile.agree import close

import minigrad as mg
from minigrad import nn

GAIN = 2.0
FACTORS = [1.0, 2.0]


class Config:
    scale = 2.0
    factors = (1.0, 2.0)


def helper(h: Any) -> Any:
    return h * GAIN


def test_a_cell_of_ones_own_is_traced_whenever_it_is_called() -> None:
    cell = Own()
    right(cell)  # the first program of a cell is traced twice: see test_repeats.py
    with traces() as counted:
        for _ in range(3):
            mg.scan(cell, H, XS)
    assert len(counted) == 3
    explained = str(mg.scan(cell, H, XS).explain())
    assert "traced     a cell of one's own is traced at every call, unless mg.pure" in explained


def test_an_attribute_that_changes() -> None:
    cell = nn.GRUCell(3, 3, dtype=F64)
    changes(cell, lambda: setattr(cell, "update", "write"))


def test_a_parameter_that_is_edited_or_swapped() -> None:
    cell = nn.RNNCell(3, 3, dtype=F64)
    changes(cell, lambda: setattr(cell.weight_hh, "data", cell.weight_hh.data * 0.5))
    changes(cell, lambda: setattr(cell, "weight_hh", nn.Parameter(cell.weight_hh.numpy() * 3.0)))


def test_a_parameter_that_needs_a_gradient_later() -> None:
    w = mg.tensor(np.eye(3) * 0.5)

    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        return mg.tanh(h @ w + x), h

    right(cell)
    right(cell)
    w.requires_grad_()
    mg.scan(cell, H, XS).final.sum().backward()
    got, w.grad = w.grad, None
    mg.scan(cell, H, XS, mode="tape").final.sum().backward()
    close("w", got.numpy(), w.grad.numpy(), 1e-12)


class Scale:
    """A part of a cell that is no Module."""

    scale = 1.0

    def __call__(self, h: Any) -> Any:
        return h * self.scale


class Own(nn.Module):
    """A cell of a user's, with most ways to depend on something."""

    bias = 0.5
    table = [0.5]
    shift = mg.tensor([0.25, 0.5, 1.0])

    def __init__(self) -> None:
        self.sizes = [1.0, 2.0]
        self.options = {"gain": 1.0}
        self.inner = Scale()

    def init_state(self, batch: int) -> Any:
        return mg.tensor(np.zeros((batch, 3)))

    def gate(self, h: Any) -> Any:
        return mg.tanh(h) * self.bias

    @property
    def slope(self) -> float:
        return GAIN

    @staticmethod
    def fixed(h: Any) -> Any:
        return h * FACTORS[0]

    @classmethod
    def shared(cls, h: Any) -> Any:
        return h + cls.shift * cls.table[0]

    def forward(self, h: Any, x: Any) -> tuple[Any, Any]:
        h = self.gate(h) + x * self.sizes[1] * self.options["gain"] * self.slope
        return mg.tanh(self.inner(self.shared(self.fixed(h)))), h


def _gate(self: Any, h: Any) -> Any:
    return mg.tanh(h) * 0.125


def _forward(self: Any, h: Any, x: Any) -> tuple[Any, Any]:
    return h, x


CHANGES: dict[str, tuple[Any, str, Any]] = {
    "a class attribute": (Own, "bias", 0.75),
    "a class attribute that is a list": (Own, "table", [2.0]),
    "a class attribute that is a Tensor": (Own, "shift", mg.tensor([1.0, 2.0, 3.0])),
    "a method": (Own, "gate", _gate),
    "forward": (Own, "forward", _forward),
    "a property": (Own, "slope", property(lambda self: 0.25)),
    "a static method": (Own, "fixed", staticmethod(lambda h: h * 0.5)),
    "a class method": (Own, "shared", classmethod(lambda cls, h: h + 0.125)),
    "a global that a property reads": (sys.modules[__name__], "GAIN", 3.0),
    "a global that a static method reads": (sys.modules[__name__], "FACTORS", [3.0]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_class_holds_may_change(name: str, monkeypatch: Any) -> None:
    owner, attribute, value = CHANGES[name]
    changes(Own(), lambda: monkeypatch.setattr(owner, attribute, value))


@pytest.mark.parametrize(
    "change",
    [
        lambda cell: cell.sizes.__setitem__(1, 5.0),
        lambda cell: setattr(cell, "sizes", [0.0, 3.0]),
        lambda cell: cell.options.update(gain=3.0),
        lambda cell: setattr(cell, "bias", 4.0),
        lambda cell: setattr(cell, "gate", lambda h: h * 0.5),
        lambda cell: setattr(cell.inner, "scale", 0.5),
    ],
)
def test_what_an_object_holds_may_change(change: Callable[[Any], Any]) -> None:
    cell = Own()
    changes(cell, lambda: change(cell))


def test_content_of_a_class_attribute_may_change(monkeypatch: Any) -> None:
    monkeypatch.setattr(Own, "table", [0.5])
    changes(Own(), lambda: Own.table.__setitem__(0, 3.0))


def test_globals_that_change(monkeypatch: Any) -> None:
    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        return mg.tanh(helper(h) + x * FACTORS[1]), h

    here = sys.modules[__name__]
    changes(cell, lambda: monkeypatch.setattr(here, "GAIN", 0.5))
    changes(cell, lambda: monkeypatch.setattr(here, "helper", lambda h: h))
    monkeypatch.setattr(here, "FACTORS", list(FACTORS))
    changes(cell, lambda: FACTORS.__setitem__(1, 7.0))


def test_a_class_used_as_a_namespace(monkeypatch: Any) -> None:
    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        return mg.tanh(h * Config.scale + x * Config.factors[1]), h

    changes(cell, lambda: monkeypatch.setattr(Config, "scale", 0.5))
    changes(cell, lambda: monkeypatch.setattr(Config, "factors", (1.0, 5.0)))


def test_closures_and_defaults_that_change() -> None:
    scale, w = 2.0, mg.tensor(np.eye(3))

    def cell(h: Any, x: Any, low: Any = (0.5,)) -> tuple[Any, Any]:
        return mg.tanh((h * scale) @ w + x * low[0]), h

    def change_scale() -> None:
        nonlocal scale
        scale = 0.5

    def change_w() -> None:
        nonlocal w
        w = mg.tensor(np.eye(3) * 2)

    changes(cell, change_scale)
    changes(cell, change_w)
    changes(cell, lambda: setattr(cell, "__defaults__", ((3.0,),)))


def test_a_partial_is_followed_into_what_it_binds(monkeypatch: Any) -> None:
    def step(scales: Any, h: Any, x: Any) -> tuple[Any, Any]:
        return mg.tanh(h * scales[0] * GAIN + x), h

    scales = [2.0]
    changes(functools.partial(step, scales), lambda: scales.__setitem__(0, 0.5))
    here = sys.modules[__name__]
    changes(functools.partial(step, scales), lambda: monkeypatch.setattr(here, "GAIN", 0.25))


def test_training_and_eval_are_different_cells() -> None:
    cell = nn.ZoneoutLSTMCell(3, 3, zoneout_h=0.5, zoneout_c=0.5, dtype=F64)
    drawn = cell.draw(4, 2)
    state = cell.init_state(2)

    def run(mode: str) -> Any:
        return mg.scan(cell, state, (XS, drawn), mode=mode).ys.numpy()

    for training in (True, True, True, False, True):
        cell.train(training)
        close("ys", run("fused"), run("tape"), 1e-12)


def test_an_array_that_is_edited_is_read_anew() -> None:
    mask = np.ones(3)

    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        return mg.tanh(h * mask + x), h

    changes(cell, lambda: mask.__setitem__(0, 0.0))


def test_numbers_that_python_makes_of_tensors() -> None:
    w, i = mg.tensor(2.0), mg.tensor(np.array([0]))

    def item(h: Any, x: Any) -> tuple[Any, Any]:
        return mg.tanh(h * w.item() + x), h

    def branch(h: Any, x: Any) -> tuple[Any, Any]:
        return (mg.tanh(h + x) if w.item() > 0 else h - x), h

    def chosen(h: Any, x: Any) -> tuple[Any, Any]:
        return h + x + mg.one_hot(i, 3, F64), h

    changes(item, lambda: setattr(w, "data", np.array(3.0)))
    changes(branch, lambda: setattr(w, "data", np.array(-3.0)))
    changes(chosen, lambda: setattr(i, "data", np.array([2])))


def test_what_python_finds_by_ways_of_its_own() -> None:
    """Imports in the cell, attributes of functions, properties of a metaclass, ContextVars."""
    module = types.ModuleType("settings_of_a_cell")
    module.scale = 1.0  # type: ignore[attr-defined]
    variable = contextvars.ContextVar("scale", default=1.0)

    def imports(h: Any, x: Any) -> tuple[Any, Any]:
        from settings_of_a_cell import scale

        return mg.tanh(h * scale + x), h

    def attribute(h: Any, x: Any) -> tuple[Any, Any]:
        return mg.tanh(h * attribute.scale + x), h  # type: ignore[attr-defined]

    attribute.scale = 1.0  # type: ignore[attr-defined]

    class Meta(type):
        value = 1.0
        scale = property(lambda cls: Meta.value)

    class Of(metaclass=Meta):
        def __call__(self, h: Any, x: Any) -> tuple[Any, Any]:
            return mg.tanh(h * type(self).scale + x), h

    def context(h: Any, x: Any) -> tuple[Any, Any]:
        return mg.tanh(h * variable.get() + x), h

    sys.modules["settings_of_a_cell"] = module
    try:
        changes(imports, lambda: setattr(module, "scale", 2.0))
    finally:
        del sys.modules["settings_of_a_cell"]
    changes(attribute, lambda: setattr(attribute, "scale", 2.0))
    changes(Of(), lambda: setattr(Meta, "value", 2.0))
    changes(context, lambda: variable.set(2.0))


class Described(nn.Module):
    """Methods with names that a layer has too."""

    def describe(self) -> str:
        return str(GAIN)

    def init_state(self, batch: int) -> Any:
        return GAIN

    def forward(self, h: Any, x: Any) -> tuple[Any, Any]:
        return mg.tanh(h * float(self.describe()) + x * self.init_state(1)), h


def test_no_name_of_a_method_means_anything(monkeypatch: Any) -> None:
    here = sys.modules[__name__]
    changes(Described(), lambda: monkeypatch.setattr(here, "GAIN", 5.0))


@pytest.mark.parametrize("name", ["padded_step", "step"])
def test_no_name_or_attribute_of_a_function_means_anything(name: str) -> None:
    """A wrapper that remembers what it wraps, as decorators do, is a cell like any other."""
    cell = nn.LSTMCell(3, 3, dtype=F64)

    def scaled(s: float) -> Any:
        def step(state: Any, x: Any) -> Any:
            (h, c), y = cell(state, x)
            return type(state)(h * s, c), y

        step.cell = cell  # type: ignore[attr-defined]
        step.__name__ = name
        return step

    for s in (1.0, 1.0, 1.0, 0.1):
        right(scaled(s), cell.init_state(2))


def test_a_number_that_changes_at_every_call_is_warned_of() -> None:
    number = [0.0]

    def annealed(h: Any, x: Any) -> tuple[Any, Any]:
        return mg.tanh(h * number[0] + x), h

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for k in range(5):
            number[0] = 0.25 + k
            mg.scan(annealed, H, XS)
    number[0] = 7.5
    with pytest.warns(UserWarning, match=r"annealed has been compiled 6 times .* mg\.tensor\("):
        mg.scan(annealed, H, XS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        number[0] = 8.5
        mg.scan(annealed, H, XS)
