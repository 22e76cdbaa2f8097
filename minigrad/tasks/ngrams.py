"""What counting gives: symbols predicted from the n - 1 before them, as a baseline in bits.

    p(y | context) = (n(context, y) + k p(y | shorter context)) / (n(context) + k)

with k the number of different symbols seen after the context (Witten and Bell 1991), and 1 / C at
the end of the chain.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np


class NGram:
    """p(y | the order - 1 symbols before it), counted in sequences of numbers below `symbols`.

    skip: how many symbols at the start of each sequence are context only.

    >>> float(NGram([[0, 1, 0, 1]], order=1, symbols=2).bits([[0, 1]]))
    1.0
    """

    def __init__(self, texts: Iterable[Sequence[int]], order: int, symbols: int, skip: int = 0):
        self.order, self.symbols, self.skip = order, symbols, skip
        self.counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for text in texts:
            ids = list(map(int, text))
            for t in range(skip, len(ids)):
                for n in range(min(order, t + 1)):
                    self.counts[tuple(ids[t - n : t])][ids[t]] += 1

    def probability(self, context: tuple[int, ...], symbol: int) -> float:
        """p(symbol | context), of which the last order - 1 symbols are read."""
        p = 1.0 / self.symbols
        context = context[max(len(context) - self.order + 1, 0) :]
        for n in range(len(context) + 1):
            seen = self.counts.get(context[len(context) - n :])
            if seen is None:
                break
            k = len(seen)
            p = (seen[symbol] + k * p) / (seen.total() + k)
        return p

    def bits(self, texts: Iterable[Sequence[int]]) -> float:
        """Mean of -log2 p over all symbols that are predicted."""
        known: dict[tuple[int, ...], float] = {}
        total, count = 0.0, 0
        for text in texts:
            ids = tuple(map(int, text))
            for t in range(self.skip, len(ids)):
                window = ids[max(t - self.order + 1, 0) : t + 1]
                if window not in known:
                    known[window] = -float(np.log2(self.probability(window[:-1], window[-1])))
                total, count = total + known[window], count + 1
        return total / count
