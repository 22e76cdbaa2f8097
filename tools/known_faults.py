"""The faults that tools/faults.py plants. CONTROL is none: all the means of planting, unchanged."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from conformance.cells import OnnxLSTM
from planting import Bend, Call, Changes, Fault, Loop, Patch, around_loop, in_cell, one_by_one

import minigrad as mg
from minigrad import nn
from minigrad.tree import leaves, map_leaves, rebuild

CELLS: dict[str, Any] = {"RNN": nn.RNNCell, "LSTM": nn.LSTMCell, "GRU": nn.GRUCell}
GATED = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


# ---------------------------------------------------------------------------------- in the cell


def blocks(w: Any, cell: Any) -> list[Any]:
    return mg.split(w, len(cell.gates), axis=0)


def present(cell: Any, names: tuple[str, ...] = GATED) -> dict[str, Any]:
    found = {name: getattr(cell, name) for name in names}
    return {name: w for name, w in found.items() if w is not None}


def stacked_as(order: str, names: tuple[str, ...] = GATED) -> Changes:
    """Takes the rows for gates in `order`, letters as in cell.gates."""

    def changes(cell: Any) -> dict[str, Any]:
        rows = [order.index(gate) for gate in cell.gates]
        return {
            name: mg.concatenate([blocks(w, cell)[row] for row in rows], axis=0)
            for name, w in present(cell, names).items()
        }

    return changes


def transposed(cell: Any) -> dict[str, Any]:
    parts = blocks(cell.weight_hh, cell)
    square = parts[0].shape[0] == parts[0].shape[1]  # not so with a projection
    return {"weight_hh": mg.concatenate([w.T for w in parts], axis=0)} if square else {}


def dropped(*names: str) -> Changes:
    return lambda cell: {name: w * 0.0 for name, w in present(cell, names).items()}


def without_forgetting(cell: Any) -> dict[str, Any]:
    """f = sigmoid(40), which is 1 in float64 too, to 4e-18."""
    found = {}
    for name in ("weight_ih", "weight_hh"):
        i, f, g, o = blocks(getattr(cell, name), cell)
        found[name] = mg.concatenate([i, f * 0.0, g, o], axis=0)
    for name, value in [("bias_ih", 40.0), ("bias_hh", 0.0)]:
        b = getattr(cell, name)
        i, f, g, o = blocks(cell.weight_ih[:, 0] * 0.0 if b is None else b, cell)
        found[name] = mg.concatenate([i, f * 0.0 + value, g, o], axis=0)
    return found


def one_bias(cell: Any) -> dict[str, Any]:
    """b_hn outside the product with r."""
    if cell.bias_hh is None:
        return {}
    return {"bias_ih": cell.bias_ih + cell.bias_hh, "bias_hh": cell.bias_hh * 0.0}


def instead(options: dict[str, Any], wrong: dict[str, Any]) -> Changes:
    """Other options, in the cells that have these."""
    return lambda cell: wrong if options.items() <= vars(cell).items() else {}


def without_peephole(gate: int) -> Changes:
    def changes(cell: Any) -> dict[str, Any]:
        if cell.P is None:
            return {}
        parts = mg.split(cell.P, 3)
        parts[gate] = parts[gate] * 0.0
        return {"P": mg.concatenate(parts)}

    return changes


def cut(name: str) -> Callable[[Any], Any]:
    """The state with one component that passes no gradient back: the values stay right."""
    return lambda s: s._replace(**{name: getattr(s, name).detach()})


def cell_faults() -> Iterator[Fault]:
    for order in map("".join, itertools.permutations("ifgo")):
        if order != "ifgo":
            yield Fault(f"LSTM gate order {order}", "lstm", in_cell(nn.LSTMCell, stacked_as(order)))
    for order in map("".join, itertools.permutations("rzn")):
        if order != "rzn":
            yield Fault(f"GRU gate order {order}", "gru", in_cell(nn.GRUCell, stacked_as(order)))
    for name in GATED:
        for kind, order in [("LSTM", "figo"), ("GRU", "zrn")]:
            changes = stacked_as(order, (name,))
            yield Fault(
                f"{kind} gate order {order} in {name} alone",
                kind.lower(),
                in_cell(CELLS[kind], changes),
            )
    for kind, cell in CELLS.items():
        for what, changes in [
            ("recurrent matrix transposed", transposed),
            ("recurrence dropped", dropped("weight_hh")),
            ("bias_ih dropped", dropped("bias_ih")),
            ("bias_hh dropped", dropped("bias_hh")),
        ]:
            yield Fault(f"{kind} {what}", kind.lower(), in_cell(cell, changes))
    lstm, gru = nn.LSTMCell, nn.GRUCell
    yield Fault("LSTM forget gate not applied", "lstm", in_cell(lstm, without_forgetting))
    for gate, letter in enumerate("iof"):
        plant = in_cell(OnnxLSTM, without_peephole(gate))
        yield Fault(f"peephole of {letter} dropped", "lstm", plant)
    for options, wrong, what in [
        ({"reset_after": True}, {"reset_after": False}, "reset before the product, not after"),
        ({"reset_after": False}, {"reset_after": True}, "reset after the product, not before"),
        ({"update": "keep"}, {"update": "write"}, "update gate writes, not keeps"),
        ({"update": "write"}, {"update": "keep"}, "update gate keeps, not writes"),
    ]:
        yield Fault(f"GRU {what}", "gru", in_cell(gru, instead(options, wrong)))
    yield Fault("GRU recurrent bias outside the reset", "gru", in_cell(gru, one_bias))
    for name in "hc":
        plant = in_cell(lstm, lambda cell: {}, cut(name))
        yield Fault(f"LSTM no gradient through {name}", "lstm", plant)
    plant = in_cell(gru, lambda cell: {}, lambda h: h.detach())
    yield Fault("GRU no gradient through h", "gru", plant)


# -------------------------------------------------------------------------------- around the loop


def faithful(loop: Loop, call: Call) -> tuple[Any, Any]:
    return loop(call)


def without_state(component: int) -> Bend:
    def bend(loop: Loop, call: Call) -> tuple[Any, Any]:
        found = leaves(call.state)
        if component < len(found):
            found[component] = found[component] * 0.0
        return loop(call._replace(state=rebuild(call.state, found)))

    return bend


def detached(loop: Loop, call: Call) -> tuple[Any, Any]:
    return loop(call._replace(state=map_leaves(lambda s: s.detach(), call.state)))


def without_lengths(loop: Loop, call: Call) -> tuple[Any, Any]:
    return loop(call._replace(lengths=None))


def shorter(loop: Loop, call: Call) -> tuple[Any, Any]:
    if call.lengths is None:
        return loop(call)
    return loop(call._replace(lengths=np.maximum(np.asarray(call.lengths) - 1, 1)))


def padding_in_reverse(loop: Loop, call: Call) -> tuple[Any, Any]:
    """The whole padded row is reversed: it begins in the padding, which moves the state."""
    if not call.reverse or call.lengths is None:
        return loop(call)
    final, ys = loop(call._replace(lengths=None))
    real = np.arange(ys.shape[0])[:, None, None] < np.asarray(call.lengths)[:, None]
    return final, mg.where(real, ys, 0.0)


def repeated_outputs(loop: Loop, call: Call) -> tuple[Any, Any]:
    """Past a row's length its last output instead of 0."""
    final, ys = loop(call)
    if call.lengths is None:
        return final, ys
    last = np.minimum(np.arange(ys.shape[0])[:, None], np.asarray(call.lengths) - 1)
    return final, ys[last, np.arange(ys.shape[1])]


