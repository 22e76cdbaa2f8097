"""The matrix product: `matmul(a, b)`, and the pieces that compiled loops build on.

Products run through tiles of c that are held in vector registers: microkernel.py has the tiles,
gemm.py how a block of c is made of them, blocks.py which blocks a product has. The shape of a tile
follows the CPU.

For a compiled loop that multiplies by the same matrix many times (a recurrence): `packing` once,
then `product` of steps.py with the address `table(dtype)`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from minigrad.errors import DTypeError, ShapeError, describe
from minigrad.kernels import arena, jit, threads
from minigrad.kernels.compiler import Kernel, build, build_from, takes
from minigrad.kernels.ufuncs import LOOP, ufunc

Array = np.ndarray

_LARGE = 1 << 17  # elements of a result whose memory is worth keeping: see arena.py

# The pieces that all products are made of, and what `matmul` makes of them.
_PIECES = {"column": takes(14), "move": takes(10), "pack": takes(9), "multiply": takes(16)}
_MATMUL = """\
from numba import REAL
from minigrad.kernels import blocks, gemm

def block(words, index):
    gemm.block(words + index * 8 * gemm.WORDS, REAL)

def matmul(context, args, dims, steps, auxiliary):
    blocks.matmul(args, dims, steps, REAL)
    return 0
