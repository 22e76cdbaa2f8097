"""Networks: modules, cells, recurrent layers, losses, initial weights."""

from . import init
from .cells import Cell, GRUCell, LSTMCell, LSTMState, RNNCell
from .layers import Dropout, Embedding, LayerNorm, Linear, Sequential, linear
from .losses import bce_with_logits, cross_entropy, huber_loss, mae_loss, mse_loss, nll_loss
from .module import Module, Parameter
from .recurrent import Recurrent
from .rnn import GRU, LSTM, RNN
from .unroll import unroll

__all__ = [
    "Cell",
    "Dropout",
    "Embedding",
    "GRU",
    "GRUCell",
    "LSTM",
    "LSTMCell",
    "LSTMState",
    "LayerNorm",
    "Linear",
    "Module",
    "Parameter",
    "RNN",
    "RNNCell",
    "Recurrent",
    "Sequential",
    "bce_with_logits",
    "cross_entropy",
    "huber_loss",
    "init",
    "linear",
    "mae_loss",
    "mse_loss",
    "nll_loss",
    "unroll",
]
