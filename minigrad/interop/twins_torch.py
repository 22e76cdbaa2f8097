"""The layer of minigrad that is the same as a recorded module of PyTorch, and its arrays.

torch.nn has its axes as the caller wants them; here they are (T, B, features). Rows of a
PackedSequence become rows of a batch with lengths, in the order in which they were packed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import nn
from ..nn.module import Module
from .base import ConversionError, need
from .calls_torch import OWN, Call, Layer
from .pytorch import as_array

Array = np.ndarray


def twin(layer: Layer, dtype: Any) -> Module:
    """minigrad's layer or cell, made once: the weights are written into it for each call."""
    if layer.kind == OWN:
        if _dtype(layer.twin) != dtype:
            raise ConversionError(
                f"{layer.name}: its twin is {_dtype(layer.twin)} and the net {dtype}; make the "
                f"twin with dtype=np.{dtype}."
            )
        return layer.twin
    if layer.twin is None or _dtype(layer.twin) != dtype:
        options = {k: v for k, v in layer.options.items() if k != "batch_first"}
        if not layer.cell and options["num_layers"] == 1:
            options["dropout"] = 0.0
        kind: Any = getattr(nn, f"{layer.kind}Cell" if layer.cell else layer.kind)
        layer.twin = kind(**options, dtype=dtype, generator=np.random.default_rng(0))
        layer.twin.scope_name = layer.name
    return layer.twin


def _dtype(module: Module) -> np.dtype:
    return next(iter(module.parameters())).dtype


class Arrays:
    """What a call read and gave, as minigrad's layer has it.

    precision: that of the tensors, which is widened to float32 where NumPy has none like it.
    """

    def __init__(self, call: Call):
        self.call, self.layer = call, call.layer
        x = call.xs[0]
        ran_in = call.lowered or call.states[-1][0][0].dtype
        self.precision = str(ran_in).removeprefix("torch.")
        self.dtype = np.dtype(np.float64 if self.precision == "float64" else np.float32)
        self.single = call.packed is None and x.ndim == (1 if self.layer.cell else 2)
        self.front = bool(self.layer.options.get("batch_first")) and not self.single
        self.rows = _rows(call.packed) if call.packed is not None else None

    @property
    def weights(self) -> dict[str, Array]:
        return {name: self.of(w) for name, w in self.call.weights.items()}

    @property
    def lengths(self) -> Array | None:
        return None if self.rows is None else np.bincount(self.rows[1])

    @property
    def xs(self) -> Array:
        """(T, B, I)."""
        if self.layer.cell:
            steps = np.stack([self.of(x) for x in self.call.xs])
            return steps[:, None] if self.single else steps
        return self.outer(self.of(self.call.xs[0]))

    @property
    def init(self) -> list[Array] | None:
        """The leaves of the first state: of a layer (layers * directions, B, H), else (B, H)."""
        if self.call.init is None:
            return None
        return [self.state(self.of(s)) for s in self.call.init]

    @property
    def after_steps(self) -> list[list[Array] | None]:
        """The state after each step of a loop, or the last one of a layer; None for one that
        somebody has written into since.
        """
        found = []
        for i in range(len(self.call.states)):
            parts = self.call.state_after(i)
            found.append(None if parts is None else [self.state(self.of(s)) for s in parts])
        return found

    def totals(self, like: list[Array]) -> list[Array]:
        """Of each leaf of a loop's state the gradient at every step, 0 where none came."""
        found = [np.zeros_like(s) for s in like]
        for (leaf, t), g in self.call.gradients.items():
            found[leaf - 1][t] = self.state(self.of(g))
        return found

    def of(self, t: Any) -> Array:
        """A tensor as an array of the twin's precision."""
        return as_array(self.layer.name, t).astype(self.dtype, copy=False)

    def state(self, s: Array) -> Array:
        """A leaf of a state as it came, with an axis of the batch."""
        axis = 0 if self.layer.cell else 1
        return np.expand_dims(s, axis) if self.single else s

    def state_back(self, s: Array) -> Array:
        return np.squeeze(s, 0 if self.layer.cell else 1) if self.single else s

    def outer(self, x: Array, fill: float = 0.0) -> Array:
        """What a layer read or gave, as it came -> (T, B, n)."""
        if self.rows is not None:
            t, b = self.rows
            found = np.full((t.max() + 1, b.max() + 1, x.shape[-1]), fill, x.dtype)
            found[t, b] = x
            return found
        if self.single:
            return x[:, None]
        return x.swapaxes(0, 1) if self.front else x

    def outer_back(self, x: Array) -> Array:
        if self.rows is not None:
            return x[self.rows]
        if self.single:
            return x[:, 0]
        return x.swapaxes(0, 1) if self.front else x

    @property
    def gradients(self) -> Mapping[int, Array]:
        """leaf of what a layer gave -> the gradient that came to it, shaped as the twin's is."""
        found = {}
        for (leaf, _), g in self.call.gradients.items():
            array = self.of(g)
            found[leaf] = self.outer(array) if leaf == 0 else self.state(array)
        return found

    def masks(self) -> list[Array]:
        """What dropout kept between layers, as torch drew it: (T, B, n) of 1 and 0 for each.

        Drawn again from the generator as it was; the last states then tell whether it was this one
        that drew (on a GPU it is another).
        """
        torch = need("torch", "bench", "mg.flow.record_torch")
        call, options = self.call, self.layer.options
        if call.drawn is None:
            return []
        size = options.get("proj_size") or options["hidden_size"]
        like = call.xs[0].swapaxes(0, 1) if self.front else call.xs[0]
        shape = (*like.shape[:-1], size * (2 if options["bidirectional"] else 1))
        found = []
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(call.drawn)
            for _ in range(options["num_layers"] - 1):
                ones = torch.ones(shape, dtype=call.xs[0].dtype)
                kept = torch.nn.functional.dropout(ones, options["dropout"]) != 0
                found.append(kept.numpy())
        if self.rows is None:
            return [m[:, None] if self.single else m for m in found]
        return [self.outer(m.astype(self.dtype), 1.0) != 0 for m in found]


def _rows(packed: tuple[Any, ...]) -> tuple[Array, Array]:
    """(t, row of the batch) of every row of packed data."""
    sizes, order, _ = packed
    sizes = sizes.numpy()
    t = np.repeat(np.arange(len(sizes)), sizes)
    b = np.concatenate([np.arange(n) for n in sizes])
    return t, b if order is None else order.cpu().numpy()[b]


class Drawn(np.random.Generator):
    """Hands out masks that were drawn before, one for each call of `random`."""

    def __init__(self, masks: list[Array]):
        super().__init__(np.random.PCG64(0))
        self._masks = iter(masks)

    def random(self, size: Any = None, *_: Any, **options: Any) -> Any:
        """Numbers of which those at or above a probability are kept: 1 where the mask is set."""
        mask = next(self._masks)
        if mask.shape != size:
            raise ValueError(f"the masks between layers are {mask.shape}, and {size} is needed")
        return mask.astype(np.float64)
