"""NumPy's functions on Tensors, under NumPy's names, with NumPy's arguments.

`RULES` records by ops of ours. Three kinds are told apart: what only moves values (`_MOVES`), whose
rule is NumPy's own function run on places instead of values; what computes (the functions below);
and `READS`, whose results hold no floats that depend on a Tensor, so that nothing is lost.
What is in none of them has no rule, and border.py refuses it where a gradient is needed.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import ops
from .border import is_tensor, on_values, refuse, tensors_in, values
from .errors import ShapeError
from .op import REGISTRY

RULES: dict[Callable[..., Any], Callable[..., Any]] = {}

# Results of integers, booleans and text, and arrays that take only a shape and dtype.
READS = {
    np.all, np.allclose, np.any, np.argmax, np.argmin, np.argpartition, np.argsort, np.argwhere,
    np.array2string, np.array_equal, np.array_equiv, np.array_repr, np.array_str, np.can_cast,
    np.common_type, np.count_nonzero, np.digitize, np.empty_like, np.flatnonzero,
    np.isclose, np.iscomplex, np.iscomplexobj, np.isin, np.isneginf, np.isposinf, np.isreal,
    np.isrealobj, np.lexsort, np.may_share_memory, np.min_scalar_type, np.nanargmax, np.nanargmin,
    np.ndim, np.nonzero, np.ones_like, np.result_type, np.searchsorted, np.shape, np.shares_memory,
    np.size, np.zeros_like,
}  # fmt: skip

# Functions that move, repeat, leave out, or fill with zeros, whatever the values are. (Not every
# NumPy has all of them.)
_MOVES = [
    getattr(module, name)
    for module, names in {
        np: (
            "array_split broadcast_to compress copy delete diag "
            "diagflat diagonal dsplit expand_dims extract flip fliplr flipud hsplit "
            "matrix_transpose moveaxis permute_dims ravel repeat reshape resize roll rollaxis "
            "rot90 split squeeze swapaxes take take_along_axis tile transpose tril triu unstack "
            "vsplit"
        ),
        np.linalg: "diagonal matrix_transpose",
    }.items()
    for name in names.split()
    if hasattr(module, name)
]


def name_of(f: Callable[..., Any]) -> str:
    """`np.linalg.norm`."""
    module = getattr(f, "__module__", "") or "numpy"
    return f"{module.replace('numpy', 'np', 1)}.{f.__name__}"


def call(f: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """RULES[f] on these arguments. Raises TypeError for those that the rule does not take."""
    rule = RULES[f]
    taken = inspect.signature(rule).parameters
    unset = (None, np._NoValue)  # `out=None`, as wrappers pass it on
    kwargs = {k: v for k, v in kwargs.items() if k in taken or not any(v is u for u in unset)}
    if "kwargs" not in taken:
        try:
            inspect.signature(rule).bind(*args, **kwargs)
        except TypeError as e:
            raise TypeError(
                f"{name} of a Tensor takes {_shown(rule)}: {e}. For what NumPy does "
                f"beyond that, on plain values, use t.numpy()."
            ) from None
    return rule(*args, **kwargs)


def _shown(rule: Callable[..., Any]) -> str:
    """Its arguments, as in `(a, axis=None)`."""
    parameters = inspect.signature(rule).parameters.values()
    bare = [p.replace(annotation=p.empty) for p in parameters]
    return str(inspect.Signature(bare))


# -- moving values ---------------------------------------------------------------------------------


def _moving(f: Callable[..., Any]) -> Callable[..., Any]:
    """y = x[places], where NumPy's own f says which places, by being run on their numbers."""
    signature = inspect.signature(f)
    places_in = {np.compress: "a", np.extract: "arr"}
    moved_name = places_in.get(f) or next(iter(signature.parameters))

    def rule(*args: Any, **kwargs: Any) -> Any:
        x = signature.bind(*args, **kwargs).arguments[moved_name]
        given = [v for v in (*args, *kwargs.values()) if is_tensor(v) and v.dtype.kind == "f"]
        if len(given) != 1 or given[0] is not x:
            raise refuse(f"{name_of(f)} of Tensors of floats but for {moved_name}")
        places = np.arange(1, x.size + 1).reshape(x.shape)  # 0 stands for a zero that f puts in
        args, kwargs = (
            tuple(places if v is x else values(v) for v in args),
            {k: places if v is x else values(v) for k, v in kwargs.items()},
        )
        try:
            moved = f(*args, **kwargs)
        except (ValueError, IndexError) as e:
            raise ShapeError(f"{name_of(f)}: x is {list(x.shape)}: {e}.") from None
        flat = ops.reshape(x, (x.size,))
        if isinstance(moved, (list, tuple)):
            return type(moved)(_gathered(flat, part) for part in moved)
        return _gathered(flat, moved)

    rule.__signature__ = signature  # type: ignore[attr-defined]
    return rule


