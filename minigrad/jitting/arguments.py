"""What a step sees of its arguments while mg.jit records it: what may not be read.

A step is recorded once and then replayed on other arguments. Whatever Python made of the values of
the first ones, a branch, a number, an array that NumPy computed, would stay as it was. So these
stand in for the arguments: ops take them, and anything that would read a value raises JitError.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from ..errors import JitError, describe
from ..tape import state

Array = np.ndarray


def _refuse(what: str) -> NoReturn:
    if state.jit is None:
        raise JitError(f"mg.jit: {what}, of a step that is over: return what you need of it.")
    state.jit.refuse(what)
    raise AssertionError


class Argument(np.ndarray):
    """An array argument: memory that the next call fills anew. Slices of it are the same."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        for value in inputs:
            if not isinstance(value, Argument) and hasattr(type(value), "__apply__"):
                # an operator between an array and a Tensor: the Tensor's own
                return value.__array_ufunc__(ufunc, method, *map(memory_of, inputs), **kwargs)
        _refuse(f"np.{ufunc.__name__} of an argument: compute with mg's functions, or before")

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function in (np.shape, np.ndim, np.size):
            return super().__array_function__(function, types, args, kwargs)
        if any(hasattr(type(a), "__apply__") for a in args):
            return NotImplemented
        _refuse(f"np.{function.__name__} of an argument: compute with mg's functions, or before")

    def __getitem__(self, index: Any) -> Any:
        parts = index if isinstance(index, tuple) else (index,)
        if all(i is None or i is ... or isinstance(i, (int, np.integer, slice)) for i in parts):
            found = super().__getitem__(index)
            if isinstance(found, Argument):
                return found  # a view
        _refuse("an element or a choice of elements of an argument: mg.take, or mg.tensor(x)[i]")

    def __setitem__(self, index: Any, value: Any) -> None:
        _refuse("an assignment into an argument")

    def reshape(self, *shape: Any, **options: Any) -> Any:
        found = super().reshape(*shape, **options)
        if not np.may_share_memory(memory_of(found), memory_of(self)):
            _refuse("a reshape of an argument that copies it: mg.reshape")
        return found

    def __repr__(self) -> str:
        return f"<argument {describe(self)}>"


def _no_read(what: str) -> Callable[..., Any]:
    def refused(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(f"{what} of an argument")

    return refused


_VIEWS = {"reshape", "transpose", "swapaxes", "squeeze", "diagonal", "view"}  # which read nothing
for _name in set(dir(np.ndarray)) - _VIEWS:
    if not _name.startswith("_") and callable(getattr(np.ndarray, _name)):
        setattr(Argument, _name, _no_read(f".{_name}()"))
for _name in ("bool", "int", "float", "index", "complex", "contains", "str", "format", "copy"):
    setattr(Argument, f"__{_name}__", _no_read(f"{_name}()"))
for _name in ("flat", "data"):
    setattr(Argument, _name, property(_no_read(f".{_name}")))


def memory_of(value: Any) -> Any:
    """The plain array of an Argument; anything else as it is."""
    return value.view(np.ndarray) if type(value) is Argument else value


class Number(float):
    """A float argument, or arithmetic with one: computed anew at every call.

    Its value as a float is that of the call that is recorded, and C reads it past this class
    (math.sqrt, struct.pack): a program is replayed for such a value alone until another was
    recorded (`Program.fixed`). `now` computes it from the arguments; late: and from what the step
    has computed, so not before it has. own: the dtype of one that NumPy made, which ops respect.
    """

    __array_ufunc__ = None  # np.float64 would compute with the value: it leaves that to us
    now: Callable[[], float]
    late: bool
    own: np.dtype | None
    arrays: dict[Any, Array]

    def __new__(cls, now: Callable[[], float], late: bool = False) -> Number:
        value = now()
        self = super().__new__(cls, value)
        self.now, self.late, self.arrays = now, late, {}
        self.own = value.dtype if isinstance(value, np.floating) else None
        return self

    def array(self, dtype: Any) -> Array:
        """A 0-d array that holds it, at every call."""
        found = self.arrays.get(dtype)
        if found is None:
            found = self.arrays[dtype] = np.array(float.__add__(self, 0.0), dtype)
            state.jit.number(self, found)
        return found


def value_of(number: Any) -> Any:
    """What a Number is now; any other value as it is."""
    return number.now() if isinstance(number, Number) else number


def _arithmetic(name: str, turned: bool) -> Any:
    compute = getattr(operator, name)

    def method(self: Number, *others: Any) -> Any:
        if any(isinstance(o, np.ndarray) for o in others):
            _refuse("NumPy's arithmetic on a float argument: mg.tensor(array) computes with it")
        if not all(isinstance(o, (int, float, np.number)) for o in others):
            return NotImplemented
        operands = (*others, self) if turned else (self, *others)
        late = any(isinstance(o, Number) and o.late for o in operands)
        return Number(lambda: compute(*map(value_of, operands)), late)

    return method


for _name in ("add", "sub", "mul", "truediv", "pow"):
    setattr(Number, f"__{_name}__", _arithmetic(_name, False))
    setattr(Number, f"__r{_name}__", _arithmetic(_name, True))
for _name in ("neg", "pos", "abs"):
    setattr(Number, f"__{_name}__", _arithmetic(_name, False))


def _no_number(what: str) -> Callable[..., Any]:
    def refused(self: Any, *args: Any) -> NoReturn:
        _refuse(
            f"{what} of a float argument: its value belongs to one call; compare before the step, "
            f"or close over the number where it never changes"
        )

    return refused


for _name in (
    "lt", "le", "gt", "ge", "eq", "ne", "bool", "int", "float", "round", "floordiv", "mod",
    "format", "str", "trunc", "floor", "ceil", "divmod", "rfloordiv", "rmod",
):  # fmt: skip
    setattr(Number, f"__{_name}__", _no_number(f"__{_name}__"))
for _name in ("hex", "is_integer", "as_integer_ratio", "conjugate"):
    setattr(Number, _name, _no_number(f".{_name}()"))
for _name in ("real", "imag"):
    setattr(Number, _name, property(_no_number(f".{_name}")))
Number.__hash__ = float.__hash__  # type: ignore[method-assign]
