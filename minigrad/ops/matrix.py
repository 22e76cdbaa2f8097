"""The matrix product, and the affine map that layers are made of."""

from __future__ import annotations

import math

import numpy as np

from ..errors import ShapeError
from ..kernels import linear as kernels
from ..kernels.multiplying import matmul as kernel
from ..kinds import matmul_kind
from ..op import sample


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
    y = kernel(a, b)
    return y if type(y) is np.ndarray else np.asarray(y)


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


@matmul_kind(
    inputs=3,
    method=False,
    samples=[
        sample((3, 4), (5, 4), (5,)),
        sample((4,), (1, 4), (1,)),
        sample((2, 3, 4), (5, 4), (5,)),
        sample((0, 4), (5, 4), (5,)),
    ],
    errors=[
        (sample((3, 4), (4, 5), (5,)), "the last axis of x is 4"),
        (sample((3, 4), (5, 4), (1,)), "one number for each of 5"),
    ],
)
def linear(x, weight, bias):
    """y = x W^T + b, (..., I), (O, I) and (O,) -> (..., O)."""
    _check_linear(x.shape, weight.shape, bias.shape)
    rows = x if x.ndim == 2 else x.reshape((math.prod(x.shape[:-1]), x.shape[-1]))
    y = kernel(rows, weight.T)
    kernels.add_to_rows(y, bias)
    return y if x.ndim == 2 else y.reshape((*x.shape[:-1], len(bias)))


@linear.check_params
def _(shapes):
    _check_linear(*shapes)
    return {}


def _check_linear(x, weight, bias):
    """Raises ShapeError unless the shapes fit."""
    if not x or len(weight) != 2 or x[-1] != weight[1]:
        raise ShapeError(
            f"linear: x {list(x)} with a weight {list(weight)}: the last axis of x is "
            f"{x[-1] if x else 'missing'}; expected that of the weight, (outputs, inputs)."
        )
    if bias != weight[:1]:
        raise ShapeError(
            f"linear: a bias {list(bias)} for a weight {list(weight)}; expected one number for "
            f"each of {weight[0]} outputs."
        )
