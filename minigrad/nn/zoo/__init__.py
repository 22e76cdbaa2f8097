"""Cells of other papers, each a few lines of its equations. The protocol is in ../cells.py.

| cell | what it changes | state |
|---|---|---|
| ElmanCell, JordanCell | feed back the hidden state, or the output | h; s |
| IRNNCell | a relu RNN that starts as the identity | h |
| PeepholeLSTMCell | gates see the cell state | LSTMState |
| CoupledLSTMCell | forgets exactly where it writes | LSTMState |
| LayerNormLSTMCell | normalises what the gates add up | LSTMState |
| ZoneoutLSTMCell | randomly keeps parts of the state | LSTMState |
| AttentionLSTMCell | reads a memory by attention | LSTMState |
| MinimalGatedCell | a GRU with one gate | h |
| MinGRUCell | a GRU whose gate does not see the state | h |
| UnitaryCell | rotates the state, which neither grows nor shrinks | {re, im} |
| LRUCell | a linear recurrence, rotating and shrinking | (re, im) |
| IndRNNCell | units that see themselves alone | h |
| CoRNNCell | damped oscillators | (y, z) |
| LEMCell | learns its time steps | (y, z) |
| AntisymmetricRNNCell | follows a field that keeps distances | h |
| CfCCell | a differential equation, solved | h |
| SLSTMCell | exponential gates and a normaliser | SLSTMState |

>>> import numpy as np
>>> from minigrad.nn import Recurrent
>>> layer = Recurrent(lambda size: PeepholeLSTMCell(size, 4), 3, num_layers=2, bidirectional=True)
>>> output, (h_n, c_n) = layer(np.ones((7, 2, 3), np.float32))
>>> output.shape, h_n.shape
((7, 2, 8), (4, 2, 4))
"""

from .attention import AttentionLSTMCell
from .differential import AntisymmetricRNNCell, CfCCell, CoRNNCell, LEMCell
from .gru import MinGRUCell, MinimalGatedCell
from .lstm import (
    CoupledLSTMCell,
    LayerNormLSTMCell,
    PeepholeLSTMCell,
    SLSTMCell,
    SLSTMState,
)
from .rotation import LRUCell, UnitaryCell
from .simple import ElmanCell, IndRNNCell, IRNNCell, JordanCell
from .zoneout import ZoneoutLSTMCell

__all__ = [
    "AntisymmetricRNNCell",
    "AttentionLSTMCell",
    "CfCCell",
    "CoRNNCell",
    "CoupledLSTMCell",
    "ElmanCell",
    "IRNNCell",
    "IndRNNCell",
    "JordanCell",
    "LEMCell",
    "LRUCell",
    "LayerNormLSTMCell",
    "MinGRUCell",
    "MinimalGatedCell",
    "PeepholeLSTMCell",
    "SLSTMCell",
    "SLSTMState",
    "UnitaryCell",
    "ZoneoutLSTMCell",
]
