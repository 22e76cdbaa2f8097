"""What Numba lacks, a few lines of LLVM each: functions for kernels, on float32 and float64.

    fma(x, y, z)              x * y + z, rounded once where the CPU has an instruction for it
    copysign sqrt floor absolute sin cos pow
    plus(total, x)            total + x, of a sum in any order: as many partial sums as LLVM likes
    largest least             of total and x, NaN if either is, for the same use
    select(condition, x, y)   x if condition else y, without a branch: both are evaluated
    like(x, 2.0)              a number in the type of x, as Numba's literals are float64
    pick(x, 2.0, 3.0)         the first if x has 32 bits, the second if it has 64
    bits(x), floats(i)        the bits of a float as an integer of the same size, and back
    polynomial(single, double)     a function of x by Horner's scheme, highest power first
    wide()                    let LLVM use the CPU's widest vectors in the function that calls this
    simd()                    the same, and the function's arrays lie apart: no guards around loops
    natural(n)                n, of which LLVM then knows that it is not negative
    prefetch(a, i)            a[i] will be read soon
    stack(64, np.float32)     room for so many numbers in the caller's frame, for `array`
    array(p, shape, np.float32)    what lies at an address (or `stack`) as a C-contiguous array
    row(a, t, i)              a[t, i] of a C-contiguous array, known to be contiguous
    words(p, 11)              the first 11 words at an address, as a tuple
    call(address, p, i)       the C function "void(i64, i64)" at an address; `caller` makes others,
                              such as parallel_for, `external` those of the C library, as malloc
    static()                  the address of a word of the kernel's own, 0 when it is loaded
    handed_over(a, n, s)      an inner loop's call, to the function that such a word leads to
    forget_flags()            of floating-point errors

A float literal joins in as the type of the other arguments. Each has a plain Python meaning, on
numbers and NumPy arrays, which is what runs under NUMBA_DISABLE_JIT=1. With NUMBA_BOUNDSCHECK=1 a
row is a[i], so that Numba checks it.
"""

# mypy: ignore-errors

from __future__ import annotations

import ctypes
import math
import platform
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from minigrad.kernels import host
from minigrad.kernels.jit import mode

