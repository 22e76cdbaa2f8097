"""Where gradients explode, the loss has a cliff; a clipped gradient does not fall off it.

    g <- g min(1, theta / |g|)

The smallest cliff is one unit's: x_t = w sigma(x_{t-1}) + b, and a goal for its 50th output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ops import sigmoid
from ...optim import clip_grad_norm_
from ...tensors import Tensor, tensor
from . import charts, figures
from .base import Claim, Data, Row, Source, Tell, different, share, trained

PASCANU = Source(
    "R. Pascanu, T. Mikolov, Y. Bengio", 2013, "On the difficulty of training recurrent networks"
)
START, FIRST, GOAL, STEPS = (4.0, -2.02), 0.5, 0.7, 50
NORM, UPDATES, RATE = 0.3, 100, 1.0
LIMITS = {0.0: "not clipped", 1.0: "clipped at 1"}


def loss_of(w: Tensor, b: Tensor) -> Tensor:
    """(sigma(x_50) - 0.7)^2 of the unit."""
    x = tensor(FIRST)
    for _ in range(STEPS):
        x = w * sigmoid(x) + b
    return (sigmoid(x) - GOAL) ** 2


def descend(limit: float) -> list[dict[str, float]]:
    """Gradient descent from the edge of the cliff: w, b, loss and |g| before every update."""
    w, b = (tensor(v, requires_grad=True) for v in START)
    path = []
    for _ in range(UPDATES):
        w.grad = b.grad = None
        loss = loss_of(w, b)
        loss.backward()
        path.append({"w": w.item(), "b": b.item(), "loss": loss.item()})
        path[-1]["norm"] = float(clip_grad_norm_([w, b], limit))
        for p in (w, b):
            assert p.grad is not None
            p.data = p.numpy() - RATE * p.grad.numpy()
    return path


def measure(settings: Mapping[str, Any], seed: int, tell: Tell) -> Data:
    """Two descents from the cliff; training on temporal order at each rate, clipped and not."""
    cliff = {"unclipped": descend(np.inf), "clipped": descend(NORM)}
    rows: list[dict[str, Any]] = []
    for rate in settings["rates"]:
        for limit in LIMITS:
            for s in range(seed, seed + settings["seeds"]):
                row, _ = trained(settings, s, tell, learning_rate=rate, max_norm=limit)
                rows.append(row)
    return {"rows": rows, "cliff": cliff, "trial": dict(settings["trial"])}


def judge(data: Data) -> list[Row]:
    """Thrown away or arrived; solved with clipping where it is not without."""
    free, held = data["cliff"]["unclipped"], data["cliff"]["clipped"]
    leap = np.hypot(free[1]["w"] - free[0]["w"], free[1]["b"] - free[0]["b"])
    tail = max(point["loss"] for point in held[-20:])
    rows, trial = data["rows"], data["trial"]
    rates = different(rows, "learning_rate")
    solved = {m: [share(rows, learning_rate=r, max_norm=m) for r in rates] for m in LIMITS}
    gains = np.subtract(solved[1.0], solved[0.0])
    return [
        Row(
            what=f"One unit, {STEPS} steps, descent from (w, b) = {START}, without clipping",
            paper=PASCANU.says(
                "a gradient step at the wall of this error surface is forced to jump across the "
                "valley, possibly leaving it and disrupting learning",
                "section 2.3, eq. (8), Fig. 6",
            ),
            here=f"|g| = {free[0]['norm']:.1f}: a leap of {leap:.1f}; loss {free[-1]['loss']:.3f} "
            f"after {UPDATES} updates (at the start {free[0]['loss']:.3f})",
            asked="a leap of more than 1, and a loss that is still above 0.05",
            holds=bool(leap > 1 and free[-1]["loss"] > 0.05),
        ),
        Row(
            what=f"The same, clipped at {NORM}",
            paper=PASCANU.says(
                "a step of bounded norm stays close to the wall, and is pushed back into the "
                "smoother region beside it",
                "section 2.3, Fig. 6",
            ),
            here=f"loss at most {tail:.4f} over the last 20 updates, "
            f"{min(p['loss'] for p in held):.1e} at best",
            asked="below 0.01 over the last 20 updates",
            holds=bool(tail < 0.01),
        ),
        Row(
            what=f"Temporal order, tanh RNN, {trial['length']} steps, plain gradient descent",
            paper=PASCANU.says(
                "the longer the sequence, the more it takes clipping to succeed",
                "section 4.1.1, Fig. 7",
            ),
            expected="clipping raises the share of runs that succeed",
            here="; ".join(
                f"rate {rate:g}: "
                + ", ".join(
                    f"{words} {share(rows, learning_rate=rate, max_norm=limit):.0%}"
                    for limit, words in LIMITS.items()
                )
                for rate in rates
            ),
            asked="at one rate at least, half of all runs more solve it clipped than not; at none "
            "fewer do",
            holds=bool(gains.max() >= 0.5 and gains.min() >= 0.0),
        ),
    ]


def chart(data: Data, blocks: str) -> str:
    """The loss of both descents; the shares."""
    curves = [
        (name, np.array([point["loss"] for point in path])) for name, path in data["cliff"].items()
    ]
    rows, bars = data["rows"], []
    for rate in different(rows, "learning_rate"):
        for limit, words in LIMITS.items():
            value = share(rows, learning_rate=rate, max_norm=limit)
            bars.append((f"rate {rate:g}, {words}", value, f"{value:.0%} solved"))
    note = f"the loss of one unit over {UPDATES} updates"
    return charts.lines(curves, blocks, note) + "\n\n" + charts.bars(bars, blocks, top=1.0)


def surface(w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The loss at every (b, w) of a grid."""
    x = np.full((len(b), len(w)), FIRST)
    for _ in range(STEPS):
        x = w / (1 + np.exp(-x)) + b[:, None]
    return np.asarray((1 / (1 + np.exp(-x)) - GOAL) ** 2)


