"""Drawings: what is in them, how they are escaped, folded and kept within a budget."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
from picture import read, words

import minigrad as mg
from minigrad import nn
from minigrad.flow import Activation, DrawingError, LayerFlow, draw
from minigrad.flow.drawing import Panel, draw_cell, draw_network
from minigrad.flow.drawing.colors import (
    BROKEN,
    INK,
    PAPER,
    STOPS,
    Scale,
    power_of_ten,
    subscript,
)
from minigrad.flow.drawing.folding import columns, runs, thinned

# -- colours


def luminance(color: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_lightness_falls_along_the_scale_so_that_order_survives_without_hue() -> None:
    scale = Scale(-10, 0)
    lights = [luminance(scale.at(i / 100)) for i in range(101)]
    assert (np.diff(lights) < 0).all()


def test_text_is_readable_on_every_colour() -> None:
    for color in (*STOPS, BROKEN, PAPER):
        assert (luminance(color) + 0.05) / (luminance(INK) + 0.05) >= 4.5


def test_the_scale_maps_norms_to_colours_and_clamps() -> None:
    scale = Scale(-4, 0)
    assert scale.color(1.0) == scale.color(50.0) == STOPS[-1]
    assert scale.color(1e-4) == scale.color(1e-9) == STOPS[0]
    assert scale.color(1e-2) == STOPS[2]
    assert scale.color(0.0) == PAPER
    assert scale.color(np.nan) == scale.color(np.inf) == BROKEN


def test_the_scale_holds_the_norms_but_at_most_twelve_decades() -> None:
    assert Scale.around([0.02, 3.0]) == Scale(-2, 1)
    assert Scale.around([1e-30, 1.0]) == Scale(-12, 0)
    assert Scale.around([0.01, 0.01]) == Scale(-3, -2)
    assert Scale.around([0.0, np.nan, np.inf]) == Scale(-1, 0)


def test_numbers_are_short_on_nodes() -> None:
    norms = [0.0, 1.0, 0.0123, 512.0, 1e3, 4e-12, 1e-300, np.nan, np.inf]
    shown = [power_of_ten(x) for x in norms]
    assert shown == ["0", "1", "0.012", "512", "10³", "10⁻¹¹", "10⁻³⁰⁰", "NaN", "Inf"]
    assert subscript("h", 100) == "h₁₀₀"


# -- folding


def test_a_sequence_shows_its_ends_and_folds_the_rest() -> None:
    found = columns(range(100), [99], left=0.0, pitch=1.0, width=0.5)
    assert [c.first for c in found] == [0, 1, 2, 3, 96, 97, 98, 99]
    (fold,) = (c for c in found if c.folded)
    assert (fold.first, fold.last, fold.title) == (3, 95, "× 93 steps")
    edges = [(c.x - c.width / 2, c.x + c.width / 2) for c in found]
    gaps = [b[0] - a[1] for a, b in itertools.pairwise(edges)]
    np.testing.assert_allclose(gaps, 0.5)


def test_short_sequences_are_not_folded() -> None:
    for n in (1, 2, 7, 9):
        assert not any(c.folded for c in columns(range(n), [n - 1], 0.0, 1.0, 0.5))


def test_where_the_loss_enters_is_shown_with_its_neighbours() -> None:
    shown = {c.first for c in columns(range(50), [20], 0.0, 1.0, 0.5) if not c.folded}
    assert {19, 20, 21} <= shown


def test_runs_keep_every_step_once() -> None:
    assert [t for run in runs(range(30), {0, 13, 29}) for t in run] == list(range(30))


def test_strips_are_thinned_evenly() -> None:
    assert thinned([1, 2]) == [1, 2]
    many = thinned(range(1000))
    assert len(many) == 64
    assert (many[0], many[-1]) == (0, 999)


# -- networks


def layer(T: int, path: str = "lstm/l0/fwd", names: str = "hc", reverse: bool = False) -> LayerFlow:
    norms = 0.9 ** np.arange(T - 1, -1, -1.0)
    steps = np.arange(T)[::-1] if reverse else np.arange(T)
    return LayerFlow(path, steps, {n: norms.copy() for n in names}, {}, {})


def test_an_unrolled_network_has_a_node_a_state_and_arrows_the_way_the_gradient_goes() -> None:
    picture = read(draw_network([Panel("net", [layer(3)], inputs={})]))
    for t in range(3):
        assert picture.text(f"p0_lstm_l0_fwd_h_t{t}").startswith(subscript("h", t + 1))
        assert (f"p0_lstm_l0_fwd_h_t{t}", f"p0_lstm_l0_fwd_c_t{t}") in picture.edges
        assert (f"p0_lstm_l0_fwd_c_t{t}", f"p0_x_t{t}") in picture.edges
    assert ("p0_lstm_l0_fwd_h_t1", "p0_lstm_l0_fwd_h_t0") in picture.edges
    assert ("p0_loss", "p0_lstm_l0_fwd_h_t2") in picture.edges
    assert picture.graph["rankdir"] == "LR"


@pytest.mark.parametrize("reverse", [False, True])
def test_the_forward_way_turns_every_arrow_and_keeps_its_width(reverse: bool) -> None:
    panels = [Panel("net", [layer(9, f"lstm/l{i}/fwd", reverse=reverse) for i in (0, 1)])]
    drawn = {way: draw_network(panels, way=way) for way in ("gradient", "forward")}
    back, forth = (edges_of(drawing.dot) for drawing in drawn.values())
    assert {(b, a, width) for a, b, width in back} == forth
    assert "arrows point against the way it goes" in drawn["forward"].dot


def edges_of(dot: str) -> set[tuple[str, str, str]]:
    found = re.findall(r'(\S+) -> (\S+) \[.*penwidth="?([0-9.]+)', dot)
    assert found
    return set(found)


def test_the_gradient_of_a_reverse_layer_goes_from_left_to_right() -> None:
    picture = read(draw_network([Panel("net", [layer(3, names="h", reverse=True)])]))
    assert ("p0_lstm_l0_fwd_h_t1", "p0_lstm_l0_fwd_h_t2") in picture.edges
    assert ("p0_loss_rev", "p0_lstm_l0_fwd_h_t0") in picture.edges


def test_layers_are_stacked_and_the_loss_is_at_the_last_one() -> None:
    layers = [layer(3, f"lstm/l{i}/fwd") for i in (0, 1)]
    picture = read(draw_network([Panel("net", layers)]))
    for t in range(3):
        assert (f"p0_lstm_l1_fwd_c_t{t}", f"p0_lstm_l0_fwd_h_t{t}") in picture.edges
    assert {b for a, b in picture.edges if a == "p0_loss"} == {"p0_lstm_l1_fwd_h_t2"}
    bold = {name for name, node in picture.nodes.items() if node.get("penwidth") == "2"}
    assert bold == {"p0_lstm_l1_fwd_h_t2"}


def test_nodes_have_the_colour_of_their_norm_and_say_it() -> None:
    flow = layer(4, names="h")
    flow.norms["h"] = np.array([0.0, np.nan, 1e-2, 1.0])
    scale = Scale(-4, 0)
    picture = read(draw_network([Panel("net", [flow])], scale=scale))
    nodes = [picture.nodes[f"p0_lstm_l0_fwd_h_t{t}"] for t in range(4)]
    assert [n.get("fillcolor", PAPER) for n in nodes[1:]] == [BROKEN, STOPS[2], STOPS[4]]
    assert "dashed" in nodes[0]["style"]
    assert nodes[3]["color"] == INK  # nearest to the loss
    assert nodes[2]["tooltip"] == "|dL/dh| = 0.01 at t = 3"
    assert "NaN, Inf" in picture.texts()


def test_a_long_sequence_is_one_strip_that_keeps_every_colour() -> None:
    flow = layer(50, names="h")
    picture = read(draw_network([Panel("net", [flow])], scale=Scale(-5, 0)))
    assert picture.text("p0_lstm_l0_fwd_h_t3") == "× 43 steps ×0.012"  # 0.9^42
    strip = picture.nodes["p0_lstm_l0_fwd_h_t3_strip"]
    assert strip["style"] == "striped"
    colors = [Scale(-5, 0).color(n) for n in flow.norms["h"][3:46]]
    assert strip["fillcolor"].split(":") == colors


def test_the_legend_names_the_ends_of_the_scale() -> None:
    texts = read(draw_network([Panel("net", [layer(3)])], scale=Scale(-8, 0))).texts()
    assert {"≤ 10⁻⁸", "10⁻⁴", "1"} <= set(texts)
    assert any("gradient norm" in text for text in texts)


def test_panels_share_one_scale_and_keep_their_titles() -> None:
    weak, strong = layer(3, names="h"), layer(3, names="h")
    weak.norms["h"] = weak.norms["h"] * 1e-6
    picture = read(draw_network([Panel("weak", [weak], "note"), Panel("strong", [strong])], "both"))
    assert {"both", "weak", "strong", "note"} <= set(picture.texts())
    fills = [picture.nodes[f"p{i}_lstm_l0_fwd_h_t2"]["fillcolor"] for i in (0, 1)]
    assert fills[1] == STOPS[-1] != fills[0]


def test_a_gap_between_two_directions_holds_the_loss_and_reads_no_input() -> None:
    forward, backward = layer(9, "b/fwd", "h"), layer(9, "b/rev", "h", reverse=True)
    for flow in (forward, backward):
        flow.norms["h"] = np.r_[np.full(4, 0.1), np.zeros(5)]
    picture = read(draw_network([Panel("net", [forward, backward], inputs={})]))
    assert ("p0_loss", "p0_b_fwd_h_t3") in picture.edges
    assert ("p0_loss", "p0_b_rev_h_t5") in picture.edges
    assert "p0_x_t4" not in picture.nodes
    assert ("p0_b_rev_h_t3", "p0_x_t3") in picture.edges


def test_a_drawing_over_its_budget_is_refused_with_the_numbers() -> None:
    with pytest.raises(
        DrawingError, match=r"draw network: \d+ nodes, and max_nodes is 10; fold more"
    ):
        draw_network([Panel("net", [layer(9)])], max_nodes=10)


def test_nothing_to_draw_is_an_error() -> None:
    for panels in ([], [Panel("empty", [])]):
        with pytest.raises(DrawingError, match="at least one recorded layer"):
            draw_network(panels)


HOSTILE = ['"', "\\", "\\n", "<b>", "&amp;", "{|}", "é中", "%", "'", "a b", "//", "#"]


@pytest.mark.parametrize("text", HOSTILE)
def test_labels_show_any_text_as_it_is(text: str) -> None:
    svg = draw_network([Panel(text, [layer(2)], inputs={0: text})], title=text).svg()
    shown = [word.strip() for word in words(svg)]
    expected = text.replace(" ", "·") if len(text) == 1 else text
    assert shown.count(text) + shown.count(expected) >= 3


def test_blanks_and_line_ends_of_a_text_are_visible() -> None:
    texts = read(draw_network([Panel("net", [layer(2)], inputs={0: " ", 1: "\n"})])).texts()
    assert {"·", "¶"} <= set(texts)


def test_the_svg_names_fonts_that_every_reader_has() -> None:
    assert (
        'font-family="Helvetica,Arial,sans-serif"' in draw_network([Panel("n", [layer(2)])]).svg()
    )


# -- tapes


def small_tape() -> tuple[mg.Tape, mg.Tensor]:
    w = mg.tensor([0.5, -1.0], requires_grad=True, name="w")
    with mg.Tape() as tape:
        with mg.scope("net"), mg.scope("t=0"):
            y = mg.tanh(w * 2.0)
        y.sum().backward()
    return tape, w


def test_a_tape_shows_values_gradients_numbers_and_scopes() -> None:
    tape, w = small_tape()
    picture = read(draw(tape))
    slope = 2 * (1 - np.tanh(2 * w.numpy()) ** 2)
    assert picture.text("x0").startswith("w data [ 0.5 -1. ] grad [")
    assert f"grad [{slope[0]:.3g} {slope[1]:.3g}]" in picture.text("x0")
    assert picture.text("n0").startswith("× 2.0 %0 data [ 1. -2.]")
    assert picture.text("n1").startswith("tanh %1 data [")
    assert picture.text("n2").startswith("Σ %2")
    assert picture.edges == {("x0", "n0"), ("n0", "n1"), ("n1", "n2")}
    assert picture.clusters["cluster/net"] == {"n0", "n1"}
    assert picture.clusters["cluster/net/t=0"] == {"n0", "n1"}
    assert "norm of the gradient" in picture.graph["label"]
    assert picture.graph["rankdir"] == "LR"


def test_large_arrays_are_shown_by_shape_and_norm() -> None:
    with mg.Tape() as tape:
        mg.tanh(mg.tensor(np.zeros((3, 5))))
    assert read(draw(tape)).text("n0") == "tanh %0 data float64 [3 x 5] norm 0"


def test_a_tape_is_drawn_without_backward() -> None:
    with mg.Tape() as tape:
        mg.tanh(mg.tensor([1.0]))
    assert "gradient" not in draw(tape).dot


def test_the_same_program_gives_the_same_text() -> None:
    assert draw(small_tape()[0]).dot == draw(small_tape()[0]).dot


def test_an_empty_tape_and_a_tape_over_its_budget_are_refused() -> None:
    with mg.Tape() as tape:
        pass
    with pytest.raises(DrawingError, match="the tape is empty"):
        draw(tape)
    with pytest.raises(DrawingError, match="4 nodes, and max_nodes is 3; record a shorter stretch"):
        draw(small_tape()[0], max_nodes=3)


# -- cells


def arrows(cell: Any, **example: Any) -> set[tuple[str, str]]:
    """The edges of a cell's drawing, by what the nodes say."""
    picture = read(draw_cell(cell, **example))
    return {(picture.text(a), picture.text(b)) for a, b in picture.edges}


