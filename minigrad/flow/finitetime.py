"""Finite-time Lyapunov exponents: how fast states part within a window of steps, and how unlike
one window is to another.

    exponents of a window of w steps from t:   log sigma_i(dS_{t+w}/dS_t) / w

Lyapunov exponents are averages over endless time. A gradient that is sent back over w steps meets
the Jacobians of those steps only: |dL/dS_t| <= e^{w lambda_1} |dL/dS_{t+w}| with the window's own
lambda_1, which some input reaches. Where it differs between windows a gradient vanishes at some
times and explodes at others, which no mean shows.

    found = mg.flow.finite_time_exponents(lstm, xs=xs, window=20)
    found.exponents[..., 0], found.spread[0]

(E. Ott, "Chaos in dynamical systems", 2002, section 9.4; for neural nets L. Storm et al.,
"Finite-time Lyapunov exponents of deep neural networks", 2024.)
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FlowError
from .products import PrecisionWarning, log_singular_values
from .steps import CHUNK_BYTES, Trajectory

Array = np.ndarray


@dataclass
class FiniteTime:
    """Exponents of windows, natural logarithms per step.

    exponents: (W, B, n), largest first, of window i over steps i * window .. (i + 1) * window in
    order of computation; -inf where a window leaves nothing of a direction, nan where it reaches
    beyond a row's length or a Jacobian is not finite. left: steps at the end that fill no window.
    """

    exponents: Array
    window: int
    left: int = 0

    @property
    def largest(self) -> Array:
        """(W, B): the most by which a perturbation, or a gradient sent back, can grow."""
        return self.exponents[..., 0]

    @property
    def mean(self) -> Array:
        """(n,), over the windows and rows that have exponents; nan if none has.

        The first is no less than the largest Lyapunov exponent of the same steps, and comes down
        to it as windows grow: a short window's best direction is not that of the next.
        """
        return self._measured().mean(axis=0) if len(self._measured()) else self._nothing()

    @property
    def spread(self) -> Array:
        """(n,), standard deviation over windows and rows; nan if there are fewer than two."""
        if len(self._measured()) < 2:
            return self._nothing()
        with np.errstate(invalid="ignore"):  # -inf has no distance to its mean
            return np.asarray(self._measured().std(axis=0, ddof=1))

    @property
    def growing(self) -> float:
        """The share of windows (and rows) in which something grows; nan if none was measured."""
        first = self._measured()[:, 0]
        return float((first > 0).mean()) if len(first) else math.nan

    def _measured(self) -> Array:
        flat = self.exponents.reshape(-1, self.exponents.shape[-1])
        return flat[~np.isnan(flat).any(axis=1)]

    def _nothing(self) -> Array:
        return np.full(self.exponents.shape[-1], math.nan)

    def __str__(self) -> str:
        measured, windows = self._measured(), self.exponents.shape[0]
        head = f"{windows} windows of {self.window} steps, {self.exponents.shape[1]} rows"
        if not len(measured):
            return f"{head}: no window lies within a row and is finite; nothing can be told"
        first = measured[:, 0]
        most = np.exp(min(self.window * float(first.max()), 700.0))
        return (
            f"{head}: largest exponent {self.mean[0]:.4g}, spread {self.spread[0]:.2g} (from "
            f"{first.min():.4g} to {first.max():.4g})\n"
            f"a gradient sent back over a window is multiplied by {most:.3g} at most; it can grow "
            f"in {100 * self.growing:.3g} % of the windows"
        )


def finite_time_exponents(
    cell: Any,
    init: Any = None,
    xs: Any = None,
    window: int = 10,
    steps: int | None = None,
    lengths: Any = None,
    reverse: bool = False,
) -> FiniteTime:
    """log sigma_i(dS_{t+w}/dS_t) / w of one window of w steps after the other.

    cell, init, xs, steps, lengths, reverse: as for `jacobians`. window: w, from 1 to T.
    Right where sigma spreads over more decades than a float has; a PrecisionWarning says which
    windows did not settle. Raises FlowError for a window that makes no sense.

    >>> import minigrad as mg
    >>> slope = np.array([2.0, 2.0, 0.5, 1.0])[:, None, None]           # h <- slope h
    >>> found = finite_time_exponents(lambda h, x: (h * x, h), mg.tensor([[1.0]]), slope, window=2)
    >>> found.largest.ravel().round(6).tolist(), found.mean.round(6).tolist(), found.growing
    ([0.693147, -0.346574], [0.173287], 0.5)
    """
    path = Trajectory("finite_time_exponents", cell, init, xs, steps, lengths, reverse)
    if isinstance(window, bool) or not isinstance(window, (int, np.integer)):
        raise FlowError(f"finite_time_exponents: window is an integer; got {window!r}.")
    if not 1 <= window <= path.steps:
        raise FlowError(
            f"finite_time_exponents: window, a number of steps, is from 1 to {path.steps} here; "
            f"got {window}."
        )
    B, n, w = path.rows, path.n, int(window)
    many = path.steps // w
    at_once = max(1, CHUNK_BYTES // (8 * w * B * n * n))
    found, eye, unsettled = np.full((many, B, n), np.nan), np.eye(n), []
    for first in range(0, many, at_once):
        last = min(first + at_once, many)
        parts = [J for _, J in path.chunks(first * w, last * w)]
        by_window = np.concatenate(parts).reshape(last - first, w, B, n, n).swapaxes(0, 1)
        factors = by_window.reshape(w, (last - first) * B, n, n)
        logs, loose = log_singular_values(factors, eye, eye, (last - first) * B)
        found[first:last] = logs.reshape(last - first, B, n) / w
        unsettled += [first + i // B for i in loose]
    whole = np.array([path.real(k) for k in range(many * w)]).reshape(many, w, B).all(axis=1)
    found[~whole] = np.nan
    if unsettled:
        warnings.warn(
            f"finite_time_exponents: the exponents of window "
            f"{', '.join(map(str, dict.fromkeys(unsettled)))} did not settle, and the smaller ones "
            f"may be wrong; ask for a shorter window.",
            PrecisionWarning,
            stacklevel=2,
        )
    return FiniteTime(found, w, path.steps - many * w)
