"""What a function is differentiated by, and the vectors that go with it, in any form.

Parameters are a Module, a Tensor or an array, or several in a list, a tuple or a dict; vectors one
for each in the same forms, or one array (n,) for all of their n elements.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .border import needs_gradient, values
from .errors import DTypeError, GradientError, ShapeError, describe
from .tensors import Tensor, tensor, wrap

Array = np.ndarray


class Parameters:
    """What is differentiated by, and how a function of it is called."""

    def __init__(self, who: str, function: Any, given: Any):
        self.who, self.given = who, given
        if not callable(function):
            raise TypeError(
                f"{who}: expected a function to differentiate, got {describe(function)}; write one "
                f"that computes it, lambda: loss(model(x), y)."
            )
        self.names: list[Any]
        named = getattr(given, "named_parameters", None)
        self.single = False
        if named is not None:
            items = {name: p for name, p in named() if p.requires_grad}
        elif isinstance(given, Mapping):
            items = dict(given)
        elif _several(given):
            items = dict(enumerate(given))
        else:
            items, self.single = {0: given}, True
        if not items:
            raise GradientError(f"{who}: expected parameters, got {describe(given)} without any.")
        self.names, self.takes = list(items), _takes_arguments(function)
        self.tensors = [self._leaf(name, p) for name, p in items.items()]

    def _leaf(self, name: Any, given: Any) -> Tensor:
        if isinstance(given, Tensor) and given.requires_grad:
            return given
        if not self.takes:
            raise GradientError(
                f"{self.who}: parameter {name!r}, {describe(given)}, requires no gradient, and the "
                f"function takes no arguments: give it what it reads, or write it as f(w)."
            )
        leaf = tensor(values(given))
        if leaf.dtype.kind != "f":
            raise DTypeError(
                f"{self.who}: parameter {name!r} is {describe(leaf)}; expected floats."
            )
        return leaf.requires_grad_()

    def call(self, function: Any) -> Any:
        if not self.takes:
            return function()
        if hasattr(self.given, "named_parameters"):
            return function(self.given)
        if isinstance(self.given, Mapping):
            return function(dict(zip(self.names, self.tensors, strict=True)))
        return function(*self.tensors)

    def check(self, gradients: Sequence[Any], what: str) -> None:
        if all(g is None for g in gradients):
            raise GradientError(
                f"{self.who}: {what} does not depend on any of the parameters; compute it from "
                f"them, outside of mg.no_grad() and without detach()."
            )

    def product(self, of: Callable[[list[Array]], list[Array]], vectors: Any) -> Any:
        """The product with the vectors; the function of vectors if there are none."""

        def times(vectors: Any) -> Any:
            given, back = self._taken(vectors)
            return back([wrap(g, None, False) for g in of(given)])

        return times if vectors is None else times(vectors)

    def _taken(self, vectors: Any) -> tuple[list[Array], Callable[[list[Tensor]], Any]]:
        """An array for each parameter, and the way back to the form that they came in."""
        if isinstance(vectors, Mapping):
            if set(vectors) != set(self.names):
                raise ShapeError(
                    f"{self.who}: vectors are named {list(vectors)}; the parameters are "
                    f"{self.names}."
                )
            return self._fitted([vectors[name] for name in self.names]), self._as_dict
        if isinstance(vectors, (Tensor, np.ndarray)) and not self._is_one(np.shape(vectors)):
            return self._split(self._plain(vectors, "the vector")), _flat
        if self.single and not _several(vectors):
            return self._fitted([vectors]), lambda found: found[0]
        given = list(vectors)
        if len(given) != len(self.tensors):
            raise ShapeError(
                f"{self.who}: {len(given)} vectors for {len(self.tensors)} parameters; expected "
                f"one for each, in its shape, or one array for all."
            )
        kind = tuple if isinstance(vectors, tuple) else list
        return self._fitted(given), kind

    def _as_dict(self, found: list[Tensor]) -> dict[Any, Tensor]:
        return dict(zip(self.names, found, strict=True))

    def _is_one(self, shape: tuple[int, ...]) -> bool:
        return self.single and shape == self.tensors[0].shape

    def _plain(self, vector: Any, which: str) -> Array:
        if needs_gradient(vector):
            raise GradientError(
                f"{self.who}: {which} requires a gradient, and the product is not recorded; pass "
                f"vector.detach()."
            )
        return np.asarray(values(vector))

    def _fitted(self, vectors: list[Any]) -> list[Array]:
        found = []
        for name, v, t in zip(self.names, vectors, self.tensors, strict=True):
            array = self._plain(v, f"vector {name!r}")
            if array.shape != t.shape:
                raise ShapeError(
                    f"{self.who}: vector {name!r} is {describe(array)}, its parameter "
                    f"{describe(t)}; expected one shape."
                )
            if array.dtype.kind != "f":
                raise DTypeError(
                    f"{self.who}: vector {name!r} is {describe(array)}; expected floats."
                )
            found.append(np.array(array, t.dtype))
        return found

    def _split(self, flat: Array) -> list[Array]:
        sizes = [t.size for t in self.tensors]
        if flat.shape != (sum(sizes),):
            raise ShapeError(
                f"{self.who}: the vector is {describe(flat)}; expected all {sum(sizes)} elements "
                f"of the parameters, in order, or an array for each of {self.names}."
            )
        parts = np.split(flat, np.cumsum(sizes)[:-1])
        return self._fitted([p.reshape(t.shape) for p, t in zip(parts, self.tensors, strict=True)])


def _flat(found: list[Tensor]) -> Tensor:
    return wrap(np.concatenate([t._array.ravel() for t in found]), None, False)


def _several(given: Any) -> bool:
    """Whether it is a collection of arrays, and not one array, as nested lists of numbers are."""
    if isinstance(given, list):
        return not given or any(isinstance(x, (Tensor, np.ndarray)) for x in given)
    return isinstance(given, (tuple, Iterator))


def _takes_arguments(function: Any) -> bool:
    """Whether a function has arguments that it must be given."""
    try:
        given = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some built-in functions have none to show
        return True
    return any(
        p.default is p.empty and p.kind is not p.VAR_KEYWORD and p.kind is not p.KEYWORD_ONLY
        for p in given
    )
