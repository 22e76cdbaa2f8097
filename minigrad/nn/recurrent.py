"""Recurrent layers: a cell over time, in layers and directions. The cells are in cells.py.

Inside, arrays are (T, B, features), always. Layouts, padding and merging happen at the edges of
`Recurrent.forward`; the loop over time is `scan`.
"""

from __future__ import annotations

import re
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import checks, ops
from ..border import plain
from ..compile.padding import Reweighted, Stated
from ..compile.scanning import scan
from ..compile.schedule import asked_for
from ..compile.sidebyside import beside
from ..compile.unrolling import check_mask, check_resets, computed
from ..errors import DTypeError, ShapeError, describe
from ..othernames import of_module
from ..tape import state as switches
from ..tensors import Tensor, as_tensor
from ..tree import map_leaves
from .layers import drop, keep_mask
from .module import Module, Parameter
from .states import apart, stacked
from .streaming import Stream

DEFAULT_MODE = "fused"  # how layers run unless told otherwise; the only place that says so
_RAN: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()  # for explain()
_SUFFIXED = re.compile(r"(?P<name>.+)_l(?P<layer>\d+)(?P<reverse>_reverse)?")


MERGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "concat": lambda forward, reverse: ops.concatenate([forward, reverse], axis=-1),
    "sum": lambda forward, reverse: forward + reverse,
    "mean": lambda forward, reverse: (forward + reverse) * 0.5,
    "mul": lambda forward, reverse: forward * reverse,
}


