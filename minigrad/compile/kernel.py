"""A lowered step as something that runs: its text, its machine code, how it is called.

Under NUMBA_DISABLE_JIT=1 the same text runs as Python, on NumPy's arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ..kernels import compiler, jit, multiplying, threads
from .codegen import EXTRA, SIGNATURE, Generator
from .division import Division, Work
from .layout import Buffer
from .lowered import Lowered
from .program import Program, Value, computed, params_for
from .stages import undivided


class Variant:
    """The text of a kernel, and what became of it. divided: whether threads share the units."""

    def __init__(self, name: str, generator: Generator, title: str, program: str):
        self.name, self.divided = name, generator.divided
        self.text = generator.generate(title, program)
        self.sizes = generator.sizes  # which its words end with
        self.code = generator.code  # what of the text decides the machine code
        self.entry = "part" if self.divided else "shard"

    @cached_property
    def built(self) -> compiler.Kernel:
        entries, title = {self.entry: SIGNATURE}, f"a step of {self.name}"
        return compiler.build(f"scan_{self.name}", self.text, entries, self.code, title)

    def job(self, words: int, parts: int) -> tuple[int, int, int]:
        """(address, argument, count) of what `call` runs, for `threads.side_by_side`."""
        return self.built[self.entry], words, parts

    def call(self, words: int, parts: int) -> tuple[Callable[..., None], tuple[int, ...]]:
        """(f, arguments): f(*arguments) runs all parts, on the words at an address."""
        if jit.mode() != "native":
            return self._one_by_one, (words, parts)
        if self.divided:
            return threads.together, (self.built[self.entry], words, parts)
        if parts > 1:
            return threads.parallel_for, (self.built[self.entry], words, parts)
        return self._function, (words, 0)

    @cached_property
    def _function(self) -> Callable[[int, int], None]:
        return self.built.function(self.entry)

    def _one_by_one(self, words: int, parts: int) -> None:
        with np.errstate(all="ignore"):
            for index in range(parts):
                self._function(words, index)


class StepKernel:
    """One compiled loop over the steps of a program, forward or backward.

    arrays: the buffers whose memory the caller gives. packed: whether it runs over packed steps.
    """

    def __init__(
        self, name: str, program: Program, lowered: Lowered, arrays: Sequence[Buffer],
        packed: bool = False,
    ):  # fmt: skip
        self.name, self.program, self.lowered, self.packed = name, program, lowered, packed
        named = {b.name: b for b in (*arrays, *lowered.scratch, *lowered.weights.values())}
        floats = [b.dtype for b in named.values() if b.dtype.kind == "f"]
        self.dtype = floats[0] if floats else np.dtype(np.float32)
        self.buffers = list(named.values())
        read = {b: v for v, b in lowered.weights.items()}
        self.order = [(b.name, read.get(b)) for b in self.buffers]
        self.work = Work(lowered, self.dtype.itemsize)
        self._variants: dict[bool, Variant] = {}

    def variant(self, divided: bool) -> Variant:
        """Its text, where threads share the units of a row or where they don't."""
        if divided not in self._variants:
            stages = self.work.stages if divided else undivided(self.lowered)
            states = self.program.carry
            generator = Generator(
                self.lowered, self.buffers, self.dtype, states[0].size if states else 0, stages,
                divided, self.packed,
            )  # fmt: skip
            title, name = f"scan: {self.name}", f"{self.name}{'_divided' if divided else ''}"
            self._variants[divided] = Variant(name, generator, title, str(self.program))
        return self._variants[divided]

    def division(self, steps: int, rows: int, many: int = 1) -> Division:
        """How a call of so many steps and rows is divided."""
        return self.work.packed(steps, rows) if self.packed else self.work.divide(steps, rows, many)

    @cached_property
    def multiply(self) -> int:
        """The address of the table of products, if there is one in the step."""
        return multiplying.table(self.dtype) if self.lowered.packed else 0

    def head(
        self, steps: int, rows: int, backwards: bool, reverse: bool, many: int = 1
    ) -> tuple[list[int], Division]:
        """How a call begins: its first words, and how it is divided. backwards: whether this is
        BPTT, which visits the steps the other way round. reverse: of the scan itself. many: how
        many such calls run side by side. Of packed steps the first word and the third, the number
        of steps and the first of them, are found out in each run.
        """
        division = self.division(steps, rows, many)
        down = reverse != backwards
        words = [
            steps, rows, steps - 1 if down else 0, -1 if down else 1, int(reverse),
            int(not reverse), division.share, division.vectors, division.chunk, division.wide,
            self.multiply,
        ]  # fmt: skip
        if division.kind == "units":
            native = jit.mode() == "native"
            words = [1, threads.pool_words() if native else 0, *words]
            division = division if native else division._replace(parts=1)
        return words, division


def evaluate(values: Sequence[Value], known: dict[Value, Any], rows: int) -> None:
    """Runs the ops of `values` on arrays (or Tensors), adding the results to `known`."""
    for v in values:
        if v in known:
            continue
        assert v.op is not None
        inputs = [known[i] if type(i) is Value else i for i in v.inputs]
        for i in v.cut:
            inputs[i] = inputs[i].detach() if hasattr(inputs[i], "detach") else inputs[i]
        if v.kind == "view" and type(inputs[0]) is np.ndarray:  # nothing to check or convert
            known[v] = v.op.forward(inputs, params_for(v, rows))
        else:
            known[v] = computed(v, inputs, rows)


def rows_of(buffer: Buffer, steps: int) -> int:
    """How many rows of time an array for this buffer has."""
    return 2 if buffer.at in ("even", "odd") else steps + EXTRA[buffer.at]
