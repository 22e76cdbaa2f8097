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

import math

from .optimizers import Optimizer


class Schedule:
    """Sets optimizer.lr to rate(t) when made (t = 0) and after each step().

    base: optimizer.lr as it was when the schedule was made.
    To go on after a pause: make optimiser and schedule as before, load the optimiser's state_dict,
    and set `schedule.t`.
    """

    def __init__(self, optimizer: Optimizer):
        self.optimizer, self.base, self.t = optimizer, optimizer.lr, 0
        optimizer.lr = self.rate(0)

    def rate(self, t: int) -> float:
        """The learning rate after t steps."""
        raise TypeError(f"{type(self).__name__} defines no rate().")

    def step(self) -> None:
        self.t += 1
        self.optimizer.lr = self.rate(self.t)


class StepLR(Schedule):
    """lr = base * gamma^(t // step_size)."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1):
        self.step_size, self.gamma = _at_least_1("step_size", step_size), gamma
        super().__init__(optimizer)

    def rate(self, t: int) -> float:
        return self.base * self.gamma ** (t // self.step_size)


class ExponentialLR(Schedule):
    """lr = base * gamma^t."""

    def __init__(self, optimizer: Optimizer, gamma: float):
        self.gamma = gamma
        super().__init__(optimizer)

    def rate(self, t: int) -> float:
        return self.base * self.gamma**t


class CosineAnnealingLR(Schedule):
    """lr = eta_min + (base - eta_min) (1 + cos(pi t / T_max)) / 2, and eta_min after T_max steps.

    Loshchilov and Hutter 2017, eq. 5, without restarts (torch's climbs again after T_max).
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0):
        self.T_max, self.eta_min = _at_least_1("T_max", T_max), eta_min
        super().__init__(optimizer)

    def rate(self, t: int) -> float:
        turn = math.cos(math.pi * min(t, self.T_max) / self.T_max)
        return self.eta_min + (self.base - self.eta_min) * (1 + turn) / 2


class LinearWarmup(Schedule):
    """lr = base * (start + (1 - start) t / steps) for t < steps, and base after that.

    start: the fraction of the base rate to begin with. then: another schedule of the same
    optimiser, which takes over: lr = then.rate(t - steps).
    """

    def __init__(
        self, optimizer: Optimizer, steps: int, start: float = 0.0, then: Schedule | None = None
    ):
        self.steps, self.start, self.then = _at_least_1("steps", steps), start, then
        if then is not None:
            optimizer.lr = then.base
        super().__init__(optimizer)

    def rate(self, t: int) -> float:
        if t < self.steps:
            return self.base * (self.start + (1 - self.start) * t / self.steps)
        return self.base if self.then is None else self.then.rate(t - self.steps)


def _at_least_1(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"schedule: {name} is a number of steps, >= 1; got {value}.")
    return value
