"""The recurrent cells, as the papers write them: one step is `cell(state, x) -> (state, y)`.

    state   a Tensor (B, H) or a tree of Tensors (minigrad.tree); carried to the next step
    x       this step's input, (B, I)
    y       this step's output, (B, O)

`cell.init_state(batch)` makes the first state. That order, state first, is what `unroll` and
`scan` call; torch.nn's cells take (x, state) and return the state alone.

The built-in cells are written in two parts, so that a layer can do what needs no state for the
whole sequence at once, as cuDNN does: `hoist(x)` returns W_ih x + b (for one x or for all of them)
and the recurrent weights as the step uses them; `step(state, a, ...)` is the recurrence. One step
is their composition. A cell of your own is any Module with `forward(state, x)` and `init_state`; or
derive it from Cell, name its gates, and write `hoist` and `step`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..errors import DTypeError, ShapeError, describe
from ..ops import relu, sigmoid, split, tanh
from ..tape import tap
from ..tensor import Tensor, as_tensor
from . import init
from .layers import linear
from .module import Module, Parameter


class LSTMState(NamedTuple):
    """What an LSTM carries: the hidden state h and the cell state c."""

    h: Tensor
    c: Tensor


class Cell(Module):
    """What the built-in cells share: torch.nn's parameters, gates stacked on the first axis.

    weight_ih (gates*H, I), weight_hh (gates*H, output size), bias_ih and bias_hh (gates*H,), which
    add up: two are kept so that torch.nn's checkpoints load as they are. Starts uniform in
    +-1/sqrt(H).
    """

    gates: tuple[str, ...]
    hoist: Callable[..., tuple[Any, ...]]  # (x) -> a, and what else the step reads
    step: Callable[..., tuple[Any, Tensor]]  # (state, a, ...) -> (state, y)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        proj_size: int = 0,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ):
        for name, size in [("input_size", input_size), ("hidden_size", hidden_size)]:
            if size < 1:
                raise ShapeError(f"{type(self).__name__}: {name} must be >= 1, got {size}.")
        self.input_size, self.hidden_size = input_size, hidden_size
        self.output_size = proj_size or hidden_size
        rows = len(self.gates) * hidden_size
        self.weight_ih = Parameter(np.zeros((rows, input_size)), dtype)
        self.weight_hh = Parameter(np.zeros((rows, self.output_size)), dtype)
        self.bias_ih = Parameter(np.zeros(rows), dtype) if bias else None
        self.bias_hh = Parameter(np.zeros(rows), dtype) if bias else None
        self.weight_hr = Parameter(np.zeros((proj_size, hidden_size)), dtype) if proj_size else None
        for p in self.parameters():
            init.uniform_(p, 1.0 / math.sqrt(hidden_size), generator)

    def forward(self, state: Any, x: Any) -> tuple[Any, Tensor]:
        return self.step(state, *self.hoist(self.check_input(x)))

    def init_state(self, batch: int) -> Any:
        """Zeros, (batch, H)."""
        return self.zeros(batch, self.output_size)

    def zeros(self, batch: int, size: int) -> Tensor:
        return Tensor(np.zeros((batch, size), self.weight_ih.dtype))

    def both_biases(self) -> Tensor | None:
        return None if self.bias_ih is None else self.bias_ih + self.bias_hh

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


class RNNCell(Cell):
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
    ):
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(
                f"RNNCell: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}."
            )
        super().__init__(input_size, hidden_size, bias, dtype=dtype, generator=generator)
        self.nonlinearity = nonlinearity

    def hoist(self, x: Tensor) -> tuple[Any, ...]:
        return linear(x, self.weight_ih, self.both_biases()), self.weight_hh.T

    def step(self, h: Tensor, a: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
        f = tanh if self.nonlinearity == "tanh" else relu
        h = tap("h", f(a + h @ W))
        return h, h


class LSTMCell(Cell):
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

    gates = ("i", "f", "g", "o")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        proj_size: int = 0,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ):
        if not 0 <= proj_size < hidden_size:
            raise ShapeError(
                f"LSTMCell: proj_size={proj_size} must be 0 (none) or less than "
                f"hidden_size={hidden_size}."
            )
        super().__init__(
            input_size, hidden_size, bias, proj_size=proj_size, dtype=dtype, generator=generator
        )

    def hoist(self, x: Tensor) -> tuple[Any, ...]:
        a = linear(x, self.weight_ih, self.both_biases())
        return a, self.weight_hh.T, None if self.weight_hr is None else self.weight_hr.T

    def step(
        self, state: Any, a: Tensor, W: Tensor, W_hr: Tensor | None
    ) -> tuple[LSTMState, Tensor]:
        h, c = state
        i, f, g, o = split(a + h @ W, 4, axis=-1)
        i, f, o = tap("i", sigmoid(i)), tap("f", sigmoid(f)), tap("o", sigmoid(o))
        g = tap("g", tanh(g))
        c = tap("c", f * c + i * g)
        h = o * tanh(c)
        if W_hr is not None:
            h = h @ W_hr
        tap("h", h)
        return LSTMState(h, c), h

    def init_state(self, batch: int) -> LSTMState:
        """Zeros: h (batch, H or proj_size), c (batch, H)."""
        return LSTMState(self.zeros(batch, self.output_size), self.zeros(batch, self.hidden_size))


class GRUCell(Cell):
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
    ):
        if update not in ("keep", "write"):
            raise ValueError(
                f"GRUCell: update must be 'keep' (z*h + (1-z)*n, as torch.nn) or 'write' "
                f"((1-z)*h + z*n), got {update!r}."
            )
        super().__init__(input_size, hidden_size, bias, dtype=dtype, generator=generator)
        self.reset_after, self.update = reset_after, update

    def hoist(self, x: Tensor) -> tuple[Any, ...]:
        W = self.weight_hh.T
        if self.reset_after:  # b_hn is inside the product with r, so bias_hh stays with the step
            return linear(x, self.weight_ih, self.bias_ih), W, self.bias_hh
        rz = 2 * self.hidden_size
        return linear(x, self.weight_ih, self.both_biases()), W[:, :rz], W[:, rz:]

    def step(self, h: Tensor, a: Tensor, W: Tensor, other: Any) -> tuple[Tensor, Tensor]:
        a_r, a_z, a_n = split(a, 3, axis=-1)
        if self.reset_after:
            u = h @ W if other is None else h @ W + other
            u_r, u_z, u_n = split(u, 3, axis=-1)
        else:
            u_r, u_z = split(h @ W, 2, axis=-1)
        r, z = tap("r", sigmoid(a_r + u_r)), tap("z", sigmoid(a_z + u_z))
        n = tap("n", tanh(a_n + (r * u_n if self.reset_after else (r * h) @ other)))
        h = z * h + (1 - z) * n if self.update == "keep" else (1 - z) * h + z * n
        tap("h", h)
        return h, h
