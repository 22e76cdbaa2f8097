"""What Keras 3 layers do, said with minigrad: any cell, masks, go_backwards, stateful, merges.

A Keras mask may have holes. A masked step leaves the state alone, so a row is the row of its real
steps: they are moved together, run with `lengths`, and the outputs moved back.
"""

from __future__ import annotations

from typing import Any

import modes
import numpy as np

import minigrad as mg
from minigrad import nn
from minigrad.interop.twins_keras import Stack
from minigrad.tree import leaves, rebuild

F64: dict[str, Any] = {"dtype": np.float64}
MERGES: dict[str, Any] = {
    "concat": lambda a, b: np.concatenate([a, b], axis=-1),
    "sum": lambda a, b: a + b,
    "ave": lambda a, b: (a + b) / 2,
    "mul": lambda a, b: a * b,
}


class OneState(nn.Module):
    """Keras's OneStateRNNCell: s = x K + s R, linear, all weights one."""

    def __init__(self, input_size: int, units: int):
        self.K, self.R = nn.Parameter(np.ones((input_size, units))), ones(units)
        self.output_size = units

    def forward(self, s: Any, x: Any) -> tuple[Any, Any]:
        s = x @ self.K + s @ self.R
        return s, s

    def init_state(self, batch: int) -> Any:
        return mg.tensor(np.zeros((batch, self.output_size)))


class TwoStates(OneState):
    """Keras's TwoStatesRNNCell: both new states read the first; y is their sum."""

    def __init__(self, input_size: int, units: int):
        super().__init__(input_size, units)
        self.R2 = ones(units)

    def forward(self, state: Any, x: Any) -> tuple[Any, Any]:
        s, _ = state
        a, b = x @ self.K + s @ self.R, x @ self.K + s @ self.R2
        return (a, b), a + b

    def init_state(self, batch: int) -> Any:
        return super().init_state(batch), super().init_state(batch)


def ones(units: int) -> nn.Parameter:
    return nn.Parameter(np.ones((units, units)))


def make_cell(model: Any, input_size: int) -> Any:
    if isinstance(model, list):
        cells: list[Any] = []
        for below in model:
            cells.append(make_cell(below, input_size))
            input_size = cells[-1].output_size
        return Stack(cells)
    kind, units = model["type"].removesuffix("Cell"), model["units"]
    if kind in ("OneStateRNN", "TwoStatesRNN"):
        return (OneState if kind == "OneStateRNN" else TwoStates)(input_size, units)
    if kind == "GRU":
        cell: Any = nn.GRUCell(input_size, units, reset_after=two_biases(model), **F64)
    else:
        cell = {"SimpleRNN": nn.RNNCell, "LSTM": nn.LSTMCell}[kind](input_size, units, **F64)
    fill(cell, model)
    return cell


def two_biases(model: Any) -> bool:
    return model["type"].startswith("GRU") and model.get("reset_after", True)


def fill(cell: Any, model: Any) -> None:
    """Every entry of a weight is one constant."""
    constants = {k: 1.0 if v == "ones" else v for k, v in model["weights"].items()}
    biased = model.get("use_bias", True)
    bias = constants.get("bias", 0.0) if biased else 0.0
    nn.init.constant_(cell.weight_ih, constants["kernel"])
    nn.init.constant_(cell.weight_hh, constants["recurrent"])
    nn.init.constant_(cell.bias_ih, bias)
    nn.init.constant_(cell.bias_hh, bias if two_biases(model) else 0.0)
    if model["type"].startswith("LSTM") and biased and model.get("unit_forget_bias", True):
        nn.init.forget_bias_(cell, 1.0)


def array_of(recipe: Any) -> np.ndarray:
    size = int(np.prod(recipe.get("shape", np.shape(recipe.get("values")))))
    values = {"arange": np.arange(size), "ones": np.ones(size), "zeros": np.zeros(size)}
    x = np.asarray(values.get(recipe.get("recipe"), recipe.get("values")), np.float64)
    return x.reshape(recipe.get("shape", x.shape)) * recipe.get("times", 1)


