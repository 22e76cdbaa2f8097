"""Networks: modules, cells, recurrent layers, losses, initial weights."""

from ..compile import pure, unroll
from ..othernames import NN, absent
from . import init
from .cells import Cell, GatedCell, GRUCell, LSTMCell, LSTMState, RNNCell
from .containers import ModuleDict, ModuleList
from .ctc import ctc_beam, ctc_greedy, ctc_loss
from .layers import Dropout, Embedding, LayerNorm, Linear, Sequential, linear
from .losses import bce_with_logits, cross_entropy, huber_loss, mae_loss, mse_loss, nll_loss
from .module import Module, Parameter
from .recurrent import Recurrent
from .rnn import GRU, LSTM, RNN
from .sampling import beam_search, sample
from .seq2seq import EncoderDecoder
from .streaming import Stream
from .zoo import (
    AntisymmetricRNNCell,
    AttentionLSTMCell,
    CfCCell,
    CoRNNCell,
    CoupledLSTMCell,
    ElmanCell,
    IndRNNCell,
    IRNNCell,
    JordanCell,
    LayerNormLSTMCell,
    LEMCell,
    LRUCell,
    MinGRUCell,
    MinimalGatedCell,
    PeepholeLSTMCell,
    SLSTMCell,
    SLSTMState,
    UnitaryCell,
    ZoneoutLSTMCell,
)

__all__ = [
    "AntisymmetricRNNCell",
    "AttentionLSTMCell",
    "Cell",
    "CfCCell",
    "CoRNNCell",
    "CoupledLSTMCell",
    "Dropout",
    "ElmanCell",
    "Embedding",
    "EncoderDecoder",
    "GRU",
    "GRUCell",
    "GatedCell",
    "IRNNCell",
    "IndRNNCell",
    "JordanCell",
    "LEMCell",
    "LRUCell",
    "LSTM",
    "LSTMCell",
    "LSTMState",
    "LayerNorm",
    "LayerNormLSTMCell",
    "Linear",
    "MinGRUCell",
    "MinimalGatedCell",
    "Module",
    "ModuleDict",
    "ModuleList",
    "Parameter",
    "PeepholeLSTMCell",
    "RNN",
    "RNNCell",
    "Recurrent",
    "SLSTMCell",
    "SLSTMState",
    "Sequential",
    "Stream",
    "UnitaryCell",
    "ZoneoutLSTMCell",
    "bce_with_logits",
    "beam_search",
    "cross_entropy",
    "ctc_beam",
    "ctc_greedy",
    "ctc_loss",
    "huber_loss",
    "init",
    "linear",
    "mae_loss",
    "mse_loss",
    "nll_loss",
    "sample",
    "unroll",
]

for _cell in (
    RNNCell, LSTMCell, GRUCell, AntisymmetricRNNCell, AttentionLSTMCell, CfCCell, CoRNNCell,
    CoupledLSTMCell, ElmanCell, IndRNNCell, IRNNCell, JordanCell, LayerNormLSTMCell, LEMCell,
    LRUCell, MinGRUCell, MinimalGatedCell, PeepholeLSTMCell, SLSTMCell, UnitaryCell,
    ZoneoutLSTMCell, Embedding, LayerNorm, Linear,
):  # fmt: skip
    pure(_cell)  # what a step of theirs does depends on their attributes alone

__getattr__ = absent("minigrad.nn", __all__, NN)
