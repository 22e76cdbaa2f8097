"""Where Tensors meet NumPy, lists and Python: what may cross, and how.

What needs a gradient never leaves the tape without a word. A way out of a Tensor that requires a
gradient is one of three:

- it records: operators, ufuncs and functions of NumPy that have a rule (`np.exp(t)`, `np.stack`;
  the rules are in numpy_rules.py), and lists of Tensors, which are stacked wherever an array is
  taken;
- it raises, and says what to write: `np.asarray(t)`, `a += t` into an array, functions without a
  rule, tuples of Tensors (a cell's (state, y) is not one array);
- it is a read, asked for by name: `.numpy()`, `.item()`, `.tolist()`, `.data`, printing and
  formatting, `float(t)`, `int(t)`, `bool(t)`, `round(t)`, functions whose result holds integers,
  booleans or text alone (`np.argmax`, `np.isfinite`, `np.shape`). NumPy writes `a[0] = t` into one
  place of an array by float(t), so that is a read too.

A Tensor that needs no gradient is a constant, and NumPy may compute with its values.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import DTypeError, GradientError, NoRuleError, ShapeError, describe
from .switches import state

if TYPE_CHECKING:
    from .tensors import Tensor

Array = np.ndarray


def is_tensor(value: Any) -> bool:
    """Is it a Tensor? Asked so, as this module is below them."""
    return hasattr(type(value), "__apply__")


def tensors_in(value: Any) -> Iterator[Any]:
    """The Tensors in a value, looking into lists, tuples and dicts."""
    if is_tensor(value):
        yield value
    elif isinstance(value, (list, tuple)):
        for v in value:
            if type(v) is not float and type(v) is not int:  # long lists of numbers are common
                yield from tensors_in(v)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def needs_gradient(value: Any) -> bool:
    """Does a Tensor in it require a gradient?"""
    return any(t.requires_grad for t in tensors_in(value))


def values(value: Any) -> Any:
    """The same with read-only arrays for Tensors: what is asked for as plain numbers.

    >>> import minigrad as mg
    >>> values([mg.tensor([1, 2]), 3])
    [array([1, 2]), 3]
    """
    if is_tensor(value):
        return value.numpy()
    if type(value) in (list, tuple):
        return type(value)(map(values, value))
    if type(value) is dict:
        return {key: values(v) for key, v in value.items()}
    return value


def plain(value: Any) -> Array:
    """An array of what is no part of the tape: indices, lengths, targets that are class numbers."""
    if state.jit is not None:
        return state.jit.plain(value)
    return value if type(value) is np.ndarray else np.asarray(values(value))


def refuse_masked(value: Any, who: str) -> None:
    """Raises DTypeError for an array of np.ma in which a number is masked: it would be read."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise DTypeError(
            f"{who}: of {describe(value)}, an array of np.ma, {np.ma.count_masked(value)} elements "
            f"are masked, and their numbers would be read. Write x.filled(0.0), and pass "
            f"~np.ma.getmaskarray(x) where it matters: mask= of a layer, or mg.where."
        )


# -- lists -----------------------------------------------------------------------------------------


def joined(value: Any, who: str = "") -> Any:
    """A list that holds Tensors, stacked and recorded; anything else as it is.

    Python numbers in it take the Tensors' dtype. Raises ShapeError for a tuple of Tensors.
    """
    if not isinstance(value, (list, tuple)):
        return value
    like = next(tensors_in(value), None)
    return value if like is None else _stacked(value, like, who)


def _stacked(value: Any, like: Tensor, who: str) -> Tensor:
    from . import ops

    if isinstance(value, tuple):
        raise ShapeError(
            f"{who}{': ' if who else ''}expected an array, got a tuple {_listing(value)}. A "
            f"recurrent layer returns (output, state) and a cell (state, y): take the part you "
            f"mean, as in `output, state = layer(x)`. To join Tensors write mg.stack or "
            f"mg.concatenate."
        )
    parts = []
    for v in value:
        if isinstance(v, (list, tuple)) and next(tensors_in(v), None) is not None:
            v = _stacked(v, like, who)
        elif not is_tensor(v):
            weak = like.dtype.kind == "f" and not isinstance(v, (np.ndarray, np.generic))
            v = np.asarray(v, like.dtype if weak else None)
        parts.append(v)
    return ops.stack(parts)


