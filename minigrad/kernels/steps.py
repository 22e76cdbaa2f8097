"""What the kernels of compiled steps are written with, beside intrinsics.py and vectormath.py.

    words(d, 11)                 the first 11 words of a description, as a tuple
    word(d, 11)                  the word after them
    rows(a, t, b, m)             m rows of a (T, B, H) array, from a[t, b] on, as a (m, H) array
    product(table, x, w, y, wide, add)    y = x @ w, or y += x @ w, by the compiled product

and those of which a step is divided among threads:

    split(n, grain, index, parts)         the range that part `index` has of n, as (low, high)
    columns(table, x, w, y, wide, add, index, parts)    the columns of a product that it has

A description is the block of 64-bit words, sizes and addresses, that a kernel is called with.
"""

# mypy: ignore-errors

from __future__ import annotations

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils

from minigrad.kernels.gemm import PRODUCT, REGISTER
from minigrad.kernels.intrinsics import (
    PLAIN,
    _native,
    array,
    contiguous,
    in_each_mode,
    inner,
    places,
    words,
)

_I64 = ir.IntType(64)


@_native(lambda d, i: int(array(d, i + 1, "int64")[i]))
def word(typing, d, i):
    """Word i of a description."""

    def generate(context, builder, signature, args):
        start = builder.inttoptr(args[0], _I64.as_pointer())
        return builder.load(builder.gep(start, [args[1]]))

    return types.int64(types.int64, types.int64), generate


def _rows(typing, a, *index):
    """As many rows as the last number says, from a[the others] on, counted through all axes."""
    if index and isinstance(index[0], types.BaseTuple):
        index = index[0].types  # Numba asks again, with the tuple that it made of them
    kind = types.Array(a.dtype, 2, "C")

    def generate(context, builder, signature, args):
        *at, many = cgutils.unpack_tuple(builder, args[1])
        place, (columns,) = places(context, builder, a, args[0], at)
        return contiguous(context, builder, kind, place, [many, columns])

    return kind(a, types.StarArgTuple.from_types([types.intp] * len(index))), generate


def _checked_rows(a, *index):
    first = 0
    for k in range(len(index) - 1):
        first = first * a.shape[k] + index[k]
    flat = a.reshape((-1, a.shape[-1]))
    last = first + index[-1]
    if first < 0 or last > flat.shape[0]:
        raise IndexError("rows outside of their array")
    return flat[first:last]


rows = in_each_mode(_rows, _checked_rows)


def _plain_product(table, x, w, y, wide, add):
    weight = array(w, (x.shape[1], y.shape[1]), x.dtype)
    y[...] = y + x @ weight if add else x @ weight


@_native(_plain_product)
def product(typing, table, x, w, y, wide, add):
    """y = x @ w, or y += x @ w.

    table: the addresses of products (`matmul.table`). w: that of the packed panels. x (m, k) and
    y (m, n) have contiguous rows. wide: how many vectors wide the panels are.
    """

    def generate(context, builder, signature, args):
        table, x_value, w, y_value, wide, add = args
        x_fields, y_fields = (
            cgutils.create_struct_proxy(kind)(context, builder, value=value)
            for kind, value in ((x, x_value), (y, y_value))
        )
        m, k = cgutils.unpack_tuple(builder, x_fields.shape)
        _, n = cgutils.unpack_tuple(builder, y_fields.shape)
        x_place, y_place = (builder.ptrtoint(a.data, _I64) for a in (x_fields, y_fields))
        x_row, y_row = (builder.extract_value(a.strides, 0) for a in (x_fields, y_fields))
        addresses = builder.inttoptr(table, _I64.as_pointer())
        f = builder.load(builder.gep(addresses, [_I64(PRODUCT)]))
        numbers = [table, x_place, x_row, w, y_place, y_row, m, k, n, wide, add]
        form = ir.FunctionType(ir.VoidType(), [_I64] * len(numbers))
        builder.call(builder.inttoptr(f, form.as_pointer()), numbers)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(i64, x, i64, y, i64, i64), generate


@njit(**inner)
def split(n, grain, index, parts):
    """Of 0 to n - 1 what part `index` has: low to high - 1, bounds being multiples of grain."""
    grains = (n + grain - 1) // grain
    low, high = grains * index // parts * grain, grains * (index + 1) // parts * grain
    return min(low, n), min(high, n)


def _columns(table, x, w, y, wide, add, index, parts):
    """y = x @ w, or y += x @ w, in the columns of some of the panels: those of part `index`."""
    low, high = split(y.shape[1], wide * REGISTER // y.itemsize, index, parts)
    if low < high:
        product(table, x, w + low * x.shape[1] * y.itemsize, y[:, low:high], wide, add)


def _plain_columns(table, x, w, y, wide, add, index, parts):
    low, high = split(y.shape[1], 1, index, parts)
    weight, part = array(w, (x.shape[1], y.shape[1]), x.dtype)[:, low:high], y[:, low:high]
    part[...] = part + x @ weight if add else x @ weight


columns = _plain_columns if PLAIN else njit(**inner)(_columns)


__all__ = ["columns", "product", "rows", "split", "word", "words"]
