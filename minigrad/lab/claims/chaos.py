"""Random networks turn chaotic when their weights are strong enough.

    h <- g W tanh(h),   W_ij ~ N(0, 1/N)

Quiet for g < 1 (largest Lyapunov exponent below 0, every state dies out), chaotic for large g, with
an attractor whose dimension grows in proportion to N.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...flow import lyapunov
from ...ops import matmul, tanh
from ...tensors import tensor
from . import charts, figures
from .base import Claim, Data, Row, Source, Tell, column, different

SOMPOLINSKY = Source(
    "H. Sompolinsky, A. Crisanti, H. J. Sommers",
    1988,
    "Chaos in random neural networks",
    abstract_only=True,
)
ENGELKEN = Source(
    "R. Engelken, F. Wolf, L. F. Abbott",
    2023,
    "Lyapunov spectra of chaotic recurrent neural networks",
    abstract_only=True,
)
# minigrad's own: of networks drawn alike, measured before and kept to tell whether anything moves.
# Largest exponent at N = 100 after 600 steps, and the spread between networks.
FIGURES = {
    0.5: (-0.66, 0.08), 0.8: (-0.19, 0.08), 0.9: (-0.07, 0.08), 1.0: (-0.02, 0.08),
    1.1: (0.00, 0.08), 1.5: (0.04, 0.06), 2.0: (0.14, 0.09), 3.0: (0.30, 0.06),
}  # fmt: skip
DIMENSIONS = {50: 0.23, 100: 0.29, 200: 0.28}  # Kaplan-Yorke dimension / N at g = 3
N, STEPS = 100, 600


def exponents(n: int, g: float, seed: int, steps: int, k: int | None) -> Any:
    """The Lyapunov spectrum of one network, from one random state."""
    rng = np.random.default_rng(seed)
    W = tensor((g * rng.normal(size=(n, n)) / np.sqrt(n)).T)
    init = tensor(rng.normal(size=(1, n)))
    return lyapunov(lambda h, x: (matmul(tanh(h), W), h), init, steps=steps, k=k)


def measure(settings: Mapping[str, Any], seed: int, tell: Tell) -> Data:
    """lambda_1 for every g and seed; whole spectra at g = 3 for every size."""
    rows: list[dict[str, Any]] = []
    spectra: dict[str, list[float]] = {}
    seeds = range(seed, seed + settings["seeds"])
    for g in settings["gains"]:
        for s in seeds:
            found = exponents(N, g, s, STEPS, k=1)
            rows.append({"N": N, "g": g, "seed": s, "largest": found.largest})
        tell(f"g = {g}: lambda_1 = {np.mean(column(rows, 'largest', g=g)):.3f}")
    for n in settings["sizes"]:
        for s in seeds if n < max(settings["sizes"]) else [seed]:
            found = exponents(n, 3.0, s, STEPS, k=None)
            spectra.setdefault(str(n), found.exponents.tolist())
            rows.append(
                {"N": n, "g": 3.0, "seed": s, "largest": found.largest, "part": "spectrum",
                 "dimension": found.dimension, "entropy rate": found.entropy_rate}
            )  # fmt: skip
        tell(f"N = {n}: dimension {rows[-1]['dimension']:.1f}")
    return {"rows": rows, "spectra": spectra}


def judge(data: Data) -> list[Row]:
    """The sign below and above g = 1, the figures, and a dimension in proportion to N."""
    single = [row for row in data["rows"] if row.get("part") != "spectrum"]
    gains = different(single, "g")
    mean = {g: float(np.mean(column(single, "largest", g=g))) for g in gains}
    ends = {g: column(single, "largest", g=g) for g in gains}
    off = {g: max(abs(ends[g] - FIGURES[g][0])) for g in gains}
    spectra = [row for row in data["rows"] if row.get("part") == "spectrum"]
    sizes = different(spectra, "N")
    ratio = {n: float(np.mean(column(spectra, "dimension", N=n))) / n for n in sizes}
    return [
        Row(
            what="The sign of the largest Lyapunov exponent",
            paper=SOMPOLINSKY.says(
                "in continuous time, exactly for N to infinity, a stationary phase turns into a "
                "chaotic one at a critical value of the gain",
                "abstract",
            ),
            expected="the critical gain is g = 1: the eigenvalues of g W fill a disc of radius g, "
            "and tanh has slope 1 at rest",
            here=_list(mean),
            asked="every network is below 0 at g <= 0.9, every one above 0 at g >= 2",
            holds=bool(
                all(ends[g].max() < 0 for g in gains if g <= 0.9)
                and all(ends[g].min() > 0 for g in gains if g >= 2)
            ),
        ),
        Row(
            what="Its size at N = 100, 600 steps",
            paper="",
            expected=_list({g: FIGURES[g][0] for g in gains}) + "; figures of minigrad's own, of "
            "networks drawn alike",
            here=f"off by at most {max(off.values()):.3f}",
            asked="every network within the spread of networks drawn alike, 0.06 to 0.09",
            holds=all(off[g] <= FIGURES[g][1] for g in gains),
        ),
        Row(
            what="Kaplan-Yorke dimension of the attractor over N, at g = 3",
            paper=ENGELKEN.says(
                "chaos is extensive: the Lyapunov spectrum does not depend on the size, and the "
                "attractor has far fewer dimensions than the network has units",
                "abstract",
            ),
            expected=_list({n: DIMENSIONS[n] for n in sizes}, "N") + "; figures of minigrad's own",
            here=_list(ratio, "N"),
            asked="within 0.08 of the figure at every N",
            holds=all(abs(ratio[n] - DIMENSIONS[n]) <= 0.08 for n in sizes),
        ),
    ]


def _list(values: Mapping[Any, float], name: str = "g") -> str:
    return f"at {name} = " + ", ".join(f"{k}: {v:.2f}" for k, v in values.items())


def chart(data: Data, blocks: str) -> str:
    """The spectra of all sizes, as sparklines."""
    spectra = [(f"N = {n}", np.array(values)) for n, values in data["spectra"].items()]
    return charts.lines(spectra, blocks, "Lyapunov spectra at g = 3, largest first", log=False)


def draw(data: Data, figure: Any) -> None:
    """lambda_1 against g; the spectra over i / N."""
    left, right = figures.axes_of(figure, 2)
    single = [row for row in data["rows"] if row.get("part") != "spectrum"]
    gains = different(single, "g")
    left.axhline(0.0, color="#8a8f9c", linewidth=0.8)
    left.axvline(1.0, color="#8a8f9c", linewidth=0.8, linestyle=":")
    for row in single:
        left.plot(row["g"], row["largest"], "o", color=figures.HUES[0], markersize=4, alpha=0.5)
    mean = [np.mean(column(single, "largest", g=g)) for g in gains]
    left.plot(gains, mean, label="measured here (dots: each network)", **figures.line_style(0))
    published = [FIGURES[g][0] for g in gains]
    left.plot(gains, published, "x", color=figures.HUES[1], label="expected", zorder=4)
    left.set_xlabel("g, strength of the weights")
    left.set_ylabel(r"largest Lyapunov exponent $\lambda_1$")
    figures.title(left, f"quiet below g = 1, chaos above (N = {N})")
    figures.legend(left, 2)
    right.axhline(0.0, color="#8a8f9c", linewidth=0.8)
    for i, (n, values) in enumerate(data["spectra"].items()):
        places = (np.arange(len(values)) + 0.5) / len(values)
        right.plot(places, values, label=f"N = {n}", **figures.line_style(i))
    right.set_xlabel("i / N")
    right.set_ylabel(r"$\lambda_i$ at g = 3")
    figures.title(right, "one spectrum for every size")
    figures.legend(right, len(data["spectra"]))


CLAIM = Claim(
    name="chaos",
    title="Random networks turn chaotic at g = 1",
    sources=(SOMPOLINSKY, ENGELKEN),
    scale="networks of up to 200 units and 600 steps in discrete time; the theory is of infinitely "
    "many units in continuous time.",
    full={"seeds": 5, "gains": list(FIGURES), "sizes": [50, 100, 200]},
    quick={"seeds": 2, "gains": [0.5, 0.9, 1.1, 2.0, 3.0], "sizes": [50, 100]},
    measure=measure,
    judge=judge,
    draw=draw,
    chart=chart,
)
