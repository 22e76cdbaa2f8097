"""spin(out, index): chains of fused multiply-adds in registers, their ends to out[index].

This text is executed only to be compiled, behind CHAINS, TURNS and LANES. It is LLVM code that no
optimiser touches, so that nothing is left out, split or reordered.
"""

# ruff: noqa: F821

from llvmlite import ir

POINTER, I64, REAL = ir.PointerType(), ir.IntType(64), ir.FloatType()


def assembly():
    """The module's text."""
    module = ir.Module("fma_peak")
    vector = ir.VectorType(REAL, LANES)
    fma = ir.Function(module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{LANES}f32")
    spin = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER, I64]), "spin")
    out, index = spin.args
    entry, body, after = (spin.append_basic_block(name) for name in ("entry", "body", "after"))
    builder = ir.IRBuilder(entry)
    builder.branch(body)

    builder.position_at_end(body)
    half, zero = (ir.Constant(vector, [number] * LANES) for number in (0.5, 0.0))
    turn = builder.phi(I64)
    chains = [builder.phi(vector) for _ in range(CHAINS)]
    values = [builder.call(fma, [chain, half, half]) for chain in chains]
    following = builder.add(turn, I64(1))
    for phi, first, then in zip([turn, *chains], [I64(0)] + [zero] * CHAINS, [following, *values]):
        phi.add_incoming(first, entry)
        phi.add_incoming(then, body)
    builder.cbranch(builder.icmp_signed("<", following, I64(TURNS)), body, after)

    builder.position_at_end(after)
    for i, value in enumerate(values):
        place = builder.mul(index, I64(CHAINS * LANES * 4))
        place = builder.add(place, I64(i * LANES * 4))
        at = builder.gep(out, [place], source_etype=ir.IntType(8))
        builder.store(value, at).align = 4
    builder.ret_void()
    return str(module)
