"""Arrays that depend on an input of a model that is exported, as its forward pass sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import numpy_rules, ops
from ..border import is_tensor
from ..tape import state
from ..tensors import Tensor, wrap


class Noted(np.ndarray):
    """An array whose values belong to the example: NumPy's functions on it are noted, by the op of
    the same name, and what would read a value is refused.
    """

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        rule: Any = numpy_rules.ufunc_rule(ufunc, method)
        if rule is None or "out" in kwargs:
            _refuse(f"np.{ufunc.__name__}")
        if any(map(is_tensor, inputs)):
            return rule(*with_tensors(list(inputs)), **kwargs)
        return _as_numpy(getattr(ufunc, method), rule, inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function in (np.shape, np.ndim, np.size):
            return super().__array_function__(function, types, args, kwargs)
        own: Any = getattr(ops, function.__name__, None)
        if not callable(own):
            _refuse(f"np.{function.__name__}")
        return _as_numpy(function, own, args, kwargs)

    def __getitem__(self, index: Any) -> Any:
        return as_noted(as_tensor(self)[index])

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    @property
    def T(self) -> Any:
        return as_noted(ops.transpose(as_tensor(self)))

    def copy(self, order: Any = "C") -> Any:
        return self

    def __repr__(self) -> str:
        return f"<{self.dtype}{list(self.shape)} that depends on an input>"


def _method(name: str) -> Callable[..., Any]:
    def method(self: Noted, *args: Any, **kwargs: Any) -> Any:
        if not hasattr(Tensor, name):
            _refuse(f".{name}()")
        return _as_numpy(getattr(np.ndarray, name), getattr(Tensor, name), (self, *args), kwargs)

    return method


def _as_numpy(theirs: Any, own: Any, args: Any, kwargs: Any) -> Any:
    """own(...), with the dtype that NumPy's function gives: it counts integers and float64 in."""
    expected = theirs(*_plainly(list(args)), **_plainly(kwargs))
    dtype = getattr(expected, "dtype", None)
    if dtype is not None and dtype.kind == "f":
        args = [_wide(a, dtype) for a in args]
    found = own(*with_tensors(list(args)), **with_tensors(kwargs))
    if isinstance(found, Tensor) and dtype is not None:
        if found.shape != np.shape(expected):
            _refuse(f"{getattr(theirs, '__name__', theirs)} in this form")
        found = found if found.dtype == dtype else ops.astype(found, dtype)
    return as_noted(found)


def _wide(value: Any, dtype: Any) -> Any:
    """A float that NumPy would widen before it computes."""
    narrow = isinstance(value, Noted) and value.dtype.kind == "f" and value.dtype != dtype
    return as_noted(ops.astype(as_tensor(value), dtype)) if narrow else value


def _plainly(value: Any) -> Any:
    """Plain arrays for Noted ones."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(_plainly, value))
    if isinstance(value, dict):
        return {key: _plainly(v) for key, v in value.items()}
    return memory_of(value) if isinstance(value, Noted) else value


def _no_read(name: str) -> Callable[..., Any]:
    return lambda self, *args: _refuse(f"{name}()")


_READS = ("item", "tolist", "tobytes", "nonzero", "view", "dump", "dumps", "tofile")
for _name in dir(np.ndarray):
    if _name in _READS:
        setattr(Noted, _name, _no_read(_name))
    elif not _name.startswith("_") and callable(getattr(np.ndarray, _name)) and _name != "copy":
        setattr(Noted, _name, _method(_name))
for _name in ("bool", "int", "float", "index", "complex", "contains", "setitem", "format", "str"):
    setattr(Noted, f"__{_name}__", _no_read(_name))


def _refuse(what: str) -> Any:
    state.jit.refuse(
        f"{what} of what depends on an input: its value belongs to the example. Compute by mg's "
        f"functions, and choose by mg.where"
    )


def memory_of(value: Any) -> Any:
    """The plain array of a Tensor or Noted array; of anything else that is no array one, too."""
    value = value._array if isinstance(value, Tensor) else value
    return np.ndarray.view(value, np.ndarray) if isinstance(value, Noted) else np.asarray(value)


def as_tensor(value: Noted) -> Tensor:
    """The same memory as a Tensor."""
    return wrap(memory_of(value), None, False)


def noted(array: np.ndarray) -> Noted:
    """A view that NumPy does not write through: what was noted stays so."""
    view = memory_of(array).view()
    view.flags.writeable = False
    return view.view(Noted)


def as_noted(value: Any) -> Any:
    """Results as arrays again."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(as_noted, value))
    return noted(value._array) if isinstance(value, Tensor) else value


def with_tensors(value: Any) -> Any:
    """Noted arrays in it as Tensors."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(with_tensors, value))
    if isinstance(value, dict):
        return {key: with_tensors(v) for key, v in value.items()}
    return as_tensor(value) if isinstance(value, Noted) else value
