"""Complex diagonal recurrences, in real arithmetic: h_t = lambda * h_{t-1} + ... for each unit.

lambda is a complex number: its angle turns the unit's state, its size says how long that lasts. A
complex vector is held as two real ones, re and im, and its weights as rows re above rows im.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import checks
from ...ops import concatenate, cos, exp, relu, sin, split, sqrt, square
from ...random import default_generator
from ...tape import tap
from ...tensors import Tensor
from ..cells import Cell
from ..layers import linear
from ..module import Parameter


class UnitaryCell(Cell):
    """A rotation of every unit, which loses nothing, and modReLU (after Arjovsky et al. 2016).

        z_t = e^(i theta) * h_{t-1} + W_ih x_t                  complex, (B, H); |e^(i theta)| = 1
        h_t = relu(|z_t| + b) * z_t / |z_t|                     modReLU: leaves the angle alone
        y_t = [re h_t, im h_t]

    Where b = 0 and x = 0, |h_t| = |h_{t-1}|, and so is the gradient's.
    M. Arjovsky, A. Shah, Y. Bengio, "Unitary evolution recurrent neural networks", 2016. Of its
    recurrent matrix, a product of diagonals, reflections and Fourier transforms, this has the first
    diagonal only: units do not mix over time. |z| is sqrt(re^2 + im^2 + eps), to have a slope at 0.
    y (B, 2H). State: {"re": (B, H), "im": (B, H)}. Parameters: weight_ih (2H, I), theta (H,)
    uniform in +-pi, bias (H,) at 0.

    >>> cell = UnitaryCell(3, 5)
    >>> state, y = cell(cell.init_state(2), np.ones((2, 3), np.float32))
    >>> state["re"].shape, y.shape
    ((2, 5), (2, 10))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        eps: float = 1e-8,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ):
        super().__init__(input_size, hidden_size, output_size=2 * hidden_size)
        self.eps = checks.at_least_0("UnitaryCell: eps", eps)
        self.weight_ih = self.parameter((2 * hidden_size, input_size), dtype, generator)
        angles = default_generator(generator).uniform(-np.pi, np.pi, hidden_size)
        self.theta = Parameter(angles, dtype)
        self.bias = Parameter(np.zeros(hidden_size), dtype)

    def forward(self, state: Any, x: Any) -> tuple[dict[str, Tensor], Tensor]:
        a_re, a_im = split(linear(self.check_input(x), self.weight_ih), 2, axis=-1)
        re, im = _times(cos(self.theta), sin(self.theta), state["re"], state["im"])
        re, im = re + a_re, im + a_im
        size = sqrt(square(re) + square(im) + self.eps)
        scale = relu(size + self.bias) / size
        re, im = tap("re", scale * re), tap("im", scale * im)
        return {"re": re, "im": im}, concatenate([re, im], axis=-1)

    def init_state(self, batch: int) -> dict[str, Tensor]:
        """Zeros, re and im (batch, H)."""
        return {name: self.zeros(batch, self.hidden_size) for name in ("re", "im")}


class LRUCell(Cell):
    """Linear recurrent unit: a complex diagonal recurrence without nonlinearity (Orvieto 2023).

        lambda = exp(-exp(nu) + i exp(theta))                   |lambda| < 1 whatever nu is
        h_t = lambda * h_{t-1} + exp(gamma) * (W_ih x_t)        complex, (B, H)
        y_t = re(C h_t) + D x_t                                 real, (B, O)

    |lambda| starts with |lambda|^2 uniform from r_min^2 to r_max^2, the angle uniform up to
    max_phase, gamma such that h keeps the size of the inputs: exp(gamma) = sqrt(1 - |lambda|^2).
    A. Orvieto et al., "Resurrecting recurrent neural networks for long sequences", 2023.
    State: (re (B, H), im (B, H)). Parameters: weight_ih (2H, I); nu, theta, gamma (H,), logarithms
    as in the paper; weight_ho (O, 2H), C as [re C, -im C]; weight_io (O, I), D.

    Raises ValueError unless 0 < r_min < r_max < 1.

    >>> cell = LRUCell(3, 5, output_size=2)
    >>> (re, im), y = cell(cell.init_state(4), np.ones((4, 3), np.float32))
    >>> re.shape, y.shape
    ((4, 5), (4, 2))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        r_min: float = 0.9,
        r_max: float = 0.999,
        max_phase: float = 2 * np.pi,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ):
        for name, value in (("r_min", r_min), ("r_max", r_max), ("max_phase", max_phase)):
            checks.number(f"LRUCell: {name}", value, 0.0, bounds="()")
        if not r_min < r_max < 1.0:
            raise ValueError(f"LRUCell: expected 0 < r_min < r_max < 1, got {r_min} and {r_max}.")
        super().__init__(input_size, hidden_size, output_size)
        self.weight_ih = self.parameter((2 * hidden_size, input_size), dtype, generator)
        draw = default_generator(generator)
        r2 = draw.uniform(r_min**2, r_max**2, hidden_size)
        phase = max_phase * (1 - draw.random(hidden_size))  # not 0, which has no logarithm
        self.nu = Parameter(np.log(-0.5 * np.log(r2)), dtype)
        self.theta = Parameter(np.log(phase), dtype)
        self.gamma = Parameter(0.5 * np.log(1 - r2), dtype)
        self.weight_ho = self.parameter((self.output_size, 2 * hidden_size), dtype, generator)
        self.weight_io = self.parameter((self.output_size, input_size), dtype, generator)

    def forward(self, state: Any, x: Any) -> tuple[tuple[Tensor, Tensor], Tensor]:
        x = self.check_input(x)
        a_re, a_im = split(linear(x, self.weight_ih), 2, axis=-1)
        size, angle, gain = exp(-exp(self.nu)), exp(self.theta), exp(self.gamma)
        re, im = _times(size * cos(angle), size * sin(angle), *state)
        re, im = tap("re", re + gain * a_re), tap("im", im + gain * a_im)
        y = linear(concatenate([re, im], axis=-1), self.weight_ho) + linear(x, self.weight_io)
        return (re, im), y

    def init_state(self, batch: int) -> tuple[Tensor, Tensor]:
        """Zeros, re and im (batch, H)."""
        return self.zeros(batch, self.hidden_size), self.zeros(batch, self.hidden_size)


def _times(a_re: Tensor, a_im: Tensor, b_re: Tensor, b_im: Tensor) -> tuple[Tensor, Tensor]:
    """The complex product a * b."""
    return a_re * b_re - a_im * b_im, a_im * b_re + a_re * b_im
