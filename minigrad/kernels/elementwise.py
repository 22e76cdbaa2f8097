"""Elementwise kernels out of a few lines of source: any fused expression becomes one ufunc.

    >>> f = loop("def element(x, y): return tanh(x) * y", "ff->f", np.float32)
    >>> f(np.zeros(3, np.float32), np.ones((2, 3), np.float32)).shape
    (2, 3)

The lines become the inside of a loop over contiguous arrays, which LLVM vectorises; `strided.enter`
feeds it with operands of any step. A kernel is that loop and nothing else, as Numba compiles each:
0.15 s on a 2 GHz Zen 1, where with its part of `enter` it was 0.4 s. Results are rounded operation
by operation, so a fused kernel gives the same bits as its operations one at a time.

Under NUMBA_DISABLE_JIT=1 the lines run on whole arrays instead: what they call has a meaning on
arrays too (vectormath.py).
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.kernels import jit, threads
from minigrad.kernels.compiler import Kernel, build, takes
from minigrad.kernels.ufuncs import LOOP, by_hand, ufunc

# What a source may call, of vectormath.py.
_FUNCTIONS = {
    "abs", "bell", "cos", "erf", "exp", "expm1", "floor", "gauss", "isnan", "log", "log1p",
    "maximum", "minimum", "ndtr", "pow", "remainder", "sech2", "select", "sigmoid", "sigmoid_slope",
    "sign", "sin", "sqrt", "tanh",
}  # fmt: skip
# Names that the loop uses itself.
_TAKEN = _FUNCTIONS | {
    "args", "array", "auxiliary", "c", "context", "dims", "float32", "float64", "handed_over",
    "index", "inf", "int32", "nan", "np", "places", "steps", "wide", "words",
}  # fmt: skip

Array = np.ndarray


def loop(source: str, signature: str, dtype: Any) -> Callable[..., Any]:
    """The function f(*arrays, out=None) of `def element(...)`; the same one for equal arguments.

    source: lines `name = expression` and a last `return a[, b ...]`, of + - * / comparisons, & | ~
    on bools, c(number) for literals, and exp log tanh sigmoid expm1 log1p erf sqrt sin cos pow
    remainder sech2 sigmoid_slope gauss bell ndtr floor abs sign minimum maximum isnan
    select(condition, a, b).
    signature: "ff->f"; f: of `dtype` (float32 or float64), b: bool. Arguments must have exactly
    these dtypes, and broadcast. Results are new arrays unless `out` is given, a tuple if several.
    """
    return _loop(source, signature, np.dtype(dtype))


@cache
def _loop(source: str, signature: str, dtype: np.dtype) -> Callable[..., Any]:
    function = _parse(source)
    types = signature.replace("b", "?").replace("f", dtype.char)
    if jit.mode() == "plain":
        return by_hand(_on_arrays(function, dtype), types)
    kernel = build("element", _generate(function, signature, dtype), {"loop": LOOP})
    if jit.mode() == "checked":
        return by_hand(_on_blocks(kernel, types), types)
    _connect(kernel, types)
    return ufunc("element", kernel["loop"], types)


def _on_arrays(function: Any, dtype: np.dtype) -> Callable[..., Any]:
    """The source's function as it is, of whole arrays."""
    from minigrad.kernels import vectormath

    names = {name: getattr(vectormath, name) for name in _FUNCTIONS}
    exec(ast.unparse(function), names := {**names, "c": dtype.type, "inf": np.inf, "nan": np.nan})
    return names["element"]


def _on_blocks(kernel: Kernel, types: str) -> Callable[..., Any]:
    """The compiled loop as a function of arrays of one shape."""
    inputs, outputs = types.split("->")

    def element(*arrays: Array) -> tuple[Array, ...]:
        n = arrays[0].size
        places = [np.zeros(n + 64, char) for char in inputs + outputs]  # whole blocks
        for place, array in zip(places, arrays, strict=False):
            place[:n] = array.ravel()
        at = np.array([place.ctypes.data for place in places], np.int64)
        kernel.function("loop")(0, at.ctypes.data, n + 63, 0, 0)
        return tuple(place[:n].reshape(arrays[0].shape) for place in places[len(inputs) :])

    return element


