"""How a cell is called: `state, y = cell(state, x)`. The one place that says when that is not so.

A state of another structure, shape or dtype would broadcast, or be taken apart row by row, and
compute something; so a cell checks its state against its own `init_state` before it runs.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ..errors import DTypeError, ShapeError, describe
from ..tree import leaves, named_leaves, structure


class Form(NamedTuple):
    """What a cell's state looks like: its structure, and the names and sizes of its leaves."""

    structure: str
    names: tuple[str, ...]
    sizes: tuple[tuple[int, ...], ...]

    def __str__(self) -> str:
        parts = [
            f"{name or 'a Tensor'} ({', '.join(['B', *map(str, size)])})"
            for name, size in zip(self.names, self.sizes, strict=True)
        ]
        return parts[0] if len(parts) == 1 else f"({', '.join(parts)})"


_FORMS: weakref.WeakKeyDictionary[Any, Form] = weakref.WeakKeyDictionary()


def form_of(state: Any) -> Form:
    """The form of a state (B, ...)."""
    named = list(named_leaves(state))
    names, sizes = tuple(n for n, _ in named), tuple(tuple(t.shape[1:]) for _, t in named)
    return Form(structure(state), names, sizes)


def check_call(cell: Any, state: Any, x: Any) -> None:
    """Raises ShapeError or DTypeError, saying what to write, unless this is cell(state, x).

    Asked of cells whose first state is made here; the init_state of a class of your own is yours.
    """
    if not type(cell).init_state.__module__.startswith("minigrad."):
        return
    first = x[0] if isinstance(x, (tuple, list)) and len(x) else x  # (x, what was drawn for it)
    lead = np.shape(first) if not hasattr(first, "shape") else first.shape
    form = _FORMS.get(cell)
    if form is None or not _fits(form, state, lead[:-1], cell.weight_ih.dtype):
        form = _FORMS[cell] = form_of(cell.init_state(1))
        if not _fits(form, state, lead[:-1], cell.weight_ih.dtype):
            _refuse(cell, form, state, x, lead[:-1])


def _fits(form: Form, state: Any, lead: Sequence[int], dtype: Any) -> bool:
    """Is it a state of this form, with x's leading axes and the weights' dtype?"""
    return _alike(form, state) and all(
        getattr(t, "shape", None) == (*lead, *size) and t.dtype == dtype
        for t, size in zip(leaves(state), form.sizes, strict=True)
    )


def _alike(form: Form, state: Any) -> bool:
    return structure(state).replace("[", "(").replace("]", ")") == form.structure


def _refuse(cell: Any, form: Form, state: Any, x: Any, lead: Sequence[int]) -> NoReturn:
    who, dtype = type(cell).__name__, cell.weight_ih.dtype
    head = (
        f"{who}: expected cell(state, x) with state {form} and x (B, {cell.input_size}); got the "
        f"state {_listing(state)} and x {_listing(x)}."
    )
    alike = _alike(form, state) and _ends(leaves(state), form.sizes)
    swapped = _alike(form, x) and _ends(leaves(x), form.sizes)
    if swapped and not alike and _ends([state], ((cell.input_size,),)):
        raise ShapeError(
            f"{head} That is cell(x, state): the state comes first here. Write "
            f"`state, y = cell(state, x)`; what comes back is the pair (state, y)."
        )
    if not _alike(form, state):
        apart = ", ".join(form.names)
        or_so = f", or `({apart}), y = cell(({apart}), x)`" if len(form.sizes) > 1 else ""
        raise ShapeError(
            f"{head} A cell returns the pair (state, y): write `state, y = cell(state, x)`{or_so}, "
            f"and pass on the state alone."
        )
    if alike and all(t.shape[:-1] == lead for t in leaves(state)):
        raise DTypeError(
            f"{who}: the state is {_listing(state)} and the weights are {dtype}; use "
            f"astype(np.{dtype}) on it, or start from cell.init_state(batch)."
        )
    raise ShapeError(
        f"{head} Start from cell.init_state(batch) with x's batch, and pass on the state of the "
        f"pair (state, y) that the cell returns."
    )


def _ends(parts: Sequence[Any], sizes: Sequence[tuple[int, ...]]) -> bool:
    """Do the shapes of the parts end in these sizes?"""
    return len(parts) == len(sizes) and all(
        tuple(getattr(t, "shape", ()))[1:] == size for t, size in zip(parts, sizes, strict=True)
    )


def _listing(tree: Any) -> str:
    if isinstance(tree, (tuple, list)):
        return f"({', '.join(map(_listing, tree))})"
    if isinstance(tree, dict):
        return f"{{{', '.join(f'{k}: {_listing(v)}' for k, v in tree.items())}}}"
    return describe(tree)