def test_an_rnn_cell_is_its_equation() -> None:
    assert arrows(nn.RNNCell(3, 4)) == {
        ("xₜ", "W_ih xₜ + b_ih + b_hh"),
        ("hₜ₋₁", "W_hh hₜ₋₁"),
        ("W_ih xₜ + b_ih + b_hh", "+"),
        ("W_hh hₜ₋₁", "+"),
        ("+", "tanh"),
        ("tanh", "hₜ"),
    }


def test_an_lstm_cell_names_its_gates() -> None:
    found = arrows(nn.LSTMCell(3, 4))
    assert {("σ fₜ", "×"), ("σ iₜ", "×"), ("tanh gₜ", "×"), ("σ oₜ", "×")} <= found
    assert {("cₜ₋₁", "×"), ("+", "cₜ"), ("+", "tanh"), ("tanh", "×"), ("×", "hₜ")} <= found


def test_the_two_grus_differ_where_the_reset_gate_acts() -> None:
    after, before = (arrows(nn.GRUCell(3, 4, reset_after=flag)) for flag in (True, False))
    assert ("W_hh hₜ₋₁ + b_hh", "×") in after
    assert ("hₜ₋₁", "×") in before
    assert ("×", "W_hh[…] ·") in before
    assert ("σ zₜ", "1 −") in after


