"""The loop of BPTT, and the sums over time behind it."""

from __future__ import annotations

from .forward import Forward
from .kernel import StepKernel
from .layout import Buffer, Place, whole
from .lower import Lowering
from .passes.sinking import sunk
from .pipeline import Done
from .program import AFTER, STEP, Program, Value
from .views import place_of


class Backward:
    """The loop of BPTT, and the sums over time behind it.

    done: what passes made of the step. packed: whether it runs over packed steps.
    """

    def __init__(
        self, program: Program, forward: Forward, name: str, done: list[Done], packed: bool = False
    ):
        self.program, self.forward, self.done = program, forward, done
        self.xs = program.gradients_of
        places: dict[Value, Place] = {}
        self.arrays: list[Buffer] = []
        carries: list[tuple[Value, Place]] = []
        self.of: dict[Value, Buffer] = {}
        self.carry: list[Buffer] = []
        for k, (before, after) in enumerate(zip(program.carry, program.carry_out, strict=True)):
            of = forward.carry[k].comment
            even, odd = (
                Buffer(f"dcarry{k}", before.size, before.dtype, at, comment=of and f"d{of}")
                for at in ("even", "odd")
            )
            places[before] = whole(even, before.row)
            carries.append((after, whole(odd, after.row)))
            self.carry.append(even)
            self.arrays.append(even)
        self.dys: list[Value] = []
        self.reads: list[Value] = []
        for v in program.xs:
            if v in forward.of:
                self.reads.append(v)
                buffer = forward.of[v]
            else:
                buffer = Buffer(f"dy{len(self.dys)}", v.size, v.dtype, "t", comment="dL/dy")
                self.dys.append(v)
            places[v] = whole(buffer, v.row)
            self.arrays.append(buffer)
        self.stored: list[Value] = []
        self.lowering = Lowering(program, places)
        for v in (*program.ys, *program.taps.values()):
            self._store(v, f"dx{len(self.stored)}")
        for v in program.kept.values():
            self._store(v, f"g{len(self.stored)}")
        self.products = sunk(program)
        self._add_up()
        self.after = [v for v in program.body if v.stage == AFTER]
        self.lowering.outputs += carries  # last: a value lives in the first of its places
        lowered = self.lowering.run()
        self.inside = {*self.lowering.body} - {*self.of}  # whose views are followed
        self.factors = [[self._factor(i) for i in v.inputs] for v in self.products]
        self.kernel = StepKernel(f"{name}_backward", program, lowered, self.arrays, packed)

    def _store(self, v: Value, name: str) -> None:
        if v in self.of:
            return
        buffer = Buffer(name, v.size, v.dtype, "t")
        self.of[v] = buffer
        self.arrays.append(buffer)
        self.stored.append(v)
        self.lowering.outputs.append((v, whole(buffer, v.row)))

    def _add_up(self) -> None:
        """Other sums over time than products add up in the loop."""
        self.sums: dict[Value, Buffer] = {}
        for v in self.program.body:
            x = v.inputs[0] if v.stage == AFTER and v not in self.products else None
            if type(x) is Value and x.stage == STEP:
                buffer = Buffer(f"sum{len(self.sums)}", x.size, x.dtype)
                self.sums[v] = buffer
                self.arrays.append(buffer)
                self.lowering.added.append((x, whole(buffer, x.row)))

    def _factor(self, v: Value) -> tuple[Buffer, int, tuple[int, ...], tuple[int, ...]]:
        """Of a factor (K, B) or (B, N): (buffer, offset, sizes and strides within a row)."""
        root, place = place_of(v, self.inside)
        buffer = self.of[root] if root in self.of else self.lowering.places[root].buffer
        assert v.batch is not None
        inner = [v.batch, *(a for a in range(len(place.shape)) if a != v.batch)]
        sizes = tuple(place.shape[a] for a in inner)
        return buffer, place.offset, sizes, tuple(place.strides[a] for a in inner)
