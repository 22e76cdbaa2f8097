"""The recurrent cells, as the papers write them: one step is `cell(state, x) -> (state, y)`.

    state   a Tensor (B, H) or a tree of Tensors (minigrad.tree); carried to the next step
    x       this step's input, (B, I)
    y       this step's output, (B, O)

State first: that is what `unroll` and `scan` call; torch.nn's cells take (x, state) and return the
state alone. RNN, LSTM and GRU are here, and cells of other papers in `zoo`. A cell of your own is
any Module (for `scan`, any callable) with

    forward(state, x)   -> (state, y); the state keeps its structure, shapes and dtypes
    init_state(batch)   -> the first state
    output_size         the size of y; needed only where layers are stacked
    draw(time, batch)   -> a tree of arrays (time, batch, ...), or None; only if a cell is random

A step is plain equations; what needs only x (W_ih x + b) or only weights is written where it is
used. A step may be traced once for all of them, so it decides nothing by values (`mg.where` does),
edits nothing in place and draws no random numbers: `draw` makes the masks of a dropout or zoneout
beforehand, and the layer calls `cell(state, (x, drawn))` with this step's part of them. When `draw`
returns None, as in eval mode, the cell is called with x alone.

>>> class Decay(Module):  # y_t = 0.9 y_{t-1} + x_t
...     def forward(self, state, x):
...         y = 0.9 * state + x
...         return y, y
...     def init_state(self, batch):
...         return Tensor(np.zeros((batch, 1)))
>>> from minigrad.nn import Recurrent
>>> Recurrent(lambda size: Decay(), 1)(np.ones((3, 1, 1)))[0].numpy().ravel().round(2).tolist()
[1.0, 1.9, 2.71]
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .. import checks
from ..errors import DTypeError, ShapeError, describe
from ..ops import relu, sigmoid, split, tanh
from ..tape import tap
from ..tensors import Tensor, as_tensor, wrap
from . import init
from .calling import check_call
from .layers import keep_mask, linear
from .module import Module, Parameter


class LSTMState(NamedTuple):
    """What an LSTM carries: the hidden state h and the cell state c."""

    h: Tensor
    c: Tensor


class Cell(Module):
    """What the cells of this package share: sizes, a check of x, zeros to start from.

    A subclass makes its parameters, among them weight_ih (..., I), and writes `forward`.
    """

    weight_ih: Parameter

    def __init__(self, input_size: int, hidden_size: int, output_size: int | None = None):
        output_size = hidden_size if output_size is None else output_size
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "output_size": output_size}
        for name, size in sizes.items():
            checks.size(f"{type(self).__name__}: {name}", size)
        self.input_size, self.hidden_size = input_size, hidden_size
        self.output_size = output_size

    def __call__(self, state: Any, x: Any = None) -> Any:
        """state, y = cell(state, x). Raises what `calling.check_call` finds."""
        if x is None:
            raise TypeError(
                f"{type(self).__name__}: expected cell(state, x), got one argument; the first "
                f"state is cell.init_state(batch)."
            )
        check_call(self, state, x)
        return super().__call__(state, x)

    def parameter(
        self, shape: tuple[int, ...], dtype: Any, generator: np.random.Generator | None
    ) -> Parameter:
        """A new parameter, uniform in +-1/sqrt(H)."""
        p = Parameter(np.zeros(shape), dtype)
        init.uniform_(p, 1.0 / math.sqrt(self.hidden_size), generator)
        return p

    def init_state(self, batch: int) -> Any:
        """Zeros, (batch, H)."""
        return self.zeros(batch, self.hidden_size)

    def zeros(self, batch: int, size: int) -> Tensor:
        """Zeros of the weights' dtype, (batch, size)."""
        t = wrap(np.zeros((batch, size), self.weight_ih._array.dtype), None, False)
        t.by_hand = True
        return t

    def check_input(self, x: Any) -> Tensor:
        """x as a Tensor. Raises ShapeError unless it is (..., input_size), or DTypeError."""
        x = as_tensor(x)
        if not x.ndim or x.shape[-1] != self.input_size:
            raise ShapeError(
                f"{type(self).__name__}: expected x of shape (..., {self.input_size}), got "
                f"{describe(x)}; input_size is the size of its last axis, and a cell is called "
                f"as cell(state, x)."
            )
        if x.dtype != self.weight_ih.dtype:
            raise DTypeError(
                f"{type(self).__name__}: x is {describe(x)} and the weights are "
                f"{self.weight_ih.dtype}; use x.astype(np.{self.weight_ih.dtype}), or make the "
                f"weights with dtype=np.{x.dtype}."
            )
        return x

    def describe(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


class GatedCell(Cell):
    """Cells with torch.nn's parameters, where the weights of all gates are stacked.

    weight_ih (gates*H, I), weight_hh (gates*H, recurrent_size), bias_ih and bias_hh (gates*H,),
    which add up: two are kept so that torch.nn's checkpoints load as they are. Starts uniform in
    +-1/sqrt(H).

    gates: their names, in the order of the rows.
    keeps: those that decide how long the state lasts: +1 if it stays where the gate is open, -1 if
        it is overwritten there. `init.chrono_` and `init.forget_bias_` read it.
    recurrent_size: the size of what weight_hh multiplies, hidden_size if left out.
    recurrent_dropout: in training, what weight_hh multiplies is dropped out, with one mask for all
        steps of a row (Gal and Ghahramani 2016); what else the step reads of h stays whole. `draw`
        makes the masks from `generator`, and a layer gives them with x. RNNCell, LSTMCell and
        GRUCell take it.
    """

    gates: tuple[str, ...]
    keeps: dict[str, int] = {}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        output_size: int | None = None,
        recurrent_size: int | None = None,
        recurrent_dropout: float = 0.0,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ):
        super().__init__(input_size, hidden_size, output_size)
        what = f"{type(self).__name__}: recurrent_dropout"
        self.recurrent_dropout = checks.probability(what, recurrent_dropout)
        self.generator = generator
        rows, columns = len(self.gates) * hidden_size, recurrent_size or hidden_size
        self.weight_ih = self.parameter((rows, input_size), dtype, generator)
        self.weight_hh = self.parameter((rows, columns), dtype, generator)
        self.bias_ih = self.parameter((rows,), dtype, generator) if bias else None
        self.bias_hh = self.parameter((rows,), dtype, generator) if bias else None

    def draw(self, time: int, batch: int) -> Any:
        """The mask of recurrent_dropout, (time, batch, H): each row's own, the same at all steps.
        None in eval mode, and without it.
        """
        if not (self.training and self.recurrent_dropout):
            return None
        shape = batch, self.weight_hh.shape[1]
        mask = keep_mask(shape, self.recurrent_dropout, self.weight_hh.dtype, self.generator)
        return np.broadcast_to(mask, (time, *shape))

    def dropped(self, h: Tensor, x: Any) -> tuple[Tensor, Any]:
        """(h as weight_hh multiplies it, x), apart from the mask that came with x."""
        if not (self.training and self.recurrent_dropout):
            return h, x
        if not isinstance(x, tuple):
            raise ValueError(
                f"{type(self).__name__}: a step in training with recurrent_dropout needs its mask, "
                f"cell(state, (x, drawn)) with drawn = step t of cell.draw(time, batch), as the "
                f"layers call it; or switch it off with cell.eval()."
            )
        return h * x[1], x[0]

    def both_biases(self) -> Tensor | None:
        return None if self.bias_ih is None else self.bias_ih + self.bias_hh


