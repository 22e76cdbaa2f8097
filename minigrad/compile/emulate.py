"""The meaning of generated kernels without machine code: their text, run by Python.

Under NUMBA_DISABLE_JIT=1 the text that codegen.py writes is executed as it is; the names that it
imports stand for these functions, on addresses and NumPy vectors. Every access is checked against
the extent that the text declares. Slow, and meant for tests and debuggers.
"""

from __future__ import annotations

import ast
import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..kernels import plain
from .codegen import HEAD

Array = np.ndarray


class _Pointer(NamedTuple):
    """An address, and the bytes that may be touched from there."""

    at: int
    low: int
    high: int


class _Vec(NamedTuple):
    dtype: Any
    lanes: int


def _read(address: int, dtype: Any, count: int) -> Array:
    size = np.dtype(dtype).itemsize * count
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype)


def _reach(p: _Pointer, offset: int, size: int) -> int:
    begin = p.at + offset
    if size and not (p.low <= begin and begin + size <= p.high):
        raise IndexError(
            f"kernel: expected accesses inside bytes [{p.low - p.at}, {p.high - p.at}) of a "
            f"pointer, came [{offset}, {offset + size})."
        )
    return begin


def _names(real: Any) -> dict[str, Any]:
    """What a generated text may use, for one float dtype."""

    def extent(base: Any, low: int, high: int) -> _Pointer:
        at = base.at if isinstance(base, _Pointer) else base
        return _Pointer(at, at + low, at + high)

    def shift(p: Any, offset: int) -> Any:
        return p._replace(at=p.at + offset) if isinstance(p, _Pointer) else p + offset

    def matrix(p: _Pointer, rows: int, step: int, cols: int, col: int, size: int) -> _Pointer:
        if rows:
            _reach(p, 0, (rows - 1) * step + (cols - 1) * col + size)
        return p

    def ptr(p: Any) -> int:
        return p.at if isinstance(p, _Pointer) else int(p)

    def load(p: _Pointer, offset: int, kind: Any) -> Any:
        if isinstance(kind, _Vec):
            size = np.dtype(kind.dtype).itemsize * kind.lanes
            return _read(_reach(p, offset, size), kind.dtype, kind.lanes).copy()
        size = np.dtype(kind).itemsize
        return _read(_reach(p, offset, size), kind, 1)[0]

    def places(p: _Pointer, step: int, count: int, dtype: Any) -> Array:
        item = np.dtype(dtype).itemsize
        last = (count - 1) * step
        low = min(0, last)
        begin = _reach(p, low, abs(last) + item)
        flat = _read(begin, np.uint8, abs(last) + item)
        return np.lib.stride_tricks.as_strided(
            flat[-low : -low + item].view(dtype), (count,), (step,), writeable=True
        )

    def load_lanes(p: _Pointer, index: int, step: int, count: int, kind: _Vec) -> Array:
        result = np.zeros(kind.lanes, kind.dtype)
        here = min(count, kind.lanes)
        result[:here] = places(shift(p, index * step), step, here, kind.dtype)
        return result

    def store_lanes(p: _Pointer, index: int, step: int, count: int, value: Array) -> None:
        here = min(count, value.size)
        places(shift(p, index * step), step, here, value.dtype)[...] = value[:here]

    def store(p: _Pointer, offset: int, value: Array) -> None:
        _read(_reach(p, offset, value.nbytes), value.dtype, value.size)[...] = value

    def constant(kind: _Vec) -> Callable[[Any], Array]:
        return lambda number: np.full(kind.lanes, float(number), kind.dtype)

    def product(
        table: int, a: int, a_row: int, b: int, c: int, c_row: int,
        m: int, k: int, n: int, vectors: int, add: int,
    ) -> None:  # fmt: skip
        left = _strided(a, (m, k), a_row, real)
        out = _strided(c, (m, n), c_row, real)
        weight = _read(b, real, k * n).reshape(k, n)
        with np.errstate(all="ignore"):
            out[...] = out + left @ weight if add else left @ weight

    def fold(function: Any) -> Callable[[Array], Array]:
        return lambda x: np.full_like(x, function.reduce(x))

    return {
        **plain._NAMES,
        "extent": extent, "shift": shift, "matrix": matrix, "ptr": ptr, "load": load,
        "load_lanes": load_lanes, "store": store, "store_lanes": store_lanes,
        "constant": constant, "product": product, "least": min,
        "pick": lambda condition, a, b: a if condition else b,
        "Vec": lambda dtype, lanes: _Vec(dtype, lanes), "Mask": lambda lanes: _Vec(np.bool_, lanes),
        "spread": lambda x, kind: np.full(kind.lanes, x, kind.dtype),
        "spread_mask": lambda x, kind: np.full(kind.lanes, x != 0),
        "first_lanes": lambda count, kind: np.arange(kind.lanes) < count,
        "fold_sum": fold(np.add), "fold_max": fold(np.maximum), "fold_min": fold(np.minimum),
        "float32": np.float32, "float64": np.float64, "int8": np.int8,
    }  # fmt: skip


def _external(part: ast.stmt) -> bool:
    """Whether a line declares a C function: here it is Python's, under the same name."""
    call = part.value if isinstance(part, ast.Assign) else None
    return isinstance(call, ast.Call) and getattr(call.func, "id", "") == "external"


def _strided(address: int, shape: tuple[int, int], row: int, dtype: Any) -> Array:
    item = np.dtype(dtype).itemsize
    rows, cols = shape
    flat = _read(address, dtype, ((rows - 1) * row) // item + cols)
    return np.lib.stride_tricks.as_strided(flat, shape, (row, item), writeable=True)


def compile_plain(text: str, dtype: np.dtype) -> Callable[[Array], None]:
    """run(the words of the description) of a generated text, as Python."""
    names = _names(dtype.type)
    tree = ast.parse(text)
    given = (ast.Import, ast.ImportFrom)
    tree.body = [part for part in tree.body if not isinstance(part, given) and not _external(part)]
    exec(compile(tree, "<generated>", "exec"), names)

    def run(words: Array) -> None:
        d = words.tolist()
        with np.errstate(all="ignore"):
            for index in range(d[HEAD.index("shards")]):
                names["shard"](d, index)

    return run
