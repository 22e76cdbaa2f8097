"""Optimisers: SGD, Adam, AdamW, RMSprop, Adagrad, with the arithmetic of torch.optim.

Updates are plain NumPy, in place on the parameters' arrays: nothing is recorded, and the tape's
version check sees the edit. A parameter without a gradient is left alone, and its own step count
with it. NaN and Inf gradients are applied like any other; `clip_grad_norm_` is where to notice
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .. import versions
from ..errors import GradientError, StateDictError, describe
from ..tensor import Tensor

Array = np.ndarray


class Optimizer:
    """Moves parameters against their gradients.

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    params: Tensors that require a gradient, usually module.parameters(). lr: the learning rate, an
    attribute that schedules set.
    Raises GradientError for anything else, ValueError for hyperparameters out of range.
    """

    def __init__(self, params: Iterable[Tensor], lr: float):
        self.params = list(params)
        self.lr = _at_least_0("lr", lr)
        if not self.params:
            raise GradientError(
                "optimizer: no parameters; pass module.parameters() or a list of Tensors."
            )
        for i, p in enumerate(self.params):
            if not isinstance(p, Tensor) or not p.requires_grad or not p.is_leaf:
                raise GradientError(
                    f"optimizer: parameter {i} is {describe(p)}; expected a Tensor made with "
                    f"requires_grad=True (not computed from others)."
                )
        if len({id(p) for p in self.params}) < len(self.params):
            raise GradientError(
                "optimizer: a parameter is listed twice; it would move twice a step."
            )
        self.state = [{"step": 0} | self.slots(p._data) for p in self.params]

    def slots(self, x: Array) -> dict[str, Any]:
        """What is remembered for a parameter from step to step."""
        return {}

    def update(self, x: Array, g: Array, state: dict[str, Any]) -> None:
        """Moves the array x in place, given its gradient."""
        raise TypeError(f"{type(self).__name__} defines no update().")

    def step(self) -> None:
        """One update of every parameter that has a gradient."""
        for p, state in zip(self.params, self.state, strict=True):
            if p.grad is not None:
                state["step"] += 1
                self.update(versions.writable(p), p.grad._data, state)

    def zero_grad(self) -> None:
        for p in self.params:
            p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on later, flat: {"lr": ..., "0.step": ..., "0.mean": array, ...}."""
        flat: dict[str, Any] = {"lr": self.lr}
        for i, state in enumerate(self.state):
            flat |= {f"{i}.{k}": v.copy() if isinstance(v, Array) else v for k, v in state.items()}
        return flat

    def load_state_dict(self, flat: Mapping[str, Any]) -> None:
        """Restores what state_dict() gave; raises StateDictError, and changes nothing, if unfit."""
        expected = self.state_dict()
        wrong = [f"missing {k!r}" for k in expected if k not in flat]
        wrong += [f"unexpected {k!r}" for k in flat if k not in expected]
        wrong += [
            f"{k!r} is {list(np.shape(flat[k]))}, expected {list(np.shape(v))}"
            for k, v in expected.items()
            if k in flat and np.shape(flat[k]) != np.shape(v)
        ]
        if wrong:
            raise StateDictError(f"{type(self).__name__}.load_state_dict: {'; '.join(wrong)}.")
        self.lr = float(flat["lr"])
        for i, state in enumerate(self.state):
            for k, v in state.items():
                new = flat[f"{i}.{k}"]
                state[k] = np.array(new, v.dtype) if isinstance(v, Array) else int(new)


