"""Optimisers: SGD, Adam, AdamW, RMSprop, Adagrad, with the arithmetic of torch.optim.

Each is a formula for one element, and the numbers in it at step t. A step is one call of a compiled
loop over the elements of all parameters, in place (fused.py): nothing is recorded, and the tape's
version check sees the edit. A parameter without a gradient is left alone, and its own step count
with it. NaN and Inf gradients are applied like any other; `clip_grad_norm_` is where to notice
them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import checks
from ..checks import at_least_0, below_1
from .base import Optimizer

Array = np.ndarray


def _decayed(weight_decay: float) -> str:
    """The line that begins most formulas: the direction d, with the weight decay in it."""
    return "d = g + weight_decay * x\n" if weight_decay else "d = g\n"


_ADAM = """\
mean = mean + fresh1 * (d - mean)
square = beta2 * square + fresh2 * (d * d)
x = x - rate * (mean / (sqrt(square) / scale + eps))"""
_LARGEST = "largest = maximum(largest, square)\n"


def _betas(what: str, value: Any) -> tuple[float, float]:
    return checks.pair(what, value, below_1)


class SGD(Optimizer):
    """x -= lr * g; with momentum m, v = m v + (1 - dampening) g and x -= lr * v.

    nesterov: x -= lr * (g + m v). weight_decay: adds weight_decay * x to g. The first v is g.

    >>> from minigrad import tensor
    >>> x = tensor([1.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> SGD([x], lr=0.25).step(); x.tolist()
    [0.5]
    """

    hyperparameters = Optimizer.hyperparameters | {
        "momentum": at_least_0, "dampening": checks.number, "weight_decay": at_least_0,
        "nesterov": checks.flag,
    }  # fmt: skip

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ):
        self.momentum, self.dampening, self.nesterov = momentum, dampening, nesterov
        self.weight_decay = weight_decay
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError("SGD: nesterov=True needs momentum > 0 and dampening=0.")
        super().__init__(params, lr)

    def slots(self, x: Array) -> dict[str, Any]:
        return {"velocity": np.zeros_like(x)} if self.momentum else {}

    def formula(self) -> str:
        lines = _decayed(self.weight_decay)
        if self.momentum:
            lines += "velocity = select(t > c(1), momentum * velocity + damped * d, d)\n"
            lines += "d = d + momentum * velocity\n" if self.nesterov else "d = velocity\n"
        return lines + "x = x - lr * d"

    def numbers(self, t: int) -> dict[str, float]:
        return {
            "t": t, "lr": self.lr, "momentum": self.momentum, "damped": 1 - self.dampening,
            "weight_decay": self.weight_decay,
        }  # fmt: skip


class Adam(Optimizer):
    """x -= lr * m' / (sqrt(v') + eps), m and v running means of g and g^2 (Kingma and Ba 2015).

    m' = m / (1 - beta1^t) and v' = v / (1 - beta2^t) undo their start at zero. weight_decay: adds
    weight_decay * x to g; AdamW shrinks x itself instead. amsgrad: v is the largest that it has
    been so far (Reddi, Kale and Kumar 2018).
    """

    hyperparameters = Optimizer.hyperparameters | {
        "betas": _betas, "eps": at_least_0, "weight_decay": at_least_0, "amsgrad": checks.flag,
    }  # fmt: skip
    added = {"amsgrad": False}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ):
        self.betas, self.eps, self.weight_decay, self.amsgrad = betas, eps, weight_decay, amsgrad
        super().__init__(params, lr)

    def slots(self, x: Array) -> dict[str, Any]:
        names = ["mean", "square"] + ["largest"] * self.amsgrad
        return {name: np.zeros_like(x) for name in names}

    def formula(self) -> str:
        return _decayed(self.weight_decay) + self._adam()

    def _adam(self) -> str:
        if not self.amsgrad:
            return _ADAM
        moments, _, move = _ADAM.rpartition("x = ")
        return f"{moments}{_LARGEST}x = {move.replace('square', 'largest')}"

    def numbers(self, t: int) -> dict[str, float]:
        beta1, beta2 = self.betas
        return {
            "rate": self.lr / (1 - beta1**t), "scale": (1 - beta2**t) ** 0.5, "eps": self.eps,
            "beta2": beta2, "fresh1": 1 - beta1, "fresh2": 1 - beta2,
            "weight_decay": self.weight_decay, "shrink": 1 - self.lr * self.weight_decay,
        }  # fmt: skip


class AdamW(Adam):
    """Adam with x *= 1 - lr * weight_decay before each step (Loshchilov and Hutter 2019)."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
    ):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)

    def formula(self) -> str:
        return ("x = shrink * x\n" if self.weight_decay else "") + "d = g\n" + self._adam()


