"""A whole training step of a character model: embedding, LSTM or GRU, linear, cross-entropy,
clipping and Adam, float32, two threads; and how much Python there is in a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import training_oracle
from harness import Options, Row, Timing, compare, must_agree
from peers.inputs import Sizes
from sequences import Entry, Target, enter, mean, race, ratio

SIZES = ((16, 50, 64), (32, 100, 128), (64, 100, 256))  # batch, steps, hidden
QUICK_SIZES = ((3, 7, 9),)
PLAIN, JITTED = "minigrad", "mg.jit"
TARGETS = {
    PLAIN: [Target("torch eager", 1.2, 2.0), Target("jax.jit", None, None)],
    JITTED: [Target("torch eager", 1.45, 2.6), Target("jax.jit", 1.6, 2.2)],
}
STREAM = Sizes(1, 20, 32, 64)  # 20 steps are compared, one is timed
CALLS = {"layer": 300, "stream": 60, "training": 40}


def rows(options: Options) -> Iterator[Row]:
    with ExitStack() as stack:
        plain = enter(stack, options, "minigrad")
        torch = enter(stack, options, "torch", label="torch eager")
        entries = [*plain, *torch, *enter(stack, options, "jax", label="jax.jit")]
        if has(plain, "jit"):
            entries += enter(stack, options, "minigrad", label=JITTED, jitted=True)
        yield from standings(entries, options)
        if has(plain, "stream"):
            both = [Entry(entry.peer, {"forward": True}) for entry in (*plain, *torch)]
            times = race(both, "lstm", STREAM, options, case="stream")
            row = ratio("training", "a streaming step of an LSTM", times, "torch eager", set())
            row.limit = 1.5
            yield row
        yield from calls(plain)


def standings(entries: Sequence[Entry], options: Options) -> Iterator[Row]:
    """How many times faster minigrad is, plain and jitted, at each size and on average."""
    there = {entry.peer.name for entry in entries}
    found: dict[tuple[str, str], list[float]] = {}
    for cell in ("lstm", "gru"):
        for size in QUICK_SIZES if options.quick else SIZES:
            times = race_to_train(entries, cell, size, options)
            for who, targets in TARGETS.items():
                for target in targets if who in there else ():
                    name = f"{cell} {size}" + ", mg.jit" * (who == JITTED)
                    row = ratio("training", name, times, target.opponent, there, who)
                    row.limit = target.each
                    if row.value is not None:
                        found.setdefault((who, target.opponent), []).append(row.value)
                    yield row
    for who, targets in TARGETS.items():
        for target in targets:
            if values := found.get((who, target.opponent)):
                what = "training" + ", mg.jit" * (who == JITTED)
                yield mean("training", what, values, target)


def race_to_train(
    entries: Sequence[Entry], cell: str, size: tuple[int, int, int], options: Options
) -> dict[str, Timing]:
    """Times of a step; the losses of everybody's first steps have been found right."""
    want = {"losses": training_oracle.losses(cell, *size)}
    about = dict(zip(("batch", "steps", "hidden"), size, strict=True))
    for entry in entries:
        got = entry.peer.prepare("training", cell=cell, **about, **entry.how)
        who = f"{entry.peer.name}, {cell} {size}"
        must_agree(who, got, want, training_oracle.TOLERANCE)
    return compare([entry.peer for entry in entries], options)


def calls(minigrad: Sequence[Entry]) -> Iterator[Row]:
    """Python functions called in a step: of a layer's training, a stream, a jitted training."""
    layer = Sizes(1, 100, 32, 32)._asdict() | {"cell": "lstm"}
    stream = STREAM._asdict() | {"cell": "lstm"}
    whole = dict(zip(("batch", "steps", "hidden"), SIZES[0], strict=True)) | {"cell": "lstm"}
    steps = {"a training step of an LSTM": ("layer", layer)}
    steps["a whole training step"] = ("training", whole)
    if has(minigrad, "stream"):
        steps["a streaming step"] = ("stream", stream)
    if has(minigrad, "jit"):
        steps["a whole training step, mg.jit"] = ("training", whole | {"jitted": True})
    for name, (what, args) in steps.items():
        count = float(minigrad[0].peer.prepare("calls", what=what, **args)["calls"])
        limit = None if name == "a whole training step" else CALLS[what]
        yield Row("training", f"Python calls of {name}", count, "calls", limit=limit)


def has(minigrad: Sequence[Entry], what: str) -> bool:
    return bool(minigrad[0].peer.prepare("can", what=what)["can"])
