"""An elementwise formula over the arrays of many tensors, in one call and in place.

    >>> descent = Formula("x = x - rate * g", ("x", "g"), ("rate",))
    >>> x, g = np.ones(3), np.array([1.0, 2.0, 4.0])
    >>> table = Table(descent, rows=1)
    >>> table.place(0, [x, g])
    >>> table.numbers[0] = 0.25
    >>> table.run()
    >>> x
    array([0.75, 0.5 , 0.  ])

A row of the table is a tensor of float32 or float64: the arrays that the formula names, and
numbers, which are rounded to their dtype, as NumPy does with Python's. Each operation is rounded by
itself, so the bits are NumPy's. Under NUMBA_DISABLE_JIT=1 the formula runs on whole arrays.

A table knows addresses, not arrays: who places arrays keeps them alive, and sees to it that what is
written overlaps with nothing else.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from minigrad.kernels import arena, jit, threads
from minigrad.kernels.compiler import Kernel, build

Array = np.ndarray

_FUNCTIONS = ("maximum", "minimum", "select", "sqrt")  # of vectormath.py, what formulas may call


class Formula(NamedTuple):
    """Lines `name = expression`; the arrays among these names are written.

    Expressions have + - * / comparisons, c(0.5) for literals, maximum, minimum, sqrt and
    select(condition, a, b).
    """

    lines: str
    arrays: tuple[str, ...]
    numbers: tuple[str, ...]

    def written(self) -> list[str]:
        targets = set(re.findall(r"^(\w+) =", self.lines, re.MULTILINE))
        return [name for name in self.arrays if name in targets]


class Table:
    """Rows of arrays for a formula. numbers: (rows, numbers of the formula), float64.

    `run()` is `function(*arguments)`, for who keeps the table and calls that often.
    """

    def __init__(self, formula: Formula, rows: int):
        layout = _layout()
        self.formula = formula
        self.head, self.width = layout.HEAD, layout.LOOP + 1 + len(formula.arrays)
        self.second = self.head + layout.LOOP + 2  # the word of the first row's second array
        self.numbers = np.zeros((rows, len(formula.numbers)))
        self.words = np.zeros(self.head + rows * self.width, np.int64)
        self.words[: self.head] = head(rows, self.width)
        self.address = arena.address(self.words)
        native = jit.mode() == "native"
        self.function: Callable[..., None] = (
            _driver().function("drive") if native else self._by_hand
        )
        self.arguments: tuple[int, ...] = (self.address,) if native else ()

    def place(self, row: int, arrays: Sequence[Array], turned: bool = False) -> None:
        """The arrays of a row, of one shape and dtype, dense, and in one order in memory.

        turned: but the second, a gradient, whose order is that of the transposed matrix.
        """
        x = arrays[0]
        tall = (x.shape[0] if x.flags.c_contiguous else x.shape[1]) if turned else 0
        loop = _kernel(self.formula, x.dtype)["blocks"] if jit.mode() == "native" else x.itemsize
        at = self.head + row * self.width
        self.words[at : at + self.width] = [
            _layout().count(x.size, tall), x.size, tall, arena.address(self.numbers[row]), loop,
            *map(arena.address, arrays),
        ]  # fmt: skip

    def clear(self, row: int) -> None:
        """A row with nothing to do."""
        self.words[self.head + row * self.width] = 0

    def run(self) -> None:
        self.function(*self.arguments)

    def _by_hand(self) -> None:
        """Row by row: checked, or by NumPy on whole arrays."""
        layout = _layout()
        for row, numbers in enumerate(self.numbers):
            at = self.head + row * self.width
            blocks, size, tall, _, itemsize, *places = self.words[at : at + self.width].tolist()
            if not blocks:
                continue
            dtype = np.dtype(f"f{itemsize}")
            if jit.mode() == "checked":
                start = self.address + 8 * at
                _kernel(self.formula, dtype).function("blocks")(start, 0, blocks)
                continue
            arrays = [layout.array(place, size, dtype) for place in places]
            if tall:
                arrays[1] = arrays[1].reshape(-1, tall).T.ravel()
            _evaluate(self.formula, dtype, arrays, numbers)


@cache
def _layout() -> Any:
    """The module of the compiled driver: it needs Numba, which `import minigrad` does without."""
    from minigrad.kernels import tables

    return tables


@cache
def _driver() -> Kernel:
    """The compiled functions of tables.py."""
    text = """\
from minigrad.kernels import tables


def drive(table):
    tables.drive(table)


def share(table, index):
    tables.share(table, index)
