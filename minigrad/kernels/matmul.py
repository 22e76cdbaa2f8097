"""The matrix product: `matmul(a, b)`, and the pieces that compiled loops build on.

Products run through tiles of c that are held in vector registers: microkernel.py has the tiles,
gemm.py how a block of c is made of them, product.py which blocks a product has. The shape of a tile
follows the CPU.

For a compiled loop that multiplies by the same matrix many times (a recurrence), the C functions of
`panels(dtype)` do it by address: `pack_panels` once, then `product` (panels.py).
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minigrad.errors import DTypeError, ShapeError, describe
from minigrad.kernels import arena, host, jit, threads
from minigrad.kernels.ufunc import ufunc

Array = np.ndarray


class Tile(NamedTuple):
    """A block of c: `rows` x `vectors` accumulators, each a register of `lanes` numbers."""

    rows: int
    vectors: int
    lanes: int
    itemsize: int

    @property
    def width(self) -> int:
        """Columns of a packed panel."""
        return self.vectors * self.lanes


def tile(dtype: Any) -> Tile:
    """The tile for this CPU: most accumulators that leave registers for a row of b."""
    itemsize = np.dtype(dtype).itemsize
    arm = platform.machine() in ("arm64", "aarch64")
    registers = 32 if arm or host.vector_bits() == 512 else 16
    return Tile(12 if registers == 32 else 6, 2, host.lanes(itemsize), itemsize)


_LARGE = 1 << 17  # elements of a result whose memory is worth keeping: see arena.py
_DEPTH = {4: 384, 8: 256}  # of a panel: the sum over k is cut there, so bits depend on it

_MICROKERNEL = {
    "column": "void(ptr, i64, i64, ptr, i64, ptr, i64, i64, i64, i64, i64, i64)",
    "transpose4": "void(ptr, i64, i64, ptr, i64, i64, i64, i64)",
    "transpose": "void(ptr, i64, i64, ptr, i64, i64, i64, i64)",
    "spread": "void(ptr, i64, ptr, i64, i64)",
    "take": "void(ptr, ptr, i64, i64, i64)",
}
_GEMM = {
    "move": "void(ptr, i64, i64, ptr, i64, i64, i64, i64, i64)",
    "pack": "void(ptr, i64, ptr, i64, i64, i64, i64)",
    "block": "void(i64*, i64)",
    "matmul": jit.LOOP,
}


def kernels(shape: Tile) -> tuple[jit.Kernel, jit.Kernel]:
    """The compiled (microkernel.py, gemm.py) for a tile."""
    here, constants = Path(__file__).parent, {k.upper(): v for k, v in shape._asdict().items()}
    micro = jit.build("microkernel", jit.source(here / "microkernel.py", **constants), _MICROKERNEL)
    links = {f"minigrad_{name}": micro[name] for name in _MICROKERNEL} | threads.links()
    text = jit.source(here / "gemm.py", DEPTH=_DEPTH[shape.itemsize], **constants)
    text += jit.source(here / "product.py")
    return micro, jit.build("gemm", text, _GEMM, links)


_PANELS = {
    "pack_panels": "void(ptr, ptr, i64, i64, i64, i64, i64)",
    "product": "void(ptr, i64, ptr, ptr, i64, i64, i64, i64, i64, i64)",
}


@cache
def panels(dtype: Any) -> jit.Kernel:
    """The compiled panels.py, for loops that multiply by one matrix many times."""
    shape = tile(dtype)
    micro, gemm = kernels(shape)
    constants = {k.upper(): v for k, v in shape._asdict().items()}
    text = jit.source(
        Path(__file__).with_name("panels.py"), DEPTH=_DEPTH[shape.itemsize], **constants
    )
    links = {"minigrad_column": micro["column"], "minigrad_move": gemm["move"]}
    return jit.build("panels", text, _PANELS, links)


def panel_vectors(shape: Tile, rows: int) -> int:
    """How many vectors wide panels should be for products with so many rows."""
    most = shape.rows * shape.vectors
    return next((v for v in (8, 4) if rows * v <= most), shape.vectors)


def product(shape: Tile) -> Callable[..., Array]:
    """The gufunc for one shape of tile."""
    char = {4: "f", 8: "d"}[shape.itemsize]
    address = kernels(shape)[1]["matmul"]
    return ufunc("matmul", address, f"{char}{char}->{char}", "(m?,k),(k,n?)->(m?,n?)")


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
            if a.ndim == b.ndim == 2 and len(a) * b.shape[1] >= _LARGE and a.shape[1] == len(b):
                return _products[a.dtype](a, b, arena.empty((len(a), b.shape[1]), a.dtype))
            return _products[a.dtype](a, b)
        # NumPy makes room for factors that overlap with the result, but not for the same array.
        a, b = (x.copy() if np.may_share_memory(x, out) else x for x in (a, b))
        return _products[a.dtype](a, b, out)
    except KeyError:
        _products[a.dtype] = _product(a.dtype)
        return matmul(a, b, out)
    except TypeError:
        raise DTypeError(
            f"matmul: expected float32 or float64, the same on both sides, came {describe(a)} @ "
            f"{describe(b)}; convert one to the other."
        ) from None
    except ValueError as error:
        raise ShapeError(f"matmul: {describe(a)} @ {describe(b)} does not fit: {error}.") from None


def _product(dtype: np.dtype) -> Callable[..., Array]:
    if dtype.char not in "fd":
        raise DTypeError(f"matmul: expected float32 or float64, came {dtype}; convert it first.")
    return _plain if jit.mode() == "plain" else product(tile(dtype))


def _plain(a: Array, b: Array, out: Array | None = None) -> Array:
    if a.dtype != b.dtype:
        raise TypeError
    with np.errstate(all="ignore"):
        return np.matmul(a, b, out)
