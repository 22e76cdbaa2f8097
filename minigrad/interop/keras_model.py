"""A model of Keras as a module of minigrad, run layer by layer: what `import_keras` gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import ops
from ..errors import MinigradError, ShapeError
from ..nn.module import Module
from ..tensors import Tensor, as_tensor
from ..untrusted import cause
from .base import Array, ConversionError
from .keras_graph import Call, Of, mapped
from .keras_layers import KerasEmbedding, KerasLayer, values
from .keras_recurrent import KerasRecurrent


class KerasModel(Module):
    """What a model of Keras computes: model(x), model(x1, x2) or model(input_name=x).

    The result is what keras_model(x) gives: a Tensor, or a list of them. Layouts are Keras's,
    (B, T, features). layers: Keras's names -> modules; those of recurrent layers are
    KerasRecurrent, whose `layer` is the nn.RNN, nn.LSTM or nn.GRU. It comes in eval mode.
    left_out: what Keras does in training and this model does not; calling it in training raises
    until the list is cleared.
    """

    def __init__(
        self, inputs: list[str], outputs: Any, calls: list[Call], layers: dict[str, Module],
        dtype: Any, left_out: list[str], version: tuple[int, ...],
    ):  # fmt: skip
        self.inputs, self._outputs, self._calls = inputs, _Held(outputs), calls
        self.layers, self._dtype, self.left_out = layers, np.dtype(dtype), left_out
        self.version = version

    def forward(self, *given: Any, **named: Any) -> Any:
        if self.training and self.left_out:
            raise ConversionError(
                f"KerasModel: in training Keras also does {'; '.join(self.left_out)}, which is "
                f"left out here; call model.eval(), or model.left_out.clear() to train without."
            )
        if len(given) == 1 and isinstance(given[0], (list, tuple)) and len(self.inputs) > 1:
            given = tuple(given[0])
        values = dict(zip(self.inputs, given)) | named
        if set(values) != set(self.inputs) or len(given) > len(self.inputs):
            raise ShapeError(
                f"KerasModel: expected inputs {self.inputs}, got {len(given)} values"
                f"{f' and {list(named)}' if named else ''}."
            )
        held: dict[Of, tuple[Any, Any]] = {
            Of(name, 0, 0): (_value(value), None) for name, value in values.items()
        }
        for call in self._calls:
            try:
                self._run(call, held)
            except MinigradError as error:
                error.add_note(f"in layer {call.layer!r}")
                raise
            except Exception as error:
                raise ConversionError(
                    f"KerasModel: layer {call.layer!r} cannot run: {cause(error)}."
                ) from error
        return mapped(self._outputs.value, lambda of: self._float(held[of][0]))

    def reset_states(self) -> None:
        """Stateful layers start from zeros again."""
        for module in self.modules():
            if isinstance(module, KerasRecurrent):
                module.reset_states()

    def _float(self, value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.dtype != bool:
            return as_tensor(value.astype(self._dtype))
        return value

    def _run(self, call: Call, held: dict[Of, tuple[Any, Any]]) -> None:
        layer = self.layers[call.layer]
        args = mapped(call.args, lambda of: held[of][0])
        if isinstance(layer, KerasOperation):
            kwargs = mapped(call.kwargs, lambda of: held[of][0])
            results, after = layer(*args, **kwargs), None
        else:
            x, states = args[0], args[1:] or None
            mask = mapped(call.args[0], lambda of: held[of][1])
            if call.kwargs.get("initial_state") is not None:
                states = mapped(call.kwargs["initial_state"], lambda of: held[of][0])
            if isinstance(x, list) and isinstance(layer, KerasRecurrent):
                (x, *states), mask = x, mask[0]
            told = call.kwargs.get("mask")
            used = values(held[told][0]).astype(bool) if isinstance(told, Of) else mask
            if states is not None and told is None and self.version >= (3,):
                used = None  # Keras 3 hands on a mask only where there is one tensor
            results = self._called(layer, x, used, states)
            after = self._after(layer, x, mask)
        several = results if isinstance(results, list) else [results]
        for i, result in enumerate(several):
            held[Of(call.layer, call.number, i)] = (result, after if i == 0 else None)

    def _called(self, layer: Any, x: Any, mask: Any, states: Any) -> Any:
        if isinstance(layer, KerasModel):
            return layer(*(x if isinstance(x, list) else [x]))
        if not isinstance(layer, KerasEmbedding):  # which reads integers
            x = mapped(x, self._float, np.ndarray)
        if isinstance(layer, TimeDistributed):
            return layer(x)
        return layer(x, mask, states) if isinstance(layer, KerasRecurrent) else layer(x, mask)

    def _after(self, layer: Any, x: Any, mask: Any) -> Any:
        """The mask of what the layer gives."""
        if isinstance(layer, KerasLayer):
            return layer.mask_after(x, mask)
        if isinstance(layer, KerasRecurrent):
            return mask if layer.sequences else None
        return mask if isinstance(layer, TimeDistributed) else None

    def describe(self) -> str:
        return ", ".join(self.inputs)


@dataclass
class _Held:
    """Keeps what Module would look into as a list."""

    value: Any


class TimeDistributed(Module):
    """y_t = layer(x_t) for every step t of x (B, T, ...)."""

    def __init__(self, layer: Module):
        self.layer = layer

    def forward(self, x: Any) -> Tensor:
        B, T = x.shape[:2]
        y = self.layer(ops.reshape(x, (B * T, *x.shape[2:])))
        return ops.reshape(y, (B, T, *y.shape[1:]))


class KerasOperation(Module):
    """A function of keras.ops that stands in a model like a layer: x * 2, a mask."""

    def __init__(self, function: Callable[..., Any]):
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def _any(x: Any, axis: Any = None, keepdims: bool = False) -> Array:
    return np.any(values(x), axis=axis, keepdims=keepdims)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "Add": ops.add,
    "Any": _any,
    "Divide": ops.divide,
    "Equal": lambda x, y: np.equal(values(x), values(y)),
    "Multiply": ops.multiply,
    "NotEqual": lambda x, y: np.not_equal(values(x), values(y)),
    "Subtract": ops.subtract,
    "TrueDivide": ops.divide,
}


def _value(value: Any) -> Any:
    return value if isinstance(value, Tensor) else np.asarray(value)
