"""The text of kernels: names, brackets, sums, and accesses that leave an array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cells import CELLS
from cells import inputs as inputs_of
from compile.agree import PLAIN, assert_agree

import minigrad as mg
from minigrad.compile import codegen, fusing
from minigrad.compile.formula import Formulas, Names, identifier
from minigrad.expr import Expr
from minigrad.kernels import jit
from minigrad.tensors import as_tensor
from minigrad.tree import map_leaves

COMPILED = fusing._COMPILED


def lines(result: Expr, *named: tuple[Expr, str]) -> list[str]:
    """A value as lines, some values being called by a name."""
    found: list[str] = []
    formulas = Formulas(found.append, Names(["j"]), repr)
    for e, name in named:
        formulas.node(e).wish = name
    node = formulas.node(result)
    formulas.use(node)
    last = formulas.write(node)
    return [*found, last]


def inputs(names: str) -> list[Expr]:
    return [Expr("input", value=f"{name}[j]") for name in names.split()]


def test_brackets_keep_the_order_of_operations() -> None:
    a, b, c = inputs("a b c")
    assert lines(a + b + c) == ["a[j] + b[j] + c[j]"]
    assert lines(a + (b + c)) == ["a[j] + (b[j] + c[j])"]
    assert lines(a - (b - c)) == ["a[j] - (b[j] - c[j])"]
    assert lines(a * (b + c) / a) == ["a[j] * (b[j] + c[j]) / a[j]"]
    assert lines(a / (b * c)) == ["a[j] / (b[j] * c[j])"]
    assert lines(-(a * b)) == ["-(a[j] * b[j])"]
    assert lines(-a * b) == ["-a[j] * b[j]"]
    assert lines((a < b) & ~(b < c)) == ["(a[j] < b[j]) & (not b[j] < c[j])"]
    assert lines((a < b) == (b < c)) == ["(a[j] < b[j]) == (b[j] < c[j])"]


def test_what_has_a_name_or_is_used_twice_gets_a_line() -> None:
    a, b = inputs("a b")
    f, twice = a * b, a + b
    assert lines(f + b, (f, "f")) == ["f = a[j] * b[j]", "f + b[j]"]
    assert lines(twice * twice) == ["v = a[j] + b[j]", "v * v"]
    assert lines(f * (a * b), (f, "f")) == ["f = a[j] * b[j]", "f * f"]


def test_no_name_is_given_twice_and_none_is_a_keyword() -> None:
    names = Names(["t"])
    assert [names.unique(n) for n in ("h", "h", "h", "t", "in", "s2", "s2")] == [
        "h", "h2", "h3", "t2", "in2", "s2", "s2_2",
    ]  # fmt: skip
    assert identifier("upper/h") == "upper_h"
    assert identifier("sin(x)") == identifier("1st") == identifier("") == ""


def source(cell: Any, *shape: int) -> str:
    xs = mg.tensor(np.ones((3, *shape)), requires_grad=True)
    result = mg.scan(cell, np.zeros(shape), xs)
    result.ys.sum().backward()
    return result.source


@pytest.mark.needs_jit
def test_cells_that_differ_in_names_alone_share_a_kernel() -> None:
    found = []
    for weight, tap in (("U", "h"), ("weight", "state"), ("d", "n"), ("F", "range")):
        w = mg.tensor(np.eye(3), requires_grad=True, name=weight)

        def cell(h: Any, x: Any, w: Any = w, tap: str = tap) -> Any:
            h = mg.tap(tap, mg.tanh(h @ w + x))
            return h, h

        COMPILED.clear()
        result = mg.scan(cell, np.zeros((2, 3)), mg.tensor(np.ones((3, 2, 3)), requires_grad=True))
        found.append(result.explain()._forward.kernel.variant(False).built.stem)
    assert len(set(found)) == 1


def codes(cell: Any, rows: int, rng: Any) -> list[str]:
    """What decides the machine code of a cell's loops, whether threads share its units or not."""
    xs = map_leaves(as_tensor, inputs_of(cell, 3, rows, rng))
    run, _ = fusing.ready(cell, cell.init_state(rows), xs, False)
    wanted = tuple(i for i in run.needs if i >= len(run.program.carry))
    compiled = run.compiled
    loops = compiled.inference(), compiled.training(wanted, ()), compiled.backward(wanted, True, ())
    packed = compiled.training(wanted, (), packed=True)
    kernels = [loop.kernel for loop in (*loops, packed)]
    return [kernel.variant(divided).code for kernel in kernels for divided in (False, True)]


