"""What a net remembers are its fixed points: a flip-flop of K bits, opened.

    x_t in {-1, 0, +1}^K, mostly 0;     y_t = the last pulse of each channel

Trained, the net without input rests at one stable fixed point for each of the 2^K memories, and
saddles lie between them: from a saddle with one direction of growth one side leads to one memory,
the other side to another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...flow import FixedPoints, fixed_points
from ...nn import RNN, Linear
from ...nn.losses import mse_loss
from ...optim import Adam, clip_grad_norm_
from ...tape import no_grad
from . import charts, figures
from .base import Claim, Data, Row, Source, Tell, column, span

Array = np.ndarray
SUSSILLO = Source(
    "D. Sussillo, O. Barak",
    2013,
    "Opening the black box: low-dimensional dynamics in high-dimensional recurrent neural networks",
    abstract_only=True,
)
PULSES = 0.15  # of the steps of a channel
WATCHED, SMALL, LITTLE = 200, 1e-4, 1e-6  # steps from a saddle; how far beside it; near a point


def sequences(rng: np.random.Generator, steps: int, rows: int, bits: int) -> tuple[Array, Array]:
    """x and what is to be said, (steps, rows, bits); the first step sets every bit."""
    x = rng.choice([-1.0, 1.0], (steps, rows, bits)) * (rng.random((steps, rows, bits)) < PULSES)
    x[0] = rng.choice([-1.0, 1.0], (rows, bits))
    y = x.copy()
    for t in range(1, steps):
        y[t] = np.where(x[t] == 0, y[t - 1], x[t])
    return x.astype(np.float32), y.astype(np.float32)


def trained(settings: Mapping[str, Any], seed: int) -> tuple[Any, Any, float]:
    """The net and its head, in float64, and the share of bits that it says right."""
    bits, rng = settings["bits"], np.random.default_rng([seed, 1])
    net = RNN(bits, settings["hidden"], generator=rng)
    head = Linear(settings["hidden"], bits, generator=rng)
    weights = [*net.parameters(), *head.parameters()]
    optimizer = Adam(weights, lr=settings["rate"])
    data = np.random.default_rng([seed, 2])
    for _ in range(settings["updates"]):
        x, y = sequences(data, settings["steps"], 32, bits)
        loss = mse_loss(head(net(x)[0]), y)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(weights, 1.0)
        optimizer.step()
    x, y = sequences(np.random.default_rng([seed, 3]), 200, 256, bits)
    with no_grad():
        right = float((np.sign(head(net(x)[0]).numpy()) == y).mean())
    return net.to(np.float64), head.to(np.float64), right


def ends(net: Any, states: Array, bits: int, steps: int) -> Array:
    """The states so many steps later, without input."""
    with no_grad():
        _, h = net(np.zeros((steps, len(states), bits)), states[None])
    return np.asarray(h.numpy()[0])


def ways_out(net: Any, found: FixedPoints, i: int, bits: int) -> list[int]:
    """The fixed points to which both sides of a saddle lead, along what grows; -1 for none."""
    values, vectors = np.linalg.eig(found.jacobians[i])
    out = np.real(vectors[:, np.argmax(np.abs(values))])
    sides = found.points[i] + SMALL * np.stack([out, -out])
    distance = np.linalg.norm(
        ends(net, sides, bits, WATCHED)[:, None] - found.points[None], axis=-1
    )
    return [int(d.argmin()) if d.min() < SMALL else -1 for d in distance]


def linear_error(net: Any, found: FixedPoints, i: int, bits: int, rng: Any) -> float:
    """By how much of itself J^5 d is wrong about where a state goes that is d beside a point."""
    d = LITTLE * rng.normal(size=(1, found.points.shape[1]))
    told = d @ np.linalg.matrix_power(found.jacobians[i], 5).T
    seen = ends(net, found.points[i] + d, bits, 5) - found.points[i]
    return float(np.linalg.norm(seen - told) / np.linalg.norm(told))


def opened(settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """One net: its fixed points before and after training, and where they lead."""
    bits, hidden = settings["bits"], settings["hidden"]
    x = np.zeros((1, bits))
    inputs = sequences(np.random.default_rng([seed, 4]), 50, 32, bits)[0].astype(np.float64)
    blank = RNN(bits, hidden, dtype=np.float64, generator=np.random.default_rng([seed, 1]))
    before = fixed_points(blank, xs=inputs, x=x, many=settings["starts"], seed=seed)
    net, head, right = trained(settings, seed)
    found = fixed_points(net, xs=inputs, x=x, many=settings["starts"], seed=seed)
    stable = [i for i, kind in enumerate(found.kinds) if kind == "stable"]
    said = np.sign(head(found.points).numpy()) if len(found) else np.zeros((0, bits))
    memories = {tuple(said[i]) for i in stable}
    lead = [
        ways_out(net, found, i, bits)
        for i, kind in enumerate(found.kinds)
        if kind == "saddle" and found.growing[i] == 1
    ]
    between = [way for way in lead if -1 not in way and way[0] != way[1]]
    rng = np.random.default_rng([seed, 5])
    off = [linear_error(net, found, i, bits, rng) for i in range(len(found))]
    return {
        "seed": seed, "right": right, "stable before": before.kinds.count("stable"),
        "found before": len(before), "stable": len(stable), "memories": len(memories),
        "saddles": found.kinds.count("saddle"), "simple saddles": len(lead),
        "between memories": sum({tuple(said[a]), tuple(said[b])} <= memories for a, b in between),
        "linear error": max(off, default=float("inf")), "lost": len(found.speeds),
        "points": head(found.points).numpy().tolist() if len(found) else [],
        "kinds": found.kinds, "growing": found.growing.tolist(), "edges": between,
    }  # fmt: skip


def measure(settings: Mapping[str, Any], seed: int, tell: Tell) -> Data:
    """Every seed's net, opened."""
    rows: list[dict[str, Any]] = []
    nets: list[dict[str, Any]] = []
    for s in range(seed, seed + settings["seeds"]):
        row = opened(settings, s)
        nets.append({name: row.pop(name) for name in ("points", "kinds", "growing", "edges")})
        rows.append(row)
        tell(
            f"seed {s}: {100 * row['right']:.1f} % right, {row['stable']} stable, "
            f"{row['saddles']} saddles"
        )
    return {"rows": rows, "nets": nets, "bits": settings["bits"]}


