"""Code generation: the text of a kernel, what one thread does over all steps.

    units(x_t, h_in, ...)    the loops over the units of one row of the batch, at one step
    shard(d, index)          rows of shard `index`, t = first, first + step, ...
    part(d, index)           the same where threads share the units, not the rows: some columns of
                             each product and a range of each loop; they `meet` between stages

What a person reads there: arrays are called after the cell's values, `hs` (T, B, H), their rows at
one step `h_in` (as it enters), `h_out` or `x_t`, and `h` is one number of it. `product` is a matrix
product with packed weights. `d` is the address of a block of words: `HEAD`, then the addresses of
the arrays, then those of the packed weights, then sizes.

No size above 1 is in the text: `H` is that of the first state, `H4` four times that. So one kernel
does for all sizes of a cell, but for those that happen to be equal where others are not.

Of packed steps (packing.py), where only rows that take part in a step are there, arrays are (N, H),
with step t from `here` on and the one after it from `there` on, and two more words are the
addresses of `starts`, where steps begin, and of `bounds`, where shards do.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .formula import Names, identifier
from .layout import Buffer, Place
from .lowered import Loop, Lowered, Product
from .nest import Nest, Text, places
from .stages import ROWS, Owner, Stage, runs

# The first words of a description. vectors, wide: how many vectors wide the panels of products are
# within a step, and over a chunk of steps. multiply: the address of the compiled product.
HEAD = (
    "T", "B", "first", "step", "before", "after", "share", "vectors", "chunk", "wide", "multiply",
)  # fmt: skip
TEAM = "parts", "pool"  # where threads share the units: how many, and where they meet
SIGNATURE = "void(int64, int64)"

_INTRINSICS = "array inner largest least natural plus row simd"
_STEPS = "columns product rows split word words"
_MATHS = (
    "abs bell cos erf exp expm1 floor gauss isnan log log1p maximum minimum ndtr pow remainder "
    "sech2 select sigmoid sigmoid_slope sign sin sqrt tanh"
)
_GLOBALS = {
    *dir(builtins),
    *f"{_INTRINSICS} {_STEPS} {_MATHS} F bool_ int64 meet njit part shard units".split(),
}
_LOCALS = (
    "d index t n b m low high begin count start parts pool met starts bounds here there origin "
    "lines most"
)

# The time at which a row is read, and what is added to its name: see Buffer.at.
_TIMES = {
    "t": ("t", "_t"),
    "before": ("t + before", "_in"),
    "after": ("t + after", "_out"),
    "even": ("n % 2", "_in"),
    "odd": ("1 - n % 2", "_out"),
    "chunk": ("t - start", "_t"),
    "": ("", "_b"),
}
# Of packed steps: the row of the array at which a step begins, and a chunk of steps (a single step
# where that reads states as they leave it).
_PACKED = {
    "t": ("here", "origin"),
    "before": ("here", "origin"),
    "after": ("there", "there"),
    "chunk": ("here - origin", "0"),
}
_KINDS = {"carry": "state", "dcarry": "dstate", "r": "kept"}  # what has no name
_LENGTHS = {"t": "T, ", "even": "2, ", "odd": "2, ", "chunk": "chunk, ", "": ""}
EXTRA = {"t": 0, "before": 1, "after": 1}  # rows of time that a buffer has beside those of xs


class Generator:
    """lowered -> text. `arrays` are the buffers in the order in which `d` holds their addresses.

    unit: the size that is called H. stages: of a step. divided: whether threads share its units.
    ragged: whether it is for packed steps. sizes: the numbers that `d` ends with.
    """

    def __init__(
        self,
        lowered: Lowered,
        arrays: Sequence[Buffer],
        dtype: np.dtype,
        unit: int,
        stages: Sequence[Stage],
        divided: bool,
        ragged: bool = False,
    ):
        self.lowered, self.arrays, self.dtype, self.unit = lowered, arrays, dtype, unit
        self.stages, self.divided, self.ragged = stages, divided, ragged
        self.head = (*TEAM, *HEAD) if divided else HEAD
        self.text = Text()
        self.names = Names([*_GLOBALS, *HEAD, *_LOCALS.split()])
        self.base = Bases(lowered, arrays).base
        self.places = {buffer.name: i for i, buffer in enumerate(arrays)}
        self.of: dict[tuple[str, int], str] = {}  # buffer, parts of a row -> the array
        self.declared: list[str] = []  # lines for these
        self.packed = [
            self.names.unique(identifier(weight.name) or "panels") for weight, _ in lowered.packed
        ]
        self.functions: list[str] = []
        loops = [step for step in lowered.steps if isinstance(step, Loop)]
        self.looped = {place.buffer.name for loop in loops for place in places(loop)}
        self.named: dict[Any, str] = {}  # a size, or (a buffer, parts of a row) -> its name
        self.sizes: list[int] = []
        self.bounds: dict[Owner, tuple[str, str]] = {}  # of what a thread has of the units

    def generate(self, title: str, program: str) -> str:
        """The text; `code` is what of it decides the machine code."""
        self._shard()
        body = "\n\n".join([*self.functions, str(self.text)])
        called = set(re.findall(r"\w+", body))

        def used(module: str, names: str) -> str:
            found = ", ".join(name for name in names.split() if name in called)
            return f"from {module} import {found}\n" if found else ""

        real = (
            f"from numpy import {self.dtype.name} as F  # for numbers: to Numba, 0.5 is a float64\n"
        )
        imports = (
            used("math", "inf nan") + used("numba", "int64 njit") + real + used("numpy", "bool_")
            + "\n"
            + used("minigrad.kernels.intrinsics", _INTRINSICS)
            + used("minigrad.kernels.pool", "meet")
            + used("minigrad.kernels.steps", _STEPS) + used("minigrad.kernels.vectormath", _MATHS)
        )  # fmt: skip
        self.code = canonical(f"{imports}\n\n{body}", self.names.given)
        return f'"""{title}\n\n{program}\n"""\n\n{imports}\n\n{body}'

    def _shard(self) -> None:
        """The function that runs one shard."""
        self.text.depth = 1
        self._steps()
        weights, first = self.lowered.packed, len(self.head) + len(self.arrays)
        head = Text()
        head.add(f"def {'part' if self.divided else 'shard'}(d, index):")
        head.depth = 1
        if self.divided:
            head.add('"""All steps of one thread; of what stays whole rows low to high - 1."""')
        else:
            head.add('"""All steps of rows low to high - 1."""')
        head.add(f"{', '.join(self.head)} = words(d, {len(self.head)})")
        last = first + len(weights)
        self._sizes(head, last)
        last += len(self.sizes)
        if self.ragged:
            head.add(f"starts = array(word(d, {last}), T + 2, int64)  # where each step begins")
        if self.divided:
            high = "most" if self.ragged else "high"
            head.add(f"low, {high} = split(B, 1, index, parts)")
            for (_, n, grain), bounds in self.bounds.items():
                head.add(f"{', '.join(bounds)} = split({self._size(n)}, {grain}, index, parts)")
            head.add("met = 0  # how often, counted for each part")
        elif self.ragged:
            head.add(f"bounds = array(word(d, {last + 1}), index + 2, int64)")
            head.add("low, most = bounds[index], bounds[index + 1]")
        else:
            head.add("low = index * share")
            head.add("high = min(low + share, B)")
            head.add("m = high - low")
        for line in self.declared:
            head.add(line)
        for i, (name, (weight, _)) in enumerate(zip(self.packed, weights), start=first):
            head.add(f"{name} = word(d, {i})  # packed: {weight.name or repr(weight)}")
        self.text.lines[:0] = head.lines

    def _sizes(self, head: Text, first: int) -> None:
        """The lines that read the sizes, from word `first` on."""
        for k, names in _by_line(self.named.values(), 8):
            n, numbers = first + k, ", ".join(map(str, self.sizes[k : k + len(names)]))
            read = f"words(d + 8 * {n}, {len(names)})" if names[1:] else f"word(d, {n})"
            head.add(f"{', '.join(names)} = {read}  # {numbers}")

    def _steps(self) -> None:
        t, early, late = self.text, self.lowered.early, self.lowered.late
        if early or late:
            t.add(
                "begin = count = start = 0  # of a chunk of steps: its first n, its steps, least t"
            )
            if self.ragged:
                t.add("origin = lines = 0  # where its rows begin, and how many there are")
        t.add("for n in range(T):")
        t.depth += 1
        t.add("t = first + n * step")
        if self.ragged:
            self._taking_part()
        if early or late:
            t.add("if n % chunk == 0:")
            t.depth += 1
            t.add("begin, count = n, min(chunk, T - n)")
            t.add("start = t if step > 0 else t - count + 1")
            if self.ragged:
                t.add("origin = starts[start]")
                t.add("lines = m if count == 1 else starts[start + count] - origin")
            self._chunk(early)
            t.depth -= 1
        for run in runs(self.stages):
            if run[0].meets:
                self._meet()
            if isinstance(run[0].step, Product):
                self._product(run[0].step)
            else:
                self._rows([s.step for s in run if isinstance(s.step, Loop)], run[0].owner)
        if late:
            t.add("if n - begin + 1 == count:")
            t.depth += 1
            self._chunk(late)

    def _taking_part(self) -> None:
        """The rows that take part in a packed step; they come first."""
        t = self.text
        t.add("here, there = starts[t], starts[t + 1]")
        if self.divided:
            t.add("m = starts[t + 2] - there")
            t.add("high = min(most, m)")  # a thread keeps its rows: they know no other's
            return
        t.add("high = min(most, starts[t + 2] - there)")
        t.add("m = high - low")
        t.add("if m <= 0:")
        t.add("    continue")

    def _chunk(self, products: Sequence[Product]) -> None:
        """Products of a chunk of steps, which read and write what all threads do in these."""
        if self.divided and products:
            self._meet()
        for product in products:
            self._product(product, chunk=True)
        if self.divided and products:
            self._meet()

    def _meet(self) -> None:
        self.text.add("met = meet(pool, parts, met)")

    def _array(self, buffer: Buffer, inner: int = 1) -> str:
        """The array of a buffer, each of whose rows may be cut in several."""
        if (buffer.name, inner) not in self.of:
            base = self.base(buffer)
            plural = base if base.endswith("s") or not buffer.rows else f"{base}s"
            name = self.of[buffer.name, inner] = self.names.unique(plural)
            kind = "bool_" if buffer.dtype.kind == "b" else "F"
            columns = self._columns(buffer, inner)
            shape = f"({self._lines(buffer, inner)}, {columns})" if buffer.rows else columns
            i = len(self.head) + self.places[buffer.name]
            self.declared.append(f"{name} = array(word(d, {i}), {shape}, {kind})")
        return self.of[buffer.name, inner]

    def _lines(self, buffer: Buffer, inner: int) -> str:
        """The axes of an array before the last one."""
        times = f" * {self._size(inner)}" if inner > 1 else ""
        if self.ragged and buffer.at in _PACKED:
            many = {"t": "starts[T]", "chunk": "chunk * B"}.get(buffer.at, "starts[T + 1]")
            return f"{many}{times}"
        return f"{_LENGTHS.get(buffer.at, 'T + 1, ')}B{times}"

    def _place(self, buffer: Buffer, row: str, inner: int = 1, chunk: bool = False) -> str:
        """The index of a row of the batch, the first of `inner`, at the step of a buffer."""
        if self.ragged and buffer.at in _PACKED:
            first = _PACKED[buffer.at][chunk]
            return f"{first} + {row}" if inner == 1 else f"({first} + {row}) * {self._size(inner)}"
        time = _TIMES[buffer.at][0]
        if chunk:
            time = "0" if buffer.at == "chunk" else time.replace("t", "start", 1)
        row = row if inner == 1 else f"{row} * {self._size(inner)}"
        return ", ".join(filter(None, [time, row]))

    def _columns(self, buffer: Buffer, inner: int) -> str:
        """The length of a row. Where no loop runs through it, it is a size of its own, whichever
        others it equals: the first layer of a stack shares its kernels with those above.
        """
        n = buffer.size // inner
        return self._size(n) if buffer.name in self.looped else self._named((buffer.name, inner), n)

    def _size(self, n: int) -> str:
        """A size or an offset in the text."""
        return str(n) if n < 2 else self._named(n, n)

    def _named(self, key: Any, n: int) -> str:
        if key not in self.named:
            times, rest = divmod(n, self.unit) if self.unit > 1 and key == n else (0, 1)
            wish = "N" if rest else "H" if times == 1 else f"H{times}"
            self.named[key] = self.names.unique(wish)
            self.sizes.append(n)
        return self.named[key]

    # -- products

    def _product(self, p: Product, chunk: bool = False) -> None:
        """One product: of this step, or of a whole chunk (whose rows follow one another)."""
        w = self.packed[self.lowered.packed.index((p.weight, chunk))]
        x, y = (self._block(*place, p.inner, chunk) for place in ((p.a, p.k), (p.out, p.n)))
        y_name, x_name = self.base(p.out.buffer), self.base(p.a.buffer)
        self.text.add(f"# {y_name} {'+=' if p.adds else '='} {x_name} @ {w}")
        arguments = ["multiply", x, w, y, f"{'wide' if chunk else 'vectors'}, {int(p.adds)}"]
        if self.divided:
            arguments.append("index, parts")
        name = "columns" if self.divided else "product"
        self.text.lines.append(_wrapped(f"{name}(", arguments, ")", self.text.depth))

    def _block(self, place: Place, columns: int, inner: int, chunk: bool) -> str:
        """The rows of a product in the array of a place."""
        buffer = place.buffer
        where = self._place(buffer, "0" if self.divided else "low", inner, chunk)
        many = "B" if self.divided and not self.ragged else "m"
        if chunk:
            many = "lines" if self.ragged else f"{many} * count"
        many += f" * {self._size(inner)}" if inner > 1 else ""
        block = f"rows({self._array(buffer, inner)}, {where}, {many})"
        if columns != buffer.size // inner:
            block += f"[:, {self._size(place.offset)}:{self._size(place.offset + columns)}]"
        return block

    # -- loops

    def _rows(self, loops: list[Loop], owner: Owner) -> None:
        """Loops in which every row is on its own: row by row, all of them."""
        whole = owner == ROWS
        axes = max(len(loop.space) for loop in loops)
        names = Names([*_GLOBALS, "j", *(f"j{a}" for a in range(axes))], self.names.given)
        parameters: dict[tuple[str, str], str] = {}
        arguments: list[str] = []

        def row(buffer: Buffer) -> str:
            key = buffer.name, buffer.at
            if key not in parameters:
                suffix = _TIMES["t" if buffer in self.lowered.scratch else buffer.at][1]
                suffix = suffix if buffer.rows else ""
                parameters[key] = names.unique(f"{self.base(buffer)}{suffix}")
                arguments.append(self._row(buffer))
            return parameters[key]

        for buffer in dict.fromkeys(p.buffer for loop in loops for p in places(loop)):
            row(buffer)
        inside = Text()
        inside.depth = 1
        inside.add('"""The units of one row of the batch."""')
        inside.add("simd()")
        part = None if whole else (names.unique("low"), names.unique("high"))
        sizes: dict[str, str] = {}  # as the shard calls them -> as this function does

        def size(n: int) -> str:
            if n < 0:
                return f"-{size(-n)}"
            name = self._size(n)
            if n > 1 and name not in sizes:
                sizes[name] = names.unique(name)
            return sizes.get(name, name)

        start = len(inside.lines)
        for loop in loops:
            Nest(loop, inside, names, row, self.base, size, self.dtype.name, part).emit()
        bounds = [*(part or ()), *sizes.values()]
        inside.lines[start:start] = [
            f"    {', '.join(some)} = {', '.join(f'natural({name})' for name in some)}"
            for _, some in _by_line(bounds, 4)
        ]
        arguments = [*(() if whole else self._bounds(owner)), *sizes, *arguments]
        name = self.names.unique("units") if self.functions else "units"
        head = _wrapped(f"def {name}(", [*bounds, *parameters.values()], "):", 0)
        self.functions.append(f"@njit(**inner)\n{head}\n{inside}")
        shared = "m" if self.ragged else "B"
        self.text.add(f"for b in range({'low, high' if whole else shared}):")
        self.text.depth += 1
        self.text.lines.append(_wrapped(f"{name}(", arguments, ")", self.text.depth))
        self.text.depth -= 1

    def _bounds(self, owner: Owner) -> tuple[str, str]:
        """What a thread has of a range that is divided, declared ahead of the loop."""
        if owner not in self.bounds:
            n = self._size(owner[1])
            self.bounds[owner] = self.names.unique(f"low_{n}"), self.names.unique(f"high_{n}")
        return self.bounds[owner]

    def _row(self, buffer: Buffer) -> str:
        """A row of a buffer, as an argument."""
        name = self._array(buffer)
        return f"row({name}, {self._place(buffer, 'b')})" if buffer.rows else name


def _by_line(names: Iterable[str], most: int) -> Iterator[tuple[int, list[str]]]:
    """Names for lines of so many, each with the index of its first one."""
    every = list(names)
    for k in range(0, len(every), most):
        yield k, every[k : k + most]


def _wrapped(head: str, parts: Sequence[str], tail: str, depth: int) -> str:
    """head + parts + tail on one line, or on several of up to a hundred columns."""
    space = "    " * depth
    line = f"{space}{head}{', '.join(parts)}{tail}"
    if len(line) <= 100:
        return line
    lines = [f"{space}{head}", f"{space}   "]
    for part in parts:
        if len(lines[-1]) + len(part) > 98:
            lines.append(f"{space}   ")
        lines[-1] += f" {part},"
    return "\n".join([*lines, f"{space}{tail}"])


class Bases:
    """What the values in a buffer are called: as in the cell, or after what is done with them."""

    def __init__(self, lowered: Lowered, arrays: Sequence[Buffer]):
        self.found: dict[str, str] = {}
        loops = [step for step in lowered.steps if isinstance(step, Loop)]
        items = [item for loop in loops for item in loop.items if item.value is not None]
        for item in items:
            for place in [*([item.loads] if item.loads else []), *item.stores]:
                if not item.fold:
                    self._call(place, item.value.name)
        for buffer in arrays:
            self._set(buffer, buffer.comment)
        for item in items:  # what goes into a gate
            if item.value.op is not None and item.value.name and len(item.value.inputs) == 1:
                (x,) = item.value.inputs
                for other in items:
                    if other.value is x and not other.fold:
                        for place in [*([other.loads] if other.loads else []), *other.stores]:
                            self._call(place, f"{item.value.name}_pre")
        for step in [*lowered.early, *lowered.steps, *lowered.late]:
            if isinstance(step, Product) and step.out.buffer in lowered.scratch:
                self._call(step.out, f"{self.base(step.a.buffer)}w")

    def _call(self, place: Place, name: str) -> None:
        if int(np.prod(place.shape, dtype=np.int64)) == place.buffer.size:
            self._set(place.buffer, name)

    def _set(self, buffer: Buffer, name: str) -> None:
        name = identifier(name)
        if name and buffer.name not in self.found:
            self.found[buffer.name] = name

    def base(self, buffer: Buffer) -> str:
        """What a value in the buffer is called."""
        kind = buffer.name.rstrip("0123456789")
        return self.found.get(buffer.name) or _KINDS.get(kind, kind)


def canonical(text: str, names: Iterable[str]) -> str:
    """A text without its comments, with numbers for its names: equal for cells that compute alike.

    >>> canonical("f = sigmoid(x_t[j])  # %3", ["x_t", "f"])
    'n1 = sigmoid(n0[j])'
    """
    numbers = {name: f"n{k}" for k, name in enumerate(names)}
    code = re.sub(r" *# .*$", "", text, flags=re.MULTILINE)
    code = re.sub(r",\s+\)", ")", re.sub(r"\(\s+", "(", re.sub(r",\s+", ", ", code)))  # as one line
    return re.sub(r"[A-Za-z_]\w*", lambda word: numbers.get(word[0], word[0]), code)
