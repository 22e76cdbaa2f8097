"""Hyperparameters, checked where they are given: numbers in a range, sizes, pairs.

A bool is no number here and a string none either: `Dropout(True)` and `lr="0.1"` are slips. Each
check returns the value as a plain Python number. Wrong types raise TypeError, numbers out of range
(NaN is in none) ValueError, sizes ShapeError.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import ShapeError, describe

INF = float("inf")


def number(what: str, value: Any, low: float = -INF, high: float = INF, bounds: str = "[)") -> Any:
    """A real number with low <= value < high, or as `bounds` says; an int stays an int.

    >>> number("SGD: lr", 0.1, 0.0)
    0.1
    """
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    array = isinstance(value, (np.generic, np.ndarray)) and not value.ndim
    if not (plain or (array and value.dtype.kind in "iuf")):
        raise TypeError(f"{what} is a number, {_range(low, high, bounds)}; got {_shown(value)}.")
    value = value.item() if isinstance(value, (np.generic, np.ndarray)) else value
    above = low < value if bounds[0] == "(" or low == -INF else low <= value
    below = value < high if bounds[1] == ")" or high == INF else value <= high
    if not (above and below):
        raise ValueError(f"{what} must be {_range(low, high, bounds)}, got {value}.")
    return value


def size(what: str, value: Any, least: int = 1) -> int:
    """An integer >= least: a number of features, layers, steps.

    >>> size("Linear: in_features", np.int64(3))
    3
    """
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        n = operator.index(value)
    except TypeError:
        raise TypeError(f"{what} is an integer >= {least}; got {_shown(value)}.") from None
    if n < least:
        raise ShapeError(f"{what} must be >= {least}, got {n}.")
    return n


def flag(what: str, value: Any) -> bool:
    """True or False, and nothing that only counts as one."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{what} is True or False; got {_shown(value)}.")
    return bool(value)


def pair(what: str, value: Any, check: Callable[[str, Any], Any]) -> tuple[Any, Any]:
    """Two values that `check` takes, such as Adam's betas."""
    try:
        if isinstance(value, (str, dict)):
            raise TypeError
        first, second = value
    except (TypeError, ValueError):
        raise TypeError(f"{what} is a pair of numbers; got {_shown(value)}.") from None
    return check(f"{what}[0]", first), check(f"{what}[1]", second)


def at_least_0(what: str, value: Any) -> Any:
    """A finite number >= 0."""
    return number(what, value, 0.0)


def below_1(what: str, value: Any) -> Any:
    """A number from 0 up to, and not including, 1."""
    return number(what, value, 0.0, 1.0)


def probability(what: str, value: Any) -> float:
    """A number from 0 to 1, as a float."""
    p = float(number(what, value))
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"{what} is a probability, from 0 to 1; got {p}.")
    return p


def _range(low: float, high: float, bounds: str) -> str:
    if low == -INF and high == INF:
        return "finite"
    lower = f"{'>' if bounds[0] == '(' else '>='} {low:g}"
    if high == INF:
        return f"{lower} and finite"
    if bounds == "[)":
        return f"from {low:g} up to (not including) {high:g}"
    return f"from {low:g} to {high:g}" if bounds == "[]" else f"between {low:g} and {high:g}"


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, (str, type(None))) else describe(value)