class RMSprop(Optimizer):
    """x -= lr * g / (sqrt(v) + eps), v = alpha v + (1 - alpha) g^2 (Hinton's lecture 6e, 2012).

    centered: v less the squared running mean of g, an estimate of the variance (Graves 2013).
    momentum m: u = m u + g / (sqrt(v) + eps) and x -= lr * u.
    weight_decay: adds weight_decay * x to g.
    """

    hyperparameters = Optimizer.hyperparameters | {
        "alpha": below_1, "eps": at_least_0, "weight_decay": at_least_0,
        "momentum": at_least_0, "centered": checks.flag,
    }  # fmt: skip

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ):
        self.alpha, self.eps, self.weight_decay = alpha, eps, weight_decay
        self.momentum, self.centered = momentum, centered
        super().__init__(params, lr)

    def slots(self, x: Array) -> dict[str, Any]:
        names = ["square"] + ["mean"] * self.centered + ["velocity"] * bool(self.momentum)
        return {name: np.zeros_like(x) for name in names}

    def formula(self) -> str:
        lines = _decayed(self.weight_decay) + "square = alpha * square + fresh * (d * d)\n"
        variance = "square"
        if self.centered:
            lines += "mean = mean + fresh * (d - mean)\n"
            variance = "maximum(square - mean * mean, c(0))"  # rounding may push it below 0
        lines += f"d = d / (sqrt({variance}) + eps)\n"
        if self.momentum:
            lines += "velocity = momentum * velocity + d\nd = velocity\n"
        return lines + "x = x - lr * d"

    def numbers(self, t: int) -> dict[str, float]:
        return {
            "lr": self.lr, "alpha": self.alpha, "fresh": 1 - self.alpha, "eps": self.eps,
            "momentum": self.momentum, "weight_decay": self.weight_decay,
        }  # fmt: skip


class Adagrad(Optimizer):
    """x -= lr_t * g / (sqrt(s) + eps), s the sum of all g^2 so far (Duchi, Hazan, Singer 2011).

    lr_t = lr / (1 + (t - 1) lr_decay). weight_decay: adds weight_decay * x to g.
    """

    hyperparameters = Optimizer.hyperparameters | {
        "lr_decay": at_least_0, "weight_decay": at_least_0,
        "initial_accumulator_value": at_least_0, "eps": at_least_0,
    }  # fmt: skip

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ):
        self.lr_decay, self.weight_decay, self.eps = lr_decay, weight_decay, eps
        self.initial_accumulator_value = initial_accumulator_value
        super().__init__(params, lr)

    def slots(self, x: Array) -> dict[str, Any]:
        return {"sum": np.full_like(x, self.initial_accumulator_value)}

    def formula(self) -> str:
        lines = _decayed(self.weight_decay) + "sum = sum + d * d\n"
        return lines + "x = x - rate * (d / (sqrt(sum) + eps))"

    def numbers(self, t: int) -> dict[str, float]:
        rate = self.lr / (1 + (t - 1) * self.lr_decay)
        return {"rate": rate, "eps": self.eps, "weight_decay": self.weight_decay}
