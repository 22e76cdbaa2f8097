"""Matmul: against numpy.matmul on one thread, and how it scales to two."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from harness import Options, Peer, Row, Timing, compare, must_agree
from peers import inputs

DTYPES = ("float32", "float64")
GRID = list(product((16, 32, 64), (64, 128, 256, 512), (256, 512, 1024, 2048)))
QUICK_GRID = [(16, 64, 256), (64, 128, 512)]


def rows(options: Options) -> Iterator[Row]:
    for dtype in DTYPES:
        yield from grid(dtype, options)
    large = 256 if options.quick else 1024
    for dtype in DTYPES:
        yield square(large, dtype, options)
    for dtype in DTYPES:
        yield scaling(large, dtype, options)


def grid(dtype: str, options: Options) -> Iterator[Row]:
    """numpy.matmul's time over ours at every shape: the geometric mean, and the worst."""
    shapes = QUICK_GRID if options.quick else GRID
    ratios = {}
    with Peer("minigrad") as ours, Peer("numpy") as numpy:
        for m, k, n in shapes:
            times = timed([ours, numpy], m, k, n, dtype, options)
            ratios[f"{m} {k} {n}"] = times["numpy"].ratio(times["minigrad"])
    medians = {shape: ratio.median for shape, ratio in ratios.items()}
    worst = min(medians, key=lambda shape: medians[shape])
    below = sum(median < 1 for median in medians.values())
    name = f"{dtype}, {len(shapes)} shapes, 1 thread"
    yield Row(
        "matmul",
        f"{name}: geometric mean",
        float(np.exp(np.mean(np.log(list(medians.values()))))),
        "x numpy",
        Timing(list(medians.values())).spread(),
        limit=1.0,
        better=">=",
        details=medians,
    )
    yield Row(
        "matmul",
        f"{name}: worst",
        medians[worst],
        "x numpy",
        ratios[worst].spread(),
        limit=1.0,
        better=">=",
        note=f"M, K, N = {worst}; below numpy at {below} of {len(shapes)}",
    )


def square(size: int, dtype: str, options: Options) -> Row:
    with Peer("minigrad") as ours, Peer("numpy") as numpy:
        times = timed([ours, numpy], size, size, size, dtype, options)
    flops = 2 * size**3
    ratio = times["numpy"].ratio(times["minigrad"])
    return Row(
        "matmul",
        f"{dtype}, {size}^3, 1 thread",
        ratio.median,
        "x numpy",
        ratio.spread(),
        limit=0.8,
        better=">=",
        note=f"{gflops(flops, times['minigrad'])}, numpy {gflops(flops, times['numpy'])}",
    )


def scaling(size: int, dtype: str, options: Options) -> Row:
    name = f"{dtype}, {size}^3, 2 threads"
    if (os.cpu_count() or 1) < 2:
        return Row("matmul", name, note="not measured: this machine has one core")
    with (
        Peer("minigrad", label="one", threads=1) as one,
        Peer("minigrad", label="two", threads=2) as two,
    ):
        times = timed([one, two], size, size, size, dtype, options)
    ratio = times["one"].ratio(times["two"])
    return Row(
        "matmul",
        name,
        ratio.median,
        "x 1 thread",
        ratio.spread(),
        limit=1.7,
        better=">=",
        note=gflops(2 * size**3, times["two"]),
    )


def timed(
    peers: Sequence[Peer], m: int, k: int, n: int, dtype: str, options: Options
) -> dict[str, Timing]:
    a, b = inputs.matrices(m, k, n, dtype)
    want = {"y": a.astype(np.float64) @ b.astype(np.float64)}
    for peer in peers:
        got = peer.prepare("matmul", m=m, k=k, n=n, dtype=dtype)
        # a sum of k products errs by at most k ulp of its largest partial sum; in practice sqrt(k)
        must_agree(peer.name, got, want, 4 * np.sqrt(k) * float(np.finfo(dtype).eps))
    return compare(peers, options)


def gflops(flops: int, timing: Timing) -> str:
    return f"{flops / timing.median / 1e9:.0f} GFLOP/s"