class Recurrent(Module):
    """Any cell over time: layers, directions, padding, dropout between layers.

        for each layer:
            for each direction:
                final, ys = scan(cell, init, xs, lengths, reverse, mode)
            xs = the directions' ys, concatenated
        output = the last layer's ys, merged

    cell_factory: input size -> cell, called once for each layer and direction. A cell is a Module
        with `init_state(batch)` and `forward(state, x) -> (state, y)`; see cells.py. With more than
        one layer it also has `output_size`, the size of y.
        Where the cells differ in size, states cannot be stacked: a state given or returned is then
        a tuple with one for each layer and direction, (B, ...) each.
    input_size: features of x. num_layers, bidirectional: as in torch.nn.
    merge: how the two directions' outputs become one, "concat", "sum", "mean" or "mul". Between
        layers it is always "concat", so that parameters have torch.nn's shapes; states are never
        merged.
    return_sequences: False gives only the outputs after the last real step, (B, ...): forward at
        the row's last step, reverse at step 0.
    batch_first: x and the output are (B, T, ...). States stay (layers*directions, B, ...).
    dropout: in training, on the outputs of every layer but the last; drawn from `generator`.
    weight_dropout: in training, on the entries of each cell's weight_hh (DropConnect: Wan et al.
        2013; Merity et al. 2018): drawn once for each call, the same for all rows and steps.
    mode: "fused" compiles the step of each cell into one loop with `mg.scan`; "tape" runs every
        step as eager operations, which a Tape or a drawing shows one by one.
    checkpoint: as in `mg.scan`, for sequences too long to keep all that BPTT reads: "auto", a size
        ("64 MiB", for each layer and direction) or a number of steps.
    return_states: whether a call returns the states of all steps, too, unless it says otherwise.
    A row of a batch has the bits that it has alone, forward and in the gradients of x and state.

    `layer(x, state=None, lengths=None, mask=None, resets=None, return_states=None) -> (output,
    final)`, or (output, final, states) with return_states=True:
    x (T, B, I), or (T, I) for one sequence without a batch, and then nothing has a batch axis.
    state: zeros if left out; else each component (layers*directions, B, ...), layer 0 forward,
        layer 0 reverse, layer 1 forward, ... It may carry a gradient. final has the same layout.
    lengths: (B,) integers from 0 to T. Past a row's length the output is 0 and x is not read (NaN
        will do); final is the state after the row's last real step; the reverse direction starts
        at that step. What is not real is not computed either.
    mask: instead of lengths, bool with the leading axes of x, (T, B), or (B, T) if batch_first:
        which steps are real, wherever they are (padding in front, as Keras pads, or gaps). In the
        others the state stays as it is and the output is 0, as in Keras with
        zero_output_for_mask=True; by default Keras repeats the row's last output there.
    resets: bool, with the leading axes of x: an episode begins at this step. No state passes
        between it and the step before, in either direction: each episode starts from the row's
        initial state, as if it were a row of its own. Only real steps can begin one.
    states: what each step leaves, h and c of an LSTM, for a loss to read: as final, with the axis
        of time in front of the batch's, (layers*directions, T, B, ...), or behind it if
        batch_first. 0 where the output is padding.
    Raises ShapeError and DTypeError for inputs that do not fit, saying what was expected.

    >>> from minigrad.nn import RNNCell
    >>> layer = Recurrent(lambda size: RNNCell(size, 4), 3, bidirectional=True, merge="sum")
    >>> output, h_n = layer(np.ones((7, 2, 3), np.float32), lengths=[7, 5])
    >>> output.shape, h_n.shape
    ((7, 2, 4), (2, 2, 4))
    """

    scope_name = "recurrent"

    def __init__(
        self,
        cell_factory: Callable[[int], Any],
        input_size: int,
        num_layers: int = 1,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        merge: str = "concat",
        return_sequences: bool = True,
        mode: str = DEFAULT_MODE,
        generator: np.random.Generator | None = None,
        checkpoint: int | str | None = None,
        return_states: bool = False,
        weight_dropout: float = 0.0,
    ):
        self._check_options(num_layers, merge, mode)
        input_size = checks.size(f"{self._who}: input_size", input_size)
        dropout = checks.probability(f"{self._who}: dropout", dropout)
        if dropout and num_layers == 1:
            warnings.warn(
                f"{self._who}: dropout={dropout} acts between layers, and there is only one",
                stacklevel=2 + (type(self) is not Recurrent),
            )
        self.input_size, self.num_layers = input_size, num_layers
        self.batch_first, self.bidirectional = batch_first, bidirectional
        self.dropout = dropout
        self.weight_dropout = checks.probability(f"{self._who}: weight_dropout", weight_dropout)
        self.merge, self.return_sequences, self.mode = merge, return_sequences, mode
        self.return_states = return_states
        self.generator, self.checkpoint = generator, asked_for(checkpoint, self._who)
        self.cells: list[Any] = []  # layer 0 forward, layer 0 reverse, layer 1 forward, ...
        size = input_size
        for layer in range(num_layers):
            cells = [self._checked(cell_factory(size)) for _ in range(self.num_directions)]
            self.cells += cells
            if layer + 1 < num_layers:
                size = sum(self._output_size(cell) for cell in cells)
        for name, parameter in self.all_parameters():
            parameter.name = name

    @property
    def num_directions(self) -> int:
        return 2 if self.bidirectional else 1

    def forward(
        self,
        x: Any,
        state: Any = None,
        lengths: Any = None,
        mask: Any = None,
        resets: Any = None,
        return_states: bool | None = None,
    ) -> tuple[Any, ...]:
        x = x if isinstance(x, Tensor) else as_tensor(x, self._who)
        xs, batched = self._to_time_major(x)
        time, batch, _ = xs._array.shape
        real = None
        if lengths is not None or mask is not None or resets is not None:
            if lengths is not None and not batched:
                raise ShapeError(f"{self._who}: lengths go with a batch; x is {describe(x)}.")
            mask, resets = (self._flags(flags, batched) for flags in (mask, resets))
            real = check_mask(self._who, lengths, mask, time, batch)
            check_resets(self._who, resets, real, time, batch, False)
        states = self._initial_states(state, batch, batched)
        ran = _RAN[self] = []
        stated = self.return_states if return_states is None else return_states
        finals: list[Any] = []
        left: list[Any] = []  # the states that steps leave
        around = switches.scope
        for layer in range(self.num_layers):
            if layer and self.dropout and self.training:
                xs = drop(xs, self.dropout, self.generator)
            outputs = []
            inside = f"{around}/l{layer}" if around else f"l{layer}"
            try:
                cells = self._of_layer(layer)
                ready = [self._drawn(cell, xs, stated) for cell in cells]
                own = states[len(finals) : len(finals) + len(cells)]
                whole = real is None and resets is None
                both = self._side_by_side(ready, own, inside) if whole else None
                for direction, (cell, given) in enumerate(ready):
                    switches.scope = f"{inside}/rev" if direction else f"{inside}/fwd"
                    if both is None:
                        final, ys, told = self._run(
                            cell, own[direction], given, direction == 1, real, resets
                        )
                    else:
                        (final, ys), told = both[direction], both[direction].explanation
                    finals.append(final)
                    if stated:
                        ys, states_left = ys
                        left.append(states_left)
                    outputs.append(ys)
                    ran.append(told)
                switches.scope = inside
                if layer + 1 < self.num_layers and self.bidirectional:
                    xs = MERGES["concat"](*outputs)
                else:
                    xs = outputs[0]
            finally:
                switches.scope = around
        if not self.return_sequences:
            outputs = [self._last(ys, real, d == 1) for d, ys in enumerate(outputs)]
        output = MERGES[self.merge](*outputs) if self.bidirectional else outputs[0]
        return self._to_layout(output, finals, left, batched)

    def _drawn(self, cell: Any, xs: Tensor, stated: bool) -> tuple[Any, Any]:
        """The cell as it runs over a sequence, and its input with what is drawn for all steps."""
        time, batch, _ = xs._array.shape
        draw = getattr(cell, "draw", None)
        drawn = None if draw is None else draw(time, batch)
        given = xs if drawn is None else (xs, map_leaves(as_tensor, drawn))
        if self.weight_dropout and self.training:
            weight = cell.weight_hh
            kept = keep_mask(weight.shape, self.weight_dropout, weight.dtype, self.generator)
            cell = Reweighted(cell, as_tensor(kept))
        return (Stated(cell) if stated else cell), given

    def _run(
        self, cell: Any, state: Any, xs: Any, reverse: bool, mask: Any, resets: Any
    ) -> tuple[Any, Any, Any]:
        result = scan(
            cell, state, xs, None, reverse, self.mode, checkpoint=self.checkpoint, mask=mask,
            resets=resets,
        )  # fmt: skip
        return *result, result.explanation  # kept for explain(), where the result holds the graph

    def _side_by_side(self, ready: list[Any], states: list[Any], inside: str) -> list[Any] | None:
        """The results of both directions, whose loops ran at once; None where that can't be."""
        if len(ready) == 1 or self.mode != "fused" or self.checkpoint is not None:
            return None
        (fwd, xs), (rev, reversed_xs) = ready
        return beside([
            (fwd, states[0], xs, False, f"{inside}/fwd"),
            (rev, states[1], reversed_xs, True, f"{inside}/rev"),
        ])  # fmt: skip

    def _of_layer(self, layer: int) -> list[Any]:
        """Its cells: forward and, of two directions, reverse."""
        directions = 2 if self.bidirectional else 1
        return self.cells[layer * directions : (layer + 1) * directions]

    def explain(self) -> str:
        """What ran in the last forward pass: for each layer and direction what the compiler did."""
        if not _RAN.get(self):
            return f"{self._who} has not run yet; call it, then ask."
        parts = [f"{self._suffix(i)}: {ran}" for i, ran in enumerate(_RAN[self])]
        return "\n\n".join(parts)

    def stream(self, batch: int = 1) -> Stream:
        """The layer one step at a time: `y = stream(x)`, x (batch, I) and y (batch, O).

        Raises ValueError for a bidirectional layer. See Stream.
        """
        return Stream(self, batch)

    # -- layouts -----------------------------------------------------------------------------------

    def _to_time_major(self, x: Tensor) -> tuple[Tensor, bool]:
        """x as (T, B, I), and whether it came with a batch axis."""
        axes = "(B, T, I)" if self.batch_first else "(T, B, I)"
        array = x._array
        if array.ndim not in (2, 3) or array.shape[-1] != self.input_size or 0 in array.shape:
            raise ShapeError(
                f"{self._who}: expected x of shape {axes}, or (T, I) without a batch, with "
                f"I = input_size = {self.input_size} and no empty axis; got {describe(x)}."
            )
        if x.dtype.kind != "f":
            raise DTypeError(f"{self._who}: expected x of floats, got {describe(x)}.")
        wanted = self._dtype() or x.dtype
        if x.dtype != wanted:
            raise DTypeError(
                f"{self._who}: x is {describe(x)} and the weights are {wanted}; use "
                f"x.astype(np.{wanted}), or layer.to(np.{x.dtype})."
            )
        if array.ndim == 2:
            return ops.expand_dims(x, 1), False
        return (ops.swapaxes(x, 0, 1) if self.batch_first else x), True

    def _dtype(self) -> np.dtype | None:
        """That of the first parameter."""
        for value in vars(self.cells[0]).values():
            if isinstance(value, Parameter):
                return value._array.dtype
            if isinstance(value, (Module, list, tuple, dict)):  # which may hold one
                break
        return next((p.dtype for p in self.parameters()), None)

    def _flags(self, flags: Any, batched: bool) -> Any:
        """A mask or resets, given with the leading axes of x, as (T, B)."""
        if flags is None:
            return None
        array = plain(flags)
        if not batched and array.ndim == 1:
            return array[:, None]
        return array.T if batched and self.batch_first and array.ndim == 2 else array

    def _to_layout(
        self, output: Tensor, finals: list[Any], states: list[Any], batched: bool
    ) -> tuple[Any, ...]:
        """The output, the final states and those of all steps as the caller wants them."""
        if not batched:
            output = ops.squeeze(output, 1 if self.return_sequences else 0)
            finals = [map_leaves(lambda s: ops.squeeze(s, 0), final) for final in finals]
            states = [map_leaves(lambda s: ops.squeeze(s, 1), each) for each in states]
        elif self.batch_first:
            output = ops.swapaxes(output, 0, 1) if self.return_sequences else output
            states = [map_leaves(lambda s: ops.swapaxes(s, 0, 1), each) for each in states]
        return output, stacked(finals), *([stacked(states)] if states else [])

    def _initial_states(self, state: Any, batch: int, batched: bool) -> list[Any]:
        """One state for each cell."""
        zeros = [cell.init_state(batch) for cell in self.cells]
        return zeros if state is None else apart(self._who, zeros, state, batched)

    def _last(self, ys: Tensor, real: np.ndarray | None, reverse: bool) -> Tensor:
        """(T, B, O) -> (B, O): each row after its last step; zeros of a row without one."""
        if real is None:
            return ys[0 if reverse else -1]

        def step(taking: np.ndarray) -> np.ndarray:
            t = np.argmax(taking if reverse else taking[::-1], axis=0)
            return t if reverse else len(taking) - 1 - t

        return ys[computed("the last real steps", [real], step), np.arange(real.shape[1])]

    # -- options and names -------------------------------------------------------------------------

    @property
    def _who(self) -> str:
        return type(self).__name__

    def _check_options(self, num_layers: int, merge: str, mode: str) -> None:
        checks.size(f"{self._who}: num_layers", num_layers)
        if merge not in MERGES:
            raise ValueError(f"{self._who}: merge must be one of {list(MERGES)}, got {merge!r}.")
        if mode not in ("fused", "tape"):
            raise ValueError(f"{self._who}: mode must be 'fused' or 'tape', got {mode!r}.")

    def _checked(self, cell: Any) -> Any:
        if not isinstance(cell, Module) or not hasattr(cell, "init_state"):
            raise TypeError(
                f"{self._who}: cell_factory returned {type(cell).__name__}; expected a Module with "
                f"init_state(batch) and forward(state, x) -> (state, y)."
            )
        if self.weight_dropout and not isinstance(getattr(cell, "weight_hh", None), Tensor):
            raise TypeError(
                f"{self._who}: weight_dropout={self.weight_dropout} drops entries of weight_hh, "
                f"and {type(cell).__name__} has no parameter of that name."
            )
        return cell

    def _output_size(self, cell: Any) -> int:
        size = getattr(cell, "output_size", None)
        if size is None:
            raise TypeError(
                f"{self._who}: {type(cell).__name__} needs an attribute output_size, the size of "
                f"its y, to be stacked in {self.num_layers} layers."
            )
        return int(size)

    def _suffix(self, i: int) -> str:
        layer, direction = divmod(i, self.num_directions)
        return f"l{layer}{'_reverse' if direction else ''}"

    def members(self) -> Iterator[tuple[str, Parameter | Module]]:
        return ((self._suffix(i), cell) for i, cell in enumerate(self.cells))

    def name_members(self) -> None:
        """The cells run in the scopes l0/fwd, l0/rev, ..., and have no names beside those."""

    def joined(self, name: str, below: str) -> str:
        """Named as in torch.nn: weight_ih_l0, weight_ih_l0_reverse, weight_ih_l1, ..."""
        return f"{below}_{name}"

    def _cell_named(self, name: str) -> tuple[Any, str] | None:
        """The cell and the attribute that `weight_ih_l0` stands for."""
        found = _SUFFIXED.fullmatch(name)
        if found is None:
            return None
        i = int(found["layer"]) * self.num_directions + bool(found["reverse"])
        if i >= len(self.cells) or self._suffix(i) != name[len(found["name"]) + 1 :]:
            return None
        return self.cells[i], found["name"]

    def __getattr__(self, name: str) -> Any:
        place = self._cell_named(name)
        if place is None or not hasattr(*place):
            raise of_module(self, name)
        return getattr(*place)

    def __setattr__(self, name: str, value: Any) -> None:
        place = self._cell_named(name)
        if place is not None:
            setattr(*place, value)
        else:
            super().__setattr__(name, value)

    def describe(self) -> str:
        parts = [str(self.input_size)]
        if hasattr(self.cells[0], "hidden_size"):
            parts.append(str(getattr(self, "hidden_size", self.cells[0].hidden_size)))
        defaults: dict[str, Any] = {
            "num_layers": 1,
            "batch_first": False,
            "dropout": 0.0,
            "bidirectional": False,
        }
        defaults |= {"merge": "concat", "return_sequences": True, "checkpoint": None}
        defaults |= {"return_states": False, "weight_dropout": 0.0}
        shown = {name: getattr(self, name) for name in defaults}
        parts += [f"{k}={v!r}" for k, v in shown.items() if v != defaults[k]]
        return ", ".join(parts)
