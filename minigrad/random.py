"""One default random generator for initial weights, dropout and shuffling: `mg.seed(0)` restarts
it.

Everything random takes `generator=`; what is left out draws from the default one, so a script that
calls `mg.seed` once at its top is repeatable. A program starts with fresh entropy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .switches import state as switches

_default: np.random.Generator | None = None  # made on first use: numpy.random takes 15 ms to import


def seed(number: int) -> None:
    """Restarts the default generator from `number`, so that what follows can be repeated.

    >>> seed(0); a = default_generator(None).random()
    >>> seed(0); a == default_generator(None).random()
    True
    """
    global _default
    _default = np.random.default_rng(number)


def default_generator(generator: np.random.Generator | None) -> np.random.Generator:
    """`generator` itself if there is one, else the default."""
    global _default
    if generator is None:
        if _default is None:
            _default = np.random.default_rng()
        return _default
    if not isinstance(generator, np.random.Generator):
        raise TypeError(
            f"generator: expected numpy.random.Generator, got {type(generator).__name__}; "
            f"make one with np.random.default_rng(seed)."
        )
    return generator


def drawn(make: Callable[[], np.ndarray]) -> np.ndarray:
    """make(), random numbers that a step of training draws: a jitted one draws them anew."""
    return make() if switches.jit is None else switches.jit.drawn(make)


def set_state(generator: np.random.Generator, state: Any) -> None:
    """Makes a generator go on from `generator.bit_generator.state`, as somebody stored it.

    Raises ValueError for what is no state of that kind. NumPy checks less: MT19937 and Philox read
    past their buffers where the position in them is another than they would write.
    """
    before = generator.bit_generator.state
    try:
        _check_places(state)
        generator.bit_generator.state = state
    except Exception as error:
        generator.bit_generator.state = before
        kind = type(generator.bit_generator).__name__
        raise ValueError(f"this is no state of a generator {kind} ({error!r})") from None


def _check_places(state: dict[str, Any]) -> None:
    for holder, name, most in ((state["state"], "pos", 624), (state, "buffer_pos", 4)):
        place = holder.get(name, 0)
        if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place <= most:
            raise ValueError(f"{name} is {place!r}; expected 0 to {most}")
