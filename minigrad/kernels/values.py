"""Code generation: LLVM numbers and vectors under Python's operators.

The vector maths is written on `Value`s. Calling `exp(x)` on one computes nothing, it emits the
instructions of exp for x, one vector or one scalar, float or double. Plain Python numbers become
constants of the other operand's type. Results are rounded operation by operation, as in NumPy:
multiply and add only fuse where `fma` is called.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from llvmlite import ir

I1, I8, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))


class Value:
    """One LLVM value and the builder that takes further instructions."""

    def __init__(self, builder, raw):
        self.builder = builder
        self.raw = raw

    @property
    def kind(self):
        """The LLVM type of a single element."""
        return getattr(self.raw.type, "element", self.raw.type)

    @property
    def lanes(self):
        """Elements of a vector; 0 for a scalar."""
        return getattr(self.raw.type, "count", 0)

    @property
    def double(self):
        return isinstance(self.kind, (ir.DoubleType,)) or self.kind == I64

    def of(self, kind):
        """The type with this value's lanes and elements of `kind`."""
        return ir.VectorType(kind, self.lanes) if self.lanes else kind

    def constant(self, number):
        """`number` as a Value of this value's type."""
        whole = isinstance(self.kind, ir.IntType)
        number = int(number) if whole else float(number)
        constant = ir.Constant(self.raw.type, [number] * self.lanes if self.lanes else number)
        return Value(self.builder, constant)

    def _emit(self, instruction, *others):
        others = [o if isinstance(o, Value) else self.constant(o) for o in others]
        operation = getattr(self.builder, instruction)
        return Value(self.builder, operation(self.raw, *(o.raw for o in others)))

    def _either(self, floating, integer, other):
        return self._emit(integer if isinstance(self.kind, ir.IntType) else floating, other)

    def __add__(self, other):
        return self._either("fadd", "add", other)

    def __sub__(self, other):
        return self._either("fsub", "sub", other)

    def __mul__(self, other):
        return self._either("fmul", "mul", other)

    def __radd__(self, other):
        return self.constant(other) + self

    def __rsub__(self, other):
        return self.constant(other) - self

    def __rmul__(self, other):
        return self.constant(other) * self

    def __truediv__(self, other):
        return self._emit("fdiv", other)

    def __rtruediv__(self, other):
        return self.constant(other) / self

    def __neg__(self):
        return self._emit("fneg")

    def __and__(self, other):
        return self._emit("and_", other)

    def __or__(self, other):
        return self._emit("or_", other)

    def __xor__(self, other):
        return self._emit("xor", other)

    def __invert__(self):
        return self._emit("not_")

    def __lshift__(self, other):
        return self._emit("shl", other)

    def __rshift__(self, other):
        return self._emit("ashr", other)

    def _compare(self, sign, other):
        other = other if isinstance(other, Value) else self.constant(other)
        if isinstance(self.kind, ir.IntType):
            compare = self.builder.icmp_signed
        else:  # NaN equals nothing, itself included
            compare = self.builder.fcmp_unordered if sign == "!=" else self.builder.fcmp_ordered
        return Value(self.builder, compare(sign, self.raw, other.raw))

    def __lt__(self, other):
        return self._compare("<", other)

    def __le__(self, other):
        return self._compare("<=", other)

    def __gt__(self, other):
        return self._compare(">", other)

    def __ge__(self, other):
        return self._compare(">=", other)

    def __eq__(self, other):
        return self._compare("==", other)

    def __ne__(self, other):
        return self._compare("!=", other)

    __hash__ = None

    def bits(self):
        """The bits of floats as integers of the same size."""
        integer = self.of(I64 if self.double else I32)
        return Value(self.builder, self.builder.bitcast(self.raw, integer))

    def floats(self):
        """Integers read as the bits of floats."""
        floating = self.of(ir.DoubleType() if self.double else ir.FloatType())
        return Value(self.builder, self.builder.bitcast(self.raw, floating))

    def number(self):
        """Integers converted to floats of the same size."""
        floating = self.of(ir.DoubleType() if self.double else ir.FloatType())
        return Value(self.builder, self.builder.sitofp(self.raw, floating))


def intrinsic_call(name, *values):
    """`llvm.<name>` of values of one type."""
    first = next(v for v in values if isinstance(v, Value))
    values = [v if isinstance(v, Value) else first.constant(v) for v in values]
    kind = first.raw.type
    suffix = "f64" if first.double else "f32"
    symbol = f"llvm.{name}.{f'v{first.lanes}' if first.lanes else ''}{suffix}"
    module = first.builder.module
    function = module.globals.get(symbol)
    if function is None:
        function = ir.Function(module, ir.FunctionType(kind, [kind] * len(values)), symbol)
    return Value(first.builder, first.builder.call(function, [v.raw for v in values]))


def fma(a, b, c):
    """a * b + c, rounded once where the CPU has an instruction for it."""
    return intrinsic_call("fmuladd", a, b, c)


def select(condition, a, b):
    """a where the condition holds, else b."""
    shape = a if isinstance(a, Value) else b
    a, b = (v if isinstance(v, Value) else shape.constant(v) for v in (a, b))
    return Value(shape.builder, shape.builder.select(condition.raw, a.raw, b.raw))


def polynomial(x, *coefficients):
    """Horner's scheme, the coefficient of the highest power first."""
    total = x.constant(coefficients[0])
    for coefficient in coefficients[1:]:
        total = fma(total, x, coefficient)
    return total
