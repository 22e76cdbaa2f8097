"""The forget bias decides how long an LSTM remembers before it has learned anything.

    c_t = f c_{t-1},   f = sigma(b):      dc_T/dc_0 = sigma(b)^T

and so a bias of 1 or more helps it to learn long delays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...flow import jacobians
from ...nn import LSTMCell
from . import charts, figures
from .base import Claim, Data, Row, Source, Tell, column, share, trained

JOZEFOWICZ = Source(
    "R. Jozefowicz, W. Zaremba, I. Sutskever",
    2015,
    "An empirical exploration of recurrent network architectures",
    abstract_only=True,
)
BIASES = (0.0, 1.0, 2.0, 5.0)
PUBLISHED = {0.0: 7.9e-31, 1.0: 2.5e-14, 2.0: 3.1e-6, 5.0: 0.51}  # sigma(b)^100
STEPS = 100
INITS = {"default": "0", "forget1": "1"}


def kept(bias: float) -> float:
    """dc_100/dc_0 by backpropagation through an LSTM cell of one unit without other weights."""
    cell = LSTMCell(1, 1, dtype=np.float64)
    for p in cell.parameters():
        p.data = np.zeros(p.shape)
    assert cell.bias_ih is not None
    cell.bias_ih.data[cell.gates.index("f")] = bias
    found = jacobians(cell, cell.init_state(1), np.zeros((STEPS, 1, 1)))
    return float(found.between(STEPS, 0, of="c", wrt="c").value[0, 0, 0])


def measure(settings: Mapping[str, Any], seed: int, tell: Tell) -> Data:
    """The four powers, and training with either bias."""
    powers = {str(b): kept(b) for b in BIASES}
    rows: list[dict[str, Any]] = []
    for init in INITS:
        for s in range(seed, seed + settings["seeds"]):
            row, _ = trained(settings, s, tell, init=init)
            rows.append(row)
    return {"rows": rows, "kept": powers, "trial": dict(settings["trial"])}


def judge(data: Data) -> list[Row]:
    """The arithmetic to two digits; fewer updates with a bias of 1."""
    found = {b: data["kept"][str(b)] for b in BIASES}
    trial, rows = data["trial"], data["rows"]
    updates = {init: column(rows, "updates", init=init) for init in INITS}
    mean = {init: float(np.mean(updates[init])) for init in INITS}
    quicker = np.mean(updates["forget1"] < updates["default"])
    return [
        Row(
            what=f"sigma(b)^{STEPS}: what is left of a gradient after {STEPS} steps",
            paper="",
            expected=_list(PUBLISHED) + " (arithmetic)",
            here=_list(found) + ", by backpropagation through an LSTM cell",
            asked="the same to two digits",
            holds=all(f"{found[b]:.1e}" == f"{PUBLISHED[b]:.1e}" for b in BIASES),
        ),
        Row(
            what=f"Training an LSTM ({trial['hidden']} units, {trial['task']}, length "
            f"{trial['length']}) with a forget bias of 1",
            paper=JOZEFOWICZ.says(
                "a bias of 1 closes the gap between the LSTM and the GRU", "abstract"
            ),
            expected="a bias of 1 makes it learn sooner",
            here="; ".join(
                f"bias {INITS[init]}: {share(rows, init=init):.0%} solved, {mean[init]:.0f} updates"
                for init in INITS
            )
            + f"; quicker with the same seed in {quicker:.0%}",
            asked="no fewer solved, at most 0.8 of the updates on average (an unsolved run counts "
            f"as {trial['updates']})",
            holds=share(rows, init="forget1") >= share(rows, init="default")
            and mean["forget1"] <= 0.8 * mean["default"],
        ),
    ]


def _list(values: Mapping[float, float]) -> str:
    return ", ".join(f"b = {b:g}: {v:.2g}" for b, v in values.items())


def chart(data: Data, blocks: str) -> str:
    """Updates until it is solved."""
    rows, most = data["rows"], data["trial"]["updates"]
    lines = []
    for init, bias in INITS.items():
        mean = float(column(rows, "updates", init=init).mean())
        lines.append((f"forget bias {bias}", mean, f"{mean:.0f} updates"))
    return charts.bars(lines, blocks, top=most)


def draw(data: Data, figure: Any) -> None:
    """sigma(b)^t against t; updates of every seed."""
    left, right = figures.axes_of(figure, 2)
    t = np.arange(STEPS + 1)
    for i, b in enumerate(BIASES):
        left.semilogy(t, (1 / (1 + np.exp(-b))) ** t, label=f"b = {b:g}", **figures.line_style(i))
        left.plot(STEPS, data["kept"][str(b)], "o", color=figures.HUES[i], markersize=5)
    left.set_xlabel("steps back")
    left.set_ylabel(r"$dc_T/dc_0$")
    figures.title(left, r"$\sigma(b)^t$ (dots: measured by BPTT)")
    figures.legend(left, 4)
    seeds = sorted(set(column(data["rows"], "seed").tolist()))
    for s in seeds:
        pair = [column(data["rows"], "updates", init=i, seed=s)[0] for i in INITS]
        right.plot([0, 1], pair, "o-", color=figures.HUES[0], alpha=0.6, linewidth=1, markersize=4)
    right.set_xticks([0, 1], [f"bias {b}" for b in INITS.values()])
    right.set_xlim(-0.4, 1.4)
    right.set_ylim(0, None)
    right.set_ylabel("updates until solved")
    figures.title(right, f"{data['trial']['task']}, length {data['trial']['length']}, each seed")


CLAIM = Claim(
    name="forget-bias",
    title="A forget bias of 1 keeps an LSTM's gradient alive",
    sources=(JOZEFOWICZ,),
    scale="one artificial task instead of a search over architectures on arithmetic, XML, text and "
    "music.",
    full={
        "seeds": 6,
        "trial": {"task": "order", "cell": "lstm", "length": 50, "hidden": 32, "updates": 3000,
                  "learning_rate": 3e-3},
    },
    quick={
        "seeds": 3,
        "trial": {"task": "order", "cell": "lstm", "length": 50, "hidden": 32, "updates": 1000,
                  "learning_rate": 3e-3},
    },
    measure=measure,
    judge=judge,
    draw=draw,
    chart=chart,
)  # fmt: skip