@pytest.mark.parametrize("kind", [kind for kind in CELLS if "layernorm" not in kind])
def test_a_cell_has_one_kernel_for_all_sizes(kind: str, rng: Any) -> None:
    """Layer normalisation divides by its number of units, which is a number of the text."""
    # Nor do sums of them equal one of a memory's, which would be a coincidence of its own.
    sizes = [(6, 14), (14, 14), (2 if "attention" in kind else 1, 18), (23, 22)]
    cells = [CELLS[kind](i, h, np.float64, rng) for i, h in sizes]
    found = [codes(cell, rows, rng) for rows, cell in enumerate(cells, 2)]
    assert all(other == found[0] for other in found)


@pytest.mark.parametrize("kind", ["lstm", "gru-after-keep"])
def test_the_kernel_of_another_size_computes_right(kind: str, rng: Any) -> None:
    stems = set()
    for i, h, rows in ((3, 6, 2), (5, 17, 1), (6, 6, 5), (1, 40, 3)):
        cell = CELLS[kind](i, h, np.float64, rng)
        xs = inputs_of(cell, 4, rows, rng)

        def ran(mode: str, cell: Any = cell, xs: Any = xs, rows: int = rows) -> Any:
            result = mg.scan(cell, cell.init_state(rows), xs, mode=mode)
            if mode == "fused":
                stems.add(result.explain()._forward.kernel.variant(False).built.stem)
            return result.final, result.ys

        assert_agree(ran, [xs, *cell.parameters()], np.float64)
    assert len(stems) == 1


def heads(count: int, width: int) -> Any:
    """A cell whose state is several rows, read backwards and across."""
    w = mg.tensor(np.full((width, width), 0.3), requires_grad=True)

    def cell(h: Any, x: Any) -> Any:
        parts = h.reshape(-1, count, width) @ w
        parts = mg.tanh(parts[:, ::-1] * x.reshape(-1, count, width))
        h = mg.concatenate([parts.reshape(-1, count * width)[:, width:], mg.sum(parts, 1)], 1)
        return h, parts[:, 1]

    return cell


def test_offsets_axes_and_steps_through_a_row_are_sizes(rng: Any) -> None:
    found = []
    for count, width in ((3, 5), (4, 7), (3, 3)):
        xs = mg.tensor(rng.normal(size=(3, 2, count * width)), requires_grad=True)
        start, cell = mg.tensor(np.ones((2, count * width))), heads(count, width)

        def run(mode: str, of: Any = (cell, start, xs)) -> Any:
            return mg.scan(*of, mode=mode)

        if count != width:
            assert_agree(run, [xs], np.float64)
        run, _ = fusing.ready(cell, start, xs, False)
        found.append(run.compiled.inference().kernel.variant(False).code)
    assert found[0] == found[1] != found[2]  # where sizes are equal they are one


def test_values_are_called_as_in_the_cell() -> None:
    w = mg.tensor(np.eye(3), requires_grad=True, name="U")

    def cell(h: Any, x: Any) -> Any:
        f = mg.tap("f", mg.sigmoid(x))
        h = mg.tap("h", f * mg.tanh(h @ w + x))
        return h, h

    text = source(cell, 2, 3)
    assert "f = sigmoid(x_t[j])" in text
    assert "h_out[j] = f * tanh(kept)" in text
    assert "# hw = h @ U" in text
    assert "dh = dh_in[j] + dh_t[j]" in text
    assert "df = dh * tanh(kept_t[j])" in text
    assert max(map(len, text.splitlines())) <= 110  # of programs, whose lines are as they are


