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
import numpy as np
import pytest

from minigrad import nn

# What runs a cell over time, by its parameters cell, state, xs, reverse, and lengths or a mask.
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
        one_by_one(patch)
        for owner, name in LOOPS:
            patch.setattr(owner, name, bent(getattr(owner, name), bend))

    return plant


def one_by_one(patch: Patch) -> None:
    """Directions run one after the other, where the loops that are planted in run."""
    patch.setattr(nn.Recurrent, "_side_by_side", lambda *_: None)


def bent(original: Any, bend: Bend) -> Any:
    def faulty(*args: Any, **options: Any) -> Any:
        bound = inspect.signature(original).bind(*args, **options)
        bound.apply_defaults()
        given, told = bound.arguments, []
        if "mask" in given:  # from the end of a row on it is false
            mask = given["mask"]
            given = given | {"lengths": None if mask is None else mask.sum(axis=0)}

        def loop(call: Call) -> tuple[Any, Any]:
            asked = call._asdict()
            if "mask" in given:
                lengths, steps = asked.pop("lengths"), np.arange(call.xs.shape[0])[:, None]
                asked["mask"] = None if lengths is None else steps < lengths
            bound.arguments.update(asked)
            final, ys, *told[:] = original(*bound.args, **bound.kwargs)
            return final, ys

        result = bend(loop, Call(*(given[field] for field in Call._fields)))
        return *result, *told

    return faulty
