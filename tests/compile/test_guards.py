"""Guards of guards: faults planted in the compiler do not pass the comparison with the tape."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from cells import CELLS, inputs, learned, random_state
from compile.agree import PLAIN, assert_agree, small_parts
from compile.test_scan import leaf

import minigrad as mg
from minigrad.compile import codegen, formula, fusing, lower, nest, prepared, reversing
from minigrad.compile.passes import sharing, slicing
from minigrad.compile.program import ProgramError
from minigrad.tree import leaves

pytestmark = pytest.mark.skipif(not PLAIN, reason="each fault would compile kernels of its own")

COMPILED = fusing._COMPILED


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """No kernel with a fault is left for another test."""
    COMPILED.clear()
    yield
    COMPILED.clear()


def suite(rng: Any) -> None:
    """A few comparisons of the kind that the other files make by the hundred."""
    for name in ("lstm", "gru-before-write", "layernorm", "attention"):
        cell = CELLS[name](3, 6, np.float64, rng)
        xs, state = inputs(cell, 5, 3, rng), random_state(cell, 3, rng)
        wanted = [t for t in leaves((xs, state, learned(cell))) if isinstance(t, mg.Tensor)]
        for shards, options in ((1, {}), (1, {"reverse": True}), (3, {"lengths": (5, 2, 4)})):
            with small_parts(4, shards):
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
        low, high = mg.min(a * a + 0.5, 1, keepdims=True), mg.max(a * x, 1, keepdims=True)
        a = mg.roll(mg.tanh(a + x * c), 1, axis=1) + mg.pad(low, [(0, 0), (1, 2)], 0.5) * high
        m = mg.swapaxes(mg.swapaxes(m, 1, 2).reshape(3, 2, 3), 1, 2).reshape(3, 2, 3) * 0.5
        m = m * mg.sum(m, 1, keepdims=True) + mg.max(m, 1, keepdims=True) * mg.min(
            m, 1, keepdims=True
        )
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


TEXTS: list[str] = []  # all that faults replace


def in_text(old: str, new: str, which: str = "") -> Callable[[], Any]:
    """The generated text with `old` replaced by `new`, in kernels whose title has `which`."""
    TEXTS.append(old)

    def wrong(generate: Any) -> Any:
        def faulty(self: Any, title: str, program: str) -> str:
            text = str(generate(self, title, program))
            if which in title:
                text = self.code = text.replace(old, new)  # a kernel of its own
            return text

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


def bare(node: Any, strength: int) -> str:
    return str(node.text)


def beside(real: Any, self: Any, source: Any, target: Any, *rest: Any) -> Any:
    return real(self, source, target._replace(offset=target.offset ^ 1), *rest)


def lost(real: Any, self: Any, v: Any, g: Any) -> None:
    self.found[id(v)] = []
    real(self, v, g)


def unmoved(real: Any, index: Any, v: Any, operand: Any) -> Any:
    whole = slice(None)
    return tuple(i if i == whole else slice(0, i.stop - i.start) for i in real(index, v, operand))


def without_the_last(real: Any, self: Any, forward: Any, arriving: Any, *more: Any) -> Any:
    return real(self, forward, {k: g for k, g in arriving.items() if k}, *more)


def doubled(real: Any, self: Any, *args: Any) -> Any:
    total = real(self, *args)
    self.calls.append((np.multiply, (total, 2, total)))
    return total


def with_smaller_sizes(real: Any, self: Any, *args: Any) -> str:
    text = str(real(self, *args))
    self.sizes[:] = [n - 1 for n in self.sizes]
    return text


FAULTS: dict[str, Callable[[], Any]] = {
    "a store is dropped": lambda: replaced(nest.Nest, "_result", every(7, no_store)),
    "the last unit is left out": in_text("for j in range(H)", "for j in range(H - 1)"),
    "a gate reads beside another": in_text("[j + H2]", "[j + H]"),
    "sizes are those of other layers": lambda: replaced(
        codegen.Generator, "generate", lambda real: lambda *args: with_smaller_sizes(real, *args)
    ),
    "before and after change places": in_text("t + before", "t + after"),
    "even and odd rows change places": in_text("1 - n % 2", "n % 2"),
    "BPTT runs the way that the loop forward ran": in_text(
        "t = first + n * step", "t = T - 1 - (first + n * step)", "backward"
    ),
    "a product adds to what is there": in_text(" vectors, 0", " vectors, 1"),
    "a product forgets what is there": in_text(" vectors, 1", " vectors, 0"),
    "a shard begins a row too late": in_text("low = index * share", "low = index * share + 1"),
    "a shard ends a row too early": in_text("low + share, B)", "low + share, B) - 1"),
    "the last chunk is as long as the others": in_text("min(chunk, T - n)", "chunk"),
    "a chunk in reverse starts at its other end": in_text("t if step > 0 else t - count + 1", "t"),
    "a sum starts at one": in_text("total = 0.0\n", "total = 1.0\n"),
    "a sum in memory starts at one": in_text("] = 0.0\n", "] = 1.0\n"),
    "a maximum starts at zero": in_text(" = -inf\n", " = 0.0\n"),
    "a minimum starts at zero": in_text(" = inf\n", " = 0.0\n"),
    "a sum forgets what it had": in_text("plus(total, ", "plus(0.0, "),
    "brackets are left out": lambda: replaced(formula, "_bracketed", lambda real: bare),
    "slopes of tanh are those of the sigmoid": lambda: replaced(
        mg.ops.tanh, "rules", lambda rules: {"x": lambda g, y: g * y * (1 - y)}
    ),
    "views of a value are read before it is there": lambda: replaced(
        lower.Lowering, "_ready", lambda real: lambda self, v: 0
    ),
    "a copy goes to the wrong place": lambda: replaced(
        lower.Lowering, "_copy_place", every(3, beside)
    ),
    "equal ops with different parameters are shared": lambda: replaced(
        sharing, "freeze", lambda real: lambda value: None
    ),
    "slices keep their place when they move": lambda: replaced(
        slicing, "_for_operand", every(1, unmoved)
    ),
    "a detached value passes its gradient on": lambda: replaced(
        sys.modules["minigrad.compile.tracer"].Tracer, "detach", lambda real: lambda self: self
    ),
    "parts of a gradient are lost": lambda: replaced(reversing._Reverse, "_add", every(1, lost)),
    "a sum over time is twice what it is": lambda: replaced(
        prepared.Back, "_summed", every(1, doubled)
    ),
    "a gradient of the last state does not arrive": lambda: replaced(
        prepared.Back, "__init__", every(1, without_the_last)
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_survives(fault: str, rng: Any) -> None:
    """A number is off, or a kernel leaves its arrays, or the text is no program any more."""
    with FAULTS[fault](), pytest.raises((AssertionError, IndexError, ProgramError)):
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
    for part in TEXTS:
        assert part in text, part
