"""What all optimisers share: parameters in groups, what is remembered of them, a step, the state.

A group is an optimiser of the same kind for some of the parameters, with hyperparameters of its
own; a step of the whole is a step of each group, one compiled loop (fused.py) for each.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from .. import versions
from ..checks import at_least_0
from ..errors import GradientError, StateDictError, describe
from ..kernels.flat import Update
from ..tape import state as switches
from ..tensors import Tensor
from .fused import FusedStep, move

Array = np.ndarray


class Optimizer:
    """Moves parameters against their gradients.

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    params: Tensors that require a gradient, usually module.parameters(); or groups of them,
    [{"params": head.parameters(), "lr": 1e-2}, {"params": rnn.parameters()}], each with any
    hyperparameters of its own: `optimizer.param_groups[0]["lr"]`. What a group does not have of its
    own it has from the optimizer, also when that is set later.
    lr: the learning rate, an attribute that schedules set; base_lr: what it was before a schedule
    changed it.
    One of your own defines `update`, or `formula` and `numbers`; and `slots`, if it has a memory.
    Raises GradientError for anything else, ValueError for hyperparameters out of range and
    TypeError for those that are no numbers, also when they are set later.
    """

    hyperparameters: ClassVar[dict[str, Callable[[str, Any], Any]]] = {"lr": at_least_0}
    scheduled = False  # is a schedule setting lr just now?
    added: ClassVar[dict[str, Any]] = {}  # hyperparameters that older states lack: what they were
    _groups: Any = ()
    _own: frozenset[str] | None = None  # the hyperparameters of a group that it has of its own

    def __init__(self, params: Iterable[Any], lr: float):
        listed: list[Any] = _listed(params)
        self.params: list[Tensor] = []
        self.state: list[dict[str, Any]] = []
        self.lr = lr
        if not listed:
            raise GradientError(
                "optimizer: no parameters; pass module.parameters() or a list of Tensors."
            )
        if any(isinstance(p, Mapping) for p in listed):
            self._groups = []
            for group in listed:
                self.add_param_group(group)
            return
        _check(listed)
        self.params = listed
        self.state = self._new_state()

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Trains more parameters: {"params": ..., "lr": ...}, with hyperparameters of their own.

        Raises GradientError for what is no group, or a parameter that is there already.
        """
        if not isinstance(group, Mapping) or "params" not in group:
            raise GradientError(
                f"optimizer: a group is a dict with 'params', {{'params': module.parameters(), "
                f"'lr': 1e-3}}; got {describe(group)}. Put all parameters into groups, or none."
            )
        unknown = [name for name in group if name not in (*self.hyperparameters, "params")]
        if unknown:
            raise TypeError(
                f"{type(self).__name__}: a group has no {unknown[0]!r}; it may have "
                f"{', '.join(self.hyperparameters)}."
            )
        members = _listed(group["params"])
        _check([*self.params, *members])
        if not self._groups and self.params:  # what came without a group becomes one
            self._groups = [self._like(self.params, self.state)]
        made = self._like(members, [])
        for name in self.hyperparameters:
            if name in group:
                made[name] = group[name]
        made.state = made._new_state()
        self._groups = [*self._groups, made]
        self.gather()

    def _like(self, params: list[Tensor], state: list[dict[str, Any]]) -> Optimizer:
        """A group of this optimiser, with its hyperparameters."""
        made = copy.copy(self)
        vars(made).pop("_fused", None)
        made._groups, made._own = (), frozenset()
        made.params, made.state = params, state
        return made

    def gather(self) -> None:
        """Notes the parameters of the groups, and what they remember, as its own."""
        if self._groups:
            self.params = [p for group in self._groups for p in group.params]
            self.state = [s for group in self._groups for s in group.state]

    @property
    def param_groups(self) -> list[Optimizer]:
        """The groups; of an optimiser without any itself. group["lr"] = 0.1 sets and reads."""
        return [*self._groups] or [self]

    def __getitem__(self, name: str) -> Any:
        if name not in (*self.hyperparameters, "params"):
            raise KeyError(f"{name}: a group has params, {', '.join(self.hyperparameters)}")
        return getattr(self, name)

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self.hyperparameters:
            raise KeyError(f"{name}: what can be set is {', '.join(self.hyperparameters)}")
        setattr(self, name, value)
        if self._own is not None:
            self._own |= {name}

    def __setattr__(self, name: str, value: Any) -> None:
        if switches.jit is not None and name in self.hyperparameters:
            value = switches.jit.assigned(self, name, value)
        check = self.hyperparameters.get(name)
        if check is not None:
            value = check(f"{type(self).__name__}: {name}", value)
        super().__setattr__(name, value)
        if name == "lr" and not self.scheduled:
            self.base_lr = value
        if check is not None:
            for group in self._groups:
                if name not in group._own and not self.scheduled:
                    setattr(group, name, value)

    def schedule_lr(self, rate: float) -> None:
        """Sets lr for the time being, of groups that have none of their own too; not base_lr."""
        self.scheduled = True
        try:
            self.lr = rate
        finally:
            self.scheduled = False
        for group in self._groups:
            if "lr" not in group._own:
                group.schedule_lr(rate)

    def _new_state(self) -> list[dict[str, Any]]:
        return [{"step": 0} | self.slots(p._array) for p in self.params]

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
            name = f"{type(self).__name__}.step"
            switches.jit.calls(name, self.step, self.params, self._prepared)
            return
        for group in self._groups or (self,):
            group._move()

    def _prepared(self) -> list[Update]:
        """A step as kernels on the arrays that there are now; none if it is not that."""
        own = (getattr(group.update, "__func__", None) for group in self.param_groups)
        if any(update is not Optimizer.update for update in own):
            return []
        found = [FusedStep(group).prepared() for group in self.param_groups]
        return [update for update in found if update is not None] if all(found) else []

    def _move(self) -> None:
        if getattr(self.update, "__func__", None) is Optimizer.update:  # and nobody's own
            # taken while it is used: another thread makes one of its own
            fused = vars(self).pop("_fused", None) or FusedStep(self)
            arguments = fused.fill()  # which may make another table
            fused.table.function(*arguments)
            fused.end()
            vars(self)["_fused"] = fused
        else:
            self._one_by_one()

    def _one_by_one(self) -> None:
        """A step by an `update` of somebody's own."""
        for p, state in zip(self.params, self.state, strict=True):
            if p.grad is not None:
                for k, v in state.items():
                    if isinstance(v, Array) and v.dtype != p.dtype:  # Module.to came in between
                        state[k] = v.astype(p.dtype)
                state["step"] += 1
                self.update(versions.writable(p), p.grad._array, state)

    def zero_grad(self) -> None:
        for p in self.params:
            if switches.jit is not None:
                switches.jit.sets_gradient(p)
            p._grad = None

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k != "_fused"}  # of this process's memory

    def _parts(self) -> Iterator[tuple[str, Optimizer]]:
        """What has hyperparameters, by the beginning of its keys in a state_dict."""
        yield "", self
        for i, group in enumerate(self._groups):
            yield f"groups.{i}.", group

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on later, flat: {"lr": ..., "0.step": ..., "0.mean": array, ...}.

        All hyperparameters are in it, and base_lr, which a schedule made later starts from; those
        of groups as "groups.0.lr", which of these are a group's own as "groups.0.own", and how many
        parameters it has as "groups.0.size".
        """
        flat: dict[str, Any] = {}
        for prefix, part in self._parts():
            flat |= {prefix + name: getattr(part, name) for name in self.hyperparameters}
            flat[f"{prefix}base_lr"] = part.base_lr
            if prefix:
                flat[f"{prefix}size"] = len(part.params)
                flat[f"{prefix}own"] = [name in (part._own or ()) for name in self.hyperparameters]
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
        new._groups = [copy.copy(group) for group in self._groups]
        flat = {p + k: v for p, _ in self._parts() for k, v in self.added.items()} | dict(flat)
        try:
            for prefix, part in new._parts():
                for name in (*self.hyperparameters, "base_lr"):
                    if prefix + name in flat:
                        setattr(part, name, _plain(flat[prefix + name]))
                part.base_lr = at_least_0("base_lr", part.base_lr)
                own = np.asarray(flat.get(f"{prefix}own", False), bool)
                if own.shape == (len(self.hyperparameters),):
                    part._own = frozenset(np.array([*self.hyperparameters])[own].tolist())
        except (TypeError, ValueError) as error:
            raise StateDictError(f"{who}: {error}") from None
        for part in new.param_groups:
            part.state = part._new_state()
        new.gather()
        expected = new.state_dict()
        wrong = [f"missing {k!r}" for k in expected if k not in flat]
        wrong += [f"unexpected {k!r}" for k in flat if k not in expected]
        for k, v in expected.items():
            given = np.asarray(flat.get(k, v))
            if given.shape != np.shape(v):
                wrong.append(f"{k!r} is {list(given.shape)}, expected {list(np.shape(v))}")
            elif given.dtype.kind not in "biuf":
                wrong.append(f"{k!r} is {given.dtype}, expected numbers")
            elif k.endswith(".size") and given != v:
                wrong.append(f"{k!r} is {given}, expected {v}: the groups have other parameters")
        if wrong:
            raise StateDictError(f"{who}: {'; '.join(wrong)}.")
        for i, state in enumerate(new.state):
            for k, v in state.items():
                given = flat[f"{i}.{k}"]
                state[k] = np.array(given, v.dtype) if isinstance(v, Array) else int(given)
        for group, loaded in zip(self._groups, new._groups, strict=True):
            vars(group).update(vars(loaded))
        new._groups = self._groups
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


def _check(params: list[Any]) -> None:
    """Raises GradientError for what are no parameters."""
    for i, p in enumerate(params):
        if not isinstance(p, Tensor) or not p.requires_grad or not p.is_leaf:
            raise GradientError(
                f"optimizer: parameter {i} is {describe(p)}; expected a Tensor made with "
                f"requires_grad=True (not computed from others)."
            )
    if len(set(map(id, params))) < len(params):
        raise GradientError("optimizer: a parameter is listed twice; it would move twice a step.")
