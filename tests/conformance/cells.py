"""The RNN, LSTM and GRU of the ONNX operator specification, as cells of one's own.

They have what the built-in cells lack (peepholes, clip, coupled gates, any activation) and take the
weights in ONNX's layout and gate order as they are.
https://onnx.ai/onnx/operators/onnx__LSTM.html, onnx__GRU.html, onnx__RNN.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn

Activation = Callable[[Any], Any]

# name -> f(x, alpha, beta), alpha if none is given, beta if none is given; None: it takes none.
ACTIVATIONS: dict[str, tuple[Callable[..., Any], float | None, float | None]] = {
    "relu": (lambda x, a, b: mg.relu(x), None, None),
    "tanh": (lambda x, a, b: mg.tanh(x), None, None),
    "sigmoid": (lambda x, a, b: mg.sigmoid(x), None, None),
    "softsign": (lambda x, a, b: x / (1 + mg.abs(x)), None, None),
    "softplus": (lambda x, a, b: mg.softplus(x), None, None),
    "affine": (lambda x, a, b: a * x + b, 1.0, 0.0),
    "scaledtanh": (lambda x, a, b: a * mg.tanh(b * x), 1.0, 1.0),
    "hardsigmoid": (lambda x, a, b: mg.clip(a * x + b, 0.0, 1.0), 0.2, 0.5),
    "leakyrelu": (lambda x, a, b: mg.where(x > 0, x, a * x), 0.01, None),
    "elu": (lambda x, a, b: mg.where(x > 0, x, a * mg.expm1(x)), 1.0, None),
    "thresholdedrelu": (lambda x, a, b: mg.where(x > a, x, 0.0), 1.0, None),
}


def activations(
    names: Sequence[str], alphas: Sequence[float] = (), betas: Sequence[float] = ()
) -> list[Activation]:
    """The functions; alphas and betas go, in order, to those that take one."""
    alphas, betas, chosen = list(alphas), list(betas), []
    for name in names:
        f, alpha, beta = ACTIVATIONS[name.lower()]
        if alpha is not None and alphas:
            alpha = alphas.pop(0)
        if beta is not None and betas:
            beta = betas.pop(0)
        chosen.append(lambda x, f=f, alpha=alpha, beta=beta: f(x, alpha, beta))
    return chosen


class OnnxCell(nn.Module):
    """W (gates*H, I), R (gates*H, H), Wb and Rb (gates*H,): one direction of the ONNX inputs."""

    def __init__(
        self, W: Any, R: Any, B: Any, functions: Sequence[Activation], clip: float | None = None
    ):
        self.W, self.R = nn.Parameter(W), nn.Parameter(R)
        self.Wb, self.Rb = (nn.Parameter(b) for b in np.split(B, 2))
        self.functions, self.clip = functions, clip
        self.output_size = self.hidden_size = R.shape[-1]

    def limit(self, x: Any) -> Any:
        return x if self.clip is None else mg.clip(x, -self.clip, self.clip)

    def init_state(self, batch: int) -> Any:
        return mg.tensor(np.zeros((batch, self.hidden_size), self.W.dtype))


class OnnxRNN(OnnxCell):
    def forward(self, h: Any, x: Any) -> tuple[Any, Any]:
        (f,) = self.functions
        h = f(self.limit(x @ self.W.T + h @ self.R.T + self.Wb + self.Rb))
        return h, h


class OnnxLSTM(OnnxCell):
    """P (3*H,): the peepholes of i, o and f. input_forget couples the gates: f = 1 - i."""

    P: Any = None
    input_forget = False

    def forward(self, state: Any, x: Any) -> tuple[Any, Any]:
        f, g, k = self.functions
        h, c = state
        a_i, a_o, a_f, a_c = mg.split(x @ self.W.T + h @ self.R.T + self.Wb + self.Rb, 4, axis=-1)
        if self.P is not None:
            p_i, p_o, p_f = mg.split(self.P, 3)
            a_i, a_f = a_i + p_i * c, a_f + p_f * c
        i = f(self.limit(a_i))
        forget = 1 - i if self.input_forget else f(self.limit(a_f))
        c = forget * c + i * g(self.limit(a_c))
        if self.P is not None:
            a_o = a_o + p_o * c
        h = f(self.limit(a_o)) * k(c)
        return nn.LSTMState(h, c), h

    def init_state(self, batch: int) -> Any:
        return nn.LSTMState(super().init_state(batch), super().init_state(batch))


class OnnxGRU(OnnxCell):
    linear_before_reset = False

    def forward(self, h: Any, x: Any) -> tuple[Any, Any]:
        f, g = self.functions
        H = self.hidden_size
        a_z, a_r, a_n = mg.split(x @ self.W.T + self.Wb, 3, axis=-1)
        b_n = self.Rb[2 * H :]
        u_z, u_r = mg.split(h @ self.R[: 2 * H].T + self.Rb[: 2 * H], 2, axis=-1)
        z, r = f(self.limit(a_z + u_z)), f(self.limit(a_r + u_r))
        R_n = self.R[2 * H :].T
        memory = r * (h @ R_n + b_n) if self.linear_before_reset else (r * h) @ R_n + b_n
        n = g(self.limit(a_n + memory))
        h = (1 - z) * n + z * h
        return h, h
