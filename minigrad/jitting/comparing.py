"""Whether two recordings of a step did the same: else a replay would repeat what was once.

Equal are their operations in order, where each reads and writes, and the constants that Python or
NumPy made in between. A random number drawn in the step, a counter, a branch on something outside
differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import versions
from .recording import Recording
from .running import Run, leaves_of
from .steps import Root, Step

Array = np.ndarray
_CONSTANTS = (bool, int, float, complex, str, bytes)


def difference_of(first: Run, second: Run) -> str:
    """The first difference, as a sentence; "" where there is none."""
    places = [_Places(*run.steps) for run in (first, second)]
    one, two = first.steps[1], second.steps[1]
    for a, b in zip(one, two, strict=False):
        if (a.what, a.name, a.where) != (b.what, b.name, b.where):
            return (
                f"{b.where}: {b.name} ran where {a.name} ({a.where}) had run at the call before: a "
                f"branch, a loop or a cache that Python decides about. Make the choice before the "
                f"step, or by mg.where."
            )
        parts = [[*step.inputs, *step.arrays, *step.outputs] for step in (a, b)]
        if [(x.shape, x.dtype) for x in parts[0]] != [(x.shape, x.dtype) for x in parts[1]]:
            return (
                f"{b.where}: the shapes of {b.name} were others at the call before: they depend on "
                f"data, and mg.jit replays fixed shapes."
            )
        for x, y in zip(*parts, strict=True):
            why = places[0].unlike(x, places[1], y)
            if why:
                return f"{b.where}: {b.name} {why}"
        if _plain(a.params) != _plain(b.params):
            return (
                f"{b.where}: {b.name} had other parameters at the call before; close over what is "
                f"fixed, and pass what changes as an argument."
            )
    if len(one) != len(two):
        return "the step ran fewer operations at one call than at the next; it has to do the same."
    if len(first.results) != len(second.results):
        return f"{second.name} gave more or fewer arrays at the call before."
    for x, y in zip(first.results, second.results, strict=True):
        why = places[0].unlike(x, places[1], y)
        if why:
            return f"what {second.name} returns, or leaves as a gradient, {why}"
    for x, y in zip(*(leaves_of(run.returned) for run in (first, second)), strict=False):
        if type(x) in _CONSTANTS and type(x) is type(y) and repr(x) != repr(y):
            return (
                f"{second.name} returned {x!r} and then {y!r}, which Python made: a replay would "
                f"return it unchanged. Return the Tensor that it was made of."
            )
    return ""


class _Places:
    """Where the arrays of one recording lie."""

    def __init__(self, recording: Recording, steps: list[Step]):
        self.recording = recording
        self.number = {  # owners of what steps make, by the place among the steps that count
            id(versions.owner(y)): (k, i)
            for k, step in reversed(list(enumerate(steps)))
            for i, y in enumerate(step.outputs)
            if recording.roots[id(versions.owner(y))].kind == "made"
        }

    def unlike(self, x: Array, other: _Places, y: Array) -> str:
        """What is wrong where x of this recording and y of the other differ."""
        a = self.recording.roots[id(versions.owner(x))]
        b = other.recording.roots[id(versions.owner(y))]
        kind, kind2, which, which2 = a.kind, b.kind, a.which, b.which
        fixed = {"constant", "held"}
        if kind in fixed and kind2 in fixed:
            one, two = self.recording.held.get(id(a.owner)), other.recording.held.get(id(b.owner))
            if one is not None and two is not None and one[0] is two[0]:
                return _view(x, a, y, b)
            if not np.array_equal(x, y, equal_nan=x.dtype.kind == "f"):
                return (
                    "reads a constant that was another at the call before: Python, NumPy or a "
                    "random generator made it in the step. Pass it as an argument, or make it "
                    "once, outside; what is made of a float argument, make of mg.tensor(it)."
                )
            return ""
        if kind != kind2:
            return "read something else at the call before; the step has to do the same."
        places: tuple[Any, Any] = which, which2
        if kind == "made":
            places = self.number[id(a.owner)], other.number[id(b.owner)]
        if places[0] != places[1]:
            return "read something else at the call before; the step has to do the same."
        return _view(x, a, y, b)


def _view(x: Array, a: Root, y: Array, b: Root) -> str:
    if x.ctypes.data - a.start != y.ctypes.data - b.start or x.strides != y.strides:
        return "read other elements at the call before: an index that Python made of data."
    return ""


def _plain(value: Any) -> Any:
    """Parameters without their arrays, which are compared by where they lie."""
    if isinstance(value, np.ndarray):
        return "array"
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    return repr(value)


__all__: Sequence[str] = ["difference_of"]
