"""LSTMs with everything, from TensorFlow Lite's tests: peepholes, projection, coupled gates, and
layer normalisation inside the cell (Ba et al. 2016), all in a cell of one's own."""

from __future__ import annotations

from typing import Any

import modes
import numpy as np
import pytest
from conformance.stored import needs_stored, read
from modes import each_mode

import minigrad as mg
from minigrad import nn

pytestmark = needs_stored


class TfliteLSTM(nn.Module):
    """A gate: sigmoid or tanh of norm(W x + R h + p * c) * s + b, without what is not given."""

    def __init__(self, arrays: dict[str, Any], n_cell: int, n_output: int):
        self.n_cell, self.n_output = n_cell, n_output
        self.arrays = {k: nn.Parameter(np.array(v, np.float64)) for k, v in arrays.items()}

    def matrix(self, name: str, rows: int) -> Any:
        return self.arrays[name].reshape((rows, -1)).T

    def gate(self, name: str, x: Any, h: Any, c: Any) -> Any:
        a = x @ self.matrix(f"input_to_{name}_weights", self.n_cell)
        a = a + h @ self.matrix(f"recurrent_to_{name}_weights", self.n_cell)
        if f"cell_to_{name}_weights" in self.arrays:
            a = a + self.arrays[f"cell_to_{name}_weights"] * c
        scale = self.arrays.get(f"{name}_layer_norm_coefficients")
        if scale is not None:
            centred = a - a.mean(axis=-1, keepdims=True)
            variance = mg.square(centred).mean(axis=-1, keepdims=True)
            a = centred / mg.sqrt(variance + 1e-8) * scale
        return a + self.arrays[f"{name}_gate_bias"]

    def forward(self, state: Any, x: Any) -> tuple[Any, Any]:
        h, c = state
        f = mg.sigmoid(self.gate("forget", x, h, c))
        coupled = "input_to_input_weights" not in self.arrays
        i = 1 - f if coupled else mg.sigmoid(self.gate("input", x, h, c))
        c = f * c + i * mg.tanh(self.gate("cell", x, h, c))
        h = mg.sigmoid(self.gate("output", x, h, c)) * mg.tanh(c)
        if "projection_weights" in self.arrays:
            h = h @ self.matrix("projection_weights", self.n_output)
        return nn.LSTMState(h, c), h

    def init_state(self, batch: int) -> Any:
        sizes = (self.n_output, self.n_cell)
        return nn.LSTMState(*(mg.tensor(np.zeros((batch, size))) for size in sizes))


CASES = read("extra_golden_cases.json").get("tflite_lstm", {}).get("cases", [])


@each_mode
@pytest.mark.parametrize("case", [pytest.param(c, id=c["name"]) for c in CASES])
def test_cell_gives_tflites_values(case: Any, mode: str) -> None:
    cell = TfliteLSTM(case["arrays"], case["n_cell"], case["n_output"])
    xs = mg.tensor(np.array(case["input_TNI"]))
    _, ys = modes.run(cell, cell.init_state(case["n_batch"]), xs, mode=mode)
    np.testing.assert_allclose(ys.data, case["expected_output_TNO"], rtol=1e-5, atol=1e-5)
