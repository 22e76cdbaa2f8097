"""The table of gate orders is right: of all orders, only its own gives the others' values."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import modes
import numpy as np
import pytest
from conformance import gates
from conformance.cs231n import layer_cases, layer_matches
from conformance.nodes import compute
from conformance.runtime import onnxruntime_values, random_node
from conformance.stored import needs_stored
from golden.store import cases
from modes import each_mode

import minigrad as mg
from minigrad import nn

CELLS: dict[str, Any] = {"RNN": nn.RNNCell, "LSTM": nn.LSTMCell, "GRU": nn.GRUCell}
GATED = ("LSTM", "GRU")


def other_orders(op: str, whose: str) -> Iterator[str]:
    orders = map("".join, itertools.permutations(gates.ORDERS[op, whose]))
    return (order for order in orders if order != gates.ORDERS[op, whose])


def test_every_order_names_the_gates_of_the_cell() -> None:
    for (op, _), order in gates.ORDERS.items():
        assert sorted(order) == sorted(CELLS[op].gates)


@pytest.mark.parametrize("op", CELLS)
def test_our_order_is_the_one_that_the_cells_declare(op: str) -> None:
    assert gates.ORDERS[op, gates.OURS] == "".join(CELLS[op].gates)


def test_reordering_there_and_back_changes_nothing(rng: np.random.Generator) -> None:
    w = rng.standard_normal((8, 3))
    there = gates.reorder(w, "iofg", "ifgo")
    assert np.array_equal(there[2:4], w[4:6])
    assert np.array_equal(gates.reorder(there, "ifgo", "iofg"), w)


@each_mode
@pytest.mark.parametrize("op", GATED)
def test_only_the_tables_order_gives_torchs_values(op: str, mode: str) -> None:
    case = cases("cells")[f"{op.lower()}-bias-seed0"].arrays

    def fits(order: str) -> bool:
        cell = CELLS[op](case["x"].shape[1], case["h"].shape[1], dtype=np.float64)
        names = dict(cell.named_parameters())
        cell.load_state_dict(
            {k: gates.reorder(case[k], order, gates.ORDERS[op, gates.OURS]) for k in names}
        )
        h = mg.tensor(case["h"])
        state = nn.LSTMState(h, mg.tensor(case["c"])) if op == "LSTM" else h
        _, ys = modes.run(cell, state, mg.tensor(case["x"][None]), mode=mode)
        return np.allclose(ys.data[0], case["new_h"], rtol=1e-10, atol=1e-10)

    assert fits(gates.ORDERS[op, "torch"])
    assert not any(map(fits, other_orders(op, "torch")))


@each_mode
@pytest.mark.parametrize("op", GATED)
def test_only_the_tables_order_gives_onnxruntimes_values(
    op: str, mode: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx", reason="builds the node")
    pytest.importorskip("onnxruntime", reason="computes its values")
    node = random_node(op, {}, (3, 2, 3, 2), rng)
    expected = onnxruntime_values(node)

    def fits(order: str) -> bool:
        with monkeypatch.context() as patch:
            patch.setitem(gates.ORDERS, (op, "onnx"), order)
            found = compute(node, mode)
        return all(np.allclose(found[k], y, rtol=1e-5, atol=1e-5) for k, y in expected.items())

    assert fits(gates.ORDERS[op, "onnx"])
    assert not any(map(fits, other_orders(op, "onnx")))


@needs_stored
@each_mode
def test_only_the_tables_order_gives_cs231ns_values(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (case,) = (c for c in layer_cases() if c["name"] == "lstm_forward")
    assert layer_matches(case, mode)
    for order in other_orders("LSTM", "cs231n"):
        monkeypatch.setitem(gates.ORDERS, ("LSTM", "cs231n"), order)
        assert not layer_matches(case, mode)
