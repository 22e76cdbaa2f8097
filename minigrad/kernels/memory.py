"""Numba side: pointers that know their extent, loads and stores at byte offsets, calls by address.

For kernel sources only (it imports Numba). In native kernels a `Pointer` is a bare machine pointer
and extents cost nothing. In checked kernels (NUMBA_BOUNDSCHECK=1) it carries the bytes that may
be touched: an access outside of them stops the kernel first, and the call raises IndexError.

    p = extent(base, low, high)        a Pointer to `base` (a `ptr`): bytes [low, high) from there
    p = strided(base, n, step, size)   ... n elements of `size` bytes, `step` bytes apart (or < 0)
    p = matrix(base, rows, row_step, cols, col_step, size)    ... rows x cols elements
    p = stack(nbytes)                  scratch of constant size that lasts as long as the call
    shift(p, offset)                   a `ptr` or Pointer some bytes further on, same extent
    load(p, offset, float32)           a scalar, or a vector (simd.py), at p + offset bytes
    store(p, offset, value)
    address(p)                         a Pointer or `ptr` as an integer
    ptr(p)                             a pointer of any kind or an integer as a bare `ptr`
    address_of("export")               a function exported by the same build, as a `ptr`
    invoke(f, "void(ptr, i64)", p, n)  call the function at `f`, a `ptr`
    forget_flags()                     ... of floating-point errors, at the end of a gufunc's loop
    f = external("name", "void(ptr)")  the function behind a symbol of libc, or of build's links=

Offsets go through LLVM's getelementptr: pointers made of integers block its alias analysis.
"""

# mypy: allow-untyped-defs

import platform

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic, models, register_model

from minigrad.kernels.front import numba_type
from minigrad.kernels.jit import mode, parse_signature
from minigrad.kernels.loader import ERROR_SYMBOL, symbol_of

CHECKED = mode() == "checked"
I1, I8, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))


class Pointer(types.Type):
    """An address and, in checked kernels, the absolute bounds of what may be touched from it."""

    def __init__(self):
        super().__init__(name="Pointer")


pointer = Pointer()

if CHECKED:

    @register_model(Pointer)
    class _CheckedModel(models.StructModel):
        def __init__(self, manager, kind):
            fields = [("base", types.voidptr), ("low", types.int64), ("high", types.int64)]
            super().__init__(manager, kind, fields)

else:

    @register_model(Pointer)
    class _Model(models.PrimitiveModel):
        def __init__(self, manager, kind):
            super().__init__(manager, kind, ir.PointerType(I8))


def _advance(builder, base, offset):
    return builder.gep(base, [offset], source_etype=I8)


def _pack(context, builder, base, low, high):
    """A Pointer value; low and high are absolute addresses (unused in native kernels)."""
    if not CHECKED:
        return base
    value = cgutils.create_struct_proxy(pointer)(context, builder)
    value.base, value.low, value.high = base, low, high
    return value._getvalue()


def bounded(context, builder, base, size):
    """Code generation: a Pointer to `size` bytes at `base`."""
    low = builder.ptrtoint(base, I64)
    return _pack(context, builder, base, low, builder.add(low, I64(size)))


def reach(context, builder, value, offset, nbytes):
    """Code generation: the machine pointer at `offset`, where `nbytes` bytes may be touched."""
    if not CHECKED:
        return _advance(builder, value, offset)
    fields = cgutils.create_struct_proxy(pointer)(context, builder, value=value)
    base = builder.ptrtoint(fields.base, I64)
    begin = builder.add(base, offset)
    end = builder.add(begin, nbytes)
    outside = builder.or_(
        builder.icmp_signed("<", begin, fields.low), builder.icmp_signed(">", end, fields.high)
    )
    outside = builder.and_(outside, builder.icmp_signed(">", nbytes, nbytes.type(0)))
    with cgutils.if_unlikely(builder, outside):
        slot = _error_slot(builder.module)
        places = (fields.low, fields.high, begin, end)
        for index, bound in enumerate(places, start=2):
            where = builder.gep(slot, [I64(0), I64(index)])
            builder.store(builder.sub(bound, base), where)
        context.call_conv.return_user_exc(builder, IndexError, ("outside the declared extent",))
    return _advance(builder, fields.base, offset)


def _error_slot(module):
    if ERROR_SYMBOL in module.globals:
        return module.globals[ERROR_SYMBOL]
    return cgutils.add_global_variable(module, ir.ArrayType(I64, 8), ERROR_SYMBOL)


def _element(wanted):
    """The Numba type that a source names: `float32`, np.float32, or a type of ours."""
    if isinstance(wanted, (types.NumberClass, types.TypeRef)):
        return wanted.instance_type
    raise TypingError(f"expected a type such as float32, came {wanted}")


def _need_pointer(p):
    if p != pointer:
        raise TypingError(
            f"expected a Pointer, came {p}: declare its extent first, by extent() or strided()"
        )


