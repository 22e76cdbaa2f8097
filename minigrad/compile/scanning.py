"""scan: a cell over a sequence, its step compiled into one loop forward and one for BPTT."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from ..errors import TraceError
from ..tape import state as switches
from ..tensors import Tensor, as_tensor
from ..tree import leaves, map_leaves
from .checkpoint import checkpointed
from .eager import on_tape
from .fusing import fused
from .higher import gradient_as_scan
from .node import SCAN
from .packing import packs
from .padding import Episodic, padded
from .recall import recalled
from .result import ScanResult
from .schedule import asked_for
from .unrolling import Cell, check_mask, check_resets, sizes, unroll
from .windows import in_windows

_UNROLLED = 64  # steps of a scan in the step of another


def scan(
    cell: Cell,
    init: Any,
    xs: Any,
    lengths: Any = None,
    reverse: bool = False,
    mode: str = "fused",
    *,
    truncate: int | None = None,
    checkpoint: int | str | None = None,
    record: Iterable[str] | bool | None = None,
    mask: Any = None,
    resets: Any = None,
) -> ScanResult:
    """(cell, init, xs) -> (final, ys): what `unroll` computes, as one compiled loop.

        state = init
        for t in range(T):                    # T-1 down to 0 if reverse
            state = where(resets[t], init, state)
            new, y = cell(state, xs[t])
            state, ys[t] = where(mask[t], new, state), where(mask[t], y, 0)
        return state, stack(ys)

    The cell is called on abstract values, at every call of scan (unless `mg.pure` promises that it
    need not be), and what it does is compiled: a loop forward and one for BPTT, found again by the
    content of the program, and kept in a cache on disk; T and B are free. Tensors that the cell
    closes over, or holds as a Module, receive gradients like any other input. What cannot be
    compiled raises TraceError, and so does a new program that is another one when the cell is
    called a second time: a step that counts, or draws random numbers.

    cell: (state, x) -> (state, y), trees of Tensors. A Python branch on a value needs `mg.where`,
        and random numbers come in as xs. Python numbers in it become part of the kernel, so one
        that changes at every call is compiled every time, which is warned of.
    init: the first state, a tree of Tensors (B, ...). xs: a tree of Tensors (T, B, ...); integers
        may only be used as an index (an embedding).
    lengths, mask, resets, reverse: as in `unroll`: which steps of a row are real, as lengths (B,)
        or as a mask (T, B) of bool, and where episodes begin, (T, B) of bool. What xs holds in
        other than real steps is not read, and the loops leave these out: they cost nothing, forward
        and backward. (While somebody records they are computed, so that the record has them.)
    mode: "fused", or "tape" for `unroll` itself, the specification of what this computes.
    truncate: gradients pass no further back than the beginning of each window of so many steps
        (truncated BPTT).
    checkpoint: keep the state at some steps, and compute what is between again during BPTT. A size
        with its unit ("64 MiB", "1.5 GB"): what states and the insides of steps take together stays
        below it (with truncate, for each window), beside xs, ys and their gradients; a step is
        computed twice where that is enough, else more often, as `explain()` says. "auto": 64 MiB,
        or the least with which no step is computed more than twice. A number of steps n: the state
        at every n-th. Values, and the gradients of init and xs, are to the bit those without; the
        gradient of what the cell reads, a sum over steps, is summed segment by segment, and may
        differ by rounding.
    record: names marked by `mg.tap` in the cell (True: all that have a row for each of the batch)
        whose values (T, B, ...) and, after backward, norms of gradients (T, B) are kept, in
        `.record` of the result. A name stands for one value of a step.
    In the cell of another scan its steps are written out (64 at most), as part of that step.
    Returns a ScanResult: `final, ys = scan(...)`, with `.explain()`, `.source`, `.record`. final is
    the last state; ys is a tree of Tensors (T, B, ...), ys[t] being that of xs[t] both ways.
    Raises TraceError for what cannot be compiled, ShapeError or DTypeError if the state changes its
    type, naming the component, or lengths, mask or resets do not fit; ValueError for a mode, a
    number of steps or a name that makes no sense, for lengths with a mask, and for a size that is
    too small, naming one that is not.

    >>> from minigrad import tap
    >>> w = Tensor([[0.5]], requires_grad=True)
    >>> xs = Tensor([[[1.0]], [[0.0]], [[0.0]]])
    >>> def cell(h, x):
    ...     h = tap("h", h @ w + x)
    ...     return h, h
    >>> final, ys = result = scan(cell, Tensor([[0.0]]), xs, record=["h"])
    >>> final.sum().backward()
    >>> ys.tolist(), result.record.norms["h"].tolist()  # dh_T/dh_t = w^(T - t)
    ([[[1.0]], [[0.5]], [[0.25]]], [0.25, 0.5, 1.0])
    """
    if switches.jit is not None:
        taken = switches.jit.scan(cell, init, xs, lengths, reverse, mask, resets)
        if taken is not None:
            return taken
    ragged = lengths is not None or mask is not None
    plain = resets is None and truncate is None and checkpoint is None and not record
    plain = plain and not (ragged and switches.jit is not None)
    plain = plain and mode == "fused" and switches.mode != 2
    plain = plain and not (ragged and switches.listeners)
    if plain and switches.intervening is None:
        found = recalled(cell, init, xs, reverse, lengths, mask)
        if found is not None:
            return found
    if mode not in ("fused", "tape"):
        raise ValueError(f"scan: mode must be 'fused' or 'tape', got {mode!r}.")
    init, xs = _tensors(init), _tensors(xs)
    time, batch = sizes("scan", xs)
    if any(t._trace is not None for t in (*leaves(init), *leaves(xs))):
        return _inside(
            cell, init, xs, ragged or resets is not None, reverse, truncate, record, time
        )
    if switches.intervening is not None:
        cell, xs, mode = switches.intervening.around(cell, init, xs, mode)
    window, parts = _window(truncate), asked_for(checkpoint)
    real = check_mask("scan", lengths, mask, time, batch)
    begins = check_resets("scan", resets, real, time, batch, reverse)
    own, own_xs = cell, xs
    if begins is not None:
        cell, xs = Episodic(cell, init), (xs, as_tensor(begins))
    packed = mode == "fused" and not record and not switches.listeners
    if real is not None and packs(real, packed and reverse):
        cell, xs, cleaned = padded(cell, xs, real, packed)
        own_xs = cleaned if begins is None else cleaned[0]
    options: dict[str, Any] = {"mode": mode, "record": record}
    if window is not None:
        options["checkpoint"] = checkpoint
        return in_windows(scan, cell, init, xs, reverse, window, time, options)
    if parts is not None:
        return checkpointed(scan, cell, init, xs, reverse, mode, record, parts)
    if mode == "tape":
        exact = (own, init, own_xs, None, reverse, real, resets)
        stepwise = (cell, init, xs, None, reverse)  # so the record has what is in the padding
        return on_tape(cell, init, xs, reverse, record, stepwise if record else exact)
    return fused(cell, init, xs, batch, reverse, record)


SCAN.recorded = partial(gradient_as_scan, scan)


def _inside(
    cell: Cell, init: Any, xs: Any, limited: bool, reverse: bool, truncate: int | None, record: Any,
    time: int,
) -> ScanResult:  # fmt: skip
    """A scan in the step of another one: its steps become part of that step."""
    if time > _UNROLLED:
        raise TraceError(
            f"scan: a scan of {time} steps inside a cell; its steps are written out in the step of "
            f"the cell, and {_UNROLLED} at most. Run the outer scan with mode='tape'."
        )
    if record or truncate is not None or limited:
        raise TraceError(
            "scan: a scan inside a cell takes no record=, truncate=, lengths=, mask= or resets=; "
            "mark values by mg.tap and detach or choose states in the cell, or run the outer scan "
            "with mode='tape'."
        )
    return ScanResult(*unroll(cell, init, xs, None, reverse))


def _tensors(tree: Any) -> Any:
    if all(isinstance(t, Tensor) for t in leaves(tree)):
        return tree
    return map_leaves(as_tensor, tree)


def _window(truncate: Any) -> int | None:
    if truncate is None:
        return None
    if isinstance(truncate, bool) or not isinstance(truncate, (int, np.integer)) or truncate < 1:
        raise ValueError(f"scan: truncate is a number of steps, an integer >= 1; got {truncate!r}.")
    return int(truncate)
