"""95 % intervals of the factor per step hold it in 95 of 100 networks: RNN, LSTM and GRU.

tools/intervals.py draws the networks and computes all but the interval in NumPy.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "tools" / "docs" / "source" / "verdicts.md"
spec = importlib.util.spec_from_file_location("intervals_tool", ROOT / "tools" / "intervals.py")
assert spec is not None
assert spec.loader is not None
tool = importlib.util.module_from_spec(spec)
sys.modules["intervals_tool"] = tool
spec.loader.exec_module(tool)

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell",
    [
        "rnn",
        pytest.param("lstm", marks=pytest.mark.wide),
        pytest.param("gru", marks=pytest.mark.wide),
    ],
)
def test_intervals_hold_the_largest_lyapunov_exponent_in_92_to_98_of_100_networks(
    cell: str,
) -> None:
    for _, steps, rows, found in tool.measured(f"{cell}, 8 units", steps=(300,)):
        assert 92 <= found.covered <= 98, (steps, rows, found)


def test_intervals_of_another_number_hold_it_in_few(rng: np.random.Generator) -> None:
    nets = tool.Networks.drawn(rng, "rnn", count=40, hidden=4)
    logs = tool.profiles(nets, rng, 200, 1)
    slope = (logs[-1] - logs[50]).mean(axis=1) / 150
    no_error = np.zeros(40)
    near = tool.covered(logs, slope, no_error)
    assert near.covered > 90
    assert tool.covered(logs, slope + 0.75 * near.width, no_error).covered < 20


def layer(nets: Any, k: int) -> Any:
    """Network k of the tool as a layer of mg.nn."""
    found = CELLS[nets.cell](nets.weight_ih.shape[1], nets.hidden, dtype=np.float64)
    for ours, theirs in [("weight_ih_l0", nets.weight_ih), ("weight_hh_l0", nets.weight_hh)]:
        getattr(found, ours).data = theirs[k].T.copy()
    found.bias_ih_l0.data, found.bias_hh_l0.data = nets.bias_ih[k, 0], nets.bias_hh[k, 0]
    return found


@pytest.mark.parametrize("cell", CELLS)
def test_the_networks_of_the_tool_are_layers_and_their_gradients_the_recorded_ones(
    cell: str, rng: np.random.Generator
) -> None:
    nets = tool.Networks.drawn(rng, cell, count=2, hidden=3, features=2, gain=1.5, bias=0.5)
    logs = tool.profiles(nets, np.random.default_rng(0), 7, 2)
    again = np.random.default_rng(0)
    xs = np.stack([nets.draw(again, 2) for _ in range(7)])
    w = again.standard_normal((2, 2, 3))
    for k in range(2):
        with mg.flow.record() as rec:
            ys, _ = layer(nets, k)(xs[:, k])
            (ys[-1] * w[k]).sum().backward()
        (cut,) = rec.cuts
        lags = len(cut.profile)
        np.testing.assert_allclose(cut.per_sample, np.exp(logs[:lags, k]), rtol=1e-9)


@pytest.mark.parametrize("cell", CELLS)
def test_both_products_with_the_jacobian_agree(cell: str, rng: np.random.Generator) -> None:
    """<g, J v> = <J^T g, v>."""
    nets = tool.Networks.drawn(rng, cell, count=3, hidden=5, features=2)
    s, _ = nets.step(nets.zeros(2), nets.draw(rng, 2))
    _, made = nets.step(s, nets.draw(rng, 2))
    g, v = (tuple(rng.standard_normal(part.shape) for part in s) for _ in range(2))
    left = sum((a * b).sum() for a, b in zip(g, nets.forward(v, made), strict=True))
    right = sum((a * b).sum() for a, b in zip(nets.back(g, made), v, strict=True))
    assert left == pytest.approx(right, rel=1e-12)


def test_the_page_shows_every_kind_of_network() -> None:
    page, _ = PAGE.read_text(encoding="utf-8").split("## How often an extrapolated reach is right")
    assert re.findall(r"^\| (\w+, \d+ units?[^|]*) \|", page, re.M) == list(tool.KINDS)
