"""Scalar expressions: what an elementwise op computes for one element.

The body of an elementwise op, and each of its vjp rules, is an ordinary Python function. Called on
`Expr` values it computes nothing: it records itself, and the record is printed as the few lines of
source from which a kernel is compiled. A rule may call other elementwise ops; their bodies
are recorded in place, so every rule becomes one fused loop however it is written.

    >>> print(source(lambda g, y: g * (1.0 - y * y), ["g", "y"]).text)
    def element(g, y):
        t0 = y * y
        t1 = c(1.0) - t0
        t2 = g * t1
        return t2
    <BLANKLINE>
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .errors import DeclarationError

_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/",
    "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=",
    "and": "&", "or": "|",
}  # fmt: skip
_BOOL = {"lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not", "isnan"}


class Expr:
    """One value in the record of a scalar computation: an input, a constant, or fn(args)."""

    __slots__ = ("args", "fn", "is_bool", "value")

    def __init__(
        self, fn: str, args: tuple[Expr, ...] = (), value: Any = None, is_bool: bool = False
    ):
        self.fn, self.args, self.value = fn, args, value
        self.is_bool = is_bool or fn in _BOOL

    @staticmethod
    def __apply__(op: Any, args: Sequence[Any], params: dict[str, Any]) -> Any:
        if op.kind != "elementwise":
            raise DeclarationError(
                f"an elementwise rule may call elementwise ops only, and {op.name} is of kind "
                f"{op.kind}"
            )
        return op.body(*args)

    __hash__ = object.__hash__  # == is recorded, as are the other operators: see below

    def __neg__(self) -> Expr:
        return call("neg", self)

    def __invert__(self) -> Expr:
        return call("not", self)

    def __bool__(self) -> bool:
        raise DeclarationError(
            "an elementwise body cannot branch on a value with `if`, `and` or `or`; "
            "use scalar.where(condition, a, b)"
        )


def constant(value: float) -> Expr:
    """A number written into the kernel."""
    return Expr("const", value=float(value))


def call(fn: str, *args: Any) -> Expr:
    """Records fn(args); Python numbers become constants of the kernel's dtype."""
    exprs = tuple(a if isinstance(a, Expr) else constant(a) for a in args)
    is_bool = fn == "select" and exprs[1].is_bool and exprs[2].is_bool
    return Expr(fn, exprs, is_bool=is_bool)


def _operator(fn: str, turned: bool) -> Callable[[Any, Any], Expr]:
    def operator(self: Any, other: Any) -> Expr:
        return call(fn, other, self) if turned else call(fn, self, other)

    return operator


for _name in ("add", "sub", "mul", "truediv", "lt", "le", "gt", "ge", "eq", "ne", "and", "or"):
    setattr(Expr, f"__{_name}__", _operator(_name.removeprefix("true"), turned=False))
for _name in ("add", "sub", "mul", "truediv"):
    setattr(Expr, f"__r{_name}__", _operator(_name.removeprefix("true"), turned=True))


class Source(NamedTuple):
    """A kernel's text, the inputs it really reads, and its signature such as "bff->f"."""

    text: str
    inputs: tuple[str, ...]
    signature: str


def source(
    function: Callable[..., Any], names: Sequence[str], bools: Sequence[str] = ()
) -> Source | None:
    """Records `function` on inputs called `names` and prints it as kernel source.

    Returns None if the result is the first input, untouched (no kernel is needed for that).
    """
    inputs = [Expr("input", value=name, is_bool=name in bools) for name in names]
    results = function(*inputs)
    results = results if isinstance(results, tuple) else (results,)
    results = tuple(r if isinstance(r, Expr) else constant(r) for r in results)
    if len(results) == 1 and results[0] is inputs[0]:
        return None
    lines: list[str] = []
    counter = itertools.count()
    printer = Printer(lines, lambda: f"t{next(counter)}")
    returned = ", ".join(printer.name(r) for r in results)
    kept = tuple(n for n in names if n in printer.used)
    head = f"def element({', '.join(kept)}):"
    body = [f"    {line}" for line in lines]
    text = "\n".join([head, *body, f"    return {returned}", ""])
    kinds = "".join("b" if n in bools else "f" for n in kept)
    outs = "".join("b" if r.is_bool else "f" for r in results)
    return Source(text, kept, f"{kinds}->{outs}")


class Printer:
    """Prints records as lines `t0 = y * y`, each part once; equal parts of several records too."""

    def __init__(self, lines: list[str], fresh: Callable[[], str]):
        self.lines, self.fresh = lines, fresh
        self.printed: dict[Any, str] = {}  # key -> the name it goes by
        self.named: dict[int, str] = {}  # id of a visited Expr: a diamond is walked once
        self.kept: list[Expr] = []  # so that ids stay their own
        self.used: set[str] = set()

    def name(self, e: Expr) -> str:
        """What stands for e in the text, its lines being printed."""
        waiting = [e]  # no recursion: a step may be a chain of thousands of ops
        while waiting:
            here = waiting[-1]
            part = next((a for a in here.args if id(a) not in self.named), None)
            if part is not None:
                waiting.append(part)
                continue
            waiting.pop()
            if id(here) not in self.named:
                self.named[id(here)] = self._name(here)
                self.kept.append(here)
        return self.named[id(e)]

    def _name(self, e: Expr) -> str:
        if e.fn == "input":
            self.used.add(e.value)
            return str(e.value)
        if e.fn == "const":
            return _literal(e.value)
        args = [self.named[id(a)] for a in e.args]
        key = (e.fn, *args)
        if key not in self.printed:
            self.printed[key] = self.fresh()
            self.lines.append(f"{self.printed[key]} = {_format(e.fn, args)}")
        return self.printed[key]


def _literal(value: float) -> str:
    if math.isnan(value):
        return 'c("nan")'
    return f"c({value!r})" if math.isfinite(value) else f'c("{value}")'


def _format(fn: str, args: list[str]) -> str:
    if fn in _INFIX:
        return f"{args[0]} {_INFIX[fn]} {args[1]}"
    if fn == "neg":
        return f"-{args[0]}"
    if fn == "not":
        return f"~{args[0]}"
    return f"{fn}({', '.join(args)})"
