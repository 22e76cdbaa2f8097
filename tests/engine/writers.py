"""Every way to write into an array that NumPy has, found by asking NumPy.

`WRITERS` is name -> function that writes into an array of four float64. Ufuncs, functions and
methods with an argument `out` are found by inspection, and for each one that takes them arguments
are tried out; what has no such argument (`put`, `fill`, memoryview, ...) is listed by hand.
"""

from __future__ import annotations

import inspect
import io
import itertools
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Array = np.ndarray
Writer = Callable[[Array], Any]

SIZE = 4
OLD = np.array([3.25, 1.25, 2.25, 0.75])  # what the writers are tried on

_V = np.array([0.5, -0.25, 0.375, 0.125])
_M = np.arange(16.0).reshape(4, 4) / 8 + 0.1
_DAYS = np.array(["2024-01-03", "2024-01-04", "2024-01-05", "2024-01-08"], "datetime64[D]")

_ARGUMENTS: list[tuple[Any, ...]] = [
    (), (_V,), (_M, 0), (_V, 0.5), (_V, 50.0), (_M, 0.5, 0), (_M, 50.0, 0), (_V, 0.0, 0.25),
    ([0, 0, 0, 0], [_V]), ([True] * 4, _V), ([_V[:2], _V[2:]],), (_M, _V), ([_M, _M, _V],),
    ("i,i->i", _V, _V), (_V[:2], _V[:2]), ([0.5, 0.1, 0.2, 0.3],), (_V, [3, 2, 1, 0]), (_M,),
    (_M + 0j,), (_V + 0j,), (_V[:3] + 0j,), (_M[:2, :2] + 0j,), (_DAYS,), (_DAYS, 1),
    (_DAYS, _DAYS + 7), (2.0,), (_M[:2, :2],), (_M[:2, :3],), (_V[:2],), (_V[:2] + 0j,),
    ([0, 1, 0, 1],), (np.zeros(4, int), [_V]), (_M[:1, :2],), (_M[:1, :2] + 0j,),
]  # fmt: skip


def _outs(a: Array) -> Iterator[Array]:
    """Views of a, of the shapes and dtypes that results have."""
    for shape in ((4,), (2, 2), (1, 4), (4, 1)):
        yield a.reshape(shape)
    yield a[:1].reshape(())
    yield a[:2]
    yield a[:2].reshape(1, 2)
    yield a[:3]
    ints, bools, days = a.view(np.int64), a.view(np.bool_), a.view("datetime64[D]")
    yield from (ints, ints[:1].reshape(()), bools[:4], bools[:1].reshape(()), days)
    pairs = a.view(np.complex128)
    yield from (pairs, pairs.reshape(2, 1), pairs[:1], pairs.reshape(1, 2), pairs[:1].reshape(()))


def _writes(write: Writer) -> bool:
    a = OLD.copy()
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            write(a)
    except Exception:
        return False
    return a.tobytes() != OLD.tobytes()


def _takes_out(f: Any) -> bool:
    if not callable(f) or isinstance(f, (type, np.ufunc)):
        return False
    try:
        return "out" in inspect.signature(f).parameters
    except (ValueError, TypeError):
        return "out=" in (f.__doc__ or "")


def _into(call: Callable[..., Any], arguments: tuple[Any, ...], k: int) -> Writer:
    return lambda a: call(*arguments, out=next(itertools.islice(_outs(a), k, None)))


