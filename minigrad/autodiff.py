"""Derivatives of functions: grad, vjp, jvp, jacobian, hessian."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import backward, ops
from .border import values
from .errors import DTypeError, GradientError, ShapeError, describe
from .tensors import Tensor, as_tensor, tensor, wrap

Function = Callable[..., Tensor]


def grad(
    output: Tensor,
    inputs: Tensor | Sequence[Tensor],
    grad_output: Any = None,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    allow_unused: bool = False,
) -> Any:
    """d(output)/d(input) for each input, as Tensors; `.grad` of no leaf is touched.

    output: one number, or any shape if grad_output, its cotangent, is given. inputs: one Tensor or
    several, leaves or computed. create_graph: record the computation, so that the result can be
    differentiated. Raises GradientError if an input was not used, unless allow_unused (then None
    stands for it).

    >>> x = tensor(3.0, requires_grad=True)
    >>> first = grad(x**3, x, create_graph=True)
    >>> first.item(), grad(first, x).item()
    (27.0, 18.0)
    """
    single = isinstance(inputs, Tensor)
    wanted = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    for i, t in enumerate(wanted):
        if not isinstance(t, Tensor) or not t.requires_grad:
            raise GradientError(
                f"grad: input {i}, {describe(t)}, does not require a gradient; make it with "
                f"tensor(..., requires_grad=True)."
            )
    seed = backward.cotangent("grad", output, grad_output, create_graph)
    retain = create_graph if retain_graph is None else retain_graph
    found = backward.walk([output], [seed], wanted, retain_graph=retain, create_graph=create_graph)
    for i, g in enumerate(found):
        if g is None and not allow_unused:
            raise GradientError(
                f"grad: the output does not depend on input {i}, {describe(wanted[i])}; leave it "
                f"out, or pass allow_unused=True to get None."
            )
    results = [g if g is None or isinstance(g, Tensor) else wrap(g, None, False) for g in found]
    return results[0] if single else results


def _leaves(where: str, inputs: Sequence[Any]) -> list[Tensor]:
    leaves = []
    for i, value in enumerate(inputs):
        leaf = tensor(values(value))
        if leaf.dtype.kind != "f":
            raise GradientError(
                f"{where}: input {i} is {describe(leaf)}; expected float32 or float64."
            )
        leaves.append(leaf.requires_grad_())
    return leaves


def _call(where: str, f: Function, leaves: Sequence[Tensor]) -> Tensor:
    y = f(*leaves)
    if not isinstance(y, Tensor):
        raise GradientError(f"{where}: f returned {describe(y)}; expected one Tensor.")
    return y


def _all(single: bool, values: list[Any]) -> Any:
    return values[0] if single else tuple(values)


def vjp(f: Function, *inputs: Any) -> tuple[Tensor, Callable[[Any], Any]]:
    """f(*inputs) and the function v -> v^T J: reverse mode, one pass for all inputs.

    >>> y, pull = vjp(lambda x: x * x, [1.0, 2.0])
    >>> pull([1.0, 10.0])
    tensor([ 2., 40.])
    """
    leaves = _leaves("vjp", inputs)
    y = _call("vjp", f, leaves)

    def pull(v: Any) -> Any:
        if not y.requires_grad:
            backward.of_output("vjp", y, v)
            return _all(len(leaves) == 1, [as_tensor(np.zeros(x.shape, x.dtype)) for x in leaves])
        found = grad(y, leaves, grad_output=v, retain_graph=True, allow_unused=True)
        return _all(len(leaves) == 1, [_or_zero(g, x) for g, x in zip(found, leaves, strict=True)])

    return y.detach(), pull


def _or_zero(g: Tensor | None, like: Tensor) -> Tensor:
    return wrap(np.zeros(like.shape, like.dtype), None, False) if g is None else g


def jvp(f: Function, inputs: Any, tangents: Any) -> tuple[Tensor, Tensor]:
    """f(*inputs) and J t: how the output moves when the inputs move along the tangents.

    inputs, tangents: one array each, or tuples of as many. Two reverse passes: v -> v^T J is
    linear in v, and its gradient is J.

    >>> jvp(lambda x: x * x, [1.0, 2.0], [1.0, 0.5])[1]
    tensor([2., 2.])
    """
    several = isinstance(inputs, tuple)
    leaves = _leaves("jvp", inputs if several else (inputs,))
    moves = [as_tensor(t) for t in (tangents if several else (tangents,))]
    if [m.shape for m in moves] != [x.shape for x in leaves]:
        raise ShapeError(
            f"jvp: tangents {[describe(m) for m in moves]} must match inputs "
            f"{[describe(x) for x in leaves]} in number and shape."
        )
    for i, m in enumerate(moves):
        if m.dtype.kind != "f":
            raise DTypeError(f"jvp: tangent {i} is {describe(m)}; expected floats.")
    y = _call("jvp", f, leaves)
    still = as_tensor(np.zeros(y.shape, y.dtype))
    if not y.requires_grad:
        return y.detach(), still
    v = still.requires_grad_()
    pulled = grad(y, leaves, grad_output=v, create_graph=True, allow_unused=True)
    moved = [ops.sum(g * m) for g, m in zip(pulled, moves, strict=True) if g is not None]
    moved = [m for m in moved if m.requires_grad]
    if not moved:
        return y.detach(), as_tensor(np.zeros(y.shape, y.dtype))
    total = moved[0]
    for m in moved[1:]:
        total = total + m
    tangent = grad(total, v, allow_unused=True)
    return y.detach(), _or_zero(tangent, y)


def _rows(y: Tensor, leaves: Sequence[Tensor], create_graph: bool) -> list[list[Tensor]]:
    """For each leaf d(y_k)/d(leaf) of every element k of y: a reverse pass an element."""
    rows: list[list[Tensor]] = [[] for _ in leaves]
    for k in range(y.size):
        found: Sequence[Tensor | None] = [None] * len(leaves)
        if y.requires_grad:
            v = np.zeros(y.shape, y.dtype)
            v.flat[k] = 1
            found = grad(
                y, leaves, v, create_graph=create_graph, retain_graph=True, allow_unused=True
            )
        for row, g, x in zip(rows, found, leaves, strict=True):
            row.append(_or_zero(g, x))
    return rows


def _blocks(y: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    """dy/d(leaf), of shape (*y.shape, *leaf.shape), for each leaf; values alone."""
    blocks = []
    for row, x in zip(_rows(y, leaves, False), leaves, strict=True):
        block = np.array([g._array for g in row], x.dtype).reshape((*y.shape, *x.shape))
        blocks.append(wrap(block, None, False))
    return blocks


def jacobian(f: Function, *inputs: Any, create_graph: bool = False) -> Any:
    """dy/dx, of shape (*y.shape, *x.shape), for each input: one reverse pass an output element.

    >>> jacobian(lambda x: x * x, [1.0, 2.0])
    tensor([[2., 0.],
            [0., 4.]])
    """
    leaves = list(inputs) if create_graph else _leaves("jacobian", inputs)
    y = _call("jacobian", f, leaves)
    if not create_graph:
        return _all(len(leaves) == 1, _blocks(y, leaves))
    recorded = zip(_rows(y, leaves, True), leaves, strict=True)
    blocks = [ops.reshape(ops.stack(row), (*y.shape, *x.shape)) for row, x in recorded]
    return _all(len(leaves) == 1, blocks)


def hessian(f: Function, *inputs: Any) -> Any:
    """d2 f / dx dx, of shape (*x.shape, *x.shape), of a function that returns one number.

    With several inputs: a tuple of tuples, block [i][j] being d2 f / dx_i dx_j.

    >>> hessian(lambda x: (x**3).sum(), [1.0, 2.0])
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    leaves = _leaves("hessian", inputs)
    y = _call("hessian", f, leaves)
    if y.size != 1:
        raise ShapeError(f"hessian: f returned {describe(y)}; expected one number.")
    first: Sequence[Tensor | None] = [None] * len(leaves)
    if y.requires_grad:
        first = grad(y, leaves, np.ones(y.shape, y.dtype), create_graph=True, allow_unused=True)
    table = [_blocks(_or_zero(g, x), leaves) for g, x in zip(first, leaves, strict=True)]
    return table[0][0] if len(leaves) == 1 else tuple(map(tuple, table))