def leaky(h: Any, x: Any) -> Any:
    h = mg.tanh(0.5 * h + x)
    return h, h


@pytest.mark.skipif(jit.mode() == "native", reason="for NUMBA_BOUNDSCHECK=1, NUMBA_DISABLE_JIT=1")
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("range(low, high)", "range(low, high + 1)"),
        ("t + after, b", "t + after + 1, b"),
        ("t + before, b", "t + before - 1, b"),
        ("state_in[j]", "state_in[j + 1]"),
        ("range(H)", "range(H + 1)"),
    ],
)
def test_an_access_outside_of_an_array_raises(right: str, wrong: str, monkeypatch: Any) -> None:
    real = codegen.Generator.generate

    def planted(self: Any, title: str, program: str) -> str:
        text = real(self, title, program)
        assert right in text or "backward" in title
        self.code = text = text.replace(right, wrong)
        return text

    COMPILED.clear()
    monkeypatch.setattr(codegen.Generator, "generate", planted)
    try:
        with pytest.raises(IndexError):
            mg.scan(leaky, np.zeros((2, 3)), np.ones((3, 2, 3)))
    finally:
        COMPILED.clear()


def test_a_sum_along_the_units_loses_little() -> None:
    """Partial sums, one for each lane: no worse than numbers added up one by one."""
    rng = np.random.default_rng(0)
    n = 257 if PLAIN else 4099
    x = rng.uniform(0.5, 1.5, (2, 3, n)).astype(np.float32)

    def cell(s: Any, x: Any) -> Any:
        return mg.sum(x * (1.0 + 0.0 * s), 1, keepdims=True), mg.max(x + 0.0 * s, 1, keepdims=True)

    sums, largest = mg.scan(cell, np.zeros((3, 1), np.float32), x)
    exact = x[-1].astype(np.float64).sum(1)
    bound = n * np.finfo(np.float32).eps / (1 if PLAIN else 4)
    assert (np.abs(sums.numpy()[:, 0] - exact) <= bound * exact).all()
    np.testing.assert_array_equal(largest.numpy()[..., 0], x.max(2))


def test_a_sum_along_another_axis_is_taken_in_order(rng: Any) -> None:
    m = rng.normal(size=(4, 2, 7, 5)).astype(np.float32)
    final, _ = mg.scan(lambda s, x: (mg.sum(x, 1) + 0.0 * s, None), np.zeros((2, 5), np.float32), m)
    total = np.zeros((2, 5), np.float32)
    for k in range(7):
        total = total + m[-1, :, k]
    np.testing.assert_array_equal(final.numpy(), total)


def test_folds_pass_nan_on_and_are_right_for_no_numbers_and_for_one() -> None:
    def cell(s: Any, x: Any) -> Any:
        parts = [f(x + 0.0 * s, 1, keepdims=True) for f in (mg.sum, mg.max, mg.min)]
        return s, tuple(parts)

    x = np.array([[[1.0, np.nan, 2.0]]])
    _, ys = mg.scan(cell, np.zeros((1, 1)), x)
    assert all(np.isnan(y.numpy()).all() for y in ys)
    _, ys = mg.scan(cell, np.zeros((1, 1)), x[..., :1])
    assert [y.numpy().item() for y in ys] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("units", [1, 17])
def test_masks_and_numbers_in_a_step(units: int, rng: Any) -> None:
    init = mg.tensor(rng.normal(size=(3, units)), requires_grad=True)
    xs = mg.tensor(rng.normal(size=(4, 3, units)), requires_grad=True)

    def cell(h: Any, x: Any) -> Any:
        small = mg.logical_and(mg.abs(h) < 0.7, mg.logical_not(x > 1e300))
        h = mg.where(small, 0.25 * h + x, mg.maximum(-h, 1e-3) - 2.0)
        return h, (h, small)

    assert_agree(lambda mode: mg.scan(cell, init, xs, mode=mode), [init, xs], np.float64)
