"""Simple recurrent networks: what is fed back, and from where the weights start."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ... import checks
from ...ops import relu, tanh
from ...random import default_generator
from ...tape import tap
from ...tensors import Tensor
from .. import init
from ..cells import Cell, GatedCell, RNNCell
from ..layers import linear
from ..module import Parameter


class IRNNCell(RNNCell):
    """h_t = relu(W_ih x_t + b + W_hh h_{t-1}), where W_hh starts as `scale` times the identity.

    Q. V. Le, N. Jaitly, G. Hinton, "A simple way to initialize recurrent networks of rectified
    linear units", 2015. At the start a positive state is kept as it is and inputs add up, so the
    gradient neither vanishes nor explodes (scale < 1 forgets). b starts at 0, W_ih normal with
    standard deviation 0.001.
    y_t = h_t. State: h (B, H). Parameters: RNNCell's.

    >>> cell = IRNNCell(3, 5)
    >>> h, y = cell(Tensor(np.full((1, 5), 2, np.float32)), np.zeros((1, 3), np.float32))
    >>> h.tolist()
    [[2.0, 2.0, 2.0, 2.0, 2.0]]
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        scale: float = 1.0,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ):
        super().__init__(input_size, hidden_size, bias, "relu", dtype, generator)
        init.normal_(self.weight_ih, 0.001, generator)
        init.identity_(self.weight_hh, scale)
        for b in (self.bias_ih, self.bias_hh):
            if b is not None:
                init.constant_(b)


class ElmanCell(GatedCell):
    """The hidden state is fed back, the output is read from it (Elman 1990).

        h_t = tanh(W_ih x_t + W_hh h_{t-1} + b_h)       b_h = b_ih + b_hh
        y_t = W_ho h_t + b_o

    The output is linear; what it stands for is the loss's business.
    J. L. Elman, "Finding structure in time", Cognitive Science 14, 1990.
    y (B, O). State: h (B, H). Parameters: RNNCell's, weight_ho (O, H), bias_o (O,).

    >>> cell = ElmanCell(3, 5, output_size=2)
    >>> h, y = cell(cell.init_state(4), np.ones((4, 3), np.float32))
    >>> h.shape, y.shape
    ((4, 5), (4, 2))
    """

    gates = ("h",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        bias: bool = True,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
        *,
        recurrent_size: int | None = None,
    ):
        options: Any = dict(output_size=output_size, recurrent_size=recurrent_size)
        super().__init__(input_size, hidden_size, bias, dtype=dtype, generator=generator, **options)
        self.weight_ho = self.parameter((self.output_size, hidden_size), dtype, generator)
        self.bias_o = self.parameter((self.output_size,), dtype, generator) if bias else None

    def forward(self, state: Any, x: Any) -> tuple[Tensor, Tensor]:
        a = linear(self.check_input(x), self.weight_ih, self.both_biases())
        h = tap("h", tanh(a + state @ self.weight_hh.T))
        return h, linear(h, self.weight_ho, self.bias_o)


class JordanCell(ElmanCell):
    """The output is fed back, through a trace that decays (Jordan 1986).

        h_t = tanh(W_ih x_t + W_hh s_{t-1} + b_h)       b_h = b_ih + b_hh
        y_t = W_ho h_t + b_o
        s_t = decay * s_{t-1} + y_t

    decay=0, the default, feeds back the last output alone. All that is remembered passes through y:
    with O < H that is less than an Elman network remembers.
    M. I. Jordan, "Serial order: a parallel distributed processing approach", 1986.
    y (B, O). State: s (B, O). Parameters: ElmanCell's, with weight_hh (H, O).

    >>> cell = JordanCell(3, 5, output_size=2, decay=0.5)
    >>> s, y = cell(cell.init_state(4), np.ones((4, 3), np.float32))
    >>> s.shape, y.shape
    ((4, 2), (4, 2))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        bias: bool = True,
        decay: float = 0.0,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ):
        super().__init__(
            input_size,
            hidden_size,
            output_size,
            bias,
            dtype,
            generator,
            recurrent_size=hidden_size if output_size is None else output_size,
        )
        self.decay = checks.number("JordanCell: decay", decay)

    def init_state(self, batch: int) -> Tensor:
        """Zeros, (batch, O)."""
        return self.zeros(batch, self.output_size)

    def forward(self, state: Any, x: Any) -> tuple[Tensor, Tensor]:
        a = linear(self.check_input(x), self.weight_ih, self.both_biases())
        h = tap("h", tanh(a + state @ self.weight_hh.T))
        y = tap("y", linear(h, self.weight_ho, self.bias_o))
        return tap("s", self.decay * state + y), y


class IndRNNCell(Cell):
    """Units that see themselves alone: h_t = relu(W_ih x_t + u * h_{t-1} + b) (Li et al. 2018).

    tanh in place of relu with `nonlinearity`. As u (H,) is no matrix, unit n takes the gradient
    back through T steps times u_n^T and the slopes, which are at most 1: it grows to gamma at most
    if |u_n| <= gamma^(1/T), the bound that the paper keeps u to. u starts uniform from 0 to the
    bound and nothing holds it there; after an update `cell.constrain()` does, by clipping.
    steps: T; without it the bound is 1. gamma: 2 in the authors' program.
    S. Li, W. Li, C. Cook, C. Zhu, Y. Gao, "Independently recurrent neural network (IndRNN)", CVPR
    2018.
    y_t = h_t. State: h (B, H). Parameters: weight_ih (H, I) uniform in +-1/sqrt(I); u (H,);
    bias_ih (H,) at 0.

    >>> cell = IndRNNCell(3, 5, steps=100)
    >>> h, y = cell(cell.init_state(2), np.ones((2, 3), np.float32))
    >>> h.shape, round(cell.bound, 4)
    ((2, 5), 1.007)
    """

    gates = ("h",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "relu",
        steps: int | None = None,
        gamma: float = 2.0,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ):
        if nonlinearity not in ("relu", "tanh"):
            raise ValueError(
                f"IndRNNCell: nonlinearity must be 'relu' or 'tanh', got {nonlinearity!r}."
            )
        super().__init__(input_size, hidden_size)
        self.nonlinearity = nonlinearity
        gamma = checks.number("IndRNNCell: gamma", gamma, 0.0, bounds="()")
        root = math.inf if steps is None else checks.size("IndRNNCell: steps", steps)
        self.bound = gamma ** (1 / root)
        self.weight_ih = self.parameter((hidden_size, input_size), dtype, generator)
        init.uniform_(self.weight_ih, 1.0 / math.sqrt(input_size), generator)
        self.u = Parameter(default_generator(generator).uniform(0, self.bound, hidden_size), dtype)
        self.bias_ih = Parameter(np.zeros(hidden_size), dtype) if bias else None

    def constrain(self) -> None:
        """Clips u to the bound, -gamma^(1/T) to gamma^(1/T)."""
        self.u.data = self.u.numpy().clip(-self.bound, self.bound)

    def forward(self, state: Any, x: Any) -> tuple[Tensor, Tensor]:
        f = relu if self.nonlinearity == "relu" else tanh
        a = linear(self.check_input(x), self.weight_ih, self.bias_ih)
        h = tap("h", f(a + self.u * state))
        return h, h
