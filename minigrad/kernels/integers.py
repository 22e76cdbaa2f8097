"""Numba side: arithmetic of whole numbers that compiles fast, for kernel sources.

    pick(condition, x, y)     x if condition else y, with both evaluated
    least(x, y)               min(x, y)
    up(x, y)                  x / y rounded up, for x >= 0 and y > 0
    write_words(p, x, ...)    one after the other, as 64-bit words, at a `ptr`

Numba takes 3 ms for every `x if condition else y` and 8 ms for one with an `and` in it, as they are
branches to it, but 0.4 ms for `pick`; and a conjunction of truth values by `&` costs it 1 ms.
"""

# mypy: ignore-errors

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@intrinsic
def pick(typing, condition, x, y):
    """x if condition else y."""

    def generate(context, builder, signature, args):
        return builder.select(*args)

    return types.int64(types.boolean, types.int64, types.int64), generate


@intrinsic
def least(typing, x, y):
    """The smaller of two."""

    def generate(context, builder, signature, args):
        return builder.select(builder.icmp_signed("<", *args), *args)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def up(typing, x, y):
    """x / y rounded up: one division, where Python's -(-x // y) has to mind all signs."""

    def generate(context, builder, signature, args):
        x, y = args
        return builder.udiv(builder.add(x, builder.sub(y, y.type(1))), y)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def write_words(typing, p, *words):
    """Write numbers one after the other."""
    if len(words) == 1 and isinstance(words[0], types.BaseTuple):
        words = words[0].types  # Numba asks again, with the tuple that it made of them

    def generate(context, builder, signature, args):
        for i, word in enumerate(cgutils.unpack_tuple(builder, args[1])):
            place = builder.gep(args[0], [ir.IntType(64)(8 * i)], source_etype=ir.IntType(8))
            builder.store(word, builder.bitcast(place, word.type.as_pointer()))
        return context.get_dummy_value()

    kinds = types.StarArgTuple.from_types([types.int64] * len(words))
    return types.void(types.voidptr, kinds), generate
