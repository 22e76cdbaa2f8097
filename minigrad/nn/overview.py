"""What a net is made of, as a table: modules, what each returned, parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..tape import no_grad
from ..tensors import Tensor
from ..tree import leaves

if TYPE_CHECKING:  # a Module asks for its summary
    from .module import Module, Parameter


class Row(NamedTuple):
    """One module, by its full name; "" is the net itself.

    output: the shape of what it returned last, of each part; "" if that is not known. calls: how
    often it ran. parameters: how many numbers, its own and below. shared: how many of its own it
    has in common with a module of a row before.
    """

    name: str
    module: str
    output: str
    calls: int
    parameters: int
    shared: int
    depth: int


class Summary:
    """The table, to print; what is in it, to read.

    rows: one for each module, in the order of definition; a recurrent layer has its cells below.
    parameters: how many numbers in all, each once; frozen: how many of them need no gradient.
    bytes: the memory that they take.
    """

    def __init__(self, rows: list[Row], own: list[Parameter], called: bool):
        self.rows, self._called = rows, called
        self.parameters = sum(p.size for p in own)
        self.bytes = sum(p._array.nbytes for p in own)
        self.frozen = sum(p.size for p in own if not p.requires_grad)
        self._dtypes = sorted({str(p.dtype) for p in own})

    def __str__(self) -> str:
        head = ["module", "", "output", "parameters"]
        lines = [
            [
                "  " * row.depth + (row.name.rpartition(".")[2] or "(the net)"),
                row.module,
                row.output + (f"  x{row.calls}" if row.calls > 1 else ""),
                f"{row.parameters:,}" + (f" ({row.shared:,} shared)" if row.shared else ""),
            ]
            for row in self.rows
        ]
        if not self._called:
            head, lines = [h for h in head if h != "output"], [r[:2] + r[3:] for r in lines]
        widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
        table = [
            "  ".join([c.ljust(w) for c, w in zip(r[:-1], widths, strict=False)] + [r[-1]])
            for r in (head, *lines)
        ]
        kind = f" of {' and '.join(self._dtypes)}" if self._dtypes else ""
        total = f"{self.parameters:,} parameters{kind}, {self.bytes:,} bytes"
        total += f"; {self.frozen:,} need no gradient" if self.frozen else ""
        return "\n".join([*(line.rstrip() for line in table), total])

    __repr__ = __str__


def summary(model: Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> Summary:
    """What Module.summary returns."""
    outputs: dict[int, list[str]] = {}
    called = bool(inputs or options)
    if called:
        with _noting(model, outputs), no_grad():
            model(*inputs, **options)
    rows: list[Row] = []
    seen: dict[int, Parameter] = {}
    for name, module, depth in _walk(model, "", 0):
        own = {id(p): p for p in module.parameters()}
        direct = {id(p): p for _, p in module.members() if isinstance(p, Tensor)}
        shared = sum(p.size for key, p in direct.items() if key in seen)
        seen |= direct
        found = outputs.get(id(module), [])
        rows.append(Row(
            name, f"{type(module).__name__}({module.describe()})", found[-1] if found else "",
            len(found), sum(p.size for p in own.values()), shared, depth,
        ))  # fmt: skip
    return Summary(rows, list(model.parameters()), called)


@contextmanager
def _noting(model: Module, found: dict[int, list[str]]) -> Iterator[None]:
    """Notes the shapes of what modules return, with dropout off, so that nothing is drawn.

    By a `forward` around their own and not as a listener, for which scans would keep all taps.
    """
    modules = [m for m in model.modules() if not hasattr(m, "init_state")]
    training = [(m, vars(m).get("training")) for m in model.modules()]
    model.eval()
    for m in modules:
        vars(m)["forward"] = partial(_noted, m.forward, found.setdefault(id(m), []))
    try:
        yield
    finally:
        for m in modules:
            del vars(m)["forward"]
        for m, mode in training:
            if mode is None:
                del m.training
            else:
                m.training = mode


def _noted(forward: Any, found: list[str], *args: Any, **kwargs: Any) -> Any:
    result = forward(*args, **kwargs)
    arrays = [t for t in leaves(result) if isinstance(t, (Tensor, np.ndarray))]
    if not any(getattr(t, "_trace", None) is not None for t in arrays):  # in a step of a scan
        found.append(", ".join(str(tuple(t.shape)) for t in arrays))
    return result


def _walk(
    module: Module, name: str, depth: int, above: tuple[int, ...] = ()
) -> Iterator[tuple[str, Module, int]]:
    """(name, module, depth) of this one and all below, each as often as it is named."""
    yield name, module, depth
    above = (*above, id(module))
    for below, member in module.members():
        if not isinstance(member, Tensor) and id(member) not in above:
            full = f"{name}.{below}" if name else below
            yield from _walk(member, full, depth + 1, above)
