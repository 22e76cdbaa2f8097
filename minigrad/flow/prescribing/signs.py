"""The sign test: of n pairs, in how many is the one lower? Exact, and for several questions at
once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

LEVEL = 0.05  # how often a remedy that does nothing may be called helpful, among all that are tried


def tail(wins: int, pairs: int) -> float:
    """P(X >= wins) of X ~ Binomial(pairs, 1/2): 1 where there are no pairs.

    How often a coin would do as well (Arbuthnott 1710).

    >>> tail(8, 8), tail(5, 6)
    (0.00390625, 0.109375)
    """
    if not 0 <= wins <= pairs:
        raise ValueError(f"tail: expected 0 <= wins <= pairs, got {wins} of {pairs}.")
    return sum(math.comb(pairs, k) for k in range(wins, pairs + 1)) / 2**pairs


def holm(ps: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Which of several p are small enough, together wrong with a probability of at most `level`.

    The smallest is held against level / m, the next against level / (m - 1), ..., until one is too
    large (Holm 1979).

    >>> holm([0.04, 0.01, 0.03])
    [False, True, False]
    """
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    found = [False] * len(ps)
    for rank, i in enumerate(order):
        if ps[i] > level / (len(ps) - rank):
            break
        found[i] = True
    return found


def pairs_needed(questions: int, level: float = LEVEL) -> int:
    """The least number of pairs with which the first of so many questions can be answered at all.

    >>> pairs_needed(1), pairs_needed(10)
    (5, 8)
    """
    return math.ceil(math.log2(max(questions, 1) / level))
