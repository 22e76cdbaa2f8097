"""The text of ten drawings, kept in tests/flow/golden: a change of any shows in a diff.

Rewrite them with `python3 tools/test.py tests/flow/test_golden.py --rewrite-golden`, and look at
what changed: the text is the same on every machine, as all numbers here are made by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.flow import Activation, Drawing, LayerFlow
from minigrad.flow.drawing import Panel, draw_network, draw_rolled

GOLDEN = Path(__file__).parent / "golden"


def flow(path: str, T: int, names: str = "hc", rate: float = 0.5) -> LayerFlow:
    """Norms that are powers of two, so no machine rounds them differently."""
    reverse = path.endswith("rev")
    norms = rate ** np.arange(T - 1, -1, -1.0)
    steps = np.arange(T)[::-1] if reverse else np.arange(T)
    half = np.full(T, 0.5)
    gates = {name: Activation(half, half * 0, half) for name in "if"}
    return LayerFlow(path, steps, {name: norms.copy() for name in names}, {}, gates)


def two_layers() -> list[LayerFlow]:
    paths = [f"lstm/l{i}/{way}" for i in (0, 1) for way in ("fwd", "rev")]
    return [flow(path, 100) for path in paths]


def broken() -> LayerFlow:
    layer = flow("rnn/l0/fwd", 6, "h")
    layer.norms["h"][:3] = [0.0, np.nan, np.inf]
    return layer


def tape(depth: int | None = None) -> Drawing:
    w = mg.tensor(0.5, requires_grad=True, name="w")
    with mg.Tape() as record:
        h = mg.tensor(2.0, name="h_0")
        for t in range(2):
            with mg.scope(f"t={t}"):
                h = w * h
        loss = h * h
    loss.backward()
    return mg.flow.draw(record, depth=depth)


def model() -> nn.Module:
    return nn.Sequential(nn.Embedding(5, 2), nn.LSTM(2, 3, num_layers=2, bidirectional=True))


DRAWINGS: dict[str, Callable[[], Drawing]] = {
    "short": lambda: draw_network([Panel("RNN", [flow("rnn/l0/fwd", 4, "h")], inputs={0: "a"})]),
    "long": lambda: draw_network([Panel("LSTM", [flow("lstm/l0/fwd", 100)], "a note")], "title"),
    "chosen": lambda: draw_network([Panel("", [flow("lstm/l0/fwd", 100)])], steps=[0, 50, 99]),
    "gates": lambda: draw_network([Panel("", [flow("lstm/l0/fwd", 9)])], depth=3),
    "stacked": lambda: draw_network([Panel("two BiLSTMs", two_layers())], depth=1),
    "cells": lambda: draw_network(
        [Panel(n, [flow(f"{n}/l0/fwd", 30, "h", r)]) for n, r in (("a", 0.5), ("b", 1.0))]
    ),
    "broken": lambda: draw_network([Panel("NaN", [broken()])]),
    "rolled": lambda: draw_rolled(layers={f.path: f for f in two_layers()}, title="rolled"),
    "model": lambda: mg.flow.draw(model()),
    "tape": tape,
    "tape_folded": lambda: tape(1),
    "cell": lambda: mg.flow.draw(nn.GRUCell(2, 3)),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_is_what_it_was(name: str, request: pytest.FixtureRequest) -> None:
    path, dot = GOLDEN / f"{name}.gv", DRAWINGS[name]().dot
    if request.config.getoption("--rewrite-golden"):
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(dot, encoding="utf-8")
    assert dot == path.read_text(encoding="utf-8")
    assert dot == DRAWINGS[name]().dot


def test_every_golden_file_belongs_to_a_drawing() -> None:
    assert {path.stem for path in GOLDEN.glob("*.gv")} == set(DRAWINGS)