def _listing(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"({', '.join(map(_listing, value))})"
    return describe(value)


# -- NumPy's protocols -----------------------------------------------------------------------------


def array(t: Tensor, dtype: Any, copied: bool | None) -> Array:
    """`np.asarray(t)`: the values of a constant. Raises GradientError where t needs a gradient."""
    if t.requires_grad:
        raise GradientError(
            f"NumPy asked for the values of {describe(t)}, which requires a gradient, and they "
            f"would leave the tape. Write t.detach() or t.numpy() for the values alone; to "
            f"compute on, use what records: mg.stack for a list of Tensors, a @ t for a.dot(t), "
            f"mg.concatenate, mg.where."
        )
    if copied or (dtype is not None and np.dtype(dtype) != t.dtype):
        return np.array(t.numpy(), dtype=dtype)
    return t.numpy()


def refuse(what: str, instead: str = "use a function of minigrad") -> NoRuleError:
    """The error of something that has no rule."""
    return NoRuleError(
        f"{what} has no gradient rule here; {instead}, or call it on t.numpy() for plain values."
    )


def ufunc(f: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A ufunc of NumPy on Tensors: by the op of its name, or on the values of constants."""
    from . import numpy_rules

    name = f"np.{f.__name__}" + ("" if method == "__call__" else f".{method}")
    kwargs = {key: v for key, v in kwargs.items() if v is not None}
    rule = numpy_rules.ufunc_rule(f, method)
    if rule is not None and not (kwargs and method == "__call__"):
        try:
            return rule(*inputs, **kwargs)
        except TypeError:
            if not kwargs:
                raise
    out = kwargs.get("out", ())
    if any(map(is_tensor, out)):
        raise _no_writing(f"{name} with out=t")
    if needs_gradient(inputs) or needs_gradient(kwargs):
        if out:
            raise GradientError(
                f"{name} into an array (`a += t`, out=a): t requires a gradient, which an array "
                f"cannot carry. Write a = a + t, which is a new Tensor, or a += t.numpy() for the "
                f"values."
            )
        if kwargs:
            options = ", ".join(f"{key}=" for key in kwargs)
            raise refuse(
                f"{name} with {options}", "leave that out (mg.where chooses, astype casts)"
            )
        raise refuse(name)
    if method == "__call__" and f.nout == 1 and not kwargs:
        return on_values(f, *inputs)
    return getattr(f, method)(*values(inputs), **values(kwargs))


def function(f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A function of NumPy on Tensors: by its rule, or on the values of constants."""
    from . import numpy_rules

    name = numpy_rules.name_of(f)
    if f in numpy_rules.READS:
        return _plainly(f, name, args, kwargs)
    tracked = needs_gradient((args, kwargs))
    if f in numpy_rules.RULES and any(t.dtype.kind == "f" for t in tensors_in((args, kwargs))):
        try:
            return numpy_rules.call(f, name, args, kwargs)
        except TypeError:
            if tracked:
                raise
    if tracked:
        raise refuse(name)
    return _plainly(f, name, args, kwargs)


def _plainly(
    f: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """f on the values, which are read-only."""
    try:
        return f(*values(args), **values(kwargs))
    except ValueError as e:
        if "read-only" in str(e):
            raise _no_writing(name) from None
        raise


def _no_writing(name: str) -> GradientError:
    return GradientError(
        f"{name}: NumPy cannot write into a Tensor unseen by the tape; write t[...] = value "
        f"inside `with mg.no_grad():`, or make a new Tensor."
    )


def on_values(f: np.ufunc, *args: Any) -> Any:
    """f of the values of constants. Raises GradientError if one needs a gradient."""
    if needs_gradient(args):
        raise refuse(f"np.{f.__name__}")
    try:
        return f(*values(args))
    except TypeError:
        came = " and ".join(map(describe, args))
        raise DTypeError(f"np.{f.__name__}: NumPy has no loop for {came}.") from None


# -- copies ----------------------------------------------------------------------------------------


def deep_copy(t: Tensor, memo: dict[int, Any]) -> Tensor:
    """copy.deepcopy: a leaf with the same values; see `Tensor.__deepcopy__`."""
    made = rebuilt(type(t), np.array(t.numpy()), t.is_leaf and t.requires_grad, {})
    memo[id(t)] = made
    vars(made).update(copy.deepcopy(_kept(t), memo))
    return made


def reduced(t: Tensor) -> tuple[Any, ...]:
    """How pickle writes a Tensor: its values, and whether it was a leaf that needs a gradient."""
    return rebuilt, (type(t), t.numpy(), t.is_leaf and t.requires_grad, _kept(t))


def rebuilt(cls: type[Tensor], data: Array, requires_grad: bool, attributes: dict) -> Tensor:
    """A leaf of class `cls` around `data`."""
    t = cls.__new__(cls)
    t._array = data if data.flags.writeable else np.array(data)
    t._node, t.requires_grad = None, requires_grad
    vars(t).update(attributes, by_hand=True)
    return t


def _kept(t: Tensor) -> dict[str, Any]:
    """The attributes that a copy has too; hooks belong to the original, and so does a graph."""
    left_out = {"_hooks"} if t.is_leaf else {"_hooks", "grad"}
    return {name: v for name, v in vars(t).items() if name not in left_out}