def test_a_cell_of_your_own_is_drawn_from_an_example() -> None:
    def cell(state: Any, x: Any) -> Any:
        s = mg.tap("s", mg.relu(state["s"] + x))
        return {"s": s}, s * 2.0

    zeros = np.zeros((1, 2))
    assert arrows(cell, state={"s": zeros}, x=zeros) == {
        ("sₜ₋₁", "+"),
        ("xₜ", "+"),
        ("+", "relu"),
        ("relu", "sₜ"),
        ("relu", "× 2"),
        ("× 2", "yₜ"),
    }


def test_a_cell_is_built_up_value_by_value_in_the_same_places() -> None:
    cell = mg.nn.LSTMCell(2, 3)
    whole = mg.flow.draw(cell).dot
    pale = re.compile(r"(n\d+) \[label=(\S+).*fontcolor=.#b9bec9")
    left = {
        name: {label.strip('"') for _, label in pale.findall(mg.flow.draw(cell, upto=name).dot)}
        for name in ("", "f", "c", "h")
    }
    assert {"σ\\nfₜ", "cₜ", "hₜ"} <= left[""]
    assert "σ\\nfₜ" not in left["f"]
    assert left["f"] > left["c"] == {"σ\\noₜ", "tanh", "×", "hₜ"}
    assert left["h"] == set()
    assert mg.flow.draw(cell, upto="h").dot == whole
    with pytest.raises(DrawingError, match=r"upto names \['q'\], and this cell taps i, f, o, g"):
        mg.flow.draw(cell, upto="q")
    with pytest.raises(DrawingError, match="upto= is for a cell, not for LSTM"):
        mg.flow.draw(mg.nn.LSTM(2, 3), upto="f")


