"""Learning-rate schedules: each is a closed formula of t, the number of `schedule.step()` calls.

    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    cosine = optim.CosineAnnealingLR(optimizer, T_max=900)
    schedule = optim.LinearWarmup(optimizer, steps=100, then=cosine)
    for batch in batches:
        ...
        optimizer.step()
        schedule.step()

One schedule drives one optimiser, each group of parameters that has a rate of its own from that
one; LinearWarmup hands over to another with `then`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

from .. import checks
from ..errors import StateDictError
from ..tape import state
from .base import Optimizer, _plain


class Schedule:
    """Sets optimizer.lr to rate(t) when made (t = 0) and after each step().

    base: the rate to start from, optimizer.base_lr: what lr was when it was last set, by the
    constructor or by `optimizer.lr = ...`, and not by a schedule. It is in the optimiser's
    state_dict, so a schedule is made in any order with loading that.
    To go on after a pause: make optimiser and schedule as before, and load the state_dicts of both.
    """

    hyperparameters: ClassVar[dict[str, Callable[[str, Any], Any]]] = {}
    remembers: ClassVar[dict[str, Callable[[str, Any], Any]]] = {}  # what steps change, besides t

    def __init__(self, optimizer: Optimizer):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"{type(self).__name__}: expected an optimizer of mg.optim, got "
                f"{type(optimizer).__name__}."
            )
        self.optimizer, self.base, self.t = optimizer, optimizer.base_lr, 0
        self._set()

    def _set(self) -> None:
        """Every group of the optimiser gets its rate."""
        self.optimizer.schedule_lr(self.rate(self.t))
        for group in self.optimizer.param_groups:
            if group._own and "lr" in group._own:
                group.schedule_lr(self._from(group.base_lr).rate(self.t))

    def _from(self, base: float) -> Schedule:
        """This schedule, begun from another rate."""
        other = copy.copy(self)
        other.base = base
        then = getattr(self, "then", None)
        if then is not None:
            other.then = then._from(base)
        return other

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
        self._set()

    def state_dict(self) -> dict[str, Any]:
        """t, base and the numbers it was made with; those it hands over to as `then.gamma`."""
        names = ("t", "base", *self.hyperparameters, *self.remembers)
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
            checked.rate(checked.t)
        except (TypeError, ValueError) as error:
            raise StateDictError(f"{who}: {error}") from None
        self._restore(flat)
        self._set()

    def _then(self) -> dict[str, Any] | None:
        then = getattr(self, "then", None)
        return None if then is None else then.state_dict()

    def _restore(self, flat: Mapping[str, Any]) -> None:
        who = type(self).__name__
        for name in self.hyperparameters:
            setattr(self, name, _plain(flat[name]))
        for name, check in self.remembers.items():
            setattr(self, name, check(f"{who}: {name}", _plain(flat[name])))
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
        if isinstance(then, ReduceLROnPlateau):
            raise ValueError(
                "LinearWarmup: then=ReduceLROnPlateau would never see a metric; let the warm-up "
                "end, and make the other one behind it."
            )
        super().__init__(optimizer)

    def rate(self, t: int) -> float:
        if t < self.steps:
            return self.base * (self.start + (1 - self.start) * t / self.steps)
        return self.base if self.then is None else self.then.rate(t - self.steps)


class LambdaLR(Schedule):
    """lr = base * lr_lambda(t).

    The function is not in the state_dict: a schedule that is to go on is made with the same one.
    """

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float]):
        if not callable(lr_lambda):
            raise TypeError(
                f"LambdaLR: lr_lambda is a function of t, the number of steps; got "
                f"{type(lr_lambda).__name__}."
            )
        self.lr_lambda = lr_lambda
        super().__init__(optimizer)

    def rate(self, t: int) -> float:
        return self.base * float(self.lr_lambda(t))


def _above_0(what: str, value: Any) -> Any:
    return checks.number(what, value, 0.0, bounds="()")


class OneCycleLR(Schedule):
    """From max_lr / div_factor up to max_lr, and down to max_lr / (div_factor final_div_factor).

    Smith and Topin 2019. Of total_steps = epochs * steps_per_epoch rates the share pct_start goes
    up; after the last it stays. anneal_strategy: "cos" or "linear". Momentum is left alone: it is
    torch's with cycle_momentum=False. Every group of parameters gets this rate.
    """

    hyperparameters = {
        "max_lr": _above_0, "total_steps": _steps, "pct_start": checks.probability,
        "div_factor": _above_0, "final_div_factor": _above_0, "linear": checks.flag,
    }  # fmt: skip

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float,
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ):
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError(
                    "OneCycleLR: how many steps? Give total_steps, or epochs and steps_per_epoch."
                )
            total_steps = epochs * steps_per_epoch
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f"OneCycleLR: anneal_strategy is 'cos' or 'linear', got {anneal_strategy!r}."
            )
        self.max_lr, self.total_steps, self.pct_start = max_lr, total_steps, pct_start
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        self.linear = anneal_strategy == "linear"
        super().__init__(optimizer)

    def rate(self, t: int) -> float:
        first = self.max_lr / self.div_factor
        top = self.pct_start * self.total_steps - 1  # where the rate is max_lr; between two steps
        t, last = min(t, self.total_steps - 1), self.total_steps - 1
        if t <= top:
            return self._between(first, self.max_lr, t / top if top else 1.0)
        share = (t - top) / (last - top)
        return self._between(self.max_lr, first / self.final_div_factor, share)

    def _between(self, begin: float, end: float, share: float) -> float:
        turn = 1 - share if self.linear else (1 + math.cos(math.pi * share)) / 2
        return end + (begin - end) * turn


def _metric(what: str, value: Any) -> float:
    """Any number, also Inf: what was the best so far."""
    if not isinstance(value, (int, float)):
        raise TypeError(f"{what} is a number; got {value!r}.")
    return float(value)


class ReduceLROnPlateau(Schedule):
    """lr *= factor, once the metric was no better than its best for more than `patience` steps.

        schedule.step(validation_loss)

    Better is below best * (1 - threshold), or best - threshold with threshold_mode="abs"; above, of
    mode="max", and then + for -. NaN is no better. After a cut `cooldown` steps do not count. The
    rate never falls below min_lr, nor by eps or less.
    """

    hyperparameters = {
        "factor": checks.below_1, "patience": partial(checks.size, least=0),
        "threshold": checks.at_least_0, "cooldown": partial(checks.size, least=0),
        "min_lr": checks.at_least_0, "eps": checks.at_least_0, "rising": checks.flag,
        "absolute": checks.flag,
    }  # fmt: skip
    remembers = {
        "best": _metric, "cuts": partial(checks.size, least=0),
        "worse": partial(checks.size, least=0), "waiting": partial(checks.size, least=0),
    }  # fmt: skip

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ):
        for name, given, known in (
            ("mode", mode, ("min", "max")),
            ("threshold_mode", threshold_mode, ("rel", "abs")),
        ):
            if given not in known:
                raise ValueError(
                    f"ReduceLROnPlateau: {name} is {known[0]!r} or {known[1]!r}, got {given!r}."
                )
        self.rising, self.absolute = mode == "max", threshold_mode == "abs"
        self.factor, self.patience, self.threshold = factor, patience, threshold
        self.cooldown, self.min_lr, self.eps = cooldown, min_lr, eps
        self.best = -math.inf if self.rising else math.inf
        self.cuts = self.worse = self.waiting = 0
        super().__init__(optimizer)

    def rate(self, t: int) -> float:
        rate = self.base
        for _ in range(self.cuts):
            lower = max(rate * self.factor, self.min_lr)
            rate = lower if rate - lower > self.eps else rate
        return rate

    def step(self, metric: Any = None) -> None:
        if state.jit is not None:
            state.jit.refuse("ReduceLROnPlateau.step(metric), which reads a value: call it outside")
        if metric is None:
            raise TypeError("ReduceLROnPlateau.step(metric): which metric? It is judged by it.")
        value = float(metric)
        if self._better(value):
            self.best, self.worse = value, 0
        else:
            self.worse += 1
        if self.waiting:
            self.waiting, self.worse = self.waiting - 1, 0
        if self.worse > self.patience:
            self.cuts, self.waiting, self.worse = self.cuts + 1, self.cooldown, 0
        super().step()

    def _better(self, value: float) -> bool:
        margin = self.threshold * (1.0 if self.absolute else self.best)
        if math.isinf(self.best):
            margin = 0.0
        return value > self.best + margin if self.rising else value < self.best - margin