def nbytes(context, kind):
    """Size in memory of a value of a Numba type."""
    return context.get_abi_sizeof(context.get_data_type(kind))


@intrinsic
def extent(typing, base, low, high):
    """A Pointer at `base` (a `ptr`, or a Pointer to narrow) for bytes [low, high) from there."""

    def generate(context, builder, signature, args):
        base, low, high = args
        if signature.args[0] == pointer:
            base = reach(context, builder, base, low, builder.sub(high, low))
            base = _advance(builder, base, builder.neg(low))
        place = builder.ptrtoint(base, I64)
        return _pack(context, builder, base, builder.add(place, low), builder.add(place, high))

    if base not in (types.voidptr, pointer):
        raise TypingError(f"extent: expected a ptr or a Pointer, came {base}")
    return pointer(base, types.intp, types.intp), generate


@intrinsic
def strided(typing, base, n, step, size):
    """A Pointer to n elements of `size` bytes, `step` bytes apart, the first at `base`."""

    def generate(context, builder, signature, args):
        base, n, step, size = args
        return _spanned(context, builder, signature.args[0], base, [(n, step)], size)

    if base not in (types.voidptr, pointer):
        raise TypingError(f"strided: expected a ptr or a Pointer, came {base}")
    return pointer(base, *[types.intp] * 3), generate


@intrinsic
def matrix(typing, base, rows, row_step, cols, col_step, size):
    """A Pointer to rows x cols elements of `size` bytes, the first at `base`."""

    def generate(context, builder, signature, args):
        base, rows, row_step, cols, col_step, size = args
        axes = [(rows, row_step), (cols, col_step)]
        return _spanned(context, builder, signature.args[0], base, axes, size)

    if base not in (types.voidptr, pointer):
        raise TypingError(f"matrix: expected a ptr or a Pointer, came {base}")
    return pointer(base, *[types.intp] * 5), generate


def _spanned(context, builder, kind, base, axes, size):
    """Code generation: a Pointer to an array's elements; inside its extent where `base` has one."""
    if not CHECKED:
        return base
    low, high, empty = I64(0), size, I1(0)
    for n, step in axes:
        last = builder.mul(step, builder.sub(n, I64(1)))
        down = builder.icmp_signed("<", step, I64(0))
        low = builder.select(down, builder.add(low, last), low)
        high = builder.select(down, high, builder.add(high, last))
        empty = builder.or_(empty, builder.icmp_signed("<=", n, I64(0)))
    low, high = builder.select(empty, I64(0), low), builder.select(empty, I64(0), high)
    if kind == pointer:
        reach(context, builder, base, low, builder.sub(high, low))
        base = raw(context, builder, kind, base)
    place = builder.ptrtoint(base, I64)
    return _pack(context, builder, base, builder.add(place, low), builder.add(place, high))


@intrinsic
def shift(typing, p, offset):
    """The `ptr`, or the Pointer of the same extent, `offset` bytes after `p`."""

    def generate(context, builder, signature, args):
        value, offset = args
        if not CHECKED or p == types.voidptr:
            return _advance(builder, value, offset)
        fields = cgutils.create_struct_proxy(pointer)(context, builder, value=value)
        fields.base = _advance(builder, fields.base, offset)
        return fields._getvalue()

    if p not in (types.voidptr, pointer):
        raise TypingError(f"shift: expected a ptr or a Pointer, came {p}")
    return p(p, types.intp), generate


@intrinsic
def load(typing, p, offset, kind):
    """The value of type `kind` at `offset` bytes from `p`."""
    element = _element(kind)

    def generate(context, builder, signature, args):
        size = I64(nbytes(context, element))
        place = reach(context, builder, args[0], args[1], size)
        data = context.get_data_type(element)
        found = builder.load(builder.bitcast(place, data.as_pointer()))
        found.align = alignment(data)
        return context.data_model_manager[element].from_data(builder, found)

    _need_pointer(p)
    return element(p, types.intp, kind), generate


@intrinsic
def store(typing, p, offset, value):
    """Write `value`, of its own type, at `offset` bytes from `p`."""

    def generate(context, builder, signature, args):
        element = signature.args[2]
        size = I64(nbytes(context, element))
        place = reach(context, builder, args[0], args[1], size)
        data = context.data_model_manager[element].as_data(builder, args[2])
        written = builder.store(data, builder.bitcast(place, data.type.as_pointer()))
        written.align = alignment(data.type)
        return context.get_dummy_value()

    _need_pointer(p)
    return types.void(p, types.intp, value), generate