class OneDirection:
    """A layer of Keras that runs one cell in one direction, on (B, T, F)."""

    def __init__(self, model: Any, input_size: int, mode: str):
        self.model, self.mode = model, mode
        self.cell = make_cell(model.get("cell", model), input_size)
        self.kept: Any = None  # the state between calls, if stateful

    def __call__(self, x: np.ndarray, mask: Any, initial: list[np.ndarray]) -> tuple[Any, Any]:
        """(output, final state); outputs come in the order of processing, as in Keras."""
        state = self.cell.init_state(len(x)) if self.kept is None else self.kept
        if initial:
            state = rebuild(state, map(mg.tensor, initial))
        backwards = self.model.get("go_backwards", False)
        xs = x.swapaxes(0, 1)
        if mask is None:
            final, ys = modes.run(self.cell, state, mg.tensor(xs), None, backwards, self.mode)
            ys = ys.data[::-1] if backwards else ys.data
        else:
            real = mask.T[::-1] if backwards else mask.T
            xs = xs[::-1] if backwards else xs
            first = np.argsort(~real, axis=0, kind="stable")[:, :, None]
            packed = mg.tensor(np.take_along_axis(xs, first, axis=0))
            final, ys = modes.run(self.cell, state, packed, real.sum(0), False, self.mode)
            ys = self.unpacked(ys.data, real)
        if self.model.get("stateful"):
            self.kept = final
        return (ys.swapaxes(0, 1) if self.model.get("return_sequences") else ys[-1]), final

    def unpacked(self, ys: np.ndarray, real: np.ndarray) -> np.ndarray:
        """A masked step repeats the output before it, or gives 0."""
        last = np.cumsum(real, axis=0) - 1  # the real step that is the latest at each step
        spread = np.take_along_axis(ys, np.maximum(last, 0)[:, :, None], axis=0)
        shown = real if self.model.get("zero_output_for_mask") else last >= 0
        return np.where(shown[:, :, None], spread, 0.0)


class TwoDirections:
    def __init__(self, model: Any, input_size: int, mode: str):
        self.model = model
        forward = model["layer"]
        backward = model.get("backward_layer", {**forward, "go_backwards": True})
        self.layers = [OneDirection(m, input_size, mode) for m in (forward, backward)]

    def __call__(self, x: np.ndarray, mask: Any, initial: list[np.ndarray]) -> tuple[Any, Any]:
        half = len(initial) // 2
        a, first = self.layers[0](x, mask, initial[:half])
        b, second = self.layers[1](x, mask, initial[half:])
        if self.model["layer"].get("return_sequences"):
            b = b[:, ::-1]
        merge = self.model.get("merge_mode", "concat")
        return ([a, b] if merge is None else MERGES[merge](a, b)), (first, second)


def replay(case: Any, mode: str) -> Any:
    """What the last call of the case returns: the output, or [outputs..., states...]."""
    model = case["model"]
    inner = model.get("layer", model)
    calls = [event["call"] for event in case["events"] if "call" in event]
    features = calls[0]["inputs"][0]["shape"][-1]
    kind: Any = TwoDirections if model["type"] == "Bidirectional" else OneDirection
    layer = kind(model, features, mode)
    for event in case["events"]:
        if event.get("reset_state"):
            for one in getattr(layer, "layers", [layer]):
                one.kept = None
            continue
        call = event["call"]
        mask = np.array(call["mask"]["values"]) if "mask" in call else None
        initial = call.get("initial_state", [])
        initial = [array_of(r) for r in (initial if isinstance(initial, list) else [initial])]
        (recipe,) = call["inputs"]
        output, final = layer(array_of(recipe), mask, initial)
    outputs = output if isinstance(output, list) else [output]
    if not inner.get("return_state"):
        return outputs if len(outputs) > 1 else outputs[0]
    if isinstance(model.get("cell"), list):  # a cell's two states are nested, a single one is not
        kept = [[s.data for s in leaves(state)] for state in final]
        return outputs + [states if len(states) > 1 else states[0] for states in kept]
    return outputs + [s.data for s in leaves(final)]
