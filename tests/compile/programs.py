"""Random cells, as Python source: what the compiler must understand, built from the registry's ops.

    program = data.draw(programs())     # hypothesis; program.source is the cell, to be read and run
    cell = program.cell()               # (state, x) -> (state, y), its weights in program.weights

Every line is one op on values of earlier lines, kept near [-1, 1] so that comparisons mean
something; lines.py writes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from compile.lines import MOST, Lines, Shape
from hypothesis import strategies as st

import minigrad as mg


@dataclass
class RandomProgram:
    """A cell's source and the types of what it is run on."""

    source: str
    carry: list[Shape]
    xs: list[Shape]
    weights: dict[str, tuple[str, Shape]]  # name -> ("weight" or "rows", shape)
    rows: int
    steps: int
    dtype: Any
    seed: int
    options: dict[str, Any]
    fixed: set[str] = field(default_factory=set)  # what needs no gradient
    table: int = (
        0  # rows of the tables that the integers among the xs choose from; 0: there are none
    )
    parts: tuple[int, int] = (48, 1)  # rows in a chunk of steps, shards: see agree.small_parts

    def __str__(self) -> str:
        types = {"carry": self.carry, "xs": self.xs, "weights": self.weights}
        ran = f"{self.dtype.__name__} {self.options} {self.parts}"
        return f"{self.source}# {types}\n# T={self.steps} B={self.rows} {ran}"

    __repr__ = __str__

    def tensors(self, call: int = 0) -> tuple[dict[str, Any], tuple[Any, ...], tuple[Any, ...]]:
        """(weights, init, xs) with random values, others for each call."""
        rng = np.random.default_rng((self.seed, call))

        def made(name: str, *shape: int) -> Any:
            values = rng.uniform(-0.9, 0.9, shape)
            return mg.tensor(values, self.dtype, requires_grad=name not in self.fixed, name=name)

        weights = {
            n: made(n, *((self.rows,) if kind == "rows" else ()), *shape)
            for n, (kind, shape) in self.weights.items()
        }
        init = tuple(made(f"s{k}", self.rows, *s) for k, s in enumerate(self.carry))
        xs = tuple(made(f"x{k}", self.steps, self.rows, *s) for k, s in enumerate(self.xs))
        if self.table:
            ids = rng.integers(0, self.table, (self.steps, self.rows))
            xs = (*xs, mg.tensor(ids.astype(rng.choice([np.int64, np.int32]))))
        return weights, init, xs

    def cell(self, weights: dict[str, Any]) -> Callable[[Any, Any], Any]:
        names: dict[str, Any] = {"mg": mg, "np": np, **weights}
        exec(compile(self.source, "<random cell>", "exec"), names)
        return names["cell"]  # type: ignore[no-any-return]

    @staticmethod
    def change(cell: Any, weights: dict[str, Any]) -> None:
        """Other closed-over values: half of them other Tensors, half the same with other values."""
        for k, (name, new) in enumerate(weights.items()):
            if k % 2:
                cell.__globals__[name] = new
            else:
                cell.__globals__[name].data = new.numpy()
                weights[name] = cell.__globals__[name]


def builds(draw: Any, sizes: Any, lines: int, dtypes: Any) -> RandomProgram:
    return Builder(draw, sizes, lines, dtypes).build()


SMALL = st.integers(1, 4)


def programs(sizes: Any = SMALL, lines: int = 8, dtypes: Any = (np.float64, np.float32)) -> Any:
    """A strategy of random programs. sizes: of axes of features; lines: at most so many ops."""
    return st.composite(lambda draw: builds(draw, sizes, lines, dtypes))()


class Builder(Lines):
    """A cell of at most `most` lines beside those that make the new state."""

    def __init__(self, draw: Any, sizes: Any, most: int, dtypes: Any):
        super().__init__(draw, sizes)
        self.most, self.dtypes = most, dtypes

    def shape(self) -> Shape:
        shape = tuple(self.draw(self.sizes) for _ in range(self.pick([1, 1, 1, 0, 2])))
        return shape if math.prod(shape) <= MOST else shape[:1]

    def build(self) -> RandomProgram:
        carry = [self.shape() for _ in range(self.pick([1, 2, 3]))]
        xs = [self.shape() for _ in range(self.pick([1, 2]))]
        self.pool = [(f"s{k}", s) for k, s in enumerate(carry)]
        self.pool += [(f"x{k}", s) for k, s in enumerate(xs)]
        self.table = self.pick([0, 0, 1, 3])
        makers = [
            self.unary, self.binary, self.broadcast, self.product, self.product, self.view,
            self.view, self.reduction, self.choice, self.join, self.constant, self.moved,
            self.cut, self.tap, *[self.embedding] * (3 * bool(self.table)),
        ]  # fmt: skip
        for _ in range(self.number(1, self.most)):
            self.pick(makers)()
        states = [self.state(s) for s in carry]
        ys = [self.pick(self.pool[::-1])[0] for _ in range(self.pick([1, 2, 0]))]
        names = [*(f"s{k}" for k in range(len(carry))), *(f"x{k}" for k in range(len(xs)))]
        names += ["ids"] * bool(self.table)
        head = [f"({', '.join(names[: len(carry)])},) = state"]
        head += [f"({', '.join(names[len(carry) :])},) = x"]
        body = [*head, *self.lines]
        body.append(f"return ({', '.join(states)},), ({''.join(f'{y}, ' for y in ys)})")
        source = "def cell(state, x):\n" + "".join(f"    {line}\n" for line in body)
        steps, rows = self.number(1, 5), self.number(1, 3)
        options: dict[str, Any] = {"reverse": self.flag()}
        if self.flag():
            options["lengths"] = tuple(self.number(1, steps) for _ in range(rows))
        program = RandomProgram(
            source, carry, xs, self.weights, rows, steps, self.pick(self.dtypes),
            self.number(0, 99), options, table=self.table,
        )  # fmt: skip
        program.parts = self.pick([(48, 1), (4, 1), (1, 2), (1, 3)])
        if self.flag():
            names = [n for n in names if n != "ids"] + list(self.weights)
            program.fixed = set(self.draw(st.lists(st.sampled_from(names), max_size=3)))
        return program

    def state(self, shape: Shape) -> str:
        """A value of the shape of a carry: one that is there, or one made of what is there."""
        fits = self.value(lambda s: s == shape)
        if fits is not None and self.number(0, 3):
            name = fits[0]
            return name if self.flag() else self.add(f"mg.tanh({name})", shape)[0]
        name, have = self.pick(self.pool[::-1])
        n, m = math.prod(have), math.prod(shape)
        w = self.weight((n, m))
        text = f"{name}.reshape({name}.shape[0], {n}) @ {w}"
        flat = self.add(f"mg.tanh({text})", (m,))[0]
        if shape == (m,):
            return flat
        return self.add(f"{flat}.reshape({flat}.shape[0], *{shape})", shape)[0]
