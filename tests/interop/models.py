"""Layers to convert, on the tape: what is tested here is weights and graphs, no compiled loop."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import nn

TAPE: dict[str, Any] = {"mode": "tape"}

# name -> (input size, hidden size, options) -> layer
LAYERS: dict[str, Any] = {
    "rnn": lambda i, h, **o: nn.RNN(i, h, **TAPE, **o),
    "rnn relu": lambda i, h, **o: nn.RNN(i, h, nonlinearity="relu", **TAPE, **o),
    "lstm": lambda i, h, **o: nn.LSTM(i, h, **TAPE, **o),
    "gru": lambda i, h, **o: nn.GRU(i, h, **TAPE, **o),
    "gru before": lambda i, h, **o: nn.GRU(i, h, reset_after=False, **TAPE, **o),
    "gru write": lambda i, h, **o: nn.GRU(i, h, update="write", **TAPE, **o),
    "gru before write": lambda i, h, **o: nn.GRU(
        i, h, reset_after=False, update="write", **TAPE, **o
    ),
}


def on_the_tape(module: nn.Module) -> nn.Module:
    """Every recurrent layer below runs on the tape."""
    for part in module.modules():
        if isinstance(part, nn.Recurrent):
            part.mode = "tape"
    return module


def same_bits(a: Any, b: Any) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def same_states(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return list(ours) == list(theirs) and all(same_bits(ours[k], theirs[k]) for k in ours)


class Zoo(nn.Module):
    """The layers of tests/golden/keras_zoo, under their names there."""

    def __init__(self) -> None:
        last: dict[str, Any] = {**TAPE, "return_sequences": False}
        both: dict[str, Any] = {**TAPE, "bidirectional": True}
        self.simple_rnn = nn.RNN(3, 4, **TAPE)
        self.simple_rnn_1 = nn.RNN(3, 1, bias=False, nonlinearity="relu", **last)
        self.lstm = nn.LSTM(3, 5, **TAPE)
        self.lstm_1 = nn.LSTM(3, 1, bias=False, **last)
        self.gru = nn.GRU(3, 3, **TAPE)
        self.gru_1 = nn.GRU(3, 5, reset_after=False, **TAPE)
        self.gru_2 = nn.GRU(3, 1, bias=False, **last)
        self.bidirectional = nn.LSTM(3, 3, **both)
        self.bidirectional_1 = nn.GRU(3, 3, merge="sum", **both)
        self.bidirectional_2 = nn.GRU(3, 1, merge="mean", reset_after=False, **both)
        self.bidirectional_3 = nn.RNN(3, 3, merge="mul", return_sequences=False, **both)
        self.dense = nn.Linear(3, 3)
        self.dense_1 = nn.Linear(3, 1, bias=False)
        self.embedding = nn.Embedding(7, 3)
        for layer in self.modules():
            if isinstance(layer, nn.Recurrent):
                layer.batch_first = True


class Tagger(nn.Module):
    """The model of tests/golden/keras_tagger: two layers of Keras are one of minigrad."""

    def __init__(self) -> None:
        self.embed = nn.Embedding(7, 3)
        self.lstm = nn.LSTM(3, 3, num_layers=2, bidirectional=True, batch_first=True, **TAPE)
        self.gru = nn.GRU(6, 4, batch_first=True, **TAPE)
        self.last = nn.GRU(4, 3, batch_first=True, return_sequences=False, **TAPE)
        self.head = nn.Linear(3, 5)

    def forward(self, words: Any) -> Any:
        x = self.embed(words)
        for layer in (self.lstm, self.gru, self.last):
            x = layer(x)[0]
        return self.head(x)
