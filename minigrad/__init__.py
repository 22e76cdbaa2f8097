"""minigrad: autodiff from scratch for recurrent networks, on NumPy and Numba.

    import minigrad as mg

The whole public API is listed here. Importing it compiles nothing.
"""

from . import nn, optim
from .autodiff import grad, hessian, jacobian, jvp, vjp
from .errors import (
    DeclarationError,
    DTypeError,
    GradientError,
    MinigradError,
    NumericalError,
    ShapeError,
    StateDictError,
)
from .gradcheck import gradcheck
from .ops import (
    abs,
    add,
    astype,
    broadcast_to,
    clip,
    concatenate,
    cos,
    cumsum,
    divide,
    dot,
    elu,
    equal,
    erf,
    exp,
    expand_dims,
    expm1,
    flip,
    gelu,
    greater,
    greater_equal,
    leaky_relu,
    less,
    less_equal,
    log,
    log1p,
    log_softmax,
    logical_and,
    logical_not,
    logical_or,
    logsumexp,
    matmul,
    max,
    maximum,
    mean,
    min,
    minimum,
    multiply,
    negative,
    not_equal,
    one_hot,
    pad,
    power,
    relu,
    reshape,
    roll,
    sigmoid,
    sign,
    sin,
    softmax,
    softplus,
    split,
    sqrt,
    square,
    squeeze,
    stack,
    std,
    subtract,
    sum,
    swapaxes,
    take,
    take_along_axis,
    tanh,
    transpose,
    var,
    where,
)
from .ops import power as pow
from .random import seed
from .tape import Node, Tape, detect_anomaly, listen, no_grad, scope, tap
from .tensor import Tensor, tensor

__version__ = "0.1.0"