def test_a_cell_without_an_example_says_what_to_pass() -> None:
    with pytest.raises(DrawingError, match="pass an example, state="):
        draw_cell(lambda state, x: (state, x))
    with pytest.raises(DrawingError, match="pass an example, x="):
        draw_cell(lambda state, x: (state, x), state=np.zeros((1, 1)))


def test_drawing_a_cell_leaves_no_gradient_and_no_tape() -> None:
    cell = nn.LSTMCell(3, 4)
    draw(cell)
    assert all(p.grad is None for p in cell.parameters())


# -- draw


def test_draw_takes_recordings_alone_or_by_name() -> None:
    with mg.flow.record() as rec:
        layer = nn.RNN(1, 2, generator=np.random.default_rng(0))
        hs, _ = layer(np.ones((4, 1, 1), np.float32))
        hs[-1].sum().backward()
    assert "undecided" in draw(rec).dot
    assert {"a", "b"} <= set(read(draw({"a": rec, "b": rec})).texts())
    with pytest.raises(DrawingError, match="max_nodes is 5"):
        draw(rec, max_nodes=5)


@pytest.mark.parametrize("wrong", [3, {}, {"a": 1}, "net", None])
def test_draw_refuses_what_it_does_not_know(wrong: object) -> None:
    with pytest.raises(DrawingError, match="expected a Tape, a Recording"):
        draw(wrong)


