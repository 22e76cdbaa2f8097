"""What a recording notes: a step of it, the memory that steps read and write, and their lines."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..op import Op

Array = np.ndarray
_LIBRARY = str(Path(copy.__file__).parent)
_PACKAGE = str(Path(__file__).parent.parent)


@dataclass
class Step:
    """What ran once, and what to run again.

    what: "op", "loop" (of a scan), "update", "copy", "edit", "check", ... name, params: of the op.
    inputs, outputs: arrays. calls: what recomputes the outputs in place, where that is known;
    again: the same as a function of Python; faster: gives calls that do that, where there are any.
    owner: keeps what calls know by its address. where: the line.
    """

    what: str
    name: str
    inputs: list[Array]
    outputs: list[Array]
    params: dict[str, Any] = field(default_factory=dict)
    op: Op | None = None
    again: Callable[[], Any] | None = None
    faster: Callable[[], list[Any]] | None = None
    where: str = ""
    owner: Any = None
    calls: list[Any] = field(default_factory=list)

    @property
    def elementwise(self) -> bool:
        """Whether it is an op of one element each, on floats or masks."""
        return self.op is not None and self.op.kind == "elementwise"

    @property
    def arrays(self) -> list[Array]:
        """The arrays among its parameters; what it writes, too, if it writes into what is there."""
        return list(arrays_in(self.params)) + (self.outputs if self.op is None else [])


class Root(NamedTuple):
    """Memory: the array that owns it, its kind, which one of these, and where values begin."""

    owner: Array
    kind: str
    which: int
    start: int


def mapped(function: Callable[[Array], Array], value: Any) -> Any:
    """A parameter with function(array) for the arrays in it."""
    if isinstance(value, np.ndarray):
        return function(value)
    if type(value) in (tuple, list):
        return type(value)([mapped(function, v) for v in value])
    return value


def arrays_in(value: Any) -> Iterator[Array]:
    """The arrays in the parameters of an op."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, dict):
        yield from arrays_in(list(value.values()))
    elif isinstance(value, (tuple, list)):
        for v in value:
            yield from arrays_in(v)


def line() -> str:
    """file:number of the innermost line outside of minigrad, Python's library and packages."""
    frame = found = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        file = frame.f_code.co_filename
        if found.f_code.co_filename.startswith(_PACKAGE):
            found = frame
        if not file.startswith((_PACKAGE, _LIBRARY)) and "site-packages" not in file:
            found = frame
            break
    return f"{Path(found.f_code.co_filename).name}:{found.f_lineno}"
