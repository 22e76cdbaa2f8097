"""From logits to choices: the next symbol of a sequence, drawn or searched for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import checks
from ..errors import ShapeError, describe
from ..random import default_generator
from ..tensors import as_tensor
from ..tree import map_leaves

Array = np.ndarray


def sample(
    logits: Any,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: np.random.Generator | None = None,
) -> Array:
    """logits (..., C) -> classes (...,) drawn from softmax(logits / temperature).

    temperature: 0 takes the largest; below 1 is bolder, above 1 more varied. top_k: only the k
    largest can be drawn (ties with the k-th too). generator: `mg.seed`'s by default.
    Raises ValueError for a negative temperature or a top_k below 1, ShapeError without classes.

    >>> sample([[0.0, 5.0, 1.0]], temperature=0.0).tolist()
    [1]
    """
    x = np.asarray(as_tensor(logits).numpy(), np.float64)
    if not x.ndim or not x.shape[-1]:
        raise ShapeError(f"sample: expected logits (..., C), got {describe(x)}.")
    checks.at_least_0("sample: temperature", temperature)
    if top_k is not None:
        checks.size("sample: top_k", top_k)
    if temperature == 0:
        return x.argmax(axis=-1)
    if top_k is not None and top_k < x.shape[-1]:
        least = np.partition(x, -top_k, axis=-1)[..., -top_k, None]
        x = np.where(x >= least, x, -np.inf)
    scaled = (x - x.max(axis=-1, keepdims=True)) / temperature
    p = np.exp(scaled)
    below = np.cumsum(p, axis=-1)
    draw = default_generator(generator).random(x.shape[:-1]) * below[..., -1]
    return (below <= draw[..., None]).sum(axis=-1)


class Hypothesis(NamedTuple):
    """A sequence that was searched for: its symbols, without begin and end, and its log p."""

    symbols: list[int]
    log_p: float


def beam_search(
    step: Callable[[Any, Array], tuple[Any, Any]],
    state: Any,
    begin: int,
    end: int,
    width: int = 5,
    max_steps: int = 100,
    length_penalty: float = 0.0,
    reorder: Callable[[Any, Array], Any] | None = None,
) -> list[Hypothesis]:
    """The most probable sequences from `begin` to `end`, best first.

    step: (state, symbols (N,)) -> (state, log p (N, C)), all hypotheses as rows. state: of one row.
    reorder: (state, rows (N,)) -> the state of these rows; by default every array is indexed.
    width: hypotheses kept after each step. length_penalty: a in log p / ((5 + n) / 6)^a, n symbols
    (Wu et al. 2016), by which finished ones are ranked; 0 compares log p itself.
    Hypotheses that have not ended after max_steps are given as they are, if none has ended.

    >>> table = np.log([[0.1, 0.6, 0.3], [0.5, 0.1, 0.4], [1.0, 1.0, 1.0]])  # 1 is followed by 0
    >>> best = beam_search(lambda s, x: (s, table[x]), np.zeros((1, 1)), begin=0, end=2, width=3)
    >>> best[0].symbols
    []
    """
    checks.size("beam_search: width", width)
    checks.size("beam_search: max_steps", max_steps)
    checks.number("beam_search: length_penalty", length_penalty)

    def rows_of(state: Any, rows: Array) -> Any:
        return map_leaves(lambda s: s[rows], state)

    pick = reorder or rows_of
    alive, scores = [[begin]], np.zeros(1)
    done: list[Hypothesis] = []
    for _ in range(max_steps):
        state, log_p = step(state, np.array([symbols[-1] for symbols in alive]))
        total = scores[:, None] + np.asarray(as_tensor(log_p).numpy(), np.float64)
        order = np.argsort(-total, axis=None, kind="stable")[: 2 * width]
        rows, symbols = np.unravel_index(order, total.shape)
        kept: list[tuple[int, int]] = []
        for row, symbol in zip(rows.tolist(), symbols.tolist(), strict=True):
            if symbol == end:
                done.append(Hypothesis(alive[row][1:], float(total[row, symbol])))
            elif len(kept) < width:
                kept.append((row, symbol))
        if not kept or _nothing_better(done, kept, total, width, length_penalty):
            break
        state = pick(state, np.array([row for row, _ in kept]))
        scores = np.array([total[row, symbol] for row, symbol in kept])
        alive = [[*alive[row], symbol] for row, symbol in kept]
    if not done:
        done = [Hypothesis(a[1:], float(s)) for a, s in zip(alive, scores, strict=True)]
    return sorted(done, key=lambda found: -_rank(found, length_penalty))[:width]


def _rank(found: Hypothesis, penalty: float) -> float:
    return found.log_p / ((5 + len(found.symbols)) / 6) ** penalty


def _nothing_better(
    done: list[Hypothesis],
    kept: Sequence[tuple[int, int]],
    total: Array,
    width: int,
    penalty: float,
) -> bool:
    """log p only falls: without a penalty, what is alive cannot overtake `width` better ones."""
    if penalty or len(done) < width:
        return False
    worst = sorted(found.log_p for found in done)[-width]
    return max(total[row, symbol] for row, symbol in kept) <= worst
