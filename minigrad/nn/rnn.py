"""RNN, LSTM and GRU: the built-in cells in layers and directions, as in torch.nn.

A PyTorch checkpoint of the layer loads as it is: `layer.load_state_dict(torch_layer.state_dict())`.
hidden_size may be a list, one size for each layer: then states are tuples (see Recurrent).
recurrent_dropout=p drops h before weight_hh reads it, with one mask for all steps (see GatedCell);
weight_dropout=p drops entries of weight_hh. Both run in the compiled loops.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np

from .. import checks
from ..errors import ShapeError
from .cells import Cell, GRUCell, LSTMCell, RNNCell
from .recurrent import DEFAULT_MODE, Recurrent


class _BuiltIn(Recurrent):
    cell_type: type[Cell]

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        merge: str = "concat",
        return_sequences: bool = True,
        mode: str = DEFAULT_MODE,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
        checkpoint: int | str | None = None,
        return_states: bool = False,
        weight_dropout: float = 0.0,
        **cell_options: Any,
    ):
        if isinstance(hidden_size, (list, tuple, np.ndarray)):
            hidden_size, num_layers = self._by_layer(hidden_size, num_layers)
        self.hidden_size, self.bias, self.cell_options = hidden_size, bias, cell_options
        cell_options = dict(bias=bias, dtype=dtype, generator=generator, **cell_options)
        made = count()

        def cell(size: int) -> Cell:
            H: Any = hidden_size
            if isinstance(H, tuple):
                H = H[next(made) // self.num_directions]
            return self.cell_type(size, H, **cell_options)

        super().__init__(
            cell,
            input_size,
            num_layers,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            merge=merge,
            return_sequences=return_sequences,
            mode=mode,
            generator=generator,
            checkpoint=checkpoint,
            return_states=return_states,
            weight_dropout=weight_dropout,
        )

    def _by_layer(self, given: Any, num_layers: int) -> tuple[tuple[int, ...], int]:
        """Hidden sizes, one for each layer, and how many layers that makes."""
        sizes = tuple(checks.size(f"{self._who}: hidden_size[{i}]", n) for i, n in enumerate(given))
        if not sizes or num_layers not in (1, len(sizes)):
            raise ShapeError(
                f"{self._who}: hidden_size={list(sizes)} is one size for each layer, "
                f"{len(sizes)} of them; got num_layers={num_layers}, which may be left out."
            )
        return sizes, len(sizes)

    def describe(self) -> str:
        parts = [super().describe()]
        parts += ["bias=False"] * (not self.bias)
        parts += [f"{name}={value!r}" for name, value in self.cell_options.items()]
        return ", ".join(parts)


class RNN(_BuiltIn):
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh) over time.

    layer(x, state=None, lengths=None, mask=None, resets=None) -> (output, h_n): see Recurrent for
    shapes and options.
    nonlinearity="relu" takes the place of tanh.

    >>> output, h_n = RNN(3, 5, bidirectional=True)(np.ones((7, 2, 3), np.float32), lengths=[7, 4])
    >>> output.shape, h_n.shape
    ((7, 2, 10), (2, 2, 5))
    """

    scope_name = "rnn"
    cell_type = RNNCell


class LSTM(_BuiltIn):
    """Long short-term memory over time, by the equations of LSTMCell.

    layer(x, state=None, lengths=None, mask=None, resets=None) -> (output, (h_n, c_n)): see
    Recurrent for shapes and options.
    proj_size=P projects every h_t to P numbers.

    >>> output, (h_n, c_n) = LSTM(3, 5, num_layers=2, proj_size=2)(np.ones((7, 2, 3), np.float32))
    >>> output.shape, h_n.shape, c_n.shape
    ((7, 2, 2), (2, 2, 2), (2, 2, 5))
    """

    scope_name = "lstm"
    cell_type = LSTMCell


class GRU(_BuiltIn):
    """Gated recurrent unit over time, by the equations of GRUCell.

    layer(x, state=None, lengths=None, mask=None, resets=None) -> (output, h_n): see Recurrent for
    shapes and options.
    reset_after and update choose the variant.

    >>> output, h_n = GRU(3, 5, reset_after=False, update="write")(np.ones((7, 2, 3), np.float32))
    >>> output.shape, h_n.shape
    ((7, 2, 5), (1, 2, 5))
    """

    scope_name = "gru"
    cell_type = GRUCell
