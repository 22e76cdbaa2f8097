"""Elementwise kernels out of a few lines of source: any fused expression becomes one ufunc.

    >>> f = loop("def element(x, y): return tanh(x) * y", "ff->f", np.float32)
    >>> f(np.zeros(3, np.float32), np.ones((2, 3), np.float32)).shape
    (2, 3)

The lines are placed in a loop over vectors of the CPU's width (simd.py): whole contiguous vectors
on the fast way, remainders and strided operands lane by lane. The text of that loop is what is
compiled, cached and kept to read. Results are rounded operation by operation, so a fused kernel
gives the same bits as its operations one at a time.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.kernels import host, jit, plain, threads
from minigrad.kernels.ufunc import ufunc

# What a source may call, and the module of the Numba side that defines it.
_SIMD = {"abs", "floor", "isnan", "maximum", "minimum", "select", "sign", "sqrt"}
_VECTORMATH = {
    "bell", "cos", "erf", "exp", "expm1", "gauss", "log", "log1p", "ndtr", "pow",
    "sech2", "sigmoid",
    "sigmoid_slope", "sin", "tanh",
}  # fmt: skip

# Elements that one thread takes at a time: 2 us of the cheapest work, as long as the pool's start.
_PART = 32768


def loop(source: str, signature: str, dtype: Any) -> Callable[..., Any]:
    """The function f(*arrays, out=None) of `def element(...)`; the same one for equal arguments.

    source: lines `name = expression` and a last `return a[, b ...]`, of + - * / comparisons, & | ~
    on bools, c(number) for literals, and exp log tanh sigmoid expm1 log1p erf sqrt sin cos pow
    sech2 sigmoid_slope gauss bell ndtr
    floor abs sign minimum maximum isnan select(condition, a, b).
    signature: "ff->f"; f: of `dtype` (float32 or float64), b: bool. Arguments must have exactly
    these dtypes, and broadcast. Results are new arrays unless `out` is given, a tuple if several.
    """
    return _loop(source, signature, np.dtype(dtype))


@cache
def _loop(source: str, signature: str, dtype: np.dtype) -> Callable[..., Any]:
    function = _parse(source)
    if jit.mode() == "plain":
        return plain.element(ast.unparse(function), signature, dtype)
    text = _generate(function, signature, dtype)
    kernel = jit.build("element", text, {"element": jit.LOOP}, {"minigrad_split": _split()})
    types = signature.replace("b", "?").replace("f", dtype.char)
    return ufunc("element", kernel["element"], types)


@cache
def _split() -> int:
    text = jit.source(Path(__file__).with_name("split.py"))
    exports = {"split": "void(ptr, ptr, i64*, ptr, i64, i64)", "part": "void(ptr, i64)"}
    return jit.build("split", text, exports, threads.links())["split"]


class _Rename(ast.NodeTransformer):
    """Gives variables other names and leaves functions theirs: `c * c(2.0)` to `c_ * c(2.0)`."""

    def __init__(self, names: dict[str, str]):
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self.names.get(node.id, node.id), node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg(self.names.get(node.arg, node.arg))

    def visit_Call(self, node: ast.Call) -> ast.Call:
        return ast.Call(node.func, [self.visit(argument) for argument in node.args], [])


def _parse(source: str) -> Any:
    """The function in the source, with no variable called like a function."""
    function: Any = ast.parse(source).body[0]
    stored = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and _is_stored(n)}
    variables = stored | {argument.arg for argument in function.args.args}
    clashes = variables & (_SIMD | _VECTORMATH | {"c", "V", "B", "split"})
    return _Rename({name: f"{name}_" for name in clashes}).visit(function)


def _is_stored(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


def _generate(function: Any, signature: str, dtype: np.dtype) -> str:
    """The kernel's text: the source's lines inside a loop over vectors."""
    inputs, outputs = signature.split("->")
    names = [argument.arg for argument in function.args.args]
    *lines, last = function.body
    results = last.value.elts if isinstance(last.value, ast.Tuple) else [last.value]
    called = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    simd, maths = sorted(called & _SIMD), sorted(called & _VECTORMATH)
    lanes = 2 * host.lanes(dtype.itemsize)  # two registers: half as many tests for the rare ways
    sizes, kinds = {"f": dtype.itemsize, "b": 1}, {"f": "V", "b": "B"}
    # Names that begin with _ are the loop's: the source has none of those.
    operands = [*names, *(f"_out{i}" for i in range(len(outputs)))]

    text = [
        f"from numba import {dtype.name}",
        "from minigrad.kernels.memory import address_of, external, ptr, strided",
        "from minigrad.kernels.lanes import load_lanes, repeated, store_lanes",
        f"from minigrad.kernels.simd import {', '.join(['Mask', 'Vec', 'constant', *simd])}",
    ]
    if maths:
        text.append(f"from minigrad.kernels.vectormath_simd import {', '.join(maths)}")
    text += [
        "",
        f"V = Vec({dtype.name}, {lanes})",
        f"B = Mask({lanes})",
        "c = constant(V)",
        'split = external("minigrad_split", "void(ptr, ptr, ptr, ptr, i64, i64)")',
        "",
        "",
        "def element(_args, _dims, _steps):",
        "    _n = _dims[0]",
        f"    if _n > {_PART}:",
        '        _loop = address_of("element")',
        f"        split(_loop, ptr(_args), ptr(_dims), ptr(_steps), {len(operands)}, {_PART})",
        "        return",
    ]
    for i, (name, kind) in enumerate(zip(operands, inputs + outputs, strict=True)):
        text.append(f"    _{name}_step = _steps[{i}]")
        text.append(f"    _{name}_base = strided(_args[{i}], _n, _{name}_step, {sizes[kind]})")
        if i < len(inputs):
            text.append(f"    _{name}_base = repeated(_{name}_base, _{name}_step, {kinds[kind]})")
    text.append(f"    for _i in range(0, _n, {lanes}):")
    text.append("        _left = _n - _i")
    for name, kind in zip(names, inputs, strict=True):
        where = f"_{name}_base, _i, _{name}_step, _left"
        text.append(f"        {name} = load_lanes({where}, {kinds[kind]})")
    text += [f"        {ast.unparse(line)}" for line in lines]
    for i, result in enumerate(results):
        where = f"__out{i}_base, _i, __out{i}_step, _left"
        text.append(f"        store_lanes({where}, {ast.unparse(result)})")
    return "\n".join(text) + "\n"