def _parse(source: str) -> Any:
    """The function in the source, with no variable called like what the loop uses."""
    function: Any = ast.parse(source).body[0]
    stored = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and _is_stored(n)}
    variables = stored | {argument.arg for argument in function.args.args}
    return _Rename({name: f"{name}_" for name in variables & _TAKEN}).visit(function)


def _is_stored(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


class _Rename(ast.NodeTransformer):
    """Gives variables other names and leaves functions theirs: `c * c(2.0)` to `c_ * c(2.0)`."""

    def __init__(self, names: dict[str, str]):
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self.names.get(node.id, node.id), node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg(self.names.get(node.arg, node.arg))

    def visit_Call(self, node: ast.Call) -> ast.AST:
        value = getattr(node.args[0], "value", None)
        if isinstance(value, str):  # c("-inf"): Numba reads no numbers
            return ast.parse(value, mode="eval").body
        return ast.Call(node.func, [self.visit(argument) for argument in node.args], [])


_TEXT = '''\
"""{results}"""

import numpy as np
from numba import {dtype}, int32

from minigrad.kernels.intrinsics import array, handed_over, wide, words
{maths}
c = np.{dtype}  # literals have the dtype of the kernel
inf, nan = c("inf"), c("nan")


def loop(context, args, dims, steps, auxiliary):
    """NumPy's inner loop. Without steps: over dims elements of contiguous arrays."""
    if steps != 0:  # of any operands: strided.enter calls again
        return handed_over(args, dims, steps)
    wide()
    {places} = words(args, {count})
{arrays}
    for _index in range(dims):
        {inputs} = {elements}
{lines}
    return int32(0)
'''


def _generate(function: Any, signature: str, dtype: np.dtype) -> str:
    """The kernel's text: the source's lines inside a loop over arrays."""
    inputs, outputs = signature.split("->")
    names = [argument.arg for argument in function.args.args]
    *body, last = function.body
    results = last.value.elts if isinstance(last.value, ast.Tuple) else [last.value]
    called = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)} & _FUNCTIONS
    maths = ", ".join(sorted(called))
    # Names that begin with _ are the loop's: the source has none of those.
    arrays = [*(f"_{name}" for name in names), *(f"_out{i}" for i in range(len(outputs)))]
    kinds = [{"f": dtype.name, "b": "np.bool_"}[kind] for kind in inputs + outputs]
    lines = [*map(ast.unparse, body)]
    lines += [f"_out{i}[_index] = {ast.unparse(result)}" for i, result in enumerate(results)]
    return _TEXT.format(
        results=", ".join(map(ast.unparse, results)),
        dtype=dtype.name,
        maths=f"from minigrad.kernels.vectormath import {maths}\n" if maths else "",
        count=len(arrays),
        places=", ".join(f"_at{name}" for name in arrays),
        arrays="\n".join(
            f"    {name} = array(_at{name}, dims, {kind})"
            for name, kind in zip(arrays, kinds, strict=True)
        ),
        inputs=", ".join(names),
        elements=", ".join(f"_{name}[_index]" for name in names),
        lines="\n".join(f"        {line}" for line in lines),
    )


def _connect(kernel: Kernel, types: str) -> None:
    """Tells a loop where `enter` is, and that what it loops over."""
    inputs, outputs = types.split("->")
    sizes = [np.dtype(char).itemsize for char in inputs + outputs]
    driver, pool = _driver(), threads.links()
    if len(sizes) > driver.module.MOST_OPERANDS:
        raise jit.KernelError(
            f"element: expected at most {driver.module.MOST_OPERANDS} operands, came {len(sizes)}."
        )
    words = [
        driver["enter"], driver["drive"], driver["share"],
        pool["minigrad_parallel_for"], pool["minigrad_thread_count"],
        kernel["loop"], len(inputs), len(sizes),
        _block(max(sizes)), driver.module.ROOM // max(sizes),
        64 // max(sizes), *sizes,
    ]  # fmt: skip
    table = jit.for_good(np.array(words, np.int64))
    kernel.function("loop")(0, table.ctypes.data, 0, 1, 0)


@cache
def _driver() -> Kernel:
    text = Path(__file__).with_name("strided.py").read_text(encoding="utf-8")
    return build("strided", text, {"enter": takes(4), "drive": takes(4), "share": takes(2)})


def _block(itemsize: int) -> int:
    """Elements of a block: whole vectors of any CPU, four of the widest."""
    return 256 // itemsize
