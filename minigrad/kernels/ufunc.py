"""NumPy ufuncs and generalised ufuncs out of the addresses of compiled inner loops.

A ufunc brings broadcasting, strides, outputs, `out=` and the release of the GIL for 0.4 us a call,
less than any Python around a compiled loop would take. They are made by NumPy's C API, through
ctypes; the API's table has a fixed order (numpy/__ufunc_api.h).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from minigrad.kernels import jit

_FROM_LOOPS = 31  # PyUFunc_FromFuncAndDataAndSignature
_keep: list[Any] = []  # a ufunc points into these, and may live for ever


@cache
def _api(index: int, *words: Any) -> Any:
    """The function at `index` of NumPy's table, returning an object."""
    from numpy._core import _multiarray_umath

    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = ctypes.cast(
        pointer(_multiarray_umath._UFUNC_API, None), ctypes.POINTER(ctypes.c_void_p)
    )
    return ctypes.PYFUNCTYPE(ctypes.py_object, *words)(table[index])


def ufunc(
    name: str, address: int, types: str, core: str | None = None, data: int = 0
) -> Callable[..., Any]:
    """A ufunc whose inner loop, of signature jit.LOOP, is at `address`.

    types: NumPy's type characters, "ff->f", "?dd->d". core: for a gufunc, "(m,k),(k,n)->(m,n)".
    data: an address that the loop gets as its last argument.
    """
    pointer, integer, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    words = [pointer] * 3 + [integer] * 4 + [text] * 2 + [integer, text]
    inputs, outputs = types.split("->")
    numbers = bytes(np.dtype(char).num for char in inputs + outputs)
    arrays = (pointer * 1)(address), (pointer * 1)(data), ctypes.create_string_buffer(numbers)
    texts = name.encode(), b"", core.encode() if core else None
    _keep.append((arrays, texts))
    places = map(ctypes.addressof, arrays)
    no_identity = -1
    made = _api(_FROM_LOOPS, *words)(
        *places, 1, len(inputs), len(outputs), no_identity, *texts[:2], 0, texts[2]
    )
    return jit.checked(made) if jit.mode() == "checked" else made
