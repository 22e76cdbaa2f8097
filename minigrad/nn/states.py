"""The states of all layers and directions: as a recurrent layer takes them, and gives them back.

Stacked, each component (layers*directions, ...), as in torch.nn. Where cells differ in size nothing
can be stacked: then it is a tuple, one state for each layer and direction in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import ops
from ..errors import DTypeError, ShapeError, describe
from ..tensors import Tensor, as_tensor, viewed
from ..tree import leaves, map_leaves, named_leaves, rebuild, structure


def stacked(states: Sequence[Any]) -> Any:
    """One tree for the states of all cells."""
    if len(states) == 1:  # a view, where stack would copy
        return map_leaves(_in_front, states[0])
    if alike(states):
        return map_leaves(lambda *parts: ops.stack(parts), *states)
    return tuple(states)


def alike(states: Sequence[Any]) -> bool:
    """Whether all have the same structure and shapes."""
    if len(states) == 1:
        return True
    forms = [(structure(s), [t.shape for t in leaves(s)]) for s in states]
    return all(form == forms[0] for form in forms)


def apart(who: str, zeros: Sequence[Any], state: Any, batched: bool) -> list[Any]:
    """A given state as one for each cell. zeros: what each would start from.

    Raises ShapeError and DTypeError for one that does not fit.
    """
    if alike(zeros):
        given = _checked(who, zeros[0], state, "initial state", (len(zeros),), batched)
        if not batched:
            given = [ops.expand_dims(s, 1) for s in given]
        return [rebuild(zero, [s[i] for s in given]) for i, zero in enumerate(zeros)]
    if not isinstance(state, (tuple, list)) or len(state) != len(zeros):
        raise ShapeError(
            f"{who}: expected a state for each of {len(zeros)} layers*directions, "
            f"{structure(tuple(zeros))}, as their sizes differ; got {structure(state)}."
        )
    found = []
    for i, (zero, own) in enumerate(zip(zeros, state, strict=True)):
        given = _checked(who, zero, own, f"initial state [{i}]", (), batched)
        if not batched:
            given = [ops.expand_dims(s, 0) for s in given]
        found.append(rebuild(zero, given))
    return found


def _checked(
    who: str, zero: Any, state: Any, what: str, many: tuple[int, ...], batched: bool
) -> list[Tensor]:
    """The leaves of a state like `zero`, with `many` in front of each shape."""
    names, given = [name for name, _ in named_leaves(zero)], leaves(state)
    if len(given) != len(names):
        raise ShapeError(
            f"{who}: expected a state {structure(zero)}"
            f"{' of ' + ', '.join(names) if names[0] else ''}, got {structure(state)}."
        )
    given = [as_tensor(s) for s in given]
    for name, s, z in zip(names, given, leaves(zero), strict=True):
        called = f"{who}: {what}{' ' + name if name else ''}"
        expected = (*many, *(z.shape if batched else z.shape[1:]))
        if s.shape != expected:
            axes = ("layers*directions, " if many else "") + ("B, " if batched else "")
            raise ShapeError(
                f"{called} should be {list(expected)}, ({axes}size), got {describe(s)}. "
                f"batch_first does not apply to states."
            )
        if s.dtype != z.dtype:
            raise DTypeError(
                f"{called} is {describe(s)} and the layer {z.dtype}; use .astype(np.{z.dtype})."
            )
    return given


def _in_front(t: Tensor) -> Tensor:
    """(B, ...) -> (1, B, ...), a view."""
    if t._trace is not None:  # in the cell of a scan
        return ops.expand_dims(t, 0)
    return viewed(ops.expand_dims, t, {"axis": 0}, t._array[None])
