"""Finite-time exponents: ridges between the classes, and a spread that falls with the window.

    h_0 = E x,   h_t = tanh(W h_{t-1} + b),   class = argmax(V h_T)

Where the net changes its mind two states that begin side by side end far apart, so the largest
exponent over all T steps is large there: ridges in the plane of x, along the border of the classes.

In a net that noise drives, h_t = W tanh(h_{t-1}) + x_t, the exponents of windows of w steps lie
above the Lyapunov exponent, and spread by about w^-1/2, as means of w numbers do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...flow import finite_time_exponents, lyapunov
from ...nn import RNN, Linear
from ...nn.losses import cross_entropy
from ...ops import matmul, tanh
from ...optim import Adam
from ...tape import no_grad
from ...tensors import tensor
from . import charts, figures
from .base import Claim, Data, Row, Source, Tell, column, different, span

Array = np.ndarray
STORM = Source(
    "L. Storm, H. Linander, J. Bec, K. Gustavsson, B. Mehlig",
    2024,
    "Finite-time Lyapunov exponents of deep neural networks",
    abstract_only=True,
)
GRID, EDGE = 25, 1.5  # points a side, and where the plane of x ends
GAIN, ROWS = 2.5, 4  # of the net that noise drives, and of its sequences


class Classifier:
    """h_0 = E x, T steps of a tanh cell without input, and a linear head."""

    def __init__(self, settings: Mapping[str, Any], seed: int):
        rng = np.random.default_rng([seed, 1])
        self.steps, hidden = settings["steps"], settings["hidden"]
        self.embedding = rng.normal(size=(2, hidden)) / 2
        self.layer = RNN(1, hidden, dtype=np.float64, generator=rng)
        self.head = Linear(hidden, 2, dtype=np.float64, generator=rng)

    def __call__(self, x: Array) -> Any:
        _, h = self.layer(np.zeros((self.steps, len(x), 1)), (x @ self.embedding)[None])
        return self.head(h[0])

    def exponents(self, x: Array) -> Array:
        """The largest one of each point, over all steps."""
        init, nothing = tensor(x @ self.embedding), np.zeros((self.steps, len(x), 1))
        return finite_time_exponents(self.layer, init, nothing, self.steps).largest[0]


def points(rng: np.random.Generator, many: int) -> tuple[Array, Array]:
    """Points of the plane, and whether they lie within a ring around 0: one class in another."""
    x = rng.uniform(-EDGE, EDGE, (many, 2))
    return x, (np.linalg.norm(x, axis=1) < 0.9).astype(int)


def classified(settings: Mapping[str, Any], seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A net trained on the ring: its exponents on a grid, at the border and away from it."""
    net, data = Classifier(settings, seed), np.random.default_rng([seed, 2])
    optimizer = Adam([*net.layer.parameters(), *net.head.parameters()], lr=settings["rate"])
    side = np.linspace(-EDGE, EDGE, GRID)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    before = net.exponents(grid)
    for _ in range(settings["updates"]):
        x, y = points(data, 128)
        loss = cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x, y = points(np.random.default_rng([seed, 3]), 2000)
    with no_grad():
        right = float((net(x).numpy().argmax(axis=1) == y).mean())
        said = net(grid).numpy().argmax(axis=1)
    after = net.exponents(grid)
    border = at_border(said.reshape(GRID, GRID)).ravel()
    row = {
        "part": "ridges", "seed": seed, "right": right,
        "border": float(after[border].mean()) if border.any() else float("nan"),
        "elsewhere": float(after[~border].mean()),
        "rank": rank(after[border], after[~border]),
        "rank before": rank(before[border], before[~border]),
    }  # fmt: skip
    return row, {"exponents": after.round(4).tolist(), "said": said.tolist()}