class SGD(Optimizer):
    """x -= lr * g; with momentum m, v = m v + (1 - dampening) g and x -= lr * v.

    nesterov: x -= lr * (g + m v). weight_decay: adds weight_decay * x to g. The first v is g.

    >>> x = Tensor([1.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> SGD([x], lr=0.25).step(); x.tolist()
    [0.5]
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ):
        self.momentum = _at_least_0("momentum", momentum)
        self.dampening, self.nesterov = dampening, nesterov
        self.weight_decay = _at_least_0("weight_decay", weight_decay)
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError("SGD: nesterov=True needs momentum > 0 and dampening=0.")
        super().__init__(params, lr)

    def slots(self, x: Array) -> dict[str, Any]:
        return {"velocity": np.zeros_like(x)} if self.momentum else {}

    def update(self, x: Array, g: Array, state: dict[str, Any]) -> None:
        if self.weight_decay:
            g = g + self.weight_decay * x
        if self.momentum:
            v = state["velocity"]
            if state["step"] == 1:
                v[...] = g
            else:
                v *= self.momentum
                v += (1 - self.dampening) * g
            g = g + self.momentum * v if self.nesterov else v
        x -= self.lr * g


class Adam(Optimizer):
    """x -= lr * m' / (sqrt(v') + eps), m and v running means of g and g^2 (Kingma and Ba 2015).

    m' = m / (1 - beta1^t) and v' = v / (1 - beta2^t) undo their start at zero. weight_decay: adds
    weight_decay * x to g; AdamW shrinks x itself instead.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        self.betas = (_below_1("betas[0]", betas[0]), _below_1("betas[1]", betas[1]))
        self.eps = _at_least_0("eps", eps)
        self.weight_decay = _at_least_0("weight_decay", weight_decay)
        super().__init__(params, lr)

    def slots(self, x: Array) -> dict[str, Any]:
        return {"mean": np.zeros_like(x), "square": np.zeros_like(x)}

    def update(self, x: Array, g: Array, state: dict[str, Any]) -> None:
        if self.weight_decay:
            g = self.decay(x, g)
        t, m, v = state["step"], state["mean"], state["square"]
        beta1, beta2 = self.betas
        m += (1 - beta1) * (g - m)
        v *= beta2
        v += (1 - beta2) * (g * g)
        scale = np.sqrt(v)
        scale /= (1 - beta2**t) ** 0.5
        scale += self.eps
        x -= self.lr / (1 - beta1**t) * (m / scale)

    def decay(self, x: Array, g: Array) -> Array:
        """The gradient with the weight decay in it."""
        return g + self.weight_decay * x


class AdamW(Adam):
    """Adam with x *= 1 - lr * weight_decay before each step (Loshchilov and Hutter 2019)."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ):
        super().__init__(params, lr, betas, eps, weight_decay)

    def decay(self, x: Array, g: Array) -> Array:
        x *= 1 - self.lr * self.weight_decay
        return g


class RMSprop(Optimizer):
    """x -= lr * g / (sqrt(v) + eps), v = alpha v + (1 - alpha) g^2 (Hinton's lecture 6e, 2012).

    centered: v less the squared running mean of g, an estimate of the variance (Graves 2013).
    momentum m: u = m u + g / (sqrt(v) + eps) and x -= lr * u.
    weight_decay: adds weight_decay * x to g.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ):
        self.alpha, self.eps = _below_1("alpha", alpha), _at_least_0("eps", eps)
        self.weight_decay = _at_least_0("weight_decay", weight_decay)
        self.momentum, self.centered = _at_least_0("momentum", momentum), centered
        super().__init__(params, lr)

    def slots(self, x: Array) -> dict[str, Any]:
        names = ["square"] + ["mean"] * self.centered + ["velocity"] * bool(self.momentum)
        return {name: np.zeros_like(x) for name in names}

    def update(self, x: Array, g: Array, state: dict[str, Any]) -> None:
        if self.weight_decay:
            g = g + self.weight_decay * x
        v = state["square"]
        v *= self.alpha
        v += (1 - self.alpha) * (g * g)
        if self.centered:
            m = state["mean"]
            m += (1 - self.alpha) * (g - m)
            v = np.maximum(v - m * m, 0.0)  # rounding may push a zero variance below 0
        g = g / (np.sqrt(v) + self.eps)
        if self.momentum:
            u = state["velocity"]
            u *= self.momentum
            u += g
            g = u
        x -= self.lr * g


class Adagrad(Optimizer):
    """x -= lr_t * g / (sqrt(s) + eps), s the sum of all g^2 so far (Duchi, Hazan, Singer 2011).

    lr_t = lr / (1 + (t - 1) lr_decay). weight_decay: adds weight_decay * x to g.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ):
        self.lr_decay = _at_least_0("lr_decay", lr_decay)
        self.weight_decay = _at_least_0("weight_decay", weight_decay)
        self.initial = _at_least_0("initial_accumulator_value", initial_accumulator_value)
        self.eps = _at_least_0("eps", eps)
        super().__init__(params, lr)

    def slots(self, x: Array) -> dict[str, Any]:
        return {"sum": np.full_like(x, self.initial)}

    def update(self, x: Array, g: Array, state: dict[str, Any]) -> None:
        if self.weight_decay:
            g = g + self.weight_decay * x
        s = state["sum"]
        s += g * g
        rate = self.lr / (1 + (state["step"] - 1) * self.lr_decay)
        x -= rate * (g / (np.sqrt(s) + self.eps))


def _at_least_0(name: str, value: float) -> float:
    if not 0 <= value < float("inf"):
        raise ValueError(f"optimizer: {name} must be >= 0 and finite, got {value}.")
    return value


def _below_1(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise ValueError(f"optimizer: {name} must be from 0 up to (not including) 1, got {value}.")
    return value
