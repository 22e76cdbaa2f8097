"""Numba side: short vectors as values, for kernel sources.

    V = Vec(float32, 16)            a type: 16 float32, one AVX-512 register
    B = Mask(16)                    16 truth values
    c = constant(V)                 c(0.5), c("inf"): vectors from literals
    x = load(p, offset, V)          contiguous (memory.py); lanes.py has all other ways
    y = select(x > 0.0, x * 0.5, fma(x, x, y))

`+ - * / unary-`, comparisons (to a mask), `& | ~` on masks. Numbers take the vector's type. Nothing
is left to LLVM's loop vectoriser, which gives up silently: code in vectors stays in vectors.
Functions follow NumPy: minimum and maximum pass NaN on, sign(NaN) is NaN.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import operator

from llvmlite import ir
from numba import types
from numba.core.imputils import lower_builtin, lower_cast
from numba.core.typeconv import Conversion
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

from minigrad.kernels import values
from minigrad.kernels.values import I1, I8, I32, Value


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
