"""Variants of the LSTM; all but the last take its arguments and hold its parameters by name."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ...ops import exp, maximum, sigmoid, softplus, split, tanh
from ...tape import tap
from ...tensors import Tensor
from .. import init
from ..cells import Cell, LSTMCell, LSTMState
from ..layers import LayerNorm, linear
from ..module import Parameter

NOTHING = -1e30  # the logarithm of a weight of 0; finite, so its gradient is 0 and not nan


class PeepholeLSTMCell(LSTMCell):
    """An LSTM whose gates see the cell state (Gers and Schmidhuber 2000; Gers et al. 2002).

        i_t = sigmoid(W_ii x_t + W_hi h_{t-1} + p_i * c_{t-1} + b_i)
        f_t = sigmoid(W_if x_t + W_hf h_{t-1} + p_f * c_{t-1} + b_f)
        g_t =    tanh(W_ig x_t + W_hg h_{t-1} + b_g)
        c_t = f_t * c_{t-1} + i_t * g_t
        o_t = sigmoid(W_io x_t + W_ho h_{t-1} + p_o * c_t + b_o)       sees the new cell state
        h_t = o_t * tanh(c_t)

    F. Gers, N. Schraudolph, J. Schmidhuber, "Learning precise timing with LSTM recurrent networks",
    JMLR 3, 2002; written as by Graves 2013.
    y_t = h_t. State: LSTMState(h, c). Parameters: LSTMCell's, weight_peephole (3, H) of rows i f o.

    >>> cell = PeepholeLSTMCell(3, 5)
    >>> (h, c), y = cell(cell.init_state(2), np.ones((2, 3), np.float32))
    >>> y.shape
    (2, 5)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        proj_size: int = 0,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ):
        super().__init__(input_size, hidden_size, bias, proj_size, dtype, generator)
        self.weight_peephole = self.parameter((3, hidden_size), dtype, generator)

    def forward(self, state: Any, x: Any) -> tuple[LSTMState, Tensor]:
        h, c = state
        a = linear(self.check_input(x), self.weight_ih, self.both_biases())
        i, f, g, o = split(a + h @ self.weight_hh.T, 4, axis=-1)
        p_i, p_f, p_o = split(self.weight_peephole, 3)
        i, f = tap("i", sigmoid(i + p_i * c)), tap("f", sigmoid(f + p_f * c))
        g = tap("g", tanh(g))
        c = tap("c", f * c + i * g)
        o = tap("o", sigmoid(o + p_o * c))
        h = tap("h", self.project(o * tanh(c)))
        return LSTMState(h, c), h


class CoupledLSTMCell(LSTMCell):
    """An LSTM that forgets exactly where it writes: the variant CIFG of Greff et al. 2017.

        i_t = sigmoid(W_ii x_t + W_hi h_{t-1} + b_i)
        g_t =    tanh(W_ig x_t + W_hg h_{t-1} + b_g)
        o_t = sigmoid(W_io x_t + W_ho h_{t-1} + b_o)
        c_t = (1 - i_t) * c_{t-1} + i_t * g_t           f_t = 1 - i_t, so |c| stays below 1
        h_t = o_t * tanh(c_t)

    K. Greff et al., "LSTM: a search space odyssey", IEEE TNNLS 28, 2017 (without its peepholes).
    y_t = h_t. State: LSTMState(h, c). Rows of the weights: i g o.

    >>> cell = CoupledLSTMCell(3, 5)
    >>> (h, c), y = cell(cell.init_state(2), np.ones((2, 3), np.float32))
    >>> cell.weight_ih.shape, y.shape
    ((15, 3), (2, 5))
    """

    gates = ("i", "g", "o")
    keeps = {"i": -1}

    def forward(self, state: Any, x: Any) -> tuple[LSTMState, Tensor]:
        h, c = state
        a = linear(self.check_input(x), self.weight_ih, self.both_biases())
        i, g, o = split(a + h @ self.weight_hh.T, 3, axis=-1)
        i, o = tap("i", sigmoid(i)), tap("o", sigmoid(o))
        g = tap("g", tanh(g))
        c = tap("c", (1 - i) * c + i * g)
        h = tap("h", self.project(o * tanh(c)))
        return LSTMState(h, c), h


