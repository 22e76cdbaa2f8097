"""The tape: what is recorded when an operation runs, and the switches that govern recording.

A `Node` is data: which op, its inputs, its parameters, what its gradient rule will read, its
position in the record and the scope it ran in. There are no closures, so one record can be
executed backwards, printed, drawn, measured and compiled. A node is owned by the Tensors computed
from it, so a loop that never calls backward frees its record as it goes; `Tape` keeps a stretch of
it to look at.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import MinigradError, NumericalError, describe
from .listener import EachTap, Listener
from .memory import readable
from .switches import Switch, state

if TYPE_CHECKING:
    from .op import Op
    from .plan import Plan
    from .tensors import Tensor

Array = np.ndarray

tick = itertools.count(1).__next__  # one clock for nodes and for in-place edits: which came first?


class Node:
    """One recorded operation. `Tensor` makes them, in `tensors.apply`.

    op, params: what ran. position: its place in the record. scope: where in the model it ran.
    inputs: for each argument the Node that made it, the leaf Tensor it is, the Python number it
    was, or None (a constant array, kept only under a Tape). shape, dtype: of the output;
    in_shapes: of the inputs, None if all equal to it. plan: which inputs need a gradient and what
    is kept for that. saved: the arrays kept, None once backward has freed them.
    """

    __slots__ = (
        "__dict__", "__weakref__", "_saved", "dtype", "in_shapes", "inputs", "op", "params",
        "plan", "position", "scope", "shape",
    )  # fmt: skip
    op: Op
    inputs: Sequence[Any]
    params: dict[str, Any]
    plan: Plan
    _saved: tuple[Array, ...] | None
    in_shapes: tuple[tuple[int, ...], ...] | None
    shape: tuple[int, ...]
    dtype: np.dtype
    position: int
    scope: str
    # seldom set, so they are no slots: making a node must be cheap
    hooks: list[Callable[..., Any]] | None = None
    retained: Sequence[Callable[[], Tensor | None]] = ()  # weakly, who wants the gradient in .grad
    tape: Tape | None = None

    def __repr__(self) -> str:
        where = f" in {self.scope}" if self.scope else ""
        return f"<node {self.position}: {self.op.name} -> {self.dtype}{list(self.shape)}{where}>"

    @property
    def saved(self) -> tuple[Array, ...] | None:
        """The arrays kept for backward, read-only."""
        return None if self._saved is None else tuple(map(readable, self._saved))

    @property
    def nbytes(self) -> int:
        """Bytes kept alive for the backward pass by this node."""
        return sum(a.nbytes for a in self._saved) if self._saved else 0

    def input_shape(self, i: int) -> tuple[int, ...]:
        return self.shape if self.in_shapes is None else self.in_shapes[i]

    def where(self) -> str:
        """`tanh at position 12, scope rnn/t=3`, for messages."""
        scope = f", scope {self.scope}" if self.scope else ""
        return f"{self.op.name} at position {self.position}{scope}"


class Tape(Switch):
    """Keeps everything recorded while it is active: nodes, values and, after backward, gradients.

        with mg.Tape() as tape:
            loss = mg.mean(mg.tanh(x @ w))
        print(tape)

    Under a tape every operation is recorded, also those that need no gradient. It holds the values
    it saw until it is dropped, so use it on the stretch you want to look at.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.leaves: list[Tensor] = []
        self._values: dict[int, Array] = {}
        self._gradients: dict[int, Array] = {}
        self._known: set[int] = set()
        self._kept: dict[int, int] = {}
        self._kept_arrays: dict[int, int] = {}  # id -> bytes: several nodes may keep one array

    def __enter__(self) -> Tape:
        if state.tape is not None:
            raise MinigradError("Tape: another Tape is active in this thread; leave it first.")
        super().__enter__()
        return self

    def switches(self) -> dict[str, Any]:
        return {"tape": self}

    def __len__(self) -> int:
        return len(self.nodes)

    def record(self, node: Node, y: Array) -> None:
        node.tape = self
        self.nodes.append(node)
        self._values[node.position] = y
        self._kept[node.position] = node.nbytes
        self._kept_arrays |= {id(a): a.nbytes for a in node._saved or ()}
        for leaf in node.inputs:
            if hasattr(leaf, "requires_grad") and id(leaf) not in self._known:
                self._known.add(id(leaf))
                self.leaves.append(leaf)

    def saw_gradient(self, node: Node, g: Array) -> None:
        self._gradients[node.position] = g

    def value(self, node: Node) -> Array:
        """What the node computed, read-only."""
        return readable(self._values[node.position])

    def gradient(self, node: Node) -> Array | None:
        """dL/d(output of the node) after backward, read-only; None if none reached it."""
        g = self._gradients.get(node.position)
        return None if g is None else readable(g)

    @property
    def kept_bytes(self) -> int:
        """Bytes the recorded nodes kept for backward, an array that several keep counted once."""
        return sum(self._kept_arrays.values())

    def names(self) -> dict[int, str]:
        """id(leaf or node) -> the short name it has in print(tape): `%3`, `w`, `const0`."""
        names = {id(n): f"%{i}" for i, n in enumerate(self.nodes)}
        counts = {"param": itertools.count(), "const": itertools.count()}
        for leaf in self.leaves:
            kind = "param" if leaf.requires_grad else "const"
            names[id(leaf)] = leaf.name or f"{kind}{next(counts[kind])}"
        return names

    def __str__(self) -> str:
        names = self.names()
        head = ("#", "op", "inputs", "shape", "dtype", "scope", "kept")
        rows = [head]
        for i, node in enumerate(self.nodes):
            inputs = [
                names.get(id(x), repr(x) if isinstance(x, (int, float)) else "(outside)")
                for x in node.inputs
            ]
            inputs += [f"{k}={_short(v)}" for k, v in node.params.items()]
            shape = "x".join(map(str, node.shape)) or "scalar"
            kept = f"{self._kept[node.position]} B" if self._kept[node.position] else "-"
            listed = ", ".join(inputs)
            listed = listed if len(listed) <= 44 else listed[:41] + "..."
            row = (f"%{i}", node.op.name, listed, shape, str(node.dtype), node.scope or "-", kept)
            rows.append(row)
        widths = [max(len(r[c]) for r in rows) for c in range(len(head))]
        lines = [
            "  ".join(f"{cell:<{w}}" for cell, w in zip(r, widths, strict=True)).rstrip()
            for r in rows
        ]
        lines.append(f"{len(self.nodes)} operations; {self.kept_bytes} B kept for backward")
        return "\n".join(lines)


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return describe(value)
    if isinstance(value, tuple):
        inside = ", ".join(_short(v) for v in value)
        return f"({inside}{',' if len(value) == 1 else ''})"
    if isinstance(value, slice):
        parts = [value.start, value.stop] + ([value.step] if value.step is not None else [])
        return ":".join("" if p is None else str(p) for p in parts)
    return "..." if value is Ellipsis else repr(value)


