"""The table of gate orders is right, and what is converted there and back is what it was."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import conformance.gates as oracle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interop.models import LAYERS, TAPE, Zoo, same_bits

import minigrad as mg
from minigrad import interop, nn
from minigrad.interop import gates

pytestmark = pytest.mark.filterwarnings("ignore::minigrad.interop.UncheckedActivationsWarning")

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CELLS: dict[str, Any] = {"RNN": nn.RNNCell, "LSTM": nn.LSTMCell, "GRU": nn.GRUCell}
sizes = st.integers(1, 5)
dtypes = st.sampled_from([np.float32, np.float64])


@pytest.mark.parametrize("kind", CELLS)
def test_minigrads_order_is_the_one_that_its_cells_declare(kind: str) -> None:
    assert gates.ORDERS[kind]["minigrad"] == "".join(CELLS[kind].gates)


def test_every_order_names_every_gate_once() -> None:
    for kind, orders in gates.ORDERS.items():
        for order in orders.values():
            assert sorted(order) == sorted(CELLS[kind].gates)


def test_the_orders_are_those_that_conformance_tests_try() -> None:
    shared = [(kind, whose) for kind, whose in oracle.ORDERS if whose in gates.ORDERS[kind]]
    assert len(shared) == 6
    for kind, whose in shared:
        assert gates.ORDERS[kind][whose] == oracle.ORDERS[kind, whose]
    assert gates.PEEPHOLES["onnx"] == oracle.ONNX_PEEPHOLES


@pytest.mark.parametrize(("kind", "name"), [("LSTM", "lstm"), ("GRU", "gru"), ("GRU", "gru_1")])
def test_only_the_tables_order_gives_keras_values(
    kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = np.load(GOLDEN / "keras_zoo.npz")
    arrays = [stored[key] for key in stored.files if key.startswith(f"weights.{name}.")]

    def fits(order: str) -> bool:
        with monkeypatch.context() as patch:
            patch.setitem(gates.ORDERS, kind, {**gates.ORDERS[kind], "keras": order})
            layer = getattr(Zoo(), name)
            interop.load_keras_weights(layer, arrays)
        return np.allclose(layer(stored["x"])[0].numpy(), stored[f"output.{name}"], atol=1e-5)

    orders = ["".join(p) for p in itertools.permutations(gates.ORDERS[kind]["keras"])]
    assert [order for order in orders if fits(order)] == [gates.ORDERS[kind]["keras"]]


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_only_the_tables_order_gives_onnxruntimes_values(
    kind: str, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx", reason="writes the file")
    runtime = pytest.importorskip("onnxruntime", reason="computes it")
    layer = {"LSTM": nn.LSTM, "GRU": nn.GRU}[kind](3, 2, **TAPE)
    x = rng.standard_normal((4, 3, 3)).astype(np.float32)
    expected = layer(x)[0].numpy()

    def fits(order: str) -> bool:
        with monkeypatch.context() as patch:
            patch.setitem(gates.ORDERS, kind, {**gates.ORDERS[kind], "onnx": order})
            file = interop.export_onnx(tmp_path / "a.onnx", layer)
        session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        return np.allclose(session.run(["y"], {"x": x})[0], expected, atol=1e-5)

    orders = ["".join(p) for p in itertools.permutations(gates.ORDERS[kind]["onnx"])]
    assert [order for order in orders if fits(order)] == [gates.ORDERS[kind]["onnx"]]


@given(st.sampled_from(["RNN", "LSTM", "GRU"]), st.booleans(), sizes, sizes, dtypes, st.data())
def test_weights_of_keras_come_back_with_the_same_bits(
    kind: str, after: bool, inputs: int, hidden: int, dtype: Any, data: st.DataObject
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    columns = len(gates.ORDERS[kind]["keras"]) * hidden
    bias = (2, columns) if kind == "GRU" and after else (columns,)
    shapes = [(inputs, columns), (hidden, columns), bias][: data.draw(st.integers(2, 3))]
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    if len(arrays) == 3:
        arrays[2].flat[0] = -0.0  # b + 0 would lose its sign
    weights = gates.from_keras("it", kind, arrays, after)
    assert weights["weight_ih"].shape == (columns, inputs)
    back = gates.to_keras(kind, weights, after)
    assert len(back) == len(arrays)
    assert all(map(same_bits, back, arrays))


@given(st.sampled_from(["RNN", "LSTM", "GRU"]), st.integers(1, 2), sizes, sizes, dtypes)
def test_weights_of_onnx_come_back_with_the_same_bits(
    kind: str, directions: int, inputs: int, hidden: int, dtype: Any
) -> None:
    rng = np.random.default_rng(inputs + 10 * hidden)
    rows = len(gates.ORDERS[kind]["onnx"]) * hidden
    shapes = [(directions, rows, inputs), (directions, rows, hidden), (directions, 2 * rows)]
    W, R, B = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    assert all(map(same_bits, gates.to_onnx(kind, gates.from_onnx(kind, W, R, B)), (W, R, B)))
    assert len(gates.to_onnx(kind, gates.from_onnx(kind, W, R, None))) == 2


def test_where_the_rows_go_is_what_the_tables_say() -> None:
    """One number per gate: written out by hand from the operators' documentation."""
    lstm = {name: np.array([[1.0], [2.0], [3.0], [4.0]]) for name in ("weight_ih", "weight_hh")}
    W, R = gates.to_onnx("LSTM", [lstm])  # i f g o -> i o f c
    assert W[0].ravel().tolist() == R[0].ravel().tolist() == [1.0, 4.0, 2.0, 3.0]
    gru = {name: np.array([[1.0], [2.0], [3.0]]) for name in ("weight_ih", "weight_hh")}
    gru |= {"bias_ih": np.array([1.0, 2.0, 3.0]), "bias_hh": np.array([10.0, 20.0, 30.0])}
    kernel, _, bias = gates.to_keras("GRU", gru, reset_after=True)  # r z n -> z r h
    assert kernel.tolist() == [[2.0, 1.0, 3.0]]
    assert bias.tolist() == [[2.0, 1.0, 3.0], [20.0, 10.0, 30.0]]
    assert gates.to_keras("GRU", gru)[2].tolist() == [22.0, 11.0, 33.0]
    assert gates.to_onnx("GRU", [gru])[2].tolist() == [[2.0, 1.0, 3.0, 20.0, 10.0, 30.0]]


@given(sizes, sizes, st.booleans())
def test_a_gru_that_writes_is_one_that_keeps_with_the_rows_of_z_negated(
    inputs: int, hidden: int, after: bool
) -> None:
    rng = np.random.default_rng(inputs + 10 * hidden)
    options: dict[str, Any] = dict(reset_after=after, dtype=np.float64, **TAPE)
    writes = nn.GRU(inputs, hidden, update="write", **options)
    keeps = nn.GRU(inputs, hidden, **options)
    interop.load_keras_weights(keeps, interop.to_keras_weights(writes))
    x = rng.standard_normal((3, 2, inputs))
    np.testing.assert_allclose(keeps(x)[0].numpy(), writes(x)[0].numpy(), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", LAYERS)
def test_one_bias_for_two_is_the_sum_that_the_cell_itself_takes(
    name: str, rng: np.random.Generator
) -> None:
    layer = LAYERS[name](3, 3)
    again = LAYERS[name](3, 3)
    interop.load_keras_weights(again, interop.to_keras_weights(layer))
    x = mg.tensor(rng.standard_normal((4, 2, 3)).astype(np.float32))
    assert same_bits(again(x)[0].numpy(), layer(x)[0].numpy())
