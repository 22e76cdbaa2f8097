"""Gated recurrent units with fewer gates, and gates that see less."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ops import sigmoid, split, tanh
from ...tape import tap
from ...tensors import Tensor
from ..cells import Cell, GatedCell
from ..layers import linear


class MinimalGatedCell(GatedCell):
    """Minimal gated unit: one gate both resets and updates (Zhou et al. 2016).

        f_t = sigmoid(W_if x_t + W_hf h_{t-1} + b_f)
        n_t = tanh(W_in x_t + W_hn (f_t * h_{t-1}) + b_n)
        h_t = (1 - f_t) * h_{t-1} + f_t * n_t

    b = b_ih + b_hh. Named the forget gate in the paper; an open gate writes.
    G.-B. Zhou, J. Wu, C.-L. Zhang, Z.-H. Zhou, "Minimal gated unit for recurrent neural networks",
    2016.
    y_t = h_t. State: h (B, H). Rows of the weights: f n.

    >>> cell = MinimalGatedCell(3, 5)
    >>> h, y = cell(cell.init_state(2), np.ones((2, 3), np.float32))
    >>> cell.weight_hh.shape, h.shape
    ((10, 5), (2, 5))
    """

    gates = ("f", "n")
    keeps = {"f": -1}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ):
        super().__init__(input_size, hidden_size, bias, dtype=dtype, generator=generator)

    def forward(self, state: Any, x: Any) -> tuple[Tensor, Tensor]:
        h = state
        a = linear(self.check_input(x), self.weight_ih, self.both_biases())
        a_f, a_n = split(a, 2, axis=-1)
        W_f, W_n = split(self.weight_hh, 2)
        f = tap("f", sigmoid(a_f + h @ W_f.T))
        n = tap("n", tanh(a_n + (f * h) @ W_n.T))
        h = tap("h", (1 - f) * h + f * n)
        return h, h


class MinGRUCell(Cell):
    """minGRU: a GRU without reset gate and tanh, whose gate sees x alone (Feng et al. 2024, 3.1).

        z_t = sigmoid(W_iz x_t + b_z)
        n_t = W_in x_t + b_n
        h_t = (1 - z_t) * h_{t-1} + z_t * n_t

    Linear in the state: dh_t/dh_{t-1} = 1 - z_t, never above 1 and the same whatever h is.
    L. Feng et al., "Were RNNs all we needed?", 2024.
    y_t = h_t. State: h (B, H). Parameters: weight_ih (2H, I), bias_ih (2H,), rows z n.

    >>> cell = MinGRUCell(3, 5)
    >>> h, y = cell(cell.init_state(2), np.ones((2, 3), np.float32))
    >>> h.shape
    (2, 5)
    """

    gates = ("z", "n")
    keeps = {"z": -1}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ):
        super().__init__(input_size, hidden_size)
        self.weight_ih = self.parameter((2 * hidden_size, input_size), dtype, generator)
        self.bias_ih = self.parameter((2 * hidden_size,), dtype, generator) if bias else None

    def forward(self, state: Any, x: Any) -> tuple[Tensor, Tensor]:
        z, n = split(linear(self.check_input(x), self.weight_ih, self.bias_ih), 2, axis=-1)
        z, n = tap("z", sigmoid(z)), tap("n", n)
        h = tap("h", (1 - z) * state + z * n)
        return h, h
