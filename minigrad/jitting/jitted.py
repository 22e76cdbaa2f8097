"""mg.jit: a whole training step, or any function of Tensors, recorded once and replayed.

    @mg.jit
    def step(x, y):
        optimizer.zero_grad()
        loss = mg.nn.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

The first two calls with arguments of one kind run as they always do and are recorded; the two
recordings must agree. From the third on the program of calls that they gave is replayed.
"""

from __future__ import annotations

import functools
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..errors import JitError, describe
from ..tape import state
from ..tensors import Tensor
from .comparing import difference_of
from .program import Program
from .running import Run, name_of, same_number

_MOST = 16  # kinds of arguments, and programs of one kind
_WARNS = 8  # calls that no program fitted
_WARNS_OF_KINDS = 16  # recordings, more than there were replays


class JitWarning(UserWarning):
    """A step is recorded again and again."""


def jit(function: Callable[..., Any]) -> Jitted:
    """The function, recorded once for each kind of arguments and replayed from then on.

    A replay is one call of a compiled function, which goes down a flat list of kernel calls over
    memory that stays: forward, loss, backward, clipping and the optimiser's update. Results,
    parameters, gradients and the optimiser's state are those of the plain function, bit for bit.

    function: of arrays, Tensors, floats and trees of them, whose values may change from call to
        call; anything else among its arguments (an int, a str, None, a flag) is part of the kind.
        What it reads besides, Parameters, Tensors of the closure, the optimiser's lr, is read at
        every call; globals, variables of the closure and attributes that it names are compared
        (outside.py). What Python computes in it is not computed again: mg.jit is the promise that
        nothing else changes. Arithmetic on a float argument is, as are ops of mg.tensor(rate); what
        functions of `math` make of it holds for that value alone, so another one is recorded, and
        refused where that differs. The two recordings are compared, and whatever differs is
        refused.
    A recording is made for each structure, shapes and dtypes of the arguments, for train() and
    eval(), and whether gradients are recorded.
    Raises JitError, with the line, for what cannot be replayed: a value that is read in the step
    (`item()`, `if loss < ...`, NumPy on an argument), random numbers that NumPy draws in it, what
    it counts or keeps outside, a hook, Tape, detect_anomaly or flow recorder that wants to look
    inside.

    >>> import minigrad as mg
    >>> w = mg.tensor([2.0], requires_grad=True)
    >>> optimizer = mg.optim.SGD([w], lr=0.25)
    >>> @mg.jit
    ... def step(x):
    ...     optimizer.zero_grad()
    ...     loss = ((w * x) ** 2).sum()
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> [step(np.array([1.0])).item() for _ in range(4)]
    [4.0, 1.0, 0.25, 0.0625]
    """
    return Jitted(function)


class Waiting(NamedTuple):
    """A run that waits for another to agree with it.

    differed: one before it did not, which is forgiven once: the first may have set something up.
    fixed: the float arguments that were never others, and what they were. replayed: how many
    calls had been replayed by then.
    """

    run: Run
    differed: bool
    fixed: Mapping[int, float]
    replayed: int


