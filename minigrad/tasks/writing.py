"""A model of symbols, and symbol after symbol out of it: each is the next one's input."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..nn import Embedding, Linear, Module, sample
from ..tape import no_grad
from ..tensors import Tensor
from .base import Settings, output_size, recurrent

Array = np.ndarray
IGNORED = -100  # a target that no loss counts


class SymbolModel(Module):
    """Symbols (T, B) and a state -> logits (T, B, C) for what comes after each, and the state."""

    def __init__(self, settings: Settings, symbols: int, embedding: int, generator: Any):
        self.embed = Embedding(symbols, embedding, generator=generator)
        self.recurrent = recurrent(settings, embedding, generator)
        self.head = Linear(output_size(settings), symbols, generator=generator)

    def forward(self, ids: Array, state: Any = None) -> tuple[Tensor, Any]:
        hs, state = self.recurrent(self.embed(ids), state)
        return self.head(hs), state


def following(ids: Array, lengths: Array) -> Array:
    """What comes after each step of ids (T, B), (T - 1, B): IGNORED behind the end.

    >>> following(np.array([[2, 2], [7, 8], [3, 9], [0, 3]]), np.array([3, 4])).T.tolist()
    [[7, 3, -100], [8, 9, 3]]
    """
    behind = np.arange(1, len(ids))[:, None] >= lengths
    return np.where(behind, IGNORED, ids[1:])


def write(
    model: Any,
    state: Any,
    symbols: Array,
    steps: int,
    end: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: np.random.Generator | None = None,
) -> list[list[int]]:
    """What a model writes after `symbols` (N,): N lists of at most `steps` symbols, up to `end`.

    model: (ids (T, N), state) -> (logits (T, N, C), state). temperature 0 takes the most probable.
    """
    written = []
    open_ = np.ones(len(symbols), dtype=bool)
    with no_grad():
        for _ in range(steps):
            logits, state = model(symbols[None], state)
            symbols = sample(logits.numpy()[0], temperature, top_k, generator)
            written.append(symbols)
            if end is not None:
                open_ &= symbols != end
                if not open_.any():
                    break
    rows = np.array(written).T.tolist()
    return [row[: row.index(end)] if end in row else row for row in rows]
