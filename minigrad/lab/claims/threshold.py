"""Where gradients can vanish, and where they can explode: a threshold on a singular value.

    h_t = W phi(h_{t-1}) + b,      |dh_T/dh_0| <= (sigma_max(W) max phi')^T

With max phi' = 1 (tanh) or 1/4 (sigmoid), vanishing is certain if sigma_max(W) < 1 (tanh) or 4
(sigmoid), and exploding needs sigma_max(W) above it. Above, nothing is certain.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...flow import jacobians
from ...ops import matmul, sigmoid, tanh
from ...tensors import tensor
from . import charts, figures
from .base import Claim, Data, Row, Source, Tell, column, different

PASCANU = Source(
    "R. Pascanu, T. Mikolov, Y. Bengio", 2013, "On the difficulty of training recurrent networks"
)
LIMIT = {"tanh": 1.0, "sigmoid": 4.0}  # 1 / the steepest slope
KINDS = ("gaussian", "orthogonal")
N, STEPS = 32, 100


def growth(phi: str, kind: str, ratio: float, seed: int) -> float:
    """log |dh_T/dh_0| / T of a random network with sigma_max(W) = ratio * LIMIT[phi].

    Biases keep every sum near the middle of phi, where its slope is steepest.
    """
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(N, N))
    if kind == "orthogonal":
        W, _ = np.linalg.qr(W)
    W *= ratio * LIMIT[phi] / np.linalg.svd(W, compute_uv=False)[0]
    b = tensor(np.zeros(N) if phi == "tanh" else -0.5 * W.sum(axis=1))
    squash, weights = (tanh if phi == "tanh" else sigmoid), tensor(W.T)
    init = tensor(rng.normal(size=(1, N)))
    found = jacobians(lambda h, x: (matmul(squash(h), weights) + b, h), init, steps=STEPS)
    return float(found.between(STEPS, 0).log_norm[0]) / STEPS


def measure(settings: Mapping[str, Any], seed: int, tell: Tell) -> Data:
    """The growth of each squashing function, kind of matrix, singular value and seed."""
    rows: list[dict[str, Any]] = []
    for phi in LIMIT:
        for kind in KINDS:
            for ratio in settings["ratios"]:
                for s in range(seed, seed + settings["seeds"]):
                    rate = growth(phi, kind, ratio, s)
                    rows.append(
                        {"phi": phi, "W": kind, "ratio": ratio, "seed": s, "log growth": rate}
                    )
            tell(f"{phi}, {kind}: {len(rows)} networks so far")
    return {"rows": rows}


def judge(data: Data) -> list[Row]:
    """The bound below the threshold; no exploding there; and both fates above it."""
    rows = data["rows"]
    found = []
    for phi, limit in LIMIT.items():
        mine = [row for row in rows if row["phi"] == phi]
        below = [row for row in mine if row["ratio"] < 1]
        bound = "sigma_max^T" if limit == 1 else f"(sigma_max / {limit:g})^T"
        excess = max(row["log growth"] - np.log(row["ratio"]) for row in below)
        slowest = max(row["log growth"] for row in below)
        found.append(
            Row(
                what=f"{phi}: below sigma_max = {limit:g}, vanishing is certain",
                paper=PASCANU.says(
                    f"sigma_max < {limit:g} suffices for vanishing: |dh_T/dh_0| <= {bound}",
                    "section 2.1, eqs. (6) and (7)",
                ),
                here=f"of {len(below)} networks the slowest has x{np.exp(slowest):.3f} a step; "
                f"the nearest to the bound has {np.exp(excess):.4f} of it a step",
                asked="every one shrinks, at least as fast as the bound says",
                holds=bool(slowest < 0 and excess <= 1e-9),
            )
        )
        exploding = [row for row in mine if row["log growth"] > 0]
        least = min((row["ratio"] for row in exploding), default=np.nan) * limit
        found.append(
            Row(
                what=f"{phi}: exploding needs sigma_max > {limit:g}",
                paper=PASCANU.says(f"sigma_max > {limit:g} is necessary for it", "section 2.1"),
                here=f"{len(exploding)} networks explode, the first at sigma_max = {least:g}",
                asked="some do, all of them above the threshold",
                holds=bool(exploding) and bool(least > limit),
            )
        )
    above = [row for row in rows if row["ratio"] > 1]
    safe = sum(row["log growth"] < 0 for row in above)
    found.append(
        Row(
            what="Above the threshold, exploding is not certain",
            paper="",
            expected="what is necessary need not suffice: both fates are met",
            here=f"{safe} of {len(above)} networks above it vanish all the same",
            asked="some do, and not all",
            holds=0 < safe < len(above),
        )
    )
    return found


def chart(data: Data, blocks: str) -> str:
    """The mean growth against sigma_max, a line for each phi and kind."""
    lines = []
    for phi in LIMIT:
        for kind in KINDS:
            ratios, mean = _curve(data, phi, kind)
            lines.append((f"{phi}, {kind}", mean))
    span = f"sigma_max from {ratios[0]:g} to {ratios[-1]:g} times the threshold; log growth a step"
    return charts.lines(lines, blocks, span, log=False)


def _curve(data: Data, phi: str, kind: str) -> tuple[list[float], np.ndarray]:
    rows = [row for row in data["rows"] if row["phi"] == phi and row["W"] == kind]
    ratios = different(rows, "ratio")
    return ratios, np.array([column(rows, "log growth", ratio=r).mean() for r in ratios])


def draw(data: Data, figure: Any) -> None:
    """Growth against sigma_max with the bound, one picture for each squashing function."""
    for ax, (phi, limit) in zip(figures.axes_of(figure, 2), LIMIT.items(), strict=True):
        ax.axhline(0.0, color="#8a8f9c", linewidth=0.8)
        ax.axvline(limit, color="#8a8f9c", linewidth=0.8, linestyle=":")
        for i, kind in enumerate(KINDS):
            ratios, mean = _curve(data, phi, kind)
            sigma = limit * np.array(ratios)
            for row in data["rows"]:
                if row["phi"] == phi and row["W"] == kind:
                    at = limit * row["ratio"], row["log growth"]
                    ax.plot(*at, "o", color=figures.HUES[i], markersize=3, alpha=0.4)
            ax.plot(sigma, mean, label=f"W {kind}", **figures.line_style(i))
        ax.plot(sigma, np.log(ratios), color="#4b5563", linestyle="--", label="bound", linewidth=1)
        ax.set_xscale("log")
        ticks = [limit * r for r in (0.5, 1, 2, 4, 8)]
        ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
        ax.minorticks_off()
        ax.set_xlabel(r"$\sigma_{max}(W)$")
        ax.set_ylabel(r"log $|dh_T/dh_0|$ / T")
        figures.title(ax, f"{phi}: threshold {limit:g}")
        figures.legend(ax, 3)


CLAIM = Claim(
    name="threshold",
    title="Below a singular value vanishing is certain; exploding needs more",
    sources=(PASCANU,),
    scale=f"the theorem has no scale; checked on random networks of {N} units over {STEPS} steps.",
    full={"seeds": 10, "ratios": [0.5, 0.8, 0.95, 1.1, 1.5, 2.0, 4.0, 8.0]},
    quick={"seeds": 3, "ratios": [0.5, 0.95, 1.1, 2.0, 8.0]},
    measure=measure,
    judge=judge,
    draw=draw,
    chart=chart,
)
