"""The gradient of every op, in one table.

    op.vjp(x=rule)      rule(g, ...) is dL/dx, where g is dL/dy of the output y

A rule is given what its arguments name, and only that is kept for it: y, an input, a parameter, an
input's shape (`x_shape`) or dtype. It is made of ops itself; op.py says what follows from that. In
rules of arrays methods (g.reshape, b.T) stand for ops where arrays and Tensors have both: on arrays
they cost a tenth.

The slope of a function that saturates is an op of its own (`sech2`, `sigmoid_slope`, `gauss`,
`bell`), computed from x: from y, which rounds to 1, it would be 0 long before the slope is. Rules
end in such ops, so derivatives of any order are right as far as they are normal numbers.
"""

# isort: skip_file
from __future__ import annotations

import math

import numpy as np

from ..kernels.multiplying import matmul as kernel

# fmt: off
from .activations import (
    bell, elu, erf, gauss, gelu, leaky_relu, ndtr, relu, sech2, sigmoid, sigmoid_slope, softplus,
    tanh,
)
from .arithmetic import (
    abs, add, clip, divide, float_power, floor, floor_divide, maximum, minimum, multiply, nearest,
    negative, remainder, sign, square, subtract,
)
from .compare import (
    equal, greater, greater_equal, less, less_equal, logical_and, where, zero_or_nan,
)
from .exponential import cos, exp, expm1, log, log1p, log2, sin, sqrt
from .index import getitem, scatter
from .logits import (
    cross_entropy, cross_entropy_pull, log_softmax, log_softmax_pull, logsumexp, softmax,
    softmax_pull,
)
from .matrix import linear, matmul
from .reduce import cumsum, max, min, sum, sum_to
from .view import (
    astype, broadcast_to, concatenate, expand_dims, flip, pad, reshape, roll, squeeze, stack,
    swapaxes, transpose,
)
# fmt: on

# -- arithmetic

add.vjp(a=lambda g: g, b=lambda g: g)
subtract.vjp(a=lambda g: g, b=lambda g: -g)
multiply.vjp(a=lambda g, b: g * b, b=lambda g, a: g * a)
divide.vjp(a=lambda g, b: g / b, b=lambda g, y, b: -g * y / b)
negative.vjp(x=lambda g: -g)
square.vjp(x=lambda g, x: g * (x + x))
abs.vjp(x=lambda g, x: g * sign(x))
sign.vjp(x=lambda g, x: zero_or_nan(x))
floor.vjp(x=lambda g, x: zero_or_nan(x))
nearest.vjp(x=lambda g, x: zero_or_nan(x))
remainder.vjp(a=lambda g, b: g + zero_or_nan(b), b=lambda g, a, b: -g * floor_divide(a, b))
floor_divide.vjp(a=lambda g, y: zero_or_nan(y), b=lambda g, y: zero_or_nan(y))


@float_power.vjp("a")
def _(g, a, b):
    # b = 0 leaves 0 * Inf at a = 0: another exponent there, so that no derivative meets it.
    lost = logical_and(equal(b, 0.0), less(abs(a), 1e-36))
    return g * b * float_power(a, where(lost, 1.0, b - 1.0))


@float_power.vjp("b")
def _(g, y, a, b):
    # 0 ** b has slope 0 in b for b >= 0, where y * log(a) would be 0 * -Inf
    flat = logical_and(equal(a, 0.0), greater_equal(b, 0.0))
    return where(flat, 0.0, g * y * log(where(flat, 1.0, a)))


# -- exponentials, logarithms, roots, the circular functions

exp.vjp(x=lambda g, y: g * y)
expm1.vjp(x=lambda g, x: g * exp(x))
log.vjp(x=lambda g, x: g / x)
log2.vjp(x=lambda g, x: g / (x * math.log(2.0)))
log1p.vjp(x=lambda g, x: g / (1.0 + x))
sin.vjp(x=lambda g, x: g * cos(x))
cos.vjp(x=lambda g, x: -g * sin(x))


@sqrt.vjp("x")
def _(g, y):
    # No gradient that comes in is none that goes out: not 0 / 0, which a mask leaves behind.
    root = where(logical_and(equal(g, 0.0), equal(y, 0.0)), 1.0, y)
    return g / (root + root)


# -- what saturates, and its slope


def _times(x, y):
    """x y for a y that vanishes faster than x grows: 0 where y is 0, at x = Inf too."""
    return where(equal(y, 0.0), 0.0, x) * y


PHI = math.sqrt(0.5 / math.pi)  # the normal density at 0

