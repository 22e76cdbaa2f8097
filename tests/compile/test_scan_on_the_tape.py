"""A scan among the other ops: no_grad, a Tape, detect_anomaly, NaN and Inf."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compile.test_scan import leaf

import minigrad as mg


def test_no_grad_records_nothing(rng: Any) -> None:
    h, xs = leaf(rng, 2, 3), leaf(rng, 4, 2, 3)
    with mg.no_grad():
        final, ys = mg.scan(lambda h, x: (h * x, h), h, xs)
    assert not final.requires_grad
    assert not ys.requires_grad


def test_a_tape_shows_a_scan_as_one_node_and_its_results(rng: Any) -> None:
    h, xs = leaf(rng, 2, 3, name="h"), leaf(rng, 4, 2, 3, name="xs")
    with mg.Tape() as tape, mg.scope("net"):
        mg.scan(lambda h, x: (mg.tanh(h * x), h), h, xs)
    assert [n.op.name for n in tape.nodes] == ["scan", "scan_output", "scan_output"]
    assert {n.scope for n in tape.nodes} == {"net"}
    assert "h, xs" in str(tape)


@pytest.mark.parametrize("mode", ["fused", "tape"])
def test_detect_anomaly_finds_a_nan_that_a_scan_makes(mode: str, rng: Any) -> None:
    h, xs = leaf(rng, 2, 3), leaf(rng, 4, 2, 3)
    with (
        mg.detect_anomaly(),
        pytest.raises(mg.errors.NumericalError, match=r"forward pass of log, scope t=0"),
    ):
        mg.scan(lambda h, x: (mg.log(-mg.exp(h)) + x, h), h, xs, mode=mode)


def test_nan_and_inf_pass_through_as_on_the_tape(rng: Any) -> None:
    values = np.array([[0.5, np.nan, np.inf], [-np.inf, 0.0, -0.0]])
    for f in (mg.relu, mg.tanh, mg.abs, lambda h: mg.max(h, 1, keepdims=True) + h,
              lambda h: mg.maximum(h, 0.1), lambda h: mg.softmax(h), lambda h: h / h):  # fmt: skip
        got, want = (
            mg.scan(lambda h, x, f=f: (f(h) * x, f(h)), values, np.ones((2, 2, 3)), mode=m)
            for m in ("fused", "tape")
        )
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(got.final.numpy(), want.final.numpy(), rtol=1e-14)
            np.testing.assert_allclose(got.ys.numpy(), want.ys.numpy(), rtol=1e-14)
