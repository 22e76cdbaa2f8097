"""Cells that are one step of a differential equation, so that its stability is theirs.

A step of size dt changes the state by a multiple of dt. How much T steps do to a gradient then
depends on the time T dt that passes, not on how many steps it was cut into.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ... import checks
from ...errors import ShapeError
from ...ops import sigmoid, split, tanh
from ...tape import tap
from ...tensors import Tensor
from .. import init
from ..cells import Cell
from ..layers import linear
from ..module import Parameter


class CoRNNCell(Cell):
    """Coupled oscillators, driven and damped (Rusch and Mishra 2021, equation 3).

        z_n = z_{n-1} + dt (tanh(W y_{n-1} + V z_{n-1} + W_ih x_n + b) - gamma y_{n-1} - epsilon z)
        y_n = y_{n-1} + dt z_n

    y is where each oscillator is and z how fast it moves. The damping sees z = z_n where it is
    `implicit` and z = z_{n-1} where it is not: the theory is about the first, the authors' program
    does the second. Where it is implicit, gamma = epsilon = 1 and dt <= 1,
        |y_n|^2 + |z_n|^2 <= H n dt                             from a state of 0
    whatever the weights are. One step makes a gradient larger by at most 1 + dt (1 + |W| + |V| +
    gamma) (norms of rows, dt <= 1), so that growth depends on the time n dt, not on n; from that
    the paper bounds dE/dtheta, where dt is small beside the weights. gamma, epsilon and
    dt are to be tuned: the authors' are 0.2 to 66, 4.7 to 15 and 0.04 to 0.1.
    T. K. Rusch, S. Mishra, "Coupled oscillatory recurrent neural network (coRNN)", ICLR 2021.
    The output is y_n. State: (y (B, H), z (B, H)). Parameters: weight_ih (H, I); weight_hh (H, H),
    W; weight_zh (H, H), V; bias_ih (H,); all uniform in +-1/sqrt(I + 2H).

    >>> cell = CoRNNCell(3, 5)
    >>> (y, z), output = cell(cell.init_state(2), np.ones((2, 3), np.float32))
    >>> z.shape, output is y
    ((2, 5), True)
    """

    gates = ("z",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        dt: float = 0.05,
        gamma: float = 1.0,
        epsilon: float = 1.0,
        implicit: bool = True,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ):
        super().__init__(input_size, hidden_size)
        self.dt = checks.number("CoRNNCell: dt", dt, 0.0, bounds="()")
        self.gamma = checks.at_least_0("CoRNNCell: gamma", gamma)
        self.epsilon = checks.at_least_0("CoRNNCell: epsilon", epsilon)
        self.implicit = checks.flag("CoRNNCell: implicit", implicit)
        self.weight_ih = self.parameter((hidden_size, input_size), dtype, generator)
        self.weight_hh = self.parameter((hidden_size, hidden_size), dtype, generator)
        self.weight_zh = self.parameter((hidden_size, hidden_size), dtype, generator)
        self.bias_ih = self.parameter((hidden_size,), dtype, generator) if bias else None
        for p in self.parameters():
            init.uniform_(p, 1.0 / math.sqrt(input_size + 2 * hidden_size), generator)

    def forward(self, state: Any, x: Any) -> tuple[tuple[Tensor, Tensor], Tensor]:
        y, z = state
        a = linear(self.check_input(x), self.weight_ih, self.bias_ih)
        force = tanh(a + y @ self.weight_hh.T + z @ self.weight_zh.T) - self.gamma * y
        damping = self.dt * self.epsilon
        if self.implicit:
            z = (z + self.dt * force) / (1 + damping)
        else:
            z = (1 - damping) * z + self.dt * force
        z = tap("z", z)
        y = tap("y", y + self.dt * z)
        return (y, z), y

    def init_state(self, batch: int) -> tuple[Tensor, Tensor]:
        """Zeros, y and z (batch, H)."""
        return self.zeros(batch, self.hidden_size), self.zeros(batch, self.hidden_size)


class LEMCell(Cell):
    """Long expressive memory: each unit learns its own time steps (Rusch et al. 2022, equation 3).

        r_n = dt sigmoid(W_1 y_{n-1} + V_1 x_n + b_1)                       time step of z
        s_n = dt sigmoid(W_2 y_{n-1} + V_2 x_n + b_2)                       time step of y
        z_n = (1 - r_n) * z_{n-1} + r_n * tanh(W_z y_{n-1} + V_z x_n + b_z)
        y_n = (1 - s_n) * y_{n-1} + s_n * tanh(W_y z_n + V_y x_n + b_y)

    For dt <= 1 both are averages of tanh's: |y_n|, |z_n| <= min(1, n dt) from a state of 0.
    With M the largest of the norms |W_1|, |W_2|, |W_z|, |W_y| (rows summed),
    one step makes a gradient larger by at most 1 + 3/2 dt M (1 + M), so n steps by
    exp(3/2 M (1 + M) n dt). Both bounds are derived here, in the paper's manner, and tested.
    T. K. Rusch, S. Mishra, N. B. Erichson, M. W. Mahoney, "Long expressive memory for sequence
    modeling", ICLR 2022.
    The output is y_n. State: (y (B, H), z (B, H)). Parameters: weight_ih (4H, I), weight_hh (4H, H)
    and bias_ih (4H,), rows r s z y, those of y for z_n; all uniform in +-1/sqrt(H).

    >>> cell = LEMCell(3, 5)
    >>> (y, z), output = cell(cell.init_state(2), np.ones((2, 3), np.float32))
    >>> z.shape, output is y
    ((2, 5), True)
    """

    gates = ("r", "s", "z", "y")
    keeps = {"r": -1, "s": -1}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        dt: float = 1.0,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ):
        super().__init__(input_size, hidden_size)
        self.dt = checks.number("LEMCell: dt", dt, 0.0, bounds="()")
        self.weight_ih = self.parameter((4 * hidden_size, input_size), dtype, generator)
        self.weight_hh = self.parameter((4 * hidden_size, hidden_size), dtype, generator)
        self.bias_ih = self.parameter((4 * hidden_size,), dtype, generator) if bias else None

    def forward(self, state: Any, x: Any) -> tuple[tuple[Tensor, Tensor], Tensor]:
        y, z = state
        a = linear(self.check_input(x), self.weight_ih, self.bias_ih)
        a_r, a_s, a_z, a_y = split(a, 4, axis=-1)
        W_rsz, W_y = split(self.weight_hh, [3 * self.hidden_size])
        u_r, u_s, u_z = split(y @ W_rsz.T, 3, axis=-1)
        r = self.dt * tap("r", sigmoid(a_r + u_r))
        s = self.dt * tap("s", sigmoid(a_s + u_s))
        z = tap("z", (1 - r) * z + r * tanh(a_z + u_z))
        y = tap("y", (1 - s) * y + s * tanh(a_y + z @ W_y.T))
        return (y, z), y

    def init_state(self, batch: int) -> tuple[Tensor, Tensor]:
        """Zeros, y and z (batch, H)."""
        return self.zeros(batch, self.hidden_size), self.zeros(batch, self.hidden_size)


class AntisymmetricRNNCell(Cell):
    """A step along a field that neither draws together nor apart (Chang et al. 2019).

        A = W - W^T - gamma I
        h_t = h_{t-1} + epsilon       tanh(A h_{t-1} + W_ih x_t + b)
        h_t = h_{t-1} + epsilon z_t * tanh(A h_{t-1} + W_ih x_t + b)    gated, with
        z_t = sigmoid(A h_{t-1} + W_iz x_t + b_z)

    With gamma = 0 the Jacobian of the field, diag(tanh') A, has imaginary eigenvalues alone, as A
    is antisymmetric: distances along the flow neither shrink nor grow steadily. Euler's step turns
    an eigenvalue i w into 1 + epsilon i w, which is larger than 1; gamma > 0, the diffusion, puts
    all real parts between -gamma and 0 to make up for it. Gated, the Jacobian is diag(d) A still,
    but d may have either sign, and eigenvalues then need not be imaginary.
    B. Chang, M. Chen, E. Haber, E. H. Chi, "AntisymmetricRNN: a dynamical system view on recurrent
    neural networks", ICLR 2019.
    y_t = h_t. State: h (B, H). Parameters: weight_hh (H, H), W, normal with standard deviation
    sigma_w / sqrt(H); weight_ih (H, I) normal, 1 / sqrt(I); bias_ih (H,) at 0; of the gate
    weight_iz and bias_iz alike.

    >>> cell = AntisymmetricRNNCell(3, 5)
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
        gated: bool = False,
        epsilon: float = 0.01,
        gamma: float = 0.01,
        sigma_w: float = 1.0,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ):
        super().__init__(input_size, hidden_size)
        self.gated = checks.flag("AntisymmetricRNNCell: gated", gated)
        self.epsilon = checks.number("AntisymmetricRNNCell: epsilon", epsilon, 0.0, bounds="()")
        self.gamma = checks.at_least_0("AntisymmetricRNNCell: gamma", gamma)
        sigma_w = checks.at_least_0("AntisymmetricRNNCell: sigma_w", sigma_w)

        def normal(columns: int, size: float) -> Parameter:
            weight = Parameter(np.zeros((hidden_size, columns)), dtype)
            init.normal_(weight, size / math.sqrt(columns), generator)
            return weight

        def zeros() -> Parameter | None:
            return Parameter(np.zeros(hidden_size), dtype) if bias else None

        self.weight_hh = normal(hidden_size, sigma_w)
        self.weight_ih, self.bias_ih = normal(input_size, 1.0), zeros()
        if gated:
            self.weight_iz, self.bias_iz = normal(input_size, 1.0), zeros()

    def forward(self, state: Any, x: Any) -> tuple[Tensor, Tensor]:
        h, x = state, self.check_input(x)
        drift = h @ (self.weight_hh.T - self.weight_hh) - self.gamma * h
        change = self.epsilon * tanh(drift + linear(x, self.weight_ih, self.bias_ih))
        if self.gated:
            change = tap("z", sigmoid(drift + linear(x, self.weight_iz, self.bias_iz))) * change
        h = tap("h", h + change)
        return h, h


