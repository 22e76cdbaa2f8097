"""The four kinds of op and their decorators: elementwise, matmul, reduce, view.

A kind says how an op takes its arguments and how it computes; what all ops share is in op.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import expr
from .errors import DTypeError, ShapeError, describe
from .op import REGISTRY, Op
from .plan import FLOATS, Loops, Plan, kernel_call

Array = np.ndarray


class Elementwise(Op):
    """A scalar function, applied to every element with broadcasting."""

    kind = "elementwise"

    def __init__(self, body: Callable[..., Any], options: dict[str, Any]):
        # for integers, which a loop over floats would round beyond 2**53: NumPy's own function
        self.integers: np.ufunc | None = options.pop("integers", None)
        super().__init__(body, options)
        recorded = expr.source(body, self.inputs, self.bools)
        if recorded is None or recorded.inputs != self.inputs:
            self._refuse("its body must compute something from every input")
        self.source = recorded
        self.masked = recorded.signature.endswith("b")  # gives true or false
        self.plain = not self.bools
        self.short = self.plain and self.fixed
        self.loops = Loops(recorded)

    def __call__(self, *args: Any, **params: Any) -> Any:
        if self.short and not params and len(args) == len(self.inputs):
            for a in args:
                apply = getattr(type(a), "__apply__", None)
                if apply is not None:
                    return apply(self, args, params)
            dtype = getattr(args[0], "dtype", None)
            if dtype in FLOATS and all(type(a) is np.ndarray and a.dtype is dtype for a in args):
                return self.forward(args, params)  # in the rules of other ops
        return super().__call__(*args, **params)

    def arrays(self, inputs: Sequence[Any]) -> tuple[list[Array], np.dtype | None]:
        """Arrays of one float dtype, by NumPy's rules for floats, and masks.

        Python numbers, integers and masks are constants of that dtype; of integers alone an op
        that has `integers` makes integers.
        """
        values = [a if isinstance(a, (np.ndarray, np.generic)) else None for a in inputs]
        floats = [v.dtype for v in values if v is not None and v.dtype.kind == "f"]
        if self.integers is not None:
            exact = [_number(a) for a in inputs]
            kinds = {a.dtype.kind for a in exact}
            among = "iub" if self.differentiable else "fiub"  # a comparison is exact beside floats
            if kinds & set("iub") and kinds <= set(among):
                return exact, None
        if not self.differentiable:
            floats += [
                np.dtype(np.float64) for v in values if v is not None and v.dtype.kind in "iu"
            ]
        dtype = np.result_type(*floats) if floats else np.dtype(np.float64)
        found = []
        for name, given, value in zip(self.inputs, inputs, values, strict=True):
            if name in self.bools:
                found.append(np.asarray(given, dtype=np.bool_))
            elif value is None and isinstance(given, (bool, int, float)):
                found.append(weak(given, dtype))
            else:
                array = np.asarray(given) if value is None else value
                if array.dtype != dtype or dtype not in FLOATS:
                    array = self._convert(name, array, dtype)
                found.append(np.asarray(array))
        return found, dtype

    def _convert(self, name: str, array: Any, dtype: np.dtype) -> Array:
        if array.dtype.kind in "iub" and (len(self.inputs) > 1 or not self.differentiable):
            return np.asarray(array, dtype)
        if array.dtype.kind != "f":
            raise DTypeError(
                f"{self.name}: {name} is {describe(array)}; expected float32 or float64. Convert "
                f"it first: {name}.astype(np.{dtype})."
            )
        if dtype not in FLOATS:
            raise DTypeError(
                f"{self.name}: {name} is {describe(array)}; expected float32 or float64."
            )
        return array.astype(dtype)

    def check_shapes(self, arrays: Sequence[Array]) -> None:
        check_broadcast(self.name, arrays)

    def forward(self, arrays: Sequence[Array], params: dict[str, Any]) -> Array:
        dtype = arrays[-1].dtype  # bool inputs come first by declaration
        if self.integers is not None and not all(a.dtype in FLOATS for a in arrays):
            self.check_shapes(arrays)
            return np.asarray(self.integers(*arrays))
        try:
            y = self.loops[dtype](*arrays)
        except ValueError:
            self.check_shapes(arrays)
            raise
        return y if type(y) is np.ndarray else np.asarray(y)

    def make_plan(self, mask: int) -> Plan:
        pullbacks = self._pullbacks(mask)
        sources = [expr.source(p.fn, ("g", *p.names), self.bools) for p in pullbacks]
        read = [() if s is None else s.inputs for s in sources]
        kept = tuple(dict.fromkeys(n for names in read for n in names if n != "g"))
        fused = tuple(
            (p.input, None if s is None else kernel_call(s, kept))
            for p, s in zip(pullbacks, sources, strict=True)
        )
        return self._made_plan(mask, kept, pullbacks, fused)


class MatMul(Op):
    """A sum of products over an axis that disappears."""

    kind = "matmul"
    plain = True

    def __init__(self, body: Callable[..., Any], options: dict[str, Any]):
        super().__init__(body, options)
        self.loops = dict.fromkeys(FLOATS, body)

    def check_shapes(self, arrays: Sequence[Array]) -> None:
        super().prepared(arrays, {})

    def __call__(self, *args: Any, **params: Any) -> Any:
        if len(args) == 2 and _fit(*args):
            return self.body(*args)  # in the rules of other ops
        return super().__call__(*args, **params)

    def prepared(self, arrays: Sequence[Array], params: dict[str, Any]) -> dict[str, Any]:
        common = len(arrays) == 2 and _fit(*arrays)
        return params if common else super().prepared(arrays, params)

    def arrays(self, inputs: Sequence[Any]) -> tuple[list[Array], np.dtype | None]:
        arrays = [a if type(a) is np.ndarray else np.asarray(a) for a in inputs]
        if arrays[0].dtype in FLOATS and all(a.dtype is arrays[0].dtype for a in arrays):
            return arrays, None
        for name, a in zip(self.inputs, arrays, strict=True):
            if a.dtype not in FLOATS:
                raise DTypeError(
                    f"{self.name}: {name} is {describe(a)}; expected float32 or float64. "
                    f"Convert it first: {name}.astype(np.float32)."
                )
        dtype = np.result_type(*arrays)
        return [a if a.dtype == dtype else a.astype(dtype) for a in arrays], dtype


def _fit(a: Any, b: Any) -> bool:
    """Is this the common case, two matrices of one float dtype?"""
    return (
        type(a) is type(b) is np.ndarray
        and a.ndim == 2 == b.ndim
        and a.shape[1] == b.shape[0]
        and a.dtype is b.dtype
        and a.dtype in FLOATS
    )


class _Arrays(Op):
    """An op that takes whole arrays; of several, all have one dtype."""

    def arrays(self, inputs: Sequence[Any]) -> tuple[list[Array], np.dtype | None]:
        return one_dtype(self.name, inputs) if self.variadic else super().arrays(inputs)


class Reduce(_Arrays):
    """Elements that meet along axes: many into one, or a row of them with its sum."""

    kind = "reduce"


class View(_Arrays):
    """Values moved, repeated or left out; none computed."""

    kind = "view"
    cheap = True


def _decorator(cls: type[Op]) -> Callable[..., Any]:
    def declare(body: Callable[..., Any] | None = None, **options: Any) -> Any:
        if body is None:
            return lambda b: declare(b, **options)
        op = cls(body, options)
        REGISTRY[op.name] = op
        return op

    declare.__name__ = cls.kind
    declare.__doc__ = f"Declares an op of kind {cls.kind}; see the module's docstring."
    return declare


elementwise = _decorator(Elementwise)
matmul_kind = _decorator(MatMul)
reduce = _decorator(Reduce)
view = _decorator(View)

_weak_cache: dict[np.dtype, dict[float, Array]] = {d: {} for d in FLOATS}


def _is_argument(value: Any) -> bool:
    """Whether it is a float argument of a jitted step, which gives an array of a dtype."""
    return isinstance(value, float) and hasattr(value, "array")


def weak(number: Any, dtype: np.dtype) -> Array:
    """A Python number as a 0-d array of `dtype`; common ones are made once."""
    if type(number) is not float and _is_argument(number):
        filled: Array = number.array(dtype)
        return filled
    known = _weak_cache[dtype]
    found = known.get(number)
    if found is None:
        found = np.array(number, dtype)
        found.flags.writeable = False
        if number and len(known) < 4096:  # 0.0 and -0.0 are one key but not one number
            known[number] = found
    return found


def _number(value: Any) -> Array:
    """As an array; a Python integer that no integer dtype holds becomes a float."""
    if _is_argument(value):
        found: Array = value.array(np.dtype(np.float64))
        return found
    array = np.asarray(value)
    return np.asarray(value, np.float64) if array.dtype == object and type(value) is int else array


def one_dtype(name: str, inputs: Sequence[Any]) -> tuple[list[Array], np.dtype | None]:
    """Arrays that are put together, in the one dtype that they have in common.

    As in arithmetic: float32 and float64 give float64, Python numbers take the arrays' dtype, and
    floats do not mix with integers or booleans. Raises DTypeError.
    """
    strong = [a.dtype for a in inputs if isinstance(a, (np.ndarray, np.generic))]
    floats = [d for d in strong if d.kind == "f"]
    if not floats:
        arrays = [np.asarray(a) for a in inputs]
        numbers = [a for a in inputs if isinstance(a, (bool, int, float))]
        dtype = np.result_type(*strong, *numbers) if strong else np.result_type(*arrays)
        if dtype.kind not in "biu" and strong:
            came = ", ".join(describe(a) for a in inputs)
            raise DTypeError(
                f"{name}: {came} have no dtype in common without rounding or cutting; convert "
                f"them first, with .astype(np.float64)."
            )
        return [np.asarray(a, dtype) for a in inputs], None
    dtype = np.result_type(*floats)
    found = []
    for i, given in enumerate(inputs):
        if isinstance(given, (bool, int, float)) and not isinstance(given, np.generic):
            found.append(weak(given, dtype))
            continue
        array = np.asarray(given)
        if array.dtype.kind != "f" or dtype not in FLOATS:
            raise DTypeError(
                f"{name}: array {i} is {describe(array)} among floats; expected float32 or float64 "
                f"and no mixing with integers or booleans. Convert it first: "
                f".astype(np.{dtype})."
            )
        found.append(array if array.dtype == dtype else array.astype(dtype))
    return found, dtype


def check_broadcast(name: str, arrays: Sequence[Array]) -> None:
    """Raises a ShapeError that says which shapes came and how broadcasting reads them."""
    try:
        np.broadcast_shapes(*(a.shape for a in arrays))
    except ValueError:
        came = " and ".join(describe(a) for a in arrays)
        raise ShapeError(
            f"{name}: shapes do not broadcast: {came}. Counted from the right, two axes must be "
            f"equal or one of them 1; reshape, transpose or expand_dims one side."
        ) from None
