"""Guards of guards: faults planted in the compiler do not pass the comparison with the tape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from cells import CELLS, inputs, learned, random_state
from compile.agree import PLAIN, assert_agree, small_parts
from compile.test_scan import leaf
from minigrad.compile import codegen, compiled, kernel, lower, nest, passes, reverse
from minigrad.compile import scan as scan_function
from minigrad.kernels import jit
from minigrad.tree import leaves
import sys

pytestmark = pytest.mark.skipif(not PLAIN, reason="each fault would compile kernels of its own")

COMPILED = sys.modules[scan_function.__module__]._COMPILED


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """No kernel with a fault is left for another test."""
    COMPILED.clear()
    yield
    COMPILED.clear()


def suite(rng: Any) -> None:
    """A few comparisons of the kind that the other files make by the hundred."""
    for name in ("lstm", "gru-before-write", "layernorm", "attention"):
        cell = CELLS[name](3, 66, np.float64, rng)  # 66: a whole vector of lanes, and two more
        xs, state = inputs(cell, 5, 3, rng), random_state(cell, 3, rng)
        wanted = [t for t in leaves((xs, state, learned(cell))) if isinstance(t, mg.Tensor)]
        for options in ({}, {"reverse": True, "lengths": (5, 2, 4)}):
            with small_parts(4, 1 + len(options)):
                assert_agree(
                    lambda mode, o=options: mg.scan(cell, state, xs, mode=mode, **o),  # noqa: B023
                    wanted, np.float64,
                )  # fmt: skip
    odds(rng)


def odds(rng: Any) -> None:
    """Ops that no cell that ships has: reductions that share a loop, views that are copied, ..."""
    init = (leaf(rng, 3, 4), leaf(rng, 3, 2, 3))
    xs, w, c = leaf(rng, 5, 3, 4), leaf(rng, 4, 3), leaf(rng, 3, 4)

    def cell(state: Any, x: Any) -> Any:
        a, m = state
        low, high = mg.min(a, 1, keepdims=True), mg.max(a * x, 1, keepdims=True)
        a = mg.roll(mg.tanh(a + x * c), 1, axis=1) + mg.pad(low, [(0, 0), (1, 2)], 0.5) * high
        m = mg.swapaxes(mg.swapaxes(m, 1, 2).reshape(3, 2, 3), 1, 2).reshape(3, 2, 3) * 0.5
        m = mg.tanh(m + mg.stack([a @ w, (a.detach() * 0.5) @ w], axis=1))
        return (a * mg.cumsum(x, axis=1), m), (a, m, x, mg.flip(a, 1))

    wanted = [*leaves(init), xs, w, c]
    with small_parts(2):
        assert_agree(lambda mode: mg.scan(cell, init, xs, mode=mode), wanted, np.float64)


def test_without_a_fault_the_comparison_passes(rng: Any) -> None:
    suite(rng)


@contextmanager
def replaced(owner: Any, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    real = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)
    setattr(owner, name, make(real.__func__ if isinstance(real, staticmethod) else real))
    try:
        yield
    finally:
        setattr(owner, name, real)


def in_text(old: str, new: str, which: str = "") -> Callable[[], Any]:
    """The generated text with `old` replaced by `new`, in kernels whose title has `which`."""

    def wrong(generate: Any) -> Any:
        def faulty(self: Any, title: str, program: str) -> str:
            text = str(generate(self, title, program))
            return text.replace(old, new) if which in title else text

        return faulty

    return lambda: replaced(codegen.Generator, "generate", wrong)


def every(n: int, drop: Callable[..., Any]) -> Callable[[Any], Any]:
    """A function that goes wrong at its n-th call."""

    def wrong(real: Any) -> Any:
        calls = [0]

        def faulty(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            return drop(real, *args, **kwargs) if calls[0] % n == 0 else real(*args, **kwargs)

        return faulty

    return wrong


def no_store(real: Any, *args: Any, **kwargs: Any) -> None:
    """Nothing is stored."""


def last_place(real: Any, v: Any, *args: Any) -> Any:
    return real(v, *args)


FAULTS: dict[str, Callable[[], Any]] = {
    "a store is dropped": lambda: replaced(nest.Nest, "_store", every(7, no_store)),
    "the last lanes of a vector are left out": lambda: replaced(
        nest.Nest, "_vectors", lambda real: lambda self, body: whole_only(self, body)
    ),
    "before and after change places": in_text("t + before", "t + after"),
    "even and odd rows change places": in_text("1 - i % 2", "i % 2"),
    "BPTT runs the way that the loop forward ran": in_text("t = first + i * step",
        "t = steps - 1 - (first + i * step)", "backward"),  # fmt: skip
    "a product adds to what is there": in_text(", vectors, 0)", ", vectors, 1)"),
    "a product forgets what is there": in_text(", vectors, 1)", ", vectors, 0)"),
    "a shard begins a row too late": in_text("low = index * low_rows", "low = index * low_rows + 1"),
    "a shard ends a row too early": in_text("low + low_rows, rows)", "low + low_rows, rows) - 1"),
    "the last chunk is as long as the others": in_text("least(chunk, steps - i)", "chunk"),
    "a chunk in reverse starts at its other end": in_text(
        "pick(step > 0, t, t - count + 1)", "t"
    ),
    "a sum starts at one": in_text('= c(0.0)\n', '= c(1.0)\n'),
    "a maximum starts at zero": in_text('c("-inf")', "c(0.0)"),
    "a minimum starts at zero": in_text('c("inf")', "c(0.0)"),
    "slopes of tanh are those of the sigmoid": lambda: replaced(
        mg.ops.tanh, "rules", lambda rules: {"x": lambda g, y: g * y * (1 - y)}
    ),
    "views of a value are read before it is there": lambda: replaced(
        lower.Lowering, "_ready", lambda real: lambda self, v: 0
    ),
    "a copy goes to the wrong place": lambda: replaced(
        lower.Lowering, "_copy_place",
        every(3, lambda real, self, source, target, first: real(
            self, source, target._replace(offset=target.offset ^ 1), first)),
    ),
    "equal ops with different parameters are shared": lambda: replaced(
        passes, "freeze", lambda real: lambda value: None
    ),
    "slices keep their place when they move": lambda: replaced(
        passes, "_for_operand",
        lambda real: lambda index, v, operand: tuple(slice(None) for _ in operand.shape)
        if len(operand.shape) > 1 else real(index, v, operand),
    ),
    "a detached value passes its gradient on": lambda: replaced(
        sys.modules["minigrad.compile.trace"].Tracer, "detach", lambda real: lambda self: self
    ),
    "parts of a gradient are lost": lambda: replaced(
        reverse._Reverse, "_add",
        lambda real: lambda self, v, g: self.found.__setitem__(id(v), []) or real(self, v, g)
    ),
    "a sum over time forgets the batch": lambda: replaced(
        compiled, "by_time", lambda real: lambda array, v, rows: real(array * (len(array) > 1), v, rows)
    ),
    "a gradient of the last state does not arrive": lambda: replaced(
        kernel.StepKernel, "run",
        lambda real: lambda self, storage, *args: (
            storage["dcarry0"].fill(0) if "backward" in self.name else None,
            real(self, storage, *args),
        )[1],
    ),
}  # fmt: skip


def whole_only(self: Any, body: Any) -> None:
    n, lanes = self.space[self.vector], self.lanes
    whole = max(n // lanes * lanes, min(n, 2))
    self.t.add("j = 0")
    body("" if whole >= lanes else str(whole))


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_survives(fault: str, rng: Any) -> None:
    assert jit.mode() == "plain"
    with FAULTS[fault](), pytest.raises(Exception):  # noqa: B017, PT011  # wrong, or refused
        suite(rng)


def test_every_text_that_a_fault_replaces_is_there(rng: Any) -> None:
    """A fault that changes nothing would be no fault."""
    seen: list[str] = []

    def noting(generate: Any) -> Any:
        def noted(self: Any, title: str, program: str) -> str:
            seen.append(str(generate(self, title, program)))
            return seen[-1]

        return noted

    with replaced(codegen.Generator, "generate", noting):
        suite(rng)
    text = "\n".join(seen)
    for part in ("t + before", "1 - i % 2", ", vectors, 0)", ", vectors, 1)", "least(chunk, steps - i)",
                 "pick(step > 0, t, t - count + 1)", '= c(0.0)\n', 'c("-inf")', 'c("inf")',
                 "low = index * low_rows", "low + low_rows, rows)"):  # fmt: skip
        assert part in text, part
