"""A training step of RNN, LSTM and GRU: forward, backward, float32, two threads, loss sum(h**2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
from harness import Options, Peer, Row, compare, must_agree
from peers import inputs

CELLS = ("rnn", "lstm", "gru")
SIZES = (  # B, T, I, H
    (1, 100, 32, 32),
    (16, 50, 64, 64),
    (32, 100, 128, 128),
    (64, 100, 256, 256),
    (32, 50, 512, 512),
)
QUICK_SIZES = ((3, 7, 5, 9),)


def rows(options: Options) -> Iterator[Row]:
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer("minigrad", threads=2))]
        if options.torch:
            torch = Peer("torch", python=options.torch, threads=2)
            peers.append(stack.enter_context(torch))
        for cell in CELLS:
            for sizes in QUICK_SIZES if options.quick else SIZES:
                yield step(cell, sizes, peers, options)


def step(cell: str, sizes: tuple[int, int, int, int], peers: list[Peer], options: Options) -> Row:
    names = dict(zip(("batch", "steps", "inputs", "hidden"), sizes, strict=True))
    for peer in peers:
        validate(peer.name, peer.prepare("layer", cell=cell, **names), cell, names)
    times = compare(peers, options)
    return Row(
        "layers",
        f"{cell} {sizes}, tape",
        times["minigrad"].median * 1e3,
        "ms/step",
        times["minigrad"].spread(1e3),
        peers={name: t.median * 1e3 for name, t in times.items() if name != "minigrad"},
    )


def validate(who: str, got: dict[str, np.ndarray], cell: str, sizes: dict[str, int]) -> None:
    """The loss, and the gradient along one random direction of all inputs and weights together.

    The oracle runs in float64: by central differences, d loss(x + eps v) / d eps is <gradient, v>.
    """
    xs, weights = inputs.sequence(cell, **sizes)
    point = {name: array.astype(np.float64) for name, array in (weights | {"xs": xs}).items()}
    rng = np.random.default_rng(6)
    direction = {name: rng.standard_normal(array.shape) for name, array in point.items()}
    eps = 1e-5

    def at(distance: float) -> float:
        return loss(cell, {name: point[name] + distance * direction[name] for name in point})

    slope = (at(eps) - at(-eps)) / (2 * eps)
    along = sum(np.vdot(got[name].astype(np.float64), direction[name]) for name in point)
    want = {"loss": np.asarray(loss(cell, point)), "gradient": np.asarray(slope)}
    must_agree(f"{who}, {cell} {sizes}", {"loss": got["loss"], "gradient": along}, want, 2e-4)


def loss(cell: str, p: dict[str, np.ndarray]) -> float:
    """sum(h**2) over all steps, by the equations in the documentation of torch.nn."""
    hidden = p["weight_hh_l0"].shape[1]
    h = c = np.zeros((p["xs"].shape[1], hidden))
    total = 0.0
    for x in p["xs"]:
        from_x = x @ p["weight_ih_l0"].T + p["bias_ih_l0"]
        from_h = h @ p["weight_hh_l0"].T + p["bias_hh_l0"]
        if cell == "rnn":
            h = np.tanh(from_x + from_h)
        elif cell == "lstm":
            i, f, g, o = np.split(from_x + from_h, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            (rx, zx, nx), (rh, zh, nh) = np.split(from_x, 3, axis=1), np.split(from_h, 3, axis=1)
            z = sigmoid(zx + zh)
            h = (1 - z) * np.tanh(nx + sigmoid(rx + rh) * nh) + z * h
        total += float((h**2).sum())
    return total


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
