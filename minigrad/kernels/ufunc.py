"""NumPy ufuncs and generalised ufuncs out of the addresses of compiled inner loops.

A ufunc brings broadcasting, strides, outputs, `out=` and the release of the GIL for 0.4 us a call,
less than any Python around a compiled loop would take. They are made by NumPy's C API through
ctypes. Loops are registered as array methods (NEP 43) that ignore floating-point flags: Inf and
NaN pass without NumPy's RuntimeWarning, and a call is 80 ns shorter than with a classic loop.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from minigrad.kernels import jit

# Places in NumPy's table of C functions (numpy/__ufunc_api.h), which never change.
_FROM_LOOPS_AND_SIGNATURE, _ADD_LOOP_FROM_SPEC = 31, 43
_STRIDED_LOOP = 5  # NPY_METH_strided_loop
_NO_FLOATING_POINT_ERRORS = 2  # NPY_METH_NO_FLOATINGPOINT_ERRORS


class _Slot(ctypes.Structure):
    _fields_ = (("slot", ctypes.c_int), ("function", ctypes.c_void_p))


class _Spec(ctypes.Structure):  # PyArrayMethod_Spec
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("nin", ctypes.c_int),
        ("nout", ctypes.c_int),
        ("casting", ctypes.c_int),
        ("flags", ctypes.c_int),
        ("dtypes", ctypes.c_void_p),
        ("slots", ctypes.c_void_p),
    )


_keep: list[bytes | None] = []  # a ufunc points to its name and signature, and may live for ever


@cache
def _functions() -> tuple[Any, Any]:
    """NumPy's (PyUFunc_FromFuncAndDataAndSignature, PyUFunc_AddLoopFromSpec)."""
    api = import_module("numpy._core._multiarray_umath")._UFUNC_API
    unpack = ctypes.pythonapi.PyCapsule_GetPointer
    unpack.restype, unpack.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = ctypes.cast(unpack(api, None), ctypes.POINTER(ctypes.c_void_p))
    pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    words = [pointer] * 3 + [number] * 4 + [text] * 2 + [number, text]
    make = ctypes.PYFUNCTYPE(ctypes.py_object, *words)
    add = ctypes.PYFUNCTYPE(number, ctypes.py_object, pointer)
    return make(table[_FROM_LOOPS_AND_SIGNATURE]), add(table[_ADD_LOOP_FROM_SPEC])


def ufunc(name: str, address: int, types: str, core: str | None = None) -> Callable[..., Any]:
    """A ufunc whose inner loop is at `address`, an export of signature jit.LOOP.

    types: NumPy's type characters, "ff->f", "?dd->d"; arguments of other types are refused, Python
    numbers too. core: for a generalised ufunc, "(m,k),(k,n)->(m,n)".
    """
    make, add = _functions()
    inputs, outputs = types.split("->")
    texts = name.encode(), b"", core.encode() if core else None
    _keep.extend(texts)
    made = make(None, None, None, 0, len(inputs), len(outputs), -1, texts[0], texts[1], 0, texts[2])
    kinds = [type(np.dtype(char)) for char in inputs + outputs]
    dtypes = (ctypes.c_void_p * len(kinds))(*map(id, kinds))
    slots = (_Slot * 2)(_Slot(_STRIDED_LOOP, address), _Slot(0, None))
    spec = _Spec(
        name=texts[0],
        nin=len(inputs),
        nout=len(outputs),
        casting=0,
        flags=_NO_FLOATING_POINT_ERRORS,
        dtypes=ctypes.addressof(dtypes),
        slots=ctypes.addressof(slots),
    )
    add(made, ctypes.addressof(spec))  # NumPy copies all of it; ctypes raises what it raises
    return jit.checked(made) if jit.mode() == "checked" else made
