"""Packed steps in a step of mg.jit: lengths are others in every replay, so the loops run anew.

Neither what is packed nor where it lies can be known before. What comes out is copied to where the
step reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .compiled import Compiled
from .packed import PackedBack, PackedRun
from .packing import Packing
from .prepared import Back, Prepared, arranged

Array = np.ndarray


class Ragged:
    """A scan of rows whose steps a mask chooses, by what is in the mask when it runs.

    outputs: as of the run by which it was recorded; `forward` fills them, as `backward` does
    gradients. Where no step is left out all is run as it is without a mask, to the bit.
    """

    def __init__(
        self, compiled: Compiled, inputs: Sequence[Array], packing: Packing, needs: tuple[int, ...]
    ):
        self.compiled, self.inputs, self.packing, self.needs = compiled, inputs, packing, needs
        self.run = self._run(packing)
        at = self.run if isinstance(self.run, PackedRun) else self.run.at
        self.loop, self.carries, self.wanted = at.loop, at.carries, at.wanted
        self.run.forward()
        self.outputs = self.run.outputs

    def _run(self, packing: Packing) -> PackedRun | Prepared:
        if packing.taken < packing.time * packing.rows:
            return PackedRun(self.compiled, self.inputs, packing, self.needs)
        at = arranged(
            self.compiled, self.inputs, packing.time, packing.rows, packing.reverse, self.needs
        )
        return Prepared(at, self.inputs)

    def forward(self) -> None:
        self.run = self._run(Packing(self.packing.mask, self.packing.reverse))
        self.run.forward()
        for known, y in zip(self.outputs, self.run.outputs, strict=True):
            known[...] = y

    def gradients(self, arriving: Mapping[int, Array]) -> dict[int, Array]:
        """Of the inputs, behind the run forward."""
        if isinstance(self.run, PackedRun):
            return PackedBack(self.run, arriving).input_gradients
        back = Back(self.run, arriving)
        back.run()
        return back.input_gradients

    def backward(self, arriving: Mapping[int, Array], gradients: Mapping[int, Array]) -> None:
        for i, found in self.gradients(arriving).items():
            gradients[i][...] = found

    def owners(self) -> list[Array]:
        """The pieces of memory that BPTT reads."""
        return self.run.owners()
