"""Cells as a user of minigrad writes them: nothing in them knows that they will be compiled. That
they are pure, their author says.
"""

import numpy as np

import minigrad as mg
from minigrad import nn


@mg.pure
class OwnLSTM(nn.Module):
    """The equations of mg.nn.LSTM, written again."""

    def __init__(self, input_size, hidden_size):
        self.hidden_size = hidden_size
        self.W = nn.Parameter(np.zeros((input_size, 4 * hidden_size)), np.float32)
        self.U = nn.Parameter(np.zeros((hidden_size, 4 * hidden_size)), np.float32)
        self.b = nn.Parameter(np.zeros(4 * hidden_size), np.float32)

    def init_state(self, batch):
        zeros = np.zeros((batch, self.hidden_size), np.float32)
        return mg.tensor(zeros), mg.tensor(zeros)

    def forward(self, state, x):
        h, c = state
        i, f, g, o = mg.split(x @ self.W + h @ self.U + self.b, 4, axis=-1)
        c = mg.sigmoid(f) * c + mg.sigmoid(i) * mg.tanh(g)
        h = mg.sigmoid(o) * mg.tanh(c)
        return (h, c), h


@mg.pure
class PeepholeLSTM(OwnLSTM):
    """Gates that see the cell state (Gers, Schraudolph, Schmidhuber 2002)."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.p_i = nn.Parameter(np.zeros(hidden_size), np.float32)
        self.p_f = nn.Parameter(np.zeros(hidden_size), np.float32)
        self.p_o = nn.Parameter(np.zeros(hidden_size), np.float32)

    def forward(self, state, x):
        h, c = state
        i, f, g, o = mg.split(x @ self.W + h @ self.U + self.b, 4, axis=-1)
        i = mg.sigmoid(i + self.p_i * c)
        f = mg.sigmoid(f + self.p_f * c)
        c = f * c + i * mg.tanh(g)
        o = mg.sigmoid(o + self.p_o * c)
        h = o * mg.tanh(c)
        return (h, c), h
