"""The switches of recording, one set for each Python thread, and what turns them for a while.

A `Switch` is a context manager and a decorator. What the switches were before is kept with the
thread, not in the object, so one object can be entered again inside itself, in a recursion and in
several threads at once, and an exception puts everything back.

    quiet = no_grad()
    with quiet, quiet: ...

    @quiet
    def evaluate(model): ...
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .errors import MinigradError

if TYPE_CHECKING:
    from .listener import Listener
    from .tape import Tape


class _State(threading.local):
    """The switches of one Python thread."""

    mode = 1  # what apply() asks: 0 inside no_grad, 1 recording, 2 Tape, detect_anomaly or jit
    recording = True
    anomaly = False
    scope = ""
    tape: Tape | None = None
    listeners: tuple[Listener, ...] = ()
    intervening: Any = None  # who changes what is tapped, a compile.intervened.Hand
    jit: Any = None  # the Recording of a step that mg.jit runs for the first time

    def __init__(self) -> None:
        self.outer: list[tuple[Switch, dict[str, Any]]] = []  # what Switches put back when left

    def switch(self, **switches: Any) -> dict[str, Any]:
        """Sets switches, and returns what they were."""
        before = {name: getattr(self, name) for name in switches}
        for name, value in switches.items():
            setattr(self, name, value)
        watched = self.anomaly or self.tape is not None or self.jit is not None
        self.mode = 2 if watched else int(self.recording)
        return before

    @contextmanager
    def switched(self, **switches: Any) -> Iterator[None]:
        """Sets switches inside a `with` block."""
        before = self.switch(**switches)
        try:
            yield
        finally:
            self.switch(**before)


state = _State()


class _Edits:
    """How often an attribute of a Module was set: who remembers some asks whether it moved."""

    count = 0


edits = _Edits()


class Switch:
    """Sets some switches inside a `with` block, or while a decorated function runs."""

    def switches(self) -> dict[str, Any]:
        """What is set inside: name -> value."""
        raise NotImplementedError

    def __enter__(self) -> Any:
        state.outer.append((self, state.switch(**self.switches())))

    def __exit__(self, *exc: object) -> None:
        outer = state.outer
        for i in reversed(range(len(outer))):  # the last, but for blocks inside generators
            if outer[i][0] is self:
                state.switch(**outer.pop(i)[1])
                return
        raise MinigradError(
            f"{type(self).__name__}: left in a thread that did not enter it; a `with` block begins "
            f"and ends in one thread."
        )

    def __call__(self, function: Any) -> Any:
        """The function, run inside; of a generator every step is, and what is between is not."""
        if isinstance(function, (staticmethod, classmethod)):
            return type(function)(self(function.__func__))
        what = type(self).__name__
        if isinstance(function, type) or not callable(function):
            raise TypeError(f"{what}: decorates functions and methods, got {function!r}.")
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{what}: {function.__name__} is asynchronous, and while it waits others run in "
                f"this thread; write `with {what}():` around the parts that do not wait."
            )
        if _is_generator(function):

            @functools.wraps(function)
            def steps(*args: Any, **kwargs: Any) -> Any:
                return (yield from _stepped(self, function(*args, **kwargs)))

            return steps

        @functools.wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return inside


def _is_generator(function: Callable[..., Any]) -> bool:
    called = getattr(type(function), "__call__")  # noqa: B004, B009, of an object used as a function
    return inspect.isgeneratorfunction(function) or inspect.isgeneratorfunction(called)


def _stepped(switch: Switch, generator: Any) -> Iterator[Any]:
    """The generator, the switch being on only while it runs."""
    step, sent = generator.send, None
    while True:
        try:
            with switch:
                value = step(sent)
        except StopIteration as end:
            return end.value
        try:
            sent = yield value
            step = generator.send
        except GeneratorExit:
            with switch:
                generator.close()
            raise
        except BaseException as error:
            step, sent = generator.throw, error