def draw(data: Data, figure: Any) -> None:
    """Both paths over the loss; the share of runs that solve the task."""
    from matplotlib.colors import LinearSegmentedColormap

    from ...flow.drawing.colors import STOPS

    left, right = figures.axes_of(figure, 2)
    w, b = np.linspace(3.2, 6.6, 240), np.linspace(-2.7, 2.9, 240)
    colors = LinearSegmentedColormap.from_list("loss", list(STOPS))
    image = left.pcolormesh(w, b, np.sqrt(surface(w, b)), cmap=colors, rasterized=True)
    bar = figure.colorbar(image, ax=left, pad=0.02, fraction=0.05)
    bar.set_label(r"$\sqrt{loss}$", fontsize=9)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8)
    marks = {"unclipped": ("o--", figures.HUES[4]), "clipped": ("o-", figures.HUES[0])}
    for name, (mark, color) in marks.items():
        path = data["cliff"][name]
        xy = [p["w"] for p in path], [p["b"] for p in path]
        left.plot(*xy, mark, color=color, markersize=2.5, linewidth=1, label=name)
    left.plot(*START, "k*", markersize=9)
    left.set_xlabel("w")
    left.set_ylabel("b")
    left.grid(False)
    figures.title(left, "one unit: descent from the star")
    figures.legend(left, 2)
    rates = different(data["rows"], "learning_rate")
    for i, (limit, words) in enumerate(LIMITS.items()):
        values = [share(data["rows"], learning_rate=r, max_norm=limit) for r in rates]
        at = np.arange(len(rates)) + 0.36 * (i - 0.5)
        right.bar(at, values, 0.34, color=figures.HUES[(4, 0)[i]], label=words)
    right.set_xticks(range(len(rates)), [f"{r:g}" for r in rates])
    right.set_ylim(0, 1.25)
    right.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    right.set_xlabel("learning rate")
    right.set_ylabel("runs that solve it")
    figures.title(right, f"temporal order, {data['trial']['length']} steps")
    figures.legend(right, 2)


ORDER = {"task": "order", "cell": "rnn", "init": "orthogonal", "hidden": 32, "optimizer": "sgd"}
CLAIM = Claim(
    name="clipping",
    title="Clipping the gradient survives the cliff",
    sources=(PASCANU,),
    scale="where the descent starts, its rate and its limit are minigrad's own; temporal order "
    "over 20 or 30 steps instead of 50 to 200, a net of 32 units that starts orthogonal, and at "
    "most 1,500 updates.",
    full={
        "seeds": 8,
        "rates": [0.03, 0.1, 0.3, 0.5],
        "trial": ORDER | {"length": 30, "updates": 1500},
    },
    quick={"seeds": 4, "rates": [0.1, 0.3], "trial": ORDER | {"length": 20, "updates": 400}},
    measure=measure,
    judge=judge,
    draw=draw,
    chart=chart,
)