def alignment(kind):
    """Bytes that an address is a multiple of: the size of a number, or of a vector's numbers."""
    if isinstance(kind, ir.VectorType):
        kind = kind.element
    if isinstance(kind, ir.IntType):
        return max(kind.width // 8, 1)
    return {"float": 4, "double": 8}.get(str(kind), 8)


@intrinsic
def stack(typing, size):
    """A Pointer to `size` bytes (a literal) of the function's stack, aligned to 64."""
    if not isinstance(size, types.IntegerLiteral):
        raise TypingError("stack: the size must be a literal or a constant")
    count = size.literal_value

    def generate(context, builder, signature, args):
        with builder.goto_entry_block():  # cgutils.alloca_once would fill it with zeros
            place = builder.alloca(ir.ArrayType(I8, count))
        place.align = 64
        return bounded(context, builder, builder.bitcast(place, I8.as_pointer()), count)

    return pointer(size), generate


@intrinsic
def address(typing, p):
    """The address of a Pointer or `ptr`, as an integer."""

    def generate(context, builder, signature, args):
        return builder.ptrtoint(raw(context, builder, signature.args[0], args[0]), I64)

    return types.intp(p), generate


@intrinsic
def ptr(typing, p):
    """A pointer of any kind, or an integer, as a bare `ptr`."""

    def generate(context, builder, signature, args):
        if isinstance(signature.args[0], types.Integer):
            return builder.inttoptr(args[0], I8.as_pointer())
        bare = raw(context, builder, signature.args[0], args[0])
        return builder.bitcast(bare, I8.as_pointer())

    return types.voidptr(p), generate


def raw(context, builder, kind, value):
    """Code generation: the machine pointer of a Pointer or `ptr` value."""
    if CHECKED and kind == pointer:
        return cgutils.create_struct_proxy(pointer)(context, builder, value=value).base
    return value


@intrinsic
def address_of(typing, export):
    """The address of the function that the same build exports under this literal name."""
    if not isinstance(export, types.StringLiteral):
        raise TypingError("address_of: the name must be a literal string")
    symbol = symbol_of(export.literal_value)

    def generate(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [])  # any: pointers to functions are all alike
        function = cgutils.get_or_insert_function(builder.module, kind, symbol)
        return builder.bitcast(function, I8.as_pointer())

    return types.voidptr(export), generate


def external(symbol, signature):
    """A C function by name, to be called in a kernel; its parameters take `ptr`, never Pointers."""
    result, words = parse_signature(signature)
    return types.ExternalFunction(symbol, numba_type(result)(*map(numba_type, words)))


@intrinsic
def invoke(typing, target, signature, *arguments):
    """Call the C function at `target`, a `ptr`, of a literal signature: "void(ptr, i64)"."""
    if not isinstance(signature, types.StringLiteral):
        raise TypingError("invoke: the signature must be a literal string")
    result, words = parse_signature(signature.literal_value)
    result, wanted = numba_type(result), [numba_type(word) for word in words]
    if len(arguments) == 1 and isinstance(arguments[0], types.BaseTuple):
        arguments = arguments[0].types  # Numba asks again, with the tuple that it made of them
    if len(wanted) != len(arguments):
        raise TypingError(
            f"invoke: {signature.literal_value} takes {len(wanted)} arguments, came {arguments}"
        )

    def generate(context, builder, signature, args):
        values = cgutils.unpack_tuple(builder, args[2])
        given = signature.args[2].types
        values = [
            raw(context, builder, kind, value)
            if kind == pointer
            else context.cast(builder, value, kind, want)
            for value, kind, want in zip(values, given, wanted)
        ]
        back = ir.VoidType() if result == types.void else context.get_value_type(result)
        kind = ir.FunctionType(back, [context.get_value_type(want) for want in wanted])
        found = builder.call(builder.bitcast(args[0], kind.as_pointer()), values)
        return context.get_dummy_value() if result == types.void else found

    return result(target, signature, types.StarArgTuple.from_types(arguments)), generate


@intrinsic
def forget_flags(typing):
    """Clear the CPU's floating-point flags.

    NumPy reads them after a generalised ufunc, whatever the loop promised; Inf and NaN are no
    reason to warn. A tenth of the time of C's feclearexcept, where x86 lets us.
    """
    x86 = platform.machine() in ("x86_64", "AMD64")
    errors, all_flags = 0b011101, 0b111111  # without and with "inexact" and "denormal", in MXCSR

    def generate(context, builder, signature, args):
        nothing = ir.VoidType()
        if not x86:
            kind = ir.FunctionType(I32, [I32])
            clear = cgutils.get_or_insert_function(builder.module, kind, "feclearexcept")
            builder.call(clear, [I32(31)])
            return context.get_dummy_value()
        place = cgutils.alloca_once(builder, I32)
        kind = ir.FunctionType(nothing, [I8.as_pointer()])
        read, write = (
            builder.module.declare_intrinsic(f"llvm.x86.sse.{name}", (), kind)
            for name in ("stmxcsr", "ldmxcsr")
        )
        at = builder.bitcast(place, I8.as_pointer())
        builder.call(read, [at])
        flags = builder.load(place)
        raised = builder.icmp_unsigned("!=", builder.and_(flags, I32(errors)), I32(0))
        with cgutils.if_unlikely(builder, raised):
            builder.store(builder.and_(flags, I32(~all_flags & 0xFFFFFFFF)), place)
            builder.call(write, [at])
        return context.get_dummy_value()

    return types.void(), generate
