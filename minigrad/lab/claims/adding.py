"""Two numbers of a long sequence are to be added: what an LSTM can and a plain RNN can't.

    x_t = (a number, a mark);   y = the sum of the two that are marked

A net without a memory says 1 and is wrong by 1/6. ReLU units that begin with W = 1 (IRNN) keep
their gradient as an LSTM does, at first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from . import charts, figures
from .base import Claim, Data, Row, Source, Tell, column, different, share, trained

HOCHREITER = Source("S. Hochreiter, J. Schmidhuber", 1997, "Long short-term memory")
LE = Source(
    "Q. V. Le, N. Jaitly, G. E. Hinton",
    2015,
    "A simple way to initialize recurrent networks of rectified linear units",
    abstract_only=True,
)
NAMES = {"rnn": "tanh RNN", "irnn": "IRNN", "lstm": "LSTM"}


def measure(settings: Mapping[str, Any], seed: int, tell: Tell) -> Data:
    """Trains every cell at every length, each with the rate that suits it."""
    rows: list[dict[str, Any]] = []
    for T in settings["lengths"]:
        for cell, rate in settings["rates"].items():
            for s in range(seed, seed + settings["seeds"]):
                row, _ = trained(settings, s, tell, cell=cell, length=T, learning_rate=rate)
                rows.append(row)
    return {"rows": rows, "trial": dict(settings["trial"])}


def judge(data: Data) -> list[Row]:
    """The LSTM solves it, the plain RNN does not, the IRNN does about as often as the LSTM."""
    rows = data["rows"]
    longest = max(different(rows, "length"))
    solved = {cell: share(rows, cell=cell, length=longest) for cell in NAMES}
    loss = column(rows, "loss", cell="rnn", length=longest)
    return [
        Row(
            what="An LSTM learns to add across the delay",
            paper=HOCHREITER.says(
                "at T = 100, 500 and 1,000 at most 1 of 2,560 test sequences is wrong, means of 10 "
                "trials",
                "section 5.4, Table 7",
            ),
            here=_shares(rows, "lstm"),
            asked="at least two in three runs at every length",
            holds=all(
                share(rows, cell="lstm", length=T) >= 2 / 3 - 1e-9
                for T in different(rows, "length")
            ),
        ),
        Row(
            what="A tanh RNN does not",
            paper=HOCHREITER.says(
                "the task is of a type that no other recurrent net algorithm had solved",
                "section 5.4",
            ),
            expected="it stays near the memoryless error, as its gradient vanishes on the way",
            here=_shares(rows, "rnn") + f"; mean squared error at T = {longest}: {loss.min():.3f} "
            f"to {loss.max():.3f} (memoryless {1 / 6:.3f})",
            asked=f"no run at T = {longest} solves it",
            holds=solved["rnn"] == 0,
        ),
        Row(
            what="ReLU units that start from the identity (IRNN) do about as well as the LSTM",
            paper=LE.says(
                "comparable with a standard LSTM on four benchmarks, of which two are toy problems "
                "with dependencies over a long range",
                "abstract",
            ),
            expected="nearly as many solved runs as the LSTM's",
            here=_shares(rows, "irnn"),
            asked=f"at T = {longest}, at least two thirds of the LSTM's share of solved runs",
            holds=solved["irnn"] > 0 and solved["irnn"] >= 2 / 3 * solved["lstm"] - 1e-9,
        ),
    ]


def _shares(rows: list[dict[str, Any]], cell: str) -> str:
    found = []
    for T in different(rows, "length"):
        updates = column(rows, "updates", cell=cell, length=T).mean()
        found.append(
            f"T = {T}: {share(rows, cell=cell, length=T):.0%} solved ({updates:.0f} updates)"
        )
    return ", ".join(found)


def chart(data: Data, blocks: str) -> str:
    """The mean error of each cell at each length, beside the memoryless one."""
    rows, lines = data["rows"], []
    for T in different(rows, "length"):
        for cell, name in NAMES.items():
            loss = float(column(rows, "loss", cell=cell, length=T).mean())
            lines.append((f"T = {T}, {name}", loss, f"{loss:.3f}"))
    lines.append(("without a memory", 1 / 6, f"{1 / 6:.3f}"))
    return charts.bars(lines, blocks)


def draw(data: Data, figure: Any) -> None:
    """Error and updates of every run against T."""
    left, right = figures.axes_of(figure, 2)
    rows = data["rows"]
    lengths = different(rows, "length")
    for i, (cell, name) in enumerate(NAMES.items()):
        for ax, field in ((left, "loss"), (right, "updates")):
            for j, T in enumerate(lengths):
                values = column(rows, field, cell=cell, length=T)
                at = np.full(len(values), j + 0.22 * (i - 1))
                label = name if j == 0 else None
                mark = "osD"[i]
                ax.plot(at, values, mark, color=figures.HUES[i], markersize=5, label=label)
    left.axhline(1 / 6, color="#4b5563", linestyle="--", linewidth=1)
    left.axhline(1 / 60, color="#4b5563", linestyle=":", linewidth=1)
    left.set_yscale("log")
    figures.note(left, 0.0, 1 / 6 * 1.05, "without a memory", va="bottom", ha="center")
    figures.note(left, -0.45, 1 / 60 * 1.05, "solved below", va="bottom")
    left.set_ylabel("mean squared error")
    figures.title(left, "error at the end, each seed")
    right.axhline(data["trial"]["updates"], color="#4b5563", linestyle="--", linewidth=1)
    right.set_ylabel("updates")
    right.set_ylim(0, None)
    figures.title(right, "updates (at most the dashed line)")
    for ax in (left, right):
        ax.set_xticks(range(len(lengths)), [f"T = {T}" for T in lengths])
        ax.set_xlim(-0.5, len(lengths) - 0.5)
    left.set_ylim(None, 0.8)
    figures.legend(left, 3)


CLAIM = Claim(
    name="adding",
    title="Adding across a delay: LSTM and IRNN can, a plain RNN can't",
    sources=(HOCHREITER, LE),
    scale="T = 50 or 100 instead of up to 1,000 (1997) and 150 to 400 (2015); Adam with clipping "
    "at 1, batches of 32, at most 8,000 updates, one learning rate for each cell, from pilot runs "
    "with other seeds.",
    full={
        "seeds": 3,
        "lengths": [50, 100],
        "rates": {"rnn": 3e-3, "irnn": 3e-4, "lstm": 1e-2},
        "trial": {"task": "adding", "hidden": 64, "updates": 8000},
    },
    quick={
        "seeds": 1,
        "lengths": [50],
        "rates": {"rnn": 3e-3, "irnn": 3e-3, "lstm": 1e-2},
        "trial": {"task": "adding", "hidden": 32, "updates": 3000},
    },
    measure=measure,
    judge=judge,
    draw=draw,
    chart=chart,
)