def _found(call: Callable[..., Any]) -> Writer | None:
    """A call of what has an argument `out` that writes, if any of the arguments fit."""
    for arguments, (k, _) in itertools.product(_ARGUMENTS, enumerate(_outs(OLD.copy()))):
        write = _into(call, arguments, k)
        if _writes(write):
            return write
    return None


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every function of NumPy with an argument `out`; methods are called on an array of ours."""
    for module in (np, np.linalg, np.fft, np.ma):
        for name in sorted(dir(module)):
            if not name.startswith("_") and _takes_out(f := getattr(module, name)):
                yield f"{module.__name__}.{name}", f
    for name in sorted(dir(np.ndarray)):
        if not name.startswith("_") and _takes_out(getattr(np.ndarray, name)):
            yield f"ndarray.{name}", getattr(np.ndarray, name)
    for name in sorted(dir(np.random.Generator)):
        if not name.startswith("_") and _takes_out(getattr(np.random.Generator, name)):
            yield (
                f"Generator.{name}",
                lambda *args, n=name, **kw: getattr(np.random.default_rng(5), n)(*args, **kw),
            )


def ufuncs() -> Iterator[tuple[str, np.ufunc]]:
    for name in sorted(dir(np)):
        if isinstance(f := getattr(np, name), np.ufunc):
            yield f"np.{name}", f


_SAMPLES = {"?": True, "d": 0.5, "l": 3, "q": 3, "D": 0.5j, "f": 0.5, "b": 3, "i": 3}


def _ufunc_calls(f: np.ufunc) -> Iterator[tuple[str, Writer]]:
    """f(..., out=a) for the loops it has, and its methods."""
    if f.signature is not None:
        shapes = {"matmul": (_M, _V), "matvec": (_M, _V), "vecmat": (_V, _M), "vecdot": (_M, _V)}
        yield "", lambda a: f(*shapes[f.__name__], out=a)
        return
    loops = sorted((t.split("->")[0] for t in f.types), key=lambda t: set(t) != {"d"})
    inputs = [
        [np.full(SIZE, _SAMPLES[c], c) for c in t] for t in loops if set(t) <= _SAMPLES.keys()
    ]
    inputs.append([np.full(SIZE, np.datetime64("NaT", "D")) for _ in range(f.nin)])
    for given in inputs:
        yield "", lambda a, g=given: f(*g, out=(a, *[None] * (f.nout - 1)), casting="unsafe")
    yield ".at", lambda a: f.at(a, [0], *[0.375] * (f.nin - 1))
    yield ".at", lambda a: f.at(a.view(np.int64), [0], *[3] * (f.nin - 1))
    for out in (lambda a: a, lambda a: a.view(np.int64), lambda a: a.view(np.bool_)[:4]):
        for m in (_M, np.arange(16).reshape(4, 4) + 1):
            yield ".reduce", lambda a, o=out, m=m: f.reduce(m, axis=0, out=o(a))
            yield ".accumulate", lambda a, o=out, m=m: f.accumulate(m[0], out=o(a))
            yield ".reduceat", lambda a, o=out, m=m: f.reduceat(m[0], [0, 1, 2, 3], out=o(a))
    yield ".outer", lambda a: f.outer(_V[:2], _V[:2], out=a.reshape(2, 2))


def _set(a: Array, name: str, value: Any) -> None:
    setattr(a, name, value)


def _nditer(a: Array) -> None:
    with np.nditer(a, op_flags=["readwrite"]) as it:
        for x in it:
            x[...] = 9.0


def _made(operator: str) -> Writer:
    def write(a: Array) -> None:
        if operator == "__imatmul__":
            a = a.reshape(2, 2)
            getattr(a, operator)(np.array([[0.0, 2.0], [3.0, 0.0]]))
        elif operator in ("__iand__", "__ior__", "__ixor__", "__ilshift__", "__irshift__"):
            getattr(a.view(np.int64), operator)(3)
        else:
            getattr(a, operator)(0.3125)

    return write


BY_HAND: dict[str, Writer] = {
    "a[0] =": lambda a: a.__setitem__(0, 9.0),
    "a[...] =": lambda a: a.__setitem__(..., _V),
    "a[mask] =": lambda a: a.__setitem__(a > 1, 9.0),
    "a[[0, 2]] =": lambda a: a.__setitem__([0, 2], 9.0),
    "a[::-1][0] =": lambda a: a[::-1].__setitem__(0, 9.0),
    "a.T[0] =": lambda a: a.T.__setitem__(0, 9.0),
    "a.ravel()[0] =": lambda a: a.ravel().__setitem__(0, 9.0),
    "a.flat[0] =": lambda a: a.flat.__setitem__(0, 9.0),
    "a.flat =": lambda a: _set(a, "flat", _V),
    "a.real =": lambda a: _set(a, "real", 9.0),
    "a.view(complex).imag =": lambda a: _set(a.view(np.complex128), "imag", 9.0),
    "a.view(uint8)[0] =": lambda a: a.view(np.uint8).__setitem__(slice(None), 7),
    "a.view(recarray)": lambda a: a.view([("u", np.float64)]).__setitem__(0, (9.0,)),
    "a.view(matrix)": lambda a: a.reshape(2, 2).view(np.matrix).__setitem__((0, 0), 9.0),
    "a.data": lambda a: a.data.__setitem__(0, 9.0),
    "a.fill": lambda a: a.fill(9.0),
    "a.sort": lambda a: a.sort(),
    "a.partition": lambda a: a.partition(2),
    "a.put": lambda a: a.put([0], [9.0]),
    "a.setfield": lambda a: a.setfield(9.0, np.float64),
    "a.byteswap": lambda a: a.byteswap(inplace=True),
    "a.diagonal": lambda a: np.einsum("ii->i", a.reshape(2, 2)).__setitem__(0, 9.0),
    "np.put": lambda a: np.put(a, [0], [9.0]),
    "np.place": lambda a: np.place(a, a > 0, [9.0]),
    "np.putmask": lambda a: np.putmask(a, a > 0, 9.0),
    "np.copyto": lambda a: np.copyto(a, 9.0),
    "np.fill_diagonal": lambda a: np.fill_diagonal(a.reshape(2, 2), 9.0),
    "np.put_along_axis": lambda a: np.put_along_axis(a, np.array([0]), 9.0, 0),
    "np.nan_to_num": lambda a: (a.__setitem__(0, np.nan), np.nan_to_num(a, copy=False)),
    "np.nditer": _nditer,
    "np.asarray": lambda a: np.asarray(a).__setitem__(0, 9.0),
    "np.frombuffer": lambda a: np.frombuffer(a).__setitem__(0, 9.0),
    "np.ndarray(buffer=)": lambda a: np.ndarray(4, buffer=a).__setitem__(0, 9.0),
    "np.from_dlpack": lambda a: np.from_dlpack(a).__setitem__(0, 9.0),
    "np.broadcast_arrays": lambda a: np.broadcast_arrays(a, a)[0].__setitem__(0, 9.0),
    "np.split": lambda a: np.split(a, 2)[0].__setitem__(0, 9.0),
    "np.ma.array": lambda a: np.ma.array(a, copy=False).__setitem__(0, 9.0),
    "np.ma.put": lambda a: np.ma.put(np.ma.array(a, copy=False), [0], [9.0]),
    "as_strided": lambda a: np.lib.stride_tricks.as_strided(a, (2,), (16,)).__setitem__(0, 9.0),
    "sliding_window_view": lambda a: np.lib.stride_tricks.sliding_window_view(
        a, 2, writeable=True
    ).__setitem__((0, 0), 9.0),
    "memoryview": lambda a: memoryview(a).__setitem__(0, 9.0),
    "memoryview.cast": lambda a: memoryview(a).cast("B").__setitem__(slice(0, 8), b"\1" * 8),
    "readinto": lambda a: io.BytesIO(b"\1" * 32).readinto(a),
    "setflags": lambda a: (a.setflags(write=False), a.setflags(write=True), a.fill(9.0)),
    "Generator.shuffle": lambda a: np.random.default_rng(3).shuffle(a),
    "np.random.shuffle": lambda a: np.random.RandomState(3).shuffle(a),
    "random.shuffle": lambda a: random.Random(3).shuffle(a),
} | {
    f"a.{name}": _made(name)
    for name in dir(np.ndarray)
    if name.startswith("__i") and name[3:-2] in {
        "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift",
        "rshift", "matmul",
    }
}  # fmt: skip


def _collected() -> tuple[dict[str, Writer], list[str]]:
    """The writers, and what has an argument `out` and could not be made to write."""
    found, missed = dict(BY_HAND), []
    for name, f in functions():
        write = _found(f)
        if write is None:
            missed.append(name)
        else:
            found[name] = write
    for name, u in ufuncs():
        before = len(found)
        for how, write in _ufunc_calls(u):
            if name + how not in found and _writes(write):
                found[name + how] = write
        if len(found) == before:
            missed.append(name)
    return found, missed


WRITERS, MISSED = _collected()
