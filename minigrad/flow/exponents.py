"""Lyapunov exponents: how fast nearby states of a recurrent network part, or meet.

    Q_k R_k = J_k Q_{k-1},        lambda_i = mean over k of log |(R_k)_ii|

with J_k = dS_k/dS_{k-1} the Jacobian of step k and Q_0 orthonormal. lambda_1 is also the slope of
log |dS_T/dS_0|, and so the rate at which gradients that are sent back vanish (lambda_1 < 0) or
explode (lambda_1 > 0): a factor e^lambda_1 per step.

    exponents = mg.flow.lyapunov(cell, xs=xs)
    print(exponents)                        # the largest, with its error; dimension; entropy rate
    exponents.largest

(G. Benettin et al. 1980; for recurrent networks R. Engelken, F. Wolf, L. F. Abbott, "Lyapunov
spectra of chaotic recurrent neural networks", 2023; R. Vogt et al., "On Lyapunov exponents for
RNNs", 2020.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FlowError, ShapeError
from .products import pushed, qr
from .steps import Trajectory

Array = np.ndarray
PARTS = 20  # of a trajectory, whose means tell how uncertain the mean of all is
# When k products with a Jacobian cost less than the whole of it: measured for tanh networks and
# LSTMs on two cores. Below that size the cost is that of the calls.
LARGE, FEW = 128, 1 / 10


@dataclass
class Lyapunov:
    """Lyapunov exponents, natural logarithms per step.

    exponents: (k,), largest first; -inf where a singular Jacobian leaves nothing of a direction
    (or less than rounding: 1e-15 of what it leaves of others, in a single step).
    history: (steps, k), the means over the steps so far, and over rows: has it settled?
    per_row: (B, k), of each trajectory. standard_error: (k,), from the means of parts of the
    trajectories; nan if there is one part only. n: size of the state. warmup: steps run before.
    """

    exponents: Array
    history: Array
    per_row: Array
    standard_error: Array
    n: int
    warmup: int

    @property
    def largest(self) -> float:
        """lambda_1: negative if perturbations die out, positive if they grow (chaos)."""
        return float(self.exponents[0])

    @property
    def dimension(self) -> float:
        """Kaplan and Yorke's; nan if k < n exponents are too few to tell."""
        if len(self.exponents) < self.n and self.exponents.sum() >= 0:
            return math.nan
        return kaplan_yorke(self.exponents)

    @property
    def entropy_rate(self) -> float:
        """The sum of the positive exponents, nats per step (Pesin); a bound if k < n cuts it."""
        return float(self.exponents[self.exponents > 0].sum())

    def __str__(self) -> str:
        k, steps = len(self.exponents), len(self.history)
        error = self.standard_error[0]
        margin = f" +- {error:.2g}" if math.isfinite(error) else ""
        kind = "gradients and perturbations shrink" if self.largest < 0 else "they grow: chaos"
        kind = "neither grow nor shrink" if abs(self.largest) <= 2 * np.nan_to_num(error) else kind
        return (
            f"largest Lyapunov exponent {self.largest:.4g}{margin} per step "
            f"(x{math.exp(self.largest):.4g}): {kind}\n"
            f"{k} of {self.n} exponents, {steps} steps after {self.warmup} of warm-up, "
            f"{len(self.per_row)} rows\n"
            f"Kaplan-Yorke dimension {self.dimension:.4g}, entropy rate {self.entropy_rate:.4g} "
            f"nats per step"
        )


def lyapunov(
    cell: Any,
    init: Any = None,
    xs: Any = None,
    steps: int | None = None,
    k: int | None = None,
    warmup: int | None = None,
    reverse: bool = False,
    seed: int = 0,
) -> Lyapunov:
    """The k largest Lyapunov exponents of a cell along the trajectory from `init`, driven by `xs`.

    cell, init, xs, reverse: as for `jacobians`: any cell, or a layer. steps: how many, for a cell
        that reads no input (xs=None). Rows of the batch are trajectories of their own, and count
        alike.
    k: how many exponents; all n if left out. Few of many cost less.
    warmup: so many of the steps at the beginning are run but not counted, while the state settles
        and the directions align; a fifth of them if left out.
    seed: of the random directions to begin with; long trajectories forget it.
    Most of the time goes into NumPy's QR; for n of a few hundred it takes half as long, and on a
    busy machine a tenth, with OPENBLAS_NUM_THREADS=1.
    Raises FlowError if the state becomes NaN or Inf, saying when, and for a number that makes no
    sense.

    >>> import minigrad as mg
    >>> W = np.diag([2.0, 0.5, 0.25])
    >>> found = mg.flow.lyapunov(lambda h, x: (h @ W, h), mg.tensor([[0.0, 0.0, 0.0]]), steps=200)
    >>> found.exponents.round(6).tolist()           # log 2, log 1/2, log 1/4
    [0.693147, -0.693147, -1.386294]
    >>> round(found.dimension, 6)
    2.0
    """
    path = Trajectory("lyapunov", cell, init, xs, steps, None, reverse)
    k, warmup = _counts(path, k, warmup)
    bad = path.first_nonfinite()
    if bad is not None:
        raise FlowError(
            f"lyapunov: the state of row {bad[1]} holds NaN or Inf after {bad[0]} steps, so "
            f"nothing can be measured along it; try smaller weights or inputs, or look for the "
            f"place with mg.detect_anomaly()."
        )
    logs = np.stack(list(_growths(path, k, seed)))[warmup:]  # (steps, B, k)
    means = logs.mean(axis=(0, 1))
    logs = logs[..., np.argsort(-means, kind="stable")]
    counts = np.arange(1, len(logs) + 1)[:, None]
    history = np.cumsum(logs.mean(axis=1), axis=0) / counts
    return Lyapunov(
        exponents=history[-1].copy(),
        history=history,
        per_row=logs.mean(axis=0),
        standard_error=_standard_error(logs),
        n=path.n,
        warmup=warmup,
    )


