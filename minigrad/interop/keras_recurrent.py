"""Keras's recurrent layers, with their configuration, as layers of minigrad: `recurrent_layer`."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import nn, ops
from ..errors import ShapeError
from ..nn.module import Module
from ..nn.recurrent import MERGES
from ..tape import no_grad
from ..tensors import Tensor, as_tensor
from ..tree import leaves
from .base import Array, ConversionError
from .gates import fitted, from_keras
from .keras_cells import KerasGRUCell, KerasLSTMCell, KerasRNNCell, activation_named

KINDS = {"SimpleRNN": "RNN", "LSTM": "LSTM", "GRU": "GRU", "CuDNNLSTM": "LSTM", "CuDNNGRU": "GRU"}
RECURRENT = {*KINDS, "RNN", "Bidirectional"}
MERGE_MODES = {"concat": "concat", "sum": "sum", "ave": "mean", "mul": "mul"}
CELLS: dict[str, Any] = {"RNN": KerasRNNCell, "LSTM": KerasLSTMCell, "GRU": KerasGRUCell}
USUAL = {"RNN": ("tanh", "relu"), "LSTM": ("tanh",), "GRU": ("tanh",)}


class KerasRecurrent(Module):
    """y, or [y, states ...], of x (B, T, I), as a recurrent layer of Keras or a Bidirectional.

    layer: the nn.RNN, nn.LSTM, nn.GRU or nn.Recurrent that computes it.
    merge: how the directions' outputs become one; None gives both. backwards: Keras's go_backwards:
    the steps are read and given out from the last to the first. zero_masked: whether the output is
    0 where the mask says that a step is none; else the row's last output is repeated there.
    stateful: the states after a call are those that the next one starts from, until reset_states().
    """

    def __init__(self, layer: Any, config: dict[str, Any], merge: str | None, zero_masked: bool):
        self.layer, self.merge, self.zero_masked = layer, merge, zero_masked
        self.backwards = bool(config.get("go_backwards"))
        self.sequences = bool(config.get("return_sequences"))
        self.return_state = bool(config.get("return_state"))
        self.stateful = bool(config.get("stateful"))
        self._kept: list[Tensor] | None = None

    def forward(self, x: Any, mask: Any = None, states: Any = None) -> Any:
        """states: of each direction h, and c of an LSTM, (B, H) each; as Keras orders them."""
        x = as_tensor(x)
        if self.backwards:
            x, mask = ops.flip(x, 1), None if mask is None else mask[:, ::-1]
        if states is None and self._kept is not None:
            states = self._kept
            self._check_batch(x, states)
        ys, final = self.layer(x, self._stacked(states), mask=mask)
        n = self.layer.num_directions
        outputs = ops.split(ys, n, axis=-1) if n == 2 else [ys]
        if mask is not None and self.sequences and not self.zero_masked:
            outputs = [_repeated(y, mask, d == 1) for d, y in enumerate(outputs)]
        found = [state[d] for d in range(n) for state in leaves(final)]
        if self.stateful:
            with no_grad():
                self._kept = [state.detach() for state in found]
        if n == 2 and self.merge is not None:
            outputs = [MERGES[self.merge](*outputs)]
        results = [*outputs, *found] if self.return_state else outputs
        return results if len(results) > 1 else results[0]

    def reset_states(self) -> None:
        """A stateful layer starts from zeros again."""
        self._kept = None

    def _check_batch(self, x: Tensor, states: list[Tensor]) -> None:
        if states[0].shape[0] != x.shape[0]:
            raise ShapeError(
                f"KerasRecurrent: the states that were kept are of {states[0].shape[0]} rows, and "
                f"x has {x.shape[0]}; call reset_states() first."
            )

    def _stacked(self, states: Any) -> Any:
        """Keras's list of states as the layer's own."""
        if states is None:
            return None
        given = [as_tensor(s) for s in (states if isinstance(states, (list, tuple)) else [states])]
        lstm = isinstance(self.layer.cells[0], nn.LSTMCell)
        n, each = self.layer.num_directions, 2 if lstm else 1
        if len(given) != n * each:
            raise ShapeError(f"KerasRecurrent: expected {n * each} states, got {len(given)}.")
        parts = [ops.stack(given[k::each]) for k in range(each)]
        return nn.LSTMState(*parts) if lstm else parts[0]

    def describe(self) -> str:
        said = [name for name in ("backwards", "stateful", "return_state") if getattr(self, name)]
        return ", ".join([str(self.merge)] * self.layer.bidirectional + said)


def _repeated(y: Tensor, mask: Array, reverse: bool) -> Tensor:
    """y (B, T, H) with the output of the last real step in place of those that are none."""
    B, T = mask.shape
    real = mask[:, ::-1] if reverse else mask
    at = np.maximum.accumulate(np.where(real, np.arange(T), -1), axis=1)
    at, begun = np.maximum(at, 0), at >= 0
    if reverse:
        at, begun = T - 1 - at[:, ::-1], begun[:, ::-1]
    return y[np.arange(B)[:, None], at] * begun[:, :, None].astype(y.dtype)


def recurrent_layer(
    what: str,
    cls: str,
    config: dict[str, Any],
    arrays: list[Array],
    version: tuple[int, ...] = (3,),
    tf: bool = True,
) -> KerasRecurrent:
    """The layer of a configuration and its weights. Raises ConversionError for what none computes.

    version, tf: the Keras that wrote it, see KerasFile.
    """
    if cls != "Bidirectional":
        kind, options, checked = cell_of(what, cls, config, version)
        layer = _layer(what, kind, [(options, arrays)], checked)
        return KerasRecurrent(layer, checked, None, bool(checked.get("zero_output_for_mask")))
    merge = config.get("merge_mode", "concat")
    if merge is not None and merge not in MERGE_MODES:
        raise ConversionError(f"{what} has merge_mode={merge!r}; expected {list(MERGE_MODES)}.")
    both = directions_of(what, config, version)
    (kind, first, checked), (other, second, theirs) = both
    if kind != other or first["units"] != second["units"] or len(arrays) % 2:
        raise ConversionError(f"{what} has two directions that differ in kind, size or biases.")
    for name in ("return_sequences", "return_state", "stateful"):
        if bool(checked.get(name)) != bool(theirs.get(name)):
            raise ConversionError(f"{what}: its directions differ in {name}.")
    half = len(arrays) // 2
    layer = _layer(what, kind, [(first, arrays[:half]), (second, arrays[half:])], checked)
    zero = bool(checked.get("zero_output_for_mask")) or tf or version >= (3,)
    return KerasRecurrent(layer, checked, MERGE_MODES.get(merge or ""), zero)


def directions_of(
    what: str, config: dict[str, Any], version: tuple[int, ...]
) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """`cell_of` both layers of a Bidirectional: the one that runs forwards, then the other."""
    forward = cell_of(what, *_object(what, config.get("layer")), version)
    backward = config.get("backward_layer")
    other = forward if backward is None else cell_of(what, *_object(what, backward), version)
    turns = [bool(own.get("go_backwards")) for _, _, own in (forward, other)]
    if turns[0] or (backward is not None and not turns[1]):
        raise ConversionError(f"{what}: its layers have go_backwards={turns}; expected 0 and 1.")
    return [forward, other]


def cell_of(
    what: str, cls: str, config: dict[str, Any], version: tuple[int, ...]
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The kind of a layer, what decides its function, and its configuration."""
    if cls == "RNN":  # a layer made of a cell: RNN(LSTMCell(5))
        cell, inside = _object(what, config.get("cell"))
        if cell.removesuffix("Cell") not in ("SimpleRNN", "LSTM", "GRU"):
            raise ConversionError(
                f"{what} runs a {cell}; read are SimpleRNNCell, LSTMCell and GRUCell."
            )
        cls, config = (
            cell.removesuffix("Cell"),
            inside
            | {name: value for name, value in config.items() if name not in ("cell", "name")},
        )
    if cls not in KINDS:
        raise ConversionError(f"{what} is a {cls}; expected {', '.join(KINDS)} or RNN.")
    if config.get("time_major"):
        raise ConversionError(f"{what} has time_major=True; read is (batch, time, features).")
    kind, units = KINDS[cls], config.get("units")
    found: dict[str, Any] = {"units": units, "bias": bool(config.get("use_bias", True))}
    cudnn = cls.startswith("CuDNN")  # which has no choice of activations
    found["activation"] = activation_named(what, config.get("activation", "tanh"), version)
    if kind != "RNN":
        # A file that leaves it out is of no Keras known; each writes what the layer was made with.
        given = "sigmoid" if cudnn else config.get("recurrent_activation", "sigmoid")
        found["recurrent_activation"] = activation_named(what, given, version)
    if kind == "GRU":
        found["reset_after"] = cudnn or bool(config.get("reset_after", False))
    return kind, found, config


