"""Axes whose size may change: what differs between runs at several sizes is computed in the file.

A model is traced at several sizes, with other values each time. The traces must have the same
nodes. A constant that differs (the shape of a Reshape, the zeros of a first state, the T of a mean)
must be a function of the sizes, and becomes nodes that compute it; anything else that differs was
made by Python of a value, and is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, product
from typing import Any, NoReturn

import numpy as np

from ..errors import describe
from .base import Array, ConversionError
from .onnx_trace import Graph, Node, Trace

Runs = Sequence[dict[str, int]]  # the size of each axis, by its name, in each run
_POWERS: tuple[tuple[float, tuple[str, ...]], ...] = (
    (-1.0, ("Reciprocal",)), (0.5, ("Sqrt",)), (-0.5, ("Sqrt", "Reciprocal")),
)  # fmt: skip
_MOST = 64  # integers that are fitted one by one


def runs_at(sizes: dict[str, int]) -> list[dict[str, int]]:
    """The sizes to run at: the corners of a box at those of the example, where functions that are
    linear in each size are told apart, and two places further out, where they have to hold.

    Each is at least 2, as with a single element less may be done than with several.
    """
    if not sizes:
        return [{}, {}]  # twice, with other values
    first = {name: max(n, 2) for name, n in sizes.items()}
    corners = [
        {name: n + step for (name, n), step in zip(first.items(), steps, strict=True)}
        for steps in product((0, 1), repeat=len(first))
    ]
    further = [
        {name: n + 3 + i for i, (name, n) in enumerate(first.items())},
        {name: n + min(n, 64) + 5 - i % 3 for i, (name, n) in enumerate(first.items())},
    ]
    return corners + further


def computed(traces: list[Trace], runs: Runs, places: dict[str, tuple[str, int]]) -> list[Node]:
    """The nodes that compute what differs, which leaves the constants of the first trace.

    places: the name of an axis -> an input that has it, and which of its axes it is.
    """
    first = traces[0]
    for other in traces[1:]:
        _check_same(first.graphs[0], other.graphs[0])
    head = _Head(first, runs, places)
    for name in list(first.constants):
        arrays = [t.constants[name] for t in traces]
        if any(a.shape != arrays[0].shape or a.tobytes() != arrays[0].tobytes() for a in arrays):
            del first.constants[name]
            head.compute(name, arrays)
    return head.nodes


def _check_same(a: Graph, b: Graph) -> None:
    """Raises ConversionError unless both have the same nodes."""
    for one, two in zip(a.nodes, b.nodes, strict=False):
        parts = [
            (n.op, n.name, n.inputs, n.outputs, n.attributes, n.body is None) for n in (one, two)
        ]
        if parts[0] != parts[1]:
            _refuse_other(two, one)
        if one.body and two.body:
            _check_same(one.body, two.body)
    if len(a.nodes) != len(b.nodes):
        longer = max(a.nodes, b.nodes, key=len)
        _refuse_other(longer[min(len(a.nodes), len(b.nodes))], None)
    if a.outputs != b.outputs:
        raise ConversionError("export_onnx: the model returns other values at other sizes.")


def _refuse_other(node: Node, other: Node | None) -> NoReturn:
    before = "nothing" if other is None else f"{other.op} of {other.where}"
    raise ConversionError(
        f"export_onnx: {node.where}: at another size or with other values {node.op} ran where "
        f"{before} had run: a loop or a branch that Python decides about. Write a loop over time "
        f"by nn.Recurrent or mg.scan, a choice by mg.where; or leave the axis out of axes=, and "
        f"its size is fixed."
    )


class _Head:
    """Nodes in front of all others, which compute constants of the sizes."""

    def __init__(self, trace: Trace, runs: Runs, places: dict[str, tuple[str, int]]):
        self.trace, self.runs, self.places = trace, runs, places
        self.nodes: list[Node] = []
        self.numbers: dict[Any, str] = {}
        self.held = 0

    def node(self, op: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        name = f"sizes.{op}.{len(self.nodes)}"
        self.nodes.append(Node(op, name, list(inputs), [output or name], attributes, ""))
        return output or name

    def constant(self, value: Any) -> str:
        self.held += 1
        name = f"sizes.constant_{self.held}"
        self.trace.constants[name] = np.asarray(value)
        return name

    def compute(self, name: str, arrays: list[Array]) -> None:
        """The nodes of one constant, of which there are these at the sizes of the runs."""
        a, where = arrays[0], self.trace.where.get(name, "")
        what = f"export_onnx: {where}: a constant {describe(a)}"
        if not self.places:
            raise ConversionError(
                f"{what} changes with the values of the inputs: Python or NumPy computed it. "
                f"Compute it by mg's functions (mg.take(table, x) for table[x])."
            )
        if len({x.ndim for x in arrays}) == 1:
            made = self.small(arrays) or self.filled(arrays) or self.counted(arrays)
            if made:
                self.node("Identity", [made], name)
                return
        sizes = ", ".join(f"{n} = {run}" for n, run in self.runs[-1].items())
        raise ConversionError(
            f"{what} is {describe(arrays[-1])} at {sizes} and with other values of the inputs: it "
            f"is no simple function of the sizes (sums of products, one number everywhere, a "
            f"range), or Python or NumPy computed it of a value. Compute it by mg's functions "
            f"(mg.take(table, x) for table[x]); or leave the axis out of axes=, and its size is "
            f"fixed."
        )

    def small(self, arrays: list[Array]) -> str:
        """A few integers, or one number."""
        a = arrays[0]
        if len({x.shape for x in arrays}) > 1 or a.dtype.kind not in "iuf":
            return ""
        if a.size > (1 if a.dtype.kind == "f" else _MOST):
            return ""
        rows = np.stack([x.ravel() for x in arrays])
        found = [self.number(column, a.dtype) for column in rows.T]
        if not all(found):
            return ""
        if not a.ndim:
            return found[0]
        flat = self.vector(found)
        return flat if a.ndim == 1 else self.node("Reshape", [flat, self.constant(a.shape)])

    def vector(self, numbers: Sequence[str]) -> str:
        axis = self.constant(np.zeros(1, np.int64))
        wide = [self.node("Unsqueeze", [n, axis]) for n in numbers]
        return self.node("Concat", wide, axis=0) if len(wide) > 1 else wide[0]

    def shape(self, arrays: list[Array]) -> str:
        """The shape of a constant, "" where it is no function of the sizes."""
        columns = np.array([x.shape for x in arrays]).T
        found = [self.number(column, np.dtype(np.int64)) for column in columns]
        return self.vector(found) if all(found) else ""

    def filled(self, arrays: list[Array]) -> str:
        """One number everywhere."""
        if not all(x.size and (x == x.ravel()[0]).all() for x in arrays):
            return ""
        firsts = [x.ravel()[0] for x in arrays]
        value = self.number(np.array(firsts), arrays[0].dtype)
        shape = self.shape(arrays) if value else ""
        return self.node("Expand", [value, shape]) if shape else ""

    def counted(self, arrays: list[Array]) -> str:
        """start + step i along one axis, the same along all others."""
        a = arrays[0]
        moving = [i for i in range(a.ndim) if a.shape[i] > 1 and np.ptp(a, axis=i).any()]
        if len(moving) != 1 or a.dtype.kind not in "if":
            return ""
        axis = moving[0]
        step = np.diff(np.moveaxis(a, axis, 0), axis=0).ravel()[0]
        for x in arrays:
            shape = [-1 if i == axis else 1 for i in range(a.ndim)]
            line = x[tuple(slice(None) if i == axis else 0 for i in range(a.ndim))]
            expected = line[0] + step * np.arange(x.shape[axis])
            if not np.array_equal(x, np.broadcast_to(expected.reshape(shape), x.shape)):
                return ""
        starts = [x.ravel()[0] for x in arrays]
        ends = [s + step * x.shape[axis] for s, x in zip(starts, arrays, strict=True)]
        limits = [self.number(np.array(each), a.dtype) for each in (starts, ends)]
        if not all(limits):
            return ""
        line_of = self.node("Range", [*limits, self.constant(np.array(step, a.dtype))])
        made = self.node("Reshape", [line_of, self.constant(np.array(shape, np.int64))])
        if all(n == 1 for i, n in enumerate(a.shape) if i != axis):
            return made
        whole = self.shape(arrays)
        return self.node("Expand", [made, whole]) if whole else ""

    # -- one number

    def number(self, column: Array, dtype: np.dtype) -> str:
        """A 0-d value of the dtype, from its values in the runs; "" where it is no function of the
        sizes.
        """
        key = (tuple(column.tolist()), dtype.str)
        if key not in self.numbers:
            self.numbers[key] = self.fitted(column, dtype)
        return self.numbers[key]

    def fitted(self, column: Array, dtype: np.dtype) -> str:
        if (column == column[0]).all():
            return self.constant(np.array(column[0], dtype))
        if not np.array_equal(column, np.round(column)):
            return self.power(column, dtype)
        terms = self.terms(column)
        if terms is None:
            return ""
        parts = [self.times(names, c) for names, c in terms.items() if c]
        total = parts[0]
        for part in parts[1:]:
            total = self.node("Add", [total, part])
        return self.cast(total, dtype)

    def terms(self, column: Array) -> dict[tuple[str, ...], int] | None:
        """Products of sizes -> integers: the sum that has these values in the runs."""
        places = tuple(self.places)
        sets = [names for n in range(len(places) + 1) for names in combinations(places, n)]
        first = self.runs[0]
        rows = [
            [math.prod(run[n] - first[n] for n in names) for names in sets] for run in self.runs
        ]
        found: Any = np.linalg.lstsq(np.array(rows), column.astype(float), rcond=None)[0]
        from_first = dict(zip(sets, (int(c) for c in np.round(found)), strict=True))
        terms = {  # of the sizes themselves, where those are of their distance from the first run
            names: sum(
                c * math.prod(-first[n] for n in more if n not in names)
                for more, c in from_first.items()
                if set(names) <= set(more)
            )
            for names in sets
        }
        values = [
            sum(c * math.prod(run[n] for n in names) for names, c in terms.items())
            for run in self.runs
        ]
        return terms if values == [int(v) for v in column] else None

    def power(self, column: Array, dtype: np.dtype) -> str:
        """c n^e of a product n of sizes, the root in an attention, or a sum of products over n."""
        for n in range(1, len(self.places) + 1):
            for names in combinations(self.places, n):
                over = column * np.array(self.products(names))
                if np.allclose(over, np.round(over), rtol=1e-6, atol=0):
                    above = self.number(np.round(over), dtype)
                    if above:
                        return self.node("Div", [above, self.cast(self.product(names), dtype)])
                for e, nodes in _POWERS:
                    c = column / np.array(self.products(names), np.float64) ** e
                    if np.allclose(c, c[0], rtol=1e-6, atol=0):
                        value = self.cast(self.product(names), dtype)
                        for op in nodes:
                            value = self.node(op, [value])
                        c0 = np.round(c[0], 0) if np.isclose(c[0], np.round(c[0])) else c[0]
                        return self.node("Mul", [value, self.constant(np.array(c0, dtype))])
        return ""

    def cast(self, value: str, dtype: np.dtype) -> str:
        return value if dtype == np.int64 else self.node("Cast", [value], to=dtype)

    def times(self, names: tuple[str, ...], c: int) -> str:
        """c times a product of sizes."""
        if not names or c != 1:
            factor = self.constant(np.array(c, np.int64))
            return self.node("Mul", [self.product(names), factor]) if names else factor
        return self.product(names)

    def products(self, names: Sequence[str]) -> list[int]:
        return [math.prod(run[name] for name in names) for run in self.runs]

    def product(self, names: Sequence[str]) -> str:
        """The product of sizes, 0-d int64."""
        if names not in self.numbers:
            name = names[-1]
            value, axis = self.places[name]
            shape = self.node("Shape", [value])
            size = self.node("Gather", [shape, self.constant(np.array(axis))], axis=0)
            if len(names) > 1:
                size = self.node("Mul", [self.product(names[:-1]), size])
            self.numbers[names] = size
        return self.numbers[names]
