"""The Lyapunov exponents of an untrained net tell whether it will learn.

    lambda_1 = lim 1/T log |dh_T/dh_0|

Far below 0 the gradient vanishes over the delay, far above 0 it explodes; near 0 it arrives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...flow import lyapunov
from ..tasks import task
from ..trial import Network, Trial, train
from . import charts, figures
from .base import Claim, Data, Row, Source, Tell, column, different

VOGT = Source(
    "R. Vogt, M. Puelma Touzel, E. Shlizerman, G. Lajoie",
    2020,
    "On Lyapunov exponents for RNNs: understanding information propagation using dynamical "
    "systems tools",
    abstract_only=True,
)
MEASURED, ROWS = 200, 4  # steps and sequences along which the exponent is measured
NEAR, FAR = 0.1, 0.5  # |lambda_1| of nets that are called near the edge, and far from it


def outcome(settings: Mapping[str, Any], gain: float, seed: int) -> dict[str, Any]:
    """lambda_1 before training, and the loss after it, for W ~ N(0, gain^2 / H)."""
    trial = Trial(**settings["trial"], seed=seed)
    work, H = task(trial.task, trial.length), trial.hidden
    W = gain * np.random.default_rng([seed, 9]).normal(size=(H, H)) / np.sqrt(H)
    nets = [Network(trial, work, dtype) for dtype in (np.float32, np.float64)]
    for net in nets:  # the exponent is measured in float64
        net.layer.cells[0].weight_hh.data = W.astype(net.head.weight.dtype)
    xs, _ = task(trial.task, MEASURED).batch(np.random.default_rng([seed, 4]), ROWS)
    largest = lyapunov(nets[1].layer, xs=xs.astype(np.float64), k=1, seed=seed).largest
    found = train(trial, nets[0], work)
    return {
        "gain": gain, "seed": seed, "largest": largest, "loss": found["loss"],
        "of baseline": found["loss"] / found["baseline"], "solved": found["solved"],
        "updates": found["updates_done"], "diverged": found["diverged"],
    }  # fmt: skip


def measure(settings: Mapping[str, Any], seed: int, tell: Tell) -> Data:
    """Every gain and seed."""
    rows: list[dict[str, Any]] = []
    for gain in settings["gains"]:
        for s in range(seed, seed + settings["seeds"]):
            rows.append(outcome(settings, gain, s))
        part = column(rows, "of baseline", gain=gain).mean()
        tell(f"gain {gain}: lambda_1 = {rows[-1]['largest']:.2f}, {part:.2f} of the baseline")
    return {"rows": rows, "trial": dict(settings["trial"])}


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, without ties.

    >>> rank_correlation(np.array([1.0, 2.0, 5.0]), np.array([0.1, 0.7, 0.8]))
    1.0
    """
    p, q = (values.argsort().argsort() - (len(values) - 1) / 2 for values in (a, b))
    return float((p * q).sum() / (p * p).sum())


