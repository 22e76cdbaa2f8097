"""One default random generator for initial weights, dropout and shuffling: `mg.seed(0)` restarts
it.

Everything random takes `generator=`; what is left out draws from the default one, so a script that
calls `mg.seed` once at its top is repeatable. A program starts with fresh entropy.
"""

from __future__ import annotations

import numpy as np

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
