"""explain(): what the compiler did with a step, what it keeps for BPTT, and what ran."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..kernels import jit
from .bptt import Backward
from .compiled import Compiled
from .division import Division
from .kernel import StepKernel, Variant
from .lowered import Product
from .packing import Packed
from .pipeline import Done
from .program import AFTER, Program, Value, used
from .schedule import readable

if TYPE_CHECKING:
    from .call import Ran


class Explanation:
    """str() is the report. program: the traced step. backward_program: that of BPTT, or None.

    came: whether the step was traced for this call or reused, and why. padded: whether it passes
    over padding step by step. source: the text of the kernels. kept_floats: floats kept for BPTT
    for each (t, b) beside inputs and outputs; kept_bytes the same in bytes.
    """

    padded = False

    def __init__(
        self, compiled: Compiled, ran: Ran, steps: int, rows: int, reverse: bool,
        wanted: tuple[int, ...], came: str, packed: Packed | None,
    ):  # fmt: skip
        self._compiled, self._ran, self._forward = compiled, ran, ran.kernel
        self.steps, self.rows, self.reverse = steps, rows, reverse
        self._wanted, self.came, self._packed = wanted, came, packed

    @property
    def program(self) -> Program:
        return self._compiled.program

    @property
    def _backward(self) -> Backward | None:
        """The loop of BPTT, if it has run."""
        back: Backward | None = self._ran.backward
        return back

    @property
    def backward_program(self) -> Program | None:
        return None if self._backward is None else self._backward.program

    @property
    def passes(self) -> list[Done]:
        """What each pass did: to the step, to what runs forward and, once it has run, to BPTT."""
        back = self._backward
        return [*self._compiled.done, *self._forward.done, *(back.done if back else ())]

    @property
    def source(self) -> str:
        return "\n".join(self._variant(kernel).text for _, kernel in self._kernels())

    def _division(self, kernel: StepKernel) -> Division:
        return kernel.division(self.steps, self.rows, self._ran.many)

    def _variant(self, kernel: StepKernel) -> Variant:
        return kernel.variant(self._division(kernel).kind == "units")

    @property
    def kept(self) -> list[Value]:
        """What is stored for BPTT alone: neither an input of the scan nor a result."""
        of = self._forward.of
        results = {of[v].name for v in self._forward.program.ys if v in of}
        found: dict[int, Value] = {}
        for v in self._forward.kept:
            if v.role not in ("x", "rows", "weight") and of[v].name not in results:
                found.setdefault(id(of[v]), v)
        return list({of[v].name: v for v in found.values()}.values())

    @property
    def kept_floats(self) -> int:
        return sum(v.size for v in self.kept if v.dtype.kind == "f")

    @property
    def kept_bytes(self) -> int:
        return sum(v.size * v.dtype.itemsize for v in self.kept) * self._lines

    @property
    def _lines(self) -> int:
        """Rows of the arrays of all steps."""
        return self._packed.size if self._packed else self.steps * self.rows

    def __str__(self) -> str:
        kernel = self._forward.kernel
        parts = max(self._division(k).parts for _, k in self._kernels())
        direction = ", last step first" if self.reverse else ""
        lines = [
            f"scan of {self._compiled.name}: {self.steps} steps of {self.rows} rows{direction}, "
            f"{kernel.dtype}, {_many(parts, 'thread')}"
        ]

        def add(what: str, text: str) -> None:
            lines.append(f"  {what:<11}{text}")

        if self.came:
            how, _, why = self.came.partition(": ")
            add(how, why)
        if self._packed is not None:
            real, most = self._packed.taken, self._packed.steps
            add(
                "packed",
                f"{real} of {self.steps * self.rows} steps of rows, of one row {most} at most; "
                f"the rest is not computed",
            )
        if self.padded:
            add("padded", "steps in which rows take no part are computed too: somebody records")
        for v in self.program.xs:
            if v.op is not None:
                add("hoisted", f"{v.name} {v.type()}: once, for all steps")
        for p in kernel.lowered.early:
            add("hoisted", f"{_product(p)}: for a chunk of steps at once, ahead of them")
        for k, text in enumerate(_steps(kernel)):
            add("" if k else "forward", text)
        if self._wanted or self._forward.kept:
            self._explain_backward(add)
        if parts > 1 or self._ran.many > 1:
            for k, (name, kernel) in enumerate(self._kernels()):
                add("" if k else "divided", f"{name}: {self._division(kernel)}")
        for name, kernel in self._kernels():
            add("kernel" if name == "forward" else "", _kernel(name, self._variant(kernel)))
        return "\n".join(lines)

    __repr__ = __str__

    def _explain_backward(self, add: Any) -> None:
        kept = self.kept
        itemsize = self._forward.kernel.dtype.itemsize
        names = ", ".join(v.name or _made(v) for v in kept)
        floats = self.kept_floats
        per_step = f"{floats} floats, {floats * itemsize} bytes for each row and step"
        all_of_it = f"{per_step}; {readable(self.kept_bytes)} in all"
        add("stored", f"{names}: {all_of_it}" if kept else "nothing but the results")
        back = self._backward
        if back is None:
            add("backward", "not run yet")
            return
        inside = set(self.program.body)
        again = [v for v in back.program.body if v in inside and v.stage != AFTER]
        if again:
            add("recomputed", ", ".join(_made(v) for v in again))
        for p in back.kernel.lowered.early:
            add("hoisted", f"{_product(p)}: for a chunk of steps at once, ahead of them")
        for k, text in enumerate(_steps(back.kernel)):
            add("" if k else "backward", text)
        for p in back.kernel.lowered.late:
            add("sunk", f"{_product(p)}: for a chunk of steps at once, behind them")
        for v in back.products:
            sizes = " x ".join(str(n) for n in v.shape)
            whose = [w.name for w, s in back.program.sums.items() if v in used([s])]
            of = f"gradient of {', '.join(filter(None, whose)) or 'a weight'} ({sizes})"
            add("sunk", f"{of}: one product over {self._lines} rows, behind the loop")
        if back.sums:
            add(
                "sunk", f"{_many(len(back.sums), 'sum')} over time, added up row by row in the loop"
            )

    def _kernels(self) -> list[tuple[str, StepKernel]]:
        found = [("forward", self._forward.kernel)]
        if self._backward is not None:
            found.append(("backward", self._backward.kernel))
        return found


def _steps(kernel: StepKernel) -> list[str]:
    """A line for each loop and product of a step."""
    found = []
    for step in kernel.lowered.steps:
        if isinstance(step, Product):
            found.append(_product(step))
        else:
            done = [i for i in step.items if i.loads is None and i.value is not None]
            names = list(dict.fromkeys(i.fold or i.value.op.name for i in done))
            size = int(np.prod(step.space, dtype=np.int64))
            shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            what = f"{_many(len(done), 'op')} ({shown})" if done else "copied or added up"
            found.append(f"loop over {size}: {what}")
    return found


def _product(p: Product) -> str:
    return f"product with {p.weight.name or repr(p.weight)} ({p.k} x {p.n})"


def _made(v: Value) -> str:
    if v.name:
        return v.name
    return f"{v.op.name if v.op else v.role}[{v.size}]"


def _kernel(name: str, kernel: Variant) -> str:
    if jit.mode() == "plain":
        return f"{name}: run by Python (NUMBA_DISABLE_JIT=1)"
    came = "found in the cache" if kernel.built.found else "compiled by this process"
    return f"{name}: {kernel.built.stem}, {came}"


def _many(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