def judge(data: Data) -> list[Row]:
    """The best is near 0; the farther, the worse; near and far apart."""
    rows = data["rows"]
    size, part = np.abs(column(rows, "largest")), column(rows, "of baseline")
    best, orders = [], []
    for s in different(rows, "seed"):
        mine = column(rows, "largest", seed=s), column(rows, "of baseline", seed=s)
        best.append(mine[0][mine[1].argmin()])
        orders.append(rank_correlation(np.abs(mine[0]), mine[1]))
    order = float(np.mean(orders))
    low, high = size <= NEAR, size >= FAR
    near, far = (float(np.median(part[m])) if m.any() else np.nan for m in (low, high))
    chaotic = part[column(rows, "largest") >= 0.15]
    return [
        Row(
            what="lambda_1, before training, of the net that learns best",
            paper=VOGT.says(
                "the Lyapunov spectrum is a robust readout of training stability across "
                "hyperparameters",
                "abstract",
            ),
            expected="near 0",
            here=", ".join(f"{value:.2f}" for value in best) + ", a figure for each seed",
            asked="within 0.25 of 0 for every seed",
            holds=bool(max(abs(v) for v in best) <= 0.25),
        ),
        Row(
            what="Distance of lambda_1 from 0, and the loss after training",
            paper="",
            expected="the farther, the worse",
            here=f"rank correlation {order:.2f}, the mean over {len(orders)} seeds of "
            f"{len(rows) // len(orders)} nets each",
            asked="at least 0.5",
            holds=order >= 0.5,
        ),
        Row(
            what=f"Nets with |lambda_1| <= {NEAR} beside those with |lambda_1| >= {FAR}",
            paper="",
            expected="the first train, the second do not",
            here=f"median loss {near:.2f} and {far:.2f} of the baseline",
            asked="the first at most half of the second",
            holds=bool(near <= 0.5 * far),
        ),
        Row(
            what="Chaotic nets, lambda_1 >= 0.15",
            paper="",
            expected="exploding gradients hinder them as vanishing ones do others",
            here=f"{len(chaotic)} nets, median loss "
            + (f"{np.median(chaotic):.2f} of the baseline" if len(chaotic) else "-"),
            asked="there are such nets, with at least twice the median loss of those near 0",
            holds=bool(len(chaotic) and np.median(chaotic) >= 2 * near),
        ),
    ]


def chart(data: Data, blocks: str) -> str:
    """The mean loss for each gain, with its exponent."""
    rows, lines = data["rows"], []
    for gain in different(rows, "gain"):
        value = float(column(rows, "of baseline", gain=gain).mean())
        largest = float(column(rows, "largest", gain=gain).mean())
        lines.append((f"lambda_1 = {largest:+.2f}", value, f"{value:.2f} of the baseline"))
    return charts.bars(lines, blocks)


def draw(data: Data, figure: Any) -> None:
    """Loss against lambda_1 and against the gain."""
    left, right = figures.axes_of(figure, 2)
    rows = data["rows"]
    for ax, field in ((left, "largest"), (right, "gain")):
        ax.plot(
            column(rows, field), column(rows, "of baseline"), "o", color=figures.HUES[0],
            markersize=5, alpha=0.6,
        )  # fmt: skip
        ax.axhline(1.0, color="#4b5563", linestyle="--", linewidth=1)
        ax.set_yscale("log")
        ax.locator_params(axis="x", nbins=6)
        ax.set_ylabel("loss after training / baseline")
    left.axvline(0.0, color="#8a8f9c", linewidth=0.8)
    left.set_xlabel(r"largest Lyapunov exponent $\lambda_1$ before training")
    figures.title(left, "near 0 it learns (dots: nets)")
    gains = different(rows, "gain")
    mean = [column(rows, "of baseline", gain=g).mean() for g in gains]
    right.plot(gains, mean, **figures.line_style(1))
    right.set_xlabel("gain of the first weights")
    figures.title(right, f"{data['trial']['task']}, T = {data['trial']['length']} (line: mean)")


ORDER = {"task": "order", "cell": "rnn", "hidden": 32, "learning_rate": 1e-3, "length": 20}
CLAIM = Claim(
    name="trainability",
    title="Lyapunov exponents before training tell whether a net will learn",
    sources=(VOGT,),
    scale="tanh RNNs of 32 units on temporal order over 20 steps, at most 300 updates with Adam, "
    "clipped at 1; the paper has LSTMs and GRUs on other tasks.",
    full={
        "seeds": 5,
        "gains": [0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.1, 1.4, 2.0, 2.5, 3.0],
        "trial": ORDER | {"updates": 300},
    },
    quick={"seeds": 2, "gains": [0.2, 0.5, 0.95, 1.4, 3.0], "trial": ORDER | {"updates": 300}},
    measure=measure,
    judge=judge,
    draw=draw,
    chart=chart,
)
