"""Zoneout: dropout for states, which keeps the old value where dropout would write a zero."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import checks
from ...ops import sigmoid, split, tanh
from ...random import default_generator, drawn
from ...tape import tap
from ...tensors import Tensor
from ..cells import LSTMCell, LSTMState
from ..layers import linear


class ZoneoutLSTMCell(LSTMCell):
    """An LSTM that in training keeps random parts of its state as they were (Krueger et al. 2017).

        i_t, f_t, g_t, o_t as in LSTMCell
        n_t = f_t * c_{t-1} + i_t * g_t
        c_t = d_c * c_{t-1} + (1 - d_c) * n_t
        h_t = d_h * h_{t-1} + (1 - d_h) * o_t * tanh(n_t)

    In training d_c and d_h are 1 with probability zoneout_c and zoneout_h, else 0, for each row,
    unit and step: `draw` makes them beforehand from `generator` (or mg.seed's) and the layer gives
    them with x. In eval mode they are their expectations, the probabilities themselves.
    D. Krueger et al., "Zoneout: regularizing RNNs by randomly preserving hidden activations", 2017;
    the default probabilities are those of its character-level Penn Treebank.
    y_t = h_t. State: LSTMState(h, c). Parameters: LSTMCell's.

    Raises ValueError if a step in training comes without its masks.

    >>> cell = ZoneoutLSTMCell(3, 5).eval()
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
        zoneout_h: float = 0.05,
        zoneout_c: float = 0.5,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ):
        super().__init__(input_size, hidden_size, bias, proj_size, dtype, generator)
        self.zoneout_h = checks.probability("ZoneoutLSTMCell: zoneout_h", zoneout_h)
        self.zoneout_c = checks.probability("ZoneoutLSTMCell: zoneout_c", zoneout_c)
        self.generator = generator

    def draw(self, time: int, batch: int) -> dict[str, np.ndarray] | None:
        """The masks of all steps, h (time, batch, H or proj_size) and c (time, batch, H)."""
        if not self.training:
            return None
        random, dtype = default_generator(self.generator).random, self.weight_ih.dtype
        sizes = {"h": (self.output_size, self.zoneout_h), "c": (self.hidden_size, self.zoneout_c)}

        def mask(size: int, p: float) -> np.ndarray:
            return drawn(lambda: (random((time, batch, size)) < p).astype(dtype))

        return {name: mask(size, p) for name, (size, p) in sizes.items()}

    def forward(self, state: Any, x: Any) -> tuple[LSTMState, Tensor]:
        h, c = state
        x, d = x if isinstance(x, tuple) else (x, self.expectation())
        a = linear(self.check_input(x), self.weight_ih, self.both_biases())
        i, f, g, o = split(a + h @ self.weight_hh.T, 4, axis=-1)
        i, f, o = tap("i", sigmoid(i)), tap("f", sigmoid(f)), tap("o", sigmoid(o))
        g = tap("g", tanh(g))
        n = f * c + i * g
        c = tap("c", d["c"] * c + (1 - d["c"]) * n)
        h = tap("h", d["h"] * h + (1 - d["h"]) * self.project(o * tanh(n)))
        return LSTMState(h, c), h

    def expectation(self) -> dict[str, float]:
        """What stands in for the masks in eval mode."""
        if self.training:
            raise ValueError(
                "ZoneoutLSTMCell: a step in training needs its masks, cell(state, (x, drawn)) with "
                "drawn = step t of cell.draw(time, batch), as nn.Recurrent calls it; or switch "
                "zoneout to its expectation with cell.eval()."
            )
        return {"h": self.zoneout_h, "c": self.zoneout_c}