class RNNCell(GatedCell):
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), or relu in place of tanh (Elman 1990).

    y_t = h_t. State: h (B, H).

    >>> cell = RNNCell(3, 5)
    >>> h, y = cell(cell.init_state(2), np.ones((2, 3), np.float32))
    >>> h.shape
    (2, 5)
    """

    gates = ("h",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
        recurrent_dropout: float = 0.0,
    ):
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(
                f"RNNCell: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}."
            )
        options: Any = dict(recurrent_dropout=recurrent_dropout, dtype=dtype, generator=generator)
        super().__init__(input_size, hidden_size, bias, **options)
        self.nonlinearity = nonlinearity

    def forward(self, state: Any, x: Any) -> tuple[Tensor, Tensor]:
        f = tanh if self.nonlinearity == "tanh" else relu
        h, x = self.dropped(state, x)
        a = linear(self.check_input(x), self.weight_ih, self.both_biases())
        h = tap("h", f(a + h @ self.weight_hh.T))
        return h, h


class LSTMCell(GatedCell):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000).

        i_t = sigmoid(W_ii x_t + W_hi h_{t-1} + b_i)        input gate
        f_t = sigmoid(W_if x_t + W_hf h_{t-1} + b_f)        forget gate
        g_t =    tanh(W_ig x_t + W_hg h_{t-1} + b_g)        what may be written
        o_t = sigmoid(W_io x_t + W_ho h_{t-1} + b_o)        output gate
        c_t = f_t * c_{t-1} + i_t * g_t
        h_t = o_t * tanh(c_t)                               W_hr (o_t * tanh(c_t)) with proj_size

    y_t = h_t. State: LSTMState(h (B, H or proj_size), c (B, H)). Rows of the weights: i f g o.
    b = b_ih + b_hh.

    >>> cell = LSTMCell(3, 5)
    >>> (h, c), y = cell(cell.init_state(2), np.ones((2, 3), np.float32))
    >>> h.shape
    (2, 5)
    """

    gates: tuple[str, ...] = ("i", "f", "g", "o")
    keeps = {"f": +1, "i": -1}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        proj_size: int = 0,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
        recurrent_dropout: float = 0.0,
    ):
        checks.size(f"{type(self).__name__}: hidden_size", hidden_size)
        checks.size(f"{type(self).__name__}: proj_size", proj_size, least=0)
        if proj_size >= hidden_size:
            raise ShapeError(
                f"{type(self).__name__}: proj_size={proj_size} must be 0 (none) or less than "
                f"hidden_size={hidden_size}."
            )
        size = proj_size or hidden_size
        options: Any = dict(recurrent_dropout=recurrent_dropout, dtype=dtype, generator=generator)
        options |= dict(output_size=size, recurrent_size=size)
        super().__init__(input_size, hidden_size, bias, **options)
        shape = (proj_size, hidden_size)
        self.weight_hr = self.parameter(shape, dtype, generator) if proj_size else None

    def forward(self, state: Any, x: Any) -> tuple[LSTMState, Tensor]:
        h, c = state
        h, x = self.dropped(h, x)
        a = linear(self.check_input(x), self.weight_ih, self.both_biases())
        i, f, g, o = split(a + h @ self.weight_hh.T, 4, axis=-1)
        i, f, o = tap("i", sigmoid(i)), tap("f", sigmoid(f)), tap("o", sigmoid(o))
        g = tap("g", tanh(g))
        c = tap("c", f * c + i * g)
        h = tap("h", self.project(o * tanh(c)))
        return LSTMState(h, c), h

    def project(self, h: Tensor) -> Tensor:
        """W_hr h with proj_size (Sak et al. 2014), else h."""
        return h if self.weight_hr is None else linear(h, self.weight_hr)

    def init_state(self, batch: int) -> LSTMState:
        """Zeros: h (batch, H or proj_size), c (batch, H)."""
        return LSTMState(self.zeros(batch, self.output_size), self.zeros(batch, self.hidden_size))


