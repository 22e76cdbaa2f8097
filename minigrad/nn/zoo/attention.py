"""An LSTM that reads a memory: what a decoder does with the states of its encoder."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from ... import checks
from ...compile.unrolling import check_lengths, computed
from ...errors import DTypeError, ShapeError, describe
from ...ops import expand_dims, sigmoid, softmax, split, sum, tanh
from ...tape import tap
from ...tensors import Tensor, as_tensor
from ..cells import LSTMCell, LSTMState
from ..layers import linear

NOWHERE = -1e30  # a score whose softmax is exactly 0; finite, so its gradient is 0 and not nan


class AttentionLSTMCell(LSTMCell):
    """An LSTM with attention over a memory m_1 ... m_M (Bahdanau et al. 2015).

        q_t  = W_q h_{t-1}
        e_tj = v . tanh(q_t + W_m m_j)                  score="additive" (Bahdanau)
        e_tj = q_t . (W_m m_j) / sqrt(A)                score="dot" (Luong 2015; scaled)
        a_tj = softmax over j of e_tj                   equation 6: where to look
        k_t  = sum_j a_tj m_j                           equation 5: the context
        h_t, c_t = LSTM(h_{t-1}, c_{t-1}, x_t, k_t)     the gates add W_ch k_t

    D. Bahdanau, K. Cho, Y. Bengio, "Neural machine translation by jointly learning to align and
    translate", 2015, which has a GRU; M.-T. Luong, H. Pham, C. Manning, 2015.
    memory_size: features of the memory, D. attention_size: A, hidden_size if left out.
    y_t = h_t. State: LSTMState(h, c). Parameters: LSTMCell's; weight_ch (4H, D), weight_query
    (A, H), weight_memory (A, D), weight_score (A,).

    `cell.attend(memory, lengths)` gives it the memory, (B, M, D), before it runs; gradients flow
    into it, and places from a row's length on get no attention. Raises ShapeError where that was
    left out, or is for another batch size.

    >>> cell = AttentionLSTMCell(3, 5, memory_size=4).attend(np.ones((2, 7, 4), np.float32))
    >>> (h, c), y = cell(cell.init_state(2), np.ones((2, 3), np.float32))
    >>> y.shape
    (2, 5)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        memory_size: int,
        attention_size: int | None = None,
        score: str = "additive",
        bias: bool = True,
        proj_size: int = 0,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ):
        if score not in ("additive", "dot"):
            raise ValueError(
                f"AttentionLSTMCell: score must be 'additive' or 'dot', got {score!r}."
            )
        super().__init__(input_size, hidden_size, bias, proj_size, dtype, generator)
        A = hidden_size if attention_size is None else attention_size
        for name, size in [("memory_size", memory_size), ("attention_size", A)]:
            checks.size(f"AttentionLSTMCell: {name}", size)
        self.memory_size, self.attention_size, self.score = memory_size, A, score
        self.memory: Tensor | None = None
        self.mask: Tensor | None = None  # (B, M), added to the scores: 0, or NOWHERE in the padding
        self.weight_ch = self.parameter((4 * hidden_size, memory_size), dtype, generator)
        self.weight_query = self.parameter((A, self.output_size), dtype, generator)
        self.weight_memory = self.parameter((A, memory_size), dtype, generator)
        additive = score == "additive"
        self.weight_score = self.parameter((A,), dtype, generator) if additive else None

    def attend(self, memory: Any, lengths: Any = None) -> AttentionLSTMCell:
        """Reads `memory`, (B, M, D), from now on; returns the cell. None: reads none any more, as a
        step of mg.jit that computes the memory has to leave the cell.

        lengths: (B,), how many places of each row count; all of them if left out. Raises ShapeError
        or DTypeError for what does not fit.
        """
        if memory is None:
            self.memory = self.mask = None
            return self
        memory = as_tensor(memory)
        if memory.ndim != 3 or memory.shape[-1] != self.memory_size or 0 in memory.shape:
            raise ShapeError(
                f"AttentionLSTMCell.attend: expected a memory (B, M, {self.memory_size}), where "
                f"memory_size is the size of the last axis; got {describe(memory)}."
            )
        if memory.dtype != self.weight_ih.dtype:
            raise DTypeError(
                f"AttentionLSTMCell.attend: the memory is {describe(memory)} and the weights are "
                f"{self.weight_ih.dtype}; use memory.astype(np.{self.weight_ih.dtype})."
            )
        self.memory, self.mask = memory, None
        if lengths is not None:
            batch, places, _ = memory.shape
            lengths = check_lengths("AttentionLSTMCell.attend", lengths, places, batch)
            mask = partial(_mask, places, memory.dtype)
            self.mask = Tensor(computed("AttentionLSTMCell.attend", [lengths], mask))
        return self

    def forward(self, state: Any, x: Any) -> tuple[LSTMState, Tensor]:
        h, c = state
        a = linear(self.check_input(x), self.weight_ih, self.both_biases())
        k = linear(self.context(h), self.weight_ch)
        i, f, g, o = split(a + h @ self.weight_hh.T + k, 4, axis=-1)
        i, f, o = tap("i", sigmoid(i)), tap("f", sigmoid(f)), tap("o", sigmoid(o))
        g = tap("g", tanh(g))
        c = tap("c", f * c + i * g)
        h = tap("h", self.project(o * tanh(c)))
        return LSTMState(h, c), h

    def context(self, h: Tensor) -> Tensor:
        """k (B, D): the memory, weighted by how well each place fits h (B, H)."""
        memory = self.memory
        if memory is None or memory.shape[0] != h.shape[0]:
            came = "none" if memory is None else describe(memory)
            raise ShapeError(
                f"AttentionLSTMCell: expected a memory for a batch of {h.shape[0]}, got {came}; "
                f"call cell.attend(memory) with (B, M, {self.memory_size}) first."
            )
        keys = linear(memory, self.weight_memory)  # (B, M, A)
        query = expand_dims(linear(h, self.weight_query), 1)  # (B, 1, A)
        if self.weight_score is not None:
            scores = sum(tanh(query + keys) * self.weight_score, axis=-1)
        else:
            scores = sum(query * keys, axis=-1) / math.sqrt(self.attention_size)
        if self.mask is not None:
            scores = scores + self.mask
        weights = tap("attention", softmax(scores, axis=-1))  # (B, M)
        return sum(expand_dims(weights, 2) * memory, axis=1)


def _mask(places: int, dtype: Any, lengths: np.ndarray) -> np.ndarray:
    """What is added to the scores of each row, (B, M): NOWHERE beyond its length."""
    beyond = np.arange(places) >= lengths[:, None]
    return np.where(beyond, NOWHERE, 0.0).astype(dtype)
