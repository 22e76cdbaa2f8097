"""The copy task: ten symbols to be said again after a delay.

Solved by a net whose recurrent map loses nothing; and by an LSTM sooner if its gates start with
memories as long as the delay (chrono).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..tasks import Copy
from . import charts, figures
from .base import Claim, Data, Row, Source, Tell, column, share, trained

ARJOVSKY = Source(
    "M. Arjovsky, A. Shah, Y. Bengio",
    2016,
    "Unitary evolution recurrent neural networks",
    abstract_only=True,
)
TALLEC = Source("C. Tallec and Y. Ollivier", 2018, "Can recurrent neural networks warp time?")
PUBLISHED = {100: 0.1733, 500: 0.0400, 1000: 0.0204}  # 10 ln 8 / (T + 20)
ARMS = {
    "tanh RNN": ("rnn", "default"),
    "tanh RNN, orthogonal": ("rnn", "orthogonal"),
    "unitary": ("unitary", "default"),
    "LSTM, forget bias 1": ("lstm", "forget1"),
    "LSTM, chrono": ("lstm", "chrono"),
}


def measure(settings: Mapping[str, Any], seed: int, tell: Tell) -> Data:
    """Every net at its learning rate, the same updates for all."""
    rows: list[dict[str, Any]] = []
    for arm, (cell, init) in ARMS.items():
        for s in range(seed, seed + settings["seeds"]):
            rate = settings["rates"][cell]
            row, _ = trained(settings, s, tell, cell=cell, init=init, learning_rate=rate)
            rows.append({"net": arm, **row})
    return {"rows": rows, "trial": dict(settings["trial"])}


def judge(data: Data) -> list[Row]:
    """The baselines, what loses nothing, and what starts with the right memory."""
    rows, trial = data["rows"], data["trial"]
    part = {arm: column(rows, "loss", net=arm) / rows[0]["baseline"] for arm in ARMS}
    mean = {arm: float(part[arm].mean()) for arm in ARMS}
    updates = column(rows, "updates", net="unitary")
    chrono, forget = part["LSTM, chrono"], part["LSTM, forget bias 1"]
    return [
        Row(
            what="What is known without a memory",
            paper=TALLEC.says("a loss of 10 ln 8 / (T + 20)", "the line of Fig. 3"),
            expected=_list(PUBLISHED) + ", which is that",
            here=_list({T: Copy(T).baseline for T in PUBLISHED}),
            asked="the same to four decimals",
            holds=all(f"{Copy(T).baseline:.4f}" == f"{v:.4f}" for T, v in PUBLISHED.items()),
        ),
        Row(
            what=f"A net that loses nothing, at T = {trial['length']}",
            paper=ARJOVSKY.says(
                "with weights whose eigenvalues are exactly 1 in size, the best results so far in "
                "hard tasks with dependencies over a very long range",
                "abstract",
            ),
            expected="unitary nets solve it, tanh RNNs stay at the baseline",
            here=f"unitary: {share(rows, net='unitary'):.0%} solved, in {updates.mean():.0f} "
            f"updates; tanh RNN at {mean['tanh RNN']:.0%} of the baseline after "
            f"{trial['updates']}",
            asked="most unitary nets solve it, and every RNN stays above 95 % of the baseline",
            holds=bool(share(rows, net="unitary") > 0.5 and part["tanh RNN"].min() > 0.95),
        ),
        Row(
            what="A tanh RNN that only starts orthogonal",
            paper="",
            expected="it is better than none, but nothing keeps the weights orthogonal",
            here=f"at {mean['tanh RNN, orthogonal']:.0%} of the baseline",
            asked="below 90 % of the baseline on average",
            holds=mean["tanh RNN, orthogonal"] < 0.9,
        ),
        Row(
            what="An LSTM whose gates start with memories up to the delay",
            paper=TALLEC.says(
                "chrono initialisation does far better than a forget bias of 1 at every T, and "
                "does not stay at what is known without a memory",
                "Fig. 3",
            ),
            here=f"after {trial['updates']} updates: chrono at {mean['LSTM, chrono']:.0%} of the "
            f"baseline, forget bias 1 at {mean['LSTM, forget bias 1']:.0%}; lower with the same "
            f"seed in {np.mean(chrono < forget):.0%}",
            asked="a lower loss on average and with most seeds, below 98 % of the baseline",
            holds=bool(chrono.mean() < min(forget.mean(), 0.98) and np.mean(chrono < forget) > 0.5),
        ),
    ]


def _list(values: Mapping[int, float]) -> str:
    return ", ".join(f"T = {T}: {v:.4f}" for T, v in values.items())


def chart(data: Data, blocks: str) -> str:
    """The mean loss as a share of the baseline."""
    rows, lines = data["rows"], []
    for arm in ARMS:
        part = float(column(rows, "loss", net=arm).mean()) / rows[0]["baseline"]
        lines.append((arm, part, f"{part:.0%} of the baseline"))
    return charts.bars(lines, blocks, top=1.0)


def draw(data: Data, figure: Any) -> None:
    """The loss of every run over the baseline."""
    (ax,) = figures.axes_of(figure, 1)
    rows = data["rows"]
    baseline = rows[0]["baseline"]
    for i, arm in enumerate(ARMS):
        values = column(rows, "loss", net=arm) / baseline
        ax.barh(i, values.mean(), 0.6, color=figures.HUES[0], alpha=0.35)
        ax.plot(values, np.full(len(values), i), "o", color=figures.HUES[0], markersize=5)
    ax.axvline(1.0, color="#4b5563", linestyle="--", linewidth=1)
    ax.grid(False)
    ax.set_yticks(range(len(ARMS)), list(ARMS))
    ax.invert_yaxis()
    ax.set_xlim(0, None)
    ax.set_xlabel("loss / baseline (1: nothing remembered; dots: each run)")
    trial = data["trial"]
    figures.title(ax, f"T = {trial['length']}, after at most {trial['updates']} updates")


RATES = {"rnn": 3e-3, "unitary": 1e-2, "lstm": 1e-2}
CLAIM = Claim(
    name="copy",
    title="What loses nothing copies; an LSTM does so sooner with chrono gates",
    sources=(ARJOVSKY, TALLEC),
    scale="a delay of 30 or 50 instead of 100 to 1,000, and at most 2,000 updates instead of tens "
    "of thousands, so the LSTMs are compared before they are done; the unitary net has only the "
    "diagonal of the paper's matrix.",
    full={
        "seeds": 3,
        "rates": RATES,
        "trial": {"task": "copy", "hidden": 64, "length": 50, "updates": 2000},
    },
    quick={
        "seeds": 4,
        "rates": RATES,
        "trial": {"task": "copy", "hidden": 32, "length": 30, "updates": 1000},
    },
    measure=measure,
    judge=judge,
    draw=draw,
    chart=chart,
)
