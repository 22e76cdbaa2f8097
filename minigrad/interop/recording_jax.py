"""A step of a scan that JAX computes, as a cell of minigrad: its values and its way back are JAX's.

One node of the tape stands for the whole step, and its pullback is that of `jax.vjp`. So what works
on a cell of minigrad works on any function of JAX, without somebody writing it twice; it runs on
the tape, with a call of JAX for each step.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..compile.node import Saved, WholeOp, output, scan_node
from ..errors import TraceError
from ..tape import Node, tap
from ..tape import state as switches
from ..tensors import Tensor, wrap
from .base import Array, ConversionError, need


def _step(inputs: Any) -> Any:
    """(carry, x, params) -> (carry, y): one step, by JAX."""
    raise TypeError("a step of JAX is recorded by mg.flow.record_jax, not called as an op")


def _pulled(node: Node, arrived: dict[int, Array]) -> list[tuple[int, Any]]:
    needs = node.plan.needs
    return list(zip(needs, node._saved.of(arrived, needs), strict=True))  # type: ignore[union-attr]


def _twice(node: Node, arrived: dict[int, Tensor]) -> list[tuple[int, Any]]:
    raise ConversionError("a step of JAX has a first derivative here, and no second one.")


STEP = WholeOp(_step, {"name": "jax_step", "variadic": True, "method": False})
STEP.pulled, STEP.recorded = _pulled, _twice


class JaxCell:
    """cell(state, x) -> (state, y) that calls step(params, carry, x), or step(carry, x).

    Trees of JAX are tuples of their leaves here: state, x and y. params: a tree whose leaves need a
    gradient, named as JAX prints the way to them; None for none. names: of the leaves of the state.
    """

    def __init__(self, step: Callable[..., Any], carry: Any, xs: Any, params: Any, names: Any):
        self.jax = jax = need("jax", "", "recordings of steps of JAX")
        self.step = step
        self.trees = [jax.tree.structure(tree) for tree in (carry, xs, params)]
        self.has_params = params is not None
        self.init, self.xs = self._leaves(carry), self._leaves(xs)
        self.names = list(names) if names is not None else self._names(carry)
        if len(self.names) != len(self.init):
            raise ConversionError(
                f"record_jax: names has {len(self.names)} names, and the carry {len(self.init)} "
                f"leaves: {', '.join(self._names(carry))}."
            )
        self.weights = [wrap(a, None, a.dtype.kind == "f") for a in self._leaves(params)]
        for name, w in zip(self._names(params), self.weights, strict=True):
            w.name = name
        self.aliases: dict[int, int] = {}  # leaf of y -> the leaf of the new state that it is
        self._forward = jax.jit(self._flat)
        self._back = jax.jit(self._vjp, static_argnums=(1, 3))

    def __call__(self, state: Any, x: Any) -> tuple[Any, Any]:
        given = [*state, *x, *self.weights]
        if any(t._trace is not None for t in given):
            raise TraceError("a step of JAX cannot be compiled here; run it with mode='tape'.")
        rows, wide = len(state[0]), self._wide(len(state[0]))
        arrays = [_filled(t._array, wide) for t in (*state, *x)] + [w._array for w in self.weights]
        found = [np.asarray(a)[:rows] for a in self._forward(*arrays)]
        needs = tuple(i for i, t in enumerate(given) if t.requires_grad)
        if needs and switches.recording:
            saved = Saved(arrays, partial(self._pull, arrays, found))
            node = scan_node(STEP, given, {}, needs, saved, found[0])
            made = [output(node, k, array) for k, array in enumerate(found)]
        else:
            made = [wrap(array, None, False) for array in found]
        n = len(state)
        new = tuple(tap(name, t) for name, t in zip(self.names, made[:n], strict=True))
        ys = enumerate(made[n:])
        return new, tuple(new[self.aliases[j]] if j in self.aliases else t for j, t in ys)

    def _flat(self, *arrays: Any) -> list[Any]:
        """The leaves of the new carry and of y."""
        sizes = np.cumsum([tree.num_leaves for tree in self.trees])
        carry, x, params = (
            self.jax.tree.unflatten(tree, arrays[end - tree.num_leaves : end])
            for tree, end in zip(self.trees, sizes, strict=True)
        )
        new, y = self.step(params, carry, x) if self.has_params else self.step(carry, x)
        new, ys = self.jax.tree.leaves(new), self.jax.tree.leaves(y)
        for j, t in enumerate(ys):
            for i, s in enumerate(new):
                if s is t:
                    self.aliases[j] = i
        return [*new, *ys]

    def _vjp(self, arrays: Any, needs: tuple[int, ...], given: Any, at: tuple[int, ...]) -> Any:
        def read(*wanted: Any) -> Any:
            put = dict(zip(needs, wanted, strict=True))
            found = self._flat(*(put.get(i, a) for i, a in enumerate(arrays)))
            return [found[k] for k in at]

        return self.jax.vjp(read, *(arrays[i] for i in needs))[1](given)

    def _pull(
        self, arrays: Any, found: Sequence[Array], arrived: dict[int, Array], needs: tuple[int, ...]
    ) -> list[Array]:
        at, rows = tuple(sorted(arrived)), len(found[0])
        given = [np.asarray(arrived[k], found[k].dtype) for k in at]
        wide = self._wide(rows) - rows
        given = [np.pad(g, [(0, wide), *[(0, 0)] * (g.ndim - 1)]) for g in given]
        pulled = [np.asarray(g) for g in self._back(arrays, needs, given, at)]
        own = len(arrays) - len(self.weights)
        return [g[:rows] if i < own else g for i, g in zip(needs, pulled, strict=True)]

    def _wide(self, rows: int) -> int:
        """A number of rows for which JAX need not compile again each time: weights by lag run all
        steps as rows, one step fewer for each lag.
        """
        return rows if rows == len(self.init[0]) else 1 << (rows - 1).bit_length()

    def _leaves(self, tree: Any) -> tuple[Array, ...]:
        return tuple(np.array(leaf, order="C") for leaf in self.jax.tree.leaves(tree))

    def _names(self, tree: Any) -> list[str]:
        """`['cell']['W']` as cell.W; of a single array h."""
        paths, _ = self.jax.tree.flatten_with_path(tree)
        found = [re.sub(r"[\W_]+$", "", _plain(self.jax.tree_util.keystr(p))) for p, _ in paths]
        return [name or ("h" if len(found) == 1 else f"state{i}") for i, name in enumerate(found)]


def _filled(array: Array, rows: int) -> Array:
    """With its last row again, up to so many."""
    return array if len(array) == rows else array[np.minimum(np.arange(rows), len(array) - 1)]


def _plain(path: str) -> str:
    """How a name is written: words with dots between.

    >>> _plain("['cell']['W']"), _plain("[0].h")
    ('cell.W', '0.h')
    """
    return re.sub(r"[^\w]+", ".", path).strip(".")
