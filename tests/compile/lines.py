"""Random lines: each method of `Lines` writes one or a few ops on values of earlier lines."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

import minigrad as mg
from minigrad.op import REGISTRY

MOST = 300  # elements of a value in each row
Shape = tuple[int, ...]  # of a value, without the batch axis

_ELEMENTWISE = {
    name: op
    for name, op in REGISTRY.items()
    if op.kind == "elementwise" and op.source.signature.endswith("f") and not op.bools
    if hasattr(mg, name)  # slopes of others have no name there: derivatives reach them
}
JUMPS = {"floor", "round", "floor_divide", "remainder", "log2"}  # a last bit may decide
UNARY = [n for n, op in _ELEMENTWISE.items() if len(op.inputs) == 1 and n not in JUMPS]
BINARY = ["add", "subtract", "multiply", "divide", "pow", "maximum", "minimum"]
COMPARE = ["less", "less_equal", "greater", "greater_equal", "equal", "not_equal"]
REDUCE = ["sum", "max", "min", "mean", "var", "logsumexp"]
ALONG = ["softmax", "log_softmax", "cumsum"]
# What REGISTRY has beyond these is reached by an operator, or by a line of its own.
SPECIAL = {"where", "leaky_relu", "elu", "clip", "logical_and", "logical_or", "logical_not"}
assert {*UNARY, *BINARY, *COMPARE, *SPECIAL, *JUMPS} == {
    n for n, op in REGISTRY.items() if op.kind == "elementwise" and hasattr(mg, n)
}


class Lines:
    """What is written so far, and ways to write more. draw: of hypothesis; sizes: of new axes."""

    def __init__(self, draw: Any, sizes: Any):
        self.draw, self.sizes = draw, sizes
        self.lines: list[str] = []
        self.pool: list[tuple[str, Shape]] = []
        self.weights: dict[str, tuple[str, Shape]] = {}
        self.table = 0  # rows of a table that `ids` among the xs choose from
        self.taps = 0

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
        if math.prod(shape) > MOST:
            return self.pool[-1]
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        self.pool.append((name, shape))
        return self.pool[-1]

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
            made, new = self.add(f"{name} @ {w}", new)
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

    def cut(self) -> None:
        """What passes no gradient on, or only a part of it."""
        name, shape = self.value()
        kind = self.pick(["straight", "factor", "no_grad"])
        if kind == "straight":
            self.add(f"{name} + (mg.sign({name} - 0.11) * 0.5 - {name}).detach()", shape)
        elif kind == "factor":
            self.add(f"mg.tanh({name}.detach() * {name})", shape)
        else:
            self.lines.append(f"with mg.no_grad(): kept = mg.tanh({name})")
            self.add(f"kept * {name}", shape)

    def tap(self) -> None:
        name, shape = self.value()
        self.taps += 1
        self.add(f'mg.tap("t{self.taps}", {name})', shape)

    def embedding(self) -> None:
        """A row of a table for each integer, by an index or one-hot."""
        n = self.draw(self.sizes)
        table = self.weight((self.table, n), new=True)
        kind = self.pick(["index", "take", "one_hot"])
        if kind == "index":
            self.add(f"{table}[ids]", (n,))
        elif kind == "take":
            self.add(f"mg.take({table}, ids, axis=0)", (n,))
        else:
            self.add(f"mg.one_hot(ids, {self.table}, {table}.dtype) @ {table}", (n,))

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
