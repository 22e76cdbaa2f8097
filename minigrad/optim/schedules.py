"""Learning-rate schedules: each is a closed formula of t, the number of `schedule.step()` calls.

    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    cosine = optim.CosineAnnealingLR(optimizer, T_max=900)
    schedule = optim.LinearWarmup(optimizer, steps=100, then=cosine)
    for batch in batches:
        ...
        optimizer.step()
        schedule.step()

One schedule drives one optimiser; LinearWarmup hands over to another with `then`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from .. import checks
from ..errors import StateDictError
from ..tape import state
from .optimizers import Optimizer, _plain


class Schedule:
    """Sets optimizer.lr to rate(t) when made (t = 0) and after each step().

    base: the rate to start from, optimizer.base_lr: what lr was when it was last set, by the
    constructor or by `optimizer.lr = ...`, and not by a schedule. It is in the optimiser's
    state_dict, so a schedule is made in any order with loading that.
    To go on after a pause: make optimiser and schedule as before, and load the state_dicts of both.
    """

    hyperparameters: ClassVar[dict[str, Callable[[str, Any], Any]]] = {}

    def __init__(self, optimizer: Optimizer):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"{type(self).__name__}: expected an optimizer of mg.optim, got "
                f"{type(optimizer).__name__}."
            )
        self.optimizer, self.base, self.t = optimizer, optimizer.base_lr, 0
        optimizer.schedule_lr(self.rate(0))

    def __setattr__(self, name: str, value: Any) -> None:
        check = self.hyperparameters.get(name)
        if check is not None:
            value = check(f"{type(self).__name__}: {name}", value)
        super().__setattr__(name, value)

    def rate(self, t: int) -> float:
        """The learning rate after t steps."""
        raise TypeError(f"{type(self).__name__} defines no rate().")

    def step(self) -> None:
        if state.jit is not None:
            state.jit.calls(f"{type(self).__name__}.step", self.step, [])
            return
        self.t += 1
        self.optimizer.schedule_lr(self.rate(self.t))

    def state_dict(self) -> dict[str, Any]:
        """t, base and the numbers it was made with; those it hands over to as `then.gamma`."""
        names = ("t", "base", *self.hyperparameters)
        flat = {name: getattr(self, name) for name in names}
        then = self._then()
        return flat if then is None else flat | {f"then.{k}": v for k, v in then.items()}

    def load_state_dict(self, flat: Mapping[str, Any]) -> None:
        """Restores what state_dict() gave and sets the optimiser's lr to rate(t).

        Raises StateDictError, and changes nothing, if it does not fit.
        """
        who = f"{type(self).__name__}.load_state_dict"
        expected = self.state_dict()
        wrong = [f"missing {k!r}" for k in expected if k not in flat]
        wrong += [f"unexpected {k!r}" for k in flat if k not in expected]
        if wrong:
            raise StateDictError(f"{who}: {'; '.join(wrong)}.")
        checked = copy.copy(self)
        try:
            checked._restore(flat)
            rate = checked.rate(checked.t)
        except (TypeError, ValueError) as error:
            raise StateDictError(f"{who}: {error}") from None
        self._restore(flat)
        self.optimizer.schedule_lr(rate)

    def _then(self) -> dict[str, Any] | None:
        then = getattr(self, "then", None)
        return None if then is None else then.state_dict()

    def _restore(self, flat: Mapping[str, Any]) -> None:
        who = type(self).__name__
        for name in self.hyperparameters:
            setattr(self, name, _plain(flat[name]))
        self.t = checks.size(f"{who}: t", _plain(flat["t"]), least=0)
        self.base = checks.at_least_0(f"{who}: base", _plain(flat["base"]))
        then = getattr(self, "then", None)
        if then is not None:
            self.then = copy.copy(then)
            self.then._restore({k[5:]: v for k, v in flat.items() if k.startswith("then.")})


def _steps(what: str, value: Any) -> int:
    n = checks.number(what, value)
    if n < 1 or n != int(n):
        raise ValueError(f"{what} is a number of steps, >= 1; got {value}.")
    return int(n)


class StepLR(Schedule):
    """lr = base * gamma^(t // step_size)."""

    hyperparameters = {"step_size": _steps, "gamma": checks.at_least_0}

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1):
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def rate(self, t: int) -> float:
        return self.base * self.gamma ** (t // self.step_size)


class ExponentialLR(Schedule):
    """lr = base * gamma^t."""

    hyperparameters = {"gamma": checks.at_least_0}

    def __init__(self, optimizer: Optimizer, gamma: float):
        self.gamma = gamma
        super().__init__(optimizer)

    def rate(self, t: int) -> float:
        return self.base * self.gamma**t


class CosineAnnealingLR(Schedule):
    """lr = eta_min + (base - eta_min) (1 + cos(pi t / T_max)) / 2, and eta_min after T_max steps.

    Loshchilov and Hutter 2017, eq. 5, without restarts (torch's climbs again after T_max).
    """

    hyperparameters = {"T_max": _steps, "eta_min": checks.at_least_0}

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0):
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer)

    def rate(self, t: int) -> float:
        turn = math.cos(math.pi * min(t, self.T_max) / self.T_max)
        return self.eta_min + (self.base - self.eta_min) * (1 + turn) / 2


class LinearWarmup(Schedule):
    """lr = base * (start + (1 - start) t / steps) for t < steps, and base after that.

    start: the fraction of the base rate to begin with. then: another schedule of the same
    optimiser, which takes over: lr = then.rate(t - steps).
    """

    hyperparameters = {"steps": _steps, "start": checks.at_least_0}

    def __init__(
        self, optimizer: Optimizer, steps: int, start: float = 0.0, then: Schedule | None = None
    ):
        self.steps, self.start, self.then = steps, start, then
        if then is not None and (not isinstance(then, Schedule) or then.optimizer is not optimizer):
            raise ValueError("LinearWarmup: then is another schedule of the same optimizer.")
        super().__init__(optimizer)

    def rate(self, t: int) -> float:
        if t < self.steps:
            return self.base * (self.start + (1 - self.start) * t / self.steps)
        return self.base if self.then is None else self.then.rate(t - self.steps)