# -- choices


def row_of(picture: Any, name: str) -> list[str]:
    return [picture.text(n) for n in picture.nodes if n.startswith(f"p0_lstm_l0_fwd_{name}_t")]


def test_chosen_steps_are_drawn_one_by_one_and_the_rest_says_what_it_stands_for() -> None:
    picture = read(draw_network([Panel("net", [layer(100, names="h")])], steps=[0, 50, 99]))
    shown = {n for n, node in picture.nodes.items() if "_h_t" in n and "strip" not in n}
    assert {"p0_lstm_l0_fwd_h_t0", "p0_lstm_l0_fwd_h_t50", "p0_lstm_l0_fwd_h_t99"} <= shown
    assert picture.text("p0_lstm_l0_fwd_h_t1") == "× 49 steps ×10⁻²"  # 0.9^48 = 0.0064
    with pytest.raises(DrawingError, match=r"steps=\[200\], and lstm/l0/fwd has steps 0 to 99"):
        draw_network([Panel("net", [layer(100)])], steps=[200])


@pytest.mark.parametrize(("depth", "names"), [(1, {"h"}), (2, {"h", "c"}), (3, {"h", "c", "f"})])
def test_depth_says_how_much_of_a_layer_is_drawn(depth: int, names: set[str]) -> None:
    flow = layer(3)
    half = np.full(3, 0.5)
    flow.activations = {n: Activation(half, half, half) for n in ("f", "h", "c")}
    picture = read(draw_network([Panel("net", [flow])], depth=depth))
    drawn = {n.split("_")[4] for n in picture.nodes if n.endswith("_t0")}
    assert drawn == names
    if depth == 3:
        assert picture.text("p0_lstm_l0_fwd_f_t1") == "f₂ 0.5"
        assert picture.nodes["p0_lstm_l0_fwd_f_t1"]["tooltip"] == "mean of f = 0.5 at t = 2"
    with pytest.raises(DrawingError, match="depth is one of 1"):
        draw_network([Panel("net", [flow])], depth=4)