class CfCCell(Cell):
    """Closed-form continuous-time network: the state at any time t later (Hasani et al. 2022).

        b_t = 1.7159 tanh(0.666 (W_ih x_t + W_hh h_{t-1} + b))          the backbone
        f_t, g_t, k_t = W_f b_t + b_f, tanh(W_g b_t + b_g), tanh(W_k b_t + b_k)
        h_t = sigmoid(-f_t t) * g_t + (1 - sigmoid(-f_t t)) * k_t

    from the solution of a liquid time-constant network in closed form, whose exponential was
    exchanged for a sigmoid; k is the paper's h. t is the time since the step before: 1, or with
    `timed` the last feature of x. What the paper proves is how near the closed form
    with its exponential is to the solution. It proves no bound on a gradient, and as h_{t-1} goes
    through the backbone and nothing else, there is none that does not depend on the weights; that
    |h_t| <= 1 is plain, as it is an average of tanh's.
    R. Hasani et al., "Closed-form continuous-time neural networks", Nature Machine Intelligence 4,
    2022. Of the authors' programs this is the one with one layer as the backbone; they add a bias
    to f t, which is b_f where t is always 1.
    backbone_size: features of b_t, U; hidden_size if left out.
    y_t = h_t. State: h (B, H). Parameters: weight_ih (U, I; with `timed` I - 1), weight_hh (U, H)
    and weight_bh (3H, U), rows f g k, uniform as Glorot and Bengio have it; bias_ih (U,) and
    bias_bh (3H,), uniform in +-1/sqrt(I + H) and +-1/sqrt(U).

    Raises ShapeError where `timed` leaves no feature besides t.

    >>> cell = CfCCell(3, 5)
    >>> h, y = cell(cell.init_state(2), np.ones((2, 3), np.float32))
    >>> h.shape
    (2, 5)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        backbone_size: int | None = None,
        timed: bool = False,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ):
        super().__init__(input_size, hidden_size)
        size = hidden_size if backbone_size is None else backbone_size
        checks.size("CfCCell: backbone_size", size)
        self.timed = checks.flag("CfCCell: timed", timed)
        features = input_size - self.timed
        if not features:
            raise ShapeError(
                "CfCCell: with timed=True the last feature of x is the time since the step before, "
                f"so input_size must be >= 2, got {input_size}."
            )
        read = features + hidden_size
        self.weight_ih = self.parameter((size, features), dtype, generator)
        self.weight_hh = self.parameter((size, hidden_size), dtype, generator)
        self.weight_bh = self.parameter((3 * hidden_size, size), dtype, generator)
        for weight in (self.weight_ih, self.weight_hh):  # the two are one matrix, and have its size
            init.uniform_(weight, math.sqrt(6.0 / (read + size)), generator)
        init.xavier_uniform_(self.weight_bh, gates=3, generator=generator)
        self.bias_ih = self.bias_bh = None
        if bias:
            self.bias_ih = self.parameter((size,), dtype, generator)
            self.bias_bh = self.parameter((3 * hidden_size,), dtype, generator)
            init.uniform_(self.bias_ih, 1.0 / math.sqrt(read), generator)
            init.uniform_(self.bias_bh, 1.0 / math.sqrt(size), generator)

    def forward(self, state: Any, x: Any) -> tuple[Tensor, Tensor]:
        x, t = self.check_input(x), 1.0
        if self.timed:
            x, t = split(x, [self.input_size - 1], axis=-1)
        a = linear(x, self.weight_ih, self.bias_ih) + state @ self.weight_hh.T
        b = 1.7159 * tanh(0.666 * a)
        f, g, k = split(linear(b, self.weight_bh, self.bias_bh), 3, axis=-1)
        f, g, k = tap("f", sigmoid(-f * t)), tap("g", tanh(g)), tap("k", tanh(k))
        h = tap("h", f * g + (1 - f) * k)
        return h, h
