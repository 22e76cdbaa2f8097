"""Cells of a user's own, a training step: a peephole LSTM beside the same in PyTorch and JAX, and
an LSTM written again beside the built-in one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from harness import Options, Row
from sequences import Target, cost, enter, race, sizes, standings

TARGETS = (
    Target("torch eager", 1.8, 10.0),
    Target("torch.jit.script", 1.4, 6.0),
    Target("jax lax.scan", 1.8, 2.5),
)


def rows(options: Options) -> Iterator[Row]:
    with ExitStack() as stack:
        entries = enter(stack, options, "minigrad")
        entries += enter(stack, options, "torch", label="torch eager")
        entries += enter(stack, options, "torch", label="torch.jit.script", script=True)
        entries += enter(stack, options, "jax", label="jax lax.scan")
        yield from standings("cells", "peephole LSTM", "peephole", entries, TARGETS, options)
    with ExitStack() as stack:
        own = enter(stack, options, "minigrad", label="own", cell="own_lstm")
        built_in = enter(stack, options, "minigrad", label="mg.nn.LSTM")
        for size in sizes(options):
            times = race(own + built_in, "lstm", size, options)
            name = f"own LSTM {tuple(size)}"
            yield cost("cells", name, times, "own", "mg.nn.LSTM", "x mg.nn.LSTM", 1.15)