tanh.vjp(x=lambda g, x: g * sech2(x))
sech2.vjp(x=lambda g, x, y: g * (-2.0 * tanh(x) * y))
sigmoid.vjp(x=lambda g, x: g * sigmoid_slope(x))
sigmoid_slope.vjp(x=lambda g, x, y: g * (-tanh(0.5 * x) * y))
erf.vjp(x=lambda g, x: g * (2.0 / math.sqrt(math.pi) * gauss(x)))
gauss.vjp(x=lambda g, x, y: g * (-2.0 * _times(x, y)))
ndtr.vjp(x=lambda g, x: g * (PHI * bell(x)))
bell.vjp(x=lambda g, x, y: g * -_times(x, y))
softplus.vjp(x=lambda g, x: g * sigmoid(x))
gelu.vjp(x=lambda g, x: g * (ndtr(x) + _times(x, PHI * bell(x))))

# -- pieces: a constant piece has slope 0, or NaN where x is NaN, so that it does not hide one


def _below(x):
    """x where it is not above 0, else 0: what is not chosen must not overflow either."""
    return where(greater(x, 0.0), 0.0, x)


def _shared(g, a, b):
    """What a side receives that was not chosen alone: half where a = b; NaN where one is NaN."""
    return where(equal(a, b), g * 0.5, zero_or_nan(maximum(a, b)))


def _inside(x, low, high):
    return logical_and(greater_equal(x, low), less_equal(x, high))


def _under(x, low, high):
    return logical_and(less(x, low), less(low, high))


def _over(x, low, high):
    return greater(maximum(x, low), high)


def _flat(x, low, high):
    return zero_or_nan(clip(x, low, high))


where.vjp(a=lambda g, condition: where(condition, g, 0.0))
where.vjp(b=lambda g, condition: where(condition, 0.0, g))
zero_or_nan.vjp(x=lambda g, x: zero_or_nan(x))
relu.vjp(x=lambda g, y: where(greater(y, 0.0), g, zero_or_nan(y)))
leaky_relu.vjp(x=lambda g, x, slope: where(greater(x, 0.0), g, g * slope + zero_or_nan(x)))
leaky_relu.vjp(slope=lambda g, x: where(greater(x, 0.0), 0.0, g * x))
elu.vjp(x=lambda g, x, alpha: where(greater(x, 0.0), g, g * alpha * exp(_below(x))))
elu.vjp(alpha=lambda g, x: g * expm1(_below(x)))
maximum.vjp(a=lambda g, a, b: where(greater(a, b), g, _shared(g, a, b)))
maximum.vjp(b=lambda g, a, b: where(less(a, b), g, _shared(g, a, b)))
minimum.vjp(a=lambda g, a, b: where(less(a, b), g, _shared(g, a, b)))
minimum.vjp(b=lambda g, a, b: where(greater(a, b), g, _shared(g, a, b)))
clip.vjp(x=lambda g, x, low, high: where(_inside(x, low, high), g, _flat(x, low, high)))
clip.vjp(low=lambda g, x, low, high: where(_under(x, low, high), g, _flat(x, low, high)))
clip.vjp(high=lambda g, x, low, high: where(_over(x, low, high), g, _flat(x, low, high)))

# -- reductions


def _spread(y, x_shape, axis):
    """A reduced array with its axes put back as 1, so that it broadcasts against x."""
    shape = list(x_shape)
    for i in axis:
        shape[i] = 1
    return y.reshape(tuple(shape))


def _share(g, y, x, x_shape, axis):
    """Equal largest (smallest) elements share the gradient; a row with a NaN is NaN throughout."""
    y = _spread(y, x_shape, axis)
    hit = where(equal(x, y), g.dtype.type(1), zero_or_nan(y))
    ties = sum(hit, axis=axis, keepdims=True)
    return hit * (_spread(g, x_shape, axis) / maximum(ties, 1.0))


sum.vjp(x=lambda g, x_shape, axis: broadcast_to(_spread(g, x_shape, axis), x_shape))
max.vjp(x=_share)
min.vjp(x=_share)
cumsum.vjp(x=lambda g, axis: flip(cumsum(flip(g, axis), axis), axis))

# -- softmax and its kin: the gradients are ops, of one kernel each

softmax.vjp(x=lambda g, y, axis: softmax_pull(g, y, axis))
log_softmax.vjp(x=lambda g, y, axis: log_softmax_pull(g, y, axis))
logsumexp.vjp(x=lambda g, x, x_shape, axis: _spread(g, x_shape, axis) * softmax(x, axis))
softmax_pull.vjp(v=lambda g, p, axis: softmax_pull(g, p, axis))


@softmax_pull.vjp("p")
def _(g, v, p, axis):
    one, mean, both, weight = (
        sum(a, axis=axis, keepdims=True) for a in (p, v * p, g * v * p, g * p)
    )
    return g * (v * one - mean) + both - v * weight


@log_softmax_pull.vjp("v")
def _(g, log_p, axis):
    p = exp(log_p)
    return g * sum(p, axis=axis, keepdims=True) - sum(g * p, axis=axis, keepdims=True)


@log_softmax_pull.vjp("log_p")
def _(g, v, log_p, axis):
    both, total = (sum(a, axis=axis, keepdims=True) for a in (g * v, v))
    return exp(log_p) * (both - g * total)


