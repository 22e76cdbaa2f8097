"""Optimisers: SGD, Adam, AdamW, RMSprop, Adagrad, with the arithmetic of torch.optim.

Each is a formula for one element, and the numbers in it at step t. A step is one call of a compiled
loop over the elements of all parameters, in place (fused.py): nothing is recorded, and the tape's
version check sees the edit. A parameter without a gradient is left alone, and its own step count
with it. NaN and Inf gradients are applied like any other; `clip_grad_norm_` is where to notice
them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from .. import checks, versions
from ..checks import at_least_0, below_1
from ..errors import GradientError, StateDictError, describe
from ..tape import state as switches
from ..tensors import Tensor
from .fused import FusedStep, move

Array = np.ndarray


class Optimizer:
    """Moves parameters against their gradients.

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    params: Tensors that require a gradient, usually module.parameters(). lr: the learning rate, an
    attribute that schedules set; base_lr: what it was before a schedule changed it.
    One of your own defines `update`, or `formula` and `numbers`; and `slots`, if it has a memory.
    Raises GradientError for anything else, ValueError for hyperparameters out of range and
    TypeError for those that are no numbers, also when they are set later.
    """

    hyperparameters: ClassVar[dict[str, Callable[[str, Any], Any]]] = {"lr": at_least_0}
    scheduled = False  # is a schedule setting lr just now?

    def __init__(self, params: Iterable[Tensor], lr: float):
        self.params = _listed(params)
        self.lr = lr
        if not self.params:
            raise GradientError(
                "optimizer: no parameters; pass module.parameters() or a list of Tensors."
            )
        for i, p in enumerate(self.params):
            if isinstance(p, dict):
                raise GradientError(
                    f"optimizer: parameter {i} is a dict; there are no groups of parameters here, "
                    f"make an optimizer for each, with its own options."
                )
            if not isinstance(p, Tensor) or not p.requires_grad or not p.is_leaf:
                raise GradientError(
                    f"optimizer: parameter {i} is {describe(p)}; expected a Tensor made with "
                    f"requires_grad=True (not computed from others)."
                )
        if len({id(p) for p in self.params}) < len(self.params):
            raise GradientError(
                "optimizer: a parameter is listed twice; it would move twice a step."
            )
        self.state = self._new_state()

    def __setattr__(self, name: str, value: Any) -> None:
        if switches.jit is not None and name in self.hyperparameters:
            value = switches.jit.assigned(self, name, value)
        check = self.hyperparameters.get(name)
        if check is not None:
            value = check(f"{type(self).__name__}: {name}", value)
        super().__setattr__(name, value)
        if name == "lr" and not self.scheduled:
            self.base_lr = value

    def schedule_lr(self, rate: float) -> None:
        """Sets lr for the time being; base_lr stays what it was."""
        self.scheduled = True
        try:
            self.lr = rate
        finally:
            self.scheduled = False

    def _new_state(self) -> list[dict[str, Any]]:
        return [{"step": 0} | self.slots(p._data) for p in self.params]

    def slots(self, x: Array) -> dict[str, Any]:
        """What is remembered for a parameter from step to step."""
        return {}

    def formula(self) -> str:
        """The update of one element: lines `name = expression` over x, g, the slots and numbers.

        + - * / comparisons, c(0.5) for literals, sqrt, maximum, minimum, select(condition, a, b).
        """
        raise TypeError(f"{type(self).__name__} defines no update().")

    def numbers(self, t: int) -> dict[str, float]:
        """The numbers in the formula at a parameter's step t = 1, 2, ..."""
        raise TypeError(f"{type(self).__name__} defines no numbers().")

    def update(self, x: Array, g: Array, state: dict[str, Any]) -> None:
        """Moves the array x in place, given its gradient; state has its slots and "step"."""
        move(self, x, g, state)

    def step(self) -> None:
        """One update of every parameter that has a gradient."""
        if switches.jit is not None:
            switches.jit.calls(f"{type(self).__name__}.step", self.step, self.params)
            return
        if self._has_formula():
            # taken while it is used: another thread makes one of its own
            fused = vars(self).pop("_fused", None) or FusedStep(self)
            fused.step()
            vars(self)["_fused"] = fused
        else:
            self._one_by_one()

    def _has_formula(self) -> bool:
        """Whether update() is that of the formula, and nobody's own."""
        return getattr(self.update, "__func__", None) is Optimizer.update

    def _one_by_one(self) -> None:
        """A step by an `update` of somebody's own."""
        for p, state in zip(self.params, self.state, strict=True):
            if p.grad is not None:
                for k, v in state.items():
                    if isinstance(v, Array) and v.dtype != p.dtype:  # Module.to came in between
                        state[k] = v.astype(p.dtype)
                state["step"] += 1
                self.update(versions.writable(p), p.grad._data, state)

    def zero_grad(self) -> None:
        for p in self.params:
            if switches.jit is not None:
                switches.jit.sets_gradient(p)
            p._grad = None

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k != "_fused"}  # of this process's memory

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on later, flat: {"lr": ..., "0.step": ..., "0.mean": array, ...}.

        All hyperparameters are in it, and base_lr, which a schedule made later starts from.
        """
        flat: dict[str, Any] = {name: getattr(self, name) for name in self.hyperparameters}
        flat["base_lr"] = self.base_lr
        for i, (p, state) in enumerate(zip(self.params, self.state, strict=True)):
            flat |= {  # in the parameter's dtype, which Module.to may have changed
                f"{i}.{k}": v.astype(p.dtype) if isinstance(v, Array) else v
                for k, v in state.items()
            }
        return flat

    def load_state_dict(self, flat: Mapping[str, Any]) -> None:
        """Restores what state_dict() gave, hyperparameters too.

        Raises StateDictError, and changes nothing, if it does not fit.
        """
        who = f"{type(self).__name__}.load_state_dict"
        new = copy.copy(self)
        try:
            for name in (*self.hyperparameters, "base_lr"):
                if name in flat:
                    setattr(new, name, _plain(flat[name]))
            new.base_lr = at_least_0("base_lr", new.base_lr)
        except (TypeError, ValueError) as error:
            raise StateDictError(f"{who}: {error}") from None
        new.state = new._new_state()
        expected = new.state_dict()
        wrong = [f"missing {k!r}" for k in expected if k not in flat]
        wrong += [f"unexpected {k!r}" for k in flat if k not in expected]
        for k, v in expected.items():
            given = np.asarray(flat.get(k, v))
            if given.shape != np.shape(v):
                wrong.append(f"{k!r} is {list(given.shape)}, expected {list(np.shape(v))}")
            elif given.dtype.kind not in "biuf":
                wrong.append(f"{k!r} is {given.dtype}, expected numbers")
        if wrong:
            raise StateDictError(f"{who}: {'; '.join(wrong)}.")
        for i, state in enumerate(new.state):
            for k, v in state.items():
                given = flat[f"{i}.{k}"]
                state[k] = np.array(given, v.dtype) if isinstance(v, Array) else int(given)
        vars(self).update(vars(new))


def _listed(params: Iterable[Tensor]) -> list[Tensor]:
    """The parameters as a list, or a GradientError that says what to pass."""
    given = "a Tensor" if isinstance(params, Tensor) else type(params).__name__
    if isinstance(params, (Tensor, Mapping, str)) or not isinstance(params, Iterable):
        raise GradientError(
            f"optimizer: expected module.parameters() or a list of Tensors, got {given}; "
            f"pass a single Tensor as [tensor]."
        )
    return list(params)


def _plain(value: Any) -> Any:
    """A hyperparameter as np.load gives it back, as Python has it."""
    return value.tolist() if isinstance(value, (Array, np.generic)) else value


def _decayed(weight_decay: float) -> str:
    """The line that begins most formulas: the direction d, with the weight decay in it."""
    return "d = g + weight_decay * x\n" if weight_decay else "d = g\n"


_ADAM = """\
mean = mean + fresh1 * (d - mean)
square = beta2 * square + fresh2 * (d * d)
x = x - rate * (mean / (sqrt(square) / scale + eps))"""


def _betas(what: str, value: Any) -> tuple[float, float]:
    return checks.pair(what, value, below_1)


class SGD(Optimizer):
    """x -= lr * g; with momentum m, v = m v + (1 - dampening) g and x -= lr * v.

    nesterov: x -= lr * (g + m v). weight_decay: adds weight_decay * x to g. The first v is g.

    >>> x = Tensor([1.0], requires_grad=True)
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
        params: Iterable[Tensor],
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
    weight_decay * x to g; AdamW shrinks x itself instead.
    """

    hyperparameters = Optimizer.hyperparameters | {
        "betas": _betas, "eps": at_least_0, "weight_decay": at_least_0,
    }  # fmt: skip

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        super().__init__(params, lr)

    def slots(self, x: Array) -> dict[str, Any]:
        return {"mean": np.zeros_like(x), "square": np.zeros_like(x)}

    def formula(self) -> str:
        return _decayed(self.weight_decay) + _ADAM

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
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ):
        super().__init__(params, lr, betas, eps, weight_decay)

    def formula(self) -> str:
        return ("x = shrink * x\n" if self.weight_decay else "") + "d = g\n" + _ADAM


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
        params: Iterable[Tensor],
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
        params: Iterable[Tensor],
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
