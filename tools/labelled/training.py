"""Nets that were trained: at rates that are too large, at others, or until they solve a task."""

from __future__ import annotations

from typing import Any

import numpy as np

import minigrad as mg
from minigrad import optim

from .dynamics import alive
from .nets import Net, draw, made

Rng = np.random.Generator


def rate_too_large(seed: int, rng: Rng) -> Net:
    return trained(seed, rng, float(rng.choice([0.3, 1.0, 3.0])), updates=50, compare=True)


def rate_all_right(seed: int, rng: Rng) -> Net:
    return trained(seed, rng, float(rng.choice([3e-4, 1e-3, 3e-3])), updates=50, compare=True)


def solved(seed: int, rng: Rng) -> Net:
    """Trained until its task is solved, so nothing is wrong with it."""
    return trained(seed, rng, 5e-3, updates=1200, until_solved=True)


def trained(
    seed: int,
    rng: Rng,
    rate: float,
    updates: int,
    compare: bool = False,
    until_solved: bool = False,
) -> Net:
    """A net, and the losses of its training; whether its rate is too large says a second run.

    The second run begins with the same weights, sees the same batches, and takes a hundredth of the
    rate: too large is a rate that ends in NaN, or with twice its loss, or more, and above the loss
    that both began with; all right is one that never rises far and does not end above it.
    """
    cell = str(rng.choice(["rnn", "lstm", "gru", "lstm", "gru", "peephole"]))
    name = str(rng.choice(["adding", "latch", "order"]))
    spec = draw(seed, rng, cell=cell, task=name, mode="fused", layers=int(rng.choice([1, 1, 2])),
                steps=int(rng.choice([10, 16, 20])), rows=16, bidirectional=False, lengths=False,
                dtype="float32", scale=1.0)  # fmt: skip
    adam = until_solved or rng.random() < 0.7
    rate = rate if adam else 30 * rate
    state = rng.bit_generator.state
    curves = []
    for factor in (0.01, 1.0) if compare else (1.0,):
        rng.bit_generator.state = state
        net = made(spec, rng)
        if cell == "rnn":
            alive(net, rng)
        monitor = mg.flow.Monitor(net.layer, every=10, flow=False) if rng.random() < 0.5 else None
        curves.append(_train(net, rng, factor * rate, adam, updates, until_solved, monitor))
    net.losses, net.monitor = curves[-1], monitor
    if compare:
        net.planted["rate-too-large"] = _too_large(*curves)
    elif until_solved and net.task is not None and net.task.solved(float(np.mean(curves[-1][-5:]))):
        net.planted |= dict.fromkeys(("saturated-gates", "rate-too-large"), False)
    return net


def _train(
    net: Net, rng: Rng, rate: float, adam: bool, updates: int, until_solved: bool, monitor: Any
) -> list[float]:
    parameters = [*net.layer.parameters(), *net.head.parameters()]
    optimizer = optim.Adam(parameters, lr=rate) if adam else optim.SGD(parameters, lr=rate)
    curve: list[float] = []
    work: Any = net.task
    batches = [work.batch(rng, 32) for _ in range(64 if until_solved else updates)]
    for k in range(updates):
        xs, targets = batches[k % len(batches)]
        if monitor is not None:
            monitor.before()
        with np.errstate(all="ignore"):
            loss = work.loss(net.head(net.layer(xs)[0][-1]), targets)
            optimizer.zero_grad()
            loss.backward()
            if until_solved:
                optim.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        curve.append(float(loss.item()))
        if monitor is not None:
            monitor.after()
            monitor.log(loss=curve[-1])
        if not np.isfinite(curve[-1]):
            break
        if until_solved and k > 50 and work.solved(float(np.mean(curve[-8:]))):
            break
    return curve


def _too_large(small: list[float], large: list[float]) -> bool | None:
    """See `trained`; None where neither is clearly so."""
    if not np.isfinite(large).all():
        return True
    began, end, ended = np.mean(small[:3]), np.mean(small[-5:]), np.mean(large[-5:])
    if ended > 2 * end and ended > 1.2 * began:
        return True
    calm = max(large) < 3 * began and ended < 1.05 * began and ended < 1.2 * end
    return False if calm else None
