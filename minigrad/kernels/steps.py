"""Numba side: what the loops of a compiled step need beside simd.py: numbers to vectors and back.

    spread(number, V)        a vector of equal numbers
    spread_mask(byte, B)     a mask of equal truth values
    first_lanes(5, B)        a mask of the first five (a literal) lanes
    fold_sum(x)              the sum of all lanes, in every lane; fold_max and fold_min alike

Lanes are folded in halves, so that the order of a sum is the same on every machine of one width.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from minigrad.kernels import simd
from minigrad.kernels.simd import Vec, splat
from minigrad.kernels.values import I1, I8, I32, Value


@intrinsic
def spread(typing, number, kind):
    """A vector of `kind` with `number` in every lane."""
    vector = kind.instance_type

    def generate(context, builder, signature, args):
        return splat(builder, args[0], vector.lanes)

    return vector(number, kind), generate


@intrinsic
def spread_mask(typing, byte, kind):
    """A mask of `kind`, all true where the byte is not 0."""
    mask = kind.instance_type

    def generate(context, builder, signature, args):
        return splat(builder, builder.icmp_unsigned("!=", args[0], I8(0)), mask.lanes)

    return mask(byte, kind), generate


@intrinsic
def first_lanes(typing, count, kind):
    """A mask of `kind`, true in the first `count` (a literal) lanes."""
    mask = kind.instance_type
    if not isinstance(count, types.IntegerLiteral):
        raise TypingError("first_lanes: the count must be a literal")

    def generate(context, builder, signature, args):
        lanes = [int(i < count.literal_value) for i in range(mask.lanes)]
        return ir.Constant(ir.VectorType(I1, mask.lanes), lanes)

    return mask(count, kind), generate


def _fold(join):
    @intrinsic
    def fold(typing, x):
        if not isinstance(x, Vec):
            raise TypingError(f"expected a Vec, came {x}")

        def generate(context, builder, signature, args):
            folded = args[0]
            while folded.type.count > 1:
                half = folded.type.count // 2
                kind = ir.VectorType(I32, half)
                low, high = (
                    builder.shuffle_vector(folded, folded, ir.Constant(kind, list(lanes)))
                    for lanes in (range(half), range(half, 2 * half))
                )
                folded = join(Value(builder, low), Value(builder, high)).raw
            return splat(builder, builder.extract_element(folded, I32(0)), x.lanes)

        return x(x), generate

    return fold


fold_sum = _fold(lambda a, b: a + b)
fold_max = _fold(simd.maximum)
fold_min = _fold(simd.minimum)

__all__ = ["first_lanes", "fold_max", "fold_min", "fold_sum", "spread", "spread_mask"]