"""


@cache
def _gemm(dtype: np.dtype) -> Kernel:
    return build_from("gemm", "gemm", _PIECES, dtype)


@cache
def _table(dtype: np.dtype) -> Array:
    """Addresses for kernels of an element type, in the order of gemm.py; two come later."""
    links, pieces = threads.links(), [0] * 4
    if jit.mode() == "native":  # else they are not called by address
        pieces = [_gemm(dtype)[name] for name in _PIECES]
    pool = links["minigrad_parallel_for"], links["minigrad_thread_count"]
    # For good also where two threads make one at once: kernels know the address of either.
    return jit.for_good(np.array([*pieces, 0, 0, *pool], np.int64))


_BLOCK, _PRODUCT = 4, 5  # what comes later


@cache
def _product(dtype: np.dtype) -> int:
    """What compiled loops call."""
    return build_from("product", "panels", {"product": takes(11)}, dtype)["product"]


def table(dtype: Any) -> int:
    """The address that kernels hand to `product`; 0 under NUMBA_DISABLE_JIT=1."""
    if jit.mode() == "plain":
        return 0
    dtype = np.dtype(dtype)
    addresses = _table(dtype)
    addresses[_PRODUCT] = _product(dtype)
    return int(addresses.ctypes.data)


def panel_vectors(rows: int) -> int:
    """How many vectors wide panels should be for products with so many rows."""
    from minigrad.kernels import panels  # imports Numba

    return panels.panel_vectors(rows)


class Panels(NamedTuple):
    """What `pack` is told of a factor (k, n) beside addresses: where panels of it lie.

    nbytes: of all panels. step: from one to the next. width: columns of one.
    """

    nbytes: int
    step: int
    width: int


def panels_of(shape: tuple[int, ...], dtype: np.dtype, vectors: int) -> Panels:
    """The panels of a factor, `vectors` vectors wide."""
    k, n = shape
    if jit.mode() == "plain":
        return Panels(k * n * dtype.itemsize, 0, n)
    from minigrad.kernels.gemm import REGISTER

    width = vectors * REGISTER // dtype.itemsize
    return Panels(-(-n // width) * width * k * dtype.itemsize, k * vectors * REGISTER, width)


def packing(dtype: np.dtype) -> tuple[Callable[..., None], int]:
    """(pack, table): pack(table, to, step, width, b, b_row, b_col, k, n) fills the panels that
    `product` wants with b (k, n), which lies at the address b with strides in bytes.
    """
    if jit.mode() == "plain":
        return partial(_plain_pack, dtype), 0
    return _gemm(dtype).function("pack"), int(_table(dtype).ctypes.data)


def _plain_pack(
    dtype: np.dtype, table: int, to: int, step: int, width: int, b: int, b_row: int, b_col: int,
    k: int, n: int,
) -> None:  # fmt: skip
    from minigrad.kernels.intrinsics import array

    least = b + min(0, b_row) * (k - 1) + min(0, b_col) * (n - 1)  # flipped axes run downwards
    most = b + max(0, b_row) * (k - 1) + max(0, b_col) * (n - 1) + dtype.itemsize
    memory = array(least, most - least, "uint8")
    factor = np.ndarray((k, n), dtype, memory, b - least, (b_row, b_col))
    array(to, (k, n), dtype.name)[...] = factor


def _gufunc(dtype: np.dtype) -> Callable[..., Array]:
    """(m?,k),(k,n?)->(m?,n?)"""
    addresses = _table(dtype)
    text = _MATMUL.replace("REAL", dtype.name)
    kernel = build("matmul", text, {"block": takes(2), "matmul": LOOP})
    loop = kernel.function("matmul")
    addresses[_BLOCK] = kernel["block"] if jit.mode() == "native" else 0
    loop(0, addresses.ctypes.data, 0, 0, 0)  # not before: another thread may be in there already
    if jit.mode() == "checked":
        return partial(_checked, loop)
    types = f"{dtype.char}{dtype.char}->{dtype.char}"
    return ufunc("matmul", kernel["matmul"], types, "(m?,k),(k,n?)->(m?,n?)")


_products: dict[np.dtype, Callable[..., Array]] = {}  # by dtype, made with its first product


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """y[..., i, j] = sum_k a[..., i, k] b[..., k, j], (..., m, k) @ (..., k, n) -> (..., m, n).

    Leading axes broadcast, and a 1-D side is one row or column, as in NumPy. Any strides; the
    dtype is float32 or float64, the same on both sides. A row of y has the same bits whatever the
    number of rows and of threads.
    Raises ShapeError if the shapes do not fit, DTypeError for other or different dtypes.

    >>> matmul(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]))
    array([[11.]])
    """
    try:
        if out is None:
            if a.size * b.size < _LARGE or not _gives_much(a, b):
                return _products[a.dtype](a, b)
            return _products[a.dtype](a, b, arena.empty((len(a), b.shape[1]), a.dtype))
        # NumPy makes room for factors that overlap with the result, but not for the same array.
        a, b = (x.copy() if np.may_share_memory(x, out) else x for x in (a, b))
        return _products[a.dtype](a, b, out)
    except KeyError:
        product(a.dtype)
        return matmul(a, b, out)
    except TypeError:
        raise DTypeError(
            f"matmul: expected float32 or float64, the same on both sides, came {describe(a)} @ "
            f"{describe(b)}; convert one to the other."
        ) from None
    except ValueError as error:
        raise ShapeError(f"matmul: {describe(a)} @ {describe(b)} does not fit: {error}.") from None


def product(dtype: np.dtype) -> Callable[..., Array]:
    """(a, b, out) -> out = a @ b, for arrays of one dtype that fit and do not overlap."""
    if dtype not in _products:
        if dtype.char not in "fd":
            raise DTypeError(
                f"matmul: expected float32 or float64, came {dtype}; convert it first."
            )
        _products[dtype] = _plain if jit.mode() == "plain" else _gufunc(dtype)
    return _products[dtype]


def _gives_much(a: Array, b: Array) -> bool:
    """Whether the result of two matrices is large."""
    fits = a.ndim == 2 == b.ndim and a.shape[1] == len(b)
    return fits and len(a) * b.shape[1] >= _LARGE


def _checked(loop: Callable[..., Any], a: Array, b: Array, out: Array | None = None) -> Array:
    """What the gufunc does, by Python: from here an IndexError of the loop reaches the caller."""
    y = np.asarray(_plain(a, b, out))  # for its shape, and for NumPy's errors
    y.fill(np.nan)
    left, right = np.atleast_2d(a), b[:, None] if b.ndim == 1 else b
    lead = y.shape[: y.ndim - (a.ndim > 1) - (b.ndim > 1)]
    (m, k), n = left.shape[-2:], right.shape[-1]
    left, right = (np.broadcast_to(x, (*lead, *x.shape[-2:])) for x in (left, right))
    target = y.reshape(*lead, m, n)
    for item in np.ndindex(lead):
        three = left[item], right[item], target[item]
        words = [x.ctypes.data for x in three], [1, m, k, n], [0, 0, 0]
        words[2].extend(step for x in three for step in x.strides)
        args, dims, steps = (np.array(part, np.int64) for part in words)
        loop(0, args.ctypes.data, dims.ctypes.data, steps.ctypes.data, 0)
    return y if y.ndim else y[()]


def _plain(a: Array, b: Array, out: Array | None = None) -> Array:
    if a.dtype != b.dtype:
        raise TypeError
    with np.errstate(all="ignore"):
        return np.matmul(a, b, out)