# Options of njit, for functions that only kernels call.
inner: dict[str, Any] = {
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
PLAIN, CHECKED = mode() == "plain", mode() == "checked"
# Of a function that a kernel calls in one place: compiled there, not once more by itself, and then
# again in whatever it is linked to.
within = njit(**inner, inline="never" if CHECKED else "always")
_I8, _I32, _I64 = (ir.IntType(size) for size in (8, 32, 64))
_VOID = ir.VoidType()


def _native(plain):
    """Decorator of an intrinsic's definition: `plain` is its meaning without JIT."""
    return lambda define: plain if PLAIN else intrinsic(define)


def _float_of(*kinds):
    """The type that floats of these types meet in: of literals, which are float64, no notice."""
    floats = [kind for kind in kinds if isinstance(kind, types.Float)]
    return min(floats, key=lambda kind: kind.bitwidth) if floats else None


def declared(builder, name, result, *kinds):
    """Code generation: LLVM's or C's function of this name."""
    form = ir.FunctionType(result, kinds)
    return cgutils.get_or_insert_function(builder.module, form, name)


def _llvm(name, arity, plain):
    """The function `llvm.<name>` of so many floats."""

    def generate(context, builder, signature, args):
        kind = args[0].type
        symbol = f"llvm.{name}.f{signature.return_type.bitwidth}"
        return builder.call(declared(builder, symbol, kind, *[kind] * arity), args)

    def rule(*kinds):
        real = _float_of(*kinds)
        return real and (real(*[real] * arity), generate)

    def one(typing, x):
        return rule(x)

    def two(typing, x, y):
        return rule(x, y)

    def three(typing, x, y, z):
        return rule(x, y, z)

    return _native(plain)((one, two, three)[arity - 1])


def _plain_fma(x, y, z):
    if np.result_type(x) == np.float32:
        wide = np.multiply(x, y, dtype=np.float64) + z  # the product is exact
        return np.float32(wide) if np.ndim(wide) == 0 else wide.astype(np.float32)
    with np.errstate(all="ignore"):  # by Dekker and Knuth: what rounding takes is put back once
        product = x * y
        (a, b), (c, d) = _halves(x), _halves(y)
        lost = ((a * c - product) + a * d + b * c) + b * d
        total = product + z
        rest = total - product
        lost = lost + ((product - (total - rest)) + (z - rest))
        return total + np.where(np.isfinite(lost), lost, 0.0)[()]


def _halves(x):
    """x as a sum of two numbers of 26 bits, whose products are exact."""
    high = 134217729.0 * x  # 2^27 + 1
    high = high - (high - x)
    return high, x - high


fma = _llvm("fmuladd", 3, _plain_fma)
copysign = _llvm("copysign", 2, np.copysign)
sqrt = _llvm("sqrt", 1, np.sqrt)
floor = _llvm("floor", 1, np.floor)
absolute = _llvm("fabs", 1, np.abs)
sin = _llvm("sin", 1, np.sin)
cos = _llvm("cos", 1, np.cos)
pow = _llvm("pow", 2, np.power)
largest, least = _llvm("maximum", 2, np.maximum), _llvm("minimum", 2, np.minimum)


@_native(lambda total, x: total + x)
def plus(typing, total, x):
    """total + x, in a loop whose sums LLVM may take in any order: then it can use vectors."""

    def generate(context, builder, signature, args):
        return builder.fadd(*args, flags=("reassoc",))

    return total(total, total), generate


@_native(lambda condition, x, y: np.where(condition, x, y)[()])
def select(typing, condition, x, y):
    """x where the condition holds, else y."""

    def generate(context, builder, signature, args):
        return builder.select(*args)

    kind = _float_of(x, y) or typing.unify_types(x, y)
    return kind(types.boolean, kind, kind), generate


@_native(lambda x, number: np.asarray(x).dtype.type(number))
def like(typing, x, number):
    """The number in the type of x."""

    def generate(context, builder, signature, args):
        return args[1]

    return x(x, x), generate


@_native(lambda x, single, double: np.asarray(x).dtype.type(_sized(x, single, double)))
def pick(typing, x, single, double):
    """The first number or the second, in the type of x: of 32 bits or of 64."""

    def generate(context, builder, signature, args):
        return args[1 if signature.return_type.bitwidth == 32 else 2]

    return x(x, x, x), generate


def _sized(x, single, double):
    return single if np.asarray(x).dtype.itemsize == 4 else double


def _plain_cast(kinds):
    return lambda x: np.asarray(x).view(kinds[np.asarray(x).dtype.itemsize])[()]


@_native(_plain_cast({4: np.int32, 8: np.int64}))
def bits(typing, x):
    """The bits of a float, as an integer."""

    def generate(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(signature.return_type.bitwidth))

    return {32: types.int32, 64: types.int64}[x.bitwidth](x), generate


@_native(_plain_cast({4: np.float32, 8: np.float64}))
def floats(typing, i):
    """The float of these bits."""

    def generate(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return {32: types.float32, 64: types.float64}[i.bitwidth](i), generate


def polynomial(single, double):
    """A function x -> c[0] x**n + ... + c[n], with the coefficients of float32 or of float64."""

    def plain(x):
        coefficients = [like(x, c) for c in _sized(x, single, double)]
        total = coefficients[0]
        for c in coefficients[1:]:
            total = fma(total, x, c)
        return total

    @_native(plain)
    def horner(typing, x):
        def generate(context, builder, signature, args):
            kind = args[0].type
            multiply_add = declared(builder, f"llvm.fmuladd.f{x.bitwidth}", kind, *[kind] * 3)
            first, *rest = (kind(c) for c in rounded)
            for c in rest:
                first = builder.call(multiply_add, [first, args[0], c])
            return first

        # llvmlite prints a float as it is: it has to be one of the type.
        number, coefficients = (np.float32, single) if x.bitwidth == 32 else (np.float64, double)
        rounded = [float(number(c)) for c in coefficients]
        return x(x), generate

    return horner


@_native(lambda: None)
def wide(typing):
    """The caller may use the widest vectors: of 512 bits, LLVM would take half."""

    def generate(context, builder, signature, args):
        _widen(builder.function)
        return context.get_dummy_value()

    return types.void(), generate


def _widen(function):
    set.add(function.attributes, f'"prefer-vector-width"="{host.vector_bits()}"')


@_native(lambda: None)
def simd(typing):
    """For a function of arrays in which no element that is written is reached through two of them.

    LLVM would guard a loop over many arrays by comparing all their places first, and over ten of
    them it gives up: BPTT of an LSTM took 6 times as long. The function becomes part of its caller.
    """

    def generate(context, builder, signature, args):
        _widen(builder.function)
        builder.function.attributes.add("alwaysinline")
        for argument in builder.function.args:
            if isinstance(argument.type, ir.PointerType):
                argument.add_attribute("noalias")
        return context.get_dummy_value()

    return types.void(), generate


@_native(lambda n: n)
def natural(typing, n):
    """n, below 2^31: as an index that may be negative, for all LLVM knows, it costs the vectors."""

    def generate(context, builder, signature, args):
        return builder.and_(args[0], _I64((1 << 31) - 1))

    return types.int64(types.int64), generate


@_native(lambda: None)
def forget_flags(typing):
    """NumPy reads the flags after a generalised ufunc; Inf and NaN are no reason to warn.

    A tenth of the time of C's feclearexcept, where x86 lets us.
    """
    x86 = platform.machine() in ("x86_64", "AMD64")
    errors, all_flags = 0b011101, 0b111111  # without and with "inexact" and "denormal", in MXCSR

    def generate(context, builder, signature, args):
        if not x86:
            builder.call(declared(builder, "feclearexcept", _I32, _I32), [_I32(31)])
            return context.get_dummy_value()
        place = cgutils.alloca_once(builder, _I32)
        at = builder.bitcast(place, _I8.as_pointer())
        read, write = (
            declared(builder, f"llvm.x86.sse.{name}", _VOID, at.type)
            for name in ("stmxcsr", "ldmxcsr")
        )
        builder.call(read, [at])
        state = builder.load(place)
        with cgutils.if_unlikely(
            builder, builder.icmp_signed("!=", builder.and_(state, _I32(errors)), _I32(0))
        ):
            builder.store(builder.and_(state, _I32(~all_flags)), place)
            builder.call(write, [at])
        return context.get_dummy_value()

    return types.void(), generate


@_native(lambda: 0)
def static(typing):
    """The address of 8 bytes of the kernel's own, which last as long as it is loaded.

    To be called by an entry: of functions that several kernels call, and LLVM does not inline, it
    keeps the first one, with its word, for all.
    """

    def generate(context, builder, signature, args):
        return builder.ptrtoint(_own_word(builder), _I64)

    return types.int64(), generate


def _own_word(builder):
    module, symbol = builder.module, "minigrad.static"
    word = module.globals.get(symbol)
    if word is None:
        word = cgutils.add_global_variable(module, _I64, symbol)
        word.linkage, word.initializer = "internal", _I64(0)
    return word


@_native(lambda args, dims, steps: 0)
def handed_over(typing, args, dims, steps):
    """f(table, args, dims, steps) for the table in `static()`, whose first word is the address f.

    Without dims, args is the table, which is kept. Returns 0, as inner loops do.
    """

    def generate(context, builder, signature, args):
        first, dims, steps = args
        word = _own_word(builder)
        with builder.if_else(builder.icmp_signed("==", dims, _I64(0))) as (tells, asks):
            with tells:
                builder.store(first, word)
            with asks:
                table = builder.load(word)
                place = builder.load(builder.inttoptr(table, _I64.as_pointer()))
                form = ir.FunctionType(_VOID, [_I64] * 4)
                function = builder.inttoptr(place, form.as_pointer())
                builder.call(function, [table, first, dims, steps])
        return _I32(0)

    return types.int32(*[types.int64] * 3), generate


def _data(context, builder, kind, value):
    """Code generation: an array's machine pointer."""
    return cgutils.create_struct_proxy(kind)(context, builder, value=value).data


@_native(lambda a, i: None)
def prefetch(typing, a, i):
    """a[i], of a contiguous array, will be read soon."""

    def generate(context, builder, signature, args):
        place = builder.gep(_data(context, builder, a, args[0]), [args[1]])
        place = builder.bitcast(place, _I8.as_pointer())
        ask = declared(builder, "llvm.prefetch.p0", _VOID, place.type, _I32, _I32, _I32)
        builder.call(ask, [place, _I32(0), _I32(3), _I32(1)])  # to read, keep in all caches, data
        return context.get_dummy_value()

    return types.void(a, types.intp), generate


def _element(dtype):
    """The Numba type that `np.float32` or `float32` names in a kernel."""
    return getattr(dtype, "dtype", None) or dtype.instance_type


@_native(lambda count, dtype: np.empty(count, dtype))
def stack(typing, count, dtype):
    """Room in the caller's frame; `count` is a literal or a constant."""
    element = _element(dtype)

    def generate(context, builder, signature, args):
        with builder.goto_entry_block():  # cgutils.alloca_once would fill it with zeros
            kind = context.get_data_type(element)
            place = builder.alloca(ir.ArrayType(kind, count.literal_value))
        place.align = 64
        return builder.bitcast(place, kind.as_pointer())

    if not isinstance(count, types.IntegerLiteral):  # Numba asks again, with a literal
        return None
    return types.CPointer(element)(count, dtype), generate


def contiguous(context, builder, kind, data, shape):
    """Code generation: the C-contiguous array of type `kind` at a machine pointer.

    A tenth of the compile time of `carray`, which is a function of its own for every type.
    """
    size = _I64(context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    steps = [size]
    for n in reversed(shape):
        steps.insert(0, builder.mul(steps[0], n))
    made = cgutils.create_struct_proxy(kind)(context, builder)
    made.data, made.itemsize, made.nitems = data, size, builder.udiv(steps[0], size)
    made.shape, made.strides = (cgutils.pack_array(builder, x) for x in (shape, steps[1:]))
    made.meminfo, made.parent = (
        cgutils.get_null_value(x.type) for x in (made.meminfo, made.parent)
    )
    return made._getvalue()


def _numbers(given):
    """(how many integers a type has, one or a tuple of them; the type that they are cast to)."""
    if isinstance(given, types.BaseTuple):
        return len(given), types.UniTuple(types.intp, len(given))
    return 1, types.intp


def _plain_array(p, shape, dtype):
    dtype = np.dtype(dtype if isinstance(dtype, (type, np.dtype)) else str(dtype))
    shape = (shape,) if np.ndim(shape) == 0 else tuple(shape)
    if isinstance(p, np.ndarray):
        memory = p
    else:
        memory = (ctypes.c_char * int(math.prod(shape) * dtype.itemsize)).from_address(int(p))
    return np.ndarray(shape, dtype, memory)


@_native(_plain_array)
def array(typing, p, shape, dtype):
    """What lies at an address, or in `stack`, as a C-contiguous array."""
    element = _element(dtype)
    count, wanted = _numbers(shape)
    kind = types.Array(element, count, "C")

    def generate(context, builder, signature, args):
        pointer = context.get_data_type(element).as_pointer()
        cast = builder.inttoptr if isinstance(p, types.Integer) else builder.bitcast
        sizes = cgutils.unpack_tuple(builder, args[1]) if wanted is not types.intp else [args[1]]
        return contiguous(context, builder, kind, cast(args[0], pointer), sizes)

    return kind(types.intp if isinstance(p, types.Integer) else p, wanted, dtype), generate


def places(context, builder, kind, array, index):
    """Code generation: (machine pointer of array[index], the sizes of its axes from there on)."""
    fields = cgutils.create_struct_proxy(kind)(context, builder, value=array)
    sizes = cgutils.unpack_tuple(builder, fields.shape)
    offset = _I64(0)
    for k, n in enumerate(sizes):
        offset = builder.mul(offset, n)
        if k < len(index):
            offset = builder.add(offset, index[k])
    return builder.gep(fields.data, [offset]), sizes[len(index) :]


def _row(typing, a, *index):
    """a[i], or a[t, i], of a C-contiguous array."""
    if index and isinstance(index[0], types.BaseTuple):
        index = index[0].types  # Numba asks again, with the tuple that it made of them
    kind = types.Array(a.dtype, a.ndim - len(index), "C")

    def generate(context, builder, signature, args):
        at = cgutils.unpack_tuple(builder, args[1])
        return contiguous(context, builder, kind, *places(context, builder, a, args[0], at))

    return kind(a, types.StarArgTuple.from_types([types.intp] * len(index))), generate


def _checked_row(a, *index):
    for i, n in zip(index, a.shape):
        if i < 0 or i >= n:
            raise IndexError("a row outside of its array")
    return a[index]


def in_each_mode(define, checked):
    """An intrinsic's definition where kernels are compiled; else `checked`, compiled or not."""
    if PLAIN:
        return checked
    return njit(**inner)(checked) if CHECKED else intrinsic(define)


row = in_each_mode(_row, _checked_row)


@_native(lambda d, count: tuple(_plain_array(d, count, "int64").tolist()))
def words(typing, d, count):
    """So many 64-bit words, one after the other at an address; `count` is a literal."""
    if not isinstance(count, types.IntegerLiteral):  # Numba asks again, with a literal
        return None
    numbers = range(count.literal_value)

    def generate(context, builder, signature, args):
        start = builder.inttoptr(args[0], _I64.as_pointer())
        found = [builder.load(builder.gep(start, [_I64(i)])) for i in numbers]
        return cgutils.pack_array(builder, found)

    return types.UniTuple(types.int64, len(numbers))(types.int64, count), generate


def _c_types(context, result, parameters):
    """Code generation: what a C function returns and takes."""
    returned = context.get_value_type(result) if result != types.void else _VOID
    return returned, [context.get_value_type(kind) for kind in parameters]


def _called(context, builder, function, arguments):
    """Code generation: what a C function makes of a tuple."""
    found = builder.call(function, cgutils.unpack_tuple(builder, arguments))
    return context.get_dummy_value() if found.type == _VOID else found


def caller(result, *parameters):
    """A function (address, *arguments): a call of the C function at the address.

    result, parameters: Numba's types, `caller(types.int64, types.int64)`.
    """
    kinds = {types.void: None, types.int32: ctypes.c_int32, types.int64: ctypes.c_int64}

    def plain(address, *arguments):
        form = ctypes.CFUNCTYPE(kinds[result], *(kinds[kind] for kind in parameters))
        return form(address)(*arguments)

    def generate(context, builder, signature, args):
        form = ir.FunctionType(*_c_types(context, result, parameters))
        function = builder.inttoptr(args[0], form.as_pointer())
        return _called(context, builder, function, args[1])

    @_native(plain)
    def called(typing, address, *arguments):
        rest = types.StarArgTuple.from_types(parameters)
        return result(types.int64, rest), generate

    return called


_PLAIN_C = {"memcpy": ctypes.memmove, "memset": ctypes.memset}  # plain code calls no others


def external(name, result, *parameters):
    """The function of the C library of this name, with Numba's types."""

    def generate(context, builder, signature, args):
        returned, kinds = _c_types(context, result, parameters)
        return _called(context, builder, declared(builder, name, returned, *kinds), args[0])

    def plain(*arguments):
        return _PLAIN_C[name](*map(int, arguments))

    @_native(plain)
    def called(typing, *arguments):
        return result(types.StarArgTuple.from_types(parameters)), generate

    return called


call = caller(types.void, types.int64, types.int64)
parallel_for = caller(types.void, *[types.int64] * 3)  # (its address, f, argument, count)
malloc = external("malloc", types.int64, types.int64)
free = external("free", types.void, types.int64)
