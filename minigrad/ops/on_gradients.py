"""y = x, and the gradient changed on its way back: clipped, scaled, clamped, with noise.

Their rules are no derivatives, on purpose, so these ops are not in the REGISTRY, over which tests
of derivatives run. A row is what lies along the last axis. The other inputs get no gradient.
Where none arrives none is made: 0 stays 0, in every mode, whether BPTT passes there or not.
"""

from __future__ import annotations

from .. import scalar
from ..kinds import Elementwise
from ..op import Op
from .arithmetic import abs, clip, square
from .compare import equal, greater, less, logical_and, where, zero_or_nan
from .exponential import sqrt
from .reduce import max, sum

_INF = float("inf")


class _Passing(Elementwise):
    """y = x, with a rule that may look at whole rows, so that it is no loop over elements."""

    make_plan = Op.make_plan

    def __init__(self, body):
        super().__init__(body, {"inputs": body.__code__.co_argcount, "method": False})


def _unchanged(x, *others):
    """x, in an expression that has the others in it, as inputs of the op."""
    for other in others:
        x = scalar.where(other == other, x, x)
    return x


@_Passing
def scale_gradient(x, by):
    """y = x;  dL/dx = by * dL/dy.

    With by=0 nothing passes, NaN and Inf included, as with `detach`; with by=-1 the gradient is
    reversed (Ganin and Lempitsky 2015).

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> mg.scale_gradient(x, mg.tensor([0.5, 0.0])).sum().backward()
    >>> x.grad.tolist()
    [0.5, 0.0]
    """
    return _unchanged(x, by)


@_Passing
def shift_gradient(x, by):
    """y = x;  dL/dx = dL/dy + by, where dL/dy is not 0: noise on a gradient, say.

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> (3.0 * mg.shift_gradient(x, mg.tensor([0.5, 0.0]))).sum().backward()
    >>> x.grad.tolist()
    [3.5, 3.0]
    """
    return _unchanged(x, by)


@_Passing
def clamp_gradient(x, low, high):
    """y = x;  dL/dx = min(max(dL/dy, low), high), each element by itself (Graves 2013).

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> (mg.tensor([3.0, -0.5]) * mg.clamp_gradient(x, -1.0, 1.0)).sum().backward()
    >>> x.grad.tolist()
    [1.0, -0.5]
    """
    return _unchanged(x, low, high)


@_Passing
def clip_gradient(x, max_norm):
    """y = x;  dL/dx = dL/dy, each row scaled down to the norm max_norm if it is longer.

    In the cell of a scan this clips dL/dh_t at every step, where `clip_grad_norm_` clips what BPTT
    has summed up. Rows with NaN or Inf stay as they are. A number is written into the kernel;
    give a Tensor, (B, 1), for one that changes.

    >>> import minigrad as mg
    >>> x = mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> (mg.tensor([[3.0, 4.0], [0.3, 0.4]]) * mg.clip_gradient(x, 1.0)).sum().backward()
    >>> x.grad.numpy().round(12).tolist()
    [[0.6, 0.8], [0.3, 0.4]]
    """
    return _unchanged(x, max_norm)


GRADIENT_OPS = scale_gradient, shift_gradient, clamp_gradient, clip_gradient


def _nothing(g):
    return zero_or_nan(g)


scale_gradient.vjp(x=lambda g, by: where(equal(by, 0.0), 0.0, g * by), by=_nothing)
shift_gradient.vjp(x=lambda g, by: where(equal(g, 0.0), g, g + by), by=_nothing)
clamp_gradient.vjp(x=lambda g, low, high: clip(g, low, high), low=_nothing, high=_nothing)
clip_gradient.vjp(max_norm=_nothing)


@clip_gradient.vjp("x")
def _(g, max_norm):
    peak = max(abs(g), axis=-1, keepdims=True)
    usual = logical_and(greater(peak, 0.0), less(peak, _INF))
    peak = where(usual, peak, 1.0)  # by which squares are kept from overflow
    unit = g / peak
    length = sqrt(sum(square(unit), axis=-1, keepdims=True))
    longer = logical_and(usual, greater(length, max_norm / peak))
    return where(longer, unit * (where(longer, max_norm, 1.0) / where(longer, length, 1.0)), g)
