"""The node tests of the ONNX standard for RNN, LSTM and GRU, from the package `onnx`.

They are few and weak (equal weights for every gate, mostly); test_onnxruntime.py is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conformance.nodes import Node, check, compute
from modes import each_mode

pytest.importorskip("onnx", reason="the node tests come with the package onnx")


def standard_cases() -> Iterator[Any]:
    import onnx
    from onnx.backend.test.case.node import _NodeTestCases as collected
    from onnx.backend.test.case.node import gru, lstm, rnn  # noqa: F401  importing fills the list

    for case in collected:
        (node,) = case.model.graph.node
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if isinstance(attributes.get("direction"), bytes):
            attributes["direction"] = attributes["direction"].decode()
        ((inputs, outputs),) = case.data_sets
        given = dict(zip((name for name in node.input if name), inputs, strict=True))
        expected = dict(zip((name for name in node.output if name), outputs, strict=True))
        described = Node(node.op_type, attributes, given)
        yield pytest.param(described, expected, case.rtol, id=case.name)


CASES = list(standard_cases())


@each_mode
@pytest.mark.parametrize(("node", "expected", "rtol"), CASES)
def test_node_gives_the_standards_values(node: Node, expected: Any, rtol: float, mode: str) -> None:
    check(compute(node, mode), expected, rtol=rtol, atol=1e-6)


def test_all_eighteen_node_tests_are_found() -> None:
    assert len(CASES) == 18
