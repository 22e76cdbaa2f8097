"""Softmax, its logarithm, logsumexp and cross-entropy: one kernel each way.

An op that ends in _pull is the gradient of another, g being its output's: an op of its own, as a
rule is made of ops. Where a probability rounds to 1 they still give 1 - p, as the sum of the rest.
"""

from __future__ import annotations

import math
import operator

import numpy as np

from ..axes import canonical_axes
from ..errors import DTypeError, ShapeError, describe
from ..kernels import probabilities as kernels
from ..kinds import reduce
from ..op import sample

_CALLS = [sample((3, 4)), sample((2, 3, 4), axis=1), sample((2, 3), axis=None), sample((1,))]
_REFUSED = [(sample((3, 4), axis=2), "out of range")]


@reduce(samples=_CALLS, errors=_REFUSED)
def softmax(x, axis=-1):
    """y_i = e^x_i / sum_j e^x_j over `axis`; sums to 1, never overflows."""
    return _along(kernels.softmax, axis, x)


@reduce(samples=_CALLS, errors=_REFUSED)
def log_softmax(x, axis=-1):
    """y_i = x_i - ln sum_j e^x_j over `axis`; exact where softmax(x) would underflow."""
    return _along(kernels.log_softmax, axis, x)


@reduce(samples=[*_CALLS, sample((3, 4), axis=0, keepdims=True)], errors=_REFUSED)
def logsumexp(x, axis=-1, keepdims=False):
    """y = ln sum e^x over `axis`, without overflow: the largest is taken out first."""
    y = kernels.logsumexp(_rows_of(x, axis))
    return y.reshape([1 if i in axis else n for i, n in enumerate(x.shape)]) if keepdims else y


_PAIRS = [sample((3, 4), (3, 4)), sample((2, 3, 4), (2, 3, 4), axis=1)]


@reduce(inputs=2, method=False, samples=_PAIRS)
def softmax_pull(v, p, axis=-1):
    """y = p (v sum p - sum v p) over `axis`: v times the Jacobian of softmax, of sum p = 1."""
    return _along(kernels.softmax_pull, axis, v, p)


@reduce(inputs=2, method=False, samples=_PAIRS)
def log_softmax_pull(v, log_p, axis=-1):
    """y = v sum p - p sum v over `axis`, p = e^log_p: v times the Jacobian of log_softmax."""
    return _along(kernels.log_softmax_pull, axis, v, log_p)


@softmax.check_params
@log_softmax.check_params
@softmax_pull.check_params
@log_softmax_pull.check_params
def _(shapes, axis):
    return {"axis": canonical_axes(axis, len(shapes[0]))}


@logsumexp.check_params
def _(shapes, axis, keepdims):
    return {"axis": canonical_axes(axis, len(shapes[0])), "keepdims": bool(keepdims)}


_INDEX = np.array([0, 3, -100])
_LOSSES = [{"index": _INDEX, "reduction": r} for r in ("mean", "sum", "none")]


@reduce(
    method=False,
    samples=[sample((3, 4), **options) for options in _LOSSES],
    errors=[
        (sample((3, 4), index=np.array([0, 4, 1])), "expected integers from 0 to 3"),
        (sample((3, 4), index=np.array([0, 1])), "targets should be"),
    ],
)
def cross_entropy(x, index, ignore_index=-100, reduction="mean"):
    """y = -ln softmax(x)[index] over the last axis: the mean, sum, or one each ("none") over all
    whose index is not ignore_index; a mean of none of them is NaN, and its gradient 0.
    """
    x = _floats("cross_entropy", x)
    try:
        return kernels.cross_entropy(x, index, ignore_index, reduction)
    except kernels.BadTarget:
        named = index[index != ignore_index]
        raise ShapeError(
            f"cross_entropy: targets: expected integers from 0 to {x.shape[-1] - 1}, got some from "
            f"{named.min()} to {named.max()}."
        ) from None


@reduce(
    inputs=2,
    method=False,
    samples=[sample(() if o["reduction"] != "none" else (3,), (3, 4), **o) for o in _LOSSES],
)
def cross_entropy_pull(v, x, index, ignore_index=-100, reduction="mean"):
    """y = v (softmax(x) - onehot(index)), as the reduction says: the gradient of cross_entropy."""
    return kernels.cross_entropy_pull(v, x, index, ignore_index, reduction)


@cross_entropy.check_params
@cross_entropy_pull.check_params
def _(shapes, index, ignore_index, reduction):
    index, shape = np.asarray(index), shapes[-1]
    if not shape or index.shape != shape[:-1]:
        raise ShapeError(
            f"cross_entropy: logits {list(shape)} have their classes on the last axis, so targets "
            f"should be {list(shape[:-1])}, got {describe(index)}."
        )
    if index.dtype.kind not in "iu":
        raise DTypeError(
            f"cross_entropy: targets are class numbers, integers; got {describe(index)}."
        )
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(
            f"cross_entropy: reduction must be 'mean', 'sum' or 'none', got {reduction!r}."
        )
    ignored = operator.index(ignore_index)
    return {"index": index, "ignore_index": ignored, "reduction": reduction}


# -- axes ------------------------------------------------------------------------------------------


def _floats(name, x):
    if x.dtype.kind != "f":
        raise DTypeError(
            f"{name}: x is {describe(x)}; expected float32 or float64. Convert it first: "
            f".astype(np.float64)."
        )
    return x


def _order(axis, ndim):
    """All axes, those in `axis` last."""
    return (*(i for i in range(ndim) if i not in axis), *axis)


def _rows_of(x, axis):
    """x with the elements along `axis` as its last axis."""
    x = _floats("softmax", x)
    if axis == (x.ndim - 1,):
        return x
    turned = x.transpose(_order(axis, x.ndim))
    lead = x.ndim - len(axis)
    return turned.reshape((*turned.shape[:lead], math.prod(turned.shape[lead:])))


def _along(kernel, axis, *arrays):
    """kernel(*rows), with rows along `axis`, put back where they came from."""
    x = arrays[0]
    y = kernel(*(_rows_of(a, axis) for a in arrays))
    if axis == (x.ndim - 1,):
        return y
    order = _order(axis, x.ndim)
    return y.reshape([x.shape[i] for i in order]).transpose(np.argsort(order))
