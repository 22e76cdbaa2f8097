"""A lowered step as something that runs: its text, its machine code, how it is called.

Under NUMBA_DISABLE_JIT=1 the same text runs as Python, on NumPy's arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..kernels import compiler, jit, matmul, threads
from ..kernels.matmul import panel_vectors
from .codegen import ENTRIES, EXTRA, Generator
from .layout import Buffer
from .lower import Loop, Lowered, Product
from .program import Program, Value, params_for

Array = np.ndarray

_CHUNK_ROWS = 48  # of a product over several steps: enough rows for all registers
_WORTH_A_THREAD = 1 << 17  # multiply-adds: below that a second thread costs more than it brings


class Head(NamedTuple):
    """The first words of a call, for given sizes, and what follows from the same sizes."""

    words: list[int]
    shards: int
    chunk: int  # steps whose products without a state are done at once
    vectors: int  # the width of panels within a step
    wide: int  # and over a chunk


class StepKernel:
    """One compiled loop over the steps of a program, forward or backward.

    arrays: the buffers whose memory the caller gives.
    """

    def __init__(self, name: str, program: Program, lowered: Lowered, arrays: Sequence[Buffer]):
        self.name, self.program, self.lowered = name, program, lowered
        named = {b.name: b for b in (*arrays, *lowered.scratch, *lowered.weights.values())}
        floats = [b.dtype for b in named.values() if b.dtype.kind == "f"]
        self.dtype = floats[0] if floats else np.dtype(np.float32)
        self.buffers = list(named.values())
        read = {b: v for v, b in lowered.weights.items()}
        self.order = [(b.name, read.get(b)) for b in self.buffers]
        products = [s.inner for s in lowered.steps if isinstance(s, Product)]
        self.inner = max(products, default=1)
        apart = [*lowered.early, *lowered.late]
        self.inner_apart = max((p.inner for p in apart), default=1)
        self.cost = sum(_cost(step) for step in (*lowered.steps, *apart))  # of one row and step

    @property
    def text(self) -> str:
        """The generated source."""
        return self._texts[0]

    @cached_property
    def _texts(self) -> tuple[str, str]:
        """The source, and what of it decides the machine code."""
        generator = Generator(self.lowered, self.buffers, self.dtype)
        return generator.generate(f"scan: {self.name}", str(self.program)), generator.code

    @cached_property
    def built(self) -> compiler.Kernel:
        """What became of it."""
        text, code = self._texts
        return compiler.build(f"scan_{self.name}", text, ENTRIES, code, f"a step of {self.name}")

    def call(self, words: int, shards: int) -> tuple[Callable[..., None], tuple[int, ...]]:
        """(f, arguments): f(*arguments) runs the kernel, all shards, on the words at an address."""
        if jit.mode() != "native":
            return self._one_by_one, (words, shards)
        if shards == 1:
            return self._shard, (words, 0)
        return threads.parallel_for, (self.built["shard"], words, shards)

    @cached_property
    def _shard(self) -> Callable[[int, int], None]:
        return self.built.function("shard")

    def _one_by_one(self, words: int, shards: int) -> None:
        with np.errstate(all="ignore"):
            for index in range(shards):
                self._shard(words, index)

    @property
    def source_path(self) -> Path | None:
        """The file of it."""
        return self.built.path

    @cached_property
    def multiply(self) -> int:
        """The address of the table of products, if there is one in the step."""
        return matmul.table(self.dtype) if self.lowered.packed else 0

    def prepare(self) -> None:
        """Compiles now what a call would compile at first."""
        self._shard  # noqa: B018

    def shards(self, steps: int, rows: int) -> int:
        """In how many parts the batch is split."""
        if steps * rows * self.cost < _WORTH_A_THREAD:
            return 1
        return min(threads.get_num_threads(), rows)

    def head(self, steps: int, rows: int, backwards: bool, reverse: bool) -> Head:
        """How a call begins. backwards: whether this is BPTT, which visits the steps the other way
        round. reverse: of the scan itself.
        """
        shards = self.shards(steps, rows)
        share = -(-rows // shards)
        shards = -(-rows // share)
        vectors = panel_vectors(share * self.inner)
        # Of one shard the rows of several steps follow one another: products of many rows.
        chunk = min(steps, -(-_CHUNK_ROWS // rows)) if shards == 1 else 1
        wide = panel_vectors(share * chunk * self.inner_apart)
        down = reverse != backwards
        words = [
            steps, rows, steps - 1 if down else 0, -1 if down else 1,
            int(reverse), int(not reverse), share, vectors, chunk, wide, self.multiply,
        ]  # fmt: skip
        return Head(words, shards, chunk, vectors, wide)


def _cost(step: Loop | Product) -> int:
    if isinstance(step, Product):
        return step.inner * step.k * step.n
    return 8 * len(step.items) * int(np.prod(step.space, dtype=np.int64))


def evaluate(values: Sequence[Value], known: dict[Value, Any], rows: int) -> None:
    """Runs the ops of `values` on arrays (or Tensors), adding the results to `known`."""
    for v in values:
        if v in known:
            continue
        assert v.op is not None
        inputs = [known[i] if type(i) is Value else i for i in v.inputs]
        for i in v.cut:
            inputs[i] = inputs[i].detach() if hasattr(inputs[i], "detach") else inputs[i]
        params = params_for(v, rows)
        if v.op.kind == "view" and type(inputs[0]) is np.ndarray:  # nothing to check or convert
            known[v] = v.op.forward(inputs, params)
            continue
        known[v] = v.op(list(inputs), **params) if v.op.variadic else v.op(*inputs, **params)


def rows_of(buffer: Buffer, steps: int) -> int:
    """How many rows of time an array for this buffer has."""
    return 2 if buffer.at in ("even", "odd") else steps + EXTRA[buffer.at]


def time_slice(buffer: Buffer, array: Array, reverse: bool) -> Array:
    """(T, B, ...): the steps that a buffer means, out of its array."""
    if buffer.at == "t":
        return array
    first = (buffer.at == "before") == reverse
    return array[1:] if first else array[:-1]
