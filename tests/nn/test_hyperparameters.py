"""Sizes, probabilities and numbers are checked where a layer is made; modules may hold others."""

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import init, zoo

SIZES: list[Any] = [
    lambda n: nn.Linear(n, 2),
    lambda n: nn.Linear(2, n),
    lambda n: nn.Embedding(n, 2),
    lambda n: nn.Embedding(2, n),
    nn.LayerNorm,
    lambda n: nn.LayerNorm([3, n]),
    lambda n: nn.LSTM(n, 2),
    lambda n: nn.LSTM(2, n),
    lambda n: nn.GRU(2, 2, num_layers=n),
    lambda n: nn.RNNCell(n, 2),
    lambda n: nn.GRUCell(2, n),
    lambda n: zoo.AttentionLSTMCell(2, 2, n),
    lambda n: zoo.AttentionLSTMCell(2, 2, 2, attention_size=n),
    lambda n: zoo.JordanCell(2, 2, output_size=n),
]


@pytest.mark.parametrize("make", SIZES)
def test_a_size_is_an_integer_from_1(make) -> None:
    make(1), make(np.int64(3))
    for bad in (0, -1):
        with pytest.raises(mg.ShapeError, match=f"must be >= 1, got {bad}"):
            make(bad)
    for wrong in (True, 2.0, "2"):
        with pytest.raises(TypeError, match="is an integer >= 1"):
            make(wrong)


PROBABILITIES: list[Any] = [
    nn.Dropout,
    lambda p: nn.LSTM(2, 2, num_layers=2, dropout=p),
    lambda p: zoo.ZoneoutLSTMCell(2, 2, zoneout_h=p),
    lambda p: zoo.ZoneoutLSTMCell(2, 2, zoneout_c=p),
]


@pytest.mark.parametrize("make", PROBABILITIES)
def test_a_probability_is_a_number_from_0_to_1(make) -> None:
    for fine in (0, 1, 0.5, np.float32(0.25)):
        make(fine)
    for bad in (-0.1, 1.5, np.nan):
        with pytest.raises(ValueError, match=r"probability|finite"):
            make(bad)
    for wrong in (True, False, "0.5", None):
        with pytest.raises(TypeError, match="is a number"):
            make(wrong)


def weight() -> Any:
    return nn.Linear(2, 2).weight


NUMBERS: list[Any] = [
    lambda v: nn.LayerNorm(3, eps=v),
    lambda v: zoo.UnitaryCell(2, 2, eps=v),
    lambda v: zoo.LRUCell(2, 2, r_max=v),
    lambda v: nn.huber_loss([1.0], [2.0], delta=v),
    lambda v: nn.sample([[0.0, 1.0]], temperature=v),
    lambda v: init.uniform_(weight(), v),
    lambda v: init.normal_(weight(), v),
    lambda v: init.xavier_uniform_(weight(), v),
    lambda v: init.orthogonal_(weight(), v),
]


@pytest.mark.parametrize("make", NUMBERS)
def test_numbers_are_finite_and_no_bools_or_strings(make) -> None:
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="must be"):
            make(bad)
    for wrong in (True, "1", None):
        with pytest.raises(TypeError, match="is a number"):
            make(wrong)


@pytest.mark.parametrize("shape", [[3], (3,), np.array([3]), 3, np.int32(3), [2, 3], (2, 3)])
def test_layer_norm_takes_a_list_as_it_takes_a_tuple(shape) -> None:
    layer = nn.LayerNorm(shape, dtype=np.float64)
    sizes = tuple(np.atleast_1d(shape).tolist())
    assert layer.normalized_shape == sizes
    x = np.random.default_rng(0).normal(size=(4, 2, 3))
    axes = tuple(range(3 - len(sizes), 3))
    expected = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-12)


def test_layer_norm_over_no_axes_is_refused() -> None:
    for shape in ([], ()):
        with pytest.raises(mg.ShapeError, match="normalized_shape is empty"):
            nn.LayerNorm(shape)


# -- modules that hold each other ---------------------------------------------------------------


class Child(nn.Module):
    def __init__(self, parent: nn.Module) -> None:
        self.parent = parent
        self.b = nn.Linear(1, 1, bias=False)


class Parent(nn.Module):
    def __init__(self) -> None:
        self.a = nn.Linear(1, 1, bias=False)
        self.child = Child(self)


def test_a_child_that_knows_its_parent_is_listed_once() -> None:
    net = Parent()
    names = ["a.weight", "child.b.weight"]
    for _ in range(3):
        assert [n for n, _ in net.named_parameters()] == names
        assert list(net.state_dict()) == names
        both = zip(net.named_parameters(), net.named_parameters(), strict=True)
        assert [a[0] for a, _ in both] == names
    assert [type(m).__name__ for m in net.modules()] == ["Parent", "Linear", "Child", "Linear"]
    assert not net.eval().child.training
    assert net.to(np.float64).a.weight.dtype == np.float64
    net.load_state_dict(net.state_dict())
    assert repr(net).count("Linear(") == 2
    assert "(parent): Parent(...)" in repr(net)
    assert {n for n, _ in net.child.named_parameters()} == {"b.weight", "parent.a.weight"}


def test_a_module_and_a_list_may_hold_themselves() -> None:
    net = Parent()
    net.me = net
    net.parts = [nn.Linear(1, 1, bias=False)]
    net.parts.append(net.parts)
    net.table = {"net": net, "parts": net.parts}
    assert [n for n, _ in net.named_parameters()] == [
        "a.weight",
        "child.b.weight",
        "parts.0.weight",
    ]
    assert len(list(net.modules())) == 5
    repr(net)


def test_a_shared_module_is_visited_once_and_saved_under_both_names() -> None:
    net = nn.Module()
    net.first = nn.Linear(1, 1, bias=False)
    net.second = net.first
    net.again = nn.Sequential(net.first, net.first)
    visited: list[Any] = []
    net.apply(visited.append)
    assert len(visited) == len({id(m) for m in visited}) == 3
    assert list(net.state_dict()) == [
        "first.weight", "second.weight", "again.0.weight", "again.1.weight",
    ]  # fmt: skip
    assert len(list(net.parameters())) == 1


@pytest.mark.parametrize(
    "bad", [np.ones((1, 1), complex), np.full((1, 1), "x"), np.full((1, 1), None)]
)
def test_a_state_that_holds_no_numbers_changes_nothing(bad) -> None:
    net = nn.Linear(1, 1)
    before = net.state_dict()
    with pytest.raises(mg.StateDictError, match="no numbers: 'weight' is"):
        net.load_state_dict(before | {"weight": bad, "bias": np.full(1, 7.0)})
    assert net.state_dict() == before
