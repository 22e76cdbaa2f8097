"""Vector maths: nanoseconds an element, one thread, operands in the L2 cache."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from harness import Options, Peer, Row, compare, must_agree
from peers import inputs

FUNCTIONS = ("exp", "log", "tanh", "sigmoid")
LIMIT = {"float32": 1.0, "float64": 1.5}
BYTES = 256 * 1024  # input and output together: beyond L1, within L2 of any current core


def rows(options: Options) -> Iterator[Row]:
    for dtype in LIMIT:
        size = BYTES // 2 // np.dtype(dtype).itemsize
        with Peer("minigrad") as ours, Peer("numpy") as numpy:
            for function in FUNCTIONS:
                for peer in (ours, numpy):
                    got = peer.prepare("elementwise", function=function, dtype=dtype, size=size)
                    must_agree(peer.name, got, expected(function, dtype, size), tolerance(dtype))
                times = compare([ours, numpy], options)
                yield Row(
                    "vectormath",
                    f"{function} {dtype}",
                    times["minigrad"].median / size * 1e9,
                    "ns/element",
                    times["minigrad"].spread(1e9 / size),
                    LIMIT[dtype],
                    peers={"numpy": times["numpy"].median / size * 1e9},
                )


def expected(function: str, dtype: str, size: int) -> dict[str, np.ndarray]:
    x = inputs.vector(function, dtype, size).astype(np.longdouble)
    return {"y": 1 / (1 + np.exp(-x)) if function == "sigmoid" else getattr(np, function)(x)}


def tolerance(dtype: str) -> float:
    return 8 * float(np.finfo(dtype).eps)