class GRUCell(GatedCell):
    """Gated recurrent unit (Cho et al. 2014). The papers and libraries differ in two places:

        r_t = sigmoid(W_ir x_t + b_ir + W_hr h_{t-1} + b_hr)         reset gate
        z_t = sigmoid(W_iz x_t + b_iz + W_hz h_{t-1} + b_hz)         update gate
        n_t = tanh(W_in x_t + b_in + r_t * (W_hn h_{t-1} + b_hn))    reset_after=True (torch.nn)
        n_t = tanh(W_in x_t + b_in + W_hn (r_t * h_{t-1}) + b_hn)    reset_after=False
        h_t = z_t * h_{t-1} + (1 - z_t) * n_t                        update="keep" (torch.nn)
        h_t = (1 - z_t) * h_{t-1} + z_t * n_t                        update="write"

    Chung et al. 2014 is reset_after=False, update="write". Negating the z rows of all weights and
    biases turns "keep" into "write"; reset before and after cannot be converted into each other.
    y_t = h_t. State: h (B, H). Rows of the weights: r z n.

    >>> cell = GRUCell(3, 5)
    >>> h, y = cell(cell.init_state(2), np.ones((2, 3), np.float32))
    >>> h.shape
    (2, 5)
    """

    gates = ("r", "z", "n")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        reset_after: bool = True,
        update: str = "keep",
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
        recurrent_dropout: float = 0.0,
    ):
        if update not in ("keep", "write"):
            raise ValueError(
                f"GRUCell: update must be 'keep' (z*h + (1-z)*n, as torch.nn) or 'write' "
                f"((1-z)*h + z*n), got {update!r}."
            )
        options: Any = dict(recurrent_dropout=recurrent_dropout, dtype=dtype, generator=generator)
        super().__init__(input_size, hidden_size, bias, **options)
        self.reset_after, self.update = reset_after, update
        self.keeps = {"z": +1 if update == "keep" else -1}

    def forward(self, state: Any, x: Any) -> tuple[Tensor, Tensor]:
        h = state
        kept, x = self.dropped(h, x)
        x = self.check_input(x)
        if self.reset_after:  # b_hn is inside the product with r, so bias_hh stays on that side
            a = linear(x, self.weight_ih, self.bias_ih)
            u_r, u_z, u_n = split(linear(kept, self.weight_hh, self.bias_hh), 3, axis=-1)
        else:
            a = linear(x, self.weight_ih, self.both_biases())
            W_rz, W_n = split(self.weight_hh, [2 * self.hidden_size])
            u_r, u_z = split(kept @ W_rz.T, 2, axis=-1)
        a_r, a_z, a_n = split(a, 3, axis=-1)
        r, z = tap("r", sigmoid(a_r + u_r)), tap("z", sigmoid(a_z + u_z))
        n = tap("n", tanh(a_n + (r * u_n if self.reset_after else (r * kept) @ W_n.T)))
        h = tap("h", z * h + (1 - z) * n if self.update == "keep" else (1 - z) * h + z * n)
        return h, h