@cross_entropy.vjp("x")
def _(g, x, index, ignore_index, reduction):
    return cross_entropy_pull(g, x, index, ignore_index, reduction)


@cross_entropy_pull.vjp("v")
def _(g, x, v_shape, index, ignore_index, reduction):
    each = g * cross_entropy_pull(np.ones(v_shape, g.dtype), x, index, ignore_index, reduction)
    return sum(each, axis=-1 if reduction == "none" else None)


@cross_entropy_pull.vjp("x")
def _(g, v, x, index, ignore_index, reduction):
    kept = (index != ignore_index)[..., None].astype(g.dtype)
    if reduction == "mean":
        kept /= maximum(g.dtype.type(kept.sum()), 1.0)  # all are 0 where that is
    weight = v.reshape((*v.shape, 1)) if reduction == "none" else v
    return softmax_pull(g * (kept * weight), softmax(x))


# -- what moves values

reshape.vjp(x=lambda g, x_shape: reshape(g, x_shape))
squeeze.vjp(x=lambda g, x_shape: reshape(g, x_shape))
expand_dims.vjp(x=lambda g, x_shape: reshape(g, x_shape))
swapaxes.vjp(x=lambda g, axis1, axis2: swapaxes(g, axis1, axis2))
transpose.vjp(x=lambda g, axes: g.transpose(tuple(map(int, np.argsort(axes)))))
broadcast_to.vjp(x=lambda g, x_shape: sum_to(g, x_shape))
flip.vjp(x=lambda g, axis: flip(g, axis))
roll.vjp(x=lambda g, shift, axis: roll(g, -shift, axis))
astype.vjp(x=lambda g, x_dtype: astype(g, x_dtype))
getitem.vjp(x=lambda g, x_shape, index: scatter(g, index, x_shape))
scatter.vjp(x=lambda g, index: getitem(g, index))


@pad.vjp("x")
def _(g, x_shape, pad_width):
    inside = zip(pad_width, x_shape, strict=True)
    return g[tuple(slice(before, before + n) for (before, _), n in inside)]


@stack.vjp("arrays")
def _(g, arrays_shape, axis):
    return [g[(slice(None),) * axis + (i,)] for i in range(len(arrays_shape))]


@concatenate.vjp("arrays")
def _(g, arrays_shape, axis):
    ends = np.cumsum([shape[axis] for shape in arrays_shape]).tolist()
    cuts = [slice(a, b) for a, b in zip([0, *ends], ends)]
    return [g[(slice(None),) * axis + (cut,)] for cut in cuts]


# -- the matrix product


@matmul.vjp("a")
def _(g, b, a_shape, b_shape):
    if len(b_shape) == 2:
        return _product(g, b.T)
    if len(b_shape) == 1:
        return multiply(g.reshape((*g.shape, 1)), b)
    left = _left(a_shape)
    ga = matmul(_rows(g, left, b_shape), swapaxes(b, -1, -2))
    return sum_to(ga, left).reshape(a_shape)


@matmul.vjp("b")
def _(g, a, a_shape, b_shape):
    if len(a_shape) == 2 == len(b_shape):
        return _product(a.T, g)
    if len(a_shape) == 1 and len(b_shape) == 2:
        return multiply(a.reshape((-1, 1)), g)
    left, right = _left(a_shape), _right(b_shape)
    if len(right) == 2:  # one product over all rows, rather than one for each leading index
        rows = math.prod(left[:-1])
        columns = a.reshape((rows, left[-1])).T
        return matmul(columns, g.reshape((rows, right[-1]))).reshape(b_shape)
    gb = matmul(swapaxes(a.reshape(left), -1, -2), _rows(g, left, right))
    return sum_to(gb, right).reshape(b_shape)


@linear.vjp("x")
def _(g, weight):
    return _product(g, weight)


@linear.vjp("weight")
def _(g, x, weight_shape):
    """One product over all rows, (O, rows) @ (rows, I): no gradient to turn round."""
    rows = math.prod(g.shape[:-1])
    return _product(g.reshape((rows, weight_shape[0])).T, x.reshape((rows, weight_shape[1])))


@linear.vjp("bias")
def _(g, bias_shape):
    return sum(g.reshape((math.prod(g.shape[:-1]), *bias_shape)), axis=0)


def _product(a, b):
    """a @ b; of matrices in as few steps as an eager op is worth: those of a rule do fit."""
    return kernel(a, b) if type(a) is np.ndarray and a.ndim == 2 else matmul(a, b)


def _left(shape):
    return (1, *shape) if len(shape) == 1 else shape


def _right(shape):
    return (*shape, 1) if len(shape) == 1 else shape


def _rows(g, left, right):
    """The output's gradient with the axes that a 1-D operand dropped put back."""
    return g.reshape((*np.broadcast_shapes(left[:-2], right[:-2]), left[-2], right[-1]))
