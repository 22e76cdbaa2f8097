"""A recurrence that ran elsewhere, by its arrays: run again here, and recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..backward import walk
from ..compile.scanning import scan
from ..compile.unrolling import Cell
from ..errors import FlowError, ShapeError, describe
from ..tape import state as switches
from ..tensors import Tensor, as_tensor, wrap
from ..tree import leaves, map_leaves, named_leaves, structure
from .probes import STATES, _Listener
from .recording import Recording
from .steps import first_state
from .verdict import Thresholds

Array = np.ndarray


def replay(
    cell: Cell,
    xs: Any,
    init: Any,
    grad_ys: Any = None,
    grad_final: Any = None,
    *,
    reverse: bool = False,
    lengths: Any = None,
    mask: Any = None,
    name: str = "",
    mode: str = "fused",
    states: tuple[str, ...] | None = None,
    thresholds: Thresholds | None = None,
) -> Recording:
    """(cell, xs, init, dL/dys, dL/dfinal) -> Recording: BPTT of a net that lives elsewhere.

        with mg.flow.record() as rec:
            final, ys = mg.scan(cell, init, xs, lengths, reverse)
            (sum(grad_ys * ys) + sum(grad_final * final)).backward()
        return rec

    All that flow needs of a recurrence is the function of one step, what it read, and the gradients
    that came to its outputs from outside. These may come from any framework, as arrays; the loss
    and the rest of the net stay where they are. No `.grad` is touched.

    cell: (state, x) -> (state, y), as in `mg.scan`: a cell of mg.nn with the weights of the net, or
        one of your own. It taps its states, h = mg.tap("h", h), by which they are recorded.
    xs: a tree of arrays (T, B, ...). init: the first state, a tree of arrays (B, ...), or None for
        `cell.init_state(B)`.
    grad_ys, grad_final: the gradients of the outputs and of the last state, trees of arrays like
        theirs, (T, B, ...) and (B, ...); None, or None in place of a leaf, where there is none.
        Where the last output and the last state are one (h_n of torch.nn), what the loss reads as
        the one or as the other may be given as either, but not as both.
    reverse, lengths, mask, mode: as in `mg.scan`.
    name: the path of the layer in the recording. states, thresholds: as in `record`.
    Raises FlowError if no gradient is given, or none can pass; ShapeError for one that does not fit
    its output, naming it; and what `mg.scan` raises.

    >>> import minigrad as mg
    >>> W = mg.tensor([[0.5]], requires_grad=True)
    >>> def cell(h, x):
    ...     h = mg.tap("h", h @ W + x)
    ...     return h, h
    >>> rec = replay(cell, np.zeros((4, 1, 1)), np.ones((1, 1)), grad_final=np.ones((1, 1)))
    >>> rec[""].norms["h"].tolist()
    [0.125, 0.25, 0.5, 1.0]
    """
    xs = map_leaves(lambda x: leaf(x, True), xs)
    if init is None:
        init = first_state("replay", cell, np.shape(leaves(xs)[0])[1])
    if not any(x.requires_grad for x in leaves(xs)):  # then something else has to ask for one
        init = map_leaves(lambda s: leaf(s, True), init)
    init = map_leaves(lambda s: leaf(s, False), init)
    with recorded(name, states, thresholds) as recording:
        final, ys = scan(cell, init, xs, lengths, reverse, mode, mask=mask)
        pairs = [*seeds_of("grad_ys", ys, grad_ys), *seeds_of("grad_final", final, grad_final)]
        send_back(pairs, [*leaves(xs), *leaves(init)])
    return recording


@contextmanager
def recorded(
    name: str, states: tuple[str, ...] | None = None, thresholds: Thresholds | None = None
) -> Iterator[Recording]:
    """A Recording of what runs inside, in the scope `name`, whoever else records around it."""
    recording = Recording(
        tuple(states or STATES), thresholds or Thresholds(), carried=states is None
    )
    recording.elsewhere = True
    before = switches.switch(
        listeners=(_Listener(recording),), scope=name, recording=True, tape=None, anomaly=False
    )
    try:
        yield recording
    finally:
        switches.switch(**before)


def send_back(pairs: list[tuple[Tensor, Array]], ends: list[Tensor]) -> None:
    """BPTT from these outputs with these gradients; nothing behind `ends` is visited."""
    if not pairs:
        raise FlowError(
            "replay: no gradient was given; pass grad_ys, dL/dys (T, B, ...), or grad_final, that "
            "of the last state."
        )
    outputs, seeds = map(list, zip(*pairs, strict=True))
    wanted = [t for t in ends if t.requires_grad]
    walk(outputs, seeds, wanted, retain_graph=False, create_graph=False, stop=True)


def seeds_of(what: str, outputs: Any, given: Any) -> list[tuple[Tensor, Array]]:
    """(output, its gradient) for each that is given one."""
    if given is None:
        return []
    named, gradients = list(named_leaves(outputs)), _alike(what, outputs, given)
    found = []
    for (name, t), g in zip(named, gradients, strict=True):
        if g is None:
            continue
        g = np.asarray(getattr(g, "_array", g))
        if g.shape != t.shape or g.dtype.kind not in "fiu":
            raise ShapeError(
                f"replay: {what}{f' {name!r}' if name else ''} is {describe(g)}; expected the "
                f"gradient of {describe(t)}, with its shape."
            )
        if t.requires_grad:
            found.append((t, g.astype(t.dtype, copy=False)))
        elif g.any():
            raise FlowError(
                f"replay: {what}{f' {name!r}' if name else ''} came to an output that depends on "
                f"nothing that needs a gradient; expected None there."
            )
    return found


def _alike(what: str, outputs: Any, given: Any) -> list[Any]:
    """The leaves of a tree like `outputs`, None where that has None in place of a leaf."""
    if isinstance(outputs, dict) and isinstance(given, dict) and sorted(outputs) == sorted(given):
        return [g for k in sorted(outputs) for g in _alike(what, outputs[k], given[k])]
    if isinstance(outputs, (tuple, list)) and isinstance(given, (tuple, list)):
        if len(outputs) == len(given):
            both = zip(outputs, given, strict=True)
            return [g for one, g_of in both for g in _alike(what, one, g_of)]
    elif given is None:
        return [None] * len(leaves(outputs))
    elif not isinstance(outputs, (tuple, list, dict)) and not isinstance(given, (tuple, dict)):
        return [given]
    raise ShapeError(
        f"replay: {what} is {structure(given)}; expected a gradient, or None, for each leaf of "
        f"{structure(outputs)}."
    )


def leaf(value: Any, wants: bool) -> Tensor:
    """A leaf of the same values; wants: whether to ask for its gradient, if it holds floats."""
    t = as_tensor(value)
    return wrap(t._array, None, t.dtype.kind == "f" and (wants or t.requires_grad))
