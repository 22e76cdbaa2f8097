"""Keras's cells with other activations than minigrad's own, and those activations.

    Recurrent(lambda size: KerasGRUCell(size, 5, recurrent_activation="hard_sigmoid"), 3)

`hard_sigmoid` is clip(x/6 + 1/2, 0, 1) since Keras 3 and was clip(x/5 + 1/2, 0, 1) before: that one
is called `hard_sigmoid_2` here. Until Keras 2.3 it was what gates had unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import nn, ops
from ..compile import pure
from ..nn.layers import linear
from ..tape import tap
from ..tensors import Tensor
from . import gates
from .base import ConversionError

SELU, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017, appendix A1

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": ops.elu,
    "exponential": ops.exp,
    "hard_swish": lambda x: x * ops.clip(x * (1 / 6) + 0.5, 0.0, 1.0),
    "gelu": ops.gelu,
    "hard_sigmoid": lambda x: ops.clip(x * (1 / 6) + 0.5, 0.0, 1.0),
    "hard_sigmoid_2": lambda x: ops.clip(x * 0.2 + 0.5, 0.0, 1.0),
    "leaky_relu": lambda x: ops.leaky_relu(x, 0.2),
    "linear": lambda x: x,
    "log_softmax": lambda x: ops.log_softmax(x, -1),
    "mish": lambda x: x * ops.tanh(ops.softplus(x)),
    "relu": ops.relu,
    "relu6": lambda x: ops.clip(x, 0.0, 6.0),
    "selu": lambda x: SELU * ops.elu(x, SELU_ALPHA),
    "sigmoid": ops.sigmoid,
    "silu": lambda x: x * ops.sigmoid(x),
    "softmax": lambda x: ops.softmax(x, -1),
    "softplus": ops.softplus,
    "softsign": lambda x: x / (1.0 + ops.abs(x)),
    "tanh": ops.tanh,
}
ALIASES = {"swish": "silu", "hard_silu": "hard_swish", "hardsigmoid": "hard_sigmoid"}


def activation_named(what: str, given: Any, version: tuple[int, ...] = (3,)) -> str:
    """The name in ACTIVATIONS of what a configuration calls `given`.

    version: of the Keras that wrote it. Raises ConversionError for any other: a function of
    somebody's own has no more than its name in a file.

    >>> activation_named("gru", "hard_sigmoid", (2, 15)), activation_named("gru", None)
    ('hard_sigmoid_2', 'linear')
    """
    name = given
    if isinstance(given, dict) and given.get("class_name") == "function":
        name = given.get("config")
    name = "linear" if name is None else ALIASES.get(str(name), name)
    if name == "hard_sigmoid" and version < (3,):
        return "hard_sigmoid_2"
    if not isinstance(name, str) or name not in ACTIVATIONS:
        said = given.get("class_name") if isinstance(given, dict) else given
        raise ConversionError(
            f"{what} has the activation {said!r}; known are {', '.join(ACTIVATIONS)}."
        )
    return name


class KerasRNNCell(nn.RNNCell):
    """h_t = f(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh) with any f of ACTIVATIONS.

    >>> KerasRNNCell(3, 5, activation="softsign").activation
    'softsign'
    """

    def __init__(self, input_size: int, hidden_size: int, activation: str = "tanh", **options: Any):
        super().__init__(input_size, hidden_size, nonlinearity="tanh", **options)
        self.activation = activation_named("KerasRNNCell", activation)

    def forward(self, state: Any, x: Any) -> tuple[Tensor, Tensor]:
        a = linear(self.check_input(x), self.weight_ih, self.both_biases())
        h = tap("h", ACTIVATIONS[self.activation](a + state @ self.weight_hh.T))
        return h, h


class KerasLSTMCell(nn.LSTMCell):
    """An LSTM with other functions than tanh (activation) and sigmoid (recurrent_activation).

        i, f, o = s(...), s(...), s(...)
        c_t = f * c_{t-1} + i * a(...)
        h_t = o * a(c_t)

    >>> KerasLSTMCell(3, 5, activation="relu").weight_hh.shape
    (20, 5)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        activation: str = "tanh",
        recurrent_activation: str = "sigmoid",
        **options: Any,
    ):
        super().__init__(input_size, hidden_size, proj_size=0, **options)
        self.activation = activation_named("KerasLSTMCell", activation)
        self.recurrent_activation = activation_named("KerasLSTMCell", recurrent_activation)

    def forward(self, state: Any, x: Any) -> tuple[nn.LSTMState, Tensor]:
        f_a, f_s = ACTIVATIONS[self.activation], ACTIVATIONS[self.recurrent_activation]
        h, c = state
        a = linear(self.check_input(x), self.weight_ih, self.both_biases())
        i, f, g, o = ops.split(a + h @ self.weight_hh.T, 4, axis=-1)
        i, f, o = tap("i", f_s(i)), tap("f", f_s(f)), tap("o", f_s(o))
        c = tap("c", f * c + i * tap("g", f_a(g)))
        h = tap("h", o * f_a(c))
        return nn.LSTMState(h, c), h


class KerasGRUCell(nn.GRUCell):
    """A GRU with other functions than tanh (activation) and sigmoid (recurrent_activation).

        r, z = s(...), s(...)
        h_t = z * h_{t-1} + (1 - z) * a(...)       reset_after as in GRUCell

    >>> KerasGRUCell(3, 5, recurrent_activation="hard_sigmoid").reset_after
    True
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        activation: str = "tanh",
        recurrent_activation: str = "sigmoid",
        **options: Any,
    ):
        super().__init__(input_size, hidden_size, update="keep", **options)
        self.activation = activation_named("KerasGRUCell", activation)
        self.recurrent_activation = activation_named("KerasGRUCell", recurrent_activation)

    def forward(self, state: Any, x: Any) -> tuple[Tensor, Tensor]:
        f_a, f_s = ACTIVATIONS[self.activation], ACTIVATIONS[self.recurrent_activation]
        h, x = state, self.check_input(x)
        biases = (self.bias_ih, self.bias_hh) if self.reset_after else (self.both_biases(), None)
        a_r, a_z, a_n = ops.split(linear(x, self.weight_ih, biases[0]), 3, axis=-1)
        if self.reset_after:
            u_r, u_z, u_n = ops.split(linear(h, self.weight_hh, biases[1]), 3, axis=-1)
        else:
            W_rz, W_n = ops.split(self.weight_hh, [2 * self.hidden_size])
            u_r, u_z = ops.split(h @ W_rz.T, 2, axis=-1)
        r, z = tap("r", f_s(a_r + u_r)), tap("z", f_s(a_z + u_z))
        n = tap("n", f_a(a_n + (r * u_n if self.reset_after else (r * h) @ W_n.T)))
        h = tap("h", z * h + (1 - z) * n)
        return h, h


KINDS: dict[type, str] = {KerasRNNCell: "RNN", KerasLSTMCell: "LSTM", KerasGRUCell: "GRU"}


def kind_of(cell: Any) -> str | None:
    """RNN, LSTM or GRU, for the cells that Keras has; None for any other."""
    return KINDS.get(type(cell)) or gates.kind_of(cell)


for _cell in KINDS:
    pure(_cell)  # what a step of theirs does depends on their attributes alone