def forwards(loop: Loop, call: Call) -> tuple[Any, Any]:
    return loop(call._replace(reverse=False))


def misaligned(loop: Loop, call: Call) -> tuple[Any, Any]:
    final, ys = loop(call)
    return final, map_leaves(lambda y: mg.flip(y, 0), ys) if call.reverse else ys


class Memoryless(nn.Module):
    """A cell whose every step starts from zeros."""

    def __init__(self, cell: Any):
        self.cell = cell

    def forward(self, state: Any, x: Any) -> tuple[Any, Any]:
        return self.cell(map_leaves(lambda s: s * 0.0, state), x)

    def init_state(self, batch: int) -> Any:
        return self.cell.init_state(batch)


def memoryless(loop: Loop, call: Call) -> tuple[Any, Any]:
    return loop(call._replace(cell=Memoryless(call.cell)) if call.reverse else call)


def shared_directions(patch: Patch) -> None:
    """The reverse direction runs with the weights of the forward one."""
    one_by_one(patch)
    run = nn.Recurrent._run

    def faulty(self: Any, cell: Any, *args: Any, **options: Any) -> Any:
        i = next(i for i, c in enumerate(self.cells) if c is cell)
        return run(self, self.cells[i - i % self.num_directions], *args, **options)

    patch.setattr(nn.Recurrent, "_run", faulty)


def loop_faults() -> Iterator[Fault]:
    for name, subject, bend in [
        ("h_0 ignored", "state", without_state(0)),
        ("c_0 ignored", "state", without_state(1)),
        ("no gradient into h_0 and c_0", "torch", detached),
        ("lengths ignored", "length", without_lengths),
        ("lengths one too short", "length", shorter),
        ("outputs repeated in the padding", "length", repeated_outputs),
        ("reverse begins in the padding", "length", padding_in_reverse),
        ("reverse runs forwards", "bi", forwards),
        ("reverse not aligned again", "bi", misaligned),
        ("reverse without recurrence", "bi", memoryless),
    ]:
        yield Fault(name, subject, around_loop(bend))
    yield Fault("directions share weights", "bi", shared_directions)


def control(patch: Patch) -> None:
    """All the means of planting, and no fault."""
    for kind in (*CELLS.values(), OnnxLSTM):
        in_cell(kind, lambda cell: {})(patch)
    around_loop(faithful)(patch)


CONTROL = Fault("control: nothing is wrong", "", control)
FAULTS = [*cell_faults(), *loop_faults()]
