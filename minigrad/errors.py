"""The errors minigrad raises. Each says what was expected, what came, where, and what to do.

Every class also derives from the built-in that a Python reader would catch, so `except ValueError`
works for a wrong shape without knowing about minigrad.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


class MinigradError(Exception):
    """Base of all errors raised on purpose by minigrad."""


class ShapeError(MinigradError, ValueError):
    """Shapes or axes that do not fit."""


class DTypeError(MinigradError, TypeError):
    """A dtype that the operation does not take, or a mix of dtypes that has no safe meaning."""


class GradientError(MinigradError, RuntimeError):
    """A gradient that cannot be computed: no graph, a freed graph, edited data, no rule."""


class NoRuleError(GradientError, TypeError):
    """A function that has no gradient rule here was called on what needs a gradient."""


class NumericalError(MinigradError, FloatingPointError):
    """NaN or Inf where the caller asked to be told."""


class TraceError(MinigradError, TypeError):
    """A cell that cannot be compiled, and what to write instead."""


class JitError(MinigradError, RuntimeError):
    """A step that `mg.jit` cannot replay, and where it does what cannot be."""


class StateDictError(MinigradError, ValueError):
    """A state_dict that does not fit the module or optimiser it is loaded into."""


class FlowError(MinigradError, RuntimeError):
    """A recording that has nothing to show, and why."""


class DeclarationError(MinigradError, TypeError):
    """An op whose declaration is incomplete or contradicts itself."""


def describe(value: Any) -> str:
    """How an argument is named in a message: `float32[8, 16]`, `2.0`, `list`.

    >>> describe(np.zeros((8, 16), np.float32))
    'float32[8, 16]'
    """
    data = getattr(value, "_array", value)
    if isinstance(data, (np.ndarray, np.generic)):
        return f"{data.dtype}[{', '.join(map(str, data.shape))}]"
    if isinstance(data, (bool, int, float)):
        return repr(data)
    if hasattr(value, "_trace") and hasattr(value, "dtype"):  # a value of a step being compiled
        return f"{value.dtype}[{', '.join(map(str, value.shape))}]"
    return type(value).__name__


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, if one is near."""
    import difflib  # 3 ms at import, and seldom needed

    return next(iter(difflib.get_close_matches(name, list(known), 1)), None)


def suggest(name: str, known: Iterable[str]) -> str:
    """A question that names what is closest to `name`, or "".

    >>> suggest("vowel", ["vowels", "dates"])
    "did you mean 'vowels'? "
    """
    near = closest(name, known)
    return f"did you mean {near!r}? " if near else ""
