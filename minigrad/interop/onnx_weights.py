"""What a graph computes of its constants alone, and which of its weights are one Parameter.

Exporters slice, join and turn weights on the way to the node that reads them (torch's from 64 units
on), and write a weight that is used twice once, turned once, or as often as it is used.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..nn.module import Module, Parameter
from ..tape import no_grad
from ..tensors import Tensor
from .base import Array

ROOM = 1 << 22  # elements that may be folded whatever the size of the file
GROWING = ("Gemm", "OneHot", "Pad", "Range", "Tile")  # their sizes are in values: left to be run
Places = frozenset[str]  # names of initializers
Function = Callable[..., Any]


class Constants(dict[str, Array]):
    """Name -> array: the initializers, and what nodes compute from them and nothing else.

    sources: name -> the initializers with weights that the array was made from. scope: what goes
    before the names of a graph that a node of another holds; that one's constants are `outer`.
    """

    def __init__(
        self, initializers: dict[str, Array], outer: Constants | None = None, scope: str = ""
    ):
        super().__init__(outer or {})
        self.update(initializers)
        self.scope = scope
        self.sources: dict[str, Places] = dict(outer.sources) if outer else {}
        self.sources |= {n: frozenset([n]) for n, w in initializers.items() if w.dtype.kind == "f"}
        # Slices, joined, with an axis more, joined again: torch copies a weight four times.
        self.room = 8 * sum(w.size for w in initializers.values())
        self.room += ROOM if outer is None else outer.room

    def fold(self, op: str, function: Function, attributes: dict[str, Any], node: Any) -> bool:
        """Adds the outputs of a node if all its inputs are constants, and says whether it did.

        A node that would fail, or fill memory from a few bytes of a file, is left to be run.
        """
        if op in GROWING or not all(name in self or not name for name in node.input):
            return False
        values = [self.get(name) for name in node.input]
        try:
            if (size := _elements(op, attributes, values)) > self.room:
                return False
            with no_grad(), np.errstate(all="ignore"):
                results = function(*values)
        except Exception:  # whatever it is, running the node says it, and its name
            return False
        self.room -= size
        sources = frozenset[str]().union(*(self.sources.get(name, ()) for name in node.input))
        if op == "DequantizeLinear":  # a weight that was stored as integers
            sources |= frozenset(node.input[:1])
        results = results if isinstance(results, tuple) else (results,)
        for name, result in zip(node.output, results):
            if name:
                self[name] = result.numpy() if isinstance(result, Tensor) else np.asarray(result)
                if sources and self[name].dtype.kind == "f":
                    self.sources[name] = sources
        return True


def _elements(op: str, attributes: dict[str, Any], values: list[Array | None]) -> int:
    """A bound on the elements of a node's outputs, before it is run."""
    arrays = [np.asarray(v) for v in values if v is not None]
    most = sum(a.size for a in arrays)
    if op == "ConstantOfShape":
        return math.prod(int(n) for n in arrays[0].ravel())
    if op == "Expand":
        sizes = tuple(int(n) for n in arrays[1])
        return math.prod(np.broadcast_shapes(arrays[0].shape, sizes))
    if op == "Gather":
        x, indices = arrays
        return x.size // max(x.shape[attributes.get("axis", 0)], 1) * indices.size
    if op in ("MatMul", "MatMulInteger"):
        a, b = arrays[:2]
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        return math.prod((*batch, *a.shape[-2:-1], *b.shape[-1:]))
    try:
        return max(most, math.prod(np.broadcast_shapes(*(a.shape for a in arrays))))
    except ValueError:  # views, or all of them joined
        return most


class SharedWeights:
    """One Parameter for each weight, however often nodes read it.

    Two are one if they hold the same numbers in minigrad's layout, at least two different ones,
    and come from one initializer; or, with `equal`, from several: torch writes W_hh of nn.RNN anew
    for each step, and a tied embedding a second time, transposed. `merged` names those.
    """

    def __init__(self, equal: bool):
        self.equal = equal
        self.merged: list[str] = []
        self.found: dict[tuple[Any, ...], list[tuple[str, Places, Parameter]]] = {}

    def tie(self, name: str, layer: Module, sources: Places) -> int:
        """Puts the Parameters that are there already into a layer; the bytes of its new ones."""
        new = 0
        for path, module in _modules(name, layer):
            for attribute, parameter in list(vars(module).items()):
                if isinstance(parameter, Parameter):
                    one = self.one(f"{path}.{attribute}", parameter, sources)
                    if one is parameter:
                        new += parameter.numpy().nbytes
                    else:
                        setattr(module, attribute, one)
        return new

    def one(self, name: str, parameter: Parameter, sources: Places) -> Parameter:
        """The Parameter that holds this weight already, or this one from now on."""
        if (other := self.holder(parameter.numpy(), sources)) is None:
            kept = self.found.setdefault(_key(parameter.numpy()), [])
            kept.append((name, sources, parameter))
            return parameter
        first, its_sources, held = other
        if not sources & its_sources:
            self.merged.append(f"{name} = {first}")
        return held

    def holder(self, w: Array, sources: Places) -> tuple[str, Places, Parameter] | None:
        """(name, sources, Parameter) of what holds this very weight."""
        if not w.size or w.min() == w.max():  # zeros and ones, as layers start with, say nothing
            return None
        for held in self.found.get(_key(w), ()):
            if self.equal or sources & held[1]:
                return held
        return None


def _key(w: Array) -> tuple[Any, ...]:
    return w.shape, w.dtype.str, hashlib.blake2b(np.ascontiguousarray(w).data).digest()


def _modules(path: str, module: Module) -> list[tuple[str, Module]]:
    below = [(n, m) for n, m in module.members() if isinstance(m, Module)]
    return [(path, module), *(pair for n, m in below for pair in _modules(f"{path}.{n}", m))]
