"""Drawings of Programs: what is in them and in which cluster; never where on the page."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from picture import Picture, read

import minigrad as mg
from minigrad import nn
from minigrad.compile import trace_step
from minigrad.flow import DrawingError, draw
from minigrad.flow.drawing.facts import counterparts

T, B, I, H = 4, 3, 2, 5


def ran(cell: Any, backward: bool = True, **options: Any) -> Any:
    """A scan of the cell over ones, and its BPTT."""
    for name, parameter in cell.named_parameters():
        parameter.name = name
    dtype = next(cell.parameters()).dtype
    xs = mg.tensor(np.ones((T, B, I), dtype))
    result = mg.scan(cell, cell.init_state(B), xs, **options)
    if backward:
        result.ys.sum().backward()
    return result


def arrows(picture: Picture, prefix: str) -> set[tuple[str, str]]:
    """The edges of one step, by the first line of what their ends say, less its last word."""

    def said(name: str) -> str:
        return " ".join(picture.text(name).split("[")[0].split("%")[0].split())

    return {(said(a), said(b)) for a, b in picture.edges if a.startswith(prefix)}


def decay(h: Any, x: Any) -> Any:
    h = mg.tap("h", 0.5 * h + mg.tanh(x))
    return h, h


def decay_program() -> Any:
    h = mg.tensor(np.zeros((B, H)), name="h")
    return trace_step(decay, h, mg.tensor(np.zeros((B, H)))).program


GOLDEN_NODES = {
    "f_carry0": "hₜ₋₁ [B, 5]",
    "f_x0": "xₜ [B, 5]",
    "f_n0": "× 0.5 %2",
    "f_n1": "tanh %3",
    "f_n2": "+ hₜ %4",
    "f_carry_out0": "hₜ [B, 5]",
    "f_y0": "yₜ [B, 5]",
}
GOLDEN_EDGES = {
    ("f_carry0", "f_n0"),
    ("f_x0", "f_n1"),
    ("f_n0", "f_n2"),
    ("f_n1", "f_n2"),
    ("f_n2", "f_carry_out0"),
    ("f_n2", "f_y0"),
    ("f_carry0", "f_carry_out0"),  # dashed, and its arrow points back
}


def test_a_program_is_its_inputs_ops_and_results() -> None:
    picture = read(draw(decay_program()))
    assert {name: picture.text(name) for name in picture.nodes} == GOLDEN_NODES
    assert picture.edges == GOLDEN_EDGES
    assert set(GOLDEN_NODES) == picture.clusters["cluster_f_step"]
    assert picture.graph["rankdir"] == "LR"


def test_the_way_to_the_next_step_is_dashed_and_leads_back() -> None:
    dot = draw(decay_program()).dot
    (line,) = (line for line in dot.splitlines() if "f_carry0 -> f_carry_out0" in line)
    assert "dir=back" in line
    assert "style=dashed" in line


def test_stages_are_clusters() -> None:
    result = ran(nn.LSTMCell(I, H))
    picture = read(draw(result.explain().backward_program))
    before, step, after = (picture.clusters[f"cluster_f_{s}"] for s in ("before", "step", "after"))
    assert not before & step
    assert not step & after
    assert [picture.text(n).split()[0] for n in before] == ["weight_hh.T"]
    shown = {picture.text(n).split(" [")[0] for n in after}
    assert {"∂L/∂weight_hh.T", "∂L/∂(bias_ih + bias_hh)"} <= shown
    assert any("one product over all t" in text for text in shown)


def test_what_is_hoisted_is_marked_and_ahead_of_the_loop() -> None:
    A, B = (mg.tensor(np.ones((I, I)), name=name) for name in "AB")

    def cell(h: Any, x: Any) -> Any:
        return h, h + mg.tanh(x @ A) @ B  # no state runs through the second product

    xs = mg.tensor(np.ones((2, 3, I)))
    picture = read(draw(mg.scan(cell, xs.detach()[0], xs).program))
    assert picture.text("f_hoisted0").startswith("matmul(")
    assert "f_hoisted0" in picture.clusters["cluster_f_before"]
    assert "hoisted: for all t at once" in picture.graph["label"]


def test_forward_and_backward_of_a_scan_are_two_clusters() -> None:
    picture = read(draw(ran(nn.LSTMCell(I, H))))
    forward, backward = picture.clusters["cluster_f"], picture.clusters["cluster_b"]
    assert forward | backward == set(picture.nodes)
    assert not forward & backward
    assert all(a[0] == b[0] for a, b in picture.edges)


def test_before_backward_ran_there_is_only_the_forward_step() -> None:
    result = ran(nn.LSTMCell(I, H + 6), backward=False)  # no other test has compiled its BPTT
    assert all(name.startswith("f_") for name in read(draw(result)).nodes)
    result.ys.sum().backward()
    assert any(name.startswith("b_") for name in read(draw(result.explain())).nodes)


def test_an_lstm_is_the_picture_of_its_paper() -> None:
    picture = read(draw(ran(nn.LSTMCell(I, H))))
    forward = arrows(picture, "f_")
    assert {("σ fₜ", "×"), ("σ iₜ", "×"), ("tanh gₜ", "×"), ("+ cₜ", "tanh")} <= forward
    assert {("cₜ₋₁", "×"), ("+ cₜ", "cₜ"), ("σ oₜ", "× hₜ"), ("× hₜ", "yₜ")} <= forward
    backward = arrows(picture, "b_")
    assert {("tanh gₜ", "× diₜ"), ("σ iₜ", "× dgₜ"), ("tanh", "× doₜ")} <= backward
    assert {("σ′", "× df_preₜ"), ("× diₜ", "× di_preₜ"), ("tanh′", "× dg_preₜ")} <= backward
    assert {("cₜ₋₁", "× cₜ₋₁ dfₜ"), ("σ fₜ", "× dcₜ"), ("× dcₜ", "∂L/∂cₜ₋₁")} <= backward


def test_ops_of_one_loop_share_a_cluster_and_products_stand_alone() -> None:
    picture = read(draw(ran(nn.LSTMCell(I, H))))
    (loop,) = (
        inside for name, inside in picture.clusters.items() if name.startswith("cluster_f_l")
    )
    texts = {picture.text(n).split(" %")[0] for n in loop}
    assert {"σ iₜ", "σ fₜ", "σ oₜ", "tanh gₜ", "tanh", "× hₜ"} <= texts
    products = {n for n in picture.nodes if picture.text(n).startswith("@")}
    looped = {n for name, inside in picture.clusters.items() if "_loop" in name for n in inside}
    assert products
    assert not products & looped
    assert f"one loop over {H} values of a row" in draw(ran(nn.LSTMCell(I, H))).dot


def test_what_is_stored_is_outlined_where_it_is_made_and_where_it_is_read() -> None:
    result = ran(nn.LSTMCell(I, H))
    picture = read(draw(result))
    bold = {n for n, node in picture.nodes.items() if node.get("penwidth") == "1.8"}
    made = {picture.text(n).split(" %")[0].split(" [")[0] for n in bold if n.startswith("f_")}
    assert made == {"hₜ₋₁", "cₜ₋₁", "+"}  # what goes into the four gates
    assert len([n for n in bold if n.startswith("b_")]) == len({"h", "c", "i", "f", "g", "o"})


def test_a_value_of_which_a_slice_is_stored_says_so() -> None:
    assert "stored in part" in draw(ran(nn.GRUCell(I, H))).dot  # the third gate's product alone


def test_sums_of_sums_and_products_of_products_are_one_box() -> None:
    def cell(s: Any, x: Any) -> Any:
        return s * x * s * 2.0, s + x + s + 1.0

    state, x = np.zeros((B, 1)), np.zeros((B, 1))
    found = arrows(read(draw(trace_step(cell, state, x).program)), "f_")
    assert found == {
        ("stateₜ₋₁", "× 2"), ("xₜ", "× 2"), ("× 2", "stateₜ"), ("stateₜ₋₁", "+ 1"), ("xₜ", "+ 1"),
        ("+ 1", "yₜ"), ("stateₜ₋₁", "stateₜ"),
    }  # fmt: skip


def test_operands_that_are_not_alike_are_told_apart() -> None:
    def cell(s: Any, x: Any) -> Any:
        return mg.where(x > 0.0, s - x, 0.5), s

    dot = draw(trace_step(cell, np.zeros((B, 1)), np.zeros((B, 1))).program).dot
    for words in ("where else 0.5", "label=if", "label=then", 'label="−"'):
        assert words in dot


def test_reverse_scans_come_from_the_step_after() -> None:
    picture = read(draw(ran(nn.RNNCell(I, H), reverse=True)))
    assert picture.text("f_carry0").startswith("hₜ₊₁")
    assert picture.text("b_carry_out0").startswith("∂L/∂hₜ₊₁")


def test_recorded_norms_are_results_and_not_the_ops_that_compute_them() -> None:
    picture = read(draw(ran(nn.RNNCell(I, H), record=["h"])))
    assert picture.text("b_norm0") == "|∂L/∂hₜ| norm of each row, recorded"
    assert not any("abs" in text for text in picture.texts())


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.LayerNormLSTMCell, nn.LRUCell, nn.UnitaryCell])
def test_every_value_of_the_traced_step_has_its_counterpart_where_it_runs(kind: Any) -> None:
    explained = ran(kind(I, H), backward=False).explain()
    found = counterparts(explained.program, explained._forward.program)
    ops = [v for v in explained.program.body if v.op.kind != "view" and v.stage == "step"]
    assert ops
    assert all(found[v] for v in ops)
    assert {v.op for v in ops} == {w.op for v in ops for w in found[v]}


def test_the_same_cell_gives_the_same_text() -> None:
    def once() -> str:
        mg.seed(0)
        return draw(ran(nn.GRUCell(I, H)), "GRU").dot

    assert once() == once()


def test_a_title_is_shown() -> None:
    assert "my cell" in read(draw(decay_program(), "my cell")).graph["label"]


def test_names_that_are_markup_are_shown_as_they_are() -> None:
    w = mg.tensor(np.ones((H, H)), name='<b>&"w\\')
    h = mg.tensor(np.zeros((B, H)))
    picture = read(draw(trace_step(lambda h, x: (mg.tanh(h @ w), x), h, h).program))
    assert picture.text("f_w0").startswith('<b>&"w\\ [')


def test_a_scan_on_the_tape_has_no_program_to_draw() -> None:
    with pytest.raises(DrawingError, match=r"ran as eager operations .* mode='fused'"):
        draw(ran(nn.RNNCell(I, H), mode="tape"))


def test_a_step_over_its_budget_is_refused_with_the_numbers() -> None:
    with pytest.raises(DrawingError, match=r"draw program: 7 nodes, and max_nodes is 3; draw a sm"):
        draw(decay_program(), max_nodes=3)


def test_draw_writes_the_program_of_a_cell(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from minigrad import cli

    monkeypatch.chdir(tmp_path)
    assert cli.main(["draw", "program", "--cell", "gru", "--hidden", "3", "--steps", "5"]) == 0
    assert "<svg" in (tmp_path / "program-gru.svg").read_text("utf-8")
    assert "wrote program-gru.svg" in capsys.readouterr().out
