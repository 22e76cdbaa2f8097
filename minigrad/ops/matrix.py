"""The matrix product."""

from __future__ import annotations

import math

import numpy as np

from ..errors import ShapeError
from ..kernels.matmul import matmul as kernel
from ..kinds import matmul_kind
from ..op import sample
from .arithmetic import multiply
from .reduce import sum_to
from .view import swapaxes


@matmul_kind(
    symbol="@",
    inputs=2,
    samples=[
        sample((3, 4), (4, 5)),
        sample((1, 1), (1, 1)),
        sample((4,), (4,)),
        sample((4,), (4, 3)),
        sample((3, 4), (4,)),
        sample((2, 3, 4), (4, 5)),
        sample((4,), (2, 4, 3)),
        sample((2, 3, 4), (4,)),
        sample((2, 1, 3, 4), (7, 4, 5)),
    ],
    errors=[
        (sample((3, 4), (5, 4)), "did you mean"),
        (sample((3, 4), (3,)), "the last axis of a is 4"),
        (sample((), (3,)), "at least 1-D"),
        (sample((2, 3, 4), (5, 4, 3)), "do not broadcast"),
    ],
)
def matmul(a, b):
    """y = a @ b, (..., m, k) @ (..., k, n) -> (..., m, n); 1-D and broadcasting as in NumPy.

    Raises ShapeError if the inner sizes differ.
    """
    if a.ndim > 2 and b.ndim <= 2:  # (T, B, I) @ (I, H) is one product of T*B rows
        y = kernel(a.reshape(math.prod(a.shape[:-1]), a.shape[-1]), b)
        return y.reshape(*a.shape[:-1], *b.shape[1:])
    return np.asarray(kernel(a, b))


@matmul.check_params
def _(shapes):
    a, b = shapes
    if not a or not b:
        raise ShapeError(f"matmul: expected at least 1-D on both sides, got {a} and {b}; use *.")
    inner = b[0] if len(b) == 1 else b[-2]
    if a[-1] != inner:
        hint = ""
        if len(b) > 1 and a[-1] == b[-1]:
            hint = (
                " The last axis of b would fit: did you mean a @ swapaxes(b, -1, -2) (b.T in 2-D)?"
            )
        raise ShapeError(
            f"matmul: {list(a)} @ {list(b)}: the last axis of a is {a[-1]}, "
            f"the one of b it meets is {inner}.{hint}"
        )
    for i, j in zip(a[-3::-1], b[-3::-1], strict=False):
        if i != j and 1 not in (i, j):
            raise ShapeError(f"matmul: {list(a)} @ {list(b)}: the leading axes do not broadcast.")
    return {}


# In these rules methods (g.reshape, b.T) stand for ops where both an array and a Tensor have them:
# on arrays they cost a tenth.


@matmul.vjp("a")
def _(g, b, a_shape, b_shape):
    dims = (len(a_shape), len(b_shape))
    if dims == (2, 2):
        return matmul(g, b.T)
    if dims == (1, 2):
        return matmul(b, g)
    if dims[1] == 1:
        return multiply(g.reshape((*g.shape, 1)), b)
    left = _left(a_shape)
    ga = matmul(_rows(g, left, b_shape), swapaxes(b, -1, -2))
    return sum_to(ga, left).reshape(a_shape)


@matmul.vjp("b")
def _(g, a, a_shape, b_shape):
    dims = (len(a_shape), len(b_shape))
    if dims == (2, 2):
        return matmul(a.T, g)
    if dims == (1, 2):
        return multiply(a.reshape((-1, 1)), g)
    left, right = _left(a_shape), _right(b_shape)
    if len(right) == 2:  # one product over all rows, rather than one for each leading index
        rows = math.prod(left[:-1])
        columns = a.reshape((rows, left[-1])).T
        return matmul(columns, g.reshape((rows, right[-1]))).reshape(b_shape)
    gb = matmul(swapaxes(a.reshape(left), -1, -2), _rows(g, left, right))
    return sum_to(gb, right).reshape(b_shape)


def _left(shape):
    return (1, *shape) if len(shape) == 1 else shape


def _right(shape):
    return (*shape, 1) if len(shape) == 1 else shape


def _rows(g, left, right):
    """The output's gradient with the axes that a 1-D operand dropped put back."""
    return g.reshape((*np.broadcast_shapes(left[:-2], right[:-2]), left[-2], right[-1]))
