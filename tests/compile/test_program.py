"""The Program of a step: what is printed, what is refused, what it does not depend on."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.compile import fusing, trace_step
from minigrad.compile.program import AFTER, ProgramError, Value

F64 = np.float64
H = mg.tensor(np.linspace(-1, 1, 6).reshape(2, 3), requires_grad=True)
W = mg.tensor(np.eye(3), requires_grad=True, name="W")


def cell(h: Any, x: Any) -> tuple[Any, Any]:
    new = mg.tanh(x @ W.T + h @ W)
    return new, mg.softmax(new)


def test_a_program_prints_every_value_with_its_type() -> None:
    traced = trace_step(cell, H, H).program
    text = str(traced)
    for part in ("float64[B, 3]", "float64[3, 3]", "W", "matmul(%", "tanh(%", "keepdims=True",
                 "return carry: %"):  # fmt: skip
        assert part in text
    for v in (*traced.inputs, *traced.body):
        (line,) = (line for line in text.splitlines() if v.type() in line and f" {v!r} " in line)
        assert v.op is None or f"= {v.op.name}(" in line


def test_views_and_masks_print_as_they_are_written() -> None:
    def masked(h: Any, x: Any) -> tuple[Any, Any]:
        return h, mg.where(x[:, 1:] > 0.5, 1.0, h[..., :2])

    text = str(trace_step(masked, H, H).program)
    for part in ("index=(:, 1:)", "index=(..., :2)", "greater(%", ", 0.5)", "bool[B, 2]"):
        assert part in text


# -- check -----------------------------------------------------------------------------------------


def program() -> Any:
    return trace_step(cell, H, H).program


def test_a_traced_program_is_well_formed() -> None:
    assert program().check() is not None


def swapped(p: Any) -> Any:
    return replace(p, body=p.body[::-1])


def twice(p: Any) -> Any:
    return replace(p, body=[*p.body, p.body[0]])


def missing(p: Any) -> Any:
    return replace(p, body=p.body[:-1])


def without_inputs(p: Any) -> Any:
    return replace(p, weights=[])


def wider(p: Any) -> Any:
    other = Value(999, "op", (2, 4), np.dtype(F64), op=p.body[-1].op, inputs=p.body[-1].inputs)
    return replace(p, body=[*p.body, other], carry_out=[other])


def other_dtype(p: Any) -> Any:
    v = p.body[-1]
    other = Value(999, "op", (2, 3), np.dtype(np.float32), op=v.op, inputs=v.inputs)
    return replace(p, body=[*p.body, other], carry_out=[other])


def of_a_sum(p: Any) -> Any:
    v = p.body[-1]
    total = Value(998, "op", (1, 3), np.dtype(F64), None, op=mg.ops.sum, inputs=(v,), stage=AFTER)
    reads = Value(999, "op", (2, 3), np.dtype(F64), op=mg.ops.add, inputs=(v, total))
    return replace(p, body=[*p.body, total, reads], ys=[reads])


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (swapped, "which is not defined yet"),
        (twice, "is defined twice"),
        (missing, "which nothing defines"),
        (without_inputs, "which is not defined yet"),
        (wider, r"enters as float64\[B, 3\] and leaves as float64\[B, 4\]"),
        (other_dtype, r"leaves as float32\[B, 3\]"),
        (of_a_sum, "reads in a step what is summed after it"),
    ],
)
def test_check_finds_a_program_that_is_not(fault: Any, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        fault(program()).check()


# -- sizes -----------------------------------------------------------------------------------------


def test_neither_batch_nor_time_is_part_of_a_kernel(rng: Any) -> None:
    """One compile for all B and T; with one row, broadcasting means something else."""

    compiled = fusing._COMPILED
    layer = nn.LSTMCell(3, 4, dtype=F64)
    texts = set()
    before = len(compiled)
    for rows, steps in ((2, 3), (5, 3), (2, 9), (3, 1)):
        state = layer.init_state(rows)
        result = mg.scan(layer, state, rng.normal(size=(steps, rows, 3)))
        result.ys.sum().backward()
        texts.add(result.source)
    assert len(compiled) <= before + 1
    assert len(texts) == 1


def test_the_program_of_five_rows_is_that_of_two() -> None:
    big = mg.tensor(np.zeros((5, 3)), requires_grad=True)
    assert str(trace_step(cell, H, H).program) == str(trace_step(cell, big, big).program)


def test_numbers_are_part_of_a_kernel_to_the_sign_of_zero() -> None:
    ones = mg.tensor(np.ones((2, 3)))

    def run(number: float) -> Any:
        return mg.scan(lambda h, x: (h * number, h), ones, np.ones((1, 2, 3))).final.numpy()

    assert not np.signbit(run(0.0)).any()
    assert np.signbit(run(-0.0)).all()
    assert run(1e-17)[0, 0] == 1e-17


# -- what a result tells ---------------------------------------------------------------------------


def ran(cell: Any, rows: int = 2, **options: Any) -> Any:
    xs = mg.tensor(np.linspace(-1, 1, 12 * rows).reshape(4, rows, 3), dtype=cell.weight_ih.dtype)
    result = mg.scan(cell, cell.init_state(rows), xs, **options)
    result.ys.sum().backward()
    return result


@pytest.mark.parametrize("hidden", [4, 7])
def test_an_lstm_keeps_five_floats_a_unit(hidden: int) -> None:
    """c, and what goes into the four gates; what comes out of them is computed from that."""
    explained = ran(nn.LSTMCell(3, hidden, dtype=np.float32)).explain()
    assert explained.kept_floats == 5 * hidden
    assert explained.kept_bytes == 4 * 5 * hidden * 4 * 2  # itemsize, units, T, B


@pytest.mark.parametrize(
    ("make", "most"), [(nn.RNNCell, 1), (nn.GRUCell, 4), (nn.PeepholeLSTMCell, 7)]
)
def test_other_cells_keep_little(make: Any, most: int) -> None:
    assert ran(make(3, 4, dtype=F64)).explain().kept_floats <= most * 4


def test_inference_keeps_nothing() -> None:
    layer = nn.LSTMCell(3, 4, dtype=F64)
    with mg.no_grad():
        result = mg.scan(layer, layer.init_state(2), np.ones((4, 2, 3)))
    assert result.explain().kept_floats == 0


def test_explain_says_what_was_done_and_what_ran() -> None:
    result = ran(nn.LSTMCell(3, 4, dtype=F64))
    text = str(result.explain())
    for part in ("scan of lstmcell: 4 steps of 2 rows", "float64", "1 thread", "hoisted",
                 "weight_ih.T (3 x 16)", "product with weight_hh.T (4 x 16)", "loop over 4",
                 "sigmoid", "stored", "20 floats, 160 bytes for each row", "backward", "sunk",
                 "kernel", "forward: ", "backward: "):  # fmt: skip
        assert part in text, f"{part!r} is not in\n{text}"
    assert "last step first" in str(ran(nn.GRUCell(3, 4, dtype=F64), reverse=True).explain())


def test_a_program_shows_the_names_of_its_own_weights() -> None:
    """Not those of an equal program before it: under no_grad W.T has no name."""
    cell, xs = nn.GRUCell(3, 4, dtype=F64), np.ones((4, 2, 3))
    with mg.no_grad():
        mg.scan(cell, cell.init_state(2), xs)
    result = mg.scan(cell, cell.init_state(2), xs)
    assert "weight_hh.T" in str(result.explain())
    assert "weight_hh.T" in result.source


def test_explain_tells_that_backward_has_not_run_yet() -> None:
    layer = nn.JordanCell(3, 6, output_size=2, dtype=F64)
    result = mg.scan(layer, layer.init_state(2), np.ones((4, 2, 3)))
    assert "not run yet" in str(result.explain())


def test_explain_on_the_tape_says_so() -> None:
    layer = nn.RNNCell(3, 4, dtype=F64)
    result = mg.scan(layer, layer.init_state(2), np.ones((4, 2, 3)), mode="tape")
    assert "mode='tape'" in str(result.explain())
    assert result.source == ""


@pytest.mark.needs_jit
def test_explain_names_the_kernels_file_and_where_it_came_from() -> None:
    text = str(ran(nn.RNNCell(3, 5, dtype=F64)).explain())
    assert "scan_rnncell_forward" in text
    assert "found in the cache" in text or "compiled by this process" in text


def test_the_source_is_python_that_shows_the_program() -> None:
    result = ran(nn.GRUCell(3, 4, dtype=F64))
    tree = ast.parse(result.source)
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert names == ["units", "shard", "units", "shard"]
    for part in ("for n in range(T):", "product(", "z = sigmoid(", "h_in[j]", "dz = ", "weight_hh"):
        assert part in result.source
    assert "return carry: %" in result.source
