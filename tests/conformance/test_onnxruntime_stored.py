"""ONNX Runtime's C++ unit tests, recorded: ragged lengths, peepholes, clip, activations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conformance.nodes import Node, check, compute
from conformance.stored import FOLDER, needs_stored, read
from modes import each_mode

from minigrad import ShapeError

pytestmark = needs_stored


def stored_cases(expect: str, empty: bool = False) -> list[Any]:
    """Those that succeed or fail; `empty` ones have not one row with a step."""
    return [
        pytest.param(case, id=case["name"])
        for case in read("onnxruntime_cpp_rnn_cases.json").get("cases", [])
        if case["expect"] == expect and ("AllZeros" in case["name"]) == empty
    ]


def arrays(case: Any, kind: str) -> dict[str, np.ndarray]:
    """float64, so that what remains is the error of the stored values."""
    prefix = f"{case['name']}/{kind}/"
    with np.load(FOLDER / "onnxruntime_cpp_rnn_cases.npz") as stored:
        found = {k.removeprefix(prefix): stored[k] for k in stored.files if k.startswith(prefix)}
    return {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in found.items()}


def node_of(case: Any) -> Node:
    return Node(case["op"], case["attributes"], arrays(case, "in"))


@each_mode
@pytest.mark.parametrize("case", stored_cases("success"))
def test_node_gives_onnxruntimes_values(case: Any, mode: str) -> None:
    check(compute(node_of(case), mode), arrays(case, "out"), rtol=1e-3, atol=1e-4)


@each_mode
@pytest.mark.parametrize("case", stored_cases("success", empty=True))
def test_a_batch_without_a_single_step_is_refused(case: Any, mode: str) -> None:
    """ONNX answers zeros."""
    with pytest.raises(ShapeError, match=r"no empty axis|at least one step and one row"):
        compute(node_of(case), mode)


@each_mode
@pytest.mark.parametrize("case", stored_cases("failure"))
def test_lengths_that_onnxruntime_refuses_are_refused(case: Any, mode: str) -> None:
    with pytest.raises(ShapeError, match="lengths"):
        compute(node_of(case), mode)