class Jitted:
    """A function under mg.jit. `explain()` and print tell what it replays.

    calls: functions that it was given to call, where what they read counts, too.
    """

    def __init__(self, function: Callable[..., Any], calls: Sequence[Callable[..., Any]] = ()):
        self.function, self.calls = function, calls
        self.name = name_of(function, *calls)
        self.programs: dict[Any, list[Program]] = {}
        self.candidates: dict[Any, list[Waiting]] = {}
        self.recorded = self.replayed = self.misfits = 0
        self._last: Any = None  # the kind of the arguments that was recorded last
        self._lock = threading.RLock()
        _all.add(self)
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if state.jit is not None:  # inside of another jitted step: part of it
            return self.function(*args, **kwargs)
        if state.mode == 2 or state.listeners or state.intervening is not None:
            self._refuse_watched()
        given: list[Any] = []
        key: Any = [state.recording]
        for value in args:  # what is most frequent without a call of a function
            if type(value) is np.ndarray:
                given.append(value)
                key.append(("a", value.shape, value.dtype))
            else:
                key.append(_form(value, given))
        key = (*key, _form(kwargs, given)) if kwargs else tuple(key)
        with self._lock:
            why, moved = "", None
            for program in self.programs.get(key, ()):
                why = program.misfit()
                if why:
                    continue
                if not program.fixed or program.knows(given):
                    self.replayed += 1
                    return program.replay(given)
                why, moved = "a float argument is another than in all recordings", program
            self._note(why, key)
            return self._record(key, args, kwargs, moved)

    def _note(self, why: str, key: Any) -> None:
        """Notes why a call is recorded; warns once if that happens all the time."""
        self.misfits += bool(why)
        if not why and self.recorded == _WARNS_OF_KINDS:
            why = _other_kind(self._last, key)
        elif self.misfits != _WARNS:
            why = ""
        self._last = key
        if why and self.replayed < self.recorded:
            warnings.warn(
                f"mg.jit: {self.name} has been recorded {self.recorded} times and replayed "
                f"{self.replayed} times: {why}.",
                JitWarning,
                stacklevel=3,
            )

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def _record(self, key: Any, args: Any, kwargs: Any, moved: Program | None) -> Any:
        """Runs plainly, and makes a program of it where it agrees with the run before.

        moved: a program that would fit, but for a float argument that is another for once.
        """
        self.recorded += 1
        run = Run(self.function, args, kwargs, self.calls)
        waiting = _kept(self.candidates, key)
        self._refuse_other(run, waiting)
        known = [Waiting(moved.of, True, moved.fixed, 0)] if moved and moved.of else []
        before = next((w for w in (*known, *waiting) if w.run.met_as(run)), None)
        difference = ""
        if before is not None:
            waiting[:] = [w for w in waiting if w is not before]
            difference = difference_of(before.run, run)
            if not difference:
                fixed = {i: x for i, x in before.fixed.items() if same_number(x, run.floats[i])}
                made = _kept(self.programs, key)
                made[:] = [p for p in made if p.of is not before.run and not p.is_lost()]
                made.append(Program(run, fixed))
                return run.result
            if before.differed:
                raise JitError(f"mg.jit: {difference}")
        waiting.append(Waiting(run, bool(difference), run.floats, self.replayed))
        return run.result

    def _refuse_other(self, run: Run, waiting: list[Waiting]) -> None:
        """Raises JitError for what each of the last calls changed, or met as another thing.

        Once is forgiven: a first call may set something up. Calls of other kinds, and replays in
        between, say that it does not happen every time.
        """
        last = [w.run for w in waiting[-2:] if w.replayed == self.replayed]
        if last and run.sets and run.sets == last[-1].sets:
            difference = difference_of(last[-1], run)
            raise JitError(
                f"mg.jit: {difference}" if difference else
                f"mg.jit: {self.name} changes {run.sets}, which a replay would not do: keep what "
                f"counts outside of the step."
            )  # fmt: skip
        moved = [now.outside.other_than(then.outside) for then, now in pairwise([*last, run])]
        if len(moved) == 2 and moved[0] and moved[0] == moved[1]:
            raise JitError(
                f"mg.jit: {self.name} reads {moved[0]}, which was another at each of its last "
                f"calls: pass it as an argument."
            )

    def _refuse_watched(self) -> None:
        what = "a listener (flow.record, a Monitor, mg.listen)" if state.listeners else (
            "mg.flow.intervene" if state.intervening is not None
            else "mg.Tape" if state.tape is not None else "mg.detect_anomaly"
        )  # fmt: skip
        raise JitError(
            f"mg.jit: {what} wants to look inside of {self.name}, and a replay has no inside; call "
            f"the function itself, {self.name}.function(...)."
        )

    def all_programs(self) -> list[Program]:
        """Its programs, the oldest first."""
        return [program for listed in self.programs.values() for program in listed]

    def explain(self) -> str:
        """What is replayed, call by call, for each kind of arguments."""
        head = f"mg.jit of {self.name}: recorded {self.recorded}, replayed {self.replayed} times"
        programs = self.all_programs()
        if not programs:
            return f"{head}; no program yet: two calls with arguments of one kind make one"
        return "\n".join([head, *(p.explain() for p in programs)])

    __str__ = __repr__ = explain


_all: weakref.WeakSet[Jitted] = weakref.WeakSet()


def _renew_locks() -> None:
    for step in _all:  # a thread that the child does not have may have held one
        step._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


def _kept(table: dict[Any, list[Any]], key: Any) -> list[Any]:
    """The list of a kind of arguments, with room for one more; old ones go."""
    if key not in table and len(table) >= _MOST:
        del table[next(iter(table))]
    listed = table.setdefault(key, [])
    del listed[: len(listed) - _MOST + 1]
    return listed


def _other_kind(before: Any, now: Any) -> str:
    """What is not the same in the kinds of two calls, as the end of a sentence; "" if nothing."""
    if before == now:
        return ""
    nested = isinstance(before, tuple) and isinstance(now, tuple) and len(before) == len(now)
    if nested and before[:1] not in (("a",), ("t",)):
        return next(_other_kind(a, b) for a, b in zip(before, now, strict=True) if a != b)
    told = [
        f"{kind[2]}{list(kind[1])}" if isinstance(kind, tuple) and kind[:1] in (("a",), ("t",))
        else getattr(kind, "__name__", repr(kind))
        for kind in (before, now)
    ]  # fmt: skip
    return (
        f"its arguments are of ever other kinds, {told[0]} and then {told[1]}; pass what changes "
        f"as a float or in an array, and arrays of few shapes"
    )


def _form(value: Any, given: list[Any]) -> Any:
    """What of an argument belongs to the kind of a call; its arrays and floats go to `given`."""
    kind = type(value)
    if isinstance(value, Tensor):
        if value.requires_grad:
            raise JitError(
                f"mg.jit: an argument, {describe(value)}, requires a gradient, and would get none: "
                f"let the function read it from outside, as it does its Parameters, or pass "
                f"t.detach()."
            )
        given.append(value)
        return "t", value._array.shape, value._array.dtype
    if isinstance(value, np.ndarray):
        given.append(value)
        return "a", value.shape, value.dtype
    if kind is float or isinstance(value, np.floating):
        given.append(value)
        return kind
    if kind is dict:
        return kind, tuple([(k, _form(value[k], given)) for k in sorted(value)])
    if isinstance(value, (tuple, list)):
        return kind, tuple([_form(v, given) for v in value])
    try:
        hash(value)
    except TypeError:
        raise JitError(
            f"mg.jit: an argument is a {kind.__name__}; expected arrays, Tensors, floats, trees of "
            f"them, or something hashable, which is then part of the kind of the call."
        ) from None
    return kind, value
