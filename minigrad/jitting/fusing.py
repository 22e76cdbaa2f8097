"""Neighbouring elementwise operations as one kernel: read once, written once.

Operations of a group have one shape and dtype (what is smaller broadcasts), and follow one another
with nothing else in between that writes. Results are rounded operation by operation, so that the
kernel gives the same bits as its operations one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import expr, versions
from ..kinds import FLOATS
from .steps import Step

Array = np.ndarray
_MOST = 12  # arrays of one kernel: registers hold no more


@dataclass
class Group:
    """Elementwise steps as one kernel."""

    steps: list[Step]
    text: str
    signature: str
    dtype: Any
    inputs: list[Array]
    outputs: list[Array]

    @property
    def names(self) -> list[str]:
        """What it computes, each op once."""
        return list(dict.fromkeys(step.name for step in self.steps))


def fused(steps: Sequence[Step], read: set[int]) -> list[Step | Group]:
    """The steps in order, neighbours joined. read: owners of memory that others read."""
    found: list[Step | Group] = []
    run: list[Step] = []

    def close() -> None:
        if run:
            found.extend(_grouped(run, read, steps))
            run.clear()

    for step in steps:
        if not step.elementwise or step.inputs[-1].dtype not in FLOATS or not _floats(step):
            close()
            found.append(step)
            continue
        if run and (run[0].outputs[0].shape, run[0].inputs[-1].dtype) != (
            step.outputs[0].shape, step.inputs[-1].dtype,
        ):  # fmt: skip
            close()
        run.append(step)
    close()
    return found


def _grouped(run: list[Step], read: set[int], steps: Sequence[Step]) -> list[Step | Group]:
    """A run of fitting steps as groups of no more arrays than a kernel takes."""
    if len(run) == 1:
        return list(run)
    for n in range(len(run), 1, -1):
        group = _group(run[:n], read, steps)
        if group is not None:
            rest = run[n:]
            return [group, *(_grouped(rest, read, steps) if rest else [])]
    return [run[0], *_grouped(run[1:], read, steps)]


def _group(run: list[Step], read: set[int], steps: Sequence[Step]) -> Group | None:
    """The kernel of a run; None where it would need too many arrays, or one is read askew."""
    inside = set(map(id, run))
    later = {id(versions.owner(x)) for step in steps if id(step) not in inside for x in step.inputs}
    inputs: list[Array] = []
    made: dict[int, Array] = {}  # id of the owner -> what the run makes
    for step in run:
        for x in step.inputs:
            y = made.get(id(versions.owner(x)))
            if y is not None and y is not x:
                return None  # a view of it: not element by element
            if y is None and not _is_number(x) and all(x is not known for known in inputs):
                inputs.append(x)
        made[id(versions.owner(step.outputs[0]))] = step.outputs[0]
    outputs = [y for owner, y in made.items() if owner in read or owner in later]
    if not outputs or len(inputs) + len(outputs) > _MOST:
        return None

    def body(*given: expr.Expr) -> tuple[Any, ...]:
        values = {id(x): e for x, e in zip(inputs, given, strict=True)}
        for step in run:
            assert step.op is not None
            parts = [values[id(x)] if id(x) in values else float(x) for x in step.inputs]
            values[id(step.outputs[0])] = step.op.body(*parts)
        return tuple([values[id(y)] for y in outputs])

    names = [f"x{k}" for k in range(len(inputs))]
    bools = [n for n, x in zip(names, inputs, strict=True) if x.dtype.kind == "b"]
    source = expr.source(body, names, bools)
    if source is None:
        return None
    kept = [inputs[names.index(n)] for n in source.inputs]
    return Group(run, source.text, source.signature, run[0].inputs[-1].dtype, kept, outputs)


def _floats(step: Step) -> bool:
    return all(x.dtype in FLOATS or x.dtype.kind == "b" for x in step.inputs)


def _is_number(x: Array) -> bool:
    """A Python number of the step's text, as `weak` makes them: written into the kernel."""
    return x.ndim == 0 and not x.flags.writeable and x.dtype.kind == "f"
