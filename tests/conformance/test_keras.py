"""Keras 3's tests of its recurrent layers: masks, directions, merges, states, stacked cells.

Their weights are constants, so they are blind to the order of gates and to transposed kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conformance.keras import F64, array_of, fill, replay, two_biases
from conformance.stored import needs_stored, read
from modes import each_mode

from minigrad import nn

pytestmark = needs_stored

# TimeDistributed is a Linear without a recurrence.
CASES = [
    case
    for case in read("keras_rnn_cases.json").get("cases", [])
    if case["model"]["type"] != "TimeDistributed"
]


def named(cases: list[Any]) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in cases]


def expected_of(case: Any) -> Any:
    return np.asarray(case["expected"]), dict(rtol=case["rtol"], atol=case["atol"])


def at(result: Any, path: list[int]) -> Any:
    for i in path:
        result = result[i]
    return result


@each_mode
@pytest.mark.parametrize("case", named(CASES))
def test_cells_give_keras_values(case: Any, mode: str) -> None:
    result = replay(case, mode)
    found = at(at(result, case["output_path"]), case["array_index"])
    if "equals_output_path" in case:
        np.testing.assert_allclose(found, at(result, case["equals_output_path"]))
    else:
        expected, tolerances = expected_of(case)
        np.testing.assert_allclose(found, expected, **tolerances)


def one_call_of_a_layer(case: Any) -> bool:
    """A built-in layer, one or both directions, called once, nothing but the input."""
    model = case["model"]
    inner = model.get("layer", model)
    plain = {"type", "units", "weights", "reset_after", "use_bias", "unit_forget_bias"}
    plain |= {"unroll", "return_sequences", "layer", "merge_mode"}
    return (
        len(case["events"]) == 1
        and set(case["events"][0]["call"]) == {"inputs"}
        and set(model) | set(inner) <= plain
        and inner["type"] in ("SimpleRNN", "LSTM", "GRU")
        and model.get("merge_mode", "concat") is not None
    )


@each_mode
@pytest.mark.parametrize("case", named([c for c in CASES if one_call_of_a_layer(c)]))
def test_layers_give_keras_values(case: Any, mode: str) -> None:
    model = case["model"]
    inner = model.get("layer", model)
    x = array_of(case["events"][0]["call"]["inputs"][0])
    merge = model.get("merge_mode", "concat")
    options: dict[str, Any] = dict(batch_first=True, mode=mode, **F64)
    options |= dict(bidirectional="layer" in model, merge="mean" if merge == "ave" else merge)
    options["return_sequences"] = inner.get("return_sequences", False)
    if inner["type"] == "GRU":
        options["reset_after"] = two_biases(inner)
    kinds: dict[str, Any] = {"SimpleRNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}
    layer = kinds[inner["type"]](x.shape[2], inner["units"], **options)
    for cell in layer.cells:
        fill(cell, inner)
    output, _ = layer(x)
    expected, tolerances = expected_of(case)
    np.testing.assert_allclose(at(output.data, case["array_index"]), expected, **tolerances)