def at_border(said: Array) -> Array:
    """Which points of a grid have a neighbour, in the four directions, of another class.

    >>> at_border(np.array([[0, 0, 0], [0, 0, 1]])).astype(int).tolist()
    [[0, 0, 1], [0, 1, 1]]
    """
    found = np.zeros(said.shape, dtype=bool)
    down, across = said[1:] != said[:-1], said[:, 1:] != said[:, :-1]
    found[1:] |= down
    found[:-1] |= down
    found[:, 1:] |= across
    found[:, :-1] |= across
    return found


def rank(high: Array, low: Array) -> float:
    """How often one of `high` is above one of `low`: 1 if all are, 1/2 if they are alike.

    >>> rank(np.array([3.0, 1.0]), np.array([0.0, 2.0]))
    0.75
    """
    if not (len(high) and len(low)):
        return float("nan")
    return float(((high[:, None] > low) + 0.5 * (high[:, None] == low)).mean())


def driven(settings: Mapping[str, Any], seed: int) -> list[dict[str, Any]]:
    """Mean and spread of the exponents of windows of a net that noise drives."""
    rng, N = np.random.default_rng([seed, 4]), settings["units"]
    W = tensor((GAIN * rng.normal(size=(N, N)) / np.sqrt(N)).T)
    noise = rng.normal(size=(settings["long"], ROWS, N))

    def cell(h: Any, x: Any) -> Any:
        return matmul(tanh(h), W) + x, h

    h = tensor(noise[0])
    largest = lyapunov(cell, h, noise, k=1, seed=seed).largest
    rows = []
    for window in settings["windows"]:
        found = finite_time_exponents(cell, h, noise, window)
        rows.append(
            {"part": "windows", "seed": seed, "window": window, "lyapunov": largest,
             "mean": float(found.mean[0]), "spread": float(found.spread[0])}
        )  # fmt: skip
    return rows


def measure(settings: Mapping[str, Any], seed: int, tell: Tell) -> Data:
    """A classifier and a net that noise drives of every seed."""
    rows: list[dict[str, Any]] = []
    planes: list[dict[str, Any]] = []
    for s in range(seed, seed + settings["seeds"]):
        row, plane = classified(settings, s)
        rows.append(row)
        planes.append(plane)
        tell(f"seed {s}: {100 * row['right']:.1f} % right, rank of the border {row['rank']:.2f}")
        rows += driven(settings, s)
        tell(f"seed {s}: Lyapunov exponent {rows[-1]['lyapunov']:.3f}")
    return {"rows": rows, "planes": planes}


def judge(data: Data) -> list[Row]:
    """High at the border, which training put there; the spread, and the mean from above."""
    ridges = [row for row in data["rows"] if row["part"] == "ridges"]
    windows = [row for row in data["rows"] if row["part"] == "windows"]
    right, ranks = column(ridges, "right"), column(ridges, "rank")
    border = column(ridges, "border")
    lengths = different(windows, "window")
    spread = np.array([column(windows, "spread", window=w).mean() for w in lengths])
    above = np.array(
        [(column(windows, "mean", window=w) - column(windows, "lyapunov", window=w)).mean()
         for w in lengths]
    )  # fmt: skip
    slope = float(np.polyfit(np.log(lengths), np.log(spread), 1)[0])
    return [
        Row(
            what="Ridges of large exponents divide the inputs into classes",
            paper=STORM.says(
                "ridges of large positive exponents divide input space into regions that the "
                "network associates with different classes",
                "abstract",
            ),
            here=f"at the border {span(border, '.2f')} a step on average, elsewhere "
            f"{span(column(ridges, 'elsewhere'), '.2f')}; a point at the border is above one "
            f"elsewhere with a frequency of {span(ranks, '.2f')} (before training "
            f"{span(column(ridges, 'rank before'), '.2f')}); of nets that are "
            f"{span(100 * right, '.1f')} % right",
            asked="positive at every border, and above elsewhere with a frequency of 0.9",
            holds=bool((border > 0).all() and (ranks >= 0.9).all()),
        ),
        Row(
            what="The spread between windows falls as they grow",
            paper="",
            expected="as a power of about -1/2 of the window, as means of as many numbers do",
            here=f"power {slope:.2f}, from {spread[0]:.3f} at {lengths[0]} steps to "
            f"{spread[-1]:.3f} at {lengths[-1]}",
            asked="between -0.7 and -0.3",
            holds=-0.7 <= slope <= -0.3,
        ),
        Row(
            what="Their mean comes down to the Lyapunov exponent",
            paper="",
            expected="from above: the best direction of a window is better than one that lasts",
            here="above it by " + ", ".join(
                f"{a:.3f} ({w} steps)" for a, w in zip(above, lengths, strict=True)
            ),
            asked="less with every longer window, never below it by more than 0.01",
            holds=bool((np.diff(above) < 0).all() and (above > -0.01).all()),
        ),
    ]  # fmt: skip