class LayerNormLSTMCell(LSTMCell):
    """An LSTM with normalised sums (Ba et al. 2016, equations 20 to 22).

        i_t, f_t, g_t, o_t before their nonlinearities = LN_1(W_hh h_{t-1}) + LN_2(W_ih x_t) + b
        c_t = sigmoid(f_t) * c_{t-1} + sigmoid(i_t) * tanh(g_t)
        h_t = sigmoid(o_t) * tanh(LN_3(c_t))

    LN_1 and LN_2 are over all four gates together and have a gain alone, as their shifts would add
    up with b = b_ih + b_hh; LN_3 has a gain and a shift. The state c itself is not normalised.
    J. L. Ba, J. R. Kiros, G. Hinton, "Layer normalization", 2016.
    y_t = h_t. State: LSTMState(h, c). Parameters: LSTMCell's; norm_hh.weight, norm_ih.weight (4H,),
    norm_c.weight, norm_c.bias (H,).

    >>> cell = LayerNormLSTMCell(3, 5)
    >>> (h, c), y = cell(cell.init_state(2), np.ones((2, 3), np.float32))
    >>> y.shape
    (2, 5)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        proj_size: int = 0,
        eps: float = 1e-5,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ):
        super().__init__(input_size, hidden_size, bias, proj_size, dtype, generator)
        self.norm_hh = LayerNorm(4 * hidden_size, eps, bias=False, dtype=dtype)
        self.norm_ih = LayerNorm(4 * hidden_size, eps, bias=False, dtype=dtype)
        self.norm_c = LayerNorm(hidden_size, eps, dtype=dtype)

    def forward(self, state: Any, x: Any) -> tuple[LSTMState, Tensor]:
        h, c = state
        a = self.norm_ih(linear(self.check_input(x), self.weight_ih))
        b = self.both_biases()
        a = a if b is None else a + b
        i, f, g, o = split(a + self.norm_hh(h @ self.weight_hh.T), 4, axis=-1)
        i, f, o = tap("i", sigmoid(i)), tap("f", sigmoid(f)), tap("o", sigmoid(o))
        g = tap("g", tanh(g))
        c = tap("c", f * c + i * g)
        h = tap("h", self.project(o * tanh(self.norm_c(c))))
        return LSTMState(h, c), h


class SLSTMState(NamedTuple):
    """What an sLSTM carries: hidden state h, cell state c, normaliser n, and stabiliser m."""

    h: Tensor
    c: Tensor
    n: Tensor
    m: Tensor


class SLSTMCell(Cell):
    """sLSTM: an LSTM with exponential gates and a normaliser (Beck et al. 2024).

        i, f, z, o = W_ih x_t + W_hh h_{t-1} + b        z_t = tanh(z), o_t = sigmoid(o)
        log i_t = i, log f_t = log sigmoid(f)           or f, with forget="exp"
        m_t = max(log f_t + m_{t-1}, log i_t)           equation 15, the stabiliser
        i'_t = exp(log i_t - m_t)
        f'_t = exp(log f_t + m_{t-1} - m_t)
        c_t = f'_t * c_{t-1} + i'_t * z_t
        n_t = f'_t * n_{t-1} + i'_t
        h_t = o_t * c_t / n_t

    What the paper shows is that m is free: with i, f and no m the same h and the same gradients of
    all parameters come out, until exp overflows. It proves no bound on gradients. That c / n is an
    average of z's, so |h_t| <= 1, and that n_t >= 1 from the first step on, is plain: the larger of
    i'_t and f'_t is 1.
    M. Beck et al., "xLSTM: extended long short-term memory", NeurIPS 2024. One head: W_hh is full.
    y_t = h_t. State: SLSTMState(h, c, n, m), each (B, H); m starts at -1e30, the logarithm of next
    to nothing. Parameters: weight_ih (4H, I), weight_hh (4H, H), bias_ih (4H,), rows i f z o. They
    start as in the authors' program: weight_ih normal with variance 2 / (5 I), weight_hh and biases
    at 0, but those of f from 5 down to -7, where unit k of 0 to H - 1 has 5 - 12 (k / (H - 1))^0.3.

    >>> cell = SLSTMCell(3, 5)
    >>> (h, c, n, m), y = cell(cell.init_state(2), np.ones((2, 3), np.float32))
    >>> n.tolist() == np.ones((2, 5)).tolist()
    True
    """

    gates = ("i", "f", "z", "o")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        forget: str = "sigmoid",
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ):
        if forget not in ("sigmoid", "exp"):
            raise ValueError(f"SLSTMCell: forget must be 'sigmoid' or 'exp', got {forget!r}.")
        super().__init__(input_size, hidden_size)
        self.forget = forget
        self.keeps = {"f": +1} if forget == "sigmoid" else {}
        self.weight_ih = self.parameter((4 * hidden_size, input_size), dtype, generator)
        init.normal_(self.weight_ih, math.sqrt(2 / (5 * input_size)), generator)
        self.weight_hh = Parameter(np.zeros((4 * hidden_size, hidden_size)), dtype)
        b = np.zeros((4, hidden_size))
        b[1] = 5 - 12 * np.linspace(0, 1, hidden_size) ** 0.3
        self.bias_ih = Parameter(b.ravel(), dtype) if bias else None

    def forward(self, state: Any, x: Any) -> tuple[SLSTMState, Tensor]:
        h, c, n, m = state
        a = linear(self.check_input(x), self.weight_ih, self.bias_ih) + h @ self.weight_hh.T
        i, f, z, o = split(a, 4, axis=-1)
        saturates = self.forget == "sigmoid"
        tap("f", sigmoid(f) if saturates else exp(f))
        kept = m - softplus(-f) if saturates else m + f
        m = maximum(kept, i)
        i, f = tap("i", exp(i - m)), exp(kept - m)
        z, o = tap("z", tanh(z)), tap("o", sigmoid(o))
        c, n = tap("c", f * c + i * z), tap("n", f * n + i)
        h = tap("h", o * c / n)
        return SLSTMState(h, c, n, tap("m", m)), h

    def init_state(self, batch: int) -> SLSTMState:
        """h, c, n of zeros and m of -1e30, (batch, H)."""
        h, c, n, m = (self.zeros(batch, self.hidden_size) for _ in "hcnm")
        m._array[...] = NOTHING
        return SLSTMState(h, c, n, m)