class scope(Switch):
    """Names what is recorded inside; scopes nest as `lstm/t=3` and become clusters in drawings."""

    def __init__(self, name: str):
        self.name = name

    def switches(self) -> dict[str, Any]:
        return {"scope": f"{state.scope}/{self.name}" if state.scope else self.name}


class no_grad(Switch):
    """Nothing inside needs a gradient: no recording, leaves may be edited in place.

    `with no_grad():`, or above a function, `@no_grad` or `@no_grad()`.

    >>> from minigrad import tensor
    >>> @no_grad
    ... def evaluate(x):
    ...     return x * 2.0
    >>> evaluate(tensor([1.0], requires_grad=True)).requires_grad
    False
    """

    def __new__(cls, function: Any = None) -> Any:
        made = super().__new__(cls)
        return made if function is None else made(function)

    def switches(self) -> dict[str, Any]:
        return {"recording": False}


class detect_anomaly(Switch):
    """Stops at the first NaN or Inf, forward or backward, and names its op and scope."""

    def switches(self) -> dict[str, Any]:
        return {"anomaly": True}


def check_finite(array: Any, where: str, during: str, read: Iterable[tuple[str, Any]] = ()) -> None:
    """Raises NumericalError if `array` holds NaN or Inf (detect_anomaly).

    read: (name, array) for what it was computed from; the message says which of them was not
    finite itself, or that all were.
    """
    found = _not_finite(array)
    if not found:
        return
    read = list(read)
    at_fault = [f"{name} held {bad}" for name, value in read if (bad := _not_finite(value))]
    origin = ""
    if at_fault:
        origin = f" It began earlier: {' and '.join(at_fault)}."
    elif read:
        origin = f" What it read was finite: {', '.join(name for name, _ in read)}."
    raise NumericalError(f"detect_anomaly: {during} of {where} produced {found}.{origin}")


def _not_finite(value: Any) -> str:
    """`nan at index [3] of float64[5]`, the first NaN or Inf of a value; "" if there is none."""
    array = np.asarray(value)
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return ""
    bad = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
    return f"{array[bad]} at index {list(bad)} of {describe(array)}"


def tap(name: str, tensor: Tensor) -> Tensor:
    """Marks a value by name ("h", "c", "f", ...) for whoever listens, and returns it.

    Go on with what it returns: inside `mg.flow.intervene` that is another value.
    """
    if state.intervening is not None:
        changed: Tensor = state.intervening.tap(name, tensor)
        return changed
    return heard(name, tensor)


def heard(name: str, tensor: Tensor) -> Tensor:
    """Tells whoever listens of a tapped value, and returns it."""
    for listener in state.listeners:
        listener.tap(name, tensor, state.scope)
    return tensor


class listen(Switch):
    """Tells a `Listener` of what runs inside; a function is called for each tap, as
    function(name, tensor, scope).
    """

    def __init__(self, listener: Listener | Callable[[str, Tensor, str], None]):
        self.listener = listener if isinstance(listener, Listener) else EachTap(listener)

    def switches(self) -> dict[str, Any]:
        return {"listeners": (*state.listeners, self.listener)}