def chart(data: Data, blocks: str) -> str:
    """The exponents across the middle of the plane, a line for each seed."""
    lines = [
        (f"net {i}", np.array(plane["exponents"]).reshape(GRID, GRID)[GRID // 2])
        for i, plane in enumerate(data["planes"])
    ]
    span = f"largest exponents along x_1 = 0, from x_2 = {-EDGE} to {EDGE}"
    return charts.lines(lines, blocks, span, log=False)


def draw(data: Data, figure: Any) -> None:
    """The first net's exponents over the plane with the border; mean and spread over windows."""
    left, right = figures.axes_of(figure, 2)
    plane = data["planes"][0]
    side = np.linspace(-EDGE, EDGE, GRID)
    values = np.array(plane["exponents"]).reshape(GRID, GRID)
    mesh = left.pcolormesh(side, side, values.T, shading="nearest", cmap="viridis")
    figure.colorbar(mesh, ax=left, label="largest exponent, per step")
    said = np.array(plane["said"]).reshape(GRID, GRID)
    left.contour(side, side, said.T, levels=[0.5], colors="#ffffff", linewidths=1.2)
    left.set_xlabel("$x_1$")
    left.set_ylabel("$x_2$")
    figures.title(left, "a ridge along the border of the classes (white)")
    windows = [row for row in data["rows"] if row["part"] == "windows"]
    for i, seed in enumerate(different(windows, "seed")):
        mine = [row for row in windows if row["seed"] == seed]
        right.errorbar(
            [row["window"] * (1 + 0.03 * i) for row in mine], [row["mean"] for row in mine],
            [row["spread"] for row in mine], color=figures.HUES[i % len(figures.HUES)],
            marker="o", markersize=3, linewidth=1, capsize=2, label=f"seed {seed}",
        )  # fmt: skip
        right.axhline(
            mine[0]["lyapunov"], color=figures.HUES[i % len(figures.HUES)], linestyle=":",
            linewidth=1,
        )  # fmt: skip
    right.set_xscale("log")
    lengths = different(windows, "window")
    right.set_xticks(lengths, [str(w) for w in lengths])
    right.minorticks_off()
    right.set_xlabel("window, steps")
    right.set_ylabel("mean and spread; dotted: Lyapunov")
    figures.title(right, "windows of a net that noise drives")
    figures.legend(right, len(different(windows, "seed")))


CLAIM = Claim(
    name="finite-time",
    title="Ridges of finite-time exponents lie between the classes",
    sources=(STORM,),
    scale="recurrent nets, whose layers share their weights, of 16 units and 10 steps on a plane; "
    "the paper's nets are feed-forward.",
    full={"seeds": 3, "hidden": 16, "steps": 10, "updates": 1500, "rate": 5e-3, "units": 32,
          "long": 3200, "windows": [10, 20, 40, 80]},
    quick={"seeds": 1, "hidden": 16, "steps": 10, "updates": 300, "rate": 1e-2, "units": 16,
           "long": 640, "windows": [10, 20, 40]},
    measure=measure,
    judge=judge,
    draw=draw,
    chart=chart,
)  # fmt: skip
