"""What a node keeps, and how the gradients of its inputs are computed from that.

A `Plan` is worked out once for each op and each choice of inputs that need a gradient. For
elementwise ops it holds compiled calls, for the others the declared rules and where each finds
what it asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import expr
from .kernels import elementwise as kernels

if TYPE_CHECKING:
    from .op import Op

Array = np.ndarray
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class Pullback(NamedTuple):
    """How the gradient of one input is computed: `fn` called with the values it names."""

    input: int  # which one
    fn: Callable[..., Any]
    names: tuple[str, ...]  # what the rule asks for besides g, in its order
    call: Callable[..., Any] | None = None  # (g, saved, node) -> fn(g, ...)


class Plan(NamedTuple):
    """What a node keeps, and computes in the backward pass, when the inputs in `mask` need it.

    What is called for every node is generated: places that are known are not looked for again.
    """

    needs: tuple[int, ...]  # the inputs that get a gradient
    saves: tuple[int, ...]  # what is kept: positions in the inputs; -1 is the output
    names: tuple[str, ...]  # the same by name
    pullbacks: tuple[Pullback, ...]
    # (input, what gives its gradient of g, saved and node; None: g itself), of ops whose inputs and
    # output have one dtype; of others the walk back asks more.
    calls: tuple[tuple[int, Callable[..., Any] | None], ...]
    keep: Callable[..., tuple[Array, ...]] = lambda arrays, y: ()  # what the node keeps of them


def _made(text: str, **names: Any) -> Any:
    """An expression's value. Its code is in a file of minigrad's: no line of a user's."""
    return eval(compile(text, f"{__file__} <made>", "eval"), names)


def keeper(saves: Sequence[int]) -> Callable[..., tuple[Array, ...]]:
    """(arrays, y) -> those at the places `saves`; -1 is y."""
    picks = "".join(f"{'y' if i < 0 else f'arrays[{i}]'}, " for i in saves)
    made: Callable[..., tuple[Array, ...]] = _made(f"lambda arrays, y: ({picks})")
    return made


NO_GRADIENT = Plan((), (), (), (), ())


_PLACES = {
    "saved": "saved[{key}]",
    "parameter": "node.params[{key!r}]",
    "shape": "(node.shape if node.in_shapes is None else node.in_shapes[{key}])",
    "dtype": "node.inputs[{key}].dtype",
    "shapes": "[node.input_shape(i) for i in range(len(node.inputs))]",
    "dtypes": "[i.dtype for i in node.inputs]",
    "unused": "None",
}


def rule_call(
    fn: Callable[..., Any], facts: Sequence[tuple[str, Any]]
) -> Callable[[Any, Any, Any], Any]:
    """(g, saved, node) -> fn(g, ...), with each argument picked from its place."""
    picks = ["g", *(_PLACES[what].format(key=key) for what, key in facts)]
    text = f"lambda g, saved, node: fn({', '.join(picks)})"
    made: Callable[[Any, Any, Any], Any] = _made(text, fn=fn)
    return made


def kernel_call(source: expr.Source, saved_names: Sequence[str]) -> Callable[..., Array]:
    """(g, saved, node) -> the rule `source` on arrays, by one kernel."""
    picks = ["g" if n == "g" else f"saved[{saved_names.index(n)}]" for n in source.inputs]
    text = f"lambda g, saved, node: loops[g.dtype]({', '.join(picks)})"
    made: Callable[..., Array] = _made(text, loops=Loops(source))
    return made


class Loops(dict):
    """dtype -> compiled ufunc, made on first use."""

    def __init__(self, source: expr.Source):
        super().__init__()
        self.source = source

    def __missing__(self, dtype: np.dtype) -> Callable[..., Any]:
        if dtype not in FLOATS and "f" in self.source.signature:
            raise KeyError(dtype)
        kernel_dtype = dtype if dtype in FLOATS else FLOATS[0]  # purely boolean: any will do
        loop = self[dtype] = kernels.loop(self.source.text, self.source.signature, kernel_dtype)
        return loop


class Plans(dict):
    """mask of the inputs that need a gradient -> Plan, made on first use."""

    def __init__(self, op: Op):
        super().__init__({0: NO_GRADIENT})
        self.op = op

    def __missing__(self, mask: int) -> Plan:
        plan = self[mask] = self.op.make_plan(mask)
        return plan
