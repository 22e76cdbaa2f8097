"""Variants of the LSTM. They take LSTMCell's arguments and hold its parameters under its names."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ops import sigmoid, split, tanh
from ...tape import tap
from ...tensors import Tensor
from ..cells import LSTMCell, LSTMState
from ..layers import LayerNorm, linear


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
