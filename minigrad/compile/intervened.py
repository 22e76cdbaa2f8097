"""Interventions: ops behind the taps of a cell, whose operands come in with x at every step.

    v = edit(v, *operands[t])        where the cell says v = mg.tap("f", v)

They are part of the step, so they run in its loop, forward and in BPTT; and as operands are inputs,
other steps and other numbers are other data for the same loop. `mg.flow.intervene` says which.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from .. import ops
from ..errors import TraceError
from ..tape import heard
from ..tape import state as switches
from .taps import label

Place = tuple[str, str]  # (scope below the step's, name) of a tap, as `taps.label` gives it


def _clipped(v: Any, max_norm: Any) -> Any:
    """clip_gradient of rows that may have more axes than one, or none; max_norm (B, 1)."""
    if v.ndim == 2:
        return ops.clip_gradient(v, max_norm)
    flat = ops.reshape(v, (v.shape[0], -1))
    return ops.reshape(ops.clip_gradient(flat, max_norm), v.shape)


# what is done, to a value or to the gradient that comes back to it: name -> f(v, *operands)
OF_VALUES: dict[str, Callable[..., Any]] = {
    "clamp": ops.clip,
    "patch": lambda v, here, value: ops.where(here, value, v),
    "scale": ops.multiply,
    "noise": ops.add,
}
OF_GRADIENTS: dict[str, Callable[..., Any]] = {
    "clamp": ops.clamp_gradient,
    "scale": ops.scale_gradient,
    "noise": ops.shift_gradient,
    "detach": ops.scale_gradient,
    "clip_norm": _clipped,
}


class Edit(NamedTuple):
    """What is done at a tap; of: "value" or "gradient"."""

    how: str
    of: str


Edits = tuple[tuple[Place, tuple[Edit, ...]], ...]  # of a cell


class Hand(Protocol):
    """What the switch `intervening` holds: who changes tapped values."""

    def tap(self, name: str, tensor: Any) -> Any:
        """What the program goes on with, in place of a tapped value."""

    def around(self, cell: Any, init: Any, xs: Any, mode: str) -> tuple[Any, Any, str]:
        """(cell, xs, mode) that a scan is to run instead."""


def changed(name: str, v: Any, edits: Sequence[tuple[Edit, Sequence[Any]]]) -> Any:
    """A tapped value, changed; those who listen hear what the step goes on with.

    Of edits of the gradient the first is the first that meets it, which is the last op here; the
    gradient at the value that is heard is the changed one.
    """
    for edit, operands in edits:
        if edit.of == "value":
            v = OF_VALUES[edit.how](v, *operands)
    v = heard(name, v)
    for edit, operands in reversed(edits):
        if edit.of == "gradient":
            v = OF_GRADIENTS[edit.how](v, *operands)
    return v


class Intervened:
    """The cell on (x, operands): edits at its taps.

    touched: tap -> (T,) of bool, the steps at which something is done; for who shows it.
    gradients: False leaves out what is done to gradients.
    """

    def __init__(self, cell: Any, edits: Edits, touched: Any = None, gradients: bool = True):
        self.cell, self.edits, self.touched, self.gradients = cell, edits, touched, gradients
        self.__name__ = f"intervened_{getattr(cell, '__name__', type(cell).__name__)}"

    def __call__(self, state: Any, x: Any) -> tuple[Any, Any]:
        x, operands = x
        inside = _Edited(self.edits, operands, self.gradients)
        with switches.switched(intervening=inside):
            result: tuple[Any, Any] = self.cell(state, x)
        if missed := [place for place, _ in self.edits if place not in inside.met]:
            raise TraceError(
                f"scan: {named(missed[0])} was tapped in a first look at the "
                f"step, and is not in this one; tap it in every step, or intervene elsewhere."
            )
        return result

    def of_values(self) -> Intervened:
        """The same without edits of gradients."""
        return Intervened(self.cell, self.edits, self.touched, gradients=False)


class InStep:
    """A hand in one step: it `meets` every tap. What is tapped again under the same name, by a cell
    around this one, is given what it was given before.
    """

    def __init__(self) -> None:
        self._around = f"{switches.scope}/" if switches.scope else ""
        self._taken: Counter[Place] = Counter()
        self._given: dict[tuple[str, int], tuple[Any, Any]] = {}

    def tap(self, name: str, tensor: Any) -> Any:
        if (name, id(tensor)) in self._given:
            return self._given[name, id(tensor)][1]
        scope = switches.scope
        below = scope[len(self._around) :] if scope.startswith(self._around) else ""
        result = self.meets(label(below, name, self._taken), name, tensor)
        self._given[name, id(tensor)] = tensor, result
        self._given[name, id(result)] = result, result
        return result

    def meets(self, place: Place, name: str, tensor: Any) -> Any:
        """What the step goes on with, in place of a value tapped there."""

    def around(self, cell: Any, init: Any, xs: Any, mode: str) -> tuple[Any, Any, str]:
        """A scan inside the step: its steps are part of it, as they are in a compiled loop."""
        return cell, xs, "tape"


class _Edited(InStep):
    """Does the edits. met: the places that were tapped."""

    def __init__(self, edits: Edits, operands: Any, gradients: bool):
        super().__init__()
        self._edits = {
            place: [
                (edit, o) for edit, o in zip(own, given, strict=True)
                if gradients or edit.of == "value"
            ]
            for (place, own), given in zip(edits, operands, strict=True)
        }  # fmt: skip
        self.met: set[Place] = set()

    def meets(self, place: Place, name: str, tensor: Any) -> Any:
        self.met.add(place)
        return changed(name, tensor, self._edits.get(place, ()))


def named(place: Place) -> str:
    """What to call a place in words: `f`, or `upper/f#2`."""
    return "/".join(filter(None, place))
