"""Layers one after the other, recurrent ones among them: what an exported ONNX file computes."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..nn.layers import Sequential
from ..nn.recurrent import Recurrent
from ..tensors import Tensor


class ChainResult(NamedTuple):
    """The last layer's output, and index of a recurrent layer -> its final state."""

    output: Tensor
    finals: dict[int, Any]


class Chain(Sequential):
    """f_n(... f_2(f_1(x))), where a recurrent layer hands on its outputs.

    chain(x, lengths=None, states=None) -> (output, finals). lengths go to every recurrent layer;
    states: index of a recurrent layer -> its initial state.

    >>> import numpy as np
    >>> from minigrad import nn
    >>> tagger = Chain(nn.Embedding(10, 3), nn.LSTM(3, 4, bidirectional=True), nn.Linear(8, 5))
    >>> tagger(np.zeros((6, 2), int)).output.shape
    (6, 2, 5)
    """

    def forward(self, x: Any, lengths: Any = None, states: Any = None) -> ChainResult:
        finals = {}
        for i, function in enumerate(self.functions):
            if isinstance(function, Recurrent):
                x, finals[i] = function(x, (states or {}).get(i), lengths)
            else:
                x = function(x)
        return ChainResult(x, finals)