def _gathered(flat: Any, places: Any) -> Any:
    places = np.asarray(places)
    if not (places == 0).any():
        return ops.getitem(flat, places - 1)
    return ops.getitem(ops.concatenate([np.zeros(1, flat.dtype), flat]), places)


RULES |= {f: _moving(f) for f in _MOVES}


# -- computing -------------------------------------------------------------------------------------


def _rule(*functions: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def declare(rule: Callable[..., Any]) -> Callable[..., Any]:
        RULES.update(dict.fromkeys(functions, rule))
        return rule

    return declare


@_rule(np.sum)
def _sum(a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    return ops.sum(a, axis, keepdims)


@_rule(np.max, np.amax)
def _max(a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    return ops.max(a, axis, keepdims)


@_rule(np.min, np.amin)
def _min(a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    return ops.min(a, axis, keepdims)


@_rule(np.ptp)
def _ptp(a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    return ops.max(a, axis, keepdims) - ops.min(a, axis, keepdims)


@_rule(np.mean)
def _mean(a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    return ops.mean(a, axis, keepdims)


@_rule(np.var)
def _var(a: Any, axis: Any = None, *, ddof: Any = 0, keepdims: Any = False) -> Any:
    return ops.var(a, axis, keepdims, ddof)


@_rule(np.std)
def _std(a: Any, axis: Any = None, *, ddof: Any = 0, keepdims: Any = False) -> Any:
    return ops.std(a, axis, keepdims, ddof)


@_rule(np.cumsum)
def _cumsum(a: Any, axis: Any = None) -> Any:
    return ops.cumsum(_flat(a), 0) if axis is None else ops.cumsum(a, axis)


@_rule(np.prod)
def _prod(a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    return ops.prod(a, axis, keepdims)


@_rule(np.linalg.norm)
def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: Any = False) -> Any:
    several = np.ndim(x) if axis is None else len(axis) if isinstance(axis, (tuple, list)) else 1
    if ord == "fro" or (ord is None and several != 1):
        return ops.norm(x, 2, axis, keepdims)
    if several != 1:
        raise refuse(f"np.linalg.norm of a matrix with ord={ord!r}", "ord='fro' has one")
    if ord is not None and not (isinstance(ord, (int, float)) and ord > 0):
        raise refuse(f"np.linalg.norm with ord={ord!r}", "ord > 0 has one")
    return ops.norm(x, 2 if ord is None else ord, axis, keepdims)


@_rule(np.round, np.around)
def _round(a: Any, decimals: Any = 0) -> Any:
    return ops.round(a, decimals)


@_rule(np.einsum)
def _einsum(subscripts: Any, *operands: Any) -> Any:
    return ops.einsum(subscripts, *operands)


@_rule(np.trace)
def _trace(a: Any, offset: Any = 0, axis1: Any = 0, axis2: Any = 1) -> Any:
    return ops.sum(RULES[np.diagonal](a, offset, axis1, axis2), -1)


@_rule(np.diff)
def _diff(a: Any, n: Any = 1, axis: Any = -1) -> Any:
    for _ in range(n):
        a = RULES[np.swapaxes](a, 0, axis)
        a = RULES[np.swapaxes](a[1:] - a[:-1], 0, axis)
    return a


@_rule(np.clip)
def _clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    low, high = (min if a_min is None else a_min), (max if a_max is None else a_max)
    return ops.clip(a, -math.inf if low is None else low, math.inf if high is None else high)


@_rule(np.where)
def _where(condition: Any, x: Any = None, y: Any = None) -> Any:
    if x is None and y is None:
        return np.where(values(condition))
    if x is None or y is None:
        raise ValueError("np.where: expected both x and y, or neither.")
    if is_tensor(condition) and condition.dtype.kind == "f":
        condition = ops.not_equal(condition, 0.0)
    return ops.where(condition, x, y)


@_rule(np.pad)
def _pad(array: Any, pad_width: Any, mode: Any = "constant", **kwargs: Any) -> Any:
    if mode == "constant":
        fill = kwargs.pop("constant_values", 0.0)
        if not kwargs and isinstance(fill, (int, float)):
            return ops.pad(array, pad_width, fill)
    elif mode in ("edge", "reflect", "symmetric", "wrap"):
        return _moving(np.pad)(array, pad_width, mode, **kwargs)
    raise TypeError(
        f"np.pad of a Tensor takes one constant_values, or mode 'edge', 'reflect', 'symmetric' or "
        f"'wrap'; got mode={mode!r} with {', '.join(kwargs) or 'no option'}."
    )


@_rule(np.full_like)
def _full_like(a: Any, fill_value: Any) -> Any:
    if next(tensors_in(fill_value), None) is None:
        return np.full_like(values(a), fill_value)
    return ops.broadcast_to(fill_value, np.shape(a))


@_rule(np.real)
def _real(val: Any) -> Any:
    return ops.reshape(val, val.shape)


# -- joining ---------------------------------------------------------------------------------------


def _at_least_rule(n: int) -> Callable[..., Any]:
    def rule(*arys: Any) -> Any:
        made = tuple(_at_least(n, a) for a in arys)
        return made[0] if len(made) == 1 else made

    return rule


for _n, _f in ((1, np.atleast_1d), (2, np.atleast_2d), (3, np.atleast_3d)):
    RULES[_f] = _at_least_rule(_n)


@_rule(np.concatenate)
def _concatenate(arrays: Any, axis: Any = 0) -> Any:
    parts = list(arrays)
    return ops.concatenate(list(map(_flat, parts)) if axis is None else parts, axis or 0)


@_rule(np.stack)
def _stack(arrays: Any, axis: Any = 0) -> Any:
    return ops.stack(list(arrays), axis)


@_rule(np.vstack)
def _vstack(tup: Any) -> Any:
    return ops.concatenate([_at_least(2, a) for a in tup])


@_rule(np.hstack)
def _hstack(tup: Any) -> Any:
    parts = [_at_least(1, a) for a in tup]
    return ops.concatenate(parts, 0 if len(parts[0].shape) == 1 else 1)


@_rule(np.dstack)
def _dstack(tup: Any) -> Any:
    return ops.concatenate([_at_least(3, a) for a in tup], 2)


@_rule(np.column_stack)
def _column_stack(tup: Any) -> Any:
    return ops.concatenate([ops.reshape(a, (-1, 1)) if len(np.shape(a)) < 2 else a for a in tup], 1)


@_rule(np.append)
def _append(arr: Any, values: Any, axis: Any = None) -> Any:
    return _concatenate((arr, values), axis)


@_rule(np.broadcast_arrays)
def _broadcast_arrays(*args: Any) -> Any:
    shape = np.broadcast_shapes(*map(np.shape, args))
    return tuple(ops.broadcast_to(a, shape) for a in args)


# -- products --------------------------------------------------------------------------------------


@_rule(np.dot)
def _dot(a: Any, b: Any) -> Any:
    return ops.dot(a, b)


@_rule(np.vdot)
def _vdot(a: Any, b: Any) -> Any:
    return ops.matmul(_flat(a), _flat(b))


@_rule(np.inner)
def _inner(a: Any, b: Any) -> Any:
    if not np.ndim(a) or not np.ndim(b):
        return ops.multiply(a, b)
    return _tensordot(a, b, (-1, -1))


@_rule(np.outer, np.linalg.outer)
def _outer(a: Any, b: Any) -> Any:
    return ops.outer(a, b)


@_rule(np.linalg.matmul)
def _matmul(x1: Any, x2: Any) -> Any:
    return ops.matmul(x1, x2)


@_rule(np.tensordot, np.linalg.tensordot)
def _tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    n, m = np.ndim(a), np.ndim(b)
    if isinstance(axes, (int, np.integer)):
        over = [*range(n - int(axes), n)], [*range(int(axes))]
    else:
        left, right = axes
        over = _several(left), _several(right)
    ia, ib = [i % n for i in over[0]], [i % m for i in over[1]]
    ka, kb = [i for i in range(n) if i not in ia], [i for i in range(m) if i not in ib]
    sa, sb = np.shape(a), np.shape(b)
    inner = math.prod(sa[i] for i in ia), math.prod(sb[i] for i in ib)
    rows = ops.reshape(ops.transpose(a, ka + ia), (math.prod(sa[i] for i in ka), inner[0]))
    columns = ops.reshape(ops.transpose(b, ib + kb), (inner[1], math.prod(sb[i] for i in kb)))
    return ops.reshape(ops.matmul(rows, columns), [sa[i] for i in ka] + [sb[i] for i in kb])


def _several(axes: Any) -> list[int]:
    return [int(axes)] if isinstance(axes, (int, np.integer)) else [*axes]


def _flat(a: Any) -> Any:
    return ops.reshape(a, (math.prod(np.shape(a)),))


def _at_least(n: int, a: Any) -> Any:
    make = {1: np.atleast_1d, 2: np.atleast_2d, 3: np.atleast_3d}[n]
    return ops.reshape(a, make(np.empty(np.shape(a))).shape)


# -- ufuncs ----------------------------------------------------------------------------------------

_NAMES = {"true_divide": "divide", "absolute": "abs", "fabs": "abs"}
_MASKS = {"isfinite", "isinf", "isnan", "logical_xor", "signbit"}  # no gradient by nature
_FOLDS = {"add": _sum, "multiply": _prod, "maximum": _max, "minimum": _min}
_COMPOSED = {
    "power": ops.power,
    "divmod": lambda a, b: (ops.floor_divide(a, b), ops.remainder(a, b)),
    "rint": ops.nearest,
    "mod": ops.remainder,
    "positive": lambda x: +x,
    "conjugate": lambda x: +x,
    "reciprocal": lambda x: ops.divide(1.0, x),
    "bitwise_and": lambda a, b: bitwise(np.bitwise_and, ops.logical_and, a, b),
    "bitwise_or": lambda a, b: bitwise(np.bitwise_or, ops.logical_or, a, b),
    "bitwise_xor": lambda a, b: bitwise(np.bitwise_xor, ops.not_equal, a, b),
    "invert": lambda x: bitwise(np.invert, ops.logical_not, x),
}


def ufunc_rule(f: np.ufunc, method: str) -> Callable[..., Any] | None:
    """What stands for a ufunc's method on Tensors, if anything does."""
    name = f.__name__
    if method == "reduce" and name in _FOLDS:
        return lambda x, axis=0, *, keepdims=False: _FOLDS[name](x, axis, keepdims=keepdims)
    if method == "accumulate" and name == "add":
        return lambda x, axis=0: ops.cumsum(x, axis)
    rule: Any = _COMPOSED.get(name) or REGISTRY.get(_NAMES.get(name, name))
    if rule is None and name in _MASKS:
        rule = lambda *args: on_values(f, *(values(a) for a in args))  # noqa: E731
    if method == "outer" and rule is not None and f.nin == 2 and f.signature is None:
        return lambda a, b: rule(ops.reshape(a, np.shape(a) + (1,) * np.ndim(b)), b)
    return rule if method == "__call__" else None


def bitwise(f: np.ufunc, on_masks: Callable[..., Any], *args: Any) -> Any:
    """&, |, ^ and ~: logic on masks, which can be traced, and NumPy's bits on integers."""
    kinds = [a.dtype.kind if hasattr(a, "dtype") else np.asarray(a).dtype.kind for a in args]
    return on_masks(*args) if set(kinds) == {"b"} else on_values(f, *args)
