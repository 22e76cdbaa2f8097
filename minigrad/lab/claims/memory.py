"""The curse of memory: how far a state moves with the weights, when no gradient explodes.

    h_t = lambda h_{t-1} + x_t,        x_t with autocorrelation rho^|k|

    E h^2              = (1 + rho l) / ((1 - rho l) (1 - l^2))                           (l: lambda)
    E (dh/dlambda)^2   = ((1 + l^2) (1 - rho^2 l^2) + 2 (1 - l^2) rho l)
                         / ((1 - l^2)^3 (1 - rho l)^2)

Each step multiplies a gradient by lambda < 1, and still the second grows as (1 - lambda)^-3. With
inputs scaled by sqrt(1 - lambda^2), and lambda = exp(-exp(nu)), E (dh/dnu)^2 stays bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...flow import jacobians, sensitivities
from ...ops import exp
from ...tensors import Tensor, tensor
from . import charts, figures
from .base import Claim, Data, Row, Source, Tell, column, different

ZUCCHET = Source(
    "N. Zucchet, A. Orvieto",
    2024,
    "Recurrent neural networks: vanishing and exploding gradients are not the end of the story",
    abstract_only=True,
)
SPAN = 10  # times 1 / (1 - lambda): steps to settle in, and as many to measure


def expected(lam: float, rho: float) -> tuple[float, float]:
    """E (dh/dlambda)^2, and E (dh/dnu)^2 of the scaled cell."""
    plain = (1 + lam**2) * (1 - rho**2 * lam**2) + 2 * (1 - lam**2) * rho * lam
    plain /= (1 - lam**2) ** 3 * (1 - rho * lam) ** 2
    return plain, plain * (1 - lam**2) * (lam * np.log(lam)) ** 2


def inputs(rng: np.random.Generator, steps: int, rows: int, rho: float) -> np.ndarray:
    """Gaussian, of variance 1 and autocorrelation rho^|k|, (steps, rows, 1)."""
    xs = rng.normal(size=(steps, rows, 1))
    for t in range(1, steps):
        xs[t] = rho * xs[t - 1] + np.sqrt(1 - rho**2) * xs[t]
    return xs


def moved(xs: np.ndarray, name: str, weight: Tensor, lam: Any, scale: float) -> tuple[float, float]:
    """Mean over rows of |dh/dweight|^2 at the second half of the steps, and its standard error."""
    init = tensor(np.zeros((xs.shape[1], 1)))
    found = sensitivities(
        lambda h, x: (lam * h + scale * x, h), init, xs, {name: weight}, projections=1
    )
    rows = (found.norms[name][len(xs) // 2 :] ** 2).mean(axis=0)
    return float(rows.mean()), float(rows.std(ddof=1) / np.sqrt(len(rows)))


def measure(settings: Mapping[str, Any], seed: int, tell: Tell) -> Data:
    """Both cells at every lambda, rho and seed; what a step does to a gradient on the way."""
    rows: list[dict[str, Any]] = []
    for rho in settings["rhos"]:
        for lam in settings["lambdas"]:
            for s in range(seed, seed + settings["seeds"]):
                rng = np.random.default_rng([s, round(1e4 * lam)])
                xs = inputs(rng, 2 * round(SPAN / (1 - lam)), settings["rows"], rho)
                plain = tensor([lam], requires_grad=True)
                nu = tensor([np.log(-np.log(lam))], requires_grad=True)
                scale = float(np.sqrt(1 - lam**2))
                row: dict[str, Any] = {"rho": rho, "lambda": lam, "seed": s}
                row["moved"], row["error"] = moved(xs, "lambda", plain, plain, 1.0)
                row["scaled"], row["scaled error"] = moved(xs, "nu", nu, exp(-exp(nu)), scale)
                cell = jacobians(lambda h, x, a=plain: (a * h + x, h), tensor([[0.0]]), xs[:9, :1])
                row["factor"] = float(cell.norms().max())
                row["expected"], row["scaled expected"] = expected(lam, rho)
                rows.append(row)
            tell(f"rho = {rho}, lambda = {lam}: E (dh/dlambda)^2 = {rows[-1]['moved']:.3g}")
    return {"rows": rows}


def judge(data: Data) -> list[Row]:
    """It grows, as the closed form says, with exponent 3; and not with the other weights."""
    rows = data["rows"]
    rhos, lams = different(rows, "rho"), different(rows, "lambda")
    mean = {rho: _mean(rows, rho, "moved") for rho in rhos}
    scaled = {rho: _mean(rows, rho, "scaled") for rho in rhos}
    off = np.array(
        [abs(r[a] - r[e]) / r[s] for r in rows for a, e, s in
         (("moved", "expected", "error"), ("scaled", "scaled expected", "scaled error"))]
    )  # fmt: skip
    ratio = np.array([r["moved"] / r["expected"] for r in rows])
    factor = max(row["factor"] for row in rows)
    grew = {rho: values[-1] / values[0] for rho, values in mean.items()}
    slopes = {
        rho: float(np.log(v[-1] / v[-2]) / np.log((1 - lams[-2]) / (1 - lams[-1])))
        for rho, v in mean.items()
    }
    high = [i for i, lam in enumerate(lams) if lam >= 0.9]
    spread = {rho: max(v[i] for i in high) / min(v[i] for i in high) for rho, v in scaled.items()}
    plain = {rho: max(v[i] for i in high) / min(v[i] for i in high) for rho, v in mean.items()}
    return [
        Row(
            what="With its memory the sensitivity of the state grows, and no gradient explodes",
            paper=ZUCCHET.says(
                "as the memory of a network increases, changes in its parameters result in "
                "increasingly large output variations, even without exploding gradients",
                "abstract",
            ),
            here=f"from lambda = {lams[0]} to {lams[-1]} E (dh/dlambda)^2 grows by "
            + ", ".join(f"x{grew[rho]:.3g} (rho = {rho})" for rho in rhos)
            + f"; no step multiplies a gradient by more than {factor:.4g}",
            asked="it grows with every lambda, and every factor is below 1",
            holds=all(bool((np.diff(v) > 0).all()) for v in mean.values()) and factor < 1,
        ),
        Row(
            what="Its size",
            paper="",
            expected="the closed form for inputs of autocorrelation rho^|k|; the authors' "
            "published code draws their Figure 1 by the same one",
            here=f"measured over expected from {ratio.min():.3f} to {ratio.max():.3f}; the worst "
            f"of {len(off)} means is {off.max():.1f} of its standard errors off",
            asked="every mean within 5 of its standard errors",
            holds=bool((off < 5).all()),
        ),
        Row(
            what="How it grows near lambda = 1",
            paper="",
            expected="as (1 - lambda)^-3, by the closed form",
            here="exponent between the last two lambdas "
            + ", ".join(f"{v:.2f} (rho = {rho})" for rho, v in slopes.items()),
            asked="within 0.4 of 3 for white inputs",
            holds=abs(slopes[rhos[0]] - 3) <= 0.4,
        ),
        Row(
            what="The right weights do not suffer from it",
            paper=ZUCCHET.says(
                "the element-wise recurrence design pattern combined with careful "
                "parametrizations mitigates it",
                "abstract",
            ),
            expected="with inputs scaled by sqrt(1 - lambda^2) and lambda = exp(-exp(nu)), "
            "E (dh/dnu)^2 tends to a constant for white inputs",
            here="of all lambda from 0.9 on the largest is "
            + ", ".join(
                f"{spread[rho]:.2f} times the smallest (rho = {rho}; without: {plain[rho]:.3g})"
                for rho in rhos
            ),
            asked="less than 2 times for white inputs, and less than a tenth of what it is without",
            holds=spread[rhos[0]] < 2 and all(spread[r] < 0.1 * plain[r] for r in rhos),
        ),
    ]


def _mean(rows: list[dict[str, Any]], rho: float, field: str) -> np.ndarray:
    """Over seeds, for each lambda."""
    lams = different(rows, "lambda")
    return np.array([column(rows, field, rho=rho, **{"lambda": lam}).mean() for lam in lams])


def chart(data: Data, blocks: str) -> str:
    """Both second moments over lambda, a line for each rho."""
    rows = data["rows"]
    lams, lines = different(rows, "lambda"), []
    for rho in different(rows, "rho"):
        lines.append((f"dh/dlambda, rho = {rho}", _mean(rows, rho, "moved")))
        lines.append((f"dh/dnu,     rho = {rho}", _mean(rows, rho, "scaled")))
    return charts.lines(lines, blocks, f"lambda from {lams[0]} to {lams[-1]}; second moments")


def draw(data: Data, figure: Any) -> None:
    """Measured dots on the closed form, without and with the other weights."""
    rows = data["rows"]
    fine = 1 - np.logspace(np.log10(1 - max(different(rows, "lambda"))), -0.3, 200)
    for ax, field, which, heading in zip(
        figures.axes_of(figure, 2),
        ("moved", "scaled"),
        (0, 1),
        (r"E $(dh/d\lambda)^2$: $h_t = \lambda h_{t-1} + x_t$", r"E $(dh/d\nu)^2$, inputs scaled"),
        strict=True,
    ):
        for i, rho in enumerate(different(rows, "rho")):
            line = [expected(lam, rho)[which] for lam in fine]
            ax.plot(1 / (1 - fine), line, label=rf"closed form, $\rho$ = {rho}",
                    **figures.line_style(i))  # fmt: skip
            for row in rows:
                if row["rho"] == rho:
                    at = 1 / (1 - row["lambda"]), row[field]
                    ax.plot(*at, "o", color=figures.HUES[i], markersize=4, alpha=0.5)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ticks = [round(1 / (1 - lam)) for lam in different(rows, "lambda")]
        ax.set_xticks(ticks, [str(tick) for tick in ticks])
        ax.minorticks_off()
        ax.set_xlabel(r"memory, $1 / (1 - \lambda)$ steps")
        figures.title(ax, heading)
        figures.legend(ax, 2)


CLAIM = Claim(
    name="memory-curse",
    title="A long memory makes the state sensitive to the weights",
    sources=(ZUCCHET,),
    scale="the simplest net, of one unit and known inputs, for which there is a closed form; no "
    "net is trained.",
    full={"seeds": 5, "rows": 64, "rhos": [0.0, 0.9],
          "lambdas": [0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995]},
    quick={"seeds": 1, "rows": 64, "rhos": [0.0, 0.9], "lambdas": [0.5, 0.9, 0.95, 0.98]},
    measure=measure,
    judge=judge,
    draw=draw,
    chart=chart,
)  # fmt: skip
