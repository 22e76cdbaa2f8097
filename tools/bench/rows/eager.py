"""Eager cost: microseconds per recorded op, forward and backward, on arrays of 32 floats."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
from harness import Options, Peer, Row, compare, must_agree
from peers import inputs

OPS = ("tanh", "add", "multiply", "matmul")
LIMIT_WITHOUT_TORCH = 4.9  # us: torch 2.13 on a 2-core AVX-512 machine


def rows(options: Options) -> Iterator[Row]:
    with ExitStack() as stack:
        numpy = Peer("numpy", label="numpy, forward only")
        peers = [Peer("minigrad"), numpy]
        if options.torch:
            peers.append(Peer("torch", python=options.torch))
        for peer in peers:
            stack.enter_context(peer)
        for op in OPS:
            want = expected(op)
            for peer in peers:
                got = peer.prepare("chain", op=op)
                some = {"y": want["y"]} if peer is numpy else want
                must_agree(f"{peer.name}, {op}", got, some, 1e-5)
            times = compare(peers, options)
            us = {name: timing.median / inputs.CHAIN * 1e6 for name, timing in times.items()}
            yield Row(
                "eager",
                f"{op}, forward + backward",
                us.pop("minigrad"),
                "us/op",
                times["minigrad"].spread(1e6 / inputs.CHAIN),
                limit=us.get("torch", LIMIT_WITHOUT_TORCH),
                peers=us,
            )


def expected(op: str) -> dict[str, np.ndarray]:
    """The end of the chain and the gradient of its start, in closed form and float64."""
    x, factor, offset, weight, g = (array.astype(np.float64) for array in inputs.chain())
    n = inputs.CHAIN
    if op == "add":
        return {"y": x + n * offset, "dx": g}
    if op == "multiply":
        return {"y": x * factor**n, "dx": g * factor**n}
    if op == "matmul":
        power = np.linalg.matrix_power(weight, n)
        return {"y": x @ power, "dx": g @ power.T}
    y, slope = x, np.ones_like(x)
    for _ in range(n):
        y = np.tanh(y)
        slope *= 1 - y**2
    return {"y": y, "dx": g * slope}
