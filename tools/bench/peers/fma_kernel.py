"""The text of a kernel: spin(out, index), chains of fused multiply-adds in registers.

x <- x / 2 + 1 / 2, TURNS times, for CHAINS vectors that are read from row `index` of out and put
back there. What they begin with is not known to LLVM, so it can leave none out.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minigrad.kernels import host

CHAINS = 12  # a unit starts one a cycle or two, and each takes about four
TURNS = 100_000
LANES = host.lanes(4)
I64 = ir.IntType(64)


@intrinsic
def turn(typing, p):
    """The chains of the row at p."""

    def generate(context, builder, signature, args):
        vector = ir.VectorType(ir.FloatType(), LANES)
        form = ir.FunctionType(vector, [vector] * 3)
        fma = cgutils.get_or_insert_function(builder.module, form, f"llvm.fmuladd.v{LANES}f32")
        start = builder.inttoptr(args[0], vector.as_pointer())
        places = [builder.gep(start, [I64(i)]) for i in range(CHAINS)]
        firsts = [builder.load(place) for place in places]
        for first in firsts:
            first.align = 4
        half = vector([0.5] * LANES)
        entry = builder.block
        body, after = (builder.append_basic_block(name) for name in ("body", "after"))
        builder.branch(body)

        builder.position_at_end(body)
        count = builder.phi(I64)
        chains = [builder.phi(vector) for _ in places]
        values = [builder.call(fma, [chain, half, half]) for chain in chains]
        following = builder.add(count, I64(1))
        for phi, first, then in zip([count, *chains], [I64(0), *firsts], [following, *values]):
            phi.add_incoming(first, entry)
            phi.add_incoming(then, body)
        builder.cbranch(builder.icmp_signed("<", following, I64(TURNS)), body, after)

        builder.position_at_end(after)
        for place, value in zip(places, values):
            builder.store(value, place).align = 4
        return context.get_dummy_value()

    return types.void(types.int64), generate


def spin(out, index):
    turn(out + index * CHAINS * LANES * 4)