def is_usual(kind: str, options: dict[str, Any]) -> bool:
    """Whether nn.RNN, nn.LSTM or nn.GRU has these activations."""
    gates = options.get("recurrent_activation", "sigmoid")
    return options["activation"] in USUAL[kind] and gates == "sigmoid"


def _layer(
    what: str, kind: str, directions: list[tuple[dict[str, Any], list[Array]]], config: Any
) -> Any:
    first, arrays = directions[0]
    if not arrays or np.ndim(arrays[0]) != 2:
        raise ConversionError(f"{what}: the file has no weights of it.")
    inputs, units = np.shape(arrays[0])[0], np.shape(arrays[1])[0] if len(arrays) > 1 else 0
    if first["units"] is not None and first["units"] != units:
        raise ConversionError(f"{what} has {first['units']} units; its weights have {units}.")
    dtype = np.dtype(arrays[0].dtype)
    options: dict[str, Any] = dict(
        batch_first=True,
        bidirectional=len(directions) == 2,
        return_sequences=bool(config.get("return_sequences")),
    )
    alike = all(options_of == first for options_of, _ in directions)
    if alike and is_usual(kind, first):
        own: dict[str, Any] = dict(bias=first["bias"], dtype=dtype)
        own |= {"nonlinearity": first["activation"]} if kind == "RNN" else {}
        own |= {"reset_after": first["reset_after"]} if kind == "GRU" else {}
        layer = getattr(nn, kind)(inputs, units, **options, **own)
    else:
        ahead = iter(directions)
        layer = nn.Recurrent(
            lambda size: CELLS[kind](size, units, dtype=dtype, **_options(next(ahead)[0])),
            inputs, **options,
        )  # fmt: skip
    ready: dict[str, Array] = {}
    for (suffix, cell), (own, weights) in zip(layer.members(), directions, strict=True):
        where = f"{what} {suffix}" if len(directions) == 2 else what
        found = from_keras(where, kind, weights, own.get("reset_after", False))
        if ("bias_ih" in found) != own["bias"]:
            raise ConversionError(f"{where} has use_bias={own['bias']}; its weights are others.")
        ready |= {f"{name}_{suffix}": w for name, w in fitted(where, cell, found).items()}
    layer.load_state_dict(ready)
    return layer


def _options(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != "units"}


def _object(what: str, config: Any) -> tuple[str, dict[str, Any]]:
    """(class, configuration) of an object inside a configuration."""
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise ConversionError(f"{what}: its configuration holds no layer where it should.")
    return str(config.get("class_name")), config["config"]
