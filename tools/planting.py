"""How tools/faults.py plants a fault: in the same way for every mode.

In a cell: `forward` runs on a copy of the cell whose weights or options are wrong, computed inside
the step, where a tape records them and a compiler traces them. Around the loop: what runs a cell
over time (LOOPS) is given a wrong state, wrong lengths or a wrong direction, or its result is bent.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import modes
import pytest

from minigrad import nn

# Everything that runs a cell over time, by its parameters cell, state, xs, lengths and reverse.
LOOPS = [(nn.Recurrent, "_run"), (modes, "run")]

Patch = pytest.MonkeyPatch
Plant = Callable[[Patch], None]
Changes = Callable[[Any], dict[str, Any]]  # cell -> the attributes that forward finds instead


class Fault(NamedTuple):
    name: str
    subject: str  # tests with this in their names are the likeliest to see it
    plant: Plant

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            self.plant(patch)
            yield


def in_cell(kind: Any, changes: Changes, state: Callable[[Any], Any] = lambda s: s) -> Plant:
    """A plant: the step of `kind` finds other attributes, or another state."""

    def plant(patch: Patch) -> None:
        forward = kind.forward

        def faulty(cell: Any, s: Any, x: Any) -> Any:
            twin = copy.copy(cell)
            vars(twin).update(changes(cell))
            return forward(twin, state(s), x)

        patch.setattr(kind, "forward", faulty)

    return plant


class Call(NamedTuple):
    """What a loop is asked to run."""

    cell: Any
    state: Any
    xs: Any
    lengths: Any
    reverse: bool


Loop = Callable[[Call], tuple[Any, Any]]  # call -> (final, ys)
Bend = Callable[[Loop, Call], tuple[Any, Any]]


def around_loop(bend: Bend) -> Plant:
    """A plant: every loop gives bend(loop, call)."""

    def plant(patch: Patch) -> None:
        for owner, name in LOOPS:
            patch.setattr(owner, name, bent(getattr(owner, name), bend))

    return plant


def bent(original: Any, bend: Bend) -> Any:
    def faulty(*args: Any, **options: Any) -> Any:
        bound = inspect.signature(original).bind(*args, **options)
        bound.apply_defaults()

        def loop(call: Call) -> tuple[Any, Any]:
            bound.arguments.update(call._asdict())
            return original(*bound.args, **bound.kwargs)

        return bend(loop, Call(*(bound.arguments[field] for field in Call._fields)))

    return faulty
