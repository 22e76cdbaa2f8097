"""What a remedy puts around a cell of a fork; the cell's parameters stay the same objects."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...compile import pure
from ...nn.module import Module
from ...ops import where
from ...tensors import Tensor
from ...tree import map_leaves


class Around(Module):
    """A cell as it is: state, y = cell(state, x). Subclasses change x or y."""

    def __init__(self, cell: Any):
        cell.scope_name = ""  # its taps keep the names they had
        self.cell = cell
        if hasattr(cell, "output_size"):
            self.output_size = cell.output_size

    def init_state(self, batch: int) -> Any:
        return self.cell.init_state(batch)

    def draw(self, time: int, batch: int) -> Any:
        inner = getattr(self.cell, "draw", None)
        return None if inner is None else inner(time, batch)

    def forward(self, state: Any, x: Any) -> tuple[Any, Tensor]:
        state, y = self.cell(state, x)
        return state, y


class Standardised(Around):
    """cell(state, (x - mean) / std), feature by feature: mean, std (I,)."""

    def __init__(self, cell: Any, mean: np.ndarray, std: np.ndarray):
        super().__init__(cell)
        self.mean, self.std = Tensor(mean), Tensor(std)

    def forward(self, state: Any, x: Any) -> tuple[Any, Tensor]:
        if isinstance(x, tuple):
            return super().forward(state, ((x[0] - self.mean) / self.std, *x[1:]))
        return super().forward(state, (x - self.mean) / self.std)


class Residual(Around):
    """state, y + x: what a layer above the first adds to what it reads (He et al. 2016)."""

    def forward(self, state: Any, x: Any) -> tuple[Any, Tensor]:
        state, y = super().forward(state, x)
        return state, y + (x[0] if isinstance(x, tuple) else x)


class Truncated(Around):
    """No gradient passes from step `every`, 2 `every`, ... to the step before it."""

    def __init__(self, cell: Any, every: int):
        super().__init__(cell)
        self.every, self.dtype = every, next(cell.parameters()).dtype

    def draw(self, time: int, batch: int) -> Any:
        """What the cell draws, and where the windows begin, (time, batch, 1)."""
        begins = np.zeros((time, batch, 1), self.dtype)
        begins[self.every :: self.every] = 1.0
        drawn = super().draw(time, batch)
        return begins if drawn is None else (begins, drawn)

    def forward(self, state: Any, x: Any) -> tuple[Any, Tensor]:
        x, drawn = x
        begins, inner = drawn if isinstance(drawn, tuple) else (drawn, None)
        state = map_leaves(lambda s: where(begins > 0, s.detach(), s), state)
        return super().forward(state, x if inner is None else (x, inner))


for _wrapper in (Standardised, Residual, Truncated):
    pure(_wrapper)  # what a step of theirs does depends on their attributes alone
