"""Random cells, as Python source: what the compiler must understand, built from the registry's ops.

    program = data.draw(programs())     # hypothesis; program.source is the cell, to be read and run
    cell = program.cell()               # (state, x) -> (state, y), its weights in program.weights

Every line is one op on values of earlier lines, kept near [-1, 1] so that comparisons mean something.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

import minigrad as mg
from minigrad.op import REGISTRY

Shape = tuple[int, ...]  # of a value, without the batch axis

_ELEMENTWISE = {
    name: op
    for name, op in REGISTRY.items()
    if op.kind == "elementwise" and op.source.signature.endswith("f") and not op.bools
}
UNARY = [n for n, op in _ELEMENTWISE.items() if len(op.inputs) == 1]
BINARY = ["add", "subtract", "multiply", "divide", "pow", "maximum", "minimum"]
COMPARE = ["less", "less_equal", "greater", "greater_equal", "equal", "not_equal"]
REDUCE = ["sum", "max", "min", "mean", "var", "logsumexp"]
ALONG = ["softmax", "log_softmax", "cumsum"]
# What REGISTRY has beyond these is reached by an operator, or by a line of its own.
SPECIAL = {"where", "leaky_relu", "elu", "clip", "logical_and", "logical_or", "logical_not"}
assert {*UNARY, *BINARY, *COMPARE, *SPECIAL} == {
    n for n, op in REGISTRY.items() if op.kind == "elementwise"
}


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
    parts: tuple[int, int] = (48, 1)  # rows in a chunk of steps, shards: see agree.small_parts

    def __str__(self) -> str:
        types = {"carry": self.carry, "xs": self.xs, "weights": self.weights}
        return f"{self.source}# {types}\n# T={self.steps} B={self.rows} {self.dtype} {self.options} {self.parts}"

    __repr__ = __str__

    def tensors(self) -> tuple[dict[str, Any], tuple[Any, ...], tuple[Any, ...]]:
        """(weights, init, xs) with random values."""
        rng = np.random.default_rng(self.seed)

        def made(name: str, *shape: int) -> Any:
            values = rng.uniform(-0.9, 0.9, shape)
            return mg.tensor(values, self.dtype, requires_grad=name not in self.fixed, name=name)

        weights = {
            n: made(n, *((self.rows,) if kind == "rows" else ()), *shape)
            for n, (kind, shape) in self.weights.items()
        }
        init = tuple(made(f"s{k}", self.rows, *s) for k, s in enumerate(self.carry))
        xs = tuple(made(f"x{k}", self.steps, self.rows, *s) for k, s in enumerate(self.xs))
        return weights, init, xs

    def cell(self, weights: dict[str, Any]) -> Callable[[Any, Any], Any]:
        names: dict[str, Any] = {"mg": mg, "np": np, **weights}
        exec(compile(self.source, "<random cell>", "exec"), names)
        return names["cell"]  # type: ignore[no-any-return]


def builds(draw: Any, sizes: Any, lines: int, dtypes: Any) -> RandomProgram:
    return Builder(draw, sizes, lines, dtypes).build()


def programs(
    sizes: Any = st.integers(1, 4), lines: int = 8, dtypes: Any = (np.float64, np.float32)
) -> Any:
    """A strategy of random programs. sizes: of axes of features; lines: at most so many ops."""
    return st.composite(lambda draw: builds(draw, sizes, lines, dtypes))()


class Builder:
    def __init__(self, draw: Any, sizes: Any, lines: int, dtypes: Any):
        self.draw, self.sizes, self.most, self.dtypes = draw, sizes, lines, dtypes
        self.lines: list[str] = []
        self.pool: list[tuple[str, Shape]] = []
        self.weights: dict[str, tuple[str, Shape]] = {}

    # -- choices

    def pick(self, values: Any) -> Any:
        return self.draw(st.sampled_from(list(values)))

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))  # type: ignore[no-any-return]

    def flag(self) -> bool:
        return self.draw(st.booleans())  # type: ignore[no-any-return]

    def value(self, fits: Callable[[Shape], bool] = lambda s: True) -> tuple[str, Shape] | None:
        found = [v for v in self.pool if fits(v[1])]
        return self.pick(found[::-1]) if found else None

    def weight(self, shape: Shape, kind: str = "weight", new: bool = False) -> str:
        known = [n for n, v in self.weights.items() if v == (kind, shape)]
        if known and not new and self.flag():
            return self.pick(known)  # type: ignore[no-any-return]
        name = f"{'w' if kind == 'weight' else 'r'}{len(self.weights)}"
        self.weights[name] = kind, shape
        return name

    def add(self, text: str, shape: Shape) -> tuple[str, Shape]:
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        self.pool.append((name, shape))
        return self.pool[-1]

    # -- the whole

    def shape(self) -> Shape:
        return tuple(self.draw(self.sizes) for _ in range(self.pick([1, 1, 1, 0, 2])))

    def build(self) -> RandomProgram:
        carry = [self.shape() for _ in range(self.pick([1, 2, 3]))]
        xs = [self.shape() for _ in range(self.pick([1, 2]))]
        self.pool = [(f"s{k}", s) for k, s in enumerate(carry)]
        self.pool += [(f"x{k}", s) for k, s in enumerate(xs)]
        makers = [
            self.unary, self.binary, self.broadcast, self.product, self.product, self.view,
            self.view, self.reduction, self.choice, self.join, self.constant, self.moved,
        ]  # fmt: skip
        for _ in range(self.number(1, self.most)):
            self.pick(makers)()
        states = [self.state(s) for s in carry]
        ys = [self.pick(self.pool[::-1])[0] for _ in range(self.pick([1, 2, 0]))]
        names = [*(f"s{k}" for k in range(len(carry))), *(f"x{k}" for k in range(len(xs)))]
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
            self.number(0, 99), options,
        )  # fmt: skip
        program.parts = self.pick([(48, 1), (4, 1), (1, 2), (1, 3)])
        if self.flag():
            names += self.weights
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

    # -- lines

    def inside(self, name: str, op: str) -> str:
        """The value, moved into the domain of an op."""
        low, high = REGISTRY[op].domain
        if not name.isidentifier():
            return "0.75"  # a number
        middle, half = (low + high) / 2, (high - low) / 2 * 0.95
        return f"({middle} + {half} * mg.tanh({name}))"

    def unary(self) -> None:
        name, shape = self.value()
        op = self.pick(["tanh", "sigmoid", *UNARY, "leaky_relu", "elu", "clip", "detach"])
        if op == "detach":
            text = f"{name}.detach()"
        elif op in ("leaky_relu", "elu"):
            text = f"mg.{op}({name}, {self.pick([0.01, 0.3])})"
        elif op == "clip":
            text = f"mg.clip({name}, -0.3, 0.4)"
        else:
            text = f"mg.{op}({self.inside(name, op)})"
            text = text if op in ("tanh", "sigmoid", "relu", "abs") else f"mg.tanh({text})"
        self.add(text, shape)

    def binary(self) -> None:
        name, shape = self.value()
        other, _ = self.value(lambda s: s == shape)
        self.combine(name, other, shape)

    def combine(self, a: str, b: str, shape: Shape) -> None:
        op = self.pick(BINARY)
        if self.flag():
            a, b = b, a
        if op == "divide":
            text = f"{a} / {self.inside(b, op)}"
        elif op == "pow":
            text = f"{self.inside(a, op)} ** {b}"
        elif op in ("maximum", "minimum"):
            text = f"mg.{op}({a}, {b})"
        else:
            text = f"{a} {({'add': '+', 'subtract': '-', 'multiply': '*'})[op]} {b}"
        self.add(text if op not in ("divide", "pow") else f"mg.tanh({text})", shape)

    def broadcast(self) -> None:
        """With a parameter of fewer or smaller axes, one row for each of the batch, or a number."""
        name, shape = self.value()
        kind = self.pick(["vector", "one", "scalar", "first", "full", "rows", "thin", "number"])
        if kind == "number":
            return self.combine(name, str(self.pick([2.0, 0.5, -1.5, 1])), shape)
        if kind == "rows" or (kind == "thin" and not shape):
            return self.combine(name, self.weight(shape, "rows"), shape)
        if kind == "thin":
            thin = tuple(n if self.flag() else 1 for n in shape)
            return self.combine(name, self.weight(thin, "rows"), shape)
        small = {
            "vector": shape[-1:], "one": (1,) if shape else (), "scalar": (),
            "first": (1, *shape), "full": shape if shape else (),
        }[kind]  # fmt: skip
        return self.combine(name, self.weight(small), shape)

    def product(self) -> None:
        found = self.value(lambda s: len(s) >= 1)
        if found is None:
            return
        name, shape = found
        kind = self.pick(["weight", "weight", "weight", "left", "rows", "vector"])
        k = shape[-1]
        if kind == "rows" and len(shape) == 2:
            other = self.value(lambda s: len(s) == 2 and s[0] == k)
            if other is not None:
                text, result = f"{name} @ {other[0]}", (shape[0], other[1][1])
                self.add(f"mg.tanh({text})", result)
                return
        n = self.draw(self.sizes)
        if kind == "left" and len(shape) == 1:
            w = self.weight((n, k))
            self.add(f"mg.tanh(({w} @ {name}.T).T)", (n,))
        elif kind == "vector":
            self.add(f"mg.tanh({name} @ {self.weight((k,))})", shape[:-1])
        else:
            w = self.weight((k, n))
            new = (*shape[:-1], n)
            made, _ = self.add(f"{name} @ {w}", new)
            if self.flag():  # the same operand once more
                m = self.draw(self.sizes)
                self.add(f"mg.tanh({name} @ {self.weight((k, m), new=True)})", (*shape[:-1], m))
            self.add(f"mg.tanh({made})", new)

    def view(self) -> None:
        found = self.value(lambda s: len(s) >= 1)
        if found is None:
            return
        name, shape = found
        axis = self.number(0, len(shape) - 1)
        n, lead = shape[axis], ":, " * (axis + 1)
        b = f"{name}.shape[0]"
        kind = self.pick([
            "slice", "int", "list", "split", "reshape", "swap", "expand", "squeeze", "flip",
            "roll", "pad", "broadcast", "merge",
        ])  # fmt: skip
        if kind == "slice":
            begin = self.number(0, n - 1)
            end = self.number(begin + 1, n)
            step = self.pick(["", "", ":2", ":-1"])
            if step == ":-1":
                text, new = "::-1", n
            else:
                text, new = f"{begin}:{end}{step}", len(range(begin, end, 2 if step else 1))
            self.add(f"{name}[{lead}{text}]", (*shape[:axis], new, *shape[axis + 1 :]))
        elif kind == "int":
            self.add(f"{name}[{lead}{self.number(-n, n - 1)}]", (*shape[:axis], *shape[axis + 1 :]))
        elif kind == "list":
            places = [self.number(0, n - 1) for _ in range(self.number(1, 3))]
            self.add(f"{name}[{lead}{places}]", (*shape[:axis], len(places), *shape[axis + 1 :]))
        elif kind == "split" and n % 2 == 0:
            half = (*shape[:axis], n // 2, *shape[axis + 1 :])
            for k in (0, 1):
                self.add(f"mg.split({name}, 2, axis={axis + 1})[{k}]", half)
        elif kind == "reshape":
            size = math.prod(shape)
            new = self.pick([(size,), (size, 1), (1, size), (2, size // 2), (size // 2, 2)])
            if math.prod(new) == size:
                self.add(f"{name}.reshape({b}, *{new})", new)
        elif kind == "swap" and len(shape) == 2:
            self.add(f"mg.swapaxes({name}, 1, 2)", shape[::-1])
        elif kind == "expand" and len(shape) == 1:
            at = self.pick([1, 2, -1])
            self.add(f"mg.expand_dims({name}, {at})", (1, n) if at == 1 else (n, 1))
        elif kind == "squeeze" and n == 1:
            self.add(f"mg.squeeze({name}, {axis + 1})", (*shape[:axis], *shape[axis + 1 :]))
        elif kind == "flip":
            self.add(f"mg.flip({name}, {axis + 1})", shape)
        elif kind == "roll":
            self.add(f"mg.roll({name}, {self.pick([1, 2, -1])}, axis={axis + 1})", shape)
        elif kind == "pad":
            widths = [(0, 0)] * (len(shape) + 1)
            widths[axis + 1] = self.pick([(0, 1), (1, 0), (1, 2)])
            wide = n + sum(widths[axis + 1])
            value = self.pick([0.0, 0.5])
            new = (*shape[:axis], wide, *shape[axis + 1 :])
            self.add(f"mg.pad({name}, {widths}, {value})", new)
        elif kind == "broadcast" and len(shape) == 1:
            m = self.draw(self.sizes)
            self.add(f"mg.broadcast_to({name}[:, None], ({b}, {m}, {n}))", (m, n))
        elif kind == "merge" and len(shape) == 2:
            w = self.weight((shape[1], self.draw(self.sizes)))
            m = self.weights[w][1][1]
            text = f"mg.tanh({name}.reshape({b} * {shape[0]}, {shape[1]}) @ {w})"
            self.add(f"{text}.reshape({b}, {shape[0]}, {m})", (shape[0], m))

    def reduction(self) -> None:
        found = self.value(lambda s: len(s) >= 1)
        if found is None:
            return
        name, shape = found
        axis = self.number(0, len(shape) - 1)
        if self.flag():
            op = self.pick(ALONG)
            self.add(f"mg.tanh(mg.{op}({name}, axis={self.pick([axis + 1, axis - len(shape)])}))",
                     shape)  # fmt: skip
            return
        op, keep = self.pick(REDUCE), self.flag()
        axes: Any = axis + 1
        new = tuple(1 if a == axis else n for a, n in enumerate(shape) if keep or a != axis)
        if len(shape) == 2 and op not in ("logsumexp",) and self.flag():
            axes, new = (1, 2), (1, 1) if keep else ()
        self.add(f"mg.tanh(mg.{op}({name}, axis={axes}, keepdims={keep}))", new)

    def choice(self) -> None:
        """where, with a mask that depends on values."""
        name, shape = self.value()
        other, _ = self.value(lambda s: s == shape)
        mask = f"mg.{self.pick(COMPARE)}({name}, {self.pick([0.123, -0.217])})"
        if self.flag():
            joined = self.pick(["logical_and", "logical_or"])
            mask = f"mg.{joined}({mask}, mg.logical_not({other} > 0.171))"
        kind = self.pick(["both", "number", "mask"])
        if kind == "mask":
            self.add(f"{mask}.astype({name}.dtype)", shape)
        else:
            third = self.pick(["0.0", "-0.5"]) if kind == "number" else other
            self.add(f"mg.where({mask}, mg.tanh({name}), {third})", shape)

    def join(self) -> None:
        found = self.value(lambda s: len(s) >= 1)
        if found is None:
            return
        name, shape = found
        axis = self.number(0, len(shape) - 1)
        if self.flag():
            other, _ = self.value(lambda s: s == shape)
            at = self.pick([1, 2, -1])
            new = list(shape)
            new.insert(at - 1 if at > 0 else len(shape), 2)
            if len(shape) == 1:
                self.add(f"mg.stack([{name}, {other}], axis={at})", tuple(new))
                return
        rest = lambda s: (*s[:axis], *s[axis + 1 :])  # noqa: E731
        fits = lambda s: len(s) == len(shape) and rest(s) == rest(shape)  # noqa: E731
        others = [self.value(fits) for _ in range(self.number(1, 2))]
        if self.flag():
            others.append((self.weight(shape, "rows"), shape))
        sizes = [s[axis] for _, s in [found, *others]]
        new = (*shape[:axis], sum(sizes), *shape[axis + 1 :])
        parts = ", ".join(n for n, _ in [found, *others])
        self.add(f"mg.concatenate([{parts}], axis={axis + 1})", new)

    def constant(self) -> None:
        """What depends on weights alone, before it meets the step."""
        name, shape = self.value()
        if not shape:
            return
        a, b = self.weight(shape[-1:]), self.weight(shape[-1:])
        self.add(f"mg.tanh({name} + ({a} * {b} + mg.sigmoid({a})))", shape)

    def moved(self) -> None:
        """The batch on another axis, and back."""
        name, shape = self.value()
        if len(shape) == 1:
            w = self.weight((shape[0], 1))
            self.add(f"mg.transpose(mg.tanh(mg.transpose({name}, (1, 0)) * {w}), (1, 0))", shape)
        elif len(shape) == 2:
            w = self.weight((shape[1], shape[1]))
            self.add(f"mg.swapaxes(mg.tanh(mg.swapaxes({name}, 0, 1) @ {w}), 0, 1)", shape)
            if self.flag():
                w = self.weight((shape[0], 1, 1))
                self.add(f"mg.swapaxes(mg.swapaxes({name}, 0, 1) * {w}, 0, 1)", shape)
