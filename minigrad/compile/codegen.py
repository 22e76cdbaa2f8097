"""Code generation: the text of a kernel, one shard of the batch over all steps.

    shard(d, index)     rows of shard `index`, t = first, first + step, ...: the loops and products
    run(d, shards)      all shards, on the thread pool

What a person reads there: each `for j` loop is a run of elementwise ops over vectors of the CPU's
width, each `product(...)` a matrix product with packed weights. `d` holds sizes and addresses
(`HEAD` names the first words, then one for each buffer, then one for each packed weight).
"""

from __future__ import annotations

import re

import numpy as np

from .layout import Buffer
from .lower import Loop, Lowered, Product
from .nest import Nest, Text, places, pointer, times

# The first words of a description.
HEAD = (
    "steps", "rows", "first", "step", "before", "after", "low_rows", "vectors", "shards",
    "chunk", "wide", "table",
)  # fmt: skip

_PROLOGUE = """\
from numba import float32, float64, int8

from minigrad.kernels.integers import least, pick
from minigrad.kernels.lanes import load_lanes, store_lanes
from minigrad.kernels.memory import address_of, extent, external, load, matrix, ptr, shift, store
from minigrad.kernels.simd import {simd}
from minigrad.kernels.steps import {steps}
{maths}
REAL = {real}
V = Vec(REAL, {lanes})
B = Mask({lanes})
c = constant(V)
product = external(
    "minigrad_product", "void(i64, ptr, i64, ptr, ptr, i64, i64, i64, i64, i64, i64)"
)
parallel_for = external("minigrad_parallel_for", "void(ptr, ptr, i64)")
run_shard = external("minigrad_shard", "void(ptr, i64)")


def run(d):
    shards = d[{shards}]
    if shards > 1:
        parallel_for(address_of("shard"), ptr(d), shards)
    else:
        run_shard(ptr(d), 0)


"""
_SIMD = "abs floor isnan maximum minimum select sign sqrt"
_MATHS = "bell cos erf exp expm1 gauss log log1p ndtr pow sech2 sigmoid sigmoid_slope sin tanh"
_STEPS = "first_lanes fold_max fold_min fold_sum spread spread_mask"

EXPORTS = {"run": "void(i64*)", "shard": "void(i64*, i64)"}
# How many rows of time a buffer has, beside "t": see Buffer.at.
_TIMES = {
    "t": "t",
    "before": "t + before",
    "after": "t + after",
    "even": "i % 2",
    "odd": "1 - i % 2",
    "chunk": "t - start",
}
EXTRA = {"t": 0, "before": 1, "after": 1}


