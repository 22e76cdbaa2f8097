"""NumPy ufuncs and generalised ufuncs out of the addresses of compiled inner loops.

A ufunc brings broadcasting, strides, outputs, `out=` and the release of the GIL for 0.4 us a call,
less than any Python around a compiled loop would take: those of Numba cost 0.1 us (@vectorize, and
it warns of every Inf) to 1.6 us (@guvectorize) more, as measured on a 2-core AVX-512 machine. Ours
are made by NumPy's documented C API, which ctypes finds where NumPy's header says that it is.
Loops are registered as array methods (NEP 43) that ignore floating-point flags: Inf and NaN pass
without NumPy's RuntimeWarning, and a call is 80 ns shorter than with a classic loop.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

# The inner loop of a NumPy (g)ufunc: f(context, args, dims, steps, auxiliary), of NEP 43.
LOOP = "int32(int64, int64, int64, int64, int64)"

# Of numpy/dtype_api.h:
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


# What `ufunc` has made: (address of the loop, types, core).
LOOPS: dict[Callable[..., Any], tuple[int, str, str | None]] = {}
_keep: list[bytes | None] = []  # a ufunc points to its name and signature, and may live for ever


@cache
def _functions() -> tuple[Any, Any]:
    """NumPy's (PyUFunc_FromFuncAndDataAndSignature, PyUFunc_AddLoopFromSpec), as C gets them."""
    header = Path(np.get_include(), "numpy", "__ufunc_api.h").read_text(encoding="utf-8")
    api = import_module("numpy._core._multiarray_umath")._UFUNC_API  # as import_ufunc() in C
    unpack = ctypes.pythonapi.PyCapsule_GetPointer
    unpack.restype, unpack.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = ctypes.cast(unpack(api, None), ctypes.POINTER(ctypes.c_void_p))

    def find(name: str, result: Any, *words: Any) -> Any:
        place = re.search(rf"#define {name} \\\n.*\\\n\s*PyUFunc_API\[(\d+)\]", header)
        assert place is not None, f"NumPy's header has no {name}"
        return ctypes.PYFUNCTYPE(result, *words)(table[int(place[1])])

    pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    words = [pointer] * 3 + [number] * 4 + [text] * 2 + [number, text]
    make = find("PyUFunc_FromFuncAndDataAndSignature", ctypes.py_object, *words)
    return make, find("PyUFunc_AddLoopFromSpec", number, ctypes.py_object, pointer)


def ufunc(name: str, address: int, types: str, core: str | None = None) -> Callable[..., Any]:
    """A ufunc whose inner loop is at `address`, a C function of signature LOOP.

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
    LOOPS[made] = address, types, core
    return made


def by_hand(element: Callable[..., Any], types: str) -> Callable[..., Any]:
    """What `ufunc` would do, in Python: for code that is checked or not compiled.

    element: a function of arrays of one shape, of one or of a tuple of results.
    """
    inputs, outputs = ([np.dtype(char) for char in part] for part in types.split("->"))

    def run(*operands: Any, out: Any = None) -> Any:
        arrays, given = operands[: len(inputs)], operands[len(inputs) :]
        if [np.result_type(array) for array in arrays] != inputs:
            came = ", ".join(str(np.result_type(array)) for array in arrays)
            raise TypeError(f"element: expected {', '.join(map(str, inputs))}, came {came}.")
        shape = np.broadcast_shapes(*(np.shape(array) for array in arrays))
        with np.errstate(all="ignore"):  # as kernels do: Inf and NaN pass without a warning
            results = element(*(np.broadcast_to(array, shape) for array in arrays))
        results = results if isinstance(results, tuple) else (results,)
        places = given or (out if isinstance(out, tuple) else (out,) * len(results))
        made = []
        for result, place, kind in zip(results, places, outputs, strict=True):
            target = np.empty(shape, kind) if place is None else place
            np.copyto(target, result)
            made.append(target if place is not None or shape else target[()])
        return made[0] if len(made) == 1 else tuple(made)

    return run
