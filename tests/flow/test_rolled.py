"""The rolled view: a box a layer, with a loop that says what a step back does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from picture import read

import minigrad as mg
from minigrad import nn
from minigrad.flow import DrawingError, LayerFlow, draw
from minigrad.flow.drawing import draw_rolled


def decaying(path: str, rate: float, T: int = 40) -> LayerFlow:
    reverse = path.endswith("rev")
    norms = rate ** np.arange(T - 1, -1, -1.0)
    steps = np.arange(T)[::-1] if reverse else np.arange(T)
    return LayerFlow(path, steps, {"h": norms}, {}, {})


def test_a_layer_is_one_box_with_a_loop_that_says_its_decay() -> None:
    picture = read(draw_rolled(layers={"rnn/l0/fwd": decaying("rnn/l0/fwd", 0.5)}))
    assert picture.text("r_rnn_l0_fwd") == "rnn/l0/fwd farthest 10⁻¹² nearest 1"
    assert ("r_rnn_l0_fwd", "r_rnn_l0_fwd") in picture.edges
    dot = draw_rolled(layers={"rnn/l0/fwd": decaying("rnn/l0/fwd", 0.5)}).dot
    assert "40 steps" in dot
    assert "×0.5 a step back" in dot
    assert "half-life 1" in dot


def test_both_directions_read_the_input_and_are_merged_before_the_next_layer() -> None:
    paths = [f"lstm/l{i}/{way}" for i in (0, 1) for way in ("fwd", "rev")]
    picture = read(draw_rolled(layers={p: decaying(p, 0.9) for p in paths}))
    for way in ("fwd", "rev"):
        assert ("end_x", f"r_lstm_l0_{way}") in picture.edges
        assert (f"r_lstm_l0_{way}", "g_lstm_l0") in picture.edges
        assert ("g_lstm_l0", f"r_lstm_l1_{way}") in picture.edges
        assert (f"r_lstm_l1_{way}", "g_lstm_l1") in picture.edges
    assert ("g_lstm_l1", "end_y") in picture.edges


class Tagger(nn.Module):
    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.embed = nn.Embedding(9, 2, dtype=np.float64, generator=rng)
        self.rnn = nn.GRU(2, 3, bidirectional=True, merge="sum", dtype=np.float64, generator=rng)
        self.head = nn.Sequential(nn.Linear(3, 4, dtype=np.float64), mg.tanh)

    def forward(self, x: Any) -> Any:
        return self.head(self.rnn(self.embed(x))[0])


def test_a_model_that_has_not_run_shows_its_structure() -> None:
    picture = read(draw(Tagger()))
    texts = picture.texts()
    assert "embed Embedding(9, 2)" in texts
    assert "rnn l0 → GRUCell(2, 3)" in texts
    assert "rnn l0 ← GRUCell(2, 3)" in texts
    assert "sum" in texts
    assert "head.0 Linear(2, 4)" not in texts
    assert "head.0 Linear(3, 4)" in texts
    assert ("r_rnn_l0_fwd", "r_rnn_l0_fwd") in picture.edges


def test_a_model_shows_what_was_recorded_of_its_layers() -> None:
    model = Tagger()
    with mg.flow.record() as rec:
        model(np.ones((12, 2), int))[-1].sum().backward()
    picture = read(draw(model, recording=rec, title="a tagger"))
    assert picture.text("r_rnn_l0_fwd").startswith("rnn l0 → GRUCell(2, 3) farthest")
    assert "36 parameters" not in picture.nodes["r_rnn_l0_fwd"]["tooltip"]
    assert "63 parameters" in picture.nodes["r_rnn_l0_fwd"]["tooltip"]
    assert "a tagger" in draw(model, recording=rec, title="a tagger").dot
    rolled = draw(rec, view="rolled")
    assert read(rolled).text("r_rnn_l0_rev").startswith("rnn/l0/rev farthest")
    assert rolled.dot == draw(rec, view="rolled").dot


def test_user_text_is_shown_as_it_is() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            self.weight = nn.Parameter(np.ones(2))

        def describe(self) -> str:
            return '"a" & b \\ c'

    assert 'odd Odd("a" & b \\\\ c)' in read(draw(Odd())).texts()  # as DOT writes a backslash
    path = 'x"<&>'
    picture = read(draw_rolled(layers={path: decaying(path, 0.9)}))
    assert any(text.startswith('x"<&> farthest') for text in picture.texts())


def test_nan_is_marked() -> None:
    flow = decaying("rnn/l0/fwd", 0.9)
    flow.norms["h"][3] = np.nan
    flow.norms["h"][0] = np.nan
    assert "farthest NaN" in read(draw_rolled(layers={"rnn/l0/fwd": flow})).text("r_rnn_l0_fwd")


def test_what_cannot_be_rolled_is_said() -> None:
    with pytest.raises(DrawingError, match="a rolled view needs a Module or a Recording"):
        draw_rolled()
    many = nn.Sequential(*[nn.Linear(1, 1) for _ in range(400)])
    with pytest.raises(DrawingError, match="400 nodes, and max_nodes is 300"):
        draw(many)