def judge(data: Data) -> list[Row]:
    """A stable point for every memory, none of that before, saddles between, and their speed."""
    rows, memories = data["rows"], 2 ** data["bits"]
    right = column(rows, "right")
    simple, between = column(rows, "simple saddles"), column(rows, "between memories")
    share = between.sum() / max(simple.sum(), 1)
    off = column(rows, "linear error")
    return [
        Row(
            what="Every memory is a stable fixed point",
            paper=SUSSILLO.says(
                "the mechanism of a net trained as a 3-bit flip-flop could be inferred from its "
                "fixed and slow points and the linearized dynamics around them",
                "abstract",
            ),
            expected=f"{memories} stable fixed points, whose outputs are the {memories} memories",
            here=f"{_list(column(rows, 'memories'))} memories have one, of nets with "
            f"{_list(column(rows, 'stable'))} stable points that say "
            f"{span(100 * right, '.1f')} % of the bits right",
            asked=f"all {memories}, in every net that says 99 % right, and there is such a net",
            holds=bool(
                (right >= 0.99).any()
                and all(r["memories"] == memories for r in rows if r["right"] >= 0.99)
            ),
        ),
        Row(
            what="Training made them",
            paper="",
            expected="before it the net forgets: one stable fixed point",
            here=f"{_list(column(rows, 'stable before'))} stable ones before",
            asked="one in every net",
            holds=bool((column(rows, "stable before") == 1).all()),
        ),
        Row(
            what="Saddles lie between the memories",
            paper=SUSSILLO.says(
                "fixed points, both stable and unstable, can reveal crucial aspects of how nets "
                "implement their computations",
                "abstract",
            ),
            expected="the two sides of a saddle with one direction of growth lead to two memories",
            here=f"{int(between.sum())} of {int(simple.sum())} such saddles do, of "
            f"{int(column(rows, 'saddles').sum())} saddles",
            asked="nine of ten, and every net has some",
            holds=bool(share >= 0.9 and (simple > 0).all()),
        ),
        Row(
            what="Near them the net is linear",
            paper="",
            expected="a state a little beside a fixed point moves as its Jacobian says",
            here=f"after 5 steps off by at most {100 * off.max():.2g} %, at all of the points",
            asked="within 1 % at every point",
            holds=bool(off.max() < 0.01),
        ),
    ]


