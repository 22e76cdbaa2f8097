"""What a trace cannot see by itself: a cell that does something else each time it is called.

A step is traced, not run at every t. So a cell that draws random numbers, counts its calls or looks
at the clock would mean one thing on the tape and another in the loop. It is traced twice when a
program is new, and both have to be the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import zip_longest
from types import FunctionType
from typing import Any

import numpy as np

from ..errors import TraceError
from .program import Value

_WARN_AT = 6  # programs that differ in a number only
_MOST = 256
_NUMBERS: dict[Any, set[Any]] = {}


def check_repeats(first: Any, second: Any, taps: dict[str, Value]) -> None:
    """Raises TraceError, naming the op, unless two traces of one cell are the same."""
    if first.key(taps) != second.key(
        {name: second.taps.get(name) or v for name, v in taps.items()}
    ):
        raise _differs(*_first_difference(first.trace.values, second.trace.values))
    for a, b in zip(first.trace.values, second.trace.values, strict=True):
        one, other = first.trace.tensors.get(a), second.trace.tensors.get(b)
        if one is other or one is None or other is None:
            continue
        x, y = one._array, other._array
        if x is y or (x.ctypes.data == y.ctypes.data and x.strides == y.strides):
            continue
        if not np.array_equal(x, y, equal_nan=x.dtype.kind == "f"):
            raise _differs(_reader(first.trace.values, a), "an array of other values", "")


def _differs(what: str, one: str, other: str) -> TraceError:
    came = f"{one}, then {other}" if other else one
    return TraceError(
        f"scan: the cell was traced twice, and {what} was not the same: {came}. A step is traced "
        f"once and not run at every t, so random numbers, counters and clocks mean something else "
        f"in it. Draw before the loop and pass it in xs (a cell of mg.nn.Recurrent does so by "
        f"draw(time, batch)), count in the state, or run this cell with mode='tape'."
    )


def _first_difference(first: Sequence[Value], second: Sequence[Value]) -> tuple[str, str, str]:
    for a, b in zip_longest(first, second):
        if a is None or b is None or a.key() != b.key():
            return _named(a or b), _shown(a), _shown(b)
    return "what it returns", "one value", "another"


def _named(v: Value) -> str:
    where = f" (scope {v.scope})" if v.scope else ""
    return f"{v.op.name if v.op else f'{v.role} {v.name}'.rstrip()}{where}"


def _shown(v: Value | None) -> str:
    if v is None:
        return "nothing"
    inputs = ", ".join([repr(i) for i in v.inputs] + [f"{k}={p}" for k, p in v.params.items()])
    return f"{v.op.name}({inputs})" if v.op else f"{v.role} {v.type()}"


def _reader(values: Sequence[Value], weight: Value) -> str:
    """What first reads a weight."""
    names = [weight]
    for v in values:
        if any(i is n for i in v.inputs for n in names):
            if v.op is not None:
                return f"what {_named(v)} reads"
            names.append(v)  # the weight with a row for each of the batch
    return weight.name or "what is computed ahead of the loop"


def warn_of_numbers(name: str, cell: Any, code: Any, values: Sequence[Value]) -> None:
    """Warns of a cell that was compiled again and again because a Python number in it changes."""
    keys = [v.key() for v in values]
    who = code if isinstance(cell, FunctionType) else id(cell)  # functions are often made anew
    form = (who, *[(k[:4], tuple([i for i in k[4] if type(i) is int]), k[5:]) for k in keys])
    numbers = tuple([i for k in keys for i in k[4] if type(i) is tuple])
    if not numbers:
        return
    if len(_NUMBERS) >= _MOST:
        _NUMBERS.clear()
    known = _NUMBERS.setdefault(form, set())
    known.add(numbers)
    if len(known) == _WARN_AT:
        rows = list(zip(*known, strict=True))
        shown = ", ".join(sorted({n for _, n in next(r for r in rows if len(set(r)) > 1)})[:4])
        warnings.warn(
            f"scan: {name} has been compiled {_WARN_AT} times for programs that differ in a Python "
            f"number alone ({shown}, ...), and every number is a kernel of its own. Pass it as a "
            f"Tensor, mg.tensor(number) that the cell reads, or in xs.",
            stacklevel=5,
        )
