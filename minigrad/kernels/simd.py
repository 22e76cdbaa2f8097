"""Numba side: short vectors as values, for kernel sources.

    V = Vec(float32, 16)            a type: 16 float32, one AVX-512 register
    B = Mask(16)                    16 truth values
    c = constant(V)                 c(0.5), c("inf"): vectors from literals
    x = load(p, offset, V)          memory.py's load and store take them
    y = select(x > 0.0, x * 0.5, fma(x, x, y))
    p = repeated(p, step, V)        for broadcast operands, before a loop of
    x = load_lanes(p, i, step, count, V)
    store_lanes(q, i, step, count, y)

`+ - * / unary-`, comparisons (to a mask), `& | ~` on masks. Numbers take the vector's type. Nothing
is left to LLVM's loop vectoriser, which gives up silently: code in vectors stays in vectors.
Functions follow NumPy: minimum and maximum pass NaN on, sign(NaN) is NaN.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import operator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.imputils import lower_builtin, lower_cast
from numba.core.typeconv import Conversion
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

from minigrad.kernels import values
from minigrad.kernels.memory import CHECKED, alignment, bounded, pointer, raw, reach
from minigrad.kernels.values import I1, I8, I32, I64, Value


class Vec(types.Type):
    """A vector of `lanes` floats: Vec(float32, 16)."""

    def __init__(self, dtype, lanes):
        self.dtype = dtype
        self.lanes = lanes
        super().__init__(name=f"Vec({dtype}, {lanes})")

    def can_convert_from(self, typing, other):
        return Conversion.safe if isinstance(other, (types.Float, types.Integer)) else None


class Mask(types.Type):
    """A vector of truth values; bytes in memory, as NumPy's bool."""

    def __init__(self, lanes):
        self.lanes = lanes
        super().__init__(name=f"Mask({lanes})")


@register_model(Vec)
class _VecModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        element = ir.FloatType() if kind.dtype == types.float32 else ir.DoubleType()
        super().__init__(manager, kind, ir.VectorType(element, kind.lanes))


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, ir.VectorType(I1, kind.lanes))

    def get_data_type(self):
        return ir.VectorType(I8, self._fe_type.lanes)

    def as_data(self, builder, value):
        return builder.zext(value, self.get_data_type())

    def from_data(self, builder, value):
        return builder.icmp_unsigned("!=", value, value.type(None))


@lower_cast(types.Float, Vec)
@lower_cast(types.Integer, Vec)
def _splat_cast(context, builder, given, wanted, value):
    return splat(builder, context.cast(builder, value, given, wanted.dtype), wanted.lanes)