def _list(values: Array) -> str:
    return ", ".join(str(int(v)) for v in values)


def chart(data: Data, blocks: str) -> str:
    """How many points of each kind, a bar for each net."""
    lines = []
    for row in data["rows"]:
        lines.append((f"seed {row['seed']}, stable", float(row["stable"]), str(row["stable"])))
        lines.append((f"seed {row['seed']}, saddles", float(row["saddles"]), str(row["saddles"])))
    return charts.bars(lines, blocks)


def draw(data: Data, figure: Any) -> None:
    """What the first net says at its fixed points; and how many directions grow in each."""
    left, right = figures.axes_of(figure, 2)
    net, bits = data["nets"][0], data["bits"]
    tilt = np.array([[1.0, 0.0], [0.0, 1.0], [0.35, 0.25]])[:bits]  # a cube, seen from aside
    said, kinds = np.array(net["points"]).reshape(-1, bits) @ tilt, np.array(net["kinds"])
    for i, j in net["edges"]:
        left.plot(*said[[i, j]].T, color="#c9ccd4", linewidth=1, zorder=1)
    for k, (kind, sign) in enumerate((("stable", "o"), ("saddle", "x"), ("repeller", "s"))):
        if (at := said[kinds == kind]).size:
            left.plot(*at.T, sign, color=figures.HUES[k], label=f"{kind} ({len(at)})")
    left.set_ylim(top=2.2)
    left.set_xlabel("output 1" if bits < 3 else "output 1, and output 3 aslant")
    left.set_ylabel("output 2")
    figures.title(left, "outputs at the fixed points; lines: ways out")
    figures.legend(left, 3)
    most = max(max(net["growing"], default=0) for net in data["nets"]) + 1
    for k, (row, net) in enumerate(zip(data["rows"], data["nets"], strict=True)):
        many = np.bincount(net["growing"], minlength=most)
        right.plot(range(most), many, label=f"seed {row['seed']}", **figures.line_style(k))
    right.set_xticks(range(most))
    right.set_xlabel("directions in which states leave")
    right.set_ylabel("fixed points")
    figures.title(right, "0: stable; 1: between two memories")
    figures.legend(right, len(data["rows"]))


CLAIM = Claim(
    name="flip-flop",
    title="A trained net's memories are its stable fixed points",
    sources=(SUSSILLO,),
    scale="a tanh net of 24 to 48 units trained by Adam on sequences of 30 steps; fixed points of "
    "the map from step to step, in place of a differential equation.",
    full={"seeds": 5, "bits": 3, "hidden": 48, "updates": 1500, "rate": 3e-3, "steps": 30,
          "starts": 512},
    quick={"seeds": 1, "bits": 2, "hidden": 24, "updates": 400, "rate": 5e-3, "steps": 30,
           "starts": 96},
    measure=measure,
    judge=judge,
    draw=draw,
    chart=chart,
)  # fmt: skip