"""
    return build("tables", text, {"drive": "void(int64)", "share": "void(int64, int64)"})


def head(rows: int, width: int, result: int = 0, partials: int = 0, sums: int = 0) -> list[int]:
    """The first words of a table."""
    return [*_links(), rows, width, 0, 0, 0, result, partials, sums]


@cache
def _links() -> tuple[int, int, int]:
    """What the driver calls and reads."""
    if jit.mode() == "plain":
        return 0, 0, 0
    pool = threads.links()
    return _driver()["share"], pool["minigrad_parallel_for"], pool["minigrad_thread_count"]


def _evaluate(formula: Formula, dtype: np.dtype, arrays: Sequence[Array], numbers: Array) -> None:
    """The formula on whole arrays."""
    from minigrad.kernels import vectormath

    known: dict[str, Any] = {name: getattr(vectormath, name) for name in _FUNCTIONS}
    known["c"] = dtype.type
    known.update(zip(formula.arrays, arrays, strict=True))
    known.update(zip(formula.numbers, numbers.astype(dtype), strict=True))
    with np.errstate(all="ignore"):  # as compiled loops do: Inf and NaN pass without a warning
        exec(_compiled(formula.lines), known)
    for name in formula.written():
        arrays[formula.arrays.index(name)][...] = known[name]


@cache
def _compiled(lines: str) -> Any:
    return compile(lines, "<formula>", "exec")


_TEXT = '''\
"""For each element of many tensors:

{indented}
"""

from numba import {dtype}, float64, int64, njit

from minigrad.kernels.intrinsics import array, inner, simd, stack, wide
from minigrad.kernels.microkernel import address
from minigrad.kernels.tables import BLOCK, LOOP, NUMBERS, ROOM, SIZE, STEP, TALL, turn
from minigrad.kernels.vectormath import {functions}

c = {dtype}  # numbers have the dtype of the arrays


@njit(**inner)
def elements({parameters}):
    simd()
    for _i in range(_{first}.size):
        {arrays} = {elements}
{body}
{stores}


def blocks(_row, _begin, _end):
    """Some blocks of one tensor; a block of a transposed gradient is turned first."""
    wide()
    _words = array(_row, LOOP + {words}, int64)
    _numbers = array(_words[NUMBERS], {count}, float64)
{numbers}
    _size, _tall = _words[SIZE], _words[TALL]
    _room = stack(ROOM, {dtype})
    for _block in range(_begin, _end):
        _start, _rows, _wide = _block * BLOCK, 1, 0
        _columns, _turned = min(BLOCK, _size - _start), _words[LOOP + {gradient}] + _start * {item}
        if _tall:
            _start, _rows, _columns, _wide = turn(
                _room, _words[LOOP + {gradient}], _size, _tall, _block, {item}, {dtype}
            )
            _turned = address(array(_room, ROOM, {dtype}))
        for _k in range(_rows):
            _at = (_start + _k * _wide) * {item}
            elements({arguments})
'''


@cache
def _kernel(formula: Formula, dtype: np.dtype) -> Kernel:
    """The loop over blocks of one dtype."""
    names, numbers, item = formula.arrays, formula.numbers, dtype.itemsize
    addresses = [f"_words[LOOP + {k + 1}] + _at" for k in range(len(names))]
    gradient = min(2, len(names))  # the second array may lie transposed
    addresses[gradient - 1] = f"_turned + _k * STEP * {item}"
    called = set(re.findall(r"\w+", formula.lines)) & set(_FUNCTIONS)
    text = _TEXT.format(
        dtype=dtype.name,
        item=item,
        gradient=gradient,
        indented=textwrap.indent(formula.lines, "    "),
        functions=", ".join(sorted(called)) or "sqrt",
        first=names[0],
        parameters=", ".join([*(f"_{name}" for name in names), *numbers]),
        arrays=", ".join(names),
        elements=", ".join(f"_{name}[_i]" for name in names),
        body=textwrap.indent(formula.lines, " " * 8),
        stores="\n".join(f"        _{name}[_i] = {name}" for name in formula.written()),
        words=1 + len(names),
        count=len(numbers),
        numbers="\n".join(f"    {name} = c(_numbers[{k}])" for k, name in enumerate(numbers)),
        arguments=", ".join(
            [*(f"array({place}, _columns, {dtype.name})" for place in addresses), *numbers]
        ),
    )
    return build(
        "foreach",
        text,
        {"blocks": "void(int64, int64, int64)"},
        title="a step over all parameters",
    )
