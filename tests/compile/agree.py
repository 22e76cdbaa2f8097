"""Fused equals tape: the comparison that the tests of the compiler share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.compile import division, fusing
from minigrad.kernels import jit
from minigrad.tree import leaves

PLAIN = jit.mode() == "plain"  # the generated text runs as Python: wide sweeps cost little

TOLERANCE = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 1e-5}


def close(name: str, got: Any, want: Any, tolerance: float) -> None:
    """Raises unless got is within `tolerance` of want, relative to want's largest (or to 1)."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{name}: {got.shape} and {want.shape}"
    assert got.dtype == want.dtype, f"{name}: {got.dtype} and {want.dtype}"
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want, err_msg=name)
        return
    error = np.abs(got - want).max(initial=0.0)
    scale = max(np.abs(want).max(initial=0.0), 1.0)
    assert error <= tolerance * scale, f"{name}: off by {error:.3g}, largest {scale:.3g}"


def wide(cases: Sequence[Any], telling: Sequence[Any]) -> Sequence[Any]:
    """All cases where they are cheap; natively, where each compiles for a second, a few."""
    return cases if PLAIN else telling


@contextmanager
def small_parts(chunk_rows: int, threads: int = 1, units: bool = False) -> Iterator[None]:
    """Chunks of steps and shares of threads as small sizes would not have them.

    units: threads share the units of a row, whatever that costs; else they never do.
    """
    names = "CHUNK_ROWS", "WORTH_A_THREAD", "WORTH_MEETING", "BESIDE"
    before = [getattr(division, name) for name in names], mg.get_num_threads()
    division.CHUNK_ROWS, division.WORTH_A_THREAD = chunk_rows, 0
    division.WORTH_MEETING = division.BESIDE = float("inf") if units else 0.0
    mg.set_num_threads(threads)
    rearrange()
    try:
        yield
    finally:
        rearrange()
        for name, value in zip(names, before[0], strict=True):
            setattr(division, name, value)
        mg.set_num_threads(before[1])


def rearrange() -> None:
    """Nothing is known any more of what sizes decide."""
    for compiled in fusing._COMPILED.values():
        compiled.arrangements.clear()


def outcome(
    run: Callable[[str], Any], inputs: Sequence[Any], mode: str, seed: int = 0
) -> dict[str, np.ndarray]:
    """What a scan gives in a mode: results, and the gradients of a random loss."""
    rng = np.random.default_rng(seed)
    for t in inputs:
        t.grad = None
    results = leaves(tuple(run(mode)))
    found = {f"result {k}": t.numpy().copy() for k, t in enumerate(results)}
    loss: Any = 0.0
    for t in results:
        if t.dtype.kind == "f":
            loss = loss + (t * rng.normal(size=t.shape).astype(t.dtype)).sum()
    if isinstance(loss, mg.Tensor) and loss.requires_grad:
        loss.backward()
    for k, t in enumerate(inputs):
        grad = np.zeros(t.shape, t.dtype) if t.grad is None else t.grad.numpy().copy()
        found[f"gradient of {t.name or k}"] = grad
    return found


def assert_agree(
    run: Callable[[str], Any], inputs: Sequence[Any], dtype: Any, tolerance: float | None = None
) -> None:
    """run(mode) gives the same results and gradients fused and on the tape."""
    fused, tape = outcome(run, inputs, "fused"), outcome(run, inputs, "tape")
    for name, want in tape.items():
        close(name, fused[name], want, tolerance or TOLERANCE[np.dtype(dtype)])
