"""What ops exist. Each module declares some; `op.REGISTRY` lists all but those on gradients."""

# ruff: noqa: F401  (to be imported from here is what these names are for)
# isort: skip_file
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
    equal, greater, greater_equal, less, less_equal, logical_and, logical_not, logical_or,
    not_equal, where, zero_or_nan,
)
from .composite import (
    METHODS, all, any, clone, dot, flatten, mean, norm, outer, power, prod, repeat, round, split,
    std, tile, var,
)
from .contraction import einsum
from .exponential import cos, exp, expm1, log, log1p, log2, sin, sqrt
from .index import getitem, one_hot, plain_index, scatter, take, take_along_axis
from .logits import cross_entropy, log_softmax, logsumexp, softmax
from .matrix import linear, matmul
from .reduce import argmax, argmin, cumsum, max, min, sum, sum_to
from .view import (
    astype, broadcast_to, concatenate, expand_dims, flip, pad, reshape, roll, squeeze, stack,
    swapaxes, transpose,
)
from . import gradients, rows
from .on_gradients import clamp_gradient, clip_gradient, scale_gradient, shift_gradient