def kaplan_yorke(exponents: Any) -> float:
    """The Kaplan-Yorke dimension: j + (lambda_1 + ... + lambda_j) / |lambda_{j+1}|.

    j is the last index up to which the sum is not negative: 0 if all are negative; the number of
    exponents if all of them add up to no less than 0.

    >>> kaplan_yorke([0.5, 0.0, -1.0]), kaplan_yorke([-1.0, -2.0]), kaplan_yorke([1.0, -0.5])
    (2.5, 0.0, 2.0)
    """
    values = np.asarray(exponents, dtype=np.float64)
    if values.ndim != 1 or not values.size or np.isnan(values).any():
        raise ShapeError(f"kaplan_yorke: expected exponents (k,) without NaN, got {exponents!r}.")
    values = -np.sort(-values)
    sums = np.cumsum(values)
    enough = np.flatnonzero(sums >= 0)
    j = int(enough[-1]) + 1 if len(enough) else 0
    if j in (0, len(values)):
        return float(j)
    return float(j + sums[j - 1] / -values[j])


def _counts(path: Trajectory, k: int | None, warmup: int | None) -> tuple[int, int]:
    k = path.n if k is None else k
    warmup = path.steps // 5 if warmup is None else warmup
    for name, value, least, most in [
        ("k, a number of exponents,", k, 1, path.n),
        ("warmup, a number of steps,", warmup, 0, path.steps - 1),
    ]:
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise FlowError(f"lyapunov: {name} is an integer; got {value!r}.")
        if not least <= value <= most:
            raise FlowError(f"lyapunov: {name} is from {least} to {most} here; got {value}.")
    return int(k), int(warmup)


def _growths(path: Trajectory, k: int, seed: int) -> Iterator[Array]:
    """log |R_ii| of each step, (B, k); -inf where the Jacobian leaves nothing of a direction."""
    rng = np.random.default_rng(seed)
    # random directions: unit vectors may lie in a subspace that the dynamics never leave
    q, _ = np.linalg.qr(rng.standard_normal((path.rows, path.n, k)))
    for moved in _moved(path, k):
        q, r = moved(q)
        with np.errstate(divide="ignore"):
            yield np.log(np.abs(np.diagonal(r, axis1=-2, axis2=-1)))


def _moved(path: Trajectory, k: int) -> Iterator[Any]:
    """For each step what maps directions (B, n, k) to Q, R of J_k times them."""
    if path.repeatable and path.n > LARGE and k <= FEW * path.n:
        for step in range(path.steps):
            yield lambda q, step=step: qr(_finite(step, path.pushed(step, q)))
        return
    for first, chunk in path.chunks():
        for step, jacobian in enumerate(chunk, start=first):
            factor = _finite(step, jacobian)
            yield lambda q, factor=factor: pushed(factor, q)


def _finite(step: int, a: Array) -> Array:
    if np.isfinite(a).all():
        return a
    raise FlowError(
        f"lyapunov: the Jacobian of step {step} holds NaN or Inf although the states do not; the "
        f"cell has no derivative there, as sqrt has none at 0."
    )


def _standard_error(logs: Array) -> Array:
    """Of the means over steps and rows: from those of parts of the trajectories."""
    many = min(PARTS, len(logs))
    parts = [part.mean(axis=0) for part in np.array_split(logs, many)]
    values = np.concatenate(parts)  # (parts * B, k)
    if len(values) < 2:
        return np.full(logs.shape[-1], np.nan)
    with np.errstate(invalid="ignore"):
        return np.asarray(values.std(axis=0, ddof=1) / np.sqrt(len(values)))