def test_arrows_thin_out_with_the_gradient_that_comes_back_along_them() -> None:
    flow = layer(4, names="h")
    flow.norms["h"] = np.array([1e-4, 1e-3, 1e-2, 1.0])
    dot = draw_network([Panel("net", [flow])], scale=Scale(-4, 0)).dot
    widths = [
        float(re.search(rf"h_t{t + 1} -> p0_lstm_l0_fwd_h_t{t} \[.*penwidth=\"?([0-9.]+)", dot)[1])
        for t in range(3)
    ]
    assert widths == sorted(widths)
    assert widths[0] == 0.5
    assert "|dL/dh| = 0.001 goes back to t = 2" in dot


def test_a_reverse_layer_folds_with_the_factor_of_its_own_direction() -> None:
    flow = layer(50, names="h", reverse=True)
    picture = read(draw_network([Panel("net", [flow])]))
    assert picture.text("p0_lstm_l0_fwd_h_t3") == "× 43 steps ×0.012"


def test_a_tape_folds_its_scopes() -> None:
    with mg.Tape() as tape:
        w, h = mg.tensor(0.5, requires_grad=True, name="w"), mg.tensor(1.0, name="h_0")
        for t in range(3):
            with mg.scope(f"net/t={t}"):
                h = mg.tanh(w * h)
    h.backward()
    folded = read(draw(tape, depth=2))
    texts = folded.texts()
    assert sum("net/t=" in text and "2 operations" in text for text in texts) == 3
    assert ("s0", "s1") in folded.edges
    assert ("x0", "s2") in folded.edges
    assert len(read(draw(tape, depth=0)).nodes) == 1 + len(tape.leaves)
    assert len(read(draw(tape, depth=9)).nodes) == len(tape.nodes) + len(tape.leaves)


def test_five_thousand_nodes_are_refused_before_they_are_drawn() -> None:
    with mg.Tape() as tape:
        h = mg.tensor(1.0)
        for t in range(5000):
            with mg.scope(f"t={t // 2500}"):
                h = h * 1.0
    with pytest.raises(DrawingError, match=r"5001 nodes, and max_nodes is 300; .*depth=1"):
        draw(tape)
    assert len(read(draw(tape, depth=1)).nodes) == 3
    with pytest.raises(DrawingError, match=r"max_nodes is 600; fold more \(steps="):
        draw_network([Panel("net", [layer(3000)])], steps=range(2500))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(view="round"), "view is 'unrolled' or 'rolled', got 'round'"),
        (dict(steps=[1]), r"steps= chooses steps of an unrolled network, not of a Tape"),
        (dict(view="rolled"), "a Tape has no rolled view"),
        (dict(depth=-1), "depth is a number of levels from 0 on"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: Any, message: str) -> None:
    with pytest.raises(DrawingError, match=message):
        draw(small_tape()[0], **options)


@pytest.mark.parametrize("options", [dict(steps=[0]), dict(depth=1)])
@pytest.mark.parametrize("what", [nn.RNNCell(2, 2), nn.RNN(2, 2)], ids=["cell", "model"])
def test_steps_and_depth_are_refused_where_a_drawing_has_neither(what: Any, options: Any) -> None:
    with pytest.raises(DrawingError, match=r"draw: (steps|depth)= "):
        draw(what, **options)


def test_a_notebook_without_an_engine_shows_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = draw(nn.RNNCell(2, 2))
    shown = drawing._repr_mimebundle_()
    assert shown["image/svg+xml"].count("<svg") == 1
    assert shown["text/plain"].startswith("<Drawing, ")
    monkeypatch.setattr("minigrad.flow.engines.find_engine", lambda: None)
    assert drawing._repr_mimebundle_() == {"text/plain": drawing.dot}