class Generator:
    """lowered -> text. `arrays` are the buffers in the order in which `d` holds their addresses."""

    def __init__(self, lowered: Lowered, arrays: list[Buffer], dtype: np.dtype, lanes: int):
        self.lowered, self.arrays, self.dtype, self.lanes = lowered, arrays, dtype, lanes
        self.text = Text()
        self.counter = 0

    def generate(self, title: str, program: str) -> str:
        self._shard()
        body = str(self.text)
        called = set(re.findall(r"\w+(?=\()", body))

        def used(names: str) -> str:
            return ", ".join(name for name in names.split() if name in called)

        maths = used(_MATHS)
        return docstring(title, program) + _PROLOGUE.format(
            real=self.dtype.name, lanes=self.lanes, shards=HEAD.index("shards"),
            simd=", ".join(filter(None, ["Mask, Vec, constant", used(_SIMD)])),
            steps=used(_STEPS) or "spread",
            maths=f"from minigrad.kernels.vectormath_simd import {maths}\n" if maths else "",
        ) + body  # fmt: skip

    def _shard(self) -> None:
        """The function that runs one shard."""
        t = self.text
        t.add("def shard(d, index):")
        t.depth += 1
        names = ", ".join(HEAD)
        t.add(f"{names} = ({', '.join(f'd[{i}]' for i in range(len(HEAD)))})")
        t.add("low = index * low_rows")
        t.add("high = least(low + low_rows, rows)")
        for i, buffer in enumerate(self.arrays):
            times = {
                "": "", "t": "steps * ", "even": "2 * ", "odd": "2 * ", "chunk": "chunk * ",
            }.get(buffer.at, "(steps + 1) * ")  # fmt: skip
            rows = f"{times}rows * " if buffer.rows else ""
            comment = f"  # {buffer.comment}" if buffer.comment else ""
            size = buffer.size * buffer.dtype.itemsize
            t.add(f"{buffer.name} = extent(ptr(d[{len(HEAD) + i}]), 0, {rows}{size}){comment}")
        for i, (weight, _) in enumerate(self.lowered.packed):
            t.add(
                f"{_pack(i)} = ptr(d[{len(HEAD) + len(self.arrays) + i}])"
                f"  # panels of {weight.name or repr(weight)}"
            )
        early, late = self.lowered.early, self.lowered.late
        if early or late:
            t.add(
                "begin = count = start = 0  # of a chunk of steps: the first i, how many, first t"
            )
        t.add("for i in range(steps):")
        t.depth += 1
        t.add("t = first + i * step")
        if early or late:
            t.add("if i % chunk == 0:")
            t.depth += 1
            t.add("begin, count = i, least(chunk, steps - i)")
            t.add("start = pick(step > 0, t, t - count + 1)")
            for product in early:
                self._product(product, chunk=True)
            t.depth -= 1
        run: list[Loop] = []
        for step in [*self.lowered.steps, None]:
            if isinstance(step, Loop):
                run.append(step)
                continue
            if run:
                self._rows(run)
                run = []
            if isinstance(step, Product):
                self._product(step)
        if late:
            t.add("if i - begin + 1 == count:")
            t.depth += 1
            for product in late:
                self._product(product, chunk=True)

    # -- products

    def _product(self, p: Product, chunk: bool = False) -> None:
        """One product: of this step, or of a whole chunk (whose rows follow one another)."""
        item = self.dtype.itemsize
        many = ("" if p.inner == 1 else f" * {p.inner}") + (" * count" if chunk else "")
        places = []
        for place, count in ((p.a, p.k), (p.out, p.n)):
            buffer = place.buffer
            per_row = buffer.size if p.inner == 1 else buffer.size // p.inner
            row = self._row(buffer, "low", "start" if chunk else "t")
            offset = times(row, buffer.size) + (f" + {place.offset}" if place.offset else "")
            start = f"shift({buffer.name}, {times(offset, item)})"
            places.append(
                f"ptr(matrix({start}, (high - low){many}, {per_row * item}, {count}, {item}, "
                f"{item})), {per_row * item}"
            )
        vectors = "wide" if chunk else "vectors"
        k = self.lowered.packed.index((p.weight, chunk))
        self.text.add(f"product(  # {p.weight.name or repr(p.weight)}")
        self.text.add(f"    table, {places[0]}, {_pack(k)},")
        self.text.add(
            f"    {places[1]}, (high - low){many}, {p.k}, {p.n}, {vectors}, {int(p.adds)})"
        )

    @staticmethod
    def _row(buffer: Buffer, row: str, t: str = "t") -> str:
        """The number of a row of a buffer: that of row `row` of the batch at time t."""
        if not buffer.rows:
            return "0"
        if not buffer.at:
            return row
        time = "0" if buffer.at == "chunk" and t == "start" else _TIMES[buffer.at]
        time = time.replace("t +", f"{t} +") if t != "t" else time
        time = t if time == "t" else time
        if time == "0":
            return row
        return f"{time if time.isidentifier() else f'({time})'} * rows + {row}"

    # -- loops

    def _rows(self, loops: list[Loop]) -> None:
        """Loops in which every row is on its own: row by row, all of them."""
        t = self.text
        t.add("for b in range(low, high):")
        t.depth += 1
        buffers: dict[tuple[str, str], Buffer] = {}
        for loop in loops:
            for place in places(loop):
                buffers[place.buffer.name, place.buffer.at] = place.buffer
        for buffer in buffers.values():
            if buffer.rows:
                size = buffer.size * buffer.dtype.itemsize
                offset = times(self._row(buffer, "b"), size)
                t.add(f"{pointer(buffer)} = shift({buffer.name}, {offset})")
        for loop in loops:
            Nest(loop, self.text, self.fresh, self.lanes).emit()
        t.depth -= 1

    def fresh(self) -> str:
        self.counter += 1
        return f"v{self.counter}"


def docstring(title: str, program: str) -> str:
    """The docstring of a text."""
    return f'"""{title}\n\n{program}\n"""\n\n'


def bare(text: str) -> str:
    """A text without its docstring and comments, which name what a reader knows: the code alone."""
    code = text.split('"""\n\n', 2)[-1]
    return re.sub(r"  # .*$", "", code, flags=re.MULTILINE)


def _pack(i: int) -> str:
    return f"panels{i}"
