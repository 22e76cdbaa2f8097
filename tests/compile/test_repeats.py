"""A cell that does something else each time is refused: a step is traced, not run at every t."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from compile.again import XS, H, right, traces

import minigrad as mg
from minigrad import nn

RNG = np.random.default_rng(0)
COUNT = [0]


def _mask(h: Any, x: Any) -> tuple[Any, Any]:
    return h * (RNG.random((2, 3)) < 0.5).astype(float) + x, h


def _dropout(h: Any, x: Any) -> tuple[Any, Any]:
    return h * mg.tensor(RNG.random(3)) + x, h


def _number(h: Any, x: Any) -> tuple[Any, Any]:
    return h + float(RNG.gumbel()) * x, h


def _python(h: Any, x: Any) -> tuple[Any, Any]:
    import random

    return h + random.gauss(0, 1), h


def _counter(h: Any, x: Any) -> tuple[Any, Any]:
    COUNT[0] += 1
    return h + x / COUNT[0], h


def _clock(h: Any, x: Any) -> tuple[Any, Any]:
    return h + x * time.perf_counter(), h


def _weights(h: Any, x: Any) -> tuple[Any, Any]:
    """The noise is in what is done ahead of the loop, before any of it reaches a step."""
    return mg.tanh(h + mg.tanh(x) @ mg.tensor(RNG.normal(size=(3, 3)))), h


def _order(h: Any, x: Any) -> tuple[Any, Any]:
    COUNT[0] += 1
    return (h + x if COUNT[0] % 2 else x * h), h


@pytest.mark.parametrize(("cell", "op"), [
    (_mask, "what multiply reads"), (_dropout, "what multiply reads"), (_number, "multiply"),
    (_python, "add"), (_counter, "divide"), (_clock, "multiply"),
    (_weights, "what matmul reads"),
    (_order, "add|multiply"),
])  # fmt: skip
def test_what_changes_from_trace_to_trace_is_refused_and_named(cell: Any, op: str) -> None:
    for _ in range(3):
        with pytest.raises(
            mg.TraceError, match=rf"traced twice, and .*({op}).*draw\(time, batch\)"
        ):
            mg.scan(cell, H, XS)
    mg.scan(cell, H, XS, mode="tape")


def test_dropout_in_a_step_is_refused() -> None:
    layer = nn.Dropout(0.5, generator=np.random.default_rng(0))
    with pytest.raises(mg.TraceError, match=r"Dropout|draw"):
        mg.scan(lambda h, x: (layer(h) + x, h), H, XS)


def test_counting_calls_and_making_weights_at_the_first_one_are_no_side_effects() -> None:
    class Lazy(nn.Module):
        w: Any = None
        calls = 0

        def forward(self, h: Any, x: Any) -> tuple[Any, Any]:
            self.calls += 1
            if self.w is None:
                self.w = nn.Parameter(RNG.normal(size=(3, 3)))
            return mg.tanh(h @ self.w + x), h

    right(Lazy())


def test_a_cell_that_repeats_itself_is_traced_twice_once() -> None:
    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        return mg.tanh(h * 0.71 + x), h

    with traces() as counted:
        mg.scan(cell, H, XS)
        assert len(counted) == 2
        mg.scan(cell, H, XS)
    assert len(counted) == 3
    with mg.Tape() as tape:
        mg.scan(lambda h, x: (mg.tanh(h @ mg.tanh(H.T @ H) + x), h), H, XS)
    assert [n.op.name for n in tape.nodes].count("tanh") == 1  # the second trace is on no tape