def splat(builder, scalar, lanes):
    """Code generation: a vector of equal elements."""
    empty = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    one = builder.insert_element(empty, scalar, I32(0))
    return builder.shuffle_vector(one, empty, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


# ---------------------------------------------------------------- functions and operators


def same(*kinds):
    """Vectors of one type, numbers joining in, to that type; floats of one type likewise."""
    vectors = {kind for kind in kinds if isinstance(kind, Vec)}
    if not vectors:
        vectors = {kind for kind in kinds if isinstance(kind, types.Float)}
    others = [k for k in kinds if k not in vectors and not isinstance(k, types.Number)]
    if others or len(vectors) != 1:
        return None
    return signature(*vectors, *(list(vectors) * len(kinds)))


def compared(*kinds):
    """As `same`, to a mask."""
    found = same(*kinds)
    if found is None:
        return None
    kind = found.return_type
    result = Mask(kind.lanes) if isinstance(kind, Vec) else types.boolean
    return signature(result, *found.args)


def logical(*kinds):
    """Masks to a mask."""
    fits = isinstance(kinds[0], Mask) and set(kinds) == {kinds[0]}
    return signature(kinds[0], *kinds) if fits else None


def selected(condition, a, b):
    """(mask, a, b): like `same` on a and b; masks too."""
    found = logical(a, b) or same(a, b)
    fits = isinstance(condition, Mask) or condition == types.boolean
    return signature(found.return_type, condition, *found.args) if found and fits else None


_ANY = (types.VarArg(types.Any),)


def define(rule, key, body=None, kinds=_ANY):
    """Teach Numba the function `key`: `rule` types its arguments, `body` emits code on Values."""
    body = body or key

    @infer_global(key)
    class Template(AbstractTemplate):
        def generic(self, args, kws):
            return None if kws else rule(*args)

    @lower_builtin(key, *kinds)
    def lower(context, builder, signature, args):
        return body(*(Value(builder, arg) for arg in args)).raw

    return key


def _vectors_only(rule):
    return lambda *kinds: rule(*kinds) if any(isinstance(k, (Vec, Mask)) for k in kinds) else None


for _operator in (operator.add, operator.sub, operator.mul, operator.truediv):
    define(_vectors_only(same), _operator, kinds=(Vec, Vec))
for _operator in (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne):
    define(_vectors_only(compared), _operator, kinds=(Vec, Vec))
for _operator in (operator.and_, operator.or_):
    define(logical, _operator, kinds=(Mask, Mask))
define(_vectors_only(same), operator.neg, kinds=(Vec,))
define(logical, operator.invert, kinds=(Mask,))

fma = define(same, values.fma)
select = define(selected, values.select)


def isnan(x):
    """True where x is NaN."""
    return x != x


def sqrt(x):
    """The square root, correctly rounded."""
    return values.intrinsic_call("sqrt", x)


def floor(x):
    """The largest whole number <= x."""
    return values.intrinsic_call("floor", x)


def abs(x):
    """|x|."""
    return values.intrinsic_call("fabs", x)


def sign(x):
    """-1, 0 or 1; NaN of NaN."""
    one = x.constant(1.0)
    return select(x > 0.0, one, select(x < 0.0, -one, select(x == 0.0, x.constant(0.0), x)))


def maximum(x, y):
    """The larger one; NaN if either is."""
    return select((x > y) | isnan(x), x, y)


def minimum(x, y):
    """The smaller one; NaN if either is."""
    return select((x < y) | isnan(x), x, y)


for _function in (sqrt, floor, abs, sign, maximum, minimum):
    define(same, _function)
define(compared, isnan)


def constant(kind):
    """The function from a literal number, or "nan", "inf", "-inf", to a vector of `kind`."""

    @intrinsic(prefer_literal=True)
    def c(typing, literal):
        def generate(context, builder, signature, args):
            given = signature.args[0]
            if isinstance(given, types.StringLiteral):
                number = ir.Constant(context.get_value_type(kind.dtype), float(given.literal_value))
            else:
                number = context.cast(builder, args[0], given, kind.dtype)
            return splat(builder, number, kind.lanes)

        return kind(literal), generate

    return c


# ---------------------------------------------------------------- strided and partial vectors


@intrinsic
def repeated(typing, p, step, kind):
    """`p`, or where the step is 0 a vector on the stack in which the number at `p` is repeated."""
    element = kind.instance_type

    def generate(context, builder, signature, args):
        p, step, _ = args
        data = context.get_data_type(element)
        own = builder.bitcast(cgutils.alloca_once(builder, data), I8.as_pointer())
        still = builder.icmp_signed("==", step, I64(0))
        with builder.if_then(still):
            place = reach(context, builder, p, I64(0), I64(alignment(data)))
            one = builder.load(builder.bitcast(place, data.element.as_pointer()))
            builder.store(splat(builder, one, data.count), builder.bitcast(own, data.as_pointer()))
        size = context.get_abi_sizeof(data)
        return builder.select(still, bounded(context, builder, own, size), p)

    _check_lanes(p, element)
    return p(p, types.intp, kind), generate


@intrinsic
def load_lanes(typing, p, index, step, count, kind):
    """Elements index, index + 1, ... of an array at `p`, `step` bytes apart.

    `count` are left from there on; lanes beyond them are 0. A step of 0 stands for one vector, of
    which all lanes are taken (see `repeated`).
    """
    element = kind.instance_type

    def generate(context, builder, signature, args):
        p, index, step, count, _ = args
        data = context.get_data_type(element)
        place, full = _reach_lanes(context, builder, p, index, step, count, data)
        full = builder.or_(full, builder.icmp_signed("==", step, I64(0)))
        found = []
        with builder.if_else(full, likely=True) as (fast, slow):
            with fast:
                whole = builder.load(builder.bitcast(place, data.as_pointer()))
                whole.align = alignment(data)
                found.append((whole, builder.block))
            with slow:
                gathered = builder.call(_gather(builder.module, data), [place, step, count])
                found.append((gathered, builder.block))
        phi = builder.phi(data)
        for value, block in found:
            phi.add_incoming(value, block)
        return context.data_model_manager[element].from_data(builder, phi)

    _check_lanes(p, element)
    return element(p, types.intp, types.intp, types.intp, kind), generate


@intrinsic
def store_lanes(typing, p, index, step, count, value):
    """Write the first `count` lanes, or all, to elements index, index + 1, ... of an array."""

    def generate(context, builder, signature, args):
        p, index, step, count, value = args
        value = context.data_model_manager[signature.args[4]].as_data(builder, value)
        place, full = _reach_lanes(context, builder, p, index, step, count, value.type)
        with builder.if_else(full, likely=True) as (fast, slow):
            with fast:
                whole = builder.store(value, builder.bitcast(place, value.type.as_pointer()))
                whole.align = alignment(value.type)
            with slow:
                builder.call(_scatter(builder.module, value.type), [place, step, count, value])
        return context.get_dummy_value()

    _check_lanes(p, value)
    return types.void(p, types.intp, types.intp, types.intp, value), generate


def _check_lanes(p, element):
    if p != pointer or not isinstance(element, (Vec, Mask)):
        raise TypingError(f"expected a Pointer and a Vec or Mask, came {p} and {element}")


def _reach_lanes(context, builder, p, index, step, count, data):
    """(machine pointer of the first lane, whether all lanes are there and contiguous)."""
    size = I64(alignment(data))
    offset = builder.mul(index, step)
    whole = builder.icmp_signed(">=", count, I64(data.count))
    full = builder.and_(whole, builder.icmp_signed("==", step, size))
    if CHECKED:
        last = builder.sub(builder.select(whole, I64(data.count), count), I64(1))
        reached = builder.add(offset, builder.mul(step, last))
        down = builder.icmp_signed("<", step, I64(0))
        low, high = builder.select(down, reached, offset), builder.select(down, offset, reached)
        reach(context, builder, p, low, builder.add(builder.sub(high, low), size))
        p = raw(context, builder, pointer, p)
    return builder.gep(p, [offset], source_etype=I8), full


def _gather(module, data):
    """The function that loads lanes from places `step` bytes apart, and 0 from `count` on."""
    pointers = ir.VectorType(I8.as_pointer(), data.count)
    mask = ir.VectorType(I1, data.count)
    kind = ir.FunctionType(data, [I8.as_pointer(), I64, I64])
    builder, function = _lane_function(module, kind, f"gather.{data.element}.{data.count}")
    if builder:
        places, here = _lane_places(builder, *function.args, data.count)
        size = I32(alignment(data))
        with builder.if_then(builder.icmp_signed("==", function.args[1], I64(alignment(data)))):
            start = builder.bitcast(function.args[0], data.as_pointer())
            kind = ir.FunctionType(data, [data.as_pointer(), I32, mask, data])
            load = _masked(module, "load", data, kind)
            builder.ret(builder.call(load, [start, size, here, data(None)]))
        load = _masked(module, "gather", data, ir.FunctionType(data, [pointers, I32, mask, data]))
        builder.ret(builder.call(load, [places, size, here, data(None)]))
    return function


def _scatter(module, data):
    """The function that stores the first `count` lanes to places `step` bytes apart."""
    pointers = ir.VectorType(I8.as_pointer(), data.count)
    mask = ir.VectorType(I1, data.count)
    kind = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I64, I64, data])
    builder, function = _lane_function(module, kind, f"scatter.{data.element}.{data.count}")
    if builder:
        *where, value = function.args
        places, here = _lane_places(builder, *where, data.count)
        with builder.if_then(builder.icmp_signed("==", where[1], I64(alignment(data)))):
            start = builder.bitcast(where[0], data.as_pointer())
            kind = ir.FunctionType(ir.VoidType(), [data, data.as_pointer(), I32, mask])
            store = _masked(module, "store", data, kind)
            builder.call(store, [value, start, I32(alignment(data)), here])
            builder.ret_void()
        kind = ir.FunctionType(ir.VoidType(), [data, pointers, I32, mask])
        store = _masked(module, "scatter", data, kind)
        builder.call(store, [value, places, I32(alignment(data)), here])
        builder.ret_void()
    return function


def _lane_function(module, kind, name):
    """(builder of its body, function), once per module; then (None, function)."""
    if name in module.globals:
        return None, module.globals[name]
    function = ir.Function(module, kind, name)
    function.linkage = "internal"
    function.attributes.add("noinline")  # it is the rare way
    return ir.IRBuilder(function.append_basic_block()), function


def _lane_places(builder, place, step, count, lanes):
    """(addresses of the lanes, which lanes there are)."""
    number = ir.Constant(ir.VectorType(I64, lanes), list(range(lanes)))
    first = splat(builder, builder.ptrtoint(place, I64), lanes)
    addresses = builder.add(first, builder.mul(number, splat(builder, step, lanes)))
    places = builder.inttoptr(addresses, ir.VectorType(I8.as_pointer(), lanes))
    return places, builder.icmp_signed("<", number, splat(builder, count, lanes))


def _masked(module, what, data, kind):
    element = {"float": "f32", "double": "f64", "i8": "i8"}[str(data.element)]
    pointers = "p0" if what in ("load", "store") else f"v{data.count}p0"
    name = f"llvm.masked.{what}.v{data.count}{element}.{pointers}"
    return cgutils.get_or_insert_function(module, kind, name)
